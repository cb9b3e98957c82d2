"""Classes of regions: k-means on their CLS tokens."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import assign, fit_kmeans, normalize
from lightcluster.clustering.sample import draw_rows, quota_of_shard
from lightcluster.datasets.labels import Classes, read_classes
from lightcluster.errors import DatasetError
from lightcluster.files import read_arrays, replacing, write_arrays
from lightcluster.regions.palette import VOC_PALETTE

log = logging.getLogger(__name__)


Blocks = Callable[[], Iterable[NDArray[np.float32]]]
"""CLS tokens of regions, float32 [regions, dim], block by block and as often as asked for."""

UNKNOWN_CLASSES = 10
"""Number of classes when neither the configuration nor a classes.csv states it."""


def number_of_classes(
    setting: int | Literal["auto"], classes: Classes | None, background: int | None
) -> int:
    """Return the number K of object classes; ``"auto"``: as many as the dataset has."""
    if setting != "auto":
        return setting
    if classes is None:
        return UNKNOWN_CLASSES
    return max(1, len(classes.ids) - (background in classes.ids))


@dataclass(frozen=True)
class Labelling:
    """Fitted classes.

    Attributes
    ----------
    mean : float32 array, shape (dim,)
    components : float32 array, shape (dim, kept)
        The projection is ``(normalize(cls) - mean) @ components``.
    centroids : float32 array, shape (classes, kept)
        Of unit length.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    centroids: NDArray[np.float32]

    def classes_of(self, cls: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the class of each region, from 1, given its CLS token [regions, dim]."""
        return assign(_project(cls, self.mean, self.components), self.centroids) + 1


def _project(
    cls: NDArray[np.float32], mean: NDArray[np.float32], components: NDArray[np.float32]
) -> NDArray[np.float32]:
    return normalize((normalize(cls, "l2") - mean) @ components, "l2")


def fit_projection(blocks: Blocks, pca: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find the principal components of L2-normalised CLS tokens, one block in memory at a time.

    Parameters
    ----------
    blocks : callable
        Gives the tokens anew at each call.
    pca : int
        Components kept. 0, or not fewer than regions or features: no projection.

    Returns
    -------
    mean : float32 array, shape (dim,)
    components : float32 array, shape (dim, kept)
        Of largest variance first.
    """
    count, total, product = 0, np.zeros(1), np.zeros((1, 1))
    for cls in blocks():
        tokens = normalize(cls, "l2").astype(np.float64)
        count, dim = count + len(tokens), tokens.shape[1]
        total = total + tokens.sum(axis=0)
        product = product + tokens.T @ tokens
    if not 0 < pca < min(count, dim):
        return np.zeros(dim, np.float32), np.eye(dim, dtype=np.float32)
    mean = total / count
    directions = np.linalg.eigh(product / count - np.outer(mean, mean))[1]
    return mean.astype(np.float32), directions[:, : -pca - 1 : -1].astype(np.float32)


def fit_labelling(
    blocks: Blocks, classes: int, *, pca: int, restarts: int, iterations: int, seed: int
) -> Labelling:
    """Cluster regions into classes.

    CLS tokens are L2-normalised, projected on their first principal components, L2-normalised
    again and clustered by spherical k-means.

    Parameters
    ----------
    blocks : callable
        Gives the CLS tokens, float32 [regions, dim] a block, anew at each call; at least one
        region in all.
    classes : int
        Number of classes.
    pca : int
        See `fit_projection`.
    restarts, iterations, seed : int

    Returns
    -------
    Labelling
    """
    mean, components = fit_projection(blocks, pca)
    points = np.concatenate([_project(cls, mean, components) for cls in blocks()])
    fitted = fit_kmeans(points, classes, restarts=restarts, iterations=iterations, seed=seed)
    return Labelling(mean, components, fitted.centroids)


def label_regions(
    regions: list[Path],
    classes_file: Path | None,
    output: Path,
    palette: Path,
    *,
    classes: int | Literal["auto"],
    background: int | None,
    pca: int,
    restarts: int,
    iterations: int,
    sample_regions: int,
    seed: int,
) -> None:
    """Fit the classes on the regions of all shards and write the arrays of `Labelling`.

    At most `sample_regions` regions, drawn evenly over shards, are fitted on; they are read several
    times rather than held in memory. `palette` is a table of the segmentation's ids with their
    colours and the number of regions that were fitted.

    Raises
    ------
    DatasetError
        If there is no region at all.
    """

    def sample() -> Iterator[NDArray[np.float32]]:
        for shard, path in enumerate(regions):
            cls = read_arrays(path, "cls")["cls"]
            quota = quota_of_shard(sample_regions, shard, len(regions))
            yield cls[draw_rows(len(cls), quota, seed, shard)]

    known = read_classes(classes_file) if classes_file is not None else None
    k = number_of_classes(classes, known, background)
    count = sum(len(cls) for cls in sample())
    if not count:
        raise DatasetError("no image has a foreground region: there is nothing to label")
    if count < k:
        log.warning("only %d regions for %d classes: some stay empty", count, k)
    fitted = fit_labelling(sample, k, pca=pca, restarts=restarts, iterations=iterations, seed=seed)
    sizes = np.zeros(k + 1, np.int64)
    for cls in sample():
        sizes += np.bincount(fitted.classes_of(cls), minlength=k + 1)
    log.info("regions in each class: %s", sizes[1:].tolist())
    with replacing(palette) as temporary:
        _write_palette(temporary, sizes)
    write_arrays(output, mean=fitted.mean, components=fitted.components, centroids=fitted.centroids)


def _write_palette(path: Path, sizes: NDArray[np.int64]) -> None:
    """Write id, name, colour and number of regions of each value in the segmentations."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "name", "color", "regions"])
        for number, size in enumerate(sizes.tolist()):
            color = "#{:02x}{:02x}{:02x}".format(*VOC_PALETTE[number % 256])
            name = f"cluster {number}" if number else "background"
            writer.writerow([number, name, color, size if number else ""])


def read_labelling(path: Path) -> Labelling:
    """Read the file of `label_regions`."""
    arrays = read_arrays(path, "mean", "components", "centroids")
    return Labelling(arrays["mean"], arrays["components"], arrays["centroids"])
