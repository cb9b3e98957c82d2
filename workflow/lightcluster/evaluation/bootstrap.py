"""Paired bootstrap intervals, over images, of the difference between two runs.

The images are drawn with replacement, the same ones for all runs, and all scores are computed
again: counts are summed over the drawn images, scores of single images are averaged, and clusters
are matched again. An interval covers the variance due to the choice of the evaluated images; no
method is fitted again. (Percentile intervals: Efron and Tibshirani, An Introduction to the
Bootstrap, 1993.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from lightcluster.evaluation.counting import files_of_seed, iter_cells
from lightcluster.evaluation.mask_counts import (
    STAGES,
    MaskTotals,
    images_by_class,
    read_mask_counts,
    score_masks,
)
from lightcluster.evaluation.protocols import PROTOCOLS, FrameName
from lightcluster.evaluation.scores import score_classes
from lightcluster.shards import Shards

BATCH = 1 << 22
"""Numbers of the resamples that are made at once, 32 MB, unless a single one has more."""

MASK_STAGES = ("reestimated", "refined")
"""Stages of the masks that runs are compared by."""

MASK_METRICS = ("fgbg_miou", "image_foreground_iou", "class_recall", "boundary_f")
"""Scores of them that runs are compared by, of those of `score_masks`."""


class Interval(NamedTuple):
    """A difference and its 95 % percentile interval."""

    difference: float
    low: float
    high: float


def draw_images(
    images: int, resamples: int, seed: int, at_once: int
) -> Iterator[NDArray[np.int64]]:
    """Yield how often each image is drawn in each resample, some resamples at a time.

    The first row of the first array is not a resample: it has every image once.

    Parameters
    ----------
    images, resamples, seed : int
    at_once : int
        Resamples in an array; the draws do not depend on it.

    Yields
    ------
    int64 array, shape (at most `at_once`, images)
    """
    yield np.ones((1, images), np.int64)
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = generator.integers(images, size=(count, images))
        yield np.stack([np.bincount(row, minlength=images) for row in drawn])


def batch_of(counts: csr_array) -> int:
    """Return how many resamples of counts [images, cells] are made at once."""
    return max(1, BATCH // int(max(counts.shape)))


def resample(
    counts: csr_array, shape: tuple[int, ...], resamples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the counts of all images together, and then those of each resample.

    Parameters
    ----------
    counts : sparse int64 array, shape (images, cells)
        Counts of each image, flattened.
    shape : tuple of int
        Of the counts.
    resamples, seed : int

    Yields
    ------
    int64 array, shape `shape`
    """
    for times in draw_images(counts.shape[0], resamples, seed, batch_of(counts)):
        for total in times @ counts:
            yield total.reshape(shape)


def interval(own: NDArray[np.float64], reference: NDArray[np.float64]) -> Interval:
    """Return the difference of two scores, and its interval.

    Parameters
    ----------
    own, reference : float64 array, shape (1 + resamples,)
        Scores of all images and then of the resamples, which are the same for both.

    Returns
    -------
    Interval
        Over the resamples in which both scores exist; NaN if there are none. With few images, a
        resample may not contain what a score is defined on.
    """
    difference = own - reference
    resampled = difference[1:][np.isfinite(difference[1:])]
    low, high = np.percentile(resampled, [2.5, 97.5]) if len(resampled) else (np.nan, np.nan)
    return Interval(float(difference[0]), float(low), float(high))


def class_scores(counts: Iterable[NDArray[np.int64]], protocol: str) -> NDArray[np.float64]:
    """Return mIoU and pixel accuracy of each of several counts, under a protocol's own matching.

    Parameters
    ----------
    counts : iterable of int64 array, shape (clusters, classes)
    protocol : str
        Of `PROTOCOLS`.

    Returns
    -------
    float64 array, shape (2, number of counts)
    """
    own = PROTOCOLS[protocol]
    scored = (
        score_classes(table, [""] * table.shape[1], own.matchings[0], own.absent)
        for table in counts
    )
    return np.asarray([(score.mean_iou, score.pixel_accuracy) for score in scored]).T


