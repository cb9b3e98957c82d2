"""Images as callers have them: paths, bytes, arrays, tensors and PIL images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lightcluster.errors import ImageError
from lightcluster.extraction.images import examine_image, open_image
from lightcluster.images.depth import Depth

if TYPE_CHECKING:
    from torch import Tensor

Given: TypeAlias = "str | os.PathLike[str] | bytes | NDArray[Any] | Image.Image | Tensor"
"""A path, the content of a file, a PIL image, or numbers: an array of shape (height, width),
(height, width, 1), (height, width, 3) or (height, width, 4), a tensor of shape (height, width) or
with 1, 3 or 4 channels in front. Numbers are uint8, or floating-point in [0, 1]; a fourth channel
is opacity."""

MAX_PIXELS = 2**31
"""Largest image that is accepted when no configuration sets a limit."""

_AS_PNG = ("1", "L", "LA", "P", "PA", "RGBA", "I;16")
"""Modes of Pillow that a PNG file holds as they are: opacity and depth are then treated as they
are in files."""


@dataclass(frozen=True)
class Opened:
    """A decoded image.

    Attributes
    ----------
    rgb : uint8 array, shape (height, width, 3)
        Upright.
    source : Path, bytes or None
        What it was decoded from.
    max_pixels : int
    depth : Depth
        How its samples of more than eight bits are scaled.
    """

    rgb: NDArray[np.uint8]
    source: Path | bytes | None
    max_pixels: int
    depth: Depth

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.rgb.shape[:2]
        return height, width

    def near(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the image as it is decoded to be resized to (height, width).

        The steps of the workflow decode JPEG files at a smaller scale for that; the same here, so
        that the same features come out.
        """
        height, width = self.size
        if self.source is None or height < 4 * size[0] or width < 4 * size[1]:
            return self.rgb
        return open_image(self.source, self.max_pixels, size, self.depth)


def open_given(image: Given, max_pixels: int = MAX_PIXELS, depth: Depth = "auto") -> Opened:
    """Decode an image, or take its numbers.

    Parameters
    ----------
    image : path, bytes, array, tensor or PIL image
        See `Given`.
    max_pixels : int
        Larger images are refused.
    depth : Depth
        See `images.depth.choose_levels`.

    Raises
    ------
    ImageError
        If it cannot be read, or is no image.
    """
    if isinstance(image, Image.Image):
        image = _from_pillow(image)
    if isinstance(image, str | os.PathLike | bytes):
        source = image if isinstance(image, bytes) else Path(image)
        try:
            picture = examine_image(source, max_pixels, depth)
        except ImageError as error:
            named = "the bytes given" if isinstance(source, bytes) else source
            raise ImageError(f"{named}: {error}") from None
        return Opened(picture.rgb, source, max_pixels, picture.levels or "auto")
    opened = Opened(_to_rgb(_to_array(image)), None, max_pixels, depth)
    height, width = opened.size
    if height * width > max_pixels:
        raise ImageError(
            f"an image of {height} x {width} pixels; at most {max_pixels:,} are allowed "
            "(dataset.max_pixels)"
        )
    return opened


def _from_pillow(image: Image.Image) -> NDArray[np.uint8] | bytes:
    """Return the pixels of a PIL image, or a PNG file of it where it has more than colours."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _AS_PNG:
        content = BytesIO()
        upright.save(content, "PNG", compress_level=1)
        return content.getvalue()
    if upright.mode in ("I", "F"):
        raise ImageError(
            f"a PIL image of mode {upright.mode!r} has no range that could be scaled to eight "
            "bits; give an array of uint8, or of floats in [0, 1]"
        )
    return np.asarray(upright.convert("RGB"))


def is_tensor(values: Any) -> bool:
    """Tell whether something is a tensor, without importing torch."""
    return type(values).__module__.partition(".")[0] == "torch"


def as_array(values: Any) -> NDArray[Any]:
    """Return numbers, or those of a tensor on any device, as an array; bfloat16 as float32."""
    if not is_tensor(values):
        return np.asarray(values)
    tensor = values.detach()
    numbers: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return numbers


def _to_array(image: Any) -> NDArray[Any]:
    """Return numbers with channels last."""
    if is_tensor(image):
        array = as_array(image)
        return np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    if not isinstance(image, np.ndarray):
        raise ImageError(
            f"a {type(image).__name__} is no image; give a path, bytes, an array, a tensor or a "
            "PIL image"
        )
    return image


def _to_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return numbers as uint8 [height, width, 3]; opacity is composited on white."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise ImageError(
            f"numbers of shape {array.shape}; an image is (height, width), or (height, width, 1, 3 "
            "or 4): channels are the last axis of an array, the first of a tensor"
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ImageError("floating-point pixels must lie in [0, 1]; divide by their white")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(
            f"pixels of type {array.dtype}; allowed are uint8, and floating-point in [0, 1]"
        )
    if array.shape[2] == 4:
        opacity = array[..., 3:].astype(np.float32) / 255
        array = np.rint(array[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))
