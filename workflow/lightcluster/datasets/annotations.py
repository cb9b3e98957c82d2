"""Reading and checking COCO's instance annotations.

Each record of the file is checked before it is used, and every mask before it is painted, because
pycocotools, which rasterises the polygons, crashes or paints uninitialised memory on unexpected
numbers. An error in a record that belongs to an image invalidates the label map of this image; an
error in any other record is reported as a remark on the file.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rasteriser

from lightcluster.datasets.formats.coco import COCO_NAMES, THING_CLASSES
from lightcluster.errors import DatasetError, ImageError, reason_of
from lightcluster.paths import require_file

MOST_BYTES = 2**31
"""Largest size of an annotation file; COCO's largest has a fifth of it."""

MOST_STEPS = 2**24
"""Longest outline of an annotation, in fifths of a pixel: pycocotools allocates this much."""

_MERGED = 16
"""Number of polygons that are merged at once."""

SHOWN = 3
"""Number of ids that a remark lists."""

_TWICE = object()
"""Key that is added to a JSON object with a duplicate key; its value is the duplicate key."""


@dataclass
class Listed:
    """The records of an annotation file about one image.

    Attributes
    ----------
    record : dict
        Its entry in ``images``.
    annotations : list of dict
        In the order of the file.
    reason : str
        Why its label map cannot be painted; empty if no error has been found.
    """

    record: dict[Any, Any]
    annotations: list[dict[Any, Any]] = field(default_factory=list)
    reason: str = ""

    def reject(self, reason: str) -> None:
        """Record why the label map cannot be painted; the first reason is kept."""
        self.reason = self.reason or reason


@dataclass(frozen=True)
class Annotations:
    """The instance annotations of a split.

    Attributes
    ----------
    images : dict of str to Listed
        By the name of the image file.
    remarks : list of str
        Errors in records that belong to no image.
    """

    images: dict[str, Listed]
    remarks: list[str]


def read_annotations(path: Path) -> Annotations:
    """Read ``instances_<split>.json``.

    Returns
    -------
    Annotations

    Raises
    ------
    DatasetError
        If the file cannot be parsed, or its categories are not COCO's.
    """
    try:
        if require_file(path).stat().st_size > MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are allowed")
        content = _parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: is not a file of instance annotations ({reason_of(error)})"
        ) from None
    except (RecursionError, MemoryError):
        raise DatasetError(
            f"{path}: is not a file of instance annotations (it is nested too deeply, or too large)"
        ) from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: is not a file of instance annotations (not a JSON object)")
    if _TWICE in content:
        raise DatasetError(f"{path}: has the key {content[_TWICE]!r} twice")
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            raise DatasetError(f"{path}: is not a file of instance annotations (no list {part!r})")
    declared = _categories(content["categories"], path)
    images, remarks = _images(content["images"])
    remarks += _distribute(content["annotations"], images, declared)
    return Annotations(images, remarks)


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except ValueError:  # Python refuses to parse integers with thousands of digits
        longest = sys.get_int_max_str_digits()
        if not longest or max(map(len, re.findall(rb"\d{1000,}", text)), default=0) <= longest:
            raise
        return json.loads(text, object_pairs_hook=_object, parse_int=_whole)


def _whole(digits: str) -> float:
    """Parse an integer; ±infinity if it has more digits than Python parses."""
    try:
        return int(digits)
    except ValueError:
        return -math.inf if digits.startswith("-") else math.inf


