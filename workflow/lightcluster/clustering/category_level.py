"""The category level: clusters of the patches of each superclass."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import Metric, fit_kmeans
from lightcluster.clustering.sample import Sample, read_sample
from lightcluster.files import read_arrays, write_arrays

log = logging.getLogger(__name__)


def superclass_of(
    shard: NDArray[np.int64], image: NDArray[np.int64], superclasses: Path
) -> NDArray[np.int64]:
    """Return the superclass of the image of each patch, from the file of `group_images`."""
    arrays = read_arrays(superclasses, "superclass", "offset")
    return arrays["superclass"][arrays["offset"][shard] + image].astype(np.int64)


def patches_of_superclasses(sample: Sample, superclasses: Path) -> Iterator[NDArray[np.bool_]]:
    """Yield which sampled patches represent each superclass: its own, or all if it has none.

    The sample is bounded, so it may hold no patch of a superclass of few images.
    """
    count = len(read_arrays(superclasses, "centroids")["centroids"])
    group = superclass_of(sample.shard, sample.image, superclasses)
    for number in range(count):
        own = group == number
        yield own if own.any() else np.ones_like(own)


def cluster_category(
    sample_files: Sequence[Path],
    superclasses: Path,
    output: Path,
    *,
    k: int,
    metric: Metric,
    restarts: int,
    iterations: int,
    seed: int,
) -> None:
    """Fit the centroids of the category level, superclass by superclass.

    There is one job for all superclasses, because they are fitted on the same bounded sample, which
    it reads once. Writes ``centroids`` float32 [superclasses, k, dim] and ``sizes`` int64
    [superclasses, k].
    """
    sample = read_sample(
        sample_files, lambda shard, image: superclass_of(shard, image, superclasses)
    )
    count = len(read_arrays(superclasses, "centroids")["centroids"])
    group = superclass_of(sample.shard, sample.image, superclasses)
    slices = np.split(sample.features, np.searchsorted(group, np.arange(1, count)))
    fits = [
        fit_kmeans(
            points if len(points) else sample.features,  # as in `patches_of_superclasses`
            k,
            metric=metric,
            restarts=restarts,
            iterations=iterations,
            seed=seed,
        )
        for points in slices
    ]
    for number, fit in enumerate(fits):
        log.info("superclass %d, patches in each cluster: %s", number, fit.sizes.tolist())
    write_arrays(
        output,
        centroids=np.stack([fit.centroids for fit in fits]),
        sizes=np.stack([fit.sizes for fit in fits]),
    )
