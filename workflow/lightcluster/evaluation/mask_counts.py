"""Counting and scoring the binary masks of every stage against the ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.labels import IGNORED, background_index, read_classes
from lightcluster.datasets.manifest import read_manifest
from lightcluster.evaluation.boundary import TrueEdge
from lightcluster.evaluation.confusion import count_confusion
from lightcluster.evaluation.region_counts import iter_truth
from lightcluster.evaluation.scores import foreground_scores
from lightcluster.files import read_arrays, write_arrays
from lightcluster.masks.consistency import LEVELS
from lightcluster.masks.patches import read_level_masks, read_patch_scores
from lightcluster.masks.pixels import read_pixel_masks
from lightcluster.masks.upsampling import upsample

STAGES = (*LEVELS, "merged", "reestimated", "upsampled", "refined")
"""Stages of the binary mask: those of patches (levels, merged, re-estimated), then of pixels."""

LEAST_IMAGES = 3
"""Classes in fewer images are left out of means over classes."""


class MaskCounts(NamedTuple):
    """The counts and outline scores of the masks of some images.

    Attributes
    ----------
    by_class : int64 [images, stages, 2, classes]
        Pixels by prediction (0: background, 1: foreground) and true class.
    boundary_f : float64 [images, stages]
        See `evaluation.boundary`.
    ignored : int64 [images]
        Pixels without truth.
    background : int
        Position of the background class; -1 if there is none, and then there are no images.
    """

    by_class: NDArray[np.int64]
    boundary_f: NDArray[np.float64]
    ignored: NDArray[np.int64]
    background: int

    def tables(self) -> NDArray[np.int64]:
        """Return the pixels by prediction and truth; int64 [images, stages, 2, 2]."""
        return split_sides(self.by_class, self.background)

    def image_iou(self) -> NDArray[np.float64]:
        """Return the IoU of the foreground; float64 [images, stages], NaN where there is none."""
        tables = self.tables()
        union = tables.sum(axis=(2, 3)) - tables[..., 0, 0]
        held = tables[..., 1].sum(axis=2) > 0
        return np.where(held, tables[..., 1, 1] / np.maximum(union, 1), np.nan)


class MaskTotals(NamedTuple):
    """The counts and outline scores of one stage over all images.

    Attributes
    ----------
    by_class : int64 [2, classes]
        Sums over the images.
    seen : int64 [classes]
        Number of images that contain each class.
    image_iou, boundary_f : float
        Means over the images that contain foreground; NaN if none does.
    background : int
    """

    by_class: NDArray[np.int64]
    seen: NDArray[np.int64]
    image_iou: float
    boundary_f: float
    background: int


def split_sides(by_class: NDArray[np.int64], background: int) -> NDArray[np.int64]:
    """Sum counts by true class to background (0) and foreground (1); int64 [..., 2]."""
    outside = by_class[..., background]
    return np.stack([outside, by_class.sum(axis=-1) - outside], axis=-1)


def count_masks(
    manifest: Path,
    classes_file: Path,
    merged: Path,
    scores: Path,
    pixel_masks: Path,
    output: Path,
    *,
    background: int | None,
    ignore: int,
    upsampling: Literal["bilinear", "nearest"],
    threshold: float,
) -> None:
    """Count the pixels of each class that the mask of each of the `STAGES` covers.

    Patch masks are enlarged to pixels without interpolation, and the outline of each mask is
    scored. Writes `MaskCounts` of the images with a label, in the order of the manifest; of no
    images if there is no background class.
    """
    classes = read_classes(classes_file)
    ground = background_index(classes, background)
    rows = read_manifest(manifest)
    levels, patches = read_level_masks(merged), read_patch_scores(scores)
    pixels = read_pixel_masks(pixel_masks)
    counts: list[NDArray[np.int64]] = []
    outlines: list[list[float]] = []
    ignored: list[int] = []
    n_classes = len(classes.ids)
    for number, row, truth in iter_truth(patches.image_id, rows, classes, ignore):
        if ground is None:
            break
        score, size = patches.score_of(number), (row.height, row.width)
        of_patches = [*levels.votes_of(number), levels.merged_of(number) > threshold,
                      score > threshold]  # fmt: skip
        place = patch_of_pixels(score.shape, size)
        masks = [
            *(mask.ravel()[place] for mask in of_patches),
            upsample(score, size, upsampling) > threshold,
            pixels.mask_of(number),
        ]
        # The pixels of a patch have the same side in each mask of patches: they are counted once.
        by_patch = count_confusion(place, truth, score.size, n_classes, IGNORED)
        counts.append(
            np.stack(
                [
                    *(split_counts(by_patch.counts, mask.ravel()) for mask in of_patches),
                    *(
                        count_confusion(mask.view(np.uint8), truth, 2, n_classes, IGNORED).counts
                        for mask in masks[len(of_patches) :]
                    ),
                ]
            )
        )
        ignored.append(by_patch.ignored)
        edge = TrueEdge(truth, ground, IGNORED)
        outlines.append([edge.boundary_f(mask) for mask in masks])
    write_arrays(
        output,
        compressed=True,
        by_class=np.asarray(counts, np.int64).reshape(-1, len(STAGES), 2, n_classes),
        boundary_f=np.asarray(outlines, np.float64).reshape(-1, len(STAGES)),
        ignored=np.asarray(ignored, np.int64),
        background=np.asarray(-1 if ground is None else ground),
    )


def patch_of_pixels(grid: tuple[int, ...], size: tuple[int, int]) -> NDArray[np.int32]:
    """Return the patch of each pixel, as `upsample` chooses the nearest one.

    Parameters
    ----------
    grid : (int, int)
        Rows and columns of patches.
    size : (int, int)
        Height and width in pixels.

    Returns
    -------
    int32 array, shape (height, width)
        Positions in the flat grid.
    """
    rows, columns = (
        upsample(np.arange(patches, dtype=np.float32)[:, None], (pixels, 1), "nearest")[:, 0]
        for patches, pixels in zip(grid, size, strict=True)
    )
    return (rows[:, None] * grid[1] + columns).astype(np.int32)


def split_counts(by_patch: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Sum counts by patch [patches, …] to those outside and inside of a mask of patches [2, …]."""
    inside = by_patch[mask].sum(axis=0)
    return np.stack([by_patch.sum(axis=0) - inside, inside])


