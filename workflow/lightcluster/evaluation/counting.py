"""Counting pixels of a shard against the ground truth: masks at every stage, and classes.

Everything that is ever scored comes from these int64 counts, summed over shards.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcluster.datasets.labels import (
    IGNORED,
    Classes,
    background_index,
    read_classes,
    read_label,
    to_indices,
)
from lightcluster.datasets.manifest import Row, read_manifest
from lightcluster.evaluation.confusion import count_confusion as count
from lightcluster.files import read_arrays, write_arrays
from lightcluster.masks.consistency import LEVELS, read_patch_masks
from lightcluster.masks.refinement import read_pixel_masks
from lightcluster.masks.upsampling import upsample
from lightcluster.progress import progress
from lightcluster.regions.components import find_regions
from lightcluster.regions.labelling import number_of_classes
from lightcluster.regions.painting import paint_regions

STAGES = (*LEVELS, "merged", "reestimated", "upsampled", "refined")
"""Stages of the binary mask: the levels, their merger and what followed from it as patches, then
as pixels."""


def _labelled(
    image_ids: list[str], rows: dict[str, Row], classes: Classes, ignore: int
) -> Iterator[tuple[int, Row, NDArray[np.uint16]]]:
    """Yield the number, the manifest row and the truth of each image that has a label."""
    for number, image_id in enumerate(progress(image_ids, "count")):
        row = rows[image_id]
        if row.label is not None:
            label = read_label(row.label, (row.height, row.width))
            yield number, row, to_indices(label, classes, ignore)


def count_masks(
    manifest: Path,
    classes_file: Path,
    patch_masks: Path,
    pixel_masks: Path,
    output: Path,
    *,
    background: int | None,
    ignore: int,
    upsampling: Literal["bilinear", "nearest"],
    threshold: float,
) -> None:
    """Count predicted against true foreground at each of the `STAGES`.

    Patch masks are enlarged to pixels without interpolation. Writes ``counts`` int64 [stages, 2, 2]
    (predicted, true; 1 is foreground), ``ignored`` int64, the pixels without truth, and ``images``
    int64, the images with a label. Without a background class there is nothing to count: zeros.
    """
    classes = read_classes(classes_file)
    ground = background_index(classes, background)
    rows = {row.image_id: row for row in read_manifest(manifest)}
    patches, pixels = read_patch_masks(patch_masks), read_pixel_masks(pixel_masks)
    counts, ignored, images = np.zeros((len(STAGES), 2, 2), np.int64), 0, 0
    for number, _, truth in _labelled(patches.image_id, rows, classes, ignore):
        if ground is None:
            break
        foreground = np.where(truth == IGNORED, np.uint8(255), (truth != ground).astype(np.uint8))
        merged, score, size = patches.merged_of(number), patches.score_of(number), truth.shape
        masks = [
            *(
                upsample(vote.astype(np.float32), size, "nearest") > 0.5
                for vote in patches.votes_of(number)
            ),
            upsample(merged, size, "nearest") > threshold,
            upsample(score, size, "nearest") > threshold,
            upsample(score, size, upsampling) > threshold,
            pixels.mask_of(number),
        ]
        for stage, mask in enumerate(masks):
            counted = count(mask.view(np.uint8), foreground, 2, 2, 255)
            counts[stage] += counted.counts
        ignored += counted.ignored
        images += 1
    write_arrays(output, counts=counts, ignored=np.asarray(ignored), images=np.asarray(images))


def oracle_classes(
    label: NDArray[np.int32], truth: NDArray[np.uint16], regions: int, n_classes: int
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


def count_confusion(
    manifest: Path,
    classes_file: Path,
    pixel_masks: Path,
    segmentation: Path,
    output: Path,
    *,
    classes: int | Literal["auto"],
    background: int | None,
    ignore: int,
    min_area: float,
    seed: int,
) -> None:
    """Count predicted clusters against true classes, at the images' own resolution.

    Beside the segmentation itself, two others of the same regions are counted: with random classes
    (what labelling must beat) and with the best possible ones (what it could reach).

    Writes ``segmentation`` and ``random`` int64 [1 + K, classes] (row 0 is the background),
    ``oracle`` int64 [classes + 1, classes] (rows are classes; the last one is "no class"),
    ``ignored`` and ``images`` int64.
    """
    names = read_classes(classes_file)
    n_classes, ground = len(names.ids), background_index(names, background)
    k = number_of_classes(classes, names, background)
    rows = {row.image_id: row for row in read_manifest(manifest)}
    masks = read_pixel_masks(pixel_masks)
    total = np.zeros((k + 1, n_classes), np.int64)
    random, oracle = np.zeros_like(total), np.zeros((n_classes + 1, n_classes), np.int64)
    ignored, images = 0, 0
    for number, row, truth in _labelled(masks.image_id, rows, names, ignore):
        with Image.open(segmentation / row.output) as image:
            predicted = np.asarray(image)
        counted = count(predicted, truth, k + 1, n_classes, IGNORED)
        total += counted.counts
        ignored += counted.ignored
        images += 1
        regions = find_regions(masks.mask_of(number), min_area)
        generator = np.random.default_rng([seed, zlib.crc32(row.image_id.encode())])
        drawn = generator.integers(1, k + 1, len(regions.area))
        painted = paint_regions(regions.label, drawn)
        random += count(painted, truth, k + 1, n_classes, IGNORED).counts
        best = oracle_classes(regions.label, truth, len(regions.area), n_classes)
        outside = n_classes if ground is None else ground
        painted = np.concatenate([[outside], best]).astype(np.uint16)[regions.label]
        oracle += count(painted, truth, n_classes + 1, n_classes, IGNORED).counts
    write_arrays(
        output,
        segmentation=total,
        random=random,
        oracle=oracle,
        ignored=np.asarray(ignored),
        images=np.asarray(images),
    )


def sum_counts(paths: list[Path]) -> dict[str, NDArray[np.int64]]:
    """Return the sum of the counts of all shards."""
    totals: dict[str, NDArray[np.int64]] = {}
    for path in paths:
        for name, counts in read_arrays(path).items():
            totals[name] = totals.get(name, 0) + counts.astype(np.int64)
    return totals
