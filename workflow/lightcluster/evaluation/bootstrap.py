"""Paired bootstrap intervals, over images, of the difference between two runs.

The images are drawn with replacement, the same ones for all runs, and everything is scored anew:
counts are summed over the drawn images and clusters matched again. An interval holds what the
choice of the images to evaluate on is worth; nothing is fitted again. (Percentile intervals:
Efron and Tibshirani, An Introduction to the Bootstrap, 1993.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lightcluster.evaluation.counting import STAGES, iter_cells, read_mask_counts
from lightcluster.evaluation.protocols import PROTOCOLS, FrameName
from lightcluster.evaluation.scores import foreground_scores, score_classes

BATCH = 1 << 22
"""Numbers of the resamples that are made at once, 32 MB, unless a single one has more."""

MASK_STAGES = ("reestimated", "refined")
"""Stages of the masks that runs are compared by."""


class Interval(NamedTuple):
    """A difference and its 95 % percentile interval."""

    difference: float
    low: float
    high: float


def draw_images(
    images: int, resamples: int, seed: int, at_once: int
) -> Iterator[NDArray[np.int64]]:
    """Yield how often each image is drawn in each resample, some resamples at a time.

    The first row of the first array is no resample: it has every image once.

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
    at_once = max(1, BATCH // max(counts.shape))
    for times in draw_images(counts.shape[0], resamples, seed, at_once):
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
        NaN where a score is.
    """
    difference = own - reference
    low, high = np.percentile(difference[1:], [2.5, 97.5])
    return Interval(float(difference[0]), float(low), float(high))


def mask_scores(counts: Iterable[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return the fg/bg mIoU of each of several counts [2, 2]."""
    return np.asarray([foreground_scores(table).mean_iou for table in counts])


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
    counts_folder: Path, shards: list[str], resamples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return the fg/bg mIoU of each of `MASK_STAGES`, of all images and of each resample.

    Parameters
    ----------
    counts_folder : Path
        Of the steps `count_masks` and `count_confusion`.
    shards : list of str
    resamples, seed : int

    Returns
    -------
    dict of str to float64 array, shape (1 + resamples,)
        Empty if no class is the background.
    """
    counts, _ = read_mask_counts([counts_folder / "masks" / f"{name}.npz" for name in shards])
    if not len(counts):
        return {}
    return {
        stage: mask_scores(
            resample(
                csr_array(counts[:, STAGES.index(stage)].reshape(len(counts), 4)),
                (2, 2), resamples, seed,
            )
        )
        for stage in MASK_STAGES
    }  # fmt: skip


def bootstrap_classes(
    counts_folder: Path,
    shards: list[str],
    seeds: list[int],
    protocol: str,
    frame: FrameName,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return mIoU and pixel accuracy, means of the labelling seeds, likewise.

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
        paths = [counts_folder / f"seed-{labelling}" / f"{name}.npz" for name in shards]
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
