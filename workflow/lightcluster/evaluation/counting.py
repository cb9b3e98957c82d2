"""Counts of the pixels of a shard by predicted cluster and true class, for each labelling seed.

All scores of the classes are computed from these int64 counts, summed over shards.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.labels import Classes, background_index, read_classes
from lightcluster.datasets.manifest import read_manifest
from lightcluster.errors import StoreError
from lightcluster.evaluation.confusion import Confusion
from lightcluster.evaluation.protocols import FRAMES, FrameName, frames_of
from lightcluster.evaluation.region_counts import (
    count_by_region,
    iter_truth,
    read_region_counts,
)
from lightcluster.files import decode_names, encode_names, read_arrays, replacing, write_arrays
from lightcluster.regions.components import find_segments
from lightcluster.regions.labelling import read_labelling
from lightcluster.regions.number import Setting
from lightcluster.regions.painted import read_segmentation

TOTALS = ("segmentation", "random", "oracle")
"""Counts of `ImageCounts` that are summed over the images of a shard."""


class ImageCounts(NamedTuple):
    """Pixels of one image in one frame.

    Attributes
    ----------
    segmentation, random : int64 [clusters, classes]
        By predicted cluster and true class; the same for random clusters.
    oracle : int64 [classes + 1, classes]
        The same for the best possible class of each region; the last row is "no class".
    ignored : int
        Pixels without truth.
    """

    segmentation: NDArray[np.int64]
    random: NDArray[np.int64]
    oracle: NDArray[np.int64]
    ignored: int


def relabel(
    pixels: NDArray[np.int64], labels: NDArray[np.integer[Any]], n_labels: int
) -> NDArray[np.int64]:
    """Sum the rows that have the same label.

    Parameters
    ----------
    pixels : int64 array, shape (rows, classes)
    labels : int array, shape (rows,)
        In 0..n_labels-1.
    n_labels : int

    Returns
    -------
    int64 array, shape (n_labels, classes)
    """
    summed = np.zeros((n_labels, pixels.shape[1]), np.int64)
    np.add.at(summed, labels, pixels)
    return summed


def best_classes(pixels: NDArray[np.int64], ground: int | None) -> NDArray[np.int64]:
    """Return the most frequent true class in each region, which is the best possible label.

    Parameters
    ----------
    pixels : int64 array, shape (regions + 1, classes)
        Of an image; the first row is for pixels outside of all regions.
    ground : int or None
        Position of the background class, which is the label outside of all regions.

    Returns
    -------
    int64 array, shape (regions + 1,)
        Positions of classes; 0 for a region without truth. Without a background class, the label
        outside of all regions is the number of classes: "no class".
    """
    best: NDArray[np.int64] = pixels.argmax(axis=1)
    best[0] = pixels.shape[1] if ground is None else ground
    return best


def draw_clusters(
    image_id: str, regions: int, first: int, n_clusters: int, seed: int
) -> NDArray[np.int64]:
    """Return a random cluster, from `first` on, for each region; it depends on image and seed."""
    generator = np.random.default_rng([seed, zlib.crc32(image_id.encode())])
    return np.asarray(generator.integers(first, n_clusters, regions), np.int64)


def count_image(
    counted: Confusion,
    clusters: NDArray[np.integer[Any]],
    drawn: NDArray[np.int64],
    n_clusters: int,
    ground: int | None,
) -> ImageCounts:
    """Count a segmentation, and two others of the same regions for comparison.

    One has random clusters, which a labelling must beat; the other has the best possible classes,
    which no labelling can beat.

    Parameters
    ----------
    counted : Confusion
        The image's pixels by region and class (`region_counts.count_by_region`).
    clusters : int array, shape (regions,)
        Cluster of each region.
    drawn : int64 array, shape (regions,)
        Random cluster of each region.
    n_clusters : int
    ground : int or None
        Position of the background class.
    """
    pixels, n_classes = counted.counts, counted.counts.shape[1]
    outside = np.zeros(1, np.int64)
    return ImageCounts(
        relabel(pixels, np.concatenate([outside, clusters]), n_clusters),
        relabel(pixels, np.concatenate([outside, drawn]), n_clusters),
        relabel(pixels, best_classes(pixels, ground), n_classes + 1),
        counted.ignored,
    )


class ShardCounts:
    """The counts of a shard for one labelling seed: sums, and the segmentation image by image.

    Parameters
    ----------
    frames : iterable of FrameName
    n_clusters, n_classes : int
    """

    def __init__(self, frames: Iterable[FrameName], n_clusters: int, n_classes: int) -> None:
        shapes = {"segmentation": n_clusters, "random": n_clusters, "oracle": n_classes + 1}
        self._image_ids: list[str] = []
        self._ignored: dict[FrameName, list[int]] = {frame: [] for frame in frames}
        self._cells: dict[FrameName, list[NDArray[np.int64]]] = {
            frame: [np.zeros((0, 4), np.int64)] for frame in self._ignored
        }
        self._totals = {
            f"{frame}.{name}": np.zeros((height, n_classes), np.int64)
            for frame in self._ignored
            for name, height in shapes.items()
        }

    def add(self, image_id: str, counted: Mapping[FrameName, ImageCounts]) -> None:
        """Add an image, counted in each frame."""
        for frame, counts in counted.items():
            for name in TOTALS:
                self._totals[f"{frame}.{name}"] += getattr(counts, name)
            self._ignored[frame].append(counts.ignored)
            self._cells[frame].append(_cells(len(self._image_ids), counts.segmentation))
        self._image_ids.append(image_id)

    def write(self, output: Path) -> None:
        """Write the counts.

        The arrays are ``image_id``, the images with a label, and for each frame (a prefix, as in
        ``original.random``): ``segmentation``, ``random`` and ``oracle`` of `ImageCounts`, summed
        over the images; ``ignored`` int64 [images]; and ``cells`` int64 [cells, 4], the counts of
        the segmentation image by image, as rows of image number, cluster, class and pixels.
        """
        arrays: dict[str, NDArray[Any]] = {"image_id": encode_names(self._image_ids)}
        arrays |= self._totals
        for frame, ignored in self._ignored.items():
            arrays[f"{frame}.ignored"] = np.asarray(ignored, np.int64)
            arrays[f"{frame}.cells"] = np.concatenate(self._cells[frame])
        write_arrays(output, compressed=True, **arrays)


def files_of_seed(counts: Path, shards: Iterable[str], seed: int) -> list[Path]:
    """Return the counts of all shards for one labelling seed, in the folder of counts of a run."""
    return [counts / "classes" / shard / file_of_seed(seed) for shard in shards]


def file_of_seed(seed: int) -> str:
    """Return the name of the counts of one labelling seed, in the folder of a shard."""
    return f"seed-{seed}.npz"


def count_labels(
    region_counts: Path, regions: Path, labellings: Mapping[int, Path], output: Path
) -> None:
    """Count the clusters that labellings give the regions of a shard against true classes.

    No pixel is read: the counts of all regions are summed by cluster.

    Parameters
    ----------
    region_counts : Path
        Of `region_counts.count_regions`.
    regions : Path
        Descriptors of the regions, of `embedding.embed_regions`.
    labellings : mapping of int to Path
        By seed.
    output : Path
        A folder; the file of each seed is one of `ShardCounts.write`.
    """
    frames = read_region_counts(region_counts)
    first = next(iter(frames.values()))
    fits = {seed: read_labelling(path) for seed, path in labellings.items()}
    names = {name for fitted in fits.values() for name in fitted.features}
    described = read_arrays(regions, *names)
    with replacing(output) as folder:
        for seed, fitted in fits.items():
            classes, n_clusters = fitted.classes_of(described), len(fitted.centroids) + 1
            total = ShardCounts(frames, n_clusters, first.pixels.shape[1])
            for number, image_id in enumerate(first.image_id):
                own = classes[first.regions_of(number)]
                drawn = draw_clusters(image_id, len(own), 1, n_clusters, seed)  # 0: background
                counted = {
                    frame: count_image(
                        counts.counts_of(number), own, drawn, n_clusters, counts.ground
                    )
                    for frame, counts in frames.items()
                }
                total.add(image_id, counted)
            total.write(folder / file_of_seed(seed))


def count_confusion(
    manifest: Path,
    classes_file: Path,
    segmentations: Mapping[int, Path],
    output: Path,
    *,
    clusters: Callable[[Setting, Classes | None, int | None], int],
    classes: Setting,
    background: int | None,
    ignore: int,
    protocols: Sequence[str],
    stego_squash: bool,
) -> None:
    """Count the clusters of segmentations without masks against true classes.

    Random and best possible labels are those of their connected segments. `segmentations` are the
    folders of the shard by seed, `output` is as in `count_labels`, and `clusters` returns the
    number of clusters from `classes`, the classes of the dataset and `background`.
    """
    names = read_classes(classes_file)
    n_classes, ground = len(names.ids), background_index(names, background)
    n_clusters = clusters(classes, names, background)
    frames = frames_of(protocols, stego_squash)
    totals = {seed: ShardCounts(frames, n_clusters, n_classes) for seed in segmentations}
    rows = read_manifest(manifest)
    for _, row, truth in iter_truth([row.image_id for row in rows], rows, names, ignore):
        for seed, segmentation in segmentations.items():
            predicted = read_segmentation(segmentation / row.output)
            if (highest := int(predicted.max(initial=0))) >= n_clusters:
                raise StoreError(
                    f"{segmentation / row.output}: holds cluster id {highest}; allowed are "
                    f"0..{n_clusters - 1}"
                )
            label = find_segments(predicted)
            _, places = np.unique(label, return_index=True)  # every pixel is in a segment, from 1
            own = predicted.ravel()[places]
            drawn = draw_clusters(row.image_id, len(own), 0, n_clusters, seed)
            counted = {
                frame: count_image(
                    count_by_region(label, truth, frame, len(own), n_classes),
                    own, drawn, n_clusters, ground,
                )
                for frame in frames
            }  # fmt: skip
            totals[seed].add(row.image_id, counted)
    with replacing(output) as folder:
        for seed, total in totals.items():
            total.write(folder / file_of_seed(seed))


def _cells(number: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the non-zero cells of an image for `ShardCounts.write`; int64 [cells, 4]."""
    cluster, true = np.nonzero(counts)
    return np.stack([np.full_like(cluster, number), cluster, true, counts[cluster, true]], axis=1)


