"""The colours of PASCAL VOC, in which label maps are painted."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.errors import StoreError, reason_of
from lightcluster.files import replacing


def voc_palette() -> NDArray[np.uint8]:
    """Return the 256 colours of PASCAL VOC: uint8, shape (256, 3); 0 is black.

    The bits of the index are distributed over red, green and blue in turn, from the highest bit of
    the colours downwards.
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


class Value(NamedTuple):
    """Meaning of one pixel value of a segmentation.

    Attributes
    ----------
    name : str
        Of the cluster; that of the background is ``background``.
    color : tuple of int
        Red, green and blue, 0 to 255.
    size : int or None
        Regions or patches of the cluster when it was fitted; None for a value that was not fitted.
    """

    name: str
    color: tuple[int, int, int]
    size: int | None


def read_palette(path: Path) -> list[Value]:
    """Read the table of the values in segmentations, ``classes.csv``, from value 0 on.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file, strict=True)
        if header[:3] != ["id", "name", "color"] or not rows:
            raise ValueError("it needs the columns id, name and color, and a line for each value")
        values = []
        for number, (value, name, color, *sizes) in enumerate(rows):
            if value != str(number):
                raise ValueError(f"value {value!r} stands in the place of {number}")
            size = int(sizes[0]) if any(sizes) else None
            values.append(Value(name, _parse_color(color), size))
    except (OSError, ValueError, csv.Error) as error:
        raise StoreError(f"{path}: cannot be read ({reason_of(error)}); make it again") from None
    return values


def _parse_color(text: str) -> tuple[int, int, int]:
    """Return red, green and blue of a colour as `hex_color` writes it."""
    if len(text) != 7 or text[0] != "#":
        raise ValueError(f"{text!r} is no colour such as #1f77b4")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def write_palette(
    path: Path, names: Sequence[str], sizes: Sequence[int | None], counted: str
) -> None:
    """Write the table of the values in segmentations, for `read_palette`.

    Parameters
    ----------
    path : Path
    names : sequence of str
        Of the values from 0 on.
    sizes : sequence of int or None
        See `Value.size`.
    counted : str
        Heading of the column of the sizes: ``regions`` or ``patches``.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "name", "color", counted])
        for number, (name, size) in enumerate(zip(names, sizes, strict=True)):
            color = hex_color(VOC_PALETTE[number % 256])
            writer.writerow([number, name, color, "" if size is None else size])
