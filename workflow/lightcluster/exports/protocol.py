"""The interface of exporters, used by the command line and the Python API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightcluster.exports.segmentation import Segmentation


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of an export. An exporter ignores options that do not apply to its format.

    Attributes
    ----------
    tolerance : float
        Pixels that polygons may be off the outlines of objects; 0: none, and formats that have
        masks as well get masks.
    images : str, optional
        Folder or URL in front of the image ids in what is written; by default it is what the
        format's reader expects.
    """

    tolerance: float = 1.0
    images: str | None = None

    def place_of(self, image_id: str, default: str) -> str:
        """Return where an image is for the reader of a file: below `images`, or the default."""
        if self.images is None:
            return default
        between = "" if self.images.endswith(("/", "=")) else "/"
        return f"{self.images}{between}{image_id}"


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """A target of `lightcluster export`.

    Attributes
    ----------
    name : str
        Value of ``--to``.
    summary : str
        What it is and what it writes, for the help.
    write : callable
        Takes the segmentations, the file or folder to write, and the options; returns the number
        of objects. What it writes appears only when complete (see `files.replacing`).
    """

    name: str
    summary: str
    write: Callable[[Segmentation, Path, Options], int]
