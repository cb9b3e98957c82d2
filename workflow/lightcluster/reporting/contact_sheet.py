"""Contact sheets: a few images, each in a row of its own with all stages of its masks.

The choice of images is fixed by a seed and nearly independent of what else is in the dataset, so
that the sheets of two runs, or of a dataset before and after it has grown, can be laid side by
side.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lightcluster.datasets.labels import IGNORED
from lightcluster.datasets.manifest import Row, Sample
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.masks.consistency import LEVELS
from lightcluster.regions.palette import VOC_PALETTE

Value = TypeVar("Value", bound=np.generic)

ROWS_PER_PAGE = 8
CELL = (150, 200)
"""Height and width of the box that each picture is fitted into."""

MASKS = (*(f"{level} level" for level in LEVELS), "patch mask", "refined mask")
SEGMENTATION, TRUTH = "segmentation", "ground truth"
COLUMNS = ("image", *MASKS, SEGMENTATION, TRUTH)
"""What there may be of an image in one run, in this order."""

MARGIN, GAP = 12, 6
HEADING_HEIGHT, CAPTION_HEIGHT, LEGEND_HEIGHT = 24, 22, 20
SWATCH = (12, 22)

INK, FAINT, PAPER, EMPTY = (30, 30, 30), (110, 110, 110), (255, 255, 255), (238, 238, 238)
OUTLINE = (255, 214, 0)
UNMATCHED_COLOUR = (210, 210, 210)
HATCH = (150, 150, 150)

BACKGROUND_LIGHT = 0.3
CLASS_ALPHA = 0.65


# ---- choosing ------------------------------------------------------------------------------------


def choose_images(
    images: Iterable[Sample], samples: int, seed: int, *, prefer_labelled: bool = True
) -> list[Sample]:
    """Choose a few images at random.

    Every image draws a lot from its id and the seed, and the lowest lots win. An added image
    therefore displaces at most one other; memory is that of the chosen ones.

    Parameters
    ----------
    images : iterable of Sample
        In any order; the choice does not depend on it.
    samples : int
        Number wanted; all images if there are fewer.
    seed : int
    prefer_labelled : bool
        Take images without a label only once those with one are used up.

    Returns
    -------
    list of Sample
        Ordered by shard and id.
    """

    def lot(image: Sample) -> tuple[bool, bytes]:
        draw = hashlib.blake2b(f"{seed} {image.row.image_id}".encode(), digest_size=16).digest()
        return prefer_labelled and image.row.label is None, draw

    chosen = heapq.nsmallest(samples, images, key=lot)
    return sorted(chosen, key=lambda image: (image.shard, image.row.image_id))


# ---- colours -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ColourKey:
    """Which class each cluster is drawn as.

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
    """

    names: tuple[str, ...] | None
    cluster_to_class: NDArray[np.int64]
    caption: str
    background: bool = True

    @classmethod
    def of_clusters(cls, *, background: bool) -> ColourKey:
        """Return the key of a dataset without labels; 0 may be the background, or a cluster."""
        caption = "Colours: clusters, in arbitrary order (there are no labels to compare with)."
        return cls(None, np.arange(65_536), caption, background)

    def describe(self, position: int) -> str:
        """Return the text of a class in the legend, with the clusters matched to it."""
        if position == UNMATCHED:
            return "clusters matched to no class"
        if self.names is None:
            return f"cluster {position}" if position or not self.background else "background"
        clusters = np.flatnonzero(self.cluster_to_class == position)
        name = shorten(printable(self.names[position]), 40)
        if not len(self.cluster_to_class):
            return name
        if not len(clusters):
            return f"{name} (no cluster)"
        listed = ", ".join(map(str, clusters[:4])) + " …" * (len(clusters) > 4)
        return f"{name} (cluster{'s' * (len(clusters) > 1)} {listed})"


def class_colours(classes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the colour of each class, that of PASCAL VOC at its position.

    Parameters
    ----------
    classes : int array, any shape
        Positions of classes, or `matching.UNMATCHED`. Colours repeat after 256.

    Returns
    -------
    uint8 array, shape (..., 3)
    """
    colours = VOC_PALETTE[classes.astype(np.int64) % len(VOC_PALETTE)]
    colours[classes == UNMATCHED] = UNMATCHED_COLOUR
    return colours


def hatching(height: int, width: int) -> NDArray[np.uint8]:
    """Return diagonal lines on white, uint8, shape (height, width, 3): pixels without truth."""
    hatched = np.full((height, width, 3), PAPER, np.uint8)
    hatched[np.add.outer(np.arange(height), np.arange(width)) % 6 == 0] = HATCH
    return hatched


# ---- pictures ------------------------------------------------------------------------------------


