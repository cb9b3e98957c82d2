"""Conversion of samples of any bit depth to 8-bit RGB: black, white and transparent pixels.

Samples of 8 bits or fewer are scaled by the maximum of their depth. For deeper samples, the data
type says little about the range in use: 12 bits of a camera are usually stored as 16, and
floating-point numbers have no defined white. `choose_levels` decides, following `dataset.depth`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.errors import ImageError


class Levels(NamedTuple):
    """The sample values that become 0 and 255."""

    black: float
    white: float


Depth = Literal["auto", "full", "stretch"] | int | Levels
"""`dataset.depth`, or the levels that were already chosen by it."""


@dataclass(frozen=True)
class Samples:
    """Decoded samples as they are stored in a file.

    Attributes
    ----------
    colors : array, shape (height, width) or (height, width, 3)
        Greyscale or RGB: integers or floating-point numbers.
    white : float or None
        The largest sample value by the declared bit depth: 255, 4095, …; None if only the data type
        is known, as with 16 and 32 bits, signed integers and floating-point numbers.
    alpha : array, shape (height, width), or None
        Opacity, in the units of the colours; for floating-point numbers, 0 to 1 if none exceeds 1.
    premultiplied : bool
        Whether the colours are already multiplied by their opacity.
    hidden : bool array, shape (height, width), or None
        Pixels without data, according to the file.
    inverted : bool
        Whether the largest sample value means black.
    """

    colors: NDArray[np.generic]
    white: float | None
    alpha: NDArray[np.generic] | None = None
    premultiplied: bool = False
    hidden: NDArray[np.bool_] | None = None
    inverted: bool = False


def declared_white(bits: int) -> float | None:
    """Return the largest unsigned integer of `bits` bits; None for 16, 32 and 64.

    Samples of fewer bits are often stored as 16, 32 or 64, so these say nothing about the range.
    """
    return None if bits in (16, 32, 64) else 2.0**bits - 1


_LADDER = tuple(2.0**bits - 1 for bits in (8, 10, 12, 14, 16))
_LEAST = 16
"""A floating-point maximum between 1 and this is close to no conventional white."""

_ROWS_AT_ONCE = 2**20
"""Number of pixels that are converted at once, in double precision."""


def choose_levels(samples: Samples, depth: Depth) -> Levels:
    """Return which sample values become black and white.

    Parameters
    ----------
    samples : Samples
    depth : Depth
        Given levels are always used. Samples of 8 bits or fewer use their full range otherwise.
        Samples of 10, 12, 14 … declared bits use it too, except with ``stretch``. All others:

        - ``auto``: integers, and floating-point numbers above 16, use the smallest of 8, 10, 12, 14
          and 16 bits that covers all values of the image; floating-point numbers up to 1 use 0 to
          1; images with negative values and all others use their smallest to largest value.
        - ``full``: the range of the data type; 0 to 1 for floating-point numbers.
        - ``stretch``: the smallest to the largest value.
        - a number of bits: 0 to ``2**bits - 1``; values outside are clipped.

    Returns
    -------
    Levels

    Raises
    ------
    ImageError
        If a sample is not a finite number.
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
    if samples.alpha is not None and kind != "f":  # alpha has the same depth
        largest = max(largest, float(samples.alpha.max()))
    white = _conventional_white(largest, samples.colors.dtype)
    return Levels(smallest, largest) if white is None else Levels(0, white)


def _conventional_white(largest: float, dtype: np.dtype[np.generic]) -> float | None:
    """Return the value that means white, or None if no convention fits."""
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
    """Return the smallest and the largest sample of the valid pixels; 0 and 0 if there are none."""
    seen = samples.colors if samples.hidden is None else samples.colors[~samples.hidden]
    if not seen.size:
        return 0, 0
    extremes = float(seen.min()), float(seen.max())
    if not np.isfinite(extremes).all():
        raise ImageError("some pixels are not finite numbers")
    return extremes


def to_rgb(samples: Samples, levels: Levels) -> NDArray[np.uint8]:
    """Return samples as 8-bit RGB, with transparent pixels blended onto white.

    Parameters
    ----------
    samples : Samples
    levels : Levels
        The sample values that become 0 and 255.

    Returns
    -------
    uint8 array, shape (height, width, 3)

    Raises
    ------
    ImageError
        If the alpha channel holds values that are not finite numbers.
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
    """Return the alpha value of an opaque pixel, which may differ from the white of the colours."""
    if samples.white is not None:
        return samples.white
    seen = alpha if samples.hidden is None else alpha[~samples.hidden]
    largest = float(seen.max()) if seen.size else 0
    if not np.isfinite(largest):
        raise ImageError("the alpha channel has values that are not finite numbers")
    if alpha.dtype.kind == "f" and largest <= 1:
        return 1
    largest = max(largest, levels.white)
    return _conventional_white(largest, alpha.dtype) or largest


def _table(samples: Samples, levels: Levels) -> NDArray[np.uint8] | None:
    """Return a lookup table for all possible samples, if they are few and opaque; else None."""
    dtype = samples.colors.dtype
    if dtype.kind != "u" or dtype.itemsize > 2 or samples.alpha is not None:
        return None
    every = np.arange(2 ** (8 * dtype.itemsize), dtype=np.float64)
    return _on_paper(_fraction(every, levels), None, samples)


def _fraction(values: NDArray[np.generic], levels: Levels) -> NDArray[np.float64]:
    """Return values scaled to 0 (black) to 1 (white)."""
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
    """Return how many of the 256 values the middle 98 % of an image's samples span.

    The channel with the largest span counts.

    Parameters
    ----------
    rgb : uint8 array, shape (height, width, channels)
    hidden : bool array, shape (height, width), or None
        Pixels to leave out.

    Returns
    -------
    int
        From 0 to 255; 0 if no pixel counts.
    """
    spans = [0]
    for channel in range(rgb.shape[-1]):
        seen = rgb[..., channel] if hidden is None else rgb[~hidden, channel]
        total = np.bincount(seen.ravel(), minlength=256).cumsum()
        if total[-1]:
            low, high = np.searchsorted(total, (0.01 * total[-1], 0.99 * total[-1]))
            spans.append(int(high - low))
    return max(spans)
