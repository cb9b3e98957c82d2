"""Label maps and classes."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.entries import LabelFile
from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.datasets.label_values import look_up, read_values
from lightcluster.errors import DatasetError, reason_of
from lightcluster.files import replacing
from lightcluster.locations import source_of, unchanged
from lightcluster.paths import require_file


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset in the order of their ids.

    Attributes
    ----------
    ids : tuple of int
        Values in the label maps, 0 to 65,535, ascending.
    names : tuple of str
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]


def built_in_classes(name: str) -> Classes:
    """Return the classes of a standard dataset by the name of its format."""
    names = FORMATS[name].classes
    return Classes(tuple(range(len(names))), names)


def read_classes(path: Path) -> Classes:
    """Read ``classes.csv``: the columns ``id`` and ``name``, one class a row.

    Columns are separated by commas, semicolons or tabs, whichever the header line has; spaces
    around a value are left out.

    Raises
    ------
    DatasetError
        If the file or a column is missing, an id is not an integer from 0 to 65,535, an id or a
        name is repeated, or a name contains a control character.
    """
    try:
        text = require_file(path).read_bytes().decode("utf-8-sig")
        header, rows = _read_table(text)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"dataset.classes = {str(path)!r}: cannot be read ({reason_of(error)})"
        ) from None
    if header.count("id") != 1 or header.count("name") != 1 or not rows:
        first = next((line for line in text.splitlines() if line.strip()), "")
        raise DatasetError(
            f"{path}: needs a header line `id,name` and a line for each class (semicolons or tabs "
            f"are allowed instead of commas); its first line is {first[:80]!r}"
        )
    classes: dict[int, str] = {}
    for line, values in rows:
        if len(values) > len(header):
            raise DatasetError(
                f"{path}, line {line}: has {len(values)} values, the header {len(header)}; put "
                'names that contain the separator in quotes ("…")'
            )
        row = dict(zip(header, values, strict=False))
        text = row.get("id", "")
        if not text.isdecimal() or len(text) > 20 or int(text) > 65_535:
            raise DatasetError(
                f"{path}, line {line}: id {text[:80]!r} is not an integer from 0 to 65535"
            )
        if int(text) in classes:
            raise DatasetError(f"{path}, line {line}: id {text} is repeated")
        name = row.get("name", "") or f"class {text}"
        if any(character < " " or character == "\x7f" for character in name):
            raise DatasetError(
                f"{path}, line {line}: name {name[:80]!r} contains a line break or another control "
                "character; is a quote not closed?"
            )
        if name in classes.values():
            raise DatasetError(f"{path}, line {line}: name {name!r} is repeated")
        classes[int(text)] = name
    ids = tuple(sorted(classes))
    return Classes(ids, tuple(classes[class_id] for class_id in ids))


def _read_table(text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV file, and its other non-empty rows with their line numbers.

    The separator is the one with which the header has the columns ``id`` and ``name``.
    """
    header: list[str] = []
    for separator in (",", ";", "\t"):
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True
        )
        found = ((reader.line_num, [value.strip() for value in row]) for row in reader)
        filled = [(line, values) for line, values in found if any(values)]
        header = filled[0][1] if filled else []
        if "id" in header and "name" in header:
            return header, filled[1:]
    return header, []


def write_classes(classes: Classes, output: Path, background: int | None, ignore: int) -> None:
    """Write ``classes.csv``.

    Raises
    ------
    DatasetError
        If `background` is not among the ids, or `ignore` is.
    """
    check_classes(classes, background, ignore)
    with replacing(output) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "name"])
        writer.writerows(zip(classes.ids, classes.names, strict=True))


def check_classes(classes: Classes, background: int | None, ignore: int) -> None:
    """Check that `background` is None or the id of a class, and that `ignore` is not one.

    Raises
    ------
    DatasetError
        If a check fails.
    """
    background_index(classes, background)
    if set(classes.ids) == {background}:
        raise DatasetError("classes.csv: has no class except the background")
    if ignore in classes.ids:
        name = classes.names[classes.ids.index(ignore)]
        raise DatasetError(
            f"dataset.ignore = {ignore}: is the id of class {name!r}; allowed: a value that is not "
            "a class id"
        )


def background_index(classes: Classes, background: int | None) -> int | None:
    """Return the position of the background class; None if there is none.

    Raises
    ------
    DatasetError
        If `background` is an id that is not among the classes.
    """
    if background is None:
        return None
    if background not in classes.ids:
        raise DatasetError(
            f"dataset.background = {background}: is not an id in classes.csv; allowed: "
            f"{', '.join(map(str, classes.ids))}, or null if no class is the background"
        )
    return classes.ids.index(background)


def read_label(label: LabelFile, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Read the class ids of a label map; `label_values` describes the allowed files.

    Parameters
    ----------
    label : LabelFile
    size : (int, int)
        Height and width of the image it belongs to.

    Returns
    -------
    uint16 array, shape (height, width)
        Class ids.

    Raises
    ------
    ImageError
        If it cannot be read, has another size, does not contain whole numbers in one channel, or
        contains a value that is not defined in its format.
    """
    return _read(source_of(label.path), label.taxonomy, size)


def open_label(label: LabelFile, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Read a label map of a manifest; see `read_label`.

    Raises
    ------
    ImageError
        If it cannot be read or has changed since it was indexed. The message names the file.
    """
    with unchanged(label.path, label.digest) as source:
        return _read(source, label.taxonomy, size)


def _read(source: Path | bytes, taxonomy: str, size: tuple[int, int]) -> NDArray[np.uint16]:
    if taxonomy:
        return FORMATS[taxonomy].read_label(source, size)
    return read_values(source, size)


IGNORED = 65_535
"""Value of ignored pixels in the output of `to_indices`."""


def to_indices(label: NDArray[np.uint16], classes: Classes, ignore: int) -> NDArray[np.uint16]:
    """Replace class ids by positions in `classes`, and `ignore` by `IGNORED`.

    Raises
    ------
    ImageError
        If the label contains an id that is neither that of a class nor `ignore`.
    """
    positions = {class_id: position for position, class_id in enumerate(classes.ids)}
    allowed = f"the ids of classes.csv and {ignore} (ignored)"
    return look_up(label, {**positions, ignore: IGNORED}, allowed)
