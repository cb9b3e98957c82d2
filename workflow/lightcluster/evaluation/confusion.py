"""Counts of predicted clusters against true classes, from which all scores are computed.

A count matrix is small, exact and additive: the matrix of a dataset is the sum of those of its
images or shards. So a dataset is never held in memory, and all matchings and scores can be computed
from the same stored counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lightcluster.errors import ImageError, StoreError

CHUNK_PIXELS = 1 << 17
"""Pixels counted at once: bounds the memory of the combined index to a few megabytes."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Confusion counts between predicted clusters and true classes.

    Attributes
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster (row) and true class (column).
    ignored : int
        Pixels whose true class is the ignore value; they are in no cell of `counts`.
    """

    counts: npt.NDArray[np.int64]
    ignored: int

    def __add__(self, other: Confusion) -> Confusion:
        """Return the confusion of two disjoint sets of pixels taken together."""
        if self.counts.shape != other.counts.shape:
            raise ValueError(
                f"cannot add counts of shape {self.counts.shape} and {other.counts.shape}: "
                "both must be [n_clusters, n_classes] of the same protocol"
            )
        return Confusion(self.counts + other.counts, self.ignored + other.ignored)


def count_confusion(
    prediction: npt.NDArray[np.integer[Any]],
    truth: npt.NDArray[np.integer[Any]],
    n_clusters: int,
    n_classes: int,
    ignore: int = 255,
) -> Confusion:
    """Count the pixels of every pair of predicted cluster and true class.

    Parameters
    ----------
    prediction : integer [...]
        Cluster of every pixel, in 0..n_clusters-1, also where the truth is ignored.
    truth : integer [...]
        Class of every pixel, in 0..n_classes-1, or `ignore`; same shape as `prediction`.
    n_clusters, n_classes : int
        Size of the count matrix, background included in both where there is one.
    ignore : int
        Truth value of pixels that no score counts (255 in every protocol of the field).

    Returns
    -------
    Confusion
        The counts, and the number of ignored pixels.

    Raises
    ------
    ImageError
        If the shapes differ, or the truth holds an id that is neither a class nor `ignore`.
    StoreError
        If the prediction, written by an earlier step, holds an id that is no cluster.
    ValueError
        If an array is not of integers, or `ignore` is itself a class.
    """
    for name, array in (("prediction", prediction), ("truth", truth)):
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{name} has dtype {array.dtype}; an integer dtype is required")
    if n_clusters < 1 or n_classes < 1:
        raise ValueError(
            f"{n_clusters} clusters, {n_classes} classes; at least 1 of each is needed"
        )
    if 0 <= ignore < n_classes:
        raise ValueError(f"ignore value {ignore} is one of the classes 0..{n_classes - 1}")
    if prediction.shape != truth.shape:
        raise ImageError(
            f"prediction has shape {prediction.shape} but ground truth has {truth.shape}; "
            "they must be equal"
        )

    flat_prediction, flat_truth = prediction.reshape(-1), truth.reshape(-1)
    cells = np.zeros(n_clusters * n_classes, dtype=np.int64)
    for start in range(0, flat_truth.size, CHUNK_PIXELS):
        clusters = flat_prediction[start : start + CHUNK_PIXELS]
        classes = flat_truth[start : start + CHUNK_PIXELS]
        if (stray := _id_outside(clusters, n_clusters)) is not None:
            raise StoreError(
                f"prediction holds cluster id {stray}; allowed are 0..{n_clusters - 1}"
            )
        counted = classes != ignore
        classes = classes[counted]
        if (stray := _id_outside(classes, n_classes)) is not None:
            raise ImageError(
                f"ground truth holds class id {stray}; allowed are 0..{n_classes - 1} "
                f"and {ignore} (ignored)"
            )
        cell = clusters[counted].astype(np.int64) * n_classes + classes.astype(np.int64)
        cells += np.bincount(cell, minlength=cells.size)
    return Confusion(cells.reshape(n_clusters, n_classes), flat_truth.size - int(cells.sum()))


def iou_matrix(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Compute the intersection over union of every row with every column.

    Parameters
    ----------
    counts : int64 [rows, columns]
        Pixels by predicted label (row) and true label (column).

    Returns
    -------
    float64 [rows, columns]
        ``n[i, j] / (n[i, :].sum() + n[:, j].sum() - n[i, j])``; NaN where both the row and the
        column are empty, so that there is no union.
    """
    union = counts.sum(axis=1, keepdims=True) + counts.sum(axis=0, keepdims=True) - counts
    iou = np.full(counts.shape, np.nan)
    np.divide(counts, union, out=iou, where=union > 0)
    return iou


def require_counts(counts: npt.NDArray[np.int64]) -> None:
    """Raise ValueError unless `counts` is a non-empty matrix of non-negative int64."""
    if counts.ndim != 2 or counts.size == 0 or counts.dtype != np.int64 or counts.min() < 0:
        raise ValueError(
            f"counts of dtype {counts.dtype} and shape {counts.shape}; a matrix "
            "[n_clusters, n_classes] of int64 >= 0 with at least one cell is required"
        )


def _id_outside(ids: npt.NDArray[np.integer[Any]], n: int) -> int | None:
    """Return one of the ids that are not in 0..n-1, or None if there is none."""
    if ids.size == 0:
        return None
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 0:
        return lowest
    return highest if highest >= n else None
