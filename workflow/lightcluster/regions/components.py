"""Regions of an image: connected components of a mask, and the numbering of regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure


@dataclass(frozen=True)
class Regions:
    """The regions of one image, the largest first.

    Attributes
    ----------
    label : int32 array, shape (height, width)
        Number of the region of each pixel, from 1; 0 outside of all.
    box : int64 array, shape (regions, 4)
        Top, left, bottom, right; bottom and right are exclusive.
    area : int64 array, shape (regions,)
        In pixels.
    """

    label: NDArray[np.int32]
    box: NDArray[np.int64]
    area: NDArray[np.int64]


def find_components(mask: NDArray[np.bool_], min_area: float) -> Regions:
    """Find the connected components (8 neighbours) of a mask that are large enough.

    Parameters
    ----------
    mask : bool array, shape (height, width)
    min_area : float
        Share of the image, in [0, 1), that a component must cover. The largest one is kept
        whatever its size; pixels of the others become background.

    Returns
    -------
    Regions
        None if the mask is empty.
    """
    components = measure.label(mask, connectivity=2)  # type: ignore[no-untyped-call]
    return number_regions(components, min_area)


def number_regions(values: NDArray[np.integer], min_area: float = 0.0) -> Regions:
    """Number the regions of a map by their areas, the largest first.

    Parameters
    ----------
    values : int array, shape (height, width)
        One value from 1 on for each region; 0 outside of all. Of regions of equal area the one of
        the smaller value comes first.
    min_area : float
        As for `find_components`.

    Returns
    -------
    Regions
        None if all values are 0.
    """
    area = np.bincount(values.ravel())[1:]
    order = np.argsort(-area, kind="stable")
    large = (area[order] / values.size >= min_area) | (np.arange(len(order)) == 0)
    order = order[large & (area[order] > 0)]
    number = np.zeros(len(area) + 1, np.int32)
    number[order + 1] = np.arange(1, len(order) + 1)
    label = number[values]
    box = [
        (rows.start, columns.start, rows.stop, columns.stop)
        for rows, columns in ndimage.find_objects(label)
    ]
    return Regions(label, np.asarray(box, np.int64).reshape(-1, 4), area[order].astype(np.int64))


def find_segments(values: NDArray[np.integer]) -> NDArray[np.int32]:
    """Number the connected components (8 neighbours) of equal values, int [height, width], from 1.

    Returns
    -------
    int32 array, shape (height, width)
    """
    shifted = values.astype(np.int64) + 1  # 0 means no component
    return measure.label(shifted, connectivity=2).astype(np.int32)  # type: ignore[no-any-return, no-untyped-call]


def grow_box(
    box: NDArray[np.integer], margin: float, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Grow a box (top, left, bottom, right) by a share of its sides, within the image's size."""
    top, left, bottom, right = (int(n) for n in box)
    rows, columns = round((bottom - top) * margin), round((right - left) * margin)
    return (
        max(0, top - rows),
        max(0, left - columns),
        min(size[0], bottom + rows),
        min(size[1], right + columns),
    )
