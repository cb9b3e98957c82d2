"""Matchings of predicted clusters with true classes.

Clusters have no names, so each cluster is first matched with a class. The protocols of the field
do this in different ways, and scores are comparable only within one protocol:

==================  ======================================================================
iou_hungarian       one-to-one, largest sum of IoUs, background matched like any other
                    cluster (MaskContrast; protocols ``maskcontrast`` and ``coco_things``)
count_hungarian     one-to-one, most matched pixels (STEGO; protocol ``stego``)
background_fixed    cluster 0 is the background; the others as in iou_hungarian
iou_majority        every cluster to the class it has the largest IoU with; many-to-one
                    (the "majority vote" of MaskContrast's and DeepSpectral's programs)
count_majority      every cluster to the class most of its pixels are of; many-to-one
==================  ======================================================================

The two votes differ if classes differ in size: a cluster that covers a small object and a larger
part of the background goes to the object by IoU, and to the background by pixels.

If the numbers of clusters and classes differ, a one-to-one matching is impossible, and
`Matching.fallback` states what was done instead. No pixel is lost in any case: pixels of clusters
without a class are kept by `scores.apply_matching` in a row of their own.

Ties are always broken in the same way: votes go to the lowest class id, and between equally good
one-to-one matchings scipy's deterministic solver decides, as in the code of MaskContrast and STEGO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped,unused-ignore]

from lightcluster.evaluation.confusion import iou_matrix, require_counts

How = Literal[
    "iou_hungarian", "count_hungarian", "background_fixed", "iou_majority", "count_majority"
]

UNMATCHED = -1
"""Stands for "no class": the cluster is matched with none."""

BY_IOU = "majority vote by IoU"
EXTRA_BY_PIXELS = "extra clusters by majority of pixels"


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
        differ; else None. It must be stated wherever the scores are reported.
    """

    cluster_to_class: npt.NDArray[np.int64]
    name: How
    fallback: str | None = None


def match(counts: npt.NDArray[np.int64], how: How, background: int | None = None) -> Matching:
    """Match any number of clusters with any number of classes by the rules of a protocol.

    Where clusters and classes differ in number, ``iou_hungarian`` becomes the vote by IoU
    (protocol ``maskcontrast``), and so does ``background_fixed`` for the object clusters among
    the object classes. ``count_hungarian`` gives extra clusters to the class most of their pixels
    belong to, and leaves extra classes unmatched (protocol ``stego``).

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster and true class.
    how : {"iou_hungarian", "count_hungarian", "background_fixed", "iou_majority", \
"count_majority"}
        The matching.
    background : int or None
        Class id of the background; needed, and used, by ``background_fixed`` alone.

    Returns
    -------
    Matching
        Named `how`, with `fallback` set to `BY_IOU` or `EXTRA_BY_PIXELS` where one was
        used.
    """
    if how not in get_args(How):
        raise ValueError(f"matching {how!r}; allowed are {', '.join(get_args(How))}")
    if how == "iou_majority":
        return match_iou_majority(counts)
    if how == "count_majority":
        return match_count_majority(counts)
    if how == "count_hungarian":
        return match_counts(counts)
    if how == "iou_hungarian":
        return match_iou(counts)
    require_counts(counts)
    if background is None:
        raise ValueError("matching 'background_fixed' needs the class id of the background")
    return match_background_fixed(counts, background)


