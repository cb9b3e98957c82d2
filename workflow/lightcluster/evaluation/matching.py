"""Matchings of predicted clusters with true classes.

Clusters have no names, so every score starts by giving each cluster a class. The protocols of
the field differ in how, and a figure is comparable only inside one of them:

==================  ======================================================================
iou_hungarian       one-to-one, largest sum of IoUs, background matched like any other
                    cluster (MaskContrast; protocols ``maskcontrast`` and ``coco_things``)
count_hungarian     one-to-one, most matched pixels (STEGO; protocol ``stego``)
background_fixed    cluster 0 is the background; the others as in iou_hungarian
majority            every cluster to the class most of its pixels are of; many-to-one
==================  ======================================================================

Where the clusters are not as many as the classes, one-to-one is impossible and `match` says in
`Matching.fallback` what it did instead. No pixel is lost by any of them: what stays without a
class is kept by `scores.apply_matching` in a row of its own.

Ties are broken the same way every time: the majority goes to the lowest class id, and between
equally good one-to-one matchings scipy's solver, which is deterministic, decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped,unused-ignore]

from lightcluster.evaluation.confusion import iou_matrix, require_counts

How = Literal["iou_hungarian", "count_hungarian", "background_fixed", "majority"]

UNMATCHED = -1
"""In place of a class: the cluster belongs to none."""

MAJORITY = "majority"
EXTRA_BY_MAJORITY = "extra clusters by majority"


@dataclass(frozen=True, eq=False)
class Matching:
    """The class of every cluster.

    Attributes
    ----------
    cluster_to_class : int64 [n_clusters]
        Class of each cluster, or -1 if it has none.
    name : str
        The matching that was asked for, one of `How`.
    fallback : str or None
        What was done instead, or in addition, because the numbers of clusters and classes
        differ; None if nothing was. To be stated wherever the scores are.
    """

    cluster_to_class: npt.NDArray[np.int64]
    name: How
    fallback: str | None = None


def match(counts: npt.NDArray[np.int64], how: How, background: int | None = None) -> Matching:
    """Match clusters with classes by the rules of a protocol, whatever their numbers.

    Where clusters and classes differ in number, ``iou_hungarian`` becomes the majority vote
    (protocol ``maskcontrast``: "with K != 20: majority vote"), and so does ``background_fixed``
    for the object clusters among the object classes. ``count_hungarian`` gives extra clusters
    to the class most of their pixels belong to, and leaves extra classes unmatched (protocol
    ``stego``).

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster and true class.
    how : {"iou_hungarian", "count_hungarian", "background_fixed", "majority"}
        The matching.
    background : int or None
        Class id of the background; needed, and used, by ``background_fixed`` alone.

    Returns
    -------
    Matching
        Named `how`, with `fallback` set to `MAJORITY` or `EXTRA_BY_MAJORITY` where one was used.
    """
    if how not in get_args(How):
        raise ValueError(f"matching {how!r}; allowed are {', '.join(get_args(How))}")
    require_counts(counts)
    square = counts.shape[0] == counts.shape[1]
    if how == "majority":
        return match_majority(counts)
    if how == "count_hungarian":
        return match_counts(counts)
    if how == "iou_hungarian":
        if square:
            return match_iou(counts)
        return Matching(_majority(counts), how, MAJORITY)
    if background is None:
        raise ValueError("matching 'background_fixed' needs the class id of the background")
    if square:
        return match_background_fixed(counts, background)
    others = _classes_beside(background, counts)
    return _with_background(background, others, _majority(counts[1:, others]), MAJORITY)


def match_iou(counts: npt.NDArray[np.int64]) -> Matching:
    """Match one-to-one with the largest sum of IoUs; the background is not fixed.

    The protocol of MaskContrast, defined for as many clusters as classes. With more clusters,
    those left over go to the class most of their pixels belong to; with fewer, some classes
    stay unmatched. (`match` takes the majority vote in both cases, as the protocol does.)

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster and true class.

    Returns
    -------
    Matching
        Named ``iou_hungarian``.
    """
    require_counts(counts)
    classes, fallback = _hungarian(iou_matrix(counts), counts)
    return Matching(classes, "iou_hungarian", fallback)


def match_counts(counts: npt.NDArray[np.int64]) -> Matching:
    """Match one-to-one with the most matched pixels.

    The protocol of STEGO. With more clusters than classes, those left over go to the class most
    of their pixels belong to (STEGO's own code leaves them unmatched); with fewer, some classes
    stay unmatched.

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster and true class.

    Returns
    -------
    Matching
        Named ``count_hungarian``.
    """
    require_counts(counts)
    classes, fallback = _hungarian(counts.astype(np.float64), counts)
    return Matching(classes, "count_hungarian", fallback)


def match_background_fixed(counts: npt.NDArray[np.int64], background: int = 0) -> Matching:
    """Match cluster 0 with the background, and the others as `match_iou` does.

    The stricter variant of the protocol of MaskContrast, for methods that decide themselves
    what background is: no object cluster may be matched with it. The IoUs are those of the
    whole clusters and classes, pixels in the background included.

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster, the first being background, and true class.
    background : int
        Class id of the background.

    Returns
    -------
    Matching
        Named ``background_fixed``. An extra cluster that meets no class but the background is
        unmatched.
    """
    require_counts(counts)
    others = _classes_beside(background, counts)
    object_classes, fallback = _hungarian(iou_matrix(counts)[1:, others], counts[1:, others])
    return _with_background(background, others, object_classes, fallback)


def match_majority(counts: npt.NDArray[np.int64]) -> Matching:
    """Match every cluster with the class most of its pixels belong to.

    Many-to-one: several clusters may share a class, and a class may get none. It flatters
    over-clustering, so that figures of different numbers of clusters are not comparable. The
    vote is by pixels; the function of that name in the code of MaskContrast takes the class of
    the largest IoU instead.

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster and true class.

    Returns
    -------
    Matching
        Named ``majority``. Ties go to the lowest class id; a cluster without pixels is
        unmatched.
    """
    require_counts(counts)
    return Matching(_majority(counts), "majority")


def _majority(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the class [n_clusters] of the most pixels; UNMATCHED for a row of zeros."""
    return np.where(counts.any(axis=1), counts.argmax(axis=1), UNMATCHED).astype(np.int64)


def _hungarian(
    gain: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], str | None]:
    """Assign one-to-one with the largest sum of gains, and extra clusters by majority.

    Parameters
    ----------
    gain : float64 [n_clusters, n_classes]
        What each pair adds to the sum; NaN (neither has a pixel) adds nothing.
    counts : int64 [n_clusters, n_classes]
        Pixels of each pair, for the majority.

    Returns
    -------
    int64 [n_clusters]
        The classes.
    str or None
        The fallback, if there were extra clusters.
    """
    n_clusters, n_classes = counts.shape
    classes = np.full(n_clusters, UNMATCHED, dtype=np.int64)
    rows, columns = linear_sum_assignment(np.nan_to_num(gain), maximize=True)
    classes[rows] = columns
    if n_clusters <= n_classes:
        return classes, None
    return np.where(classes == UNMATCHED, _majority(counts), classes), EXTRA_BY_MAJORITY


def _classes_beside(background: int, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the ids [n_classes - 1] of the classes that are not the background."""
    n_classes = counts.shape[1]
    if n_classes < 2 or not 0 <= background < n_classes:
        raise ValueError(
            f"background class {background} of {n_classes} classes; allowed is one of the "
            "classes, with at least one other beside it"
        )
    return np.delete(np.arange(n_classes), background)


def _with_background(
    background: int,
    others: npt.NDArray[np.int64],
    object_classes: npt.NDArray[np.int64],
    fallback: str | None,
) -> Matching:
    """Put the background before the object clusters.

    Parameters
    ----------
    background : int
        Class of cluster 0.
    others : int64 [n_classes - 1]
        The other class ids.
    object_classes : int64 [n_clusters - 1]
        For clusters 1 and up, a position in `others`, or UNMATCHED.
    fallback : str or None
        As in `Matching`.
    """
    objects = np.where(object_classes == UNMATCHED, UNMATCHED, others[object_classes])
    return Matching(np.concatenate([[background], objects]), "background_fixed", fallback)
