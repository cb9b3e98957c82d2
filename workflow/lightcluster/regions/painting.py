"""Writing segmentations and masks as PNG files, and the table of the regions."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcluster.datasets.manifest import read_manifest, write_line
from lightcluster.errors import StoreError, reason_of
from lightcluster.files import read_arrays, replacing
from lightcluster.masks.pixels import read_pixel_masks
from lightcluster.progress import progress
from lightcluster.regions.labelling import read_labelling
from lightcluster.regions.maps import RegionMaps, read_region_maps
from lightcluster.regions.palette import palette


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
    """Write a label map as PNG: 8 bits with the `palette`, or 16 bits for values above 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if classes.max(initial=0) > 255:
        Image.fromarray(classes).save(path, format="PNG")
        return
    image = Image.fromarray(classes.astype(np.uint8))
    image.putpalette(palette().tobytes())
    image.save(path, format="PNG")


def paint_segmentation(
    manifest: Path,
    region_maps: Path,
    regions: Path,
    labelling: Path,
    output: Path,
    table: Path,
) -> None:
    """Write the segmentation of each image of a shard below the folder `output`.

    Also writes a `table` of its regions, for `read_labelled_regions`.
    """
    rows = {row.image_id: row for row in read_manifest(manifest)}
    maps = read_region_maps(region_maps)
    fitted = read_labelling(labelling)
    classes, confidence = fitted.label(read_arrays(regions, *fitted.features))
    with replacing(output) as folder:
        folder.mkdir()
        for number, image_id in enumerate(progress(maps.image_id, "paint")):
            painted = paint_regions(maps.label_of(number), classes[maps.rows_of(number)])
            save_indexed(painted, folder / rows[image_id].output)
    _write_regions(table, maps, classes, confidence)


@dataclass(frozen=True)
class LabelledRegion:
    """A region of an image and its class.

    Attributes
    ----------
    image_id : str
    region : int
        From 1, in the order of `RegionMaps`.
    cluster : int
        From 1.
    confidence : float
        In [0, 1]; see `labelling.simplified_silhouette`.
    area : int
        In pixels.
    top, left, bottom, right : int
        Of its box; bottom and right are exclusive.
    """

    image_id: str
    region: int
    cluster: int
    confidence: float
    area: int
    top: int
    left: int
    bottom: int
    right: int


def _write_regions(
    table: Path,
    maps: RegionMaps,
    classes: NDArray[np.integer],
    confidence: NDArray[np.float32],
) -> None:
    with replacing(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        write_line(file, list(LabelledRegion.__dataclass_fields__))
        for row in range(len(classes)):
            first = maps.rows_of(int(maps.image[row])).start
            numbers = (maps.area[row], *maps.box[row])
            write_line(
                file,
                [
                    maps.image_id[maps.image[row]], str(row - first + 1), str(classes[row]),
                    f"{confidence[row]:.4f}", *(str(number) for number in numbers),
                ],
            )  # fmt: skip


def read_regions_by_image(table: Path) -> dict[str, list[LabelledRegion]]:
    """Read the regions of each image that has some from a table of `paint_segmentation`.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    found: dict[str, list[LabelledRegion]] = {}
    for region in read_labelled_regions(table):
        found.setdefault(region.image_id, []).append(region)
    return found


def read_labelled_regions(table: Path) -> Iterator[LabelledRegion]:
    """Yield the regions in a table of `paint_segmentation`.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                confidence = float(row["confidence"])
                numbers = {
                    name: int(row[name]) for name in LabelledRegion.__dataclass_fields__
                    if name not in ("image_id", "confidence")
                }  # fmt: skip
                yield LabelledRegion(row["image_id"], confidence=confidence, **numbers)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{table}: cannot be read ({reason_of(error)}); run snakemake to make it"
        ) from None


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
