"""Scores of a matched prediction: IoU per class, its mean, accuracy, and mean over seeds.

All are computed from int64 counts, and all are fractions in [0, 1]; NaN stands for a score that
does not exist, for instance the IoU of a class that is neither predicted nor true anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from lightcluster.errors import StoreError
from lightcluster.evaluation.confusion import iou_matrix, require_counts
from lightcluster.evaluation.matching import UNMATCHED, How, Matching, match

Absent = Literal["zero", "skip"]


class ForegroundScores(NamedTuple):
    """Scores of a binary foreground mask.

    Attributes
    ----------
    iou_background, iou_foreground : float
        Intersection over union of each; NaN if neither predicted nor true anywhere.
    mean_iou : float
        Their mean; NaN if either is.
    accuracy : float
        Fraction of the pixels that are right; NaN if there are none.
    """

    iou_background: float
    iou_foreground: float
    mean_iou: float
    accuracy: float


class MeanAndSd(NamedTuple):
    """Mean and sample standard deviation; the latter NaN for a single value."""

    mean: float
    sd: float


@dataclass(frozen=True, eq=False)
class ClassScores:
    """The semantic scores of one prediction under one matching.

    Attributes
    ----------
    class_names : tuple of str [n_classes]
        Names of the classes, in the order of their ids.
    matching : Matching
        The class given to each cluster; its `fallback` belongs beside every figure.
    matched : int64 [n_classes + 1, n_classes]
        Pixels by predicted class, the last row being unmatched, and true class.
    iou : float64 [n_classes]
        IoU of each class, as in `iou_per_class`.
    mean_iou : float
        Mean IoU, as in `mean_iou`.
    pixel_accuracy : float
        Fraction of the counted pixels that are right.
    """

    class_names: tuple[str, ...]
    matching: Matching
    matched: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]
    mean_iou: float
    pixel_accuracy: float


def score_classes(
    counts: npt.NDArray[np.int64],
    class_names: Sequence[str],
    how: How,
    absent: Absent,
    background: int | None = None,
) -> ClassScores:
    """Match clusters with classes and compute the scores of the field.

    ``("iou_hungarian", "zero")`` is protocol ``maskcontrast`` (and ``coco_things``),
    ``("count_hungarian", "skip")`` is protocol ``stego``.

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster and true class, summed over the dataset.
    class_names : sequence of str [n_classes]
        Names of the classes, in the order of their ids.
    how : How
        The matching, as in `matching.match`.
    absent : {"zero", "skip"}
        What a class that neither occurs nor is predicted adds to the mean, as in `mean_iou`.
    background : int or None
        Class id of the background, needed by ``background_fixed`` alone.

    Returns
    -------
    ClassScores
        The matching and the scores.

    Raises
    ------
    StoreError
        If the counts, written by an earlier step, are of another number of classes.
    """
    require_counts(counts)
    n_classes = len(class_names)
    if counts.shape[1] != n_classes:
        raise StoreError(
            f"counts are of {counts.shape[1]} classes but the dataset has {n_classes} "
            f"({', '.join(class_names)}); they must be equal"
        )
    matching = match(counts, how, background)
    matched = apply_matching(counts, matching, n_classes)
    iou = iou_per_class(matched)
    return ClassScores(
        class_names=tuple(class_names),
        matching=matching,
        matched=matched,
        iou=iou,
        mean_iou=mean_iou(iou, absent),
        pixel_accuracy=pixel_accuracy(matched),
    )


def apply_matching(
    counts: npt.NDArray[np.int64], matching: Matching, n_classes: int
) -> npt.NDArray[np.int64]:
    """Add up the clusters of each class.

    Pixels of unmatched clusters do not vanish: they fill a row of their own after the last
    class, where they are right for no class, and missed (false negatives) for their true one.

    Parameters
    ----------
    counts : int64 [n_clusters, n_classes]
        Pixels by predicted cluster and true class.
    matching : Matching
        Class of each cluster.
    n_classes : int
        Number of classes; that of `counts`.

    Returns
    -------
    int64 [n_classes + 1, n_classes]
        Pixels by predicted class, the last row being unmatched, and true class.
    """
    require_counts(counts)
    classes = matching.cluster_to_class
    if counts.shape != (len(classes), n_classes):
        raise ValueError(
            f"counts of shape {counts.shape} with a matching of {len(classes)} clusters and "
            f"{n_classes} classes; the shape must be {(len(classes), n_classes)}"
        )
    if classes.min() < UNMATCHED or classes.max() >= n_classes:
        raise ValueError(f"matching to classes {classes}; allowed are -1..{n_classes - 1}")
    matched = np.zeros((n_classes + 1, n_classes), dtype=np.int64)
    np.add.at(matched, np.where(classes == UNMATCHED, n_classes, classes), counts)
    return matched


def iou_per_class(matched: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Compute the intersection over union of every class.

    Parameters
    ----------
    matched : int64 [n_classes + 1, n_classes]
        Pixels by predicted class, the last row being unmatched, and true class, from
        `apply_matching`; the last row may be missing.

    Returns
    -------
    float64 [n_classes]
        Right / (predicted + true - right), over the whole dataset; 0 for a class that is only
        predicted or only true, NaN for one that is neither.
    """
    return iou_matrix(matched).diagonal().copy()


