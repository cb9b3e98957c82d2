"""What a person should know of images that can be used, before trusting what is made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lightcluster.datasets.manifest import Row

NARROW = 16
"""Levels of 256: a picture of over eight bits that spreads over no more is nearly of one grey.

Twelve bits in a container of sixteen that are taken for sixteen spread over so many.
"""


class Remark(NamedTuple):
    """A sentence, and whether something may be wrong."""

    text: str
    warning: bool


def remarks(rows: Iterable[Row]) -> Iterator[Remark]:
    """Yield a remark on each thing that is unusual about some images.

    Parameters
    ----------
    rows : iterable of Row
        All images of a dataset that can be used.
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
            f"use{'s' * (narrow == 1)} a small part of the range from black to white: nearly one "
            "grey remains; set dataset.depth to the bits of the camera (such as 12) or to stretch, "
            "or declare the value that stands for no data (GDAL_NODATA)",
            warning=True,
        )
    if several:
        yield Remark(
            f"{_images(several)}, such as {first['several']!r}, "
            f"hold{'s' * (several == 1)} several frames or pages: the first is taken",
            warning=False,
        )
    if count and flat == count:
        text = "every image is of one colour throughout: there is nothing to be found in them"
        yield Remark(text, warning=True)


def _of_depth(levels: Counter[str]) -> str:
    """Say what was black and white in images of more than eight bits."""
    most = levels.most_common(4)
    spans = ", ".join(f"{span} ({number})" for span, number in most)
    said = f"{_images(sum(levels.values()))} of more than 8 bits; black to white is {spans}"
    if len(levels) > len(most):
        said += f" and {len(levels) - len(most)} other ranges"
    if len(levels) > 1:
        said += "; the range was chosen for each; set dataset.depth to treat all alike"
    return said


def _images(count: int) -> str:
    return f"{count} image{'s' * (count != 1)}"