def bootstrap_masks(
    counts_folder: Path, shards: Shards, resamples: int, seed: int
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Score the masks of each of `MASK_STAGES`, of all images and of each resample.

    Parameters
    ----------
    counts_folder : Path
        Of the counts of a run.
    shards : Shards
    resamples, seed : int

    Returns
    -------
    dict of (stage, metric) to float64 array, shape (1 + resamples,)
        Of each of `MASK_METRICS`. The classes that have a recall are those of all images. Empty if
        no class is the background.
    """
    chosen = [STAGES.index(stage) for stage in MASK_STAGES]
    pixels, by_image, seen, background = [], [], np.zeros(1, np.int64), -1
    for path in shards.paths(counts_folder / "masks", ".npz"):
        shard = read_mask_counts(path)
        if shard.background < 0:
            return {}
        width = len(chosen) * 2 * shard.by_class.shape[-1]
        pixels.append(csr_array(shard.by_class[:, chosen].reshape(len(shard.ignored), width)))
        by_image.append(np.stack([shard.image_iou(), shard.boundary_f])[..., chosen])
        seen, background = seen + images_by_class(shard), shard.background
    counts, scores = vstack(pixels, format="csr"), np.concatenate(by_image, axis=1)
    held = ~np.isnan(scores[0]).any(axis=1)
    scores = np.where(held[:, None], scores, 0)
    shape = (len(chosen), 2, len(seen))
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for times in draw_images(len(held), resamples, seed, batch_of(counts)):
        totals = (times @ counts).reshape(-1, *shape)
        means = np.einsum("ri,mis->rsm", times, scores)
        means /= np.maximum(times @ held, np.finfo(float).tiny)[:, None, None]
        means[times @ held == 0] = np.nan
        for total, mean in zip(totals, means, strict=True):
            for stage, by_class, (iou, outline) in zip(MASK_STAGES, total, mean, strict=True):
                of_stage = score_masks(MaskTotals(by_class, seen, iou, outline, background))
                for metric in MASK_METRICS:
                    found[stage, metric].append(of_stage[metric])
    return {key: np.asarray(values) for key, values in found.items()}


def bootstrap_classes(
    counts_folder: Path,
    shards: Shards,
    seeds: list[int],
    protocol: str,
    frame: FrameName,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return mIoU and pixel accuracy, averaged over the labelling seeds, in the same way.

    Parameters
    ----------
    counts_folder, shards, resamples, seed
        As in `bootstrap_masks`.
    seeds : list of int
        Labelling seeds.
    protocol, frame : str

    Returns
    -------
    float64 array, shape (2, 1 + resamples)
    """
    scores = []
    for labelling in seeds:
        paths = files_of_seed(counts_folder, shards, labelling)
        counts, shape = sparse_counts(paths, frame)
        scores.append(class_scores(resample(counts, shape, resamples, seed), protocol))
    mean: NDArray[np.float64] = np.mean(scores, axis=0)
    return mean


def sparse_counts(paths: list[Path], frame: FrameName) -> tuple[csr_array, tuple[int, int]]:
    """Return the counts of each image of all shards, flattened, and their shape.

    Returns
    -------
    sparse int64 array, shape (images, clusters * classes)
    (int, int)
        Clusters and classes.
    """
    images, cells, pixels, first = [], [], [], 0
    shape = (0, 0)
    for shard in iter_cells(paths, frame):
        shape = shard.shape
        number, cluster, true, count = shard.cells.T
        images.append(first + number)
        cells.append(cluster * shape[1] + true)
        pixels.append(count)
        first += len(shard.image_ids)
    place = (np.concatenate(images), np.concatenate(cells))
    size = (first, shape[0] * shape[1])
    return csr_array((np.concatenate(pixels), place), shape=size), shape
