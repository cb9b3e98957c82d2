"""Masks and classes drawn over an image, and the colours they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcluster.datasets.labels import IGNORED
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.regions.palette import colors_of

Value = TypeVar("Value", bound=np.generic)

CELL = (150, 200)
"""Height and width of the box that each picture is fitted into."""

INK, FAINT, PAPER, EMPTY = (30, 30, 30), (110, 110, 110), (255, 255, 255), (238, 238, 238)
OUTLINE = (255, 214, 0)
UNMATCHED_COLOUR = (210, 210, 210)
HATCH = (150, 150, 150)

MISSED, EXTRA = (213, 94, 0), (0, 114, 178)
"""Orange and blue that the colour-blind can tell apart (Okabe and Ito, 2008): what should have been
found, and what should not."""

MARK_ALPHA = 0.6

BACKGROUND_LIGHT = 0.3
CLASS_ALPHA = 0.65


def class_colours(classes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the colour of each class, as `colors_of` does.

    Parameters
    ----------
    classes : int array, any shape
        Values of segmentations or positions of classes, or `matching.UNMATCHED`.

    Returns
    -------
    uint8 array, shape (..., 3)
    """
    colours = colors_of(classes)
    colours[classes == UNMATCHED] = UNMATCHED_COLOUR
    return colours


def hatching(height: int, width: int) -> NDArray[np.uint8]:
    """Return diagonal lines on white, uint8, shape (height, width, 3): pixels without truth."""
    hatched = np.full((height, width, 3), PAPER, np.uint8)
    hatched[np.add.outer(np.arange(height), np.arange(width)) % 6 == 0] = HATCH
    return hatched


def fit_box(height: int, width: int, box: tuple[int, int] = CELL) -> tuple[int, int]:
    """Return the largest size of an image's aspect ratio inside a box; no side is below 1."""
    scale = min(box[0] / height, box[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_nearest(array: NDArray[Value], size: tuple[int, int]) -> NDArray[Value]:
    """Return `array` [height, width] at another size, each pixel from the nearest one."""
    if array.shape == size:
        return array
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for old, new in zip(array.shape, size, strict=True)
    )
    resized: NDArray[Value] = array[rows[:, None], columns]
    return resized


def edges(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return the pixels [height, width] that differ from the next one to the right or below."""
    differs = np.zeros(values.shape, bool)
    differs[:, :-1] |= values[:, :-1] != values[:, 1:]
    differs[:-1] |= values[:-1] != values[1:]
    return differs


def grey_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luminance of an RGB image, uint8, shape (height, width, 1)."""
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def overlay_mask(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw a mask: its foreground as it is, outlined, on a dark and colourless background.

    Parameters
    ----------
    image : uint8 array, shape (height, width, 3)
    mask : bool array, shape (height, width)

    Returns
    -------
    uint8 array, shape (height, width, 3)
    """
    dark = (grey_of(image) * BACKGROUND_LIGHT).astype(np.uint8)
    drawn = np.where(mask[..., None], image, dark)
    drawn[edges(mask)] = OUTLINE
    return drawn


def overlay_classes(
    image: NDArray[np.uint8], classes: NDArray[np.integer], alpha: float = CLASS_ALPHA
) -> NDArray[np.uint8]:
    """Draw classes: their colours on the colourless image, with white borders.

    Parameters
    ----------
    image : uint8 array, shape (height, width, 3)
    classes : int array, shape (height, width)
        Positions of classes, `matching.UNMATCHED` or `labels.IGNORED`, which is hatched.
    alpha : float
        Opacity of the colours, from 0 to 1.

    Returns
    -------
    uint8 array, shape (height, width, 3)
    """
    blended = (1 - alpha) * grey_of(image) + alpha * class_colours(classes)
    drawn = np.rint(blended).astype(np.uint8)
    drawn[edges(classes)] = PAPER
    ignored = classes == IGNORED
    drawn[ignored] = hatching(*classes.shape)[ignored]
    return drawn


def overlay_marks(
    image: NDArray[np.uint8], marks: Sequence[tuple[NDArray[np.bool_], tuple[int, int, int]]]
) -> NDArray[np.uint8]:
    """Tint parts of an image and outline them in white; the rest stays as it is.

    Parameters
    ----------
    image : uint8 array, shape (height, width, 3)
    marks : sequence of (bool array of shape (height, width), colour)

    Returns
    -------
    uint8 array, shape (height, width, 3)
    """
    drawn = image.copy()
    for mask, colour in marks:
        tinted = (1 - MARK_ALPHA) * grey_of(image) + MARK_ALPHA * np.array(colour)
        drawn[mask] = np.rint(tinted).astype(np.uint8)[mask]
    for mask, _ in marks:
        drawn[edges(mask)] = PAPER
    return drawn
