"""The guided filter: a score that follows the edges of its image, at the cost of some box filters.

He, Sun and Tang, "Guided image filtering" (PAMI 2013), with a guide in colour; its coefficients may
be computed at a smaller size, as in He and Sun, "Fast guided filter" (arXiv 1505.00996).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter

from lightcluster.masks.upsampling import upsample

_SUBSAMPLING = 4


@dataclass(frozen=True)
class Guided:
    """Parameters of the filter; see `config.RefinementSettings`."""

    radius: float = 0.04
    epsilon: float = 1e-4


def shrink(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return an image as a guide: float32 in [0, 1], shape (3, height, width)."""
    small = Image.fromarray(image).resize(size[::-1], Image.Resampling.BOX)
    return np.asarray(small, np.float32).transpose(2, 0, 1) / np.float32(255)


def guided_coefficients(
    score: NDArray[np.float32], guide: NDArray[np.float32], guided: Guided
) -> NDArray[np.float32]:
    """Fit the score, around each pixel, as a linear function of the guide's colours.

    Parameters
    ----------
    score : float32 array, shape (height, width)
    guide : float32 array, shape (3, height, width)
        RGB in [0, 1].
    guided : Guided
        The radius is that of the windows, as a share of the short side; at least one pixel.

    Returns
    -------
    float32 array, shape (4, height, width)
        Of red, green, blue and the constant, averaged over the windows that hold the pixel.
    """
    size = 2 * max(1, round(guided.radius * min(score.shape))) + 1

    def mean(values: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(uniform_filter(values, size, mode="nearest"), np.float32)

    center, level = [mean(channel) for channel in guide], mean(score)
    cross = [mean(guide[i] * score) - center[i] * level for i in range(3)]
    a, b, c, d, e, f = (
        mean(guide[i] * guide[j]) - center[i] * center[j] + guided.epsilon * (i == j)
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    )  # the covariance of the colours [[a, b, c], [b, d, e], [c, e, f]]
    cofactors = (
        (d * f - e * e, c * e - b * f, b * e - c * d),
        (c * e - b * f, a * f - c * c, b * c - a * e),
        (b * e - c * d, b * c - a * e, a * d - b * b),
    )
    determinant = a * cofactors[0][0] + b * cofactors[0][1] + c * cofactors[0][2]
    slopes = [sum(row[i] * cross[i] for i in range(3)) / determinant for row in cofactors]
    constant = level - sum(slopes[i] * center[i] for i in range(3))
    return np.stack([mean(values) for values in (*slopes, constant)])


def guided_filter(
    score: NDArray[np.float32], guide: NDArray[np.float32], guided: Guided
) -> NDArray[np.float32]:
    """Filter a score by a guide of the same size.

    Parameters
    ----------
    score : float32 array, shape (height, width)
    guide : float32 array, shape (3, height, width)
    guided : Guided

    Returns
    -------
    float32 array, shape (height, width)
        Not clipped: it may leave the range of `score` a little.
    """
    return _evaluate(guided_coefficients(score, guide, guided), guide)


def _evaluate(coefficients: NDArray[np.float32], guide: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the linear function of `guided_coefficients` at the colours of a guide."""
    filtered: NDArray[np.float32] = (coefficients[:3] * guide).sum(axis=0) + coefficients[3]
    return filtered


def refine_guided(
    score: NDArray[np.float32], image: NDArray[np.uint8], guided: Guided
) -> NDArray[np.float32]:
    """Filter a patch score by its image, with coefficients at a quarter of the image's size.

    Parameters
    ----------
    score : float32 array, shape (rows, columns)
        In [0, 1].
    image : uint8 array, shape (height, width, 3)
    guided : Guided

    Returns
    -------
    float32 array, shape (height, width)
    """
    height, width = image.shape[:2]
    size = max(1, height // _SUBSAMPLING), max(1, width // _SUBSAMPLING)
    coefficients = guided_coefficients(
        upsample(score, size, "bilinear"), shrink(image, size), guided
    )
    enlarged = np.stack([upsample(values, (height, width), "bilinear") for values in coefficients])
    return _evaluate(enlarged, shrink(image, (height, width)))
