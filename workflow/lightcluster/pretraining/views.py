"""Augmentations of pictures: random crops, mirroring, contrast and brightness, and masking.

All random numbers come from the generator that is passed in, so the views of a step depend only on
it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

LONGEST = 4 / 3
"""Largest aspect ratio of a crop."""


def random_boxes(
    rng: np.random.Generator, count: int, side: int, area: tuple[float, float]
) -> NDArray[np.int64]:
    """Return random crops of a square image.

    Parameters
    ----------
    rng : numpy Generator
    count, side : int
        Number of crops, and side of the image in pixels.
    area : (float, float)
        Smallest and largest share of the image area, in (0, 1].

    Returns
    -------
    int64 array, shape (count, 4)
        Top, left, height and width in pixels.
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
    """Crop a box from each image and resize it to a square (bilinear, antialiased).

    Parameters
    ----------
    images : uint8 [n, H, W]
    boxes : int64 [n, 4]
        Top, left, height and width.
    mirrored : bool [n]
        Whether to mirror the crop horizontally.
    size : int
        Side of the output in pixels.

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
        In [0, 1]; at 1, the contrast changes by up to 40 % and the brightness by up to 0.3.
    inverted : float
        Probability of inverting light and dark, as in a negative. Without inversion, brightness,
        the strongest signal, becomes the main direction of the features.

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
    """Return random masks made of rectangles, as in iBOT and BEiT.

    Parameters
    ----------
    rng : numpy Generator
    count, grid : int
        Number of views, and number of patches along each side (2 or more).
    share : float
        Share of the views that are masked.
    hidden : (float, float)
        Range from which the minimum share of masked patches is drawn for each masked view. It is
        exceeded by at most one rectangle with half the side lengths.

    Returns
    -------
    bool array, shape (count, grid²)
        True for masked patches.
    """
    masks = np.zeros((count, grid, grid), dtype=np.bool_)
    for index in np.flatnonzero(rng.random(count) < share):
        target = rng.uniform(*hidden) * grid**2
        while masks[index].sum() < target:
            height, width = rng.integers(1, grid // 2 + 1, 2)
            top, left = rng.integers(0, grid - height + 1), rng.integers(0, grid - width + 1)
            masks[index, top : top + height, left : left + width] = True
    return masks.reshape(count, -1)
