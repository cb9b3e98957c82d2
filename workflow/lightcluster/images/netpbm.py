"""PGM and PPM of more than eight bits, which Pillow reduces to eight or scales."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from lightcluster.errors import ImageError
from lightcluster.images.depth import Samples
from lightcluster.images.header import Header
from lightcluster.images.pillow import header_of, pixels_of

_CONTAINER = 65_535


def read_netpbm(image: ImageFile.ImageFile, file: BinaryIO) -> Header:
    """Return the header of a PBM, PGM, PPM or PFM that Pillow has opened."""
    header, (decoder, _, offset, given) = header_of(image), image.tile[0]
    plain = decoder == "ppm_plain"
    largest = given[1] if isinstance(given, tuple) and decoder.startswith("ppm") else 255
    if given == "I;16B":
        largest = _CONTAINER
    if not isinstance(largest, int) or largest <= 255:
        return header
    channels = 3 if image.mode == "RGB" else 1

    def decode() -> Samples | NDArray[np.uint8]:
        if not plain:
            return _binary(file, offset, image.size, channels, largest)
        image.load()
        found = pixels_of(image)
        if isinstance(found, Samples):  # Pillow has scaled them to this
            return Samples(found.colors, _CONTAINER)
        return found

    return Header(header.format, image.height, image.width, decode)


def _binary(
    file: BinaryIO, offset: int, size: tuple[int, int], channels: int, largest: int
) -> Samples:
    """Read samples of two bytes, the higher one first."""
    (width, height), count = size, size[0] * size[1] * channels
    file.seek(offset)
    content = file.read(2 * count)
    if len(content) < 2 * count:
        raise ImageError("damaged or truncated image (PPM: it ends before its pixels do)")
    stored = np.frombuffer(content, ">u2").astype(np.uint16)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Samples(stored.reshape(shape), None if largest == _CONTAINER else largest)
