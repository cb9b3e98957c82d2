"""COCO objects with polygons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightcluster.exports.coco_json import write_objects
from lightcluster.exports.protocol import Exporter, Options

if TYPE_CHECKING:
    from lightcluster.exports.segmentation import Picture, Region, Segmentation


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write all objects as a COCO detection dataset; area and box are those of the pixels.

    COCO fills the union of an object's polygons: each is one ring that leaves its holes out.
    """
    from lightcluster.exports.outlines import rings_of

    def outline_of(picture: Picture, index: int, region: Region) -> list[list[float]]:
        rings = rings_of(region, options.tolerance)
        return [ring.round(2).ravel().tolist() for ring in rings]

    return write_objects(segmentation, output, outline_of, options)


COCO_POLYGONS = Exporter(
    name="coco-polygons", summary="COCO objects with polygons, a JSON file", write=write
)
