"""Standard datasets in the layout in which they are distributed, below a root folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lightcluster.datasets.entries import Entry, output_names, walk
from lightcluster.datasets.formats.protocol import Format
from lightcluster.errors import DatasetError, reason_of
from lightcluster.paths import require_file
from lightcluster.sections import Name, Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IGNORE = 255
"""Value of pixels without a class in all of these datasets."""

SHOWN = 3
"""Number of missing files that a message lists."""


class FieldKeys(Section):
    """Keys of the section `dataset` that these formats read."""

    root: Path | None = Field(
        None,
        description="Root folder of a standard dataset, relative to the working directory; "
        "`lightcluster check` reports what is missing and how to download it.",
    )
    split: Name | None = Field(
        None, description="Split of the dataset; see `settings.DatasetSettings`."
    )
    image_list: Path | None = Field(
        None,
        description="Text file of image ids, one per line: only these images of the split are "
        "used, such as the 2,175 curated ones of COCO-Stuff-27 (`voc`: replaces the file of the "
        "split); none: all images.",
    )


@dataclass(frozen=True, kw_only=True)
class FieldFormat(Format):
    """The layout of a standard dataset, and the classes of the values in its label maps.

    The patterns may contain ``{split}``, ``{id}``, the id of an image, and ``{city}``, the id up to
    the first underscore.

    Attributes
    ----------
    title : str
        Name of the dataset for readers.
    split : str
        The default split.
    images, labels : str
        Patterns of the folders, relative to the root.
    image, label : str
        Patterns of an image and its label map, relative to these folders.
    ids : str or None
        Pattern of the file that lists the images of a split; None: all images of the folder.
    values : mapping of int to int, or None
        Class id, or `IGNORE`, of each value of a label map; other values are errors. None: the
        values are class ids.
    download : str
        Shell commands that download and unpack the data, to be run in the root folder.
    """

    keys: ClassVar[type[Section]] = FieldKeys
    title: str
    split: str
    images: str
    image: str
    labels: str
    label: str
    download: str
    ids: str | None = None
    values: Mapping[int, int] | None = None

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Default split and background of this format."""
        return {"split": self.split, "background": self.background}

    @property
    def suffix(self) -> str:
        """Part of an image's file name after the id."""
        return self.image.rpartition("{id}")[2]

    def image_of(self, name: str) -> str:
        """Return the path of an image relative to the image folder, by its id."""
        return self.image.format(id=name, city=name.partition("_")[0])

    def label_of(self, name: str) -> str:
        """Return the path of a label map relative to the label folder, by the id of its image."""
        return self.label.format(id=name, city=name.partition("_")[0])

    def how_to_get(self, dataset: FieldKeys) -> str:
        """Return the commands that download and unpack the data in the root folder."""
        place = shlex.quote(str(dataset.root))
        return f"mkdir -p {place} && cd {place}\n{self.download}"

    def read_label(self, source: Path | bytes, size: tuple[int, int]) -> NDArray[np.uint16]:
        """Return the class ids of a label map, uint16 [height, width]."""
        from lightcluster.datasets.label_values import read_values, remap

        stored = read_values(source, size)
        return stored if self.values is None else remap(stored, self.values)

    def contradictions(self, dataset: Any) -> Iterator[str]:
        """Yield a message for each missing key, and for another value of `ignore`."""
        wanted = {"root": "the folder of the dataset", "split": "the name of a split"}
        for key, what in wanted.items():
            if getattr(dataset, key) is None:
                yield f"dataset.{key} = none: `format: {self.name}` needs {what}"
        if dataset.ignore != IGNORE:
            yield (
                f"dataset.ignore = {dataset.ignore}: must be {IGNORE}, the value of pixels without "
                f"a class in `format: {self.name}`"
            )

    def entries(self, dataset: FieldKeys, generated: Path, others: list[str]) -> list[Entry]:
        """List a split; images in the list whose file is missing are included."""
        images = self.place(dataset, self.images)
        self._check_layout(dataset)
        there = set(walk(images))
        ids = sorted(self._ids_of(dataset, there), key=self.image_of)
        image_ids = [self.image_of(name) for name in ids]
        label_ids = [self.label_of(name) for name in ids]
        if missing := _none_found(image_ids, there):
            problem = f"{images}: contains no image of the split; {missing}"
            raise self._layout_error(dataset, [problem])
        labels, labels_there = self.label_maps(dataset, generated, label_ids)
        taxonomy = self.name if self.values is not None else ""
        return [
            Entry(
                image_id=image_id,
                images=images,
                labels=labels if label_id in labels_there else None,
                output=output,
                label_id=label_id,
                taxonomy=taxonomy,
                unlabelled="" if label_id in labels_there else f"there is no {labels / label_id}",
            )
            for image_id, label_id, output in zip(
                image_ids, label_ids, output_names(image_ids), strict=True
            )
        ]

    def place(self, dataset: FieldKeys, pattern: str) -> Path:
        """Return the path of a folder or file of the split."""
        assert dataset.root is not None  # see `contradictions`
        return dataset.root / pattern.format(split=dataset.split)

    def folders(self, dataset: FieldKeys) -> list[Path]:
        """Return the folders that listing needs."""
        return [self.place(dataset, self.images), self.place(dataset, self.labels)]

    def files(self, dataset: FieldKeys) -> list[Path]:
        """Return the files that listing needs."""
        listed = self.ids is not None and dataset.image_list is None
        return [self.place(dataset, self.ids)] if listed and self.ids is not None else []

    def label_maps(
        self, dataset: FieldKeys, generated: Path, label_ids: list[str]
    ) -> tuple[Path, Container[str]]:
        """Return the folder of the label maps, and the paths that exist in it.

        Raises
        ------
        DatasetError
            If none of `label_ids` exists.
        """
        labels = self.place(dataset, self.labels)
        there = set(walk(labels))
        if missing := _none_found(label_ids, there):
            problem = f"{labels}: contains no label map of the split; {missing}"
            raise self._layout_error(dataset, [problem])
        return labels, there

    def _check_layout(self, dataset: FieldKeys) -> None:
        """Raise a DatasetError that names all missing folders and files, if there are any."""
        assert dataset.root is not None
        if not dataset.root.is_dir():
            raise DatasetError(
                f"dataset.root = {str(dataset.root)!r}: there is no such folder; `lightcluster "
                "check` shows how to download the dataset"
            )
        problems = [
            f"{path}: there is no such {kind}{_beside(path)}"
            for kind, paths, is_there in (
                ("folder", self.folders(dataset), Path.is_dir),
                ("file", self.files(dataset), Path.is_file),
            )
            for path in paths
            if not is_there(path)
        ]
        if problems:
            raise self._layout_error(dataset, problems)

    def _layout_error(self, dataset: FieldKeys, problems: list[str]) -> DatasetError:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        return DatasetError(
            f"dataset.root = {str(dataset.root)!r}: does not have the layout of `format: "
            f"{self.name}` with `split: {dataset.split}`:\n{lines}\n`lightcluster check` shows how "
            "to download the dataset"
        )

    def _ids_of(self, dataset: FieldKeys, there: Iterable[str]) -> Iterable[str]:
        """Return the unique ids of the images of a split, in any order."""
        if dataset.image_list is not None:
            return read_ids(dataset.image_list, "dataset.image_list")
        if self.ids is not None:
            return read_ids(self.place(dataset, self.ids), "dataset.split")
        ids = {
            name: name.rpartition("/")[2].removesuffix(self.suffix)
            for name in there
            if name.endswith(self.suffix)
        }
        return [found for name, found in ids.items() if self.image_of(found) == name]


