"""The part of the page in which one looks at images stage by stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lightcluster.progress import progress
from lightcluster.reporting.contact_sheet import COLUMNS, Strip
from lightcluster.reporting.page import embed_jpeg, fill_template

TEMPLATE = Path(__file__).with_name("viewer.html.j2")
BOX = (240, 320)
"""Height and width of the box that each picture is fitted into."""

QUALITY = 80
FIRST_SHOWN = "segmentation"


@dataclass(frozen=True)
class Picture:
    """One image of the viewer.

    Attributes
    ----------
    caption : str
    note : str
        Why it is shown, if not by chance.
    stages : dict of str to str
        Data URI of each of the `contact_sheet.COLUMNS` that there is.
    """

    caption: str
    note: str
    stages: dict[str, str]


@dataclass(frozen=True)
class Section:
    """Images that are shown for one reason."""

    title: str
    text: str
    pictures: list[Picture]


def make_pictures(strips: Iterable[Strip], notes: Sequence[str]) -> list[Picture]:
    """Turn the rows of a contact sheet, one for each of the notes, into pictures."""
    return [
        Picture(
            caption=strip.caption,
            note=note,
            stages={
                stage: embed_jpeg(Image.fromarray(cell), quality=QUALITY)
                for stage, cell in strip.cells.items()
                if cell is not None
            },
        )
        for strip, note in zip(progress(strips, "viewer", len(notes)), notes, strict=True)
    ]


def render_viewer(sections: Sequence[Section]) -> str:
    """Return the viewer as a fragment of HTML with its own style and script."""
    stages = [
        stage
        for stage in COLUMNS
        if any(stage in picture.stages for section in sections for picture in section.pictures)
    ]
    shown = [section for section in sections if section.pictures]
    return fill_template(TEMPLATE, sections=shown, stages=stages, first=FIRST_SHOWN)
