"""The number of classes: given, that of the dataset, or chosen by the silhouette."""

from __future__ import annotations

import logging
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import fit_kmeans
from lightcluster.datasets.labels import Classes

log = logging.getLogger(__name__)

Setting = int | Literal["auto", "silhouette"]
"""Type of `labelling.classes`."""

UNKNOWN_CLASSES = 10
"""Number of classes when neither the configuration nor a classes.csv states it."""

STARTS = 10
"""Restarts of each k-means that the silhouette is computed for."""


def number_of_classes(setting: Setting, classes: Classes | None, background: int | None) -> int:
    """Return the number K of object classes; ``"auto"``: as many as the dataset has.

    Raises
    ------
    ValueError
        For ``"silhouette"``, which only regions can tell (`choose_number`).
    """
    if setting == "silhouette":
        raise ValueError("the silhouette is of regions")
    if setting != "auto":
        return setting
    if classes is None:
        return UNKNOWN_CLASSES
    return max(1, len(classes.ids) - (background in classes.ids))


def number_of_clusters(setting: Setting, classes: Classes | None, background: int | None) -> int:
    """Return the number of values in a segmentation without masks.

    There is one more than object classes if a class is, or may be, the background. (With masks
    there is always a background.)
    """
    may_be = classes is None or background in classes.ids
    return number_of_classes(setting, classes, background) + may_be


def silhouette(points: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    """Return the mean silhouette of a clustering, by cosine distances (Rousseeuw 1987).

    Of a point it is (b − a) ÷ max(a, b), where a is its mean distance to the others of its cluster
    and b the least mean distance to another cluster; 0 for a point alone in its cluster.

    Parameters
    ----------
    points : float32 array, shape (n, dim)
        Of unit length.
    labels : int array, shape (n,)
        In 0..k-1, of two clusters at least.

    Returns
    -------
    float
        In [-1, 1]; 1 if all clusters are points far apart. Its cost grows with n times k.
    """
    own = np.arange(len(points)), labels
    sums = np.zeros((labels.max() + 1, points.shape[1]))
    np.add.at(sums, labels, points)
    sizes = np.bincount(labels)
    distances = np.maximum(sizes - points @ sums.T, 0)
    within = distances[own] / np.maximum(sizes[labels] - 1, 1)
    means = np.where(sizes > 0, distances / np.maximum(sizes, 1), np.inf)
    means[own] = np.inf
    nearest = means.min(axis=1)
    widths = (nearest - within) / np.maximum(np.maximum(nearest, within), np.finfo(float).tiny)
    return float(np.where(sizes[labels] > 1, widths, 0).mean())


def choose_number(points: NDArray[np.float32], iterations: int) -> int:
    """Return the number of clusters, up to √n, whose k-means has the highest mean silhouette.

    Parameters
    ----------
    points : float32 array, shape (n, dim)
        Of unit length.
    iterations : int
        Lloyd iterations of each start, of which there are `STARTS`.

    Returns
    -------
    int
        From 2; 1 for fewer than 4 points, among which nothing can be chosen.
    """
    numbers = range(2, math.isqrt(len(points)) + 1)
    found = {
        k: silhouette(
            points,
            fit_kmeans(points, k, restarts=STARTS, iterations=iterations, seed=0).labels,
        )
        for k in numbers
    }
    log.info("mean silhouette: %s", ", ".join(f"{k}: {s:.3f}" for k, s in found.items()))
    return max(found, key=lambda k: found[k], default=1)