def fit_box(height: int, width: int, box: tuple[int, int] = CELL) -> tuple[int, int]:
    """Return the largest size of an image's aspect ratio inside a box; no side is below 1."""
    scale = min(box[0] / height, box[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_nearest(array: NDArray[Value], size: tuple[int, int]) -> NDArray[Value]:
    """Return `array` [height, width] at another size, each pixel from the nearest one."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for old, new in zip(array.shape, size, strict=True)
    )
    resized: NDArray[Value] = array[rows[:, None], columns]
    return resized


def edges(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return the pixels [height, width] that differ from the next one to the right or below."""
    differs = np.zeros(values.shape, bool)
    differs[:, :-1] |= values[:, :-1] != values[:, 1:]
    differs[:-1] |= values[:-1] != values[1:]
    return differs


def grey_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luminance of an RGB image, uint8, shape (height, width, 1)."""
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def overlay_mask(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw a mask: its foreground as it is, outlined, on a dark and colourless background.

    Parameters
    ----------
    image : uint8 array, shape (height, width, 3)
    mask : bool array, shape (height, width)

    Returns
    -------
    uint8 array, shape (height, width, 3)
    """
    dark = (grey_of(image) * BACKGROUND_LIGHT).astype(np.uint8)
    drawn = np.where(mask[..., None], image, dark)
    drawn[edges(mask)] = OUTLINE
    return drawn


def overlay_classes(
    image: NDArray[np.uint8], classes: NDArray[np.integer], alpha: float = CLASS_ALPHA
) -> NDArray[np.uint8]:
    """Draw classes: their colours on the colourless image, with white borders.

    Parameters
    ----------
    image : uint8 array, shape (height, width, 3)
    classes : int array, shape (height, width)
        Positions of classes, `matching.UNMATCHED` or `labels.IGNORED`, which is hatched.
    alpha : float
        Opacity of the colours, from 0 to 1.

    Returns
    -------
    uint8 array, shape (height, width, 3)
    """
    blended = (1 - alpha) * grey_of(image) + alpha * class_colours(classes)
    drawn = np.rint(blended).astype(np.uint8)
    drawn[edges(classes)] = PAPER
    ignored = classes == IGNORED
    drawn[ignored] = hatching(*classes.shape)[ignored]
    return drawn


@dataclass(frozen=True)
class Strip:
    """One row of a contact sheet.

    Attributes
    ----------
    caption : str
    cells : dict of str to uint8 array, shape (height, width, 3), or None
        Pictures no larger than the box asked for, by their headings; None where there is no label.
    classes : frozenset of int
        What the legend must explain: classes, `matching.UNMATCHED` and `labels.IGNORED`.
    """

    caption: str
    cells: dict[str, NDArray[np.uint8] | None]
    classes: frozenset[int]


def make_strip(
    row: Row,
    image: NDArray[np.uint8],
    masks: Mapping[str, NDArray[np.bool_]],
    segmentations: Mapping[str, tuple[NDArray[np.integer], ColourKey]],
    truth: NDArray[np.integer] | None,
    box: tuple[int, int] = CELL,
) -> Strip:
    """Draw all pictures of one image.

    Parameters
    ----------
    row : Row
    image : uint8 array, shape (any height, any width, 3)
        Of the aspect ratio of `row`, at whatever size it was decoded.
    masks : mapping of str to bool array, shape (any height, any width)
        By their headings; patches or pixels.
    segmentations : mapping of str to (int array, shape (height, width), and ColourKey)
        Clusters, and what they are drawn as, by their headings.
    truth : int array, shape (height, width), or None
        Positions of classes, or `labels.IGNORED`.
    box : (int, int)
        Height and width that no picture exceeds.
    """
    size = fit_box(row.height, row.width, box)
    small = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))
    painted = {
        heading: key.cluster_to_class[resize_nearest(clusters, size)]
        for heading, (clusters, key) in segmentations.items()
    }
    if truth is not None:
        painted[TRUTH] = resize_nearest(truth, size).astype(np.int64)
    cells: dict[str, NDArray[np.uint8] | None] = {"image": small}
    for heading, mask in masks.items():
        cells[heading] = overlay_mask(small, resize_nearest(mask, size))
    cells |= {heading: overlay_classes(small, classes) for heading, classes in painted.items()}
    if truth is None and any(key.names is not None for _, key in segmentations.values()):
        cells[TRUTH] = None
    return Strip(
        caption=f"{printable(row.image_id)}   {row.width} × {row.height}",
        cells=cells,
        classes=frozenset(
            int(value) for classes in painted.values() for value in np.unique(classes)
        ),
    )


# ---- text ----------------------------------------------------------------------------------------


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the sans-serif font that comes with matplotlib."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def printable(text: str) -> str:
    r"""Return `text` on one line: what cannot be printed, as line feeds, becomes ``\n`` or so."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shorten(text: str, length: int) -> str:
    """Return `text` with an ellipsis in its middle if it has more than `length` characters."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def fit_text(text: str, width: int, face: ImageFont.FreeTypeFont) -> str:
    """Return `text`, shortened if it is wider than `width` pixels."""
    length, fitted = len(text), text
    while length > 1 and face.getlength(fitted) > width:
        length = min(length - 1, int(length * width / face.getlength(fitted)))
        fitted = shorten(text, max(length, 1))
    return fitted


# ---- pages ---------------------------------------------------------------------------------------


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
        text = "no ground truth (ignored)" if value == IGNORED else key.describe(value)
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
