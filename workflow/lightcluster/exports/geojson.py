"""GeoJSON: a file of features for each image, in pixels or, if georeferenced, on the Earth."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lightcluster.exports.places import WGS84, georeference_of, to_longitude_latitude
from lightcluster.exports.protocol import Exporter, Options
from lightcluster.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from shapely import MultiPolygon

    from lightcluster.datasets.manifest import Row
    from lightcluster.exports.segmentation import Region, Segmentation

log = logging.getLogger(__name__)

PIXELS, ON_EARTH = "pixels", "longitude and latitude"
_DECIMALS = 9
"""Decimals of a degree: a tenth of a millimetre."""


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write a feature collection for each image into a folder.

    A feature is an object: a polygon, or several where its parts touch at corners alone, with
    holes. Its class, confidence, area in pixels and image are its properties; `measurements` is
    where QuPath reads numbers. Of georeferenced images coordinates are longitude and latitude
    (RFC 7946), else x and y in pixels; the member `coordinates` says which.
    """
    from lightcluster.exports.coco_json import write_json
    from lightcluster.exports.outlines import outline

    count = 0
    with replacing(output) as folder:
        folder.mkdir()
        for picture in segmentation.pictures():
            count += len(picture.regions)
            place = _placing(picture.row)
            features = [
                {
                    "type": "Feature",
                    "geometry": _geometry(outline(region, options.tolerance), place),
                    "properties": _properties(region, picture.row),
                }
                for region in picture.regions
            ]
            path = folder / PurePosixPath(picture.row.output).with_suffix(".geojson")
            path.parent.mkdir(parents=True, exist_ok=True)
            given_in = PIXELS if place is None else ON_EARTH
            write_json(
                {"type": "FeatureCollection", "coordinates": given_in, "features": features}, path
            )
    return count


def _placing(row: Row) -> Callable[[NDArray[np.float64]], NDArray[np.float64]] | None:
    """Return what takes pixels to longitude and latitude; None for an image that is nowhere."""
    import numpy as np

    found = georeference_of(row)
    if found is None:
        return None
    if found.epsg == WGS84:
        return found.place
    transformer = None if found.epsg is None else to_longitude_latitude(found.epsg)
    if transformer is None:
        log.warning(
            "%s: coordinates are in pixels, for its coordinate reference system has no EPSG code "
            "that is known; gdalwarp -t_srs EPSG:4326 converts the image",
            row.path,
        )
        return None

    def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(transformer.transform(*found.place(points).T), axis=-1)

    return place


def _geometry(
    parts: MultiPolygon, place: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None
) -> dict[str, Any]:
    """Return an outline as GeoJSON."""
    import shapely
    from shapely.geometry import mapping
    from shapely.geometry.polygon import orient

    if place is not None:
        placed = shapely.transform(parts, lambda points: place(points).round(_DECIMALS))
        parts = shapely.MultiPolygon([orient(part) for part in placed.geoms])
    geometry: dict[str, Any] = mapping(parts.geoms[0] if len(parts.geoms) == 1 else parts)
    return geometry


def _properties(region: Region, row: Row) -> dict[str, Any]:
    """Return what is said of an object."""
    return {
        "objectType": "annotation",
        "classification": {"name": region.category.name, "color": list(region.category.color)},
        "class": region.category.name,
        "area": region.area,
        "image": row.image_id,
        **region.rated("confidence"),
        "measurements": {"area": region.area, **region.rated("confidence")},
    }


GEOJSON = Exporter(
    name="geojson",
    summary="GeoJSON, a folder with a file for each image: in longitude and latitude if it is "
    "georeferenced, else in pixels (QuPath)",
    write=write,
)
