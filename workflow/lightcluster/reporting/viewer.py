"""Images beside each of their stages, as sections of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from lightcluster.progress import progress
from lightcluster.reporting.contact_sheet import COLUMNS, DISAGREEMENT, ERRORS, Strip
from lightcluster.reporting.page import embed_picture

BOX = (240, 320)
"""Height and width of the box that each picture is fitted into."""

QUALITY = 75
STAGES = (*COLUMNS[1:], ERRORS, DISAGREEMENT)
"""Pictures that can be shown next to the image, in this order."""


@dataclass(frozen=True)
class Picture:
    """One image of the viewer.

    Attributes
    ----------
    name, size : str
    note : str
        Why it is shown, if not by chance.
    stages : dict of str to str
        Data URI of the image and of each of the `STAGES` that there is.
    """

    name: str
    size: str
    note: str
    stages: dict[str, str]


@dataclass(frozen=True)
class Section:
    """Images that are shown for one reason.

    Attributes
    ----------
    id : str
        Of the section of the page.
    title, text : str
    pictures : list of Picture
    first : str
        The stage that is shown at first.
    legend : list of (str, str)
        Colours and what they mean.
    """

    id: str
    title: str
    text: str
    pictures: list[Picture]
    first: str
    legend: list[tuple[str, str]]

    @property
    def stages(self) -> list[str]:
        """The `STAGES` that some of its images have."""
        there = {stage for picture in self.pictures for stage in picture.stages}
        return [stage for stage in STAGES if stage in there]


def make_pictures(strips: Iterable[Strip], notes: Sequence[str]) -> list[Picture]:
    """Turn strips, one for each of the notes, into pictures."""
    return [
        Picture(
            name=strip.name,
            size=strip.size,
            note=note,
            stages={
                stage: embed_picture(Image.fromarray(cell), QUALITY)
                for stage, cell in strip.cells.items()
                if cell is not None
            },
        )
        for strip, note in zip(progress(strips, "viewer", len(notes)), notes, strict=True)
    ]
