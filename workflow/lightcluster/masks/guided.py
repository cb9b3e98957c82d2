"""The guided filter aligns a score with the edges of its image, at the cost of a few box filters.

He, Sun and Tang, "Guided image filtering" (PAMI 2013), with a guide in colour; its coefficients may
be computed at a smaller size, as in He and Sun, "Fast guided filter" (arXiv 1505.00996).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter

from lightcluster.masks.upsampling import upsample

_SUBSAMPLING = 4


@dataclass(frozen=True)
class Guided:
    """Parameters of the filter.

    Attributes
    ----------
    radius : float
        Of the windows, as a share of the guide's short side.
    epsilon : float
        Colour variance, in [0, 1], below which the filter sees no edge.
    """

    radius: float
    epsilon: float


def shrink(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return an image as a guide: float32 in [0, 1], shape (3, height, width)."""
    small = Image.fromarray(image).resize(size[::-1], Image.Resampling.BOX)
    return scale_colors(np.asarray(small))


def scale_colors(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return an image [height, width, 3] as float32 in [0, 1], shape (3, height, width)."""
    return image.astype(np.float32).transpose(2, 0, 1) / np.float32(255)


@dataclass(frozen=True)
class Guide:
    """The guide image as the filter needs it; computed once, used for any number of scores.

    Attributes
    ----------
    colors : float32 array, shape (4, height, width)
        RGB in [0, 1], and 1.
    solution : float32 array, shape (4, 4, height, width)
        For each window, the matrix that makes the coefficients of red, green, blue and 1 of the
        means of a score times each of them.
    window : int
        Side of the windows in pixels, odd.
    """

    colors: NDArray[np.float32]
    solution: NDArray[np.float32]
    window: int


def _window_means(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Return the mean of each map of [..., height, width] in the window around each pixel."""
    sizes = (1,) * (values.ndim - 2) + (window, window)
    return np.asarray(uniform_filter(values, sizes, mode="nearest"), np.float32)


def prepare_guide(colors: NDArray[np.float32], guided: Guided) -> Guide:
    """Compute what the filter needs of an image.

    Parameters
    ----------
    colors : float32 array, shape (3, height, width)
        RGB in [0, 1].
    guided : Guided
        The radius is that of the windows, as a share of the short side; at least one pixel.
    """
    window = 2 * max(1, round(guided.radius * min(colors.shape[1:]))) + 1
    center = _window_means(colors, window)
    a, b, c, d, e, f = (
        _window_means(colors[i] * colors[j], window)
        - center[i] * center[j]
        + np.float32(guided.epsilon * (i == j))
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    )  # the covariance of the colours [[a, b, c], [b, d, e], [c, e, f]]
    cofactors = np.stack(
        [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b]
    )
    determinant = a * cofactors[0] + b * cofactors[1] + c * cofactors[2]
    inverse = (cofactors / determinant)[[0, 1, 2, 1, 3, 4, 2, 4, 5]]
    inverse = inverse.reshape(3, 3, *colors.shape[1:])
    # Slopes are inverse @ (products - center * level), the constant level - slopes @ center.
    shift = np.einsum("ijyx,jyx->iyx", inverse, center)
    solution = np.empty((4, 4, *colors.shape[1:]), np.float32)
    solution[:3, :3], solution[:3, 3], solution[3, :3] = inverse, -shift, -shift
    solution[3, 3] = 1 + (shift * center).sum(axis=0)
    return Guide(np.concatenate([colors, np.ones_like(colors[:1])]), solution, window)


def guided_coefficients(score: NDArray[np.float32], guide: Guide) -> NDArray[np.float32]:
    """Fit the score, around each pixel, as a linear function of the guide's colours.

    Parameters
    ----------
    score : float32 array, shape (height, width)
    guide : Guide

    Returns
    -------
    float32 array, shape (4, height, width)
        Of red, green, blue and the constant, averaged over the windows that hold the pixel.
    """
    means = _window_means(guide.colors * score, guide.window)
    return _window_means(np.einsum("ijyx,jyx->iyx", guide.solution, means), guide.window)


def guided_filter(score: NDArray[np.float32], guide: Guide) -> NDArray[np.float32]:
    """Filter a score by a guide of the same size.

    Parameters
    ----------
    score : float32 array, shape (height, width)
    guide : Guide

    Returns
    -------
    float32 array, shape (height, width)
        Not clipped: it may leave the range of `score` a little.
    """
    filtered: NDArray[np.float32] = np.einsum(
        "iyx,iyx->yx", guided_coefficients(score, guide), guide.colors
    )
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
    guide = prepare_guide(shrink(image, size), guided)
    *slopes, constant = guided_coefficients(upsample(score, size, "bilinear"), guide)
    filtered = np.array(upsample(constant, (height, width), "bilinear"))
    # Channel by channel, without a copy of the image as floating-point numbers: allocating memory
    # would take longer than the arithmetic.
    for channel, slope in enumerate(slopes):
        enlarged = upsample(slope / np.float32(255), (height, width), "bilinear")
        filtered += enlarged * image[..., channel]
    return filtered
