"""Views of pictures: crops of any place and scale, mirrored, in other light, and partly hidden.

Every random number comes from the generator that is passed in, so that a step's views depend on
that alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

LONGEST = 4 / 3
"""Greatest ratio of the sides of a crop."""


def random_boxes(
    rng: np.random.Generator, count: int, side: int, area: tuple[float, float]
) -> NDArray[np.int64]:
    """Return crops of a square image, int64 [count, 4]: top, left, height, width in pixels.

    Parameters
    ----------
    rng : numpy Generator
    count, side : int
        Number of crops, and side of the image in pixels.
    area : (float, float)
        Least and greatest share of the image, in (0, 1].
    """
    length = np.sqrt(rng.uniform(*area, count)) * side
    stretch = np.sqrt(LONGEST) ** rng.uniform(-1, 1, count)
    sides = np.stack([length * stretch, length / stretch], axis=1)
    sides = np.clip(np.rint(sides), 1, side).astype(np.int64)
    corners = rng.integers(0, side - sides + 1)
    return np.concatenate([corners, sides], axis=1)


def crop_views(
    images: NDArray[np.uint8],
    boxes: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
    size: int,
) -> Tensor:
    """Cut a box out of each image and resize it to a square (bilinear, antialiased).

    Parameters
    ----------
    images : uint8 [n, H, W]
    boxes : int64 [n, 4]
        Top, left, height and width.
    mirrored : bool [n]
        Whether left and right are exchanged.
    size : int

    Returns
    -------
    Tensor float32 [n, 1, size, size]
        In [0, 1].
    """
    views = torch.empty(len(images), 1, size, size, dtype=torch.uint8)
    for view, image, (top, left, height, width), flip in zip(
        views, images, boxes, mirrored, strict=True
    ):
        crop = np.ascontiguousarray(image[top : top + height, left : left + width])
        pixels = torch.from_numpy(crop)[None, None]
        resized = interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        view.copy_(resized[0].flip(-1) if flip else resized[0])
    return views.float() / 255


def relight(views: Tensor, rng: np.random.Generator, strength: float, inverted: float) -> Tensor:
    """Change contrast and brightness of each view.

    Parameters
    ----------
    views : Tensor float32 [n, 1, H, W]
        In [0, 1].
    rng : numpy Generator
    strength : float
        In [0, 1]; at 1 the contrast changes by up to 0.4 and the brightness by 0.3.
    inverted : float
        Probability that light and dark change places, as in a negative. Without it brightness,
        the strongest signal there is, becomes the main direction of the features.

    Returns
    -------
    Tensor float32 [n, 1, H, W]
        In [0, 1].
    """
    contrast, brightness = strength * rng.uniform(-1, 1, (2, len(views), 1, 1, 1))
    sign = np.where(rng.random((len(views), 1, 1, 1)) < inverted, -1, 1)
    gain = torch.from_numpy(sign * (1 + 0.4 * contrast)).float()
    mean = views.mean(dim=(2, 3), keepdim=True)
    return (gain * (views - mean) + mean + 0.3 * torch.from_numpy(brightness).float()).clamp(0, 1)


def random_masks(
    rng: np.random.Generator, count: int, grid: int, share: float, hidden: tuple[float, float]
) -> NDArray[np.bool_]:
    """Return which patches are hidden, bool [count, grid²]: rectangles, as in iBOT and BEiT.

    Parameters
    ----------
    rng : numpy Generator
    count, grid : int
        Number of views, and patches along their sides, 2 or more.
    share : float
        Share of the views in which any are hidden.
    hidden : (float, float)
        Least share of the patches hidden in such a view: drawn between the two, then exceeded by
        at most one rectangle of half the sides.
    """
    masks = np.zeros((count, grid, grid), dtype=np.bool_)
    for index in np.flatnonzero(rng.random(count) < share):
        target = rng.uniform(*hidden) * grid**2
        while masks[index].sum() < target:
            height, width = rng.integers(1, grid // 2 + 1, 2)
            top, left = rng.integers(0, grid - height + 1), rng.integers(0, grid - width + 1)
            masks[index, top : top + height, left : left + width] = True
    return masks.reshape(count, -1)
