"""From the patch grid to pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from builders import quick
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lightcluster.masks.upsampling import upsample

Method = Literal["bilinear", "nearest"]
METHODS: tuple[Method, ...] = ("bilinear", "nearest")

sides = st.integers(1, 7)


def a_score(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((rows, columns), np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 1 / 3, 1.0])
@pytest.mark.parametrize("size", [(7, 13), (3, 4), (200, 111), (1, 1)])
def test_a_constant_stays_constant(method: Method, value: float, size: tuple[int, int]) -> None:
    result = upsample(np.full((3, 4), value), size, method)
    assert result.shape == size
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, value, atol=1e-6)


@quick
@given(rows=sides, columns=sides, height=st.integers(1, 40), width=st.integers(1, 40))
def test_the_range_is_kept(rows: int, columns: int, height: int, width: int) -> None:
    score = a_score(rows, columns)
    for method in METHODS:
        result = upsample(score, (height, width), method)
        assert result.shape == (height, width)
        assert result.min() >= score.min() - 1e-6
        assert result.max() <= score.max() + 1e-6


@quick
@given(rows=sides, columns=sides, down=sides, across=sides)
def test_nearest_of_a_whole_factor_repeats_patches(
    rows: int, columns: int, down: int, across: int
) -> None:
    score = a_score(rows, columns)
    result = upsample(score, (rows * down, columns * across), "nearest")
    np.testing.assert_array_equal(result, np.kron(score, np.ones((down, across), np.float32)))


@quick
@given(rows=sides, columns=sides, height=st.integers(1, 40), width=st.integers(1, 40))
def test_nearest_takes_the_patch_under_the_centre_of_the_pixel(
    rows: int, columns: int, height: int, width: int
) -> None:
    score = a_score(rows, columns)
    down, clear_down = divmod((2 * np.arange(height) + 1) * rows, 2 * height)
    across, clear_across = divmod((2 * np.arange(width) + 1) * columns, 2 * width)
    result = upsample(score, (height, width), "nearest")
    clear = np.ix_(clear_down > 0, clear_across > 0)  # centres not between two patches
    np.testing.assert_array_equal(result[clear], score[np.ix_(down, across)][clear])


@quick
@given(rows=sides, columns=sides, more=st.tuples(st.integers(0, 50), st.integers(0, 50)))
def test_bilinear_agrees_with_torch(rows: int, columns: int, more: tuple[int, int]) -> None:
    score, size = a_score(rows, columns), (rows + more[0], columns + more[1])
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(score)[None, None], size, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(upsample(score, size, "bilinear"), expected[0, 0], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_grid_of_one_patch(method: Method) -> None:
    result = upsample(np.array([[0.25]]), (5, 3), method)
    np.testing.assert_array_equal(result, np.full((5, 3), 0.25))


@pytest.mark.parametrize("method", METHODS)
def test_votes_and_half_precision_and_strided_scores_are_accepted(method: Method) -> None:
    score = a_score(4, 6)
    votes = score > 0.5
    np.testing.assert_array_equal(
        upsample(votes, (9, 9), method), upsample(votes.astype(np.float32), (9, 9), method)
    )
    np.testing.assert_array_equal(
        upsample(score[:, ::2], (9, 9), method), upsample(score[:, ::2].copy(), (9, 9), method)
    )
    half = score.astype(np.float16)
    np.testing.assert_allclose(
        upsample(half, (9, 9), method), upsample(score, (9, 9), method), atol=1e-3
    )
