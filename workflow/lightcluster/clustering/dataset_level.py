"""The dataset level: clusters of the patches of all images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import Metric, fit_kmeans, normalize
from lightcluster.clustering.sample import read_sample
from lightcluster.files import write_arrays

log = logging.getLogger(__name__)


def mean_distance(features: NDArray[np.floating]) -> float:
    """Return the mean cosine distance of two patches drawn at random.

    Parameters
    ----------
    features : float array, shape (patches, dim)
        At least one patch. The two patches of a pair may be the same.

    Returns
    -------
    float
        In [0, 2]: 1 minus the squared length of the mean of the unit-length features.
    """
    mean = normalize(features, "l2").mean(axis=0, dtype=np.float64)
    return float(np.clip(1 - mean @ mean, 0, 2))


def cluster_dataset(
    sample_files: Sequence[Path],
    output: Path,
    *,
    k: int,
    metric: Metric,
    restarts: int,
    iterations: int,
    seed: int,
) -> None:
    """Fit the centroids of the dataset level on the sampled patches.

    Writes ``centroids`` float32 [k, dim], ``sizes`` int64 [k] and ``distance`` float64 [1], the
    mean cosine distance of two patches (`mean_distance`).
    """
    sample = read_sample(sample_files)
    log.info(
        "k-means of %d patches x %d, k = %d: %.0f MiB",
        *sample.features.shape,
        k,
        sample.features.nbytes / 2**20,
    )
    fitted = fit_kmeans(
        sample.features, k, metric=metric, restarts=restarts, iterations=iterations, seed=seed
    )
    log.info("patches in each cluster: %s", fitted.sizes.tolist())
    write_arrays(
        output,
        centroids=fitted.centroids,
        sizes=fitted.sizes,
        distance=np.array([mean_distance(sample.features)]),
    )
