"""What the format of a dataset is to the rest of the program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lightcluster.datasets.entries import Entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Painter(Protocol):
    """What paints the label maps of a format that are stored in another form.

    Attributes
    ----------
    remarks : list of str
        What is wrong with the source, and concerns no single image.
    """

    remarks: list[str]

    def names(self) -> list[str]:
        """Return the names of the image files that the source knows."""
        ...

    def paint(self, file_name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the label map of an image of a height and width, or raise an ImageError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Format(ABC):
    """A format of datasets: which images there are, where their labels are, what these mean.

    Methods are given the section `dataset` of the configuration; each format declares the keys of
    it that only it reads.

    Attributes
    ----------
    name : str
        Value of `dataset.format`.
    summary : str
        What it is, for the table of that key.
    classes : tuple of str
        Names of its classes by their ids, from 0; empty where a ``classes.csv`` has them.
    background : int or None
        Id of the background where classes are built in.
    own : bool
        Whether labels are the user's own, so that mistakes in them are likely.
    step : str
        The step of the workflow that only this format has, and that makes its labels.
    draws : bool
        Whether that step makes the images, too.
    """

    name: str
    summary: str = ""
    classes: tuple[str, ...] = ()
    background: int | None = 0
    own: bool = False
    step: str = ""
    draws: bool = False

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Values of keys of the section `dataset` that are not set."""
        return {}

    def contradictions(self, dataset: Any) -> Iterator[str]:
        """Yield the mistakes that lie between this format and another key of the dataset."""
        yield from ()

    @abstractmethod
    def entries(self, dataset: Any, generated: Path, others: list[str]) -> list[Entry]:
        """List all images in the order of their ids.

        Parameters
        ----------
        dataset : DatasetSettings
        generated : Path
            Where what `step` makes is, or will be.
        others : list of str
            Paths of files among the images that are none are added to it.

        Raises
        ------
        DatasetError
            If a folder or another part of the layout is missing, or no image is there.
        """

    def sources(self, entry: Entry) -> tuple[str, ...]:
        """Return the files of an image that `step` does not make; empty text for none."""
        return entry.places

    def step_reads(self, dataset: Any) -> list[Path]:
        """Return the files, images aside, that `step` reads."""
        return []

    def painter(self, dataset: Any) -> Painter | None:
        """Return what paints label maps, if `step` does.

        Raises
        ------
        DatasetError
            If its source cannot be read.
        """
        return None

    def labelled(self, dataset: Any) -> bool:
        """Tell whether there are labels to evaluate against."""
        return True

    def classes_file(self, dataset: Any, generated: Path) -> Path | None:
        """Return the ``classes.csv``, if there is one."""
        return None

    def read_label(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint16]:
        """Return the class ids of a label map; see `labels.read_label`."""
        from lightcluster.datasets.label_values import read_values

        return read_values(path, size)

    def how_to_get(self, dataset: Any) -> str:
        """Return the commands that get and place the data; empty if there are none."""
        return ""
