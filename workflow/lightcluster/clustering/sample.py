"""A bounded sample of patch features, drawn evenly over shards, to fit the upper levels on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import normalize
from lightcluster.datasets.manifest import Row, read_manifest
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import read_arrays, write_arrays
from lightcluster.progress import progress


@dataclass(frozen=True)
class Sample:
    """Patches drawn from all shards.

    Attributes
    ----------
    features : float32 array, shape (n, dim)
    shard, image, row : int64 array, shape (n,)
        Origin of each patch: its shard, its image and its position in the shard.
    """

    features: NDArray[np.float32]
    shard: NDArray[np.int64]
    image: NDArray[np.int64]
    row: NDArray[np.int64]


def quota_of_shard(total: int, shard: int, shards: int) -> int:
    """Return the share of one shard of `total` rows; the shares of all shards add up to it."""
    return total * (shard + 1) // shards - total * shard // shards


def draw_rows(tokens: int, quota: int, seed: int, shard: int) -> NDArray[np.int64]:
    """Return `quota` of the rows 0..tokens-1 (all, if there are fewer), drawn without replacement.

    Returns
    -------
    int64 array, shape (min(quota, tokens),)
        Ascending.
    """
    if tokens <= quota:
        return np.arange(tokens, dtype=np.int64)
    generator = np.random.default_rng([seed, shard])
    return np.sort(generator.choice(tokens, quota, replace=False, shuffle=False)).astype(np.int64)


def draw_images(manifests: Sequence[Path], images: int, seed: int) -> Iterator[list[Row]]:
    """Draw images evenly over shards, and yield those of each shard."""
    for shard, path in enumerate(manifests):
        rows = read_manifest(path)
        quota = quota_of_shard(images, shard, len(manifests))
        yield [rows[number] for number in draw_rows(len(rows), quota, seed, shard)]


def sample_features(
    store: Path,
    output: Path,
    *,
    shard: int,
    shards: int,
    tokens: int,
    normalization: Literal["l2", "none"],
    seed: int,
) -> None:
    """Draw the share of one shard of a sample of `tokens` patches and write it to `output`.

    Writes ``features`` float16 [n, dim] (normalised), ``image`` int32 [n] and ``row`` int64 [n].
    """
    features = FeatureStore.open(store)
    quota = quota_of_shard(tokens, shard, shards)
    rows = draw_rows(int(features.offset[-1]), quota, seed, shard)
    chosen = np.empty((len(rows), features.dim), np.float16)
    facet = features.facets[0]
    for image in progress(features.iter_images((facet,)), "sample", features.n_images):
        start, stop = features.offset[image.index : image.index + 2]
        first, last = np.searchsorted(rows, (start, stop))
        patches = image.arrays[facet][rows[first:last] - start]
        chosen[first:last] = normalize(patches, normalization)
    image_of_row = np.searchsorted(features.offset, rows, side="right") - 1
    write_arrays(
        output, compressed=False, features=chosen, image=image_of_row.astype(np.int32), row=rows
    )


def read_sample(
    paths: Sequence[Path],
    group_of: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]] | None = None,
) -> Sample:
    """Read the sample of all shards; only the features of one shard are in memory twice.

    Parameters
    ----------
    paths : sequence of Path
        Files of `sample_features`, one per shard.
    group_of : callable, optional
        Returns the group of each patch from its shard and its image. Patches are then sorted by
        group, so that each group is a slice; within a group they keep their order.
    """
    places = [read_arrays(path, "image", "row") for path in paths]
    sizes = [len(place["row"]) for place in places]
    shard = np.repeat(np.arange(len(paths)), sizes)
    image = np.concatenate([place["image"] for place in places]).astype(np.int64)
    row = np.concatenate([place["row"] for place in places])
    groups = np.zeros(len(row), np.int64) if group_of is None else group_of(shard, image)
    order = np.argsort(groups, kind="stable")
    target = np.empty_like(order)
    target[order] = np.arange(len(order))
    for number, (path, places_of_shard) in enumerate(
        zip(paths, np.split(target, np.cumsum(sizes)[:-1]), strict=True)
    ):
        part = read_arrays(path, "features")["features"]
        if number == 0:
            features = np.empty((len(row), part.shape[1]), np.float32)
        features[places_of_shard] = part
    return Sample(features, shard[order], image[order], row[order])
