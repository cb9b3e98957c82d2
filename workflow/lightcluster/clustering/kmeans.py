"""k-means with k-means++ seeding and restarts, by faiss, on the CPU or a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

Metric = Literal["spherical", "euclidean"]
GPU_POINTS = 50_000
"""Fewer points than this are clustered on the CPU even where there is a GPU."""


@dataclass(frozen=True)
class KMeans:
    """A clustering.

    Attributes
    ----------
    centroids : float32 array, shape (k, dim)
        Of unit length for the spherical metric.
    labels : int64 array, shape (n,)
        The nearest centroid of each fitted point.
    objective : float
        Sum of squared distances (euclidean) or of cosine similarities (spherical).
    """

    centroids: NDArray[np.float32]
    labels: NDArray[np.int64]
    objective: float

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of fitted points nearest to each centroid, int64, shape (k,)."""
        return np.bincount(self.labels, minlength=len(self.centroids)).astype(np.int64)


def set_threads(threads: int) -> None:
    """Set the number of threads of faiss."""
    faiss.omp_set_num_threads(threads)


def fit_kmeans(
    points: NDArray[np.float32],
    k: int,
    *,
    metric: Metric = "spherical",
    restarts: int = 1,
    iterations: int = 25,
    seed: int = 0,
) -> KMeans:
    """Cluster points by Lloyd's algorithm.

    Each restart seeds its centroids by k-means++ (Arthur and Vassilvitskii, 2007); the one with
    the best objective is kept. A cluster that becomes empty is refilled by splitting a large one,
    as faiss does. All points are used, without sampling. With fewer distinct points than `k`,
    the surplus centroids are near copies of points, and their clusters are empty.

    Parameters
    ----------
    points : float32 array, shape (n, dim)
        n >= 1; of unit length if the metric is spherical.
    k : int
        Number of clusters.
    metric : {"spherical", "euclidean"}
        Cosine similarity with centroids of unit length, or Euclidean distance.
    restarts, iterations : int
        Number of starts, and the largest number of Lloyd iterations of each: a start ends when an
        iteration improves its objective by less than 0.01 %.
    seed : int

    Returns
    -------
    KMeans

    Raises
    ------
    ValueError
        If there is no point, or a value is not finite.
    """
    points = np.ascontiguousarray(points, np.float32)
    if points.ndim != 2 or not len(points):
        raise ValueError(f"points must be a non-empty [n, dim] array, not of shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("points hold values that are not finite")
    fitted = points if len(points) >= k else np.resize(points, (k, points.shape[1]))
    trainer = faiss.Kmeans(
        points.shape[1],
        k,
        niter=iterations,
        nredo=restarts,
        spherical=metric == "spherical",
        seed=_of_31_bits(seed),
        min_points_per_centroid=1,
        max_points_per_centroid=len(fitted),
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        early_stop_threshold=1e-4,
        gpu=len(fitted) >= GPU_POINTS and faiss.get_num_gpus() > 0,
    )
    trainer.train(fitted)
    assert trainer.obj is not None  # that of the best start, iteration by iteration
    centroids = np.ascontiguousarray(trainer.centroids, np.float32)
    return KMeans(centroids, assign(points, centroids, metric), float(trainer.obj[-1]))


def _of_31_bits(seed: int) -> int:
    """Return a seed that faiss accepts: the same one if it has 31 bits, else one drawn from it."""
    if seed < 2**31:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)


def assign(
    points: NDArray[np.floating], centroids: NDArray[np.float32], metric: Metric = "spherical"
) -> NDArray[np.int64]:
    """Return the nearest centroid of each point.

    Parameters
    ----------
    points : float array, shape (n, dim)
    centroids : float32 array, shape (k, dim)
    metric : {"spherical", "euclidean"}

    Returns
    -------
    int64 array, shape (n,)
        Ties go to the lowest index.
    """
    nearest: NDArray[np.int64] = closeness(points, centroids, metric).argmax(axis=1)
    return nearest


def closeness(
    points: NDArray[np.floating], centroids: NDArray[np.float32], metric: Metric = "spherical"
) -> NDArray[np.float32]:
    """Return how close each point is to each centroid; the nearest has the largest value.

    Parameters
    ----------
    points : float array, shape (n, dim)
    centroids : float32 array, shape (k, dim)
    metric : {"spherical", "euclidean"}
        The inner product; with ``euclidean``, minus half the squared length of the centroid.

    Returns
    -------
    float32 array, shape (n, k)
    """
    close: NDArray[np.float32] = np.asarray(points, np.float32) @ centroids.T
    if metric == "euclidean":
        close -= 0.5 * np.square(centroids).sum(axis=1)
    return close


def normalize(features: NDArray[np.floating], how: Literal["l2", "none"]) -> NDArray[np.float32]:
    """Return features as float32, each row scaled to unit length for ``"l2"`` (zero rows stay)."""
    rows = np.array(features, np.float32)  # a copy, so that it can be scaled in place
    if how == "l2":
        length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        rows /= np.maximum(length, np.finfo(np.float32).tiny)[:, None]
    return rows
