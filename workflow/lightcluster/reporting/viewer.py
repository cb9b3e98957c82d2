"""The part of the page in which one looks at images stage by stage, and which images those are."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcluster.datasets.manifest import Sample
from lightcluster.evaluation.counting import LabelledImage
from lightcluster.evaluation.mask_counts import STAGES, read_mask_counts
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.masks.consistency import read_patch_masks
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


def level_agreement(votes: NDArray[np.bool_]) -> float:
    """Return the share of patches on which all levels, bool [levels, …], say the same."""
    return float((votes == votes[0]).all(axis=0).mean())


def least_agreement(
    images: Iterable[Sample], patch_masks: Path, count: int
) -> list[tuple[float, Sample]]:
    """Find the images whose levels agree on the fewest patches.

    Parameters
    ----------
    images : iterable of Sample
        Those of a shard one after another.
    patch_masks : Path
        Folder of ``<shard>.npz``.
    count : int
        Images wanted; fewer if there are fewer.

    Returns
    -------
    list of (float, Sample)
        `level_agreement`, lowest first.
    """

    def agreements() -> Iterator[tuple[float, Sample]]:
        for shard, members in groupby(images, key=lambda sample: sample.shard):
            masks = read_patch_masks(patch_masks / f"{shard}.npz")
            by_id = {sample.row.image_id: sample for sample in members}
            for number, image_id in enumerate(masks.image_id):
                yield level_agreement(masks.votes_of(number)), by_id[image_id]

    return heapq.nsmallest(count, agreements(), key=lambda found: (found[0], found[1].row.image_id))


def lowest_iou(images: Iterable[Sample], counts: Path, count: int) -> list[tuple[float, Sample]]:
    """Find the images whose refined mask has the lowest IoU with the true foreground.

    Parameters
    ----------
    images, count
        See `least_agreement`.
    counts : Path
        Folder of ``<shard>.npz`` of `evaluation.mask_counts.count_masks`.

    Returns
    -------
    list of (float, Sample)
        IoU of the foreground, lowest first. Images without a label, or with neither true nor
        predicted foreground, are left out.
    """

    def ious() -> Iterator[tuple[float, Sample]]:
        for shard, members in groupby(images, key=lambda sample: sample.shard):
            tables = read_mask_counts(counts / f"{shard}.npz").tables()
            if not len(tables):  # no class is the background
                continue
            labelled = [sample for sample in members if sample.row.label is not None]
            for sample, table in zip(labelled, tables[:, STAGES.index("refined")], strict=True):
                if union := int(table.sum() - table[0, 0]):
                    yield int(table[1, 1]) / union, sample

    return heapq.nsmallest(count, ious(), key=lambda found: (found[0], found[1].row.image_id))


def lowest_accuracy(
    images: Iterable[Sample],
    counts: Iterable[LabelledImage],
    classes: NDArray[np.int64],
    count: int,
) -> list[tuple[float, Sample]]:
    """Find the images of whose pixels the fewest have the right class.

    Parameters
    ----------
    images, count
        See `least_agreement`.
    counts : iterable of LabelledImage
        Of `counting.iter_images`, in the order of the manifest.
    classes : int64 array, shape (clusters,)
        Position of the class matched to each cluster, or `matching.UNMATCHED`.

    Returns
    -------
    list of (float, Sample)
        Share of the pixels that have a true class, lowest first. Images without any are left out.
    """
    labelled = (sample for sample in images if sample.row.label is not None)
    matched = np.flatnonzero(classes != UNMATCHED)
    found = (
        (int(image.counts[matched, classes[matched]].sum()) / total, sample)
        for sample, image in zip(labelled, counts, strict=True)
        if (total := int(image.counts.sum()))
    )
    return heapq.nsmallest(count, found, key=lambda entry: (entry[0], entry[1].row.image_id))


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
