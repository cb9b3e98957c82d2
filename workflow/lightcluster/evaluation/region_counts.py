"""Counts of the pixels of a shard by region and true class.

They are made once. The counts of any labelling of the regions are sums over these rows: of each
labelling seed, and of random, oracle and nearest-neighbour labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from lightcluster.evaluation.confusion import Confusion, count_confusion
from lightcluster.evaluation.protocols import FrameName, frames_of, to_frame
from lightcluster.files import decode_names, encode_names, read_arrays, write_arrays
from lightcluster.progress import progress
from lightcluster.regions.maps import read_region_maps


def iter_truth(
    image_ids: list[str], rows: list[Row], classes: Classes, ignore: int
) -> Iterator[tuple[int, Row, NDArray[np.uint16]]]:
    """Yield the position in `image_ids`, the manifest row and the truth of each labelled image.

    They come in the order of the manifest, which is the same for all runs, because runs are
    compared image by image. The masks of a run are in the order of its features, which may differ.
    """
    places = {image_id: number for number, image_id in enumerate(image_ids)}
    for row in progress(rows, "count"):
        if row.label is not None:
            label = open_label(row.label, (row.height, row.width))
            yield places[row.image_id], row, to_indices(label, classes, ignore)


def count_by_region(
    label: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    frame: FrameName,
    regions: int,
    n_classes: int,
) -> Confusion:
    """Count the pixels of one image by region and true class, in one frame.

    Parameters
    ----------
    label : int array, shape (height, width)
        Region of each pixel, from 1; 0 outside of all regions.
    truth : uint16 array, shape (height, width)
        Positions of classes, or `labels.IGNORED`.
    frame : FrameName
    regions, n_classes : int

    Returns
    -------
    Confusion
        Its counts are int64 [regions + 1, classes]; the first row is for pixels outside of all
        regions.
    """
    framed = to_frame(label, frame), to_frame(truth, frame)
    return count_confusion(*framed, regions + 1, n_classes, IGNORED)


@dataclass(frozen=True)
class RegionCounts:
    """The counts of the labelled images of one shard, in one frame.

    Attributes
    ----------
    image_id : list of str
    first : int64 array, shape (images,)
        Number of the first region of each image among those of the shard (`regions.maps`).
    offset : int64 array, shape (images + 1,)
        First row of each image in `pixels`. An image has one row for the pixels outside of all
        regions, and then one for each region.
    pixels : int64 array, shape (rows, classes)
    ignored : int64 array, shape (images,)
        Pixels without truth.
    ground : int or None
        Position of the background class.
    """

    image_id: list[str]
    first: NDArray[np.int64]
    offset: NDArray[np.int64]
    pixels: NDArray[np.int64]
    ignored: NDArray[np.int64]
    ground: int | None

    def counts_of(self, image: int) -> Confusion:
        """Return the counts of an image; see `count_by_region`."""
        rows = slice(*self.offset[image : image + 2])
        return Confusion(self.pixels[rows], int(self.ignored[image]))

    def regions_of(self, image: int) -> slice:
        """Return which regions of the shard are those of an image."""
        regions = int(self.offset[image + 1] - self.offset[image]) - 1
        return slice(int(self.first[image]), int(self.first[image]) + regions)


def count_regions(
    manifest: Path,
    classes_file: Path,
    region_maps: Path,
    output: Path,
    *,
    background: int | None,
    ignore: int,
    protocols: Sequence[str],
    stego_squash: bool,
) -> None:
    """Count the pixels of the regions of a shard by true class, in the frame of each protocol.

    Writes the arrays of `RegionCounts`; there are ``pixels`` and ``ignored`` for each frame, with
    names such as ``original.pixels``.
    """
    classes = read_classes(classes_file)
    frames = frames_of(protocols, stego_squash)
    maps = read_region_maps(region_maps)
    image_ids: list[str] = []
    first, rows = [], [0]
    pixels: dict[FrameName, list[NDArray[np.int64]]] = {frame: [] for frame in frames}
    ignored: dict[FrameName, list[int]] = {frame: [] for frame in frames}
    truths = iter_truth(maps.image_id, read_manifest(manifest), classes, ignore)
    for number, row, truth in truths:
        label, own = maps.label_of(number), maps.rows_of(number)
        regions = int(own.stop - own.start)
        for frame in frames:
            counted = count_by_region(label, truth, frame, regions, len(classes.ids))
            pixels[frame].append(counted.counts)
            ignored[frame].append(counted.ignored)
        image_ids.append(row.image_id)
        first.append(own.start)
        rows.append(rows[-1] + regions + 1)
    none = np.zeros((0, len(classes.ids)), np.int64)
    ground = background_index(classes, background)
    write_arrays(
        output,
        compressed=True,
        image_id=encode_names(image_ids),
        first=np.asarray(first, np.int64),
        offset=np.asarray(rows, np.int64),
        ground=np.asarray(-1 if ground is None else ground),
        frames=encode_names(frames),
        **{f"{frame}.pixels": np.concatenate([none, *pixels[frame]]) for frame in frames},
        **{f"{frame}.ignored": np.asarray(ignored[frame], np.int64) for frame in frames},
    )


def read_region_counts(path: Path) -> dict[FrameName, RegionCounts]:
    """Read the file of `count_regions`, by frame."""
    frames: list[Any] = decode_names(read_arrays(path, "frames")["frames"])
    of_frames = (f"{frame}.{name}" for frame in frames for name in ("pixels", "ignored"))
    arrays = read_arrays(path, "image_id", "first", "offset", "ground", *of_frames)
    image_id, ground = decode_names(arrays["image_id"]), int(arrays["ground"])
    return {
        frame: RegionCounts(
            image_id,
            arrays["first"],
            arrays["offset"],
            arrays[f"{frame}.pixels"],
            arrays[f"{frame}.ignored"],
            None if ground < 0 else ground,
        )
        for frame in frames
    }
