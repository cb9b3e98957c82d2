"""Matchings of clusters with classes."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations, product
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightcluster.evaluation.confusion import iou_matrix
from lightcluster.evaluation.matching import (
    BY_IOU,
    EXTRA_BY_PIXELS,
    How,
    match,
    match_background_fixed,
    match_count_majority,
    match_counts,
    match_iou,
    match_iou_majority,
)

Counts = npt.NDArray[np.int64]
HOWS: tuple[How, ...] = get_args(How)

# Small counts and many zeros, so that ties and empty rows and columns are frequent.
CELLS = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 1000))


def matrices(
    rows: st.SearchStrategy[int], columns: st.SearchStrategy[int]
) -> st.SearchStrategy[Counts]:
    return st.tuples(rows, columns).flatmap(
        lambda shape: hnp.arrays(np.int64, shape, elements=CELLS)
    )


def square(smallest: int, largest: int) -> st.SearchStrategy[Counts]:
    return st.integers(smallest, largest).flatmap(
        lambda n: hnp.arrays(np.int64, (n, n), elements=CELLS)
    )


def iou_gain(counts: Counts) -> npt.NDArray[np.float64]:
    return np.nan_to_num(iou_matrix(counts))


def gained(gain: npt.NDArray[np.float64], classes: Counts) -> float:
    """Sum the gains of the matched clusters, one by one."""
    return float(sum(gain[cluster, c] for cluster, c in enumerate(classes) if c >= 0))


def best_of_all(gain: npt.NDArray[np.float64]) -> float:
    """Find the best one-to-one sum by trying them all; no more clusters than classes."""
    n, m = gain.shape
    return max(float(gain[range(n), list(chosen)].sum()) for chosen in permutations(range(m), n))


# ---- hand-worked cases ---------------------------------------------------------------------


def test_iou_and_count_matchings_can_differ() -> None:
    """Straight matches 60 + 0 pixels, IoUs 60/119 + 0/59; crossed 50 + 9, 50/110 + 9/69."""
    counts = np.array([[60, 50], [9, 0]])
    assert match_counts(counts).cluster_to_class.tolist() == [0, 1]
    assert match_iou(counts).cluster_to_class.tolist() == [1, 0]


def test_background_is_matched_like_any_other_class_unless_it_is_fixed() -> None:
    counts = np.array([[0, 10, 0], [30, 1, 1], [2, 0, 20]])
    free = match_iou(counts)
    assert free.cluster_to_class.tolist() == [1, 0, 2]
    fixed = match_background_fixed(counts)
    assert fixed.cluster_to_class.tolist() == [0, 1, 2]
    assert (free.name, fixed.name) == ("iou_hungarian", "background_fixed")
    assert free.fallback is None
    assert fixed.fallback is None


def test_the_background_can_be_any_class() -> None:
    counts = np.array([[9, 9, 1], [5, 0, 9], [0, 8, 9]])
    result = match_background_fixed(counts, background=2)
    assert result.cluster_to_class.tolist() == [2, 0, 1]


def test_fixed_background_uses_the_ious_of_whole_clusters() -> None:
    """Cluster 1 has most pixels of class 1, but lies mostly on the background.

    Whole, its IoU of 10/116 loses to that of cluster 2, 6/16; without the background, 10/16
    would win.
    """
    counts = np.array([[50, 0, 5], [100, 10, 0], [0, 6, 0]])
    assert match_iou(counts[1:, 1:]).cluster_to_class.tolist() == [0, 1]
    assert match_background_fixed(counts).cluster_to_class.tolist() == [0, 2, 1]


def test_votes_by_iou_and_by_pixels_differ() -> None:
    """Cluster 1 has 30 of 1,030 pixels of class 0, an IoU of 30/1050, and all 20 of class 1, 20/50.

    What spills over the edge of an object is the object by IoU, and background by pixels.
    """
    counts = np.array([[1000, 0], [30, 20], [0, 0]])
    by_iou, by_pixels = match_iou_majority(counts), match_count_majority(counts)
    assert by_iou.cluster_to_class.tolist() == [0, 1, -1]
    assert by_pixels.cluster_to_class.tolist() == [0, 0, -1]
    assert (by_iou.name, by_pixels.name) == ("iou_majority", "count_majority")
    assert by_iou.fallback is by_pixels.fallback is None


def test_votes_share_classes_and_break_ties_downwards() -> None:
    """By IoU: row 0 has 5/11, 5/23, 1/15; row 1 has 0, 3/20, 3/8; row 2 has 0, 9/18, 1/14."""
    counts = np.array([[5, 5, 1], [0, 3, 3], [0, 9, 1], [0, 0, 0]])
    assert match_count_majority(counts).cluster_to_class.tolist() == [0, 1, 1, -1]
    assert match_iou_majority(counts).cluster_to_class.tolist() == [0, 2, 1, -1]
    tied = np.array([[2, 2], [4, 4]])  # 2/10 and 4/10 with either class
    for vote in (match_count_majority, match_iou_majority):
        assert vote(tied).cluster_to_class.tolist() == [0, 0]
    unlike = np.array([[4, 2], [6, 0]])  # 4/12 and 2/6, of different numbers
    assert match_iou_majority(unlike).cluster_to_class.tolist() == [0, 0]
    assert match_iou_majority(unlike[:, ::-1].copy()).cluster_to_class.tolist() == [0, 1]


def test_extra_clusters_go_to_the_class_of_most_of_their_pixels() -> None:
    counts = np.array([[50, 0], [7, 3], [0, 40], [1, 2], [0, 0]])
    result = match_counts(counts)
    assert result.cluster_to_class.tolist() == [0, 0, 1, 1, -1]
    assert result.fallback == EXTRA_BY_PIXELS
    assert match(counts, "count_hungarian").fallback == EXTRA_BY_PIXELS


def test_with_fewer_clusters_some_classes_stay_unmatched() -> None:
    counts = np.array([[0, 5, 9], [0, 8, 9]])
    result = match(counts, "count_hungarian")
    assert result.cluster_to_class.tolist() == [2, 1]
    assert result.fallback is None


@pytest.mark.parametrize(
    "counts", [np.array([[9, 8], [0, 7], [0, 6]]), np.array([[9, 8, 0], [7, 6, 0]])]
)
def test_iou_matching_of_a_rectangle_is_the_vote_by_iou_and_says_so(counts: Counts) -> None:
    result = match(counts, "iou_hungarian")
    assert np.array_equal(result.cluster_to_class, match_iou_majority(counts).cluster_to_class)
    assert (result.name, result.fallback) == ("iou_hungarian", BY_IOU)


def test_fixed_background_of_a_rectangle_votes_among_the_objects_only() -> None:
    """The IoUs of cluster 1 with the objects are 9/117 and 8/118, with the background 99/364."""
    counts = np.array([[1, 0, 50], [9, 8, 99], [0, 2, 99], [0, 0, 99]])
    for result in (
        match(counts, "background_fixed", background=2),
        match_background_fixed(counts, background=2),
    ):
        assert result.cluster_to_class.tolist() == [2, 0, 1, -1]
        assert (result.name, result.fallback) == ("background_fixed", BY_IOU)


def test_background_alone() -> None:
    counts = np.array([[5, 3]])
    assert match_background_fixed(counts, background=1).cluster_to_class.tolist() == [1]


@pytest.mark.parametrize("how", HOWS)
def test_all_zeros_match_without_a_warning(how: How) -> None:
    result = match(np.zeros((3, 3), np.int64), how, background=0)
    assert result.cluster_to_class.shape == (3,)
    assert result.cluster_to_class.dtype == np.int64


def test_misuse_is_a_value_error() -> None:
    counts = np.eye(3, dtype=np.int64)
    with pytest.raises(ValueError, match="'best'; allowed are iou_hungarian"):
        match(counts, "best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs the class id"):
        match(counts, "background_fixed")
    for background in (-1, 3):
        with pytest.raises(ValueError, match=f"background class {background} of 3"):
            match(counts, "background_fixed", background)
    with pytest.raises(ValueError, match="background class 0 of 1"):
        match_background_fixed(np.array([[1], [2]]), 0)
    for how in HOWS:
        with pytest.raises(ValueError, match="int64"):
            match(np.eye(3), how, 0)  # type: ignore[arg-type]


# ---- against brute force -------------------------------------------------------------------


@given(matrices(st.integers(1, 4), st.integers(4, 5)))
def test_count_hungarian_is_the_best_of_all(counts: Counts) -> None:
    result = match_counts(counts)
    assert result.fallback is None
    total = counts.astype(np.float64)
    assert gained(total, result.cluster_to_class) == best_of_all(total)


@given(matrices(st.integers(3, 5), st.integers(1, 2)))
def test_extra_clusters_join_a_best_of_all(counts: Counts) -> None:
    """The result is one of the best one-to-one matchings, the others having their maximum."""
    n_clusters, n_classes = counts.shape
    by_matched: dict[int, set[int]] = {}
    for chosen in permutations(range(n_clusters), n_classes):
        matched = int(counts[list(chosen), range(n_classes)].sum())
        extra = int(np.delete(counts, chosen, axis=0).max(axis=1).sum())
        by_matched.setdefault(matched, set()).add(matched + extra)
    result = match_counts(counts)
    assert result.fallback == EXTRA_BY_PIXELS
    achieved = gained(counts.astype(np.float64), result.cluster_to_class)
    assert achieved in by_matched[max(by_matched)]


@given(square(1, 5))
def test_iou_hungarian_is_the_best_of_all(counts: Counts) -> None:
    result = match_iou(counts)
    assert sorted(result.cluster_to_class) == list(range(len(counts)))
    gain = iou_gain(counts)
    assert gained(gain, result.cluster_to_class) == pytest.approx(best_of_all(gain))


@given(square(2, 5), st.data())
def test_fixed_background_is_the_best_of_all_that_fix_it(
    counts: Counts, data: st.DataObject
) -> None:
    n = len(counts)
    background = data.draw(st.integers(0, n - 1))
    classes = match_background_fixed(counts, background).cluster_to_class
    gain = iou_gain(counts)
    best = max(
        gained(gain, np.array(chosen))
        for chosen in permutations(range(n))
        if chosen[0] == background
    )
    assert classes[0] == background
    assert sorted(classes) == list(range(n))
    assert gained(gain, classes) == pytest.approx(best)


def slow_vote(counts: Counts, by_iou: bool) -> list[int]:
    """Both votes, pixel by pixel: sets of the places where a cluster and where a class is."""
    pixels = [
        (cluster, true)
        for cluster, row in enumerate(counts.tolist())
        for true, number in enumerate(row)
        for _ in range(number)
    ]
    classes = []
    for cluster in range(counts.shape[0]):
        predicted = {place for place, (c, _) in enumerate(pixels) if c == cluster}
        best, chosen = Fraction(0), -1
        for true in range(counts.shape[1]):
            actual = {place for place, (_, t) in enumerate(pixels) if t == true}
            votes = Fraction(len(predicted & actual))
            if by_iou and votes:
                votes /= len(predicted | actual)
            if votes > best:
                best, chosen = votes, true
        classes.append(chosen)
    return classes


FEW = st.tuples(st.integers(1, 6), st.integers(1, 4)).flatmap(
    lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(0, 9))
)


@given(FEW)
def test_votes_are_those_of_sets_of_pixels(counts: Counts) -> None:
    assert match_count_majority(counts).cluster_to_class.tolist() == slow_vote(counts, False)
    assert match_iou_majority(counts).cluster_to_class.tolist() == slow_vote(counts, True)


@given(FEW.filter(lambda counts: counts.shape[1] > 1), st.data())
def test_a_fixed_background_leaves_the_vote_to_the_objects(
    counts: Counts, data: st.DataObject
) -> None:
    """Whoever votes for the background takes the best of the objects that it meets, or none."""
    background = data.draw(st.integers(0, counts.shape[1] - 1))
    if counts.shape[0] == counts.shape[1]:
        return
    gain = iou_gain(counts)
    gain[:, background] = 0
    expected = [int(row.argmax()) if row.any() else -1 for row in gain]
    found = match(counts, "background_fixed", background).cluster_to_class
    assert found.tolist() == [background, *expected[1:]]


@given(matrices(st.integers(1, 3), st.integers(1, 3)))
def test_no_matching_gets_more_pixels_right_than_the_vote_by_pixels(counts: Counts) -> None:
    n_clusters, n_classes = counts.shape
    classes = match_count_majority(counts).cluster_to_class
    best = max(
        sum(counts[cluster, true] for cluster, true in enumerate(chosen))
        for chosen in product(range(n_classes), repeat=n_clusters)
    )
    assert gained(counts.astype(np.float64), classes) == best


# ---- properties ----------------------------------------------------------------------------


@given(square(2, 6), st.data())
def test_relabelling_clusters_changes_no_sum(counts: Counts, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(counts))))
    for matcher, gain in ((match_iou, iou_gain), (match_counts, np.asarray)):
        plain = gained(gain(counts), matcher(counts).cluster_to_class)
        shuffled = gained(gain(counts[order]), matcher(counts[order]).cluster_to_class)
        assert shuffled == pytest.approx(plain)


@given(matrices(st.integers(2, 6), st.integers(2, 6)), st.sampled_from(HOWS))
def test_same_counts_same_matching_and_no_pixels_lost(counts: Counts, how: How) -> None:
    before = counts.copy()
    first, second = match(counts, how, 0), match(counts.copy(order="F"), how, 0)
    assert np.array_equal(counts, before)
    assert np.array_equal(first.cluster_to_class, second.cluster_to_class)
    assert first.name == how
    assert first.cluster_to_class.min() >= -1
    assert first.cluster_to_class.max() < counts.shape[1]
    one_to_one = first.fallback is None and not how.endswith("majority")
    used = first.cluster_to_class[first.cluster_to_class >= 0]
    assert not one_to_one or len(set(used)) == len(used) == min(counts.shape)
    unmatched = counts[first.cluster_to_class == -1]
    assert unmatched[:, 1 if how == "background_fixed" else 0 :].sum() == 0
