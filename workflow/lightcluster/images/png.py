"""PNG: what Pillow leaves out of it.

Pillow reduces colours of sixteen bits to eight, and compares the transparent grey of images of
fewer than eight bits with samples that it has scaled before.
"""

from __future__ import annotations

from typing import BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from lightcluster.images.depth import Samples
from lightcluster.images.header import Header
from lightcluster.images.pillow import count_frames, orientation_of, pixels_of

_GREY, _RGB, _ALPHA = 0, 2, 4


def read_png(image: ImageFile.ImageFile, file: BinaryIO) -> Header:
    """Return the header of a PNG that Pillow has opened."""
    file.seek(24)
    depth, kind = file.read(2)
    key = image.info.get("transparency")

    def decode() -> Samples | NDArray[np.uint8]:
        if depth == 16:
            file.seek(0)
            return _deep(imagecodecs.png_decode(file.read()), kind)
        image.load()
        if kind == _GREY and depth < 8 and isinstance(key, int):
            grey = np.asarray(image.convert("L"))
            return Samples(grey, 255, hidden=grey == key * 255 // (2**depth - 1))
        return pixels_of(image)

    return Header(
        "PNG",
        image.height,
        image.width,
        decode,
        orientation=_orientation(image, file),
        frames=lambda: count_frames(image),
    )


def _deep(stored: NDArray[np.uint16], kind: int) -> Samples:
    """Return samples of sixteen bits, [height, width] or [height, width, channels]."""
    if stored.ndim == 2:
        return Samples(stored, None)
    count = 1 if kind in (_GREY, _ALPHA) else 3
    colors = stored[..., 0] if count == 1 else stored[..., :3]
    if stored.shape[-1] == count:
        return Samples(colors, None)
    alpha = stored[..., count]
    if kind in (_GREY, _RGB):  # one colour of the file is transparent
        return Samples(colors, None, hidden=alpha == 0)
    return Samples(colors, None, alpha=alpha)


def _orientation(image: ImageFile.ImageFile, file: BinaryIO) -> int:
    """Return the orientation, which may stand after the pixels: they are stepped over."""
    if "exif" not in image.info and (content := _chunk(file, b"eXIf")) is not None:
        image.info["exif"] = b"Exif\0\0" + content
    return orientation_of(image)


def _chunk(file: BinaryIO, kind: bytes) -> bytes | None:
    """Return the content of the first chunk of a kind; None if there is none."""
    place, here = 8, file.tell()
    try:
        while True:
            file.seek(place)
            start = file.read(8)
            length = int.from_bytes(start[:4], "big")
            if len(start) < 8 or start[4:] == b"IEND":
                return None
            if start[4:] == kind:
                return file.read(min(length, 2**20))
            place += length + 12
    finally:
        file.seek(here)
