"""Classes of regions: a consensus of many k-means clusterings of their descriptors."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import pdist

from lightcluster.clustering.kmeans import assign, fit_kmeans, normalize
from lightcluster.clustering.sample import draw_rows, quota_of_shard
from lightcluster.datasets.labels import read_classes
from lightcluster.errors import DatasetError
from lightcluster.files import decode_names, encode_names, read_arrays, write_arrays
from lightcluster.regions.number import Setting, choose_number, number_of_classes
from lightcluster.regions.palette import write_palette

log = logging.getLogger(__name__)

RegionFeature = Literal["cls", "key", "patch"]
Method = Literal["consensus", "kmeans"]
RegionFeatures = Mapping[str, NDArray[np.float32]]
"""Features of the same regions by kind, each float32 [regions, dim]."""


@dataclass(frozen=True)
class Projection:
    """Projection that is applied to region descriptors before they are compared.

    Attributes
    ----------
    features : tuple of str
        Features that are concatenated to a descriptor.
    centers : float32 array, shape (features, dim)
        Mean of each feature over the fitted regions.
    components : float32 array, shape (features * dim, kept)
        The principal components that are kept.
    """

    features: tuple[str, ...]
    centers: NDArray[np.float32]
    components: NDArray[np.float32]

    def project(self, regions: RegionFeatures) -> NDArray[np.float32]:
        """Return the projected descriptors, float32 [regions, kept], of unit length."""
        described = describe_regions([regions[name] for name in self.features], self.centers)
        return normalize(described @ self.components, "l2")


@dataclass(frozen=True)
class Labelling(Projection):
    """Fitted classes.

    Attributes
    ----------
    centroids : float32 array, shape (classes, kept)
        Of unit length.
    """

    centroids: NDArray[np.float32]

    def classes_of(self, regions: RegionFeatures) -> NDArray[np.int64]:
        """Return the class of each region, from 1."""
        return assign(self.project(regions), self.centroids) + 1

    def label(self, regions: RegionFeatures) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the class of each region, from 1, and its `simplified_silhouette`."""
        points = self.project(regions)
        return assign(points, self.centroids) + 1, simplified_silhouette(points, self.centroids)


