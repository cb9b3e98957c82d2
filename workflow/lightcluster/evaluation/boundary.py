"""Boundary F-measure: how well the outline of a mask agrees with that of the truth.

Definition: precision is the share of the mask's edge pixels within a tolerance of one of the
truth's, recall the share of the truth's within it of one of the mask's, F their harmonic mean
(Martin, Fowlkes and Malik, IEEE PAMI 26(5), 2004, without their one-to-one matching; tolerance of
0.75 % of the image's diagonal as in Perazzi et al., CVPR 2016).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

TOLERANCE = 0.0075
"""Distance at which two edges are the same, as a share of the image's diagonal."""


class TrueEdge:
    """The edge of the true foreground of an image, with which masks are compared.

    Parameters
    ----------
    truth : integer [height, width]
        Class of each pixel.
    background : int
        The background class.
    ignored : int
        Value of pixels without a class. They count as the nearest class, because the outline of an
        ignored area is not an edge.
    """

    def __init__(self, truth: NDArray[np.integer], background: int, ignored: int) -> None:
        unknown = truth == ignored
        foreground = truth != background
        if unknown.any() and not unknown.all():
            nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
            foreground[unknown] = foreground[tuple(nearest[:, unknown])]
        self.tolerance = max(1, round(TOLERANCE * float(np.hypot(*truth.shape))))
        self.points = edge_points(foreground)
        self.sums = _sums_of_rows(self.points, truth.shape, self.tolerance)

    def boundary_f(self, mask: NDArray[np.bool_]) -> float:
        """Return the boundary F of a mask, in [0, 1].

        Parameters
        ----------
        mask : bool [height, width]

        Returns
        -------
        float
            1 where neither has an edge, 0 where one of them has none.
        """
        points = edge_points(mask)
        if not len(self.points) or not len(points):
            return float(len(self.points) == len(points))
        precision = _share_near(points, self.sums, self.tolerance)
        own = _sums_of_rows(points, mask.shape, self.tolerance)
        recall = _share_near(self.points, own, self.tolerance)
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _sums_of_rows(
    points: NDArray[np.int64], size: tuple[int, ...], tolerance: int
) -> NDArray[np.int32]:
    """Return how many points of each row come before each column, with `tolerance` around.

    Returns
    -------
    int32 array, shape (height + 2 * tolerance, width + 2 * tolerance + 1)
    """
    height, width = size
    marked = np.zeros((height + 2 * tolerance, width + 2 * tolerance + 1), np.int32)
    marked[points[:, 0] + tolerance, points[:, 1] + tolerance + 1] = 1
    return np.cumsum(marked, axis=1, out=marked)


def _share_near(points: NDArray[np.int64], sums: NDArray[np.int32], tolerance: int) -> float:
    """Return the share of the points that have one of `_sums_of_rows` within the tolerance.

    The disk around a point is read row by row, which takes half the time of a search tree.
    """
    first = points[:, 0] * sums.shape[1] + points[:, 1]  # of the square around the disk
    found = np.zeros(len(points), bool)
    for row in range(2 * tolerance + 1):
        half = int(np.sqrt(tolerance**2 - (row - tolerance) ** 2))
        left = first + (row * sums.shape[1] + tolerance - half)
        found |= sums.ravel()[left + 2 * half + 1] > sums.ravel()[left]
    return float(found.mean())


def edge_points(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the pixels of a mask that have a 4-neighbour outside of it; int64 [n, 2].

    The border of the image is not an edge.
    """
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return np.stack(np.divmod(np.flatnonzero(mask & ~inside), mask.shape[1]), axis=1)
