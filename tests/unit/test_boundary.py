"""Boundary F, against a slow statement of it."""

from __future__ import annotations

import numpy as np
import pytest
from builders import quick
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from lightcluster.evaluation.boundary import TrueEdge, edge_points

IGNORED = 99


def slow_edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    edge = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            inside = 0 <= y + dy < mask.shape[0] and 0 <= x + dx < mask.shape[1]
            edge[y, x] |= inside and not mask[y + dy, x + dx]
    return edge


def slow_boundary_f(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """With the edges made as wide as the tolerance, by a disk."""
    reach = max(1, round(0.0075 * np.hypot(*mask.shape)))
    disk = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
    own, true = slow_edge(mask), slow_edge(truth)
    if not own.any() or not true.any():
        return float(own.any() == true.any())
    precision = (own & binary_dilation(true, disk)).sum() / own.sum()
    recall = (true & binary_dilation(own, disk)).sum() / true.sum()
    return 2 * precision * recall / max(precision + recall, 1e-9)


def blob(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    return gaussian_filter(generator.standard_normal(shape), 4) > generator.normal(0, 0.05)


@quick
@given(st.integers(0, 10**6), st.sampled_from([(30, 44), (24, 240), (420, 24)]))
def test_it_is_that_of_edges_made_wide(seed: int, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(seed)
    truth, mask = blob(generator, shape), blob(generator, shape)
    edge = TrueEdge(truth.astype(np.uint16), 0, IGNORED)
    assert edge.boundary_f(mask) == pytest.approx(slow_boundary_f(mask, truth))
    np.testing.assert_array_equal(edge_points(mask), np.argwhere(slow_edge(mask)))


def test_a_square_moved_by_more_than_the_tolerance() -> None:
    truth, mask = np.zeros((2, 400, 300), np.uint16)  # a tolerance of 4 pixels
    truth[100:200, 100:200] = 3
    for shift, low, high in ((0, 1, 1), (4, 1, 1), (5, 0.4, 0.6), (60, 0.2, 0.3), (110, 0, 0.0)):
        mask[:] = 0
        mask[100:200, 100 + shift : 200 + shift] = 1
        assert low <= TrueEdge(truth, 0, IGNORED).boundary_f(mask > 0) <= high


def test_without_edges() -> None:
    nothing, everything = np.zeros((9, 9), np.uint16), np.ones((9, 9), np.uint16)
    some = np.eye(9, dtype=bool)
    for truth in (nothing, everything):
        edge = TrueEdge(truth, 0, IGNORED)
        assert edge.boundary_f(truth > 0) == 1
        assert edge.boundary_f(some) == 0
    assert TrueEdge(some.astype(np.uint16), 0, IGNORED).boundary_f(nothing > 0) == 0


def test_ignored_pixels_draw_no_outline() -> None:
    """A rim of ignored pixels, as PASCAL VOC has: the edge of the truth lies in its middle."""
    truth = np.zeros((200, 200), np.uint16)
    truth[50:150, 50:150] = 2
    mask = truth > 0
    truth[46:154, 46:154][~mask[46:154, 46:154]] = IGNORED
    truth[50:54, 50:150] = IGNORED
    assert TrueEdge(truth, 0, IGNORED).boundary_f(mask) > 0.95
    everything = TrueEdge(np.full((9, 9), IGNORED, np.uint16), 0, IGNORED)
    assert everything.boundary_f(np.ones((9, 9), bool)) == 1
