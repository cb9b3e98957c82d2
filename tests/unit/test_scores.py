"""Scores of a matched prediction."""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightcluster.errors import StoreError
from lightcluster.evaluation.confusion import count_confusion
from lightcluster.evaluation.matching import BY_IOU, EXTRA_BY_PIXELS, How, Matching
from lightcluster.evaluation.scores import (
    Absent,
    apply_matching,
    foreground_scores,
    iou_per_class,
    mean_and_sd,
    mean_iou,
    pixel_accuracy,
    score_classes,
)

Counts = npt.NDArray[np.int64]

PROTOCOLS: list[tuple[How, Absent]] = [
    ("iou_hungarian", "zero"),
    ("count_hungarian", "skip"),
    ("background_fixed", "zero"),
    ("iou_majority", "zero"),
    ("count_majority", "skip"),
]


def names(n: int) -> list[str]:
    return [f"class {i}" for i in range(n)]


def to_classes(*classes: int) -> Matching:
    return Matching(np.array(classes, dtype=np.int64), "count_majority")


def count_matrices(smallest: int = 2) -> st.SearchStrategy[Counts]:
    shapes = st.tuples(st.integers(smallest, 6), st.integers(smallest, 6))
    cells = st.one_of(st.just(0), st.integers(0, 500))
    return shapes.flatmap(lambda shape: hnp.arrays(np.int64, shape, elements=cells))


# ---- apply_matching ------------------------------------------------------------------------


def test_clusters_of_a_class_are_added_and_unmatched_ones_kept() -> None:
    counts = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])
    matched = apply_matching(counts, to_classes(1, -1, 1, -1), n_classes=2)
    assert matched.tolist() == [[0, 0], [6, 8], [10, 12]]
    assert matched.dtype == np.int64


@given(count_matrices(), st.data())
def test_no_pixel_changes_its_true_class(counts: Counts, data: st.DataObject) -> None:
    n_clusters, n_classes = counts.shape
    classes = data.draw(hnp.arrays(np.int64, n_clusters, elements=st.integers(-1, n_classes - 1)))
    matched = apply_matching(counts, Matching(classes, "count_majority"), n_classes)
    assert matched.shape == (n_classes + 1, n_classes)
    assert np.array_equal(matched.sum(axis=0), counts.sum(axis=0))
    assert np.array_equal(matched[-1], counts[classes == -1].sum(axis=0))


def test_a_matching_that_does_not_fit_is_refused() -> None:
    counts = np.eye(2, dtype=np.int64)
    with pytest.raises(ValueError, match="matching of 3 clusters"):
        apply_matching(counts, to_classes(0, 1, 1), 2)
    with pytest.raises(ValueError, match="3 classes"):
        apply_matching(counts, to_classes(0, 1), 3)
    for wrong in (-2, 2):
        with pytest.raises(ValueError, match=r"allowed are -1\.\.1"):
            apply_matching(counts, to_classes(0, wrong), 2)


# ---- IoU and its mean ----------------------------------------------------------------------


