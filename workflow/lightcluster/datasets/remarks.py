"""Remarks on usable images that are unusual and may lead to poor results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lightcluster.datasets.manifest import Row

NARROW = 16
"""An image of more than 8 bits whose values span at most this many of 256 is almost uniform.

12-bit data span this many if they are stored in 16 bits and scaled as if they used all of them.
"""


class Remark(NamedTuple):
    """A sentence, and whether something may be wrong."""

    text: str
    warning: bool


def remarks(rows: Iterable[Row]) -> Iterator[Remark]:
    """Yield a remark on each unusual property of some images.

    Parameters
    ----------
    rows : iterable of Row
        All usable images of a dataset.

    Yields
    ------
    Remark
    """
    levels: Counter[str] = Counter()
    count = flat = several = narrow = 0
    first: dict[str, str] = {}
    for row in rows:
        count += 1
        flat += row.span == 0
        if row.frames > 1:
            several += 1
            first.setdefault("several", row.image_id)
        if row.levels is None:
            continue
        levels[f"{row.levels.black:g} to {row.levels.white:g}"] += 1
        if row.span <= NARROW:
            narrow += 1
            first.setdefault("narrow", row.image_id)
    if levels:
        yield Remark(_of_depth(levels), warning=len(levels) > 1)
    if narrow:
        yield Remark(
            f"{_images(narrow)} of more than 8 bits, such as {first['narrow']!r}, "
            f"use{'s' * (narrow == 1)} a small part of the range from black to white and become "
            "almost uniform; set dataset.depth to the bits of the camera (such as 12) or to "
            "stretch, or declare the value that means no data (GDAL_NODATA)",
            warning=True,
        )
    if several:
        yield Remark(
            f"{_images(several)}, such as {first['several']!r}, "
            f"ha{'s' if several == 1 else 've'} several frames or pages: the first one is used",
            warning=False,
        )
    if count and flat == count:
        text = "every image has a single colour: there is nothing in them to segment"
        yield Remark(text, warning=True)


def _of_depth(levels: Counter[str]) -> str:
    """Return the ranges from black to white that were used for images of more than 8 bits."""
    most = levels.most_common(4)
    spans = ", ".join(f"{span} ({number})" for span, number in most)
    said = f"{_images(sum(levels.values()))} of more than 8 bits; black to white is {spans}"
    if len(levels) > len(most):
        said += f" and {len(levels) - len(most)} other ranges"
    if len(levels) > 1:
        said += "; the range was chosen for each image; set dataset.depth to use one for all"
    return said


def _images(count: int) -> str:
    return f"{count} image{'s' * (count != 1)}"
