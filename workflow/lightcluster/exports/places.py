"""Coordinates of the objects of a georeferenced image."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from lightcluster.errors import StoreError
from lightcluster.images.georeference import Georeference, read_georeference
from lightcluster.locations import file_of, source_of, suffix_of

if TYPE_CHECKING:
    from lightcluster.datasets.manifest import Row

log = logging.getLogger(__name__)

WGS84 = 4326


def georeference_of(row: Row) -> Georeference | None:
    """Return the georeference of an image; None if it has none.

    Raises
    ------
    StoreError
        If the image is a TIFF that is no longer where it was.
    """
    if file_of(row.path).is_file():
        return read_georeference(source_of(row.path))
    if suffix_of(row.path).lower() in (".tif", ".tiff"):
        raise StoreError(
            f"{row.path}: there is no such image, whose georeference is needed; export where the "
            "run was made"
        )
    return None


@cache
def to_longitude_latitude(epsg: int) -> Any:
    """Return the pyproj transformer from a coordinate reference system to WGS 84.

    Parameters
    ----------
    epsg : int

    Returns
    -------
    pyproj.Transformer or None
        None if pyproj does not know the system.

    Raises
    ------
    StoreError
        If pyproj is not installed.
    """
    try:
        from pyproj import Transformer
        from pyproj.exceptions import ProjError
    except ImportError:
        raise StoreError(
            f"an image is georeferenced (EPSG:{epsg}), and GeoJSON in longitude and latitude needs "
            "pyproj: pip install 'lightcluster[geo]', or pyproj"
        ) from None
    try:
        return Transformer.from_crs(epsg, WGS84, always_xy=True)
    except ProjError:
        return None
