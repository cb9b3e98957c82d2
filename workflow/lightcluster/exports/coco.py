"""COCO objects with run-length encoded masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightcluster.exports.coco_json import write_objects
from lightcluster.exports.protocol import Exporter, Options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lightcluster.exports.segmentation import Picture, Region, Segmentation


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask as compressed run lengths, as COCO has them in JSON."""
    import numpy as np
    from pycocotools import mask as rle

    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def outline_of(picture: Picture, index: int, region: Region) -> dict[str, Any]:
    """Return the run lengths of an object in its whole image."""
    return encode_mask(picture.objects.label == index + 1)


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write all objects as a COCO detection dataset, a JSON file."""
    return write_objects(segmentation, output, outline_of, options)


COCO = Exporter(
    name="coco", summary="COCO objects with run-length encoded masks, a JSON file", write=write
)
