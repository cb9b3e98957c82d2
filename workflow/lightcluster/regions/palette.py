"""The colours of PASCAL VOC, in which label maps are painted."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcluster.files import replacing


def voc_palette() -> NDArray[np.uint8]:
    """Return the 256 colours of PASCAL VOC: uint8, shape (256, 3); 0 is black.

    The bits of an index, three at a time, are dealt to red, green and blue from the highest bit
    of the colour downwards.
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = (index >> (3 * level + channel)) & 1
            palette[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return palette


VOC_PALETTE = voc_palette()


def hex_color(color: Sequence[int] | NDArray[np.uint8]) -> str:
    """Return red, green and blue, 0 to 255, as HTML writes them: ``#rrggbb``."""
    red, green, blue = (int(channel) for channel in color)
    return f"#{red:02x}{green:02x}{blue:02x}"


def write_palette(
    path: Path, names: Sequence[str], sizes: Sequence[int | None], counted: str
) -> None:
    """Write the table of the values in segmentations.

    Parameters
    ----------
    path : Path
    names : sequence of str
        Of the values from 0 on.
    sizes : sequence of int or None
        How many of what is `counted` were fitted, of each value; None where it was not fitted.
    counted : str
        Heading of their column.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "name", "color", counted])
        for number, (name, size) in enumerate(zip(names, sizes, strict=True)):
            color = hex_color(VOC_PALETTE[number % 256])
            writer.writerow([number, name, color, "" if size is None else size])
