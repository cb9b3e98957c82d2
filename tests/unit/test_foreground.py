"""Which clusters are foreground."""

from __future__ import annotations

import numpy as np
import pytest
from builders import quick
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lightcluster.masks.foreground import (
    Rule,
    border_patches,
    center_distance,
    image_foreground,
    overlapping_clusters,
)

ALL_RULES: tuple[Rule, ...] = ("attention", "border", "center")


def test_border_patches() -> None:
    expected = [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    np.testing.assert_array_equal(border_patches((4, 4)).reshape(4, 4), expected)
    assert border_patches((3, 5)).sum() == 12


@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (2, 5), (5, 2)])
def test_every_patch_of_a_narrow_grid_is_at_the_border(grid: tuple[int, int]) -> None:
    assert border_patches(grid).tolist() == [1] * (grid[0] * grid[1])


def test_center_distance() -> None:
    distance = center_distance((3, 5)).reshape(3, 5)
    assert distance[1, 2] == pytest.approx(0, abs=1e-7)
    assert distance[0, 2] == pytest.approx(2 / 3)
    assert distance[1, 0] == pytest.approx(4 / 5)
    assert distance[0, 0] == pytest.approx(np.hypot(2 / 3, 4 / 5))
    assert center_distance((1, 1)).tolist() == [0]
    assert center_distance((100, 60)).max() < np.sqrt(2)


def test_center_distance_is_the_same_in_all_four_quarters() -> None:
    distance = center_distance((4, 7)).reshape(4, 7)
    np.testing.assert_allclose(distance, distance[::-1], atol=1e-6)
    np.testing.assert_allclose(distance, distance[:, ::-1], atol=1e-6)


GRID = (4, 4)
CENTER = np.pad(np.ones((2, 2), int), 1).ravel()  # cluster 1 in the middle
LEFT = np.repeat([[1, 0, 0, 0]], 4, axis=0).ravel()  # cluster 1 at the left edge
EVEN = np.full(16, 0.5)


@pytest.mark.parametrize(
    ("labels", "attention", "rule", "expected"),
    [
        (LEFT, LEFT + 0.0, "attention", [False, True]),
        (LEFT, 1.0 - LEFT, "attention", [True, False]),
        (CENTER, EVEN, "border", [False, True]),
        (1 - CENTER, EVEN, "border", [True, False]),
        (LEFT, EVEN, "border", [True, False]),
        (CENTER, EVEN, "center", [False, True]),
        (LEFT, EVEN, "center", [True, False]),
    ],
)
def test_each_rule_alone(
    labels: NDArray[np.int64], attention: NDArray[np.float64], rule: Rule, expected: list[bool]
) -> None:
    assert image_foreground(labels, 2, attention, GRID, [rule]).tolist() == expected


def test_two_rules_outvote_the_third() -> None:
    misled = 1.0 - CENTER
    assert image_foreground(CENTER, 2, misled, GRID, ALL_RULES).tolist() == [False, True]
    assert image_foreground(CENTER, 2, misled, GRID, ["attention"]).tolist() == [True, False]


def test_several_clusters_can_be_foreground() -> None:
    labels = np.zeros((6, 6), int)
    labels[2:4, 2:4] = [[1, 1], [2, 2]]
    labels[:, 0] = 3
    chosen = image_foreground(labels.ravel(), 5, (labels.ravel() == 1) * 0.1, (6, 6), ALL_RULES)
    assert chosen.tolist() == [False, True, True, False, False]


def test_a_tied_vote_gives_the_cluster_of_the_most_votes() -> None:
    """Of two rules, more than half is both; no cluster has both, so one vote will do."""
    labels = np.zeros((4, 4), int)
    labels[1:3, 1:3] = 1  # nearer the centre, and not brighter
    labels[0, :2] = 2  # brighter, and not nearer the centre
    attention = (labels.ravel() == 2) * 1.0
    chosen = image_foreground(labels.ravel(), 3, attention, GRID, ["attention", "center"])
    assert chosen.tolist() == [False, True, True]


def test_half_of_the_votes_is_not_enough_beside_a_cluster_with_all_of_them() -> None:
    labels = np.zeros((4, 4), int)
    labels[1:3, 1:3] = 1  # brighter and nearer the centre
    labels[0, :2] = 2  # brighter only
    attention = (labels.ravel() > 0) * 1.0
    chosen = image_foreground(labels.ravel(), 3, attention, GRID, ["attention", "center"])
    assert chosen.tolist() == [False, True, False]


def test_when_all_clusters_have_more_than_half_those_with_the_most_votes_win() -> None:
    labels = np.array([0, 2, 3, 3, 2, 0, 2, 2, 2, 3, 1, 1, 1, 2, 2, 0])
    attention = (labels != 3) * 1.0  # two votes for each cluster but the one that gets all three
    chosen = image_foreground(labels, 4, attention, GRID, ALL_RULES)
    assert chosen.tolist() == [False, True, False, False]