def _beside(path: Path) -> str:
    """Return which files or folders exist next to a missing one."""
    if not path.parent.is_dir():
        return ""
    there = sorted(item.name for item in path.parent.iterdir() if item.suffix == path.suffix)
    shown = ", ".join(there[:8]) + (", …" if len(there) > 8 else "")
    return f"; there are: {shown}" if there else f"; {path.parent} contains none"


def _none_found(wanted: list[str], there: Container[str]) -> str:
    """Return a description of the wanted files, if none of them exists."""
    if any(name in there for name in wanted):
        return ""
    if not wanted:
        return "no files match"
    return f"looked for {', '.join(wanted[:SHOWN])}{', …' * (len(wanted) > SHOWN)}"


def read_ids(path: Path, key: str) -> list[str]:
    """Read a text file of image ids, one per line; duplicates are removed.

    Parameters
    ----------
    path : Path
    key : str
        The configuration key of the file, for messages.

    Returns
    -------
    list of str

    Raises
    ------
    DatasetError
        If the file cannot be read or contains no ids, or if a line is not an id (ids contain no
        folders or spaces).
    """
    try:
        lines = require_file(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{key}: {str(path)!r} cannot be read ({reason_of(error)})") from None
    ids: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        if not _ID.fullmatch(name):
            raise DatasetError(
                f"{key}: {path}, line {number}: {name[:80]!r} is not an image id; allowed: one id "
                "per line, without folder and suffix, such as 2007_000033"
            )
        ids[name] = None
    if not ids:
        raise DatasetError(f"{key}: {str(path)!r} contains no image ids")
    return list(ids)


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
