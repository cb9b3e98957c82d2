"""The colours in which segmentations are painted, in files and on all pages."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.errors import StoreError, reason_of
from lightcluster.files import replacing

_COLORS = """
c1f f00 0c0 f90 07f 070 b15 f8b 0cb 980 950 0bf baf 65a f97 096 f46 ab6 a59 661
a43 e7f d60 590 f09 97c b84 71f 4c8 7af da0 c65 a0a 05d 860 76f c7b f88 f1d c57
bb0 d14 78d b40 09e 6a6 f63 074 c08 894 ba5 95c 8b0 570 b6f f83 484 ea6 c00 0a3
f44 7c6 e9d a8f c3b 06b f6c c70 e69 a70 849 56b b6c a63 e06 780 b55 b8d d52 54d
a1d d33 0a8 a47 e76 b92 872 7a4 683 d92 c59 d85 a34 84f d9f 76c 9af 380 9a0 b64
d67 36f a60 d5e a83 594 74b 38d d5b a28 58f c37 c42 07c f04 a53 57c f68 55f d75
0c5 2a6 7c3 da5 992 c50 094 c02 96e 67f 95a 1b8 090 790 f60 770 085 d83 f37 4b6
373 761 c73 ba1 77c 4ca 5b4 d55 b54 59e f5e 883 87e b80 a73 98d b6a 99e f85 f40
bb5 96b 4af b46 8b6 e0b e5a 79e 4a0 d8d d7a c7e 88f 75d 948 a51 e70 f8e c82 e66
a4f d48 970 b45 b61 9a4 d29 561 ca4 e0f 83d e95 f89 04f 45b c56 b9e f75 c4d 26d
a91 b39 a94 c25 7a1 ea2 960 93b e25 ab3 850 e53 b3c 5b0 c63 b06 2ae 083 a7e b23
f87 8b4 c94 a44 c90 580 f49 b5b aa5 f67 a6d f3b e86 5a4 ca0 f80 472 d54 90f d74
15f 0b9 a4a a42 c8f 880 0c9 aa3 b70 56d 53f d94 b32 0b1 c4f
"""
"""Red, green and blue of the values from 1 on, each a hexadecimal digit in the place of two.

Each is the one of such colours that is farthest, by CIEDE2000, from greys and from those before it,
among those that stand out on light and on dark pages: of a lightness from 40 to 75 and a chroma of
45 or more (CIE L*a*b*).
"""


@cache
def palette() -> NDArray[np.uint8]:
    """Return 256 colours, uint8, shape (256, 3): black, and colours that are easy to tell apart."""
    digits = [[0, 0, 0], *([int(digit, 16) for digit in color] for color in _COLORS.split())]
    return np.array(digits, np.uint8) * np.uint8(17)


def colors_of(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the colour of each value of a segmentation, on every page and in every file.

    Parameters
    ----------
    values : int array, any shape
        From 0. Colours repeat after 255; black is the colour of 0 alone.

    Returns
    -------
    uint8 array, shape (..., 3)
    """
    return palette()[np.where(values == 0, 0, 1 + (values.astype(np.int64) - 1) % 255)]


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
            color = hex_color(colors_of(np.array(number)))
            writer.writerow([number, name, color, "" if size is None else size])
