"""The image level: clusters of the patches of one image, and which of them are foreground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from lightcluster.clustering.kmeans import Metric, fit_kmeans, normalize
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import write_arrays
from lightcluster.masks.foreground import Rule, image_foreground
from lightcluster.progress import progress


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
    """Cluster each image of a shard by itself and decide its foreground.

    Writes ``label`` uint8 [patches] and ``foreground`` bool [patches], in the order of the store.
    """
    features = FeatureStore.open(store)
    patches = int(features.offset[-1])
    label = np.empty(patches, np.uint8)
    foreground = np.empty(patches, bool)
    facet = features.facets[0]
    images = features.iter_images((facet, "cls_attention"))
    for image in progress(images, "image level", features.n_images):
        span = slice(*features.offset[image.index : image.index + 2])
        points = normalize(image.arrays[facet], normalization)
        fitted = fit_kmeans(
            points, k, metric=metric, restarts=restarts, iterations=iterations, seed=seed
        )
        chosen = image_foreground(
            fitted.labels, k, image.arrays["cls_attention"], image.grid, rules
        )
        label[span], foreground[span] = fitted.labels, chosen[fitted.labels]
    write_arrays(output, label=label, foreground=foreground)
