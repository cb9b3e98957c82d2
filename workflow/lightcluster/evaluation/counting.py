"""Counting pixels of a shard by predicted cluster and true class.

Every score of the classes comes from these int64 counts, summed over shards.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.labels import (
    IGNORED,
    Classes,
    background_index,
    open_label,
    read_classes,
    to_indices,
)
from lightcluster.datasets.manifest import Row, read_manifest
from lightcluster.evaluation.confusion import count_confusion as count
from lightcluster.evaluation.protocols import FrameName, frames_of, to_frame
from lightcluster.files import decode_names, encode_names, read_arrays, write_arrays
from lightcluster.images.recognition import open_plain
from lightcluster.progress import progress
from lightcluster.regions.components import find_segments
from lightcluster.regions.labelling import number_of_clusters
from lightcluster.regions.maps import read_region_maps
from lightcluster.regions.painting import paint_regions

TOTALS = ("segmentation", "random", "oracle")
"""Counts of `count_confusion` that are summed over the images of a shard."""


def iter_truth(
    image_ids: list[str], rows: list[Row], classes: Classes, ignore: int
) -> Iterator[tuple[int, Row, NDArray[np.uint16]]]:
    """Yield the place in `image_ids`, the manifest row and the truth of each image with a label.

    The order is that of the manifest, and so the same for all runs, which are compared image by
    image; that of their masks is of their features, and may be another.
    """
    places = {image_id: number for number, image_id in enumerate(image_ids)}
    for row in progress(rows, "count"):
        if row.label is not None:
            label = open_label(row.label, (row.height, row.width))
            yield places[row.image_id], row, to_indices(label, classes, ignore)


def oracle_classes(
    label: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    regions: int,
    n_classes: int,
) -> NDArray[np.int64]:
    """Return the most frequent true class in each region, the best label it could be given.

    Returns
    -------
    int64 array, shape (regions,)
        Positions of classes; of a region without truth, 0.
    """
    valid = truth != IGNORED
    joint = label[valid].astype(np.int64) * n_classes + truth[valid]
    table = np.bincount(joint, minlength=(regions + 1) * n_classes).reshape(-1, n_classes)
    best: NDArray[np.int64] = table[1:].argmax(axis=1)
    return best


class ImageCounts(NamedTuple):
    """Pixels of one image in one frame.

    Attributes
    ----------
    segmentation, random : int64 [clusters, classes]
        Predicted cluster and true class; of random clusters, likewise.
    oracle : int64 [classes + 1, classes]
        Of the best possible class of each region; the last row is "no class".
    ignored : int
        Pixels without truth.
    """

    segmentation: NDArray[np.int64]
    random: NDArray[np.int64]
    oracle: NDArray[np.int64]
    ignored: int


def count_image(
    predicted: NDArray[np.integer[Any]],
    label: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    drawn: NDArray[np.int64],
    n_clusters: int,
    n_classes: int,
    ground: int | None,
) -> ImageCounts:
    """Count a segmentation, and two others of the same regions.

    These have random clusters, what labelling must beat, and the best possible classes, what it
    could reach.

    Parameters
    ----------
    predicted : int array, shape (height, width)
        Clusters.
    label : int array, shape (height, width)
        Region of each pixel, from 1; 0 outside.
    truth : uint16 array, shape (height, width)
        Positions of classes, or `labels.IGNORED`.
    drawn : int64 array, shape (regions,)
        A random cluster for each region.
    n_clusters, n_classes : int
    ground : int or None
        Position of the background class.
    """
    counted = count(predicted, truth, n_clusters, n_classes, IGNORED)
    painted = paint_regions(label.astype(np.int32, copy=False), drawn)
    random = count(painted, truth, n_clusters, n_classes, IGNORED)
    best = oracle_classes(label, truth, len(drawn), n_classes)
    outside = n_classes if ground is None else ground
    painted = np.concatenate([[outside], best]).astype(np.uint16)[label]
    oracle = count(painted, truth, n_classes + 1, n_classes, IGNORED)
    return ImageCounts(counted.counts, random.counts, oracle.counts, counted.ignored)


def count_confusion(
    manifest: Path,
    classes_file: Path,
    region_maps: Path | None,
    segmentation: Path,
    output: Path,
    *,
    method: str,
    classes: int | Literal["auto"],
    background: int | None,
    ignore: int,
    protocols: Sequence[str],
    stego_squash: bool,
    seed: int,
) -> None:
    """Count predicted clusters against true classes, in the frame of each protocol.

    Random and best possible labels are those of the regions of `region_maps`; of a method without
    masks, those of the connected segments of its own segmentation.

    Writes ``image_id``, the images with a label, and for each frame of the protocols (a prefix, as
    in ``original.random``) the counts of `ImageCounts`: ``segmentation``, ``random`` and
    ``oracle`` summed over the images; ``ignored`` int64 [images]; and ``cells`` int64 [cells, 4],
    the segmentation again but image by image: number of the image, cluster, class and pixels,
    where there are any.
    """
    names = read_classes(classes_file)
    n_classes, ground = len(names.ids), background_index(names, background)
    n_clusters = number_of_clusters(method, classes, names, background)
    frames = frames_of(protocols, stego_squash)
    rows = read_manifest(manifest)
    maps = None if region_maps is None else read_region_maps(region_maps)
    image_order = [row.image_id for row in rows] if maps is None else maps.image_id
    first_drawn = int(maps is not None)  # 0 is the background of masks, and no region's
    shapes = {"segmentation": n_clusters, "random": n_clusters, "oracle": n_classes + 1}
    totals = {
        f"{frame}.{name}": np.zeros((height, n_classes), np.int64)
        for frame in frames
        for name, height in shapes.items()
    }
    ignored: dict[str, list[int]] = {frame: [] for frame in frames}
    cells: dict[str, list[NDArray[np.int64]]] = {frame: [] for frame in frames}
    image_ids: list[str] = []
    for number, row, truth in iter_truth(image_order, rows, names, ignore):
        with open_plain(segmentation / row.output) as image:
            predicted = np.asarray(image)
        label = find_segments(predicted) if maps is None else maps.label_of(number)
        generator = np.random.default_rng([seed, zlib.crc32(row.image_id.encode())])
        drawn = generator.integers(first_drawn, n_clusters, int(label.max()))
        for frame in frames:
            counted = count_image(
                to_frame(predicted, frame), to_frame(label, frame), to_frame(truth, frame),
                drawn, n_clusters, n_classes, ground,
            )  # fmt: skip
            for name in TOTALS:
                totals[f"{frame}.{name}"] += getattr(counted, name)
            ignored[frame].append(counted.ignored)
            cells[frame].append(_cells(len(image_ids), counted.segmentation))
        image_ids.append(row.image_id)
    of_images = {f"{frame}.ignored": np.asarray(ignored[frame], np.int64) for frame in frames} | {
        f"{frame}.cells": np.concatenate([np.zeros((0, 4), np.int64), *cells[frame]])
        for frame in frames
    }
    arrays = {"image_id": encode_names(image_ids), **totals, **of_images}
    write_arrays(output, compressed=True, **arrays)


def _cells(number: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cells of an image that are not 0: int64 [cells, 4], its number first."""
    cluster, true = np.nonzero(counts)
    return np.stack([np.full_like(cluster, number), cluster, true, counts[cluster, true]], axis=1)


def read_class_counts(paths: list[Path], frame: FrameName) -> tuple[ImageCounts, int]:
    """Return what `count_confusion` wrote in one frame, summed over shards, and the images."""
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
    """The counts of the images of one shard in one frame, as `count_confusion` wrote them.

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
    """Yield the counts of each image in one frame, with those of one shard in memory."""
    for shard in iter_cells(paths, frame):
        number, cluster, true, pixels = shard.cells.T
        bounds = np.searchsorted(number, np.arange(len(shard.image_ids) + 1))
        for index, image_id in enumerate(shard.image_ids):
            own = slice(bounds[index], bounds[index + 1])
            counts = np.zeros(shard.shape, np.int64)
            counts[cluster[own], true[own]] = pixels[own]
            yield LabelledImage(image_id, counts, int(shard.ignored[index]))
