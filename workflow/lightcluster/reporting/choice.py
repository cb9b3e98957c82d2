"""Which images are shown: some at random, and likely failures.

The choice at random is fixed by a seed and nearly independent of what else is in the dataset, so
that the sheets of two runs, or of a dataset before and after it has grown, can be laid side by
side.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.manifest import Sample
from lightcluster.evaluation.counting import LabelledImage
from lightcluster.evaluation.mask_counts import STAGES, read_mask_counts
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.masks.patches import read_level_masks


def draw_lot(image_id: str, seed: int = 0) -> bytes:
    """Return the lot of an image, which depends on nothing else: the lowest lots are taken."""
    return hashlib.blake2b(f"{seed} {image_id}".encode(), digest_size=16).digest()


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
        return prefer_labelled and image.row.label is None, draw_lot(image.row.image_id, seed)

    chosen = heapq.nsmallest(samples, images, key=lot)
    return sorted(chosen, key=lambda image: (image.shard, image.row.image_id))


def level_agreement(votes: NDArray[np.bool_]) -> float:
    """Return the share of patches on which all levels, bool [levels, …], say the same."""
    return float((votes == votes[0]).all(axis=0).mean())


class Agreement(NamedTuple):
    """The share of the patches of an image on which all levels agree, and would by chance.

    Attributes
    ----------
    share : float
        `level_agreement`.
    chance : float
        The same of independent levels with as much foreground each.
    """

    share: float
    chance: float


def agreement_of(votes: NDArray[np.bool_]) -> Agreement:
    """Return the agreement of all levels, bool [levels, …]."""
    foreground = votes.reshape(len(votes), -1).mean(axis=1)
    chance = float(foreground.prod() + (1 - foreground).prod())
    return Agreement(level_agreement(votes), chance)


def read_agreements(images: Iterable[Sample], merged: Path) -> Iterator[tuple[Agreement, Sample]]:
    """Yield on how many patches of each image the levels agree.

    Parameters
    ----------
    images : iterable of Sample
        Those of a shard one after another.
    merged : Path
        Folder of ``<shard>.npz`` of `masks.consistency.merge_levels`.
    """
    for shard, members in groupby(images, key=lambda sample: sample.shard):
        masks = read_level_masks(merged / f"{shard}.npz")
        by_id = {sample.row.image_id: sample for sample in members}
        for number, image_id in enumerate(masks.image_id):
            yield agreement_of(masks.votes_of(number)), by_id[image_id]


def least_agreement(
    agreements: Iterable[tuple[Agreement, Sample]], count: int
) -> list[tuple[float, Sample]]:
    """Find the images whose levels agree on the fewest patches.

    Parameters
    ----------
    agreements : iterable of (Agreement, Sample)
        Of `read_agreements`.
    count : int
        Images wanted; fewer if there are fewer.

    Returns
    -------
    list of (float, Sample)
        `level_agreement`, lowest first.
    """
    found = ((agreement.share, sample) for agreement, sample in agreements)
    return heapq.nsmallest(count, found, key=lambda entry: (entry[0], entry[1].row.image_id))


def lowest_iou(images: Iterable[Sample], counts: Path, count: int) -> list[tuple[float, Sample]]:
    """Find the images whose refined mask has the lowest IoU with the true foreground.

    Parameters
    ----------
    images : iterable of Sample
        Those of a shard one after another.
    count : int
        Images wanted; fewer if there are fewer.
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
        See `lowest_iou`.
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
