"""Outlines of objects: polygons with holes, exact along the sides of pixels, then simplified.

Coordinates are x and y in pixels: the first pixel of an image spans 0 to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightcluster.exports.segmentation import Region

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon


def outline(region: Region, tolerance: float) -> MultiPolygon:
    """Return the outline of a region.

    Parameters
    ----------
    region : Region
    tolerance : float
        Pixels that it may be off; 0: its area is that of the region.

    Returns
    -------
    MultiPolygon
        Valid; parts that touch at corners alone are polygons of their own.
    """
    import shapely

    left, top, *_ = region.box
    edges = np.diff(np.pad(region.mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    runs = shapely.box(left + starts, top + rows, left + stops, top + rows + 1)
    exact = shapely.simplify(shapely.union_all(runs), 0)  # without corners on straight sides
    simple = shapely.simplify(exact, tolerance, preserve_topology=True)
    return shapely.MultiPolygon(shapely.get_parts(simple).tolist())


def rings_of(region: Region, tolerance: float) -> list[NDArray[np.float64]]:
    """Return the `outline` of a region as `single_rings`."""
    return single_rings(outline(region, tolerance))


def single_rings(parts: MultiPolygon) -> list[NDArray[np.float64]]:
    """Return each part as one ring, for formats that know no holes.

    A hole is joined to the outline by a bridge of no width, gone to and fro between two corners, so
    that filling the ring leaves the hole out.

    Returns
    -------
    list of float64 array, shape (corners, 2)
        x and y; the first corner is not repeated at the end.
    """
    return [_single_ring(part) for part in parts.geoms]


def _single_ring(polygon: Polygon) -> NDArray[np.float64]:
    ring = _corners(polygon.exterior)
    holes = [_corners(hole) for hole in polygon.interiors]
    for hole in sorted(holes, key=lambda hole: float(hole[:, 0].min())):
        turned = np.roll(hole, -int(hole[:, 0].argmin()), axis=0)
        here = int(np.square(ring - turned[0]).sum(axis=1).argmin())
        ring = np.concatenate([ring[: here + 1], turned, turned[:1], ring[here:]])
    return ring


def _corners(ring: object) -> NDArray[np.float64]:
    """Return the corners of a closed ring, each once."""
    import shapely

    return np.asarray(shapely.get_coordinates(ring)[:-1], np.float64)
