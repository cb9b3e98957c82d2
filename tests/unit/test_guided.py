"""The guided filter against the definition of its paper, window by window."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lightcluster.masks.guided import (
    Guided,
    guided_filter,
    prepare_guide,
    refine_guided,
    shrink,
)

RANDOM = np.random.default_rng(0)
GUIDED = Guided(0.2, 1e-4)


def slow_filter(
    score: NDArray[np.float32], guide: NDArray[np.float32], radius: int, epsilon: float
) -> NDArray[np.float64]:
    """Fit a ridge regression in each window, and average those of all windows around a pixel."""
    height, width = score.shape
    pad = [(radius, radius)] * 2
    scores = np.pad(score.astype(np.float64), pad, mode="edge")
    colours = np.stack([np.pad(channel.astype(np.float64), pad, mode="edge") for channel in guide])
    fitted = np.empty((4, height, width))
    for y in range(height):
        for x in range(width):
            window = np.s_[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
            p, colour = scores[window].ravel(), colours[:, *window].reshape(3, -1)
            covariance = np.cov(colour, bias=True) + epsilon * np.eye(3)
            slopes = np.linalg.solve(
                covariance, (colour * p).mean(axis=1) - colour.mean(1) * p.mean()
            )
            fitted[:, y, x] = [*slopes, p.mean() - slopes @ colour.mean(axis=1)]
    padded = np.stack([np.pad(values, pad, mode="edge") for values in fitted])
    filtered = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            mean = padded[:, y : y + 2 * radius + 1, x : x + 2 * radius + 1].mean(axis=(1, 2))
            filtered[y, x] = mean[:3] @ guide[:, y, x] + mean[3]
    return filtered


@pytest.mark.parametrize(("share", "radius"), [(0.01, 1), (0.2, 2), (0.4, 4)])
@pytest.mark.parametrize("epsilon", [1e-3, 0.1])
def test_it_is_the_mean_of_the_regressions_of_all_windows(share, radius, epsilon):
    score = RANDOM.random((10, 13), np.float32)
    guide = RANDOM.random((3, 10, 13), np.float32)
    found = guided_filter(score, prepare_guide(guide, Guided(share, epsilon)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow_filter(score, guide, radius, epsilon), atol=2e-4)


def test_a_constant_score_stays():
    guide = RANDOM.random((3, 20, 30), np.float32)
    found = guided_filter(np.full((20, 30), 0.3, np.float32), prepare_guide(guide, GUIDED))
    np.testing.assert_allclose(found, 0.3, atol=1e-4)


def test_a_blurred_edge_comes_back_where_the_guide_has_it():
    truth = np.zeros((60, 80), np.float32)
    truth[:, 33:] = 1
    guide = np.stack([0.2 + 0.6 * truth] * 3)
    blurred = np.clip((np.arange(80, dtype=np.float32) - 25) / 16, 0, 1)[None].repeat(60, axis=0)
    found = guided_filter(blurred, prepare_guide(guide, GUIDED))
    assert ((found > 0.5) == (truth > 0.5)).all()
    assert not ((blurred > 0.5) == (truth > 0.5)).all() or np.abs(found - truth).mean() < 0.2


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 3), (37, 50)])
def test_images_of_any_size(size):
    image = RANDOM.integers(0, 256, (*size, 3), np.uint8)
    found = refine_guided(np.full((2, 3), 0.75, np.float32), image, Guided(0.07, 1e-4))
    assert found.shape == size
    np.testing.assert_allclose(found, 0.75, atol=1e-3)


def test_a_guide_holds_the_mean_colours():
    image = RANDOM.integers(0, 256, (8, 12, 3), np.uint8)
    expected = image.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(shrink(image, (4, 6)), expected, atol=1 / 255)
    assert shrink(np.asarray(Image.new("RGB", (5, 4))), (2, 2)).shape == (3, 2, 2)