def match_iou(counts: npt.NDArray[np.int64]) -> Matching:
    """Match one-to-one with the largest sum of IoUs; the background is not fixed.

    The protocol of MaskContrast, defined for as many clusters as classes. With more or fewer, the
    clusters vote by IoU, as in its program.

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
    classes, fallback = _one_to_one_or_vote(iou_matrix(counts), counts)
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
    gain = counts.astype(np.float64)
    classes = _hungarian(gain)
    if len(classes) <= counts.shape[1]:
        return Matching(classes, "count_hungarian")
    classes = np.where(classes == UNMATCHED, _vote(gain, counts), classes)
    return Matching(classes, "count_hungarian", EXTRA_BY_PIXELS)


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
        Named ``background_fixed``. Where the clusters vote, one that meets no class but the
        background is unmatched.
    """
    require_counts(counts)
    n_classes = counts.shape[1]
    if n_classes < 2 or not 0 <= background < n_classes:
        raise ValueError(
            f"background class {background} of {n_classes} classes; allowed is one of the "
            "classes, with at least one other beside it"
        )
    others = np.delete(np.arange(n_classes), background)
    found, fallback = _one_to_one_or_vote(iou_matrix(counts)[1:, others], counts[1:, others])
    objects = np.where(found == UNMATCHED, UNMATCHED, others[found])
    return Matching(np.concatenate([[background], objects]), "background_fixed", fallback)


def match_iou_majority(counts: npt.NDArray[np.int64]) -> Matching:
    """Match every cluster with the class it has the largest IoU with.

    The majority vote of the programs of MaskContrast and DeepSpectral. Many-to-one: several
    clusters may share a class, whose IoU is then that of their union, and a class may get none.
    Both votes favour more clusters: scores of different numbers of clusters are not comparable.

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster and true class.

    Returns
    -------
    Matching
        Named ``iou_majority``. Ties go to the lowest class id; a cluster without pixels, which
        has an IoU of 0 with all classes, is unmatched.
    """
    require_counts(counts)
    return Matching(_vote(iou_matrix(counts), counts), "iou_majority")


def match_count_majority(counts: npt.NDArray[np.int64]) -> Matching:
    """Match every cluster with the class most of its pixels belong to.

    Many-to-one, as `match_iou_majority`. No other rule gets more pixels right.

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster and true class.

    Returns
    -------
    Matching
        Named ``count_majority``. Ties go to the lowest class id; a cluster without pixels is
        unmatched.
    """
    require_counts(counts)
    return Matching(_vote(counts.astype(np.float64), counts), "count_majority")


def _vote(gain: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the class [n_clusters] of the largest gain; UNMATCHED for a row without pixels."""
    best = np.nan_to_num(gain).argmax(axis=1)
    return np.where(counts.any(axis=1), best, UNMATCHED).astype(np.int64)


def _hungarian(gain: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the classes [n_clusters] of the largest sum of gains, each given at most once.

    A gain of NaN (neither cluster nor class has a pixel) adds nothing. With more clusters than
    classes, some are UNMATCHED.
    """
    classes = np.full(len(gain), UNMATCHED, dtype=np.int64)
    rows, columns = linear_sum_assignment(np.nan_to_num(gain), maximize=True)
    classes[rows] = columns
    return classes


def _one_to_one_or_vote(
    iou: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], str | None]:
    """Return the classes [n_clusters], and the fallback where one-to-one is impossible.

    Parameters
    ----------
    iou : float64 [n_clusters, n_classes]
    counts : int64 [n_clusters, n_classes]
        Pixels of each pair.
    """
    if counts.shape[0] == counts.shape[1]:
        return _hungarian(iou), None
    return _vote(iou, counts), BY_IOU


@dataclass(frozen=True)
class Match:
    """The true class that a cluster overlaps most, and its IoU over the dataset."""

    name: str
    iou: float


def best_matches(counts: npt.NDArray[np.int64], names: Sequence[str]) -> list[Match | None]:
    """Return the true class that each cluster overlaps most.

    Parameters
    ----------
    counts : int64 array, shape (clusters, classes)
        Pixels by cluster and true class.
    names : sequence of str
        Of the classes.

    Returns
    -------
    list of Match or None
        None of a cluster that has no pixel with a truth.
    """
    iou = np.nan_to_num(iou_matrix(counts))
    return [
        Match(names[int(row.argmax())], float(row.max())) if own.any() else None
        for row, own in zip(iou, counts, strict=True)
    ]
