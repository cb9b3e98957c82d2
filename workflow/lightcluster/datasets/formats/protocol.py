"""The interface of dataset formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from lightcluster.datasets.entries import Entry
from lightcluster.sections import Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Painter(Protocol):
    """Paints the label maps of a format that stores them in another form.

    Attributes
    ----------
    remarks : list of str
        Problems of the source that concern no single image.
    """

    remarks: list[str]

    def names(self) -> list[str]:
        """Return the names of the image files that the source lists."""
        ...

    def paint(self, file_name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the label map of an image, given its (height, width), or raise an ImageError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Format(ABC):
    """A dataset format: where images and label maps are stored, and what label values mean.

    Methods are given the configuration section `dataset`. Keys that only one format reads are
    declared with that format.

    Attributes
    ----------
    name : str
        Value of `dataset.format`.
    summary : str
        Short description for the table entry of this key.
    classes : tuple of str
        Names of the classes by their ids, from 0; empty if they are read from ``classes.csv``.
    background : int or None
        Id of the background class, if the classes are built in.
    own : bool
        Whether the labels are the user's own, so that mistakes in them are likely.
    step : str
        The workflow step that generates the labels, if only this format has it; else empty.
    draws : bool
        Whether this step also generates the images.
    keys : type
        The keys of the section `dataset` that only this and similar formats read.
    """

    keys: ClassVar[type[Section]] = Section
    name: str
    summary: str = ""
    classes: tuple[str, ...] = ()
    background: int | None = 0
    own: bool = False
    step: str = ""
    draws: bool = False

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Defaults of this format for keys of the section `dataset`."""
        return {}

    def contradictions(self, dataset: Any) -> Iterator[str]:
        """Yield a message for each key of the dataset that contradicts this format."""
        yield from ()

    @abstractmethod
    def entries(self, dataset: Any, generated: Path, others: list[str]) -> list[Entry]:
        """List all images in the order of their ids.

        Parameters
        ----------
        dataset : DatasetSettings
        generated : Path
            Folder of the files that `step` generates; may not exist yet.
        others : list of str
            The paths of files in the image folder that are not images are added to this list.

        Returns
        -------
        list of Entry

        Raises
        ------
        DatasetError
            If a folder or another part of the layout is missing, or there are no images.
        """

    def listing_stamp(self, dataset: Any) -> str:
        """Return a digest of all that `entries` reads; as long as it is the same, so are they.

        It is empty if the images have to be listed each time: by default, and if something was
        changed so recently that a further change might leave the digest the same.
        """
        return ""

    def sources(self, entry: Entry) -> tuple[str, ...]:
        """Return the files of an image that `step` does not generate; empty text for none."""
        return entry.places

    def step_reads(self, dataset: Any) -> list[Path]:
        """Return the files that `step` reads, apart from images."""
        return []

    def painter(self, dataset: Any) -> Painter | None:
        """Return the painter of label maps, if `step` paints them.

        Raises
        ------
        DatasetError
            If its source cannot be read.
        """
        return None

    def follow(self, dataset: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return defaults of keys, as nested sections, that follow from the section `dataset`.

        Parameters
        ----------
        dataset : mapping of str to object
            What is set of it, not validated yet.
        """
        return {}

    def labelled(self, dataset: Any) -> bool:
        """Return whether there are labels for evaluation."""
        return True

    def classes_file(self, dataset: Any, generated: Path) -> Path | None:
        """Return the path of ``classes.csv``, if the format has one."""
        return None

    def read_label(self, source: Path | bytes, size: tuple[int, int]) -> NDArray[np.uint16]:
        """Return the class ids of a label map; see `labels.read_label`."""
        from lightcluster.datasets.label_values import read_values

        return read_values(source, size)

    def how_to_get(self, dataset: Any) -> str:
        """Return the commands that download and unpack the data; empty if there are none."""
        return ""
