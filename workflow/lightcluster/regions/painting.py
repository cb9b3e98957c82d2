"""Segmentations and masks as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcluster.datasets.manifest import read_manifest
from lightcluster.files import read_arrays, replacing
from lightcluster.masks.pixels import read_pixel_masks
from lightcluster.progress import progress
from lightcluster.regions.labelling import read_labelling
from lightcluster.regions.maps import read_region_maps
from lightcluster.regions.palette import VOC_PALETTE


def paint_regions(label: NDArray[np.int32], classes: NDArray[np.integer]) -> NDArray[np.uint16]:
    """Return the class of each pixel: uint16, shape (height, width); 0 outside of all regions.

    Parameters
    ----------
    label : int32 array, shape (height, width)
        Region of each pixel, from 1; 0 outside (`components.Regions.label`).
    classes : int array, shape (regions,)
    """
    return np.concatenate([[0], classes]).astype(np.uint16)[label]


def save_indexed(classes: NDArray[np.uint16], path: Path) -> None:
    """Write a label map as PNG: 8 bits with the VOC palette, or 16 bits grey from class 256 on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if classes.max(initial=0) > 255:
        Image.fromarray(classes).save(path, format="PNG")
        return
    image = Image.fromarray(classes.astype(np.uint8))
    image.putpalette(VOC_PALETTE.tobytes())
    image.save(path, format="PNG")


def paint_segmentation(
    manifest: Path,
    region_maps: Path,
    regions: Path,
    labelling: Path,
    output: Path,
) -> None:
    """Write the segmentation of each image of a shard below the folder `output`."""
    rows = {row.image_id: row for row in read_manifest(manifest)}
    maps = read_region_maps(region_maps)
    fitted = read_labelling(labelling)
    classes = fitted.classes_of(read_arrays(regions, *fitted.features))
    with replacing(output) as folder:
        folder.mkdir()
        for number, image_id in enumerate(progress(maps.image_id, "paint")):
            painted = paint_regions(maps.label_of(number), classes[maps.rows_of(number)])
            save_indexed(painted, folder / rows[image_id].output)


def paint_masks(manifest: Path, pixel_masks: Path, output: Path) -> None:
    """Write the binary mask of each image of a shard as 1-bit PNG below the folder `output`."""
    rows = {row.image_id: row for row in read_manifest(manifest)}
    masks = read_pixel_masks(pixel_masks)
    with replacing(output) as folder:
        folder.mkdir()
        for number, image_id in enumerate(progress(masks.image_id, "paint masks")):
            path = folder / rows[image_id].output
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(masks.mask_of(number)).save(path, format="PNG")
