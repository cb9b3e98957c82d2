"""GeoJSON in pixels, as QuPath reads it: a file of features for each image."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lightcluster.exports.protocol import Exporter, Options
from lightcluster.files import replacing

if TYPE_CHECKING:
    from lightcluster.exports.segmentation import Segmentation


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write a feature collection for each image into a folder, with x and y in pixels.

    A feature is an object: a polygon, or several where its parts touch at corners alone, with
    holes; its class, area in pixels and image are its properties.
    """
    from shapely.geometry import mapping

    from lightcluster.exports.coco_json import write_json
    from lightcluster.exports.outlines import outline

    count = 0
    with replacing(output) as folder:
        folder.mkdir()
        for picture in segmentation.pictures():
            count += len(picture.regions)
            features = []
            for region in picture.regions:
                parts = outline(region, options.tolerance)
                shape = parts.geoms[0] if len(parts.geoms) == 1 else parts
                classification = {
                    "name": region.category.name, "color": list(region.category.color)
                }  # fmt: skip
                features.append(
                    {
                        "type": "Feature",
                        "geometry": mapping(shape),
                        "properties": {
                            "objectType": "annotation",
                            "classification": classification,
                            "area": region.area,
                            "image": picture.row.image_id,
                        },
                    }
                )
            path = folder / PurePosixPath(picture.row.output).with_suffix(".geojson")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json({"type": "FeatureCollection", "features": features}, path)
    return count


GEOJSON = Exporter(
    name="geojson", summary="GeoJSON in pixels (QuPath), a folder with a file for each image",
    write=write,
)  # fmt: skip
