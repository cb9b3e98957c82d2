"""Georeferences of GeoTIFFs.

The tags are those of the OGC GeoTIFF standard (OGC 19-008r4). They are kept as they are in the
file, so that a raster with the same tags has the same coordinate reference system, whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcluster.images.recognition import PREFIX, format_of
from lightcluster.paths import open_source

_SCALE, _TIEPOINT, _TRANSFORMATION = 33550, 33922, 34264
_KEYS, _DOUBLES, _TEXTS = 34735, 34736, 34737
TAGS = (_SCALE, _TIEPOINT, _TRANSFORMATION, _KEYS, _DOUBLES, _TEXTS)
"""TIFF tags that make up a georeference."""

_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072
_PIXEL_IS_POINT, _USER_DEFINED = 2, 32767
_ORIENTATION = 274


@dataclass(frozen=True)
class GeoTag:
    """A tag, as `tifffile` writes it.

    Attributes
    ----------
    code, dtype, count : int
    value : object
    """

    code: int
    dtype: int
    count: int
    value: Any


@dataclass(frozen=True)
class Georeference:
    """Georeference of an image.

    Attributes
    ----------
    tags : tuple of GeoTag
    affine : float64 array, shape (2, 3)
        Takes x, y and 1, in pixels from the upper left corner of the first pixel, to the
        coordinates of the reference system: easting and northing, or longitude and latitude.
    epsg : int or None
        Code of the reference system; None if it has none.
    """

    tags: tuple[GeoTag, ...]
    affine: NDArray[np.float64]
    epsg: int | None

    def place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the coordinates of points, x and y in pixels: float64 [points, 2]."""
        return points @ self.affine[:, :2].T + self.affine[:, 2]


def read_georeference(source: Path | bytes) -> Georeference | None:
    """Read the georeference of an image.

    Parameters
    ----------
    source : Path or bytes
        Path of the file, or its content.

    Returns
    -------
    Georeference or None
        None if the file is no TIFF, has no georeference, or one by control points or of an image
        that is stored turned.
    """
    with open_source(source) as file:
        if format_of(file.read(PREFIX)) != "TIFF":
            return None
        from tifffile import TiffFile

        from lightcluster.images.tiff import picture_of

        file.seek(0)
        with TiffFile(file) as tiff:
            stored = {
                tag.code: GeoTag(int(tag.code), int(tag.dtype), int(tag.count), tag.value)
                for tag in picture_of(tiff).tags
                if tag.code in (*TAGS, _ORIENTATION)
            }
    try:
        return _georeference(stored)
    except (TypeError, ValueError):  # a tag has a value that it may not have
        return None


def _georeference(stored: dict[int, GeoTag]) -> Georeference | None:
    orientation = stored.pop(_ORIENTATION, None)
    affine = _affine(stored)
    if affine is None or (orientation is not None and orientation.value != 1):
        return None
    keys = _short_keys(stored)
    if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:
        affine[:, 2] -= affine[:, :2].sum(axis=1) / 2  # it stands for the centre of a pixel
    epsg = keys.get(_PROJECTED, keys.get(_GEOGRAPHIC))
    known = epsg if epsg is not None and 1024 <= epsg < _USER_DEFINED else None
    return Georeference(tuple(stored.values()), affine, known)


def _affine(stored: Mapping[int, GeoTag]) -> NDArray[np.float64] | None:
    """Return the transformation of pixels as it is stored; None where there is none."""
    if _TRANSFORMATION in stored and stored[_TRANSFORMATION].count == 16:
        matrix = np.array(stored[_TRANSFORMATION].value, np.float64).reshape(4, 4)
        return matrix[:2, [0, 1, 3]]
    if _SCALE not in stored or _TIEPOINT not in stored:
        return None
    if stored[_SCALE].count != 3 or stored[_TIEPOINT].count != 6:
        return None
    across, down, _ = stored[_SCALE].value
    column, row, _, east, north, _ = stored[_TIEPOINT].value
    return np.array([[across, 0, east - across * column], [0, -down, north + down * row]])


def _short_keys(stored: Mapping[int, GeoTag]) -> dict[int, int]:
    """Return the keys whose values are numbers in the directory itself."""
    if _KEYS not in stored:
        return {}
    entries = np.array(stored[_KEYS].value[4:]).reshape(-1, 4).tolist()
    return {key: value for key, place, _, value in entries if place == 0}