def _object(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    """Build a JSON object, with the key `_TWICE` if it has a duplicate key."""
    found: dict[Any, Any] = dict(pairs)
    if len(found) != len(pairs):
        found[_TWICE] = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
    return found


def _categories(records: Sequence[Any], path: Path) -> Counter[int]:
    """Return how often each category id is declared; all must be COCO's."""
    declared: Counter[int] = Counter()
    for item in records:
        number: Any = item.get("id") if isinstance(item, dict) else None
        name = item.get("name") if isinstance(item, dict) else None
        known = COCO_NAMES[number - 1] if type(number) is int and number in THING_CLASSES else None
        if known is None or name != known:
            of_it = f"where it is {known!r}" if known else "whose ids are integers from 1 to 90"
            raise DatasetError(
                f"{path}: category {shown(number)} is {shown(name)}; allowed are the 80 of COCO, "
                f"{of_it}. For other annotations, paint label maps and use `format: folder`"
            )
        declared[number] += 1
    return declared


def _images(records: Sequence[Any]) -> tuple[dict[str, Listed], list[str]]:
    """Return the images of a file by name, and remarks on records without a name."""
    images: dict[str, Listed] = {}
    names_of: defaultdict[tuple[type, Any], list[str]] = defaultdict(list)
    nameless = 0
    for item in records:
        name = item.get("file_name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            nameless += 1
            continue
        number = item.get("id")
        if name in images:
            first = images[name].record.get("id")
            images[name].reject(
                f"the annotations list this image twice, as {shown(first)} and {shown(number)}"
            )
        else:
            images[name] = Listed(item)
        listed = images[name]
        if _TWICE in item:
            listed.reject(f"its record in the annotations has {item[_TWICE]!r} twice")
        if type(number) not in (int, str):
            listed.reject(f"its id in the annotations is {shown(number)}; ids must be integers")
        else:
            names_of[type(number), number].append(name)
        for side in ("height", "width"):
            if type(item.get(side)) is not int or item[side] < 1:
                listed.reject(f"its {side} in the annotations is {shown(item.get(side))}")
    for (_, number), names in names_of.items():
        for name in names if len(names) > 1 else []:
            others = [repr(other) for other in names if other != name]
            images[name].reject(
                f"its id {shown(number)} in the annotations is also that of "
                f"{', '.join(others[:SHOWN]) or 'another record of it'}"
            )
    remarks = [f"{nameless} record(s) of its images have no `file_name`"] if nameless else []
    return images, remarks


def _distribute(
    records: Sequence[Any], images: dict[str, Listed], declared: Counter[int]
) -> list[str]:
    """Add each annotation to its image; return remarks on those that belong to none."""
    by_id = {_key(listed.record.get("id")): listed for listed in images.values()}
    by_text = {_text(listed.record.get("id")): listed for listed in images.values()}
    uses = Counter(_key(item.get("id")) for item in records if isinstance(item, dict))
    lost: Counter[str] = Counter()
    for item in records:
        if not isinstance(item, dict):
            lost["not an object"] += 1
            continue
        number = item.get("image_id")
        listed = by_id.get(_key(number)) or by_text.get(_text(number))
        if listed is None or _text(number) is None:
            lost[shown(number)] += 1
            continue
        listed.annotations.append(item)
        for mistake in _mistakes(item, listed, declared, uses):
            listed.reject(f"{named(item)} {mistake}")
    if not lost:
        return []
    first = ", ".join(list(lost)[:SHOWN]) + ", …" * (len(lost) > SHOWN)
    return [f"{lost.total()} of its annotations belong to none of its images (image_id {first})"]


def _mistakes(
    item: dict[Any, Any], listed: Listed, declared: Counter[int], uses: Counter[Any]
) -> Iterator[str]:
    """Yield the errors in an annotation, apart from its mask."""
    number, image, category = item.get("id"), item["image_id"], item.get("category_id")
    if _TWICE in item:
        yield f"has {item[_TWICE]!r} twice"
    if _key(image) != _key(listed.record.get("id")):
        known = shown(listed.record.get("id"))
        yield f"has the image_id {shown(image)}; in the list of images, the id is {known}"
    if type(number) not in (int, str):
        yield "has no id" if number is None else "has an id that is not an integer"
    elif uses[_key(number)] > 1:
        yield f"has the same id as {uses[_key(number)] - 1} other annotation(s)"
    if type(category) is not int or category not in declared:
        yield f"has the category {shown(category)}, which the file does not declare"
    elif declared[category] > 1:
        yield f"has the category {category}, which the file declares {declared[category]} times"


def named(item: dict[Any, Any]) -> str:
    """Return an annotation's name for messages."""
    return f"annotation {shown(item.get('id'))}"


def shown(value: Any) -> str:
    """Return a short, printable form of any value of the file, for messages."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float, str)):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:37]}…"
    return "a list" if isinstance(value, list) else "an object"


def _key(number: Any) -> tuple[type, Any]:
    """Return an id with its type, so that 1, 1.0, true and "1" differ."""
    return (type(number), number) if isinstance(number, (int, float, str)) else (type(number), None)


def _text(number: Any) -> str | None:
    """Return an id as text, which is equal for 1, 1.0 and "1"; None if it cannot be an id."""
    if isinstance(number, str):
        return number.strip()
    if isinstance(number, float) and number.is_integer():
        return str(int(number))
    return str(number) if type(number) is int else None


# ---- masks ---------------------------------------------------------------------------------------


def mask_of(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask of an annotation.

    Parameters
    ----------
    segmentation : object
        As in the file: a list of polygons, or a run-length encoding, plain or compressed.
    size : (int, int)
        Height and width of the image.

    Returns
    -------
    bool array, shape (height, width)
        Polygons are rasterised by pycocotools.

    Raises
    ------
    ImageError
        If it has neither form, or a number in it is out of range.
    """
    if isinstance(segmentation, list):
        return _paint_polygons(segmentation, size)
    if isinstance(segmentation, dict):
        return _paint_runs(segmentation, size)
    raise ImageError(f"has {shown(segmentation)} instead of a segmentation")


def _paint_runs(segmentation: dict[Any, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode run lengths, which are column-major and start with zeros, to a mask."""
    height, width = size
    if _TWICE in segmentation:
        raise ImageError(f"has {segmentation[_TWICE]!r} twice in its segmentation")
    stated, counts = segmentation.get("size"), segmentation.get("counts")
    whole = isinstance(stated, list) and all(type(side) is int for side in stated)
    if not whole or stated != [height, width]:
        said = str(stated)[:40] if whole else shown(stated)
        raise ImageError(f"has runs of the size {said}, but its image has {[height, width]}")
    if not isinstance(counts, (str, list)):
        raise ImageError(f"has {shown(counts)} instead of run lengths")
    if len(counts) > 8 * height * width + 16:
        raise ImageError(f"has {len(counts):,} runs or characters, too many for its image")
    runs = decode_runs(counts) if isinstance(counts, str) else counts
    for run in runs:
        if type(run) is not int or not 0 <= run <= height * width:
            raise ImageError(f"has a run of {shown(run)} pixels")
    if sum(runs) != height * width:
        raise ImageError(
            f"has runs of {sum(runs)} pixels in total, but its image has {height * width}"
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def decode_runs(text: str) -> list[int]:
    """Decode COCO's compressed run-length encoding.

    Each character holds six bits, counted from ``0``: five bits of a number, the lowest first, and
    a continuation bit. From the fourth number on, the difference from the second-to-last run is
    stored.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of int
        Run lengths.

    Raises
    ------
    ImageError
        If the text is not in this form.
    """
    runs: list[int] = []
    number = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 35:
            raise ImageError("has damaged compressed runs")
        number |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                number -= 1 << shift
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    if shift:
        raise ImageError("has truncated compressed runs")
    return runs


def _paint_polygons(polygons: list[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the union of polygons, each a list of alternating x and y."""
    height, width = size
    if not polygons:
        raise ImageError("has an empty segmentation")
    steps = 0.0
    for polygon in polygons:
        if not isinstance(polygon, list):
            raise ImageError(f"has {shown(polygon)} instead of a polygon")
        if len(polygon) < 6 or len(polygon) % 2:
            raise ImageError(f"has a polygon of {len(polygon)} numbers; allowed: 6, 8, 10, …")
        for place, value in enumerate(polygon):
            side = height if place % 2 else width
            if type(value) not in (int, float) or not -side <= value <= 2 * side:
                raise ImageError(
                    f"has the coordinate {shown(value)} in a polygon; its image is {width} wide "
                    f"and {height} high"
                )
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        steps += 5 * float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
        steps += len(points)
    if steps > MOST_STEPS:
        raise ImageError(f"has outlines that are {steps / 5:,.0f} pixels long")
    runs = rasteriser.frPyObjects(polygons, height, width)
    while len(runs) > 1:  # merging one by one takes quadratic time
        runs = [
            rasteriser.merge(runs[start : start + _MERGED])
            for start in range(0, len(runs), _MERGED)
        ]
    mask: NDArray[np.bool_] = np.asarray(rasteriser.decode(runs[0])).astype(bool)
    return mask
