"""Refinement of a score of one's own."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from lightcluster.api.given import Given, as_array, open_given
from lightcluster.errors import ConfigError
from lightcluster.masks.pixels import refine_mask
from lightcluster.masks.refinement.registry import RefinementSettings


def refine(
    score: ArrayLike,
    image: Given,
    *,
    method: str = "guided",
    threshold: float = 0.5,
    upsampling: Literal["bilinear", "nearest"] = "bilinear",
    **parameters: Any,
) -> NDArray[np.bool_]:
    """Turn a coarse foreground score into a mask that follows the edges of its image.

    Parameters
    ----------
    score : float array, shape (rows, columns)
        In [0, 1], of any size up to that of the image.
    image : path, bytes, array, tensor or PIL image
        See `given.Given`.
    method : str
        A value of the key `refinement.method`: ``guided``, ``crf`` or ``none``.
    threshold : float
        Foreground above it, in (0, 1).
    upsampling : {"bilinear", "nearest"}
    **parameters
        Other keys of the section `refinement`, such as ``guided_radius=0.05``.

    Returns
    -------
    bool array, shape (height, width)

    Raises
    ------
    ConfigError
        If a parameter is unknown or not allowed, or the score is none.
    ImageError
        If the image cannot be read.
    """
    given = as_array(score).astype(np.float32)
    if given.ndim != 2 or not given.size or not (given.min() >= 0 and given.max() <= 1):
        raise ConfigError(
            f"score of shape {given.shape}: must be (rows, columns) of numbers in [0, 1]"
        )
    if not 0 < threshold < 1:
        raise ConfigError(f"threshold = {threshold}: must lie between 0 and 1")
    try:
        settings = RefinementSettings(method=method, **parameters)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"refinement.{name}: {first['msg']}") from None
    rgb = open_given(image).rgb
    return refine_mask(given, rgb, upsampling=upsampling, threshold=threshold, refinement=settings)