def mean_iou(iou: npt.NDArray[np.float64], absent: Absent) -> float:
    """Average the IoUs over the classes.

    The rules differ in classes that have no true pixel. One that is predicted all the same has an
    IoU of 0, and counts 0 by either rule; one that is not predicted either has no IoU, and

    - ``zero`` (protocol ``maskcontrast``): counts 0, too; the mean is over all classes.
    - ``skip`` (protocol ``stego``): is left out of the mean, as in STEGO's program
      (``iou[~isnan(iou)].mean()``).

    Parameters
    ----------
    iou : float64 [n_classes]
        IoU of each class, from `iou_per_class`: NaN if it is neither predicted nor true anywhere.
    absent : {"zero", "skip"}
        What a class without an IoU adds.

    Returns
    -------
    float
        The mean; NaN if no class has an IoU, since there is nothing to score.
    """
    if absent not in get_args(Absent):
        raise ValueError(f"absent={absent!r}; allowed are {', '.join(get_args(Absent))}")
    scored = ~np.isnan(iou)
    if not scored.any():
        return float("nan")
    averaged = iou[scored] if absent == "skip" else np.where(scored, iou, 0.0)
    return float(averaged.mean())


def pixel_accuracy(matched: npt.NDArray[np.int64]) -> float:
    """Compute the fraction of the counted pixels whose class is right.

    Parameters
    ----------
    matched : int64 [n_classes + 1, n_classes]
        Pixels by predicted class, the last row being unmatched, and true class, from
        `apply_matching`; the last row may be missing.

    Returns
    -------
    float
        Trace / total, unmatched pixels included in the total; NaN if no pixel is counted.
    """
    total = int(matched.sum())
    return int(matched.trace()) / total if total else float("nan")


def foreground_scores(counts: npt.NDArray[np.int64]) -> ForegroundScores:
    """Score a binary mask, pooled over all images; nothing is matched.

    Parameters
    ----------
    counts : int64 [2, 2]
        Pixels by predicted (row) and true (column) label: 0 background, 1 foreground.

    Returns
    -------
    ForegroundScores
        IoU of background and foreground, their mean, and the accuracy.
    """
    require_counts(counts)
    if counts.shape != (2, 2):
        raise ValueError(f"counts of shape {counts.shape}; (2, 2) is required")
    background, foreground = (float(value) for value in iou_per_class(counts))
    return ForegroundScores(
        iou_background=background,
        iou_foreground=foreground,
        mean_iou=(background + foreground) / 2,
        accuracy=pixel_accuracy(counts),
    )


def mean_and_sd(values: Sequence[float]) -> MeanAndSd:
    """Summarise a score over seeds.

    Parameters
    ----------
    values : sequence of float [n_seeds]
        The score of each seed; at least one.

    Returns
    -------
    MeanAndSd
        Mean, and standard deviation of the sample (divided by n - 1), which is NaN for one seed.
    """
    if len(values) == 0:
        raise ValueError("no values; the mean needs at least one")
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return MeanAndSd(float(np.mean(values)), sd)
