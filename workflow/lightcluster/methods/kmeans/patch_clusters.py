"""Segmentation by k-means on patch features, the standard baseline, on the same features.

The patches of the whole dataset are grouped into as many clusters as there are classes. The
similarities of patches to the centroids are upsampled, and each pixel gets the most similar
cluster. There is no foreground and no refinement. (This is the row "k-means" in the tables of
STEGO, arXiv 2203.08414, and later papers.)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import Metric, closeness, fit_kmeans, normalize
from lightcluster.clustering.sample import read_sample
from lightcluster.datasets.labels import read_classes
from lightcluster.datasets.manifest import read_manifest
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import read_arrays, replacing, write_arrays
from lightcluster.masks.upsampling import upsample
from lightcluster.progress import progress
from lightcluster.regions.number import Setting, number_of_clusters
from lightcluster.regions.painting import save_indexed
from lightcluster.regions.palette import write_palette

log = logging.getLogger(__name__)


def paint_nearest(
    scores: NDArray[np.float32], size: tuple[int, int], method: Literal["bilinear", "nearest"]
) -> NDArray[np.uint16]:
    """Return the cluster of each pixel, given the similarity of each patch to every centroid.

    Parameters
    ----------
    scores : float32 array, shape (rows, columns, clusters)
    size : (int, int)
        Height and width in pixels.
    method : {"bilinear", "nearest"}
        Interpolation between patches.

    Returns
    -------
    uint16 array, shape (height, width)
        Ties go to the lowest cluster.

    Notes
    -----
    Only three maps of pixels are in memory, for any number of clusters.
    """
    best = upsample(scores[..., 0], size, method).copy()
    nearest = np.zeros(size, np.uint16)
    for cluster in range(1, scores.shape[-1]):
        score = upsample(scores[..., cluster], size, method)
        closer = score > best
        best[closer] = score[closer]
        nearest[closer] = cluster
    return nearest


def fit_clusters(
    sample: Sequence[Path],
    classes_file: Path | None,
    output: Path,
    palette: Path,
    *,
    metric: Metric,
    classes: Setting,
    background: int | None,
    restarts: int,
    iterations: int,
    seed: int,
) -> None:
    """Cluster the sampled patches of the whole dataset.

    Writes ``centroids`` float32 [clusters, dim], and the palette: a table of the segmentation's
    values with their colours and numbers of sampled patches.

    Parameters
    ----------
    sample : sequence of Path
        Samples of all shards, written by `sample.sample_features`.
    classes_file : Path or None
        Determines the number of clusters with ``classes="auto"``.
    output, palette : Path
    metric, classes, background, restarts, iterations
        See the configuration.
    seed : int
    """
    known = read_classes(classes_file) if classes_file is not None else None
    clusters = number_of_clusters(classes, known, background)
    fitted = fit_kmeans(
        read_sample(sample).features, clusters,
        metric=metric, restarts=restarts, iterations=iterations, seed=seed,
    )  # fmt: skip
    sizes = fitted.sizes.tolist()
    log.info("sampled patches in each cluster: %s", sizes)
    names = [f"cluster {number}" for number in range(clusters)]
    write_palette(palette, names, sizes, "patches")
    write_arrays(output, centroids=fitted.centroids)


def paint_clusters(
    manifest: Path,
    store: Path,
    clusters: Path,
    output: Path,
    *,
    normalization: Literal["l2", "none"],
    metric: Metric,
    upsampling: Literal["bilinear", "nearest"],
) -> None:
    """Write the segmentation of each image of a shard below the folder `output`."""
    rows = {row.image_id: row for row in read_manifest(manifest)}
    centroids = read_arrays(clusters, "centroids")["centroids"]
    features = FeatureStore.open(store)
    facet = features.facets[0]
    with replacing(output) as folder:
        folder.mkdir()
        for image in progress(features.iter_images((facet,)), "paint", features.n_images):
            row = rows[image.image_id]
            patches = normalize(image.arrays[facet], normalization)
            scores = closeness(patches, centroids, metric).reshape(*image.grid, len(centroids))
            painted = paint_nearest(scores, (row.height, row.width), upsampling)
            save_indexed(painted, folder / row.output)
