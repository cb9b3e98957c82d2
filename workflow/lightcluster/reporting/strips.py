"""Read everything a run knows about an image, and draw it as one row of a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.labels import IGNORED, Classes, open_label, to_indices
from lightcluster.datasets.manifest import Row, Sample
from lightcluster.errors import ImageError, StoreError
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.extraction.images import open_row
from lightcluster.masks.consistency import LEVELS
from lightcluster.masks.patches import (
    LevelMasks,
    PatchScores,
    read_level_masks,
    read_patch_scores,
)
from lightcluster.masks.pixels import PixelMasks, read_pixel_masks
from lightcluster.regions.painted import painted_file, read_segmentation
from lightcluster.reporting.contact_sheet import (
    DISAGREEMENT,
    ERRORS,
    MASKS,
    SEGMENTATION,
    ColourKey,
    Marks,
    Strip,
    make_strip,
)
from lightcluster.reporting.overlays import CELL, EXTRA, MISSED
from lightcluster.reporting.tables import MATCHING_NAMES, read_table

PATCH_ABOVE = 0.5
"""The score above which a patch is drawn as foreground."""


class MaskFolders(NamedTuple):
    """The folders of ``<shard>.npz`` in which masks and scores are.

    Attributes
    ----------
    merged, scores, pixel : Path
        Of `merge_levels`, `score_patches` and `refine_masks`.
    """

    merged: Path
    scores: Path
    pixel: Path


@dataclass(frozen=True)
class Sources:
    """The files that a contact sheet is drawn from; see `report`.

    `background` is the position of the background class, if masks were scored against it.
    """

    masks: MaskFolders | None
    segmentation: Path
    classes: Classes | None
    ignore: int
    max_pixels: int
    key: ColourKey
    background: int | None = None


def read_colour_key(matching: Path, classes: Classes) -> ColourKey:
    """Read the class of each cluster: first protocol, its own matching, first seed."""
    table = read_table(matching)
    first = table.iloc[0]
    own, seed = str(first["matching"]), str(first["seed"])
    for column in ("protocol", "matching", "seed"):
        table = table[table[column] == first[column]]
    position = {name: number for number, name in enumerate(classes.names)}
    matched = np.full(int(table["cluster"].max()) + 1, UNMATCHED, np.int64)
    matched[table["cluster"]] = [position.get(name, UNMATCHED) for name in table["class"]]
    caption = (
        "Colours: clusters, as in the gallery and in exports. The truth has the colours of the "
        f"clusters matched to its classes by the labels ({MATCHING_NAMES[own]}, seed {seed})."
    )
    return ColourKey(classes.names, matched, caption)


def load_strips(
    sources: Sources, chosen: list[Sample], box: tuple[int, int] = CELL, *, marked: bool = False
) -> Iterator[Strip]:
    """Yield the row of each chosen image, with the masks of one shard at a time in memory.

    If it is to be `marked`, it has further pictures: `ERRORS` and `DISAGREEMENT`.
    """
    for shard, members in groupby(chosen, key=lambda sample: sample.shard):
        found = None
        if sources.masks is not None:
            merged, scores, pixel = (folder / f"{shard}.npz" for folder in sources.masks)
            found = read_level_masks(merged), read_patch_scores(scores), read_pixel_masks(pixel)
        for sample in members:
            masks = {} if found is None else masks_of(sample, *found)
            yield load_strip(sources, sample, masks, box, marked=marked)


def masks_of(
    sample: Sample, levels: LevelMasks, scores: PatchScores, pixels: PixelMasks
) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of an image by their headings.

    Raises
    ------
    StoreError
        If its shard does not hold it.
    """
    image_id = sample.row.image_id
    try:
        level, patch, pixel = (of.image_id.index(image_id) for of in (levels, scores, pixels))
    except ValueError:
        raise StoreError(
            f"shard {sample.shard} holds no masks of {image_id!r}: it is of another listing "
            "of the dataset; run snakemake again"
        ) from None
    patch_mask = scores.score_of(patch) > PATCH_ABOVE
    masks = (*levels.votes_of(level), patch_mask, pixels.mask_of(pixel))
    return dict(zip(MASKS, masks, strict=True))


def load_strip(
    sources: Sources,
    sample: Sample,
    masks: dict[str, NDArray[np.bool_]],
    box: tuple[int, int],
    *,
    marked: bool,
) -> Strip:
    """Read all that is known of one image and draw it.

    Raises
    ------
    ImageError
        If the image or its label can no longer be read.
    """
    row = sample.row
    image, truth = read_image(row, sources.classes, sources.ignore, sources.max_pixels, box)
    painted = read_segmentation(painted_file(sources.segmentation, sample))
    marks = marks_of(sources, masks, painted, truth) if marked else {}
    return make_strip(
        row, image, masks, {SEGMENTATION: painted},
        None if truth is None else sources.key.values_of(truth), box, marks,
        labelled=sources.classes is not None,
    )  # fmt: skip


def marks_of(
    sources: Sources,
    masks: dict[str, NDArray[np.bool_]],
    painted: NDArray[np.integer],
    truth: NDArray[np.uint16] | None,
) -> Marks:
    """Return what is wrong with the mask or the segmentation, and where the levels disagree.

    Without a background class, or masks, all pixels of another class than the true one are wrong.
    """
    marks: dict[str, list[tuple[NDArray[np.bool_], tuple[int, int, int]]]] = {}
    if truth is not None:
        known = truth != IGNORED
        if masks and sources.background is not None:
            mask, there = masks[MASKS[-1]], truth != sources.background
            parts = [(known & there & ~mask, MISSED), (known & ~there & mask, EXTRA)]
        else:
            parts = [(known & (sources.key.cluster_to_class[painted] != truth), MISSED)]
        marks[ERRORS] = parts
    if masks:
        votes = np.stack([masks[heading] for heading in MASKS[: len(LEVELS)]])
        marks[DISAGREEMENT] = [((votes != votes[0]).any(axis=0), MISSED)]
    return marks


def read_image(
    row: Row, classes: Classes | None, ignore: int, max_pixels: int, box: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None]:
    """Return an image, about as large as the box, and the positions of its true classes.

    Returns
    -------
    uint8 array, shape (any height, any width, 3)
    uint16 array, shape (height, width), or None
        None without a label.

    Raises
    ------
    ImageError
        If one of them can no longer be read.
    """
    image = open_row(row.image, max_pixels, draft_size=box)
    try:
        if row.label is None or classes is None:
            return image, None
        label = open_label(row.label, (row.height, row.width))
        return image, to_indices(label, classes, ignore)
    except ImageError as error:
        raise ImageError(f"{str(row.path)!r}: {error}") from None
