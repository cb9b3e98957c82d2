"""Parts shared by all COCO files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightcluster import __version__
from lightcluster.exports.protocol import Options
from lightcluster.files import replacing

if TYPE_CHECKING:
    from lightcluster.exports.segmentation import Picture, Region, Segmentation


def head_of(segmentation: Segmentation, options: Options) -> dict[str, Any]:
    """Return all but the annotations; category ids are those of the segmentations."""
    return {
        "info": {"description": "unsupervised segmentation", "version": __version__},
        "images": [
            {
                "id": number,
                "file_name": options.place_of(sample.row.image_id, sample.row.image_id),
                "height": sample.row.height,
                "width": sample.row.width,
            }
            for number, sample in enumerate(segmentation.samples, start=1)
        ],
        "categories": [
            {
                "id": category.id,
                "name": category.name,
                "supercategory": "cluster",
                "isthing": int(not segmentation.stuff),
                "color": list(category.color),
            }
            for category in segmentation.categories
        ],
    }


def write_objects(
    segmentation: Segmentation,
    output: Path,
    outline_of: Callable[[Picture, int, Region], Any],
    options: Options,
) -> int:
    """Write all objects as a COCO detection dataset, a JSON file; return how many there are.

    Parameters
    ----------
    segmentation : Segmentation
    output : Path
    outline_of : callable
        The ``segmentation`` of an object, of its picture, its place there and its region.
    options : Options
    """
    annotations: list[dict[str, Any]] = []
    for picture in segmentation.pictures():
        for index, region in enumerate(picture.regions):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture.number,
                    "category_id": region.category.id,
                    "segmentation": outline_of(picture, index, region),
                    "area": region.area,
                    "bbox": list(region.box),
                    "iscrowd": 0,
                    **region.rated("score"),
                }
            )
    write_json(head_of(segmentation, options) | {"annotations": annotations}, output)
    return len(annotations)


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON file of one line."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.write("\n")
