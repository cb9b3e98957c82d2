"""JPEG 2000 with other depths than 8 bits, whose samples Pillow would shift to 8 or 16 bits."""

from __future__ import annotations

from typing import BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from lightcluster.errors import ImageError
from lightcluster.images.depth import Samples, declared_white
from lightcluster.images.header import Header
from lightcluster.images.pillow import header_of

_START = b"\xff\x4f\xff\x51"
"""Start of the codestream: the SOC and SIZ markers."""

_SEARCHED = 2**20
"""Number of bytes in which the codestream must start; the boxes of a JP2 come first."""

_COLORS = {1: 1, 2: 1, 3: 3, 4: 3}


def read_jpeg2000(image: ImageFile.ImageFile, file: BinaryIO) -> Header:
    """Return the header of a JPEG 2000 that Pillow has opened."""
    header, precisions = header_of(image), _precisions(file)
    if all(bits == 8 for bits, _ in precisions):
        return header

    def decode() -> Samples | NDArray[np.uint8]:
        if len(set(precisions)) > 1 or precisions[0][1] or image.mode not in _MODES:
            layout = ", ".join(f"{'signed ' * sign}{bits}" for bits, sign in precisions)
            raise ImageError(f"JPEG 2000 of {layout} bits in mode {image.mode}: not supported")
        file.seek(0)
        stored = imagecodecs.jpeg2k_decode(file.read())
        if stored.ndim == 2:
            stored = stored[..., None]
        if stored.shape[:2] != image.size[::-1] or stored.shape[2] != len(precisions):
            raise ImageError("damaged or truncated image (JPEG 2000 unlike its header)")
        count = _COLORS[stored.shape[2]]
        colors = stored[..., 0] if count == 1 else stored[..., :3]
        alpha = stored[..., count] if stored.shape[2] > count else None
        return Samples(colors, declared_white(precisions[0][0]), alpha=alpha)

    return Header(header.format, image.height, image.width, decode)


_MODES = ("L", "LA", "I;16", "RGB", "RGBA")


def _precisions(file: BinaryIO) -> list[tuple[int, bool]]:
    """Return bit depth and signedness of each component; empty if no codestream is found."""
    file.seek(0)
    content = file.read(_SEARCHED)
    start = content.find(_START)
    if start < 0:
        return []
    count = int.from_bytes(content[start + 40 : start + 42], "big")
    sizes = content[start + 42 : start + 42 + 3 * count : 3]
    return [((size & 0x7F) + 1, bool(size & 0x80)) for size in sizes]
