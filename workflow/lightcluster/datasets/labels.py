"""Label maps and the classes they hold."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcluster.errors import DatasetError, ImageError
from lightcluster.features.images import FORMATS
from lightcluster.files import replacing


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


def read_classes(path: Path) -> Classes:
    """Read ``classes.csv``: the columns ``id`` and ``name``, one class a row.

    Raises
    ------
    DatasetError
        If the file is missing, a column is missing, an id is no integer from 0 to 65,535, or an
        id or a name stands twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"dataset.classes = {str(path)!r}: cannot be read ({error})") from None
    if not rows or not {"id", "name"} <= set(rows[0][1]):
        raise DatasetError(f"{path}: needs a header line `id,name` and a line for every class")
    classes: dict[int, str] = {}
    for line, row in rows:
        text = (row["id"] or "").strip()
        if not text.isdecimal() or int(text) > 65_535:
            raise DatasetError(f"{path}, line {line}: id {text!r} is no integer from 0 to 65535")
        if int(text) in classes:
            raise DatasetError(f"{path}, line {line}: id {text} stands twice")
        name = (row["name"] or "").strip() or f"class {text}"
        if name in classes.values():
            raise DatasetError(f"{path}, line {line}: name {name!r} stands twice")
        classes[int(text)] = name
    ids = tuple(sorted(classes))
    return Classes(ids, tuple(classes[class_id] for class_id in ids))


def copy_classes(source: Path, output: Path, background: int | None, ignore: int) -> None:
    """Check ``classes.csv`` and copy it to `output`.

    Raises
    ------
    DatasetError
        If it cannot be used, `background` is not among its ids, or `ignore` is.
    """
    classes = read_classes(source)
    check_classes(classes, background, ignore)
    with replacing(output) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "name"])
        writer.writerows(zip(classes.ids, classes.names, strict=True))


def check_classes(classes: Classes, background: int | None, ignore: int) -> None:
    """Check that `background` is the id of a class, or None, and that `ignore` is none.

    Raises
    ------
    DatasetError
        If not.
    """
    background_index(classes, background)
    if set(classes.ids) == {background}:
        raise DatasetError("classes.csv: holds no class but the background")
    if ignore in classes.ids:
        name = classes.names[classes.ids.index(ignore)]
        raise DatasetError(
            f"dataset.ignore = {ignore}: is the id of class {name!r}; allowed: an id that no class "
            "has"
        )


def background_index(classes: Classes, background: int | None) -> int | None:
    """Return the position of the background class; None if no class is the background.

    Raises
    ------
    DatasetError
        If `background` is an id that is not among the classes.
    """
    if background is None:
        return None
    if background not in classes.ids:
        raise DatasetError(
            f"dataset.background = {background}: is no id of classes.csv; allowed: "
            f"{', '.join(map(str, classes.ids))}, or null if no class is the background"
        )
    return classes.ids.index(background)


def read_label(path: Path, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Read a label map: a PNG (or other image) of one channel, 8 or 16 bits, palette or grey.

    Parameters
    ----------
    path : Path
    size : (int, int)
        Height and width of the image it belongs to.

    Returns
    -------
    uint16 array, shape (height, width)
        Class ids as stored.

    Raises
    ------
    ImageError
        If it cannot be read, has more than one channel or is of another size.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if (image.height, image.width) != tuple(size):
                raise ImageError(
                    f"label is {image.height} x {image.width}, its image {size[0]} x {size[1]} "
                    "(height x width)"
                )
            if image.mode not in {"1", "L", "P", "I;16", "I;16B", "I"}:
                raise ImageError(f"label has mode {image.mode}; it must have a single channel")
            image.load()
            ids = np.asarray(image)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise ImageError(f"label cannot be read ({error})") from None
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) > 65_535):
        raise ImageError(f"label holds ids from {ids.min()} to {ids.max()}; allowed: 0 to 65535")
    return ids.astype(np.uint16)


IGNORED = 65_535
"""Value of pixels without truth in the output of `to_indices`."""


def to_indices(label: NDArray[np.uint16], classes: Classes, ignore: int) -> NDArray[np.uint16]:
    """Replace class ids by positions in `classes`, and `ignore` by `IGNORED`.

    Raises
    ------
    ImageError
        If the label holds an id that is neither a class nor `ignore`.
    """
    table = np.full(65_536, IGNORED, np.uint16)
    known = np.zeros(65_536, bool)
    table[list(classes.ids)] = np.arange(len(classes.ids), dtype=np.uint16)
    known[list(classes.ids)] = True
    table[ignore], known[ignore] = IGNORED, True
    unknown = np.flatnonzero(~known & (np.bincount(label.ravel(), minlength=65_536) > 0))
    if unknown.size:
        raise ImageError(
            f"label holds the ids {', '.join(map(str, unknown[:5]))}{' …' * (unknown.size > 5)}; "
            f"allowed: the ids of classes.csv and {ignore} (ignored)"
        )
    return table[label]