def simplified_silhouette(
    points: NDArray[np.float32], centroids: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return how much nearer each point is to its own centroid than to any other.

    The silhouette of Rousseeuw (1987), with distances to centroids instead of mean distances to
    points (Hruschka, de Castro and Campello, "Evolutionary algorithms for clustering gene
    expression data", ICDM 2004): (b - a) / max(a, b), where a and b are the cosine distances to the
    nearest and to the second nearest centroid.

    Parameters
    ----------
    points : float32 array, shape (n, dim)
        Of unit length.
    centroids : float32 array, shape (classes, dim)
        Of unit length. Duplicates count once.

    Returns
    -------
    float32 array, shape (n,)
        In [0, 1]: 0 half way between two centroids; 1 at a centroid, or if there is only one.
    """
    distinct = np.unique(centroids, axis=0)
    if len(distinct) == 1:
        return np.ones(len(points), np.float32)
    distance = np.clip(1 - points @ distinct.T, 0, 2)
    own, other = np.partition(distance, 1, axis=1)[:, :2].T
    return np.asarray(1 - own / np.maximum(other, np.finfo(np.float32).tiny), np.float32)


def describe_regions(
    features: Sequence[NDArray[np.float32]], centers: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Concatenate the features of regions so that all features have the same weight.

    Parameters
    ----------
    features : sequence of float32 array, shape (regions, dim)
    centers : float32 array, shape (features, dim)
        Subtracted from each feature after scaling it to unit length; the difference is then scaled
        to unit length again.

    Returns
    -------
    float32 array, shape (regions, features * dim)
    """
    parts = [
        normalize(normalize(feature, "l2") - center, "l2")
        for feature, center in zip(features, centers, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def principal_components(points: NDArray[np.float32], pca: int) -> NDArray[np.float32]:
    """Find the directions of largest variance.

    Parameters
    ----------
    points : float32 array, shape (n, dim)
    pca : int
        Number of components. The points are not projected if it is 0, or not smaller than the
        number of points or dimensions.

    Returns
    -------
    float32 array, shape (dim, kept)
        In the order of decreasing variance.
    """
    count, dim = points.shape
    if not 0 < pca < min(count, dim):
        return np.eye(dim, dtype=np.float32)
    covariance = np.cov(points.astype(np.float64), rowvar=False, bias=True)
    return np.linalg.eigh(covariance)[1][:, : -pca - 1 : -1].astype(np.float32)


def consensus_labels(labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Cluster points by how often several clusterings put two of them together.

    Evidence accumulation (Fred and Jain, "Combining multiple clusterings using evidence
    accumulation", PAMI 2005): average linkage on the share of the clusterings that separate two
    points. The random errors of single k-means starts are outvoted.

    Parameters
    ----------
    labels : int array, shape (points, clusterings)
        At least one point.
    classes : int
        Clusters wanted.

    Returns
    -------
    int64 array, shape (points,)
        From 0; there are at most as many clusters as points.
    """
    count = len(labels)
    if count == 1:
        return np.zeros(1, np.int64)
    tree = linkage(pdist(labels, "hamming"), "average")
    return np.asarray(cut_tree(tree, n_clusters=min(classes, count)).ravel(), np.int64)


def fit_centroids(
    points: NDArray[np.float32],
    classes: int,
    *,
    method: Method,
    restarts: int,
    iterations: int,
    seed: int,
) -> NDArray[np.float32]:
    """Fit the centroids of classes by spherical k-means, or by a consensus of many starts.

    Parameters
    ----------
    points : float32 array, shape (n, dim)
        Of unit length, n >= 1.
    classes : int
    method : {"consensus", "kmeans"}
        The centroids of `consensus_labels` of all starts, or those of the best start.
    restarts, iterations, seed : int

    Returns
    -------
    float32 array, shape (classes, dim)
        Of unit length. With fewer points than classes, some centroids are the same.
    """
    if method == "kmeans":
        return fit_kmeans(
            points, classes, restarts=restarts, iterations=iterations, seed=seed
        ).centroids
    seeds = np.random.SeedSequence(seed).generate_state(restarts) >> 1  # faiss takes 31 bits
    starts = [
        fit_kmeans(points, classes, iterations=iterations, seed=int(start)).labels
        for start in seeds
    ]
    labels = consensus_labels(np.stack(starts, axis=1), classes)
    sums = np.zeros((labels.max() + 1, points.shape[1]), np.float32)
    np.add.at(sums, labels, points)
    return np.resize(normalize(sums, "l2"), (classes, points.shape[1]))


def fit_projection(regions: RegionFeatures, pca: int) -> Projection:
    """Compute the means of the features of regions, and their principal components.

    Parameters
    ----------
    regions : mapping of str to float32 array, shape (regions, dim)
        At least one feature and one region.
    pca : int
        See `principal_components`.
    """
    features = list(regions.values())
    centers = np.stack([normalize(feature, "l2").mean(axis=0) for feature in features])
    components = principal_components(describe_regions(features, centers), pca)
    return Projection(tuple(regions), centers, components)


def fit_labelling(
    regions: RegionFeatures,
    classes: int,
    *,
    method: Method,
    pca: int,
    restarts: int,
    iterations: int,
    seed: int,
) -> Labelling:
    """Cluster regions into classes.

    Each feature is L2-normalised, centred and L2-normalised again. The features are concatenated,
    projected on their first principal components, L2-normalised and clustered.

    Parameters
    ----------
    regions : mapping of str to float32 array, shape (regions, dim)
        At least one feature and one region.
    classes : int
        Number of classes.
    method : {"consensus", "kmeans"}
        See `fit_centroids`.
    pca : int
        See `principal_components`.
    restarts, iterations, seed : int

    Returns
    -------
    Labelling
    """
    projection = fit_projection(regions, pca)
    centroids = fit_centroids(
        projection.project(regions), classes,
        method=method, restarts=restarts, iterations=iterations, seed=seed,
    )  # fmt: skip
    return Labelling(projection.features, projection.centers, projection.components, centroids)


def draw_regions(
    regions: Sequence[Path], features: Sequence[RegionFeature], most: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Draw at most `most` regions evenly over shards; return each feature, [regions, dim]."""
    drawn: dict[str, list[NDArray[np.float32]]] = {name: [] for name in features}
    for shard, path in enumerate(regions):
        arrays = read_arrays(path, *features)
        quota = quota_of_shard(most, shard, len(regions))
        rows = draw_rows(len(arrays[features[0]]), quota, seed, shard)
        for name, parts in drawn.items():
            parts.append(arrays[name][rows])
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def label_regions(
    regions: list[Path],
    classes_file: Path | None,
    output: Path,
    palette: Path,
    *,
    classes: Setting,
    background: int | None,
    features: Sequence[RegionFeature],
    method: Method,
    pca: int,
    restarts: int,
    iterations: int,
    sample_regions: int,
    seed: int,
) -> None:
    """Fit the classes on the regions of all shards and write the arrays of `Labelling`.

    The fit uses at most `sample_regions` regions, drawn evenly over shards. `palette` is the table
    of the values in segmentations, with colours and the number of fitted regions.

    Raises
    ------
    DatasetError
        If there is no region at all.
    """
    sample = draw_regions(regions, features, sample_regions, seed)
    count = len(sample[features[0]])
    if not count:
        raise DatasetError("no image has a foreground region: there is nothing to label")
    if classes == "silhouette":
        # From the same sample for all seeds, so that all have the same number of classes.
        shared = draw_regions(regions, features, sample_regions, seed=0)
        k = choose_number(fit_projection(shared, pca).project(shared), iterations)
    else:
        known = read_classes(classes_file) if classes_file is not None else None
        k = number_of_classes(classes, known, background)
    if count < k:
        log.warning("only %d regions for %d classes: some stay empty", count, k)
    fitted = fit_labelling(
        sample, k, method=method, pca=pca, restarts=restarts, iterations=iterations, seed=seed
    )
    sizes = np.bincount(fitted.classes_of(sample), minlength=k + 1)
    log.info("regions in each class: %s", sizes[1:].tolist())
    names = ["background", *(f"cluster {number}" for number in range(1, k + 1))]
    write_palette(palette, names, [None, *sizes[1:].tolist()], "regions")
    write_arrays(
        output,
        features=encode_names(list(fitted.features)),
        centers=fitted.centers,
        components=fitted.components,
        centroids=fitted.centroids,
    )


def read_labelling(path: Path) -> Labelling:
    """Read the file of `label_regions`."""
    arrays = read_arrays(path, "features", "centers", "components", "centroids")
    return Labelling(
        tuple(decode_names(arrays["features"])),
        arrays["centers"],
        arrays["components"],
        arrays["centroids"],
    )