def first_frame(path: Path) -> FrameName:
    """Return the frame that counts of `files_of_seed` state first: that of the first protocol.

    Raises
    ------
    StoreError
        If the file is missing, damaged, or has none.
    """
    for name in read_arrays(path):
        for frame in FRAMES:
            if name == f"{frame}.segmentation":
                return frame
    raise StoreError(f"{path}: has no counts; delete it and run snakemake again")


def read_class_counts(paths: list[Path], frame: FrameName) -> tuple[ImageCounts, int]:
    """Return the counts of one frame summed over shards, and the number of images.

    Parameters
    ----------
    paths : list of Path
        Of `files_of_seed`.
    frame : FrameName
    """
    names = [f"{frame}.{name}" for name in (*TOTALS, "ignored")]
    totals: list[Any] = [0, 0, 0]
    ignored, images = 0, 0
    for path in paths:
        *counts, of_images = read_arrays(path, *names).values()
        totals = [total + part for total, part in zip(totals, counts, strict=True)]
        ignored += int(of_images.sum())
        images += len(of_images)
    segmentation, random, oracle = totals
    return ImageCounts(segmentation, random, oracle, ignored), images


class ShardCells(NamedTuple):
    """The counts of the images of one shard in one frame, as `ShardCounts.write` stored them.

    Attributes
    ----------
    image_ids : list of str
    shape : (int, int)
        Clusters and classes.
    cells : int64 [cells, 4]
        Number of the image, cluster, class and pixels.
    ignored : int64 [images]
    """

    image_ids: list[str]
    shape: tuple[int, int]
    cells: NDArray[np.int64]
    ignored: NDArray[np.int64]


