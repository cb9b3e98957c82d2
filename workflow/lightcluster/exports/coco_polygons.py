"""COCO objects with polygons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightcluster.exports.coco_json import head_of, write_json
from lightcluster.exports.protocol import Exporter, Options

if TYPE_CHECKING:
    from lightcluster.exports.segmentation import Segmentation


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write all objects as a COCO detection dataset; area and box are those of the pixels.

    COCO fills the union of an object's polygons: each is one ring that leaves its holes out.
    """
    from lightcluster.exports.outlines import outline, single_rings

    annotations: list[dict[str, Any]] = []
    for picture in segmentation.pictures():
        for region in picture.regions:
            rings = single_rings(outline(region, options.tolerance))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture.number,
                    "category_id": region.category.id,
                    "segmentation": [ring.round(2).ravel().tolist() for ring in rings],
                    "area": region.area,
                    "bbox": list(region.box),
                    "iscrowd": 0,
                }
            )
    write_json(head_of(segmentation) | {"annotations": annotations}, output)
    return len(annotations)


COCO_POLYGONS = Exporter(
    name="coco-polygons", summary="COCO objects with polygons, a JSON file", write=write
)
