"""Contact sheets: a few images, each in a row of its own with all stages of its masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lightcluster.datasets.labels import IGNORED
from lightcluster.datasets.manifest import Row
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.masks.consistency import LEVELS
from lightcluster.reporting.lettering import fit_text, font, printable, shorten
from lightcluster.reporting.overlays import (
    CELL,
    EMPTY,
    FAINT,
    INK,
    PAPER,
    fit_box,
    overlay_classes,
    overlay_marks,
    overlay_mask,
    resize_nearest,
)

ROWS_PER_PAGE = 8
MASKS = (*(f"{level} level" for level in LEVELS), "patch mask", "refined mask")
SEGMENTATION, TRUTH = "segmentation", "ground truth"
COLUMNS = ("image", *MASKS, SEGMENTATION, TRUTH)
"""All possible columns, in the order in which they are drawn."""

ERRORS, DISAGREEMENT = "errors", "disagreement"
"""Headings: segmentation or mask against ground truth, and the levels against each other."""

Marks = Mapping[str, Sequence[tuple[NDArray[np.bool_], tuple[int, int, int]]]]
"""By heading: masks, bool [any height, any width], each with the colour to mark it in."""

MARGIN, GAP = 12, 6
HEADING_HEIGHT, CAPTION_HEIGHT, LEGEND_HEIGHT = 24, 22, 20
SWATCH = (12, 22)


@dataclass(frozen=True)
class ColourKey:
    """What the colours of pictures mean: a cluster has its own, and a class that of its cluster.

    Attributes
    ----------
    names : tuple of str, or None
        Classes of the dataset; None if it has none: clusters then are classes of their own.
    cluster_to_class : int64 array, shape (clusters,)
        Position of the class matched to each cluster, or `matching.UNMATCHED`; of no length for
        classes alone.
    caption : str
        Says in the legend what the colours mean.
    background : bool
        Whether cluster 0 is the background, if there are no classes.
    called : mapping of int to str
        Names that a person gave to clusters, if there are no classes.
    """

    names: tuple[str, ...] | None
    cluster_to_class: NDArray[np.int64]
    caption: str
    background: bool = True
    called: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of_clusters(cls, *, background: bool, called: Mapping[int, str] | None = None) -> ColourKey:
        """Return the key of a dataset without labels; 0 may be the background, or a cluster."""
        caption = "Colours: clusters, in arbitrary order (there are no labels to compare with)."
        return cls(None, np.arange(65_536), caption, background, called or {})

    @cached_property
    def class_values(self) -> NDArray[np.int64]:
        """The value in whose colour each class of the truth is drawn: int64, shape (classes,).

        That of the first cluster matched to it; of a class without, one that no cluster has.
        """
        clusters, names = len(self.cluster_to_class), self.names or ()
        values = clusters + np.arange(len(names))
        for cluster in reversed(range(clusters if names else 0)):
            if (position := self.cluster_to_class[cluster]) != UNMATCHED:
                values[position] = cluster
        return values

    def values_of(self, truth: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the `class_values` of positions of classes; `labels.IGNORED` stays."""
        known = truth != IGNORED
        values = np.full(truth.shape, IGNORED, np.int64)
        values[known] = self.class_values[truth[known]]
        return values

    def describe(self, value: int) -> str:
        """Return the text of a value in the legend: its cluster, and the class of that."""
        if value == UNMATCHED:
            return "clusters matched to no class"
        if value == IGNORED and self.names is not None:
            return "no ground truth (ignored)"
        cluster, clusters = f"cluster {value}", len(self.cluster_to_class)
        if self.names is None:
            if not value and self.background:
                return "background"
            name = self.called.get(value)
            return f"{shorten(printable(name), 40)} ({cluster})" if name else cluster
        if value >= clusters:
            name = shorten(printable(self.names[value - clusters]), 40)
            return f"{name} (no cluster)" if clusters else name
        position = int(self.cluster_to_class[value])
        if position == UNMATCHED:
            return f"{cluster} (no class)"
        return f"{shorten(printable(self.names[position]), 40)} ({cluster})"


@dataclass(frozen=True)
class Strip:
    """One row of a contact sheet.

    Attributes
    ----------
    name, size : str
        Of the image.
    cells : dict of str to uint8 array, shape (height, width, 3), or None
        Pictures no larger than the box asked for, by their headings; None where there is no label.
    classes : frozenset of int
        What the legend must explain: values, `matching.UNMATCHED` and `labels.IGNORED`.
    """

    name: str
    size: str
    cells: dict[str, NDArray[np.uint8] | None]
    classes: frozenset[int]

    @property
    def caption(self) -> str:
        """Name and size."""
        return f"{self.name}   {self.size}"


