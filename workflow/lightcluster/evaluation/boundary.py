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
from scipy.spatial import KDTree

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
            nearest = distance_transform_edt(
                unknown, return_distances=False, return_indices=True
            )  # fmt: skip
            foreground = foreground[tuple(nearest)]
        self.points = edge_points(foreground)
        self.tree = KDTree(self.points) if len(self.points) else None
        self.tolerance = max(1, round(TOLERANCE * float(np.hypot(*truth.shape))))

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
        if self.tree is None or not len(points):
            return float(self.tree is None and not len(points))
        precision = self._within(self.tree, points)
        recall = self._within(KDTree(points), self.points)
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def _within(self, tree: KDTree, points: NDArray[np.int64]) -> float:
        """Return the share of the points within the tolerance of a point of the tree."""
        distance, _ = tree.query(points, distance_upper_bound=self.tolerance + 1e-3)
        return float(np.isfinite(distance).mean())


def edge_points(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the pixels of a mask that have a 4-neighbour outside of it; int64 [n, 2].

    The border of the image is not an edge.
    """
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return np.argwhere(mask & ~inside)
