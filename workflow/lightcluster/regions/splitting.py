"""Objects that touch are separated by the features of their patches.

A connected component of a mask may contain a rider and a horse, which would get the same class. Its
patches are clustered by average linkage of the cosine distances of their features. The tree is cut
at a distance that needs no tuning: the mean distance of two patches drawn at random from all images
(`clustering.dataset_level.mean_distance`).
So the patches of one region are more similar to each other, on average, than any two patches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.ndimage import distance_transform_edt
from scipy.spatial.distance import squareform

from lightcluster.clustering.kmeans import normalize
from lightcluster.masks.upsampling import upsample
from lightcluster.regions.components import Regions, number_regions

CLUSTERED = 2048
"""Patches of a component that are clustered, at most: the time grows with their square. Of more,
those of every second (third, …) row and column are; the others join the nearest cluster."""

LEAST = 0.2
"""Share of a component that a part of it must have: what is smaller is a part of an object, as a
head or a wheel, rather than another object."""


def shares_of_patches(inside: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return the share of each patch of an image that is covered by a region.

    Parameters
    ----------
    inside : bool array, shape (height, width)
        At least one is True.
    grid : (int, int)
        Rows and columns of patches.

    Returns
    -------
    float32 array, shape (rows * columns,)
        In [0, 1]; not all are 0.
    """
    shares = Image.fromarray(inside.astype(np.float32)).resize(grid[::-1], Image.Resampling.BOX)
    return np.asarray(shares, np.float32).ravel()


def split_regions(
    regions: Regions,
    features: NDArray[np.float32],
    grid: tuple[int, int],
    *,
    distance: float,
    min_area: float,
) -> Regions:
    """Split regions whose patches differ.

    Parameters
    ----------
    regions : Regions
    features : float32 array, shape (rows * columns, dim)
        Of the patches of the image, of unit length.
    grid : (int, int)
        Rows and columns of patches.
    distance : float
        Cosine distance at which the tree of a region's patches is cut; 0: regions are not split.
    min_area : float
        Share of the image's patches that a part must have, and it must have `LEAST` of those of its
        region. Patches of smaller parts join the part with the nearest mean feature.

    Returns
    -------
    Regions
        The parts of a region need not be connected. Each pixel belongs to the part with the
        highest value after bilinear interpolation of the parts of the patches.
    """
    if distance <= 0 or not len(regions.area):
        return regions
    members, parts = [], []
    for number in range(1, len(regions.area) + 1):
        shares = shares_of_patches(regions.label == number, grid)
        members.append(np.flatnonzero(shares >= 0.5))
        parts.append(_parts_of_patches(features, members[-1], grid, distance, min_area))
    if not any(own.any() for own in parts):
        return regions
    values = np.zeros(regions.label.shape, np.int64)
    count = 0
    for number, (patches, own) in enumerate(zip(members, parts, strict=True), start=1):
        inside = regions.label == number
        if own.any():
            painted = _parts_of_pixels(own, patches, grid, regions.label.shape)
            values[inside] = painted[inside]
        values[inside] += count + 1
        count += int(own.max(initial=0)) + 1
    return number_regions(values)


def _parts_of_patches(
    features: NDArray[np.float32],
    members: NDArray[np.int64],
    grid: tuple[int, int],
    distance: float,
    min_area: float,
) -> NDArray[np.int64]:
    """Return the part of each patch of a region, from 0."""
    least = max(1.0, min_area * grid[0] * grid[1], LEAST * len(members))
    whole = np.zeros(len(members), np.int64)
    if len(members) < 2 * least:
        return whole
    step = 1
    while len(drawn := _every(members, grid, step)) > CLUSTERED:
        step += 1
    points = features[drawn]
    distances = np.maximum(1 - points @ points.T, 0, dtype=np.float64)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average")
    cluster = fcluster(tree, distance, "distance") - 1
    large = np.flatnonzero(np.bincount(cluster) * len(members) / len(drawn) >= least)
    if len(large) < 2:
        return whole
    means = np.stack([points[cluster == one].mean(axis=0) for one in large])
    nearest = (features[members] @ normalize(means, "l2").T).argmax(axis=1)
    own = np.full(len(features), -1)
    own[drawn] = np.where(np.isin(cluster, large), np.searchsorted(large, cluster), -1)
    return np.where(own[members] >= 0, own[members], nearest)


def _every(members: NDArray[np.int64], grid: tuple[int, int], step: int) -> NDArray[np.int64]:
    row, column = np.divmod(members, grid[1])
    found: NDArray[np.int64] = members[(row % step == 0) & (column % step == 0)]
    return found


def _parts_of_pixels(
    parts: NDArray[np.int64],
    members: NDArray[np.int64],
    grid: tuple[int, int],
    size: tuple[int, int],
) -> NDArray[np.int64]:
    """Return the part of each pixel of an image; patches outside are as the nearest one inside."""
    there = np.zeros(grid, bool)
    there.ravel()[members] = True
    nearest = distance_transform_edt(~there, return_distances=False, return_indices=True)
    part = np.zeros(grid, np.int64)
    part.ravel()[members] = parts
    part = part[tuple(nearest)]
    best, painted = np.full(size, -1, np.float32), np.zeros(size, np.int64)
    for number in range(int(parts.max()) + 1):
        given = upsample((part == number).astype(np.float32), size, "bilinear")
        better = given > best
        best[better], painted[better] = given[better], number
    return painted
