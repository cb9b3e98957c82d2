"""COCO objects with run-length encoded masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightcluster.exports.coco_json import head_of, write_json
from lightcluster.exports.protocol import Exporter, Options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lightcluster.exports.segmentation import Segmentation


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask as compressed run lengths, as COCO has them in JSON."""
    import numpy as np
    from pycocotools import mask as rle

    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write all objects as a COCO detection dataset, a JSON file."""
    annotations: list[dict[str, Any]] = []
    for picture in segmentation.pictures():
        for index, region in enumerate(picture.regions):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture.number,
                    "category_id": region.category.id,
                    "segmentation": encode_mask(picture.objects.label == index + 1),
                    "area": region.area,
                    "bbox": list(region.box),
                    "iscrowd": 0,
                }
            )
    write_json(head_of(segmentation) | {"annotations": annotations}, output)
    return len(annotations)


COCO = Exporter(
    name="coco", summary="COCO objects with run-length encoded masks, a JSON file", write=write
)