def test_iou_of_each_kind_of_class() -> None:
    """Class 0 is partly right, 1 never predicted, 2 only predicted, 3 neither, 4 all right."""
    matched = np.array(
        [
            [6, 2, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [0, 0, 0, 0, 5],
            [3, 1, 0, 0, 0],  # unmatched
        ]
    )
    iou = iou_per_class(matched)
    np.testing.assert_array_equal(iou, [6 / (8 + 10 - 6), 0.0, 0.0, np.nan, 1.0])
    assert mean_iou(iou, "zero") == pytest.approx((0.5 + 0 + 0 + 0 + 1) / 5)
    assert mean_iou(iou, "skip") == pytest.approx((0.5 + 0 + 0 + 1) / 4)
    assert pixel_accuracy(matched) == 11 / 18


def test_unmatched_pixels_lower_the_iou_of_their_true_class() -> None:
    all_found = np.array([[8, 0], [0, 8], [0, 0]])
    some_unmatched = np.array([[6, 0], [0, 8], [2, 0]])
    assert iou_per_class(all_found).tolist() == [1.0, 1.0]
    assert iou_per_class(some_unmatched).tolist() == [0.75, 1.0]
    assert pixel_accuracy(some_unmatched) == 14 / 16


def test_the_mean_of_nothing_is_nan_and_warns_of_nothing() -> None:
    iou = np.array([np.nan, np.nan])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(mean_iou(iou, "zero"))
        assert math.isnan(mean_iou(iou, "skip"))
        assert math.isnan(pixel_accuracy(np.zeros((3, 2), np.int64)))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed are zero, skip"):
        mean_iou(np.ones(1), "nan")  # type: ignore[arg-type]


# ---- everything together -------------------------------------------------------------------


def test_a_dataset_by_hand() -> None:
    """Clusters 0, 1, 2 are the classes 0, 2, 1, with IoUs 8/12, 2/6 and 4/6."""
    counts = np.array([[8, 1, 1], [0, 1, 4], [2, 2, 0]])
    scores = score_classes(counts, ["background", "cat", "dog"], "iou_hungarian", "zero")
    assert scores.class_names == ("background", "cat", "dog")
    assert scores.matching.cluster_to_class.tolist() == [0, 2, 1]
    assert scores.matched.tolist() == [[8, 1, 1], [2, 2, 0], [0, 1, 4], [0, 0, 0]]
    assert scores.iou == pytest.approx([8 / 12, 2 / 6, 4 / 6])
    assert scores.mean_iou == pytest.approx((8 / 12 + 2 / 6 + 4 / 6) / 3)
    assert scores.pixel_accuracy == 14 / 19


def test_a_class_that_is_nowhere_counts_zero_or_not_at_all() -> None:
    counts = np.array([[9, 0, 0], [1, 10, 0], [0, 0, 0]])
    zero = score_classes(counts, names(3), "iou_hungarian", "zero")
    skip = score_classes(counts, names(3), "count_hungarian", "skip")
    np.testing.assert_array_equal(zero.iou, [9 / 10, 10 / 11, np.nan])
    assert zero.mean_iou == pytest.approx((9 / 10 + 10 / 11) / 3)
    assert skip.mean_iou == pytest.approx((9 / 10 + 10 / 11) / 2)


def test_a_stray_pixel_of_an_absent_class_counts() -> None:
    """Truth is {0, 1}; one pixel of class 0 is predicted as class 2, which occurs nowhere."""
    counts = np.array([[7, 0, 0], [0, 8, 0], [1, 0, 0]])
    skip = score_classes(counts, names(3), "count_hungarian", "skip")
    assert skip.iou.tolist() == [7 / 8, 1, 0]
    assert skip.mean_iou == 0.625
    assert score_classes(counts, names(3), "iou_hungarian", "zero").mean_iou == 0.625


def test_a_class_beyond_the_clusters_scores_zero() -> None:
    counts = np.array([[9, 0, 0], [0, 9, 2]])
    scores = score_classes(counts, names(3), "count_hungarian", "skip")
    assert scores.iou == pytest.approx([1.0, 9 / 11, 0.0])
    assert scores.mean_iou == pytest.approx((1 + 9 / 11) / 3)


def test_the_fallback_is_reported() -> None:
    counts = np.array([[9, 0], [0, 9], [1, 3]])
    assert score_classes(counts, names(2), "iou_hungarian", "zero").matching.fallback == BY_IOU
    extra = score_classes(counts, names(2), "count_hungarian", "skip")
    assert extra.matching.fallback == EXTRA_BY_PIXELS
    assert extra.iou == pytest.approx([9 / 10, 12 / 13])


@pytest.mark.parametrize(("how", "absent"), PROTOCOLS)
def test_everything_ignored_has_no_score(how: How, absent: Absent) -> None:
    truth = np.full((4, 4), 255, dtype=np.uint8)
    counts = count_confusion(np.zeros_like(truth), truth, 3, 3).counts
    scores = score_classes(counts, names(3), how, absent, background=0)
    assert np.isnan(scores.iou).all()
    assert math.isnan(scores.mean_iou)
    assert math.isnan(scores.pixel_accuracy)


def test_counts_of_another_dataset_are_refused() -> None:
    with pytest.raises(StoreError, match=r"2 classes but the dataset has 3 \(a, b, c\)"):
        score_classes(np.eye(2, dtype=np.int64), ["a", "b", "c"], "count_majority", "skip")


@pytest.mark.parametrize(("how", "absent"), PROTOCOLS)
@given(counts=count_matrices())
def test_scores_are_fractions(how: How, absent: Absent, counts: Counts) -> None:
    scores = score_classes(counts, names(counts.shape[1]), how, absent, background=0)
    present = counts.sum(axis=0) > 0
    assert ((scores.iou >= 0) & (scores.iou <= 1))[present].all()
    if present.any():
        assert 0 <= scores.mean_iou <= 1
        assert 0 <= scores.pixel_accuracy <= 1
    else:
        assert math.isnan(scores.mean_iou)
        assert math.isnan(scores.pixel_accuracy)


@given(count_matrices(), st.data())
def test_a_perfect_prediction_under_other_names_scores_one(
    counts: Counts, data: st.DataObject
) -> None:
    pixels = counts.sum(axis=0) + 1
    order = data.draw(st.permutations(range(len(pixels))))
    for how, absent in PROTOCOLS:
        relabelled = np.diag(pixels) if how == "background_fixed" else np.diag(pixels)[order]
        scores = score_classes(relabelled, names(len(pixels)), how, absent, background=0)
        assert scores.mean_iou == 1
        assert scores.pixel_accuracy == 1


@given(counts=count_matrices(), data=st.data())
def test_relabelling_clusters_changes_no_reported_score(
    counts: Counts, data: st.DataObject
) -> None:
    n = min(counts.shape)
    counts = counts[:n, :n]
    shuffled = counts[data.draw(st.permutations(range(n)))]
    by_iou, by_iou_shuffled, by_count, by_count_shuffled = (
        score_classes(c, names(n), how, "zero")
        for how in ("iou_hungarian", "count_hungarian")
        for c in (counts, shuffled)
    )
    assert by_iou_shuffled.mean_iou == pytest.approx(by_iou.mean_iou, nan_ok=True)
    assert by_count_shuffled.pixel_accuracy == pytest.approx(by_count.pixel_accuracy, nan_ok=True)


def test_scores_from_counts_equal_scores_from_pixels() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 2000).astype(np.uint8)
    noisy = np.where(rng.random(2000) < 0.6, truth, rng.integers(0, 4, 2000))
    prediction = ((noisy + 1) % 4).astype(np.uint8)
    truth[::50] = 255
    counts = count_confusion(prediction, truth, 4, 4).counts
    scores = score_classes(counts, names(4), "iou_hungarian", "zero")
    classes = scores.matching.cluster_to_class[prediction]
    assert scores.matching.cluster_to_class.tolist() == [3, 0, 1, 2]
    counted = truth != 255
    for c in range(4):
        predicted, true = (classes == c) & counted, truth == c
        assert scores.iou[c] == (predicted & true).sum() / (predicted | true).sum()
    assert scores.pixel_accuracy == (classes == truth).sum() / counted.sum()