def test_one_cluster_holding_all_patches_is_foreground_and_empty_ones_are_not() -> None:
    chosen = image_foreground(np.full(9, 2), 4, np.full(9, 0.1), (3, 3), ALL_RULES)
    assert chosen.tolist() == [False, False, True, False]


def test_an_image_of_one_patch() -> None:
    chosen = image_foreground(np.array([1]), 2, np.array([0.3]), (1, 1), ALL_RULES)
    assert chosen.tolist() == [False, True]


def test_exact_ties_are_not_decided_by_rounding() -> None:
    """Left and right half are equally far from the centre: neither gets the vote."""
    for rows in range(1, 12):
        for half in range(1, 12):
            labels = np.tile(np.repeat([0, 1], half), rows)
            grid, attention = (rows, 2 * half), np.full(labels.size, 0.1)
            assert image_foreground(labels, 2, attention, grid, ["center"]).tolist() == [1, 1]
            assert image_foreground(labels, 2, attention, grid, ["attention"]).tolist() == [1, 1]


grids = st.tuples(st.integers(1, 6), st.integers(1, 6))


@quick
@given(data=st.data(), grid=grids, rules=st.sampled_from([ALL_RULES, *([r] for r in ALL_RULES)]))
def test_two_clusters_are_compared_pairwise(
    data: st.DataObject, grid: tuple[int, int], rules: tuple[Rule, ...]
) -> None:
    n = grid[0] * grid[1]
    labels = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))
    attention = data.draw(hnp.arrays(np.float64, n, elements=st.integers(0, 8)))
    chosen = image_foreground(labels, 2, attention, grid, rules)
    if len(set(labels.tolist())) < 2:
        assert chosen.tolist() == [0 in labels, 1 in labels]
        return
    evidence = {"attention": attention, "border": -border_patches(grid)}
    evidence["center"] = -center_distance(grid).astype(np.float64)
    difference = [evidence[r][labels == 1].mean() - evidence[r][labels == 0].mean() for r in rules]
    assume(all(abs(d) < 1e-6 or abs(d) > 1e-3 for d in difference))
    ones = sum(d > 1e-3 for d in difference)
    zeros = sum(d < -1e-3 for d in difference)
    if max(ones, zeros) * 2 > len(rules):
        assert chosen.tolist() == [zeros > ones, ones > zeros]
    else:
        assert chosen.tolist() == [zeros >= ones, ones >= zeros]


@quick
@given(data=st.data(), grid=grids, k=st.integers(1, 5))
def test_some_cluster_is_foreground_and_no_empty_one(
    data: st.DataObject, grid: tuple[int, int], k: int
) -> None:
    n = grid[0] * grid[1]
    labels = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, k - 1)))
    attention = data.draw(hnp.arrays(np.float16, n, elements=st.floats(0, 1, width=16)))
    chosen = image_foreground(labels, k, attention, grid, ALL_RULES)
    assert chosen.shape == (k,)
    assert chosen[labels].any()
    assert not chosen[np.bincount(labels, minlength=k) == 0].any()


def test_every_cluster_above_the_average_share_is_chosen() -> None:
    labels = np.repeat([0, 1, 2, 3], [4, 2, 4, 10])
    foreground = np.array([1, 1, 1, 0] + [1, 0] + [1, 0, 0, 0] + [0] * 10, bool)  # 5 of 20
    chosen, share = overlapping_clusters(labels, foreground, 4)
    assert share.tolist() == [0.75, 0.5, 0.25, 0]
    assert chosen.tolist() == [True, True, False, False]


@pytest.mark.parametrize("foreground", [False, True])
def test_without_a_difference_all_clusters_but_the_empty_are_chosen(foreground: bool) -> None:
    chosen, share = overlapping_clusters(np.array([0, 0, 2]), np.full(3, foreground), 3)
    assert chosen.tolist() == [True, False, True]
    assert share.tolist() == [foreground, 0, foreground]


def test_no_patches_at_all() -> None:
    chosen, share = overlapping_clusters(np.empty(0, int), np.empty(0, bool), 2)
    assert chosen.tolist() == [False, False]
    assert share.tolist() == [0, 0]


@quick
@given(data=st.data(), n=st.integers(1, 30), k=st.integers(1, 4))
def test_overlap_as_counted_one_by_one(data: st.DataObject, n: int, k: int) -> None:
    labels = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, k - 1)))
    foreground = data.draw(hnp.arrays(bool, n))
    total = sum(foreground.tolist())
    chosen, share = overlapping_clusters(labels, foreground, k)
    above = []
    for cluster in range(k):
        members = [
            f for label, f in zip(labels, foreground.tolist(), strict=True) if label == cluster
        ]
        assert share[cluster] == (sum(members) / len(members) if members else 0)
        above.append(bool(members) and sum(members) * n > total * len(members))
    assert chosen.tolist() == (above if any(above) else [c in labels for c in range(k)])
