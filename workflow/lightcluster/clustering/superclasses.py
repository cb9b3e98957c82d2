"""Superclasses: groups of similar images, by k-means on their CLS tokens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import assign, fit_kmeans, normalize
from lightcluster.clustering.sample import draw_rows, quota_of_shard
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import read_arrays, write_arrays

log = logging.getLogger(__name__)


def number_of_superclasses(count: int | Literal["auto"], images: int) -> int:
    """Return the number of superclasses; ``"auto"``: one for every 20 images, from 1 to 20."""
    wanted = min(20, images // 20) if count == "auto" else count
    return max(1, min(wanted, images))


def merge_small(
    cls: NDArray[np.float32], centroids: NDArray[np.float32], min_images: int
) -> tuple[NDArray[np.float32], list[int]]:
    """Remove the centroids of groups below `min_images`, the smallest first.

    Images of a removed group go to the nearest remaining one, so the sizes are counted again after
    each removal. With groups of few images, the foreground decision of the category level fails.

    Parameters
    ----------
    cls : float32 array, shape (images, dim)
    centroids : float32 array, shape (groups, dim)
    min_images : int
        Smallest allowed size; for a sample of the images, in proportion.

    Returns
    -------
    centroids : float32 array, shape (groups left, dim)
        At least one.
    removed : list of int
        Sizes of the removed groups, in the order of their removal.
    """
    removed = []
    while len(centroids) > 1:
        sizes = np.bincount(assign(cls, centroids), minlength=len(centroids))
        smallest = int(sizes.argmin())
        if sizes[smallest] >= min_images:
            break
        removed.append(int(sizes[smallest]))
        centroids = np.delete(centroids, smallest, axis=0)
    return centroids, removed


def group_images(
    stores: list[Path],
    output: Path,
    *,
    count: int | Literal["auto"],
    min_images: int,
    sample_images: int,
    restarts: int,
    iterations: int,
    seed: int,
) -> None:
    """Group all images by their CLS tokens.

    The groups are fitted on at most `sample_images` images, drawn evenly over shards.
    Writes ``centroids`` float32 [groups, dim], ``superclass`` int32 [images] and ``offset``
    int64 [shards + 1], where the images of each shard begin.
    """
    sampled, images = [], 0
    for shard, cls in enumerate(_read_cls(stores)):
        quota = quota_of_shard(sample_images, shard, len(stores))
        sampled.append(cls[draw_rows(len(cls), quota, seed, shard)])
        images += len(cls)
    sample = np.concatenate(sampled)
    groups = number_of_superclasses(count, images)
    fitted = fit_kmeans(sample, groups, restarts=restarts, iterations=iterations, seed=seed)
    least = min_images * len(sample) / images
    centroids, removed = merge_small(sample, fitted.centroids, int(np.ceil(least)))
    for size in removed:
        log.warning("a superclass of %d images, below min_images, is merged into the others", size)
    if len(centroids) == 1:
        log.info("one superclass: the category level clusters what the dataset level does")
    assign_superclasses(stores, centroids, output)


def assign_superclasses(stores: list[Path], centroids: NDArray[np.float32], output: Path) -> None:
    """Write the file of `group_images` for centroids [groups, dim] that are given."""
    shards = [assign(cls, centroids).astype(np.int32) for cls in _read_cls(stores)]
    superclass = np.concatenate(shards)
    log.info("images in each superclass: %s", np.bincount(superclass).tolist())
    write_arrays(
        output,
        centroids=centroids,
        superclass=superclass,
        offset=np.cumsum([0, *map(len, shards)], dtype=np.int64),
    )


def _read_cls(stores: list[Path]) -> Iterator[NDArray[np.float32]]:
    """Yield the L2-normalised CLS tokens of each shard."""
    for store in stores:
        yield normalize(FeatureStore.open(store).cls, "l2")


def superclasses_of_shard(path: Path, shard: int) -> NDArray[np.int32]:
    """Return the superclass of each image of a shard, from the file of `group_images`."""
    arrays = read_arrays(path, "superclass", "offset")
    start, stop = arrays["offset"][shard : shard + 2]
    return arrays["superclass"][start:stop].astype(np.int32)
