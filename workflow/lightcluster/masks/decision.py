"""Which clusters of the dataset and category levels are foreground, from all sampled patches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightcluster.clustering.category_level import patches_of_superclasses
from lightcluster.clustering.kmeans import Metric, assign
from lightcluster.clustering.sample import read_sample
from lightcluster.files import read_arrays, write_arrays
from lightcluster.masks.foreground import overlapping_clusters

log = logging.getLogger(__name__)


def decide_foreground(
    sample_files: Sequence[Path],
    image_level_files: Sequence[Path],
    dataset_level: Path,
    superclasses: Path,
    category_level: Path,
    output: Path,
    *,
    metric: Metric,
) -> None:
    """Decide which clusters of the two upper levels are foreground.

    Writes ``dataset`` bool [k] and ``category`` bool [superclasses, k], and the shares of
    foreground patches that they are based on: ``dataset_share`` and ``category_share``, float64.
    """
    sample = read_sample(sample_files)
    foreground = np.empty(len(sample.row), bool)
    for shard, path in enumerate(image_level_files):
        own, level = sample.shard == shard, read_arrays(path, "label", "foreground")
        cluster = level["label"][sample.row[own]]
        foreground[own] = level["foreground"][sample.image[own], cluster]
    centroids = read_arrays(dataset_level, "centroids")["centroids"]
    dataset, dataset_share = overlapping_clusters(
        assign(sample.features, centroids, metric), foreground, len(centroids)
    )
    log.info("dataset level: foreground share of the clusters %s", dataset_share.round(3).tolist())
    category, category_share = [], []
    for number, (centroids, members) in enumerate(
        zip(
            read_arrays(category_level, "centroids")["centroids"],
            patches_of_superclasses(sample, superclasses),
            strict=True,
        )
    ):
        chosen, share = overlapping_clusters(
            assign(sample.features, centroids, metric)[members],  # avoids a copy of its patches
            foreground[members],
            len(centroids),
        )
        log.info("superclass %d: foreground share %s", number, share.round(3).tolist())
        category.append(chosen)
        category_share.append(share)
    write_arrays(
        output,
        dataset=dataset,
        category=np.stack(category),
        dataset_share=dataset_share,
        category_share=np.stack(category_share),
    )
