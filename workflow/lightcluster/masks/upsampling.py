"""Upsampling from the patch grid to pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}


def upsample(
    score: NDArray[np.floating], size: tuple[int, int], method: Literal["bilinear", "nearest"]
) -> NDArray[np.float32]:
    """Resize a map of patches to the pixels of its image.

    Pixel centres are aligned (``align_corners=False``).

    Parameters
    ----------
    score : float array, shape (rows, columns)
    size : (int, int)
        Height and width in pixels.
    method : {"bilinear", "nearest"}

    Returns
    -------
    float32 array, shape (height, width)
        Within the range of `score`.
    """
    image = Image.fromarray(np.ascontiguousarray(score, np.float32))
    height, width = size
    return np.asarray(image.resize((width, height), RESAMPLING[method]), np.float32)
