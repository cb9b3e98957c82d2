"""Text in pictures: the font, and what fits into a width."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import ImageFont


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the sans-serif font that comes with matplotlib."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def printable(text: str) -> str:
    r"""Return `text` on one line: what cannot be printed, as line feeds, becomes ``\n`` or so."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shorten(text: str, length: int) -> str:
    """Return `text` with an ellipsis in its middle if it has more than `length` characters."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def fit_text(text: str, width: int, face: ImageFont.FreeTypeFont) -> str:
    """Return `text`, shortened if it is wider than `width` pixels."""
    length, fitted = len(text), text
    while length > 1 and face.getlength(fitted) > width:
        length = min(length - 1, int(length * width / face.getlength(fitted)))
        fitted = shorten(text, max(length, 1))
    return fitted
