"""What the formats of a user's own images have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from lightcluster.datasets.entries import walk
from lightcluster.datasets.formats.protocol import Format
from lightcluster.digests import combine, combine_states
from lightcluster.errors import DatasetError
from lightcluster.sections import Section


class OwnKeys(Section):
    """Keys of the section `dataset` that all of these formats read."""

    images: Path | None = Field(
        None,
        description="The images, relative to the working directory. `folder`: a folder; `list`: a "
        "text file, whose paths are relative to its own folder; `webdataset`: a folder of tars, or "
        "one tar; `parquet`: a folder of parquet files, or one file.",
    )
    classes: Path | None = Field(
        None,
        description="`classes.csv` with the columns `id,name`; required with labels. With "
        "`format: list`, label maps are only read if it is set. "
        "Standard datasets have their own classes.",
    )


@dataclass(frozen=True, kw_only=True)
class OwnFormat(Format):
    """A user's own images; labels and their classes are optional.

    Attributes
    ----------
    reads : str
        What `dataset.images` must be, for messages.
    labels_key : str
        The key that says where the labels are.
    """

    own: bool = True
    reads: str
    labels_key: ClassVar[str]

    def follow(self, dataset: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return one labelling seed where there are no labels, and so no scores to average."""
        labelled = dataset.get(self.labels_key) is not None
        return {} if labelled else {"labelling": {"seeds": [0]}}

    def labelled(self, dataset: Any) -> bool:
        """Return whether it is set where the labels are."""
        return getattr(dataset, self.labels_key) is not None

    def classes_file(self, dataset: OwnKeys, generated: Path) -> Path | None:
        """Return the configured file."""
        return dataset.classes

    def contradictions(self, dataset: OwnKeys) -> Iterator[str]:
        """Yield a message for each missing key."""
        if dataset.images is None:
            yield f"dataset.images = none: `format: {self.name}` needs {self.reads}"
        if self.labelled(dataset) and dataset.classes is None:
            yield "dataset.classes = none: labels need a classes.csv with the columns id,name"


def list_containers(
    images: Path, suffixes: tuple[str, ...], others: list[str], *, one: str, many: str
) -> tuple[Path, list[str]]:
    """Return a folder and the paths below it of the files that hold the images.

    Parameters
    ----------
    images : Path
        Such a file, or a folder that is searched with its subfolders.
    suffixes : tuple of str
        Suffixes of such files, in lower case.
    others : list of str
        The paths of all other files are added to this list.
    one, many : str
        For messages: what `images` may be besides a folder, and what was not found in a folder.

    Raises
    ------
    DatasetError
        If `images` does not exist, or is a folder without such a file.
    """
    if not images.is_dir():
        if not images.exists():
            raise DatasetError(
                f"dataset.images = {str(images)!r}: there is no such folder or {one}"
            )
        return images.parent, [images.name]
    containers, rest = _search(images, suffixes)
    if not containers:
        raise DatasetError(f"dataset.images = {str(images)!r}: no {many}")
    others.extend(rest)
    return images, containers


def stamp_of_containers(images: Path, suffixes: tuple[str, ...]) -> str:
    """Return the `Format.listing_stamp` of files that hold the images; see `list_containers`."""
    containers, rest = _search(images, suffixes) if images.is_dir() else ([], [])
    states = combine_states([f"{images}/{name}" for name in containers] or [str(images)])
    return combine([states, *containers, *rest]) if states else ""


def _search(folder: Path, suffixes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the paths below a folder of the files with these suffixes, and of all others."""
    found = sorted(walk(folder))
    containers = [name for name in found if name.lower().endswith(suffixes)]
    return containers, [name for name in found if not name.lower().endswith(suffixes)]