def make_strip(
    row: Row,
    image: NDArray[np.uint8],
    masks: Mapping[str, NDArray[np.bool_]],
    segmentations: Mapping[str, NDArray[np.integer]],
    truth: NDArray[np.integer] | None,
    box: tuple[int, int] = CELL,
    marks: Marks | None = None,
    *,
    labelled: bool = False,
) -> Strip:
    """Draw all pictures of one image.

    Parameters
    ----------
    row : Row
    image : uint8 array, shape (any height, any width, 3)
        Of the aspect ratio of `row`, at whatever size it was decoded.
    masks : mapping of str to bool array, shape (any height, any width)
        By their headings; patches or pixels.
    segmentations : mapping of str to int array, shape (height, width)
        Values, or `matching.UNMATCHED`, by their headings.
    truth : int array, shape (height, width), or None
        Values, or `labels.IGNORED`.
    box : (int, int)
        Height and width that no picture exceeds.
    marks : Marks, optional
        What is tinted in further pictures.
    labelled : bool, optional
        Whether there is a place for the truth even if there is none.
    """
    size = fit_box(row.height, row.width, box)
    small = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))
    painted = {
        heading: resize_nearest(values, size).astype(np.int64)
        for heading, values in segmentations.items()
    }
    if truth is not None:
        painted[TRUTH] = resize_nearest(truth, size).astype(np.int64)
    cells: dict[str, NDArray[np.uint8] | None] = {"image": small}
    for heading, mask in masks.items():
        cells[heading] = overlay_mask(small, resize_nearest(mask, size))
    cells |= {heading: overlay_classes(small, classes) for heading, classes in painted.items()}
    if truth is None and labelled:
        cells[TRUTH] = None
    for heading, parts in (marks or {}).items():
        resized = [(resize_nearest(mask, size), colour) for mask, colour in parts]
        cells[heading] = overlay_marks(small, resized)
    return Strip(
        name=printable(row.image_id),
        size=f"{row.width} × {row.height}",
        cells=cells,
        classes=frozenset(
            int(value) for classes in painted.values() for value in np.unique(classes)
        ),
    )


def draw_contact_sheets(strips: Iterable[Strip], key: ColourKey) -> Iterator[Image.Image]:
    """Yield the pages of a contact sheet, with the strips of one in memory."""
    rest = iter(strips)
    while page := list(islice(rest, ROWS_PER_PAGE)):
        yield draw_contact_sheet(page, key)


def draw_contact_sheet(strips: Sequence[Strip], key: ColourKey) -> Image.Image:
    """Draw one page: headings, a row for each image, and a legend of the classes seen on it.

    Parameters
    ----------
    strips : sequence of Strip
        At least one, all of the same columns.
    key : ColourKey

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    width = 2 * MARGIN + len(strips[0].cells) * (CELL[1] + GAP) - GAP
    legend = arrange_legend({value for strip in strips for value in strip.classes}, key, width)
    row_height = CELL[0] + CAPTION_HEIGHT
    legend_top = MARGIN + HEADING_HEIGHT + len(strips) * row_height + GAP
    height = legend_top + (1 + legend.lines) * LEGEND_HEIGHT + MARGIN
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    for column, heading in enumerate(strips[0].cells):
        x = MARGIN + column * (CELL[1] + GAP) + CELL[1] // 2
        draw.text((x, MARGIN), fit_text(heading, CELL[1], font(13)), INK, font(13), anchor="ma")
    for number, strip in enumerate(strips):
        draw_strip(page, strip, MARGIN + HEADING_HEIGHT + number * row_height)
    caption = fit_text(key.caption, width - 2 * MARGIN, font(11))
    draw.text((MARGIN, legend_top), caption, FAINT, font(11))
    for item in legend.items:
        draw_legend_item(page, item, legend_top + LEGEND_HEIGHT)
    return page


def draw_strip(page: Image.Image, strip: Strip, top: int) -> None:
    """Draw the cells of a strip, each in the middle of its box, and the caption below them."""
    draw = ImageDraw.Draw(page)
    for column, cell in enumerate(strip.cells.values()):
        left = MARGIN + column * (CELL[1] + GAP)
        if cell is None:
            middle = (left + CELL[1] // 2, top + CELL[0] // 2)
            draw.rectangle((left, top, left + CELL[1] - 1, top + CELL[0] - 1), EMPTY)
            draw.text(middle, "no label", FAINT, font(12), anchor="mm")
            continue
        height, width = cell.shape[:2]
        corner = (left + (CELL[1] - width) // 2, top + (CELL[0] - height) // 2)
        page.paste(Image.fromarray(cell), corner)
    caption = fit_text(strip.caption, page.width - 2 * MARGIN, font(10))
    draw.text((MARGIN, top + CELL[0] + 3), caption, FAINT, font(10))


@dataclass(frozen=True)
class LegendItem:
    """The swatch of a class and its text; `x` in pixels, `line` counted from 0."""

    value: int
    text: str
    x: int
    line: int


@dataclass(frozen=True)
class Legend:
    """The items of a legend, broken into lines."""

    items: list[LegendItem]
    lines: int


def arrange_legend(classes: set[int], key: ColourKey, width: int) -> Legend:
    """Place the classes of a page from left to right, breaking lines at its `width`."""
    items: list[LegendItem] = []
    x, line = MARGIN, 0
    for value in sorted(classes, key=lambda value: (value == UNMATCHED, value)):
        text = key.describe(value)
        advance = SWATCH[1] + GAP + int(font(11).getlength(text)) + 3 * GAP
        if items and x + advance > width - MARGIN:
            x, line = MARGIN, line + 1
        items.append(LegendItem(value, text, x, line))
        x += advance
    return Legend(items, line + 1)


def draw_legend_item(page: Image.Image, item: LegendItem, top: int) -> None:
    """Draw one item of the legend, in the very colour that the class has over a grey image."""
    y = top + item.line * LEGEND_HEIGHT
    grey = np.full((*SWATCH, 3), 128, np.uint8)
    page.paste(Image.fromarray(overlay_classes(grey, np.full(SWATCH, item.value))), (item.x, y))
    ImageDraw.Draw(page).rectangle(
        (item.x, y, item.x + SWATCH[1] - 1, y + SWATCH[0] - 1), outline=FAINT
    )
    ImageDraw.Draw(page).text((item.x + SWATCH[1] + GAP, y - 1), item.text, INK, font(11))