def read_mask_counts(path: Path) -> MaskCounts:
    """Read the file of `count_masks`."""
    arrays = read_arrays(path, *MaskCounts._fields)
    return MaskCounts(
        arrays["by_class"], arrays["boundary_f"], arrays["ignored"], int(arrays["background"])
    )


def sum_mask_counts(paths: list[Path]) -> tuple[dict[str, MaskTotals], int]:
    """Return the totals of each of the `STAGES` over all shards, and the ignored pixels."""
    by_class, seen = np.zeros((len(STAGES), 2, 1), np.int64), np.zeros(1, np.int64)
    sums = np.zeros((2, len(STAGES)))
    ignored, images, background = 0, 0, -1
    for path in paths:
        shard = read_mask_counts(path)
        by_class, seen = by_class + shard.by_class.sum(axis=0), seen + images_by_class(shard)
        of_images = shard.image_iou()
        held = ~np.isnan(of_images).any(axis=1)
        sums += of_images[held].sum(axis=0), shard.boundary_f[held].sum(axis=0)
        images += int(held.sum())
        ignored += int(shard.ignored.sum())
        background = shard.background
    iou, outline = sums / (images or np.nan)
    totals = {
        stage: MaskTotals(
            by_class[number], seen, float(iou[number]), float(outline[number]), background
        )
        for number, stage in enumerate(STAGES)
    }
    return totals, ignored


def images_by_class(counts: MaskCounts) -> NDArray[np.int64]:
    """Return how many of the images contain each class; int64 [classes]."""
    found: NDArray[np.int64] = (counts.by_class[:, 0].sum(axis=1) > 0).sum(axis=0)
    return found


def score_masks(totals: MaskTotals) -> dict[str, float]:
    """Score the masks of one stage.

    The scores of the pooled pixels depend mostly on common classes and large images. Therefore
    there are also ``image_foreground_iou`` and ``boundary_f``, means over images; ``class_recall``,
    the share of a class's pixels that the mask covers, a mean over the classes that occur in at
    least `LEAST_IMAGES`; and ``background_taken``, the share of the background that it covers.

    Parameters
    ----------
    totals : MaskTotals

    Returns
    -------
    dict of str to float
        Fractions by name; NaN for undefined scores.
    """
    by_class, ground = totals.by_class, totals.background
    common = totals.seen >= LEAST_IMAGES
    common[ground] = False
    pixels = by_class.sum(axis=0)
    common &= pixels > 0  # a resample may contain none of it
    recall = by_class[1, common] / pixels[common]
    taken = by_class[1, ground] / pixels[ground] if pixels[ground] else float("nan")
    pooled = foreground_scores(split_sides(by_class, ground))
    return {
        "background_iou": pooled.iou_background,
        "foreground_iou": pooled.iou_foreground,
        "fgbg_miou": pooled.mean_iou,
        "fgbg_accuracy": pooled.accuracy,
        "image_foreground_iou": totals.image_iou,
        "boundary_f": totals.boundary_f,
        "class_recall": float(recall.mean()) if common.any() else float("nan"),
        "background_taken": float(taken),
    }
