"""Datasets of the field in the layout in which they are distributed, below one root."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lightcluster.datasets.entries import Entry, output_names, walk
from lightcluster.datasets.formats.protocol import Format
from lightcluster.errors import DatasetError
from lightcluster.paths import require_file
from lightcluster.sections import Name, Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IGNORE = 255
"""Value of pixels without a class in all of these datasets."""

SHOWN = 3
"""Missing files that a message names."""


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
    """The layout of a dataset below its root, and which class each value of its label maps is.

    In its patterns stand ``{split}``, ``{id}``, the id of an image, and ``{city}``, the id up to
    the first underscore.

    Attributes
    ----------
    title : str
        What the dataset is called.
    split : str
        The split that is taken where none is set.
    images, labels : str
        Folders.
    image, label : str
        Paths of an image and its label map below these.
    ids : str or None
        The file that lists the images of a split; None: all images of the folder are of it.
    values : mapping of int to int, or None
        The class id, or `IGNORE`, that each value of a label map stands for; other values are
        mistakes. None: values are class ids.
    download : str
        Commands that get and place the data, run in the root.
    """

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
        """Its own split and background."""
        return {"split": self.split, "background": self.background}

    @property
    def suffix(self) -> str:
        """What the names of images end in after their id."""
        return self.image.rpartition("{id}")[2]

    def image_of(self, name: str) -> str:
        """Return the path of the image of an id below the folder of the images."""
        return self.image.format(id=name, city=name.partition("_")[0])

    def label_of(self, name: str) -> str:
        """Return the path of its label map below the folder of the labels."""
        return self.label.format(id=name, city=name.partition("_")[0])

    def how_to_get(self, dataset: FieldKeys) -> str:
        """Return the commands that get the data and place it in the root."""
        place = shlex.quote(str(dataset.root))
        return f"mkdir -p {place} && cd {place}\n{self.download}"

    def read_label(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint16]:
        """Return the class ids that the values of a label map stand for."""
        from lightcluster.datasets.label_values import read_values, remap

        stored = read_values(path, size)
        return stored if self.values is None else remap(stored, self.values)

    def contradictions(self, dataset: Any) -> Iterator[str]:
        """Yield what is missing, and the keys that are for images of one's own."""
        wanted = {"root": "the folder of the dataset", "split": "the name of a split"}
        for key, what in wanted.items():
            if getattr(dataset, key) is None:
                yield f"dataset.{key} = none: `format: {self.name}` needs {what}"
        for key, where in {
            "images": "below `root`",
            "labels": "below `root`",
            "classes": "",
        }.items():
            if (value := getattr(dataset, key)) is not None:
                found = f"finds its own {where}" if where else "has classes of its own"
                yield (
                    f"dataset.{key} = {str(value)!r}: `format: {self.name}` {found}; `{key}` is "
                    "for `format: folder`"
                )
        if dataset.ignore != IGNORE:
            yield (
                f"dataset.ignore = {dataset.ignore}: pixels without a class are {IGNORE} in "
                f"`format: {self.name}`"
            )

    def entries(self, dataset: FieldKeys, generated: Path, others: list[str]) -> list[Entry]:
        """List a split; an image of a list that is missing is an entry all the same."""
        images = self.place(dataset, self.images)
        self._check_layout(dataset)
        there = set(walk(images))
        ids = sorted(self._ids_of(dataset, there), key=self.image_of)
        image_ids = [self.image_of(name) for name in ids]
        label_ids = [self.label_of(name) for name in ids]
        if missing := _none_found(image_ids, there):
            problem = f"{images}: holds no image of the split; {missing}"
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
        """Return where a folder or file of a split is."""
        assert dataset.root is not None  # see `contradictions`
        return dataset.root / pattern.format(split=dataset.split)

    def folders(self, dataset: FieldKeys) -> list[Path]:
        """Return the folders without which nothing can be listed."""
        return [self.place(dataset, self.images), self.place(dataset, self.labels)]

    def files(self, dataset: FieldKeys) -> list[Path]:
        """Return the files without which nothing can be listed."""
        listed = self.ids is not None and dataset.image_list is None
        return [self.place(dataset, self.ids)] if listed and self.ids is not None else []

    def label_maps(
        self, dataset: FieldKeys, generated: Path, label_ids: list[str]
    ) -> tuple[Path, Container[str]]:
        """Return the folder of the label maps, and which paths there are in it.

        Raises
        ------
        DatasetError
            If none of `label_ids` is there.
        """
        labels = self.place(dataset, self.labels)
        there = set(walk(labels))
        if missing := _none_found(label_ids, there):
            problem = f"{labels}: holds no label map of the split; {missing}"
            raise self._layout_error(dataset, [problem])
        return labels, there

    def _check_layout(self, dataset: FieldKeys) -> None:
        """Raise a DatasetError that names all folders and files of the layout that are missing."""
        assert dataset.root is not None
        if not dataset.root.is_dir():
            raise DatasetError(
                f"dataset.root = {str(dataset.root)!r}: there is no such folder; `lightcluster "
                "check` says how to get the dataset"
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
            f"dataset.root = {str(dataset.root)!r}: is not laid out as `format: {self.name}` with "
            f"`split: {dataset.split}` is:\n{lines}\n`lightcluster check` says how to get the "
            "dataset"
        )

    def _ids_of(self, dataset: FieldKeys, there: Iterable[str]) -> Iterable[str]:
        """Return the ids of the images of a split, each once, in any order."""
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
    """Return what is in the place of a missing file or folder, if there is anything."""
    if not path.parent.is_dir():
        return ""
    there = sorted(item.name for item in path.parent.iterdir() if item.suffix == path.suffix)
    shown = ", ".join(there[:8]) + (", …" if len(there) > 8 else "")
    return f"; there are: {shown}" if there else f"; {path.parent} holds none"


def _none_found(wanted: list[str], there: Container[str]) -> str:
    """Return what was looked for, if none of it is there."""
    if any(name in there for name in wanted):
        return ""
    if not wanted:
        return "there is none at all"
    return f"looked for {', '.join(wanted[:SHOWN])}{', …' * (len(wanted) > SHOWN)}"


def read_ids(path: Path, key: str) -> list[str]:
    """Read a text file of image ids, one a line; ids that stand twice are taken once.

    Parameters
    ----------
    path : Path
    key : str
        The key of the configuration that leads to it, for messages.

    Raises
    ------
    DatasetError
        If it cannot be read, holds no id, or a line is none: ids have no folder and no spaces.
    """
    try:
        lines = require_file(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{key}: {str(path)!r} cannot be read ({error})") from None
    ids: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        if not _ID.fullmatch(name):
            raise DatasetError(
                f"{key}: {path}, line {number}: {name[:80]!r} is no image id; allowed: one a line, "
                "without folder and suffix, such as 2007_000033"
            )
        ids[name] = None
    if not ids:
        raise DatasetError(f"{key}: {str(path)!r} holds no image id")
    return list(ids)


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
