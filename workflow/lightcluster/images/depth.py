"""From samples of any depth to eight bits: what is black, what is white, what is not there.

Eight bits and fewer are taken by their own maximum. Deeper samples come in containers that say
little of what is in them: a camera's 12 bits are mostly written as 16, floating-point numbers have
no white at all. `choose_levels` decides by `dataset.depth`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.errors import ImageError


class Levels(NamedTuple):
    """The samples that become 0 and 255."""

    black: float
    white: float


Depth = Literal["auto", "full", "stretch"] | int | Levels
"""`dataset.depth`, or the levels that were chosen by it before."""


@dataclass(frozen=True)
class Samples:
    """Decoded samples as a file holds them.

    Attributes
    ----------
    colors : array, shape (height, width) or (height, width, 3)
        Grey or RGB: whole or floating-point numbers.
    white : float or None
        The largest sample that the file declares: 255, 4095, …; None if the type of the samples is
        all that is known, as with 16 and 32 bits, negative and floating-point numbers.
    alpha : array, shape (height, width), or None
        Opacity, in the same units as the colours; of floating-point numbers up to 1: from 0 to 1.
    premultiplied : bool
        Whether colours are multiplied by their opacity already.
    hidden : bool array, shape (height, width), or None
        Pixels that a file says hold no colour.
    inverted : bool
        Whether the largest sample is black.
    """

    colors: NDArray[np.generic]
    white: float | None
    alpha: NDArray[np.generic] | None = None
    premultiplied: bool = False
    hidden: NDArray[np.bool_] | None = None
    inverted: bool = False


def declared_white(bits: int) -> float | None:
    """Return the largest sample of whole numbers; None of 16, 32 and 64 bits, which say little."""
    return None if bits in (16, 32, 64) else 2.0**bits - 1


_LADDER = tuple(2.0**bits - 1 for bits in (8, 10, 12, 14, 16))
_LEAST = 16
"""Below it, and above 1, no floating-point maximum is near the white of any convention."""

_ROWS_AT_ONCE = 2**20
"""Pixels that are converted at once, in double precision."""


def choose_levels(samples: Samples, depth: Depth) -> Levels:
    """Return which samples become black and white.

    Parameters
    ----------
    samples : Samples
    depth : Depth
        Of samples that declare their depth (8 bits and fewer, 10, 12, 14 …) only ``stretch`` and
        given levels change anything. Of others:

        - ``auto``: whole numbers, and floating-point numbers above 16, by the smallest of 8, 10,
          12, 14 and 16 bits that holds all of the image; floating-point numbers up to 1 by 1;
          negative and other numbers from the smallest to the largest.
        - ``full``: the range of the type; 0 to 1 of floating-point numbers.
        - ``stretch``: from the smallest to the largest.
        - a number of bits: 0 to ``2**bits - 1``; what lies outside is black or white.

    Raises
    ------
    ImageError
        If samples are not finite numbers.
    """
    if isinstance(depth, Levels):
        return depth
    kind = samples.colors.dtype.kind
    if samples.white is not None and (depth != "stretch" or samples.white <= 255):
        return Levels(0, samples.white)
    if depth == "full":
        return Levels(0, 1) if kind == "f" else Levels(*_range(samples.colors.dtype))
    smallest, largest = _extremes(samples)
    if isinstance(depth, int):
        return Levels(0, 2.0**depth - 1)
    if depth == "stretch" or smallest < 0:
        return Levels(smallest, largest)
    if samples.alpha is not None and kind != "f":  # it is of the same depth
        largest = max(largest, float(samples.alpha.max()))
    white = _conventional_white(largest, samples.colors.dtype)
    return Levels(smallest, largest) if white is None else Levels(0, white)


def _conventional_white(largest: float, dtype: np.dtype[np.generic]) -> float | None:
    """Return the value that stands for white, or None where no convention fits."""
    if dtype.kind == "f":
        if largest <= 1:
            return 1
        if largest <= _LEAST:
            return None
    most = _range(dtype)[1] if dtype.kind == "i" else np.inf
    return next((min(white, most) for white in _LADDER if largest <= white), None)


def _range(dtype: np.dtype[np.generic]) -> tuple[float, float]:
    bits = 8 * dtype.itemsize
    return (
        (0, 2.0**bits - 1) if dtype.kind == "u" else (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
    )


def _extremes(samples: Samples) -> tuple[float, float]:
    """Return the smallest and the largest sample of pixels that are there; 0 and 0 of none."""
    seen = samples.colors if samples.hidden is None else samples.colors[~samples.hidden]
    if not seen.size:
        return 0, 0
    extremes = float(seen.min()), float(seen.max())
    if not np.isfinite(extremes).all():
        raise ImageError("pixels that are not finite numbers")
    return extremes


def to_rgb(samples: Samples, levels: Levels) -> NDArray[np.uint8]:
    """Return samples as eight-bit RGB, on white paper where they are transparent.

    Returns
    -------
    uint8 array, shape (height, width, 3)
    """
    height, width = samples.colors.shape[:2]
    rgb = np.empty((height, width, 3), np.uint8)
    table = _table(samples, levels)
    opaque = Levels(0, 1 if samples.alpha is None else _opaque(samples, samples.alpha, levels))
    step = max(1, _ROWS_AT_ONCE // max(1, width))
    for top in range(0, height, step):
        rows = slice(top, top + step)
        colors = samples.colors[rows]
        if table is not None:
            scaled = table[colors]
        else:
            alpha = None if samples.alpha is None else _fraction(samples.alpha[rows], opaque)
            scaled = _on_paper(_fraction(colors, levels), alpha, samples)
        rgb[rows] = scaled if scaled.ndim == 3 else scaled[..., None]
    if samples.hidden is not None:
        rgb[samples.hidden] = 255
    return rgb


def _opaque(samples: Samples, alpha: NDArray[np.generic], levels: Levels) -> float:
    """Return the sample of opacity that lets nothing through: it is of no level of the colours."""
    if samples.white is not None:
        return samples.white
    seen = alpha if samples.hidden is None else alpha[~samples.hidden]
    largest = float(seen.max()) if seen.size else 0
    if not np.isfinite(largest):
        raise ImageError("opacity that is not finite numbers")
    if alpha.dtype.kind == "f" and largest <= 1:
        return 1
    largest = max(largest, levels.white)
    return _conventional_white(largest, alpha.dtype) or largest


def _table(samples: Samples, levels: Levels) -> NDArray[np.uint8] | None:
    """Return what becomes of every possible sample, where they are few and opaque."""
    dtype = samples.colors.dtype
    if dtype.kind != "u" or dtype.itemsize > 2 or samples.alpha is not None:
        return None
    every = np.arange(2 ** (8 * dtype.itemsize), dtype=np.float64)
    return _on_paper(_fraction(every, levels), None, samples)


def _fraction(values: NDArray[np.generic], levels: Levels) -> NDArray[np.float64]:
    """Return values on the scale from 0, black, to 1, white."""
    spread = levels.white - levels.black
    with np.errstate(invalid="ignore", over="ignore"):  # hidden values may be anything
        scaled = (values.astype(np.float64) - levels.black) / (spread or 1)
        return np.nan_to_num(np.clip(scaled, 0, 1), nan=1)


def _on_paper(
    colors: NDArray[np.float64], alpha: NDArray[np.float64] | None, samples: Samples
) -> NDArray[np.uint8]:
    if samples.inverted:
        colors = 1 - colors
    if alpha is not None:
        opacity = alpha[..., None] if colors.ndim == 3 else alpha
        ink = colors if samples.premultiplied else colors * opacity
        colors = np.minimum(ink + (1 - opacity), 1)
    return np.rint(colors * 255).astype(np.uint8)


def span_of(rgb: NDArray[np.uint8], hidden: NDArray[np.bool_] | None = None) -> int:
    """Return over how many of the 256 levels the middle 98 % of the samples of a picture spread.

    Of three channels that which spreads most counts.
    """
    spans = [0]
    for channel in range(rgb.shape[-1]):
        seen = rgb[..., channel] if hidden is None else rgb[~hidden, channel]
        total = np.bincount(seen.ravel(), minlength=256).cumsum()
        if total[-1]:
            low, high = np.searchsorted(total, (0.01 * total[-1], 0.99 * total[-1]))
            spans.append(int(high - low))
    return max(spans)