# ---- foreground ----------------------------------------------------------------------------


def test_foreground_by_hand() -> None:
    scores = foreground_scores(np.array([[50, 10], [15, 25]]))
    assert scores.iou_background == pytest.approx(50 / 75)
    assert scores.iou_foreground == pytest.approx(25 / 50)
    assert scores.mean_iou == pytest.approx((50 / 75 + 25 / 50) / 2)
    assert scores.accuracy == pytest.approx(0.75)


def test_foreground_is_not_matched() -> None:
    assert foreground_scores(np.array([[0, 4], [6, 0]])) == (0.0, 0.0, 0.0, 0.0)


def test_foreground_that_is_nowhere_has_no_score() -> None:
    scores = foreground_scores(np.array([[7, 0], [0, 0]]))
    assert scores.iou_background == scores.accuracy == 1
    assert math.isnan(scores.iou_foreground)
    assert math.isnan(scores.mean_iou)


def test_foreground_of_other_than_two_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) is required"):
        foreground_scores(np.eye(3, dtype=np.int64))


# ---- seeds ---------------------------------------------------------------------------------


def test_mean_and_sd_of_seeds() -> None:
    summary = mean_and_sd([1.0, 2.0, 3.0, 6.0])
    assert summary.mean == 3.0
    assert summary.sd == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3))


def test_one_seed_has_no_sd_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, sd = mean_and_sd([0.4])
    assert mean == 0.4
    assert math.isnan(sd)


def test_no_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_and_sd([])
