"""Segmentations in the formats that other tools read: COCO objects (RLE) and COCO panoptic.

An object is a connected component (8 neighbours) of one class in a segmentation; what is 0,
background, is no object. Image ids are numbers from 1 in the order of the manifest; category ids
are those of the segmentation.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle
from scipy import ndimage
from skimage import measure

from lightcluster import __version__
from lightcluster.errors import StoreError
from lightcluster.files import replacing
from lightcluster.images.recognition import open_plain
from lightcluster.progress import progress
from lightcluster.reporting.contact_sheet import Sample, iter_manifest


@dataclass(frozen=True)
class Objects:
    """The objects of one image, in the order of their first pixel.

    Attributes
    ----------
    label : int64 array, shape (height, width)
        Number of the object of each pixel, from 1; 0 outside of all.
    category : int64 array, shape (objects,)
    area : int64 array, shape (objects,)
        In pixels.
    box : int64 array, shape (objects, 4)
        Left, top, width, height.
    """

    label: NDArray[np.int64]
    category: NDArray[np.int64]
    area: NDArray[np.int64]
    box: NDArray[np.int64]


def find_objects(classes: NDArray[np.integer]) -> Objects:
    """Find the objects of a segmentation, int array of shape (height, width)."""
    label = measure.label(classes, background=0, connectivity=2)  # type: ignore[no-untyped-call]
    slices = ndimage.find_objects(label)
    box = [(x.start, y.start, x.stop - x.start, y.stop - y.start) for y, x in slices]
    category = np.zeros(len(slices) + 1, np.int64)
    category[label] = classes
    return Objects(
        label=label.astype(np.int64),
        category=category[1:],
        area=np.bincount(label.ravel(), minlength=len(slices) + 1)[1:],
        box=np.asarray(box, np.int64).reshape(-1, 4),
    )


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask as compressed run lengths, as COCO has them in JSON."""
    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def panoptic_colors(label: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the picture of segment ids: id = R + 256 G + 65,536 B; uint8 [height, width, 3]."""
    return np.stack([label >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


WANTED = "`segmentation/seed-N` of a run, or a folder `segmentation` that `segment` wrote"


def find_manifest(segmentation: Path) -> Path:
    """Return the manifest of a folder of segmentations: the nearest one above it.

    Raises
    ------
    StoreError
        If the folder is none of segmentations, which have a ``classes.csv``, or there is no
        manifest; says which is meant if it is one inside.
    """
    if not (segmentation / "classes.csv").is_file():
        inside = [
            path.parent
            for pattern in ("segmentation/", "seed-*/", "segmentation/seed-*/")
            for path in sorted(segmentation.glob(f"{pattern}classes.csv"))
        ]
        hint = f"did you mean {inside[0]}?" if inside else f"name {WANTED}"
        raise StoreError(f"{segmentation}: no folder of segmentations (no classes.csv); {hint}")
    for folder in segmentation.resolve().parents[:3]:
        if (folder / "manifest.csv").is_file():
            return folder / "manifest.csv"
    raise StoreError(
        f"{segmentation}: no manifest.csv in the folders above; name {WANTED}, where it was made"
    )


def read_categories(segmentation: Path) -> list[dict[str, Any]]:
    """Return the categories: all ids of ``classes.csv`` but the background.

    Raises
    ------
    StoreError
        If the table is missing or damaged, or knows no background.
    """
    path = segmentation / "classes.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            categories = [
                {
                    "id": int(row["id"]),
                    "name": row["name"],
                    "supercategory": "cluster",
                    "isthing": 1,
                    "color": [int(row["color"][i : i + 2], 16) for i in (1, 3, 5)],
                }
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from None
    objects = [category for category in categories if category["name"] != "background"]
    if any(category["id"] == 0 for category in objects):
        raise StoreError(f"{path}: a segmentation without background has no objects to export")
    return objects


def iter_segmentations(
    segmentation: Path, samples: list[Sample]
) -> Iterator[tuple[int, Sample, NDArray[np.integer]]]:
    """Yield number, manifest row and classes of each image.

    Raises
    ------
    StoreError
        If a segmentation is missing or damaged.
    """
    for number, sample in enumerate(progress(samples, "export"), start=1):
        sharded = segmentation / sample.shard / sample.row.output
        path = sharded if sharded.is_file() else segmentation / sample.row.output
        try:
            with open_plain(path) as image:
                classes = np.asarray(image)
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            raise StoreError(f"{path}: cannot be read ({error}); make it again") from None
        yield number, sample, classes


def _head(samples: list[Sample], categories: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "info": {"description": "unsupervised segmentation", "version": __version__},
        "images": [
            {
                "id": number,
                "file_name": sample.row.image_id,
                "height": sample.row.height,
                "width": sample.row.width,
            }
            for number, sample in enumerate(samples, start=1)
        ],
        "categories": categories,
    }


def export_coco(segmentation: Path, output: Path) -> int:
    """Write all objects as a COCO detection dataset with run-length encoded masks.

    Parameters
    ----------
    segmentation : Path
        Folder of indexed PNGs with their ``classes.csv``.
    output : Path
        JSON file.

    Returns
    -------
    int
        Number of objects.

    Raises
    ------
    StoreError
        If a file of `segmentation`, or the manifest above it, is missing or damaged.
    """
    samples = list(iter_manifest(find_manifest(segmentation)))
    annotations: list[dict[str, Any]] = []
    for number, _, classes in iter_segmentations(segmentation, samples):
        found = find_objects(classes)
        for index, (category, area) in enumerate(zip(found.category, found.area, strict=True)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(category),
                    "segmentation": encode_mask(found.label == index + 1),
                    "area": int(area),
                    "bbox": found.box[index].tolist(),
                    "iscrowd": 0,
                }
            )
    _write_json(
        _head(samples, read_categories(segmentation)) | {"annotations": annotations}, output
    )
    return len(annotations)


def export_panoptic(segmentation: Path, output: Path) -> int:
    """Write all objects in the panoptic format of COCO; background is void.

    Writes ``panoptic.json`` and the PNGs of segment ids, ``panoptic/<output>``, into the folder
    `output`, which appears only when complete. See `export_coco`.
    """
    samples, count = list(iter_manifest(find_manifest(segmentation))), 0
    annotations = []
    with replacing(output) as folder:
        folder.mkdir()
        for number, sample, classes in iter_segmentations(segmentation, samples):
            found = find_objects(classes)
            count += len(found.area)
            path = folder / "panoptic" / sample.row.output
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(panoptic_colors(found.label)).save(path, format="PNG")
            segments = [
                {
                    "id": index + 1,
                    "category_id": int(category),
                    "area": int(found.area[index]),
                    "bbox": found.box[index].tolist(),
                    "iscrowd": 0,
                }
                for index, category in enumerate(found.category)
            ]
            annotations.append(
                {"image_id": number, "file_name": sample.row.output, "segments_info": segments}
            )
        head = _head(samples, read_categories(segmentation))
        _write_json(head | {"annotations": annotations}, folder / "panoptic.json")
    return count


def _write_json(content: dict[str, Any], path: Path) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.write("\n")
