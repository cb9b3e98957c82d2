"""The image level: the patches of one image are clustered, and some clusters are foreground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import Metric, fit_kmeans, normalize
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import write_arrays
from lightcluster.masks.foreground import Rule, image_foreground
from lightcluster.progress import progress


def cluster_patches(
    features: NDArray[np.floating],
    cls_attention: NDArray[np.floating],
    grid: tuple[int, int],
    *,
    k: int,
    normalization: Literal["l2", "none"],
    metric: Metric,
    restarts: int,
    iterations: int,
    seed: int,
    rules: Sequence[Rule],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cluster the patches of one image and decide its foreground.

    Parameters
    ----------
    features : float array, shape (patches, dim)
    cls_attention : float array, shape (patches,)
        Attention of the class token to each patch.
    grid : (int, int)
        Rows and columns of patches.
    k, normalization, metric, restarts, iterations, seed
        See `clustering.kmeans.fit_kmeans`.
    rules : sequence of Rule
        See `masks.foreground.image_foreground`.

    Returns
    -------
    label : int64 array, shape (patches,)
        The cluster of each patch.
    foreground : bool array, shape (k,)
        Which clusters are foreground.
    """
    fitted = fit_kmeans(
        normalize(features, normalization),
        k,
        metric=metric,
        restarts=restarts,
        iterations=iterations,
        seed=seed,
    )
    return fitted.labels, image_foreground(fitted.labels, k, cls_attention, grid, rules)


def cluster_image(
    store: Path,
    output: Path,
    *,
    k: int,
    normalization: Literal["l2", "none"],
    metric: Metric,
    restarts: int,
    iterations: int,
    seed: int,
    rules: Sequence[Rule],
) -> None:
    """Cluster each image of a shard separately and decide its foreground.

    Writes ``label`` uint8 [patches], in the order of the store, and ``foreground`` bool
    [images, k].
    """
    features = FeatureStore.open(store)
    label = np.empty(int(features.offset[-1]), np.uint8)
    foreground = np.empty((features.n_images, k), bool)
    facet = features.facets[0]
    images = features.iter_images((facet, "cls_attention"))
    for image in progress(images, "image level", features.n_images):
        span = slice(*features.offset[image.index : image.index + 2])
        label[span], foreground[image.index] = cluster_patches(
            image.arrays[facet], image.arrays["cls_attention"], image.grid, k=k,
            normalization=normalization, metric=metric, restarts=restarts, iterations=iterations,
            seed=seed, rules=rules,
        )  # fmt: skip
    write_arrays(output, label=label, foreground=foreground)