def iter_cells(paths: list[Path], frame: FrameName) -> Iterator[ShardCells]:
    """Yield the counts of each shard, image by image."""
    names = [f"{frame}.{name}" for name in ("segmentation", "cells", "ignored")]
    for path in paths:
        arrays = read_arrays(path, "image_id", *names)
        segmentation, cells, ignored = (arrays[name] for name in names)
        image_ids = decode_names(arrays["image_id"])
        yield ShardCells(image_ids, segmentation.shape, cells, ignored)


class LabelledImage(NamedTuple):
    """One image of `iter_images`: its segmentation's counts [clusters, classes]."""

    image_id: str
    counts: NDArray[np.int64]
    ignored: int


def iter_images(paths: list[Path], frame: FrameName) -> Iterator[LabelledImage]:
    """Yield the counts of each image in one frame; only one shard is in memory at a time."""
    for shard in iter_cells(paths, frame):
        number, cluster, true, pixels = shard.cells.T
        bounds = np.searchsorted(number, np.arange(len(shard.image_ids) + 1))
        for index, image_id in enumerate(shard.image_ids):
            own = slice(bounds[index], bounds[index + 1])
            counts = np.zeros(shard.shape, np.int64)
            counts[cluster[own], true[own]] = pixels[own]
            yield LabelledImage(image_id, counts, int(shard.ignored[index]))
