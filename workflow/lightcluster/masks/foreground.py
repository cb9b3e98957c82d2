"""Which clusters are foreground.

At the image level several rules vote, based on the CLS attention and the positions of the patches.
Clusters of the dataset and category levels are foreground if they overlap with the image-level
masks more than the average patch does: "image-level masks serve to identify which class of the
dataset- and category-level masks is the foreground" (arXiv 2311.18628).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rule = Literal["attention", "border", "center"]


def border_patches(grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return 1 for patches at the border of the grid, else 0; float32, shape (rows * columns,)."""
    inside = np.zeros(grid, np.float32)
    inside[1:-1, 1:-1] = 1
    return 1 - inside.ravel()


def center_distance(grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return each patch's distance from the centre, in units of half the height and half the width.

    Returns
    -------
    float32 array, shape (rows * columns,)
        From 0 to below sqrt(2).
    """
    rows, columns = ((np.arange(n, dtype=np.float32) * 2 + 1) / n - 1 for n in grid)
    return np.hypot(rows[:, None], columns[None, :]).ravel()


def image_foreground(
    labels: NDArray[np.integer],
    k: int,
    attention: NDArray[np.floating],
    grid: tuple[int, int],
    rules: Sequence[Rule],
) -> NDArray[np.bool_]:
    """Decide which clusters of one image are foreground.

    Each rule compares a cluster's mean with that of all patches of the image and gives one vote:
    ``attention`` if its mean CLS attention is higher, ``border`` if fewer of its patches lie at
    the border, ``center`` if it lies nearer to the centre. More than half of the votes make a
    cluster foreground; if that is none or all of the clusters, those with the most votes are.

    Parameters
    ----------
    labels : int array, shape (patches,)
    k : int
    attention : float array, shape (patches,)
        Mean attention of the CLS token.
    grid : (int, int)
        Rows and columns of patches.
    rules : sequence of {"attention", "border", "center"}

    Returns
    -------
    bool array, shape (k,)
        At least one is True; empty clusters are False.
    """
    evidence = {
        "attention": np.asarray(attention, np.float32),
        "border": -border_patches(grid),
        "center": -center_distance(grid),
    }
    sizes = np.bincount(labels, minlength=k)
    votes = np.zeros(k)
    for rule in rules:
        values = evidence[rule].astype(np.float64)
        means = np.bincount(labels, values, k) / np.maximum(sizes, 1)
        rounding = 1e-6 * np.abs(values).max()  # two halves are equally far from the centre
        votes += means > values.mean() + rounding
    votes[sizes == 0] = -1
    foreground = votes > len(rules) / 2
    if not foreground.any() or foreground[sizes > 0].all():
        foreground = votes == votes.max()
    return foreground


def overlapping_clusters(
    labels: NDArray[np.integer], foreground: NDArray[np.bool_], k: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Decide which clusters are foreground by their overlap with image-level masks.

    Every cluster with an above-average share of foreground patches is foreground, and not just the
    one with the highest share: with k > 2, an object may be split into several clusters.

    Parameters
    ----------
    labels : int array, shape (patches,)
    foreground : bool array, shape (patches,)
        The image-level mask at the same patches.
    k : int

    Returns
    -------
    chosen : bool array, shape (k,)
    share : float64 array, shape (k,)
        Share of foreground patches in each cluster, in [0, 1]; 0 for empty clusters.
    """
    sizes = np.bincount(labels, minlength=k)
    share = np.bincount(labels, foreground.astype(np.float64), k) / np.maximum(sizes, 1)
    average = foreground.mean() if foreground.size else 0.0
    chosen = share > average
    if not chosen.any():
        chosen = (share == share.max()) & (sizes > 0)
    return chosen, share
