"""BMP and TGA, whose fourth channel is ignored if it is zero everywhere, so not an alpha channel.

The 16th bit of a 16-bit TGA is ignored as well, because programs disagree about its meaning.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from lightcluster.images.depth import Samples
from lightcluster.images.header import Header
from lightcluster.images.pillow import header_of, pixels_of


def read_bitmap(image: ImageFile.ImageFile, file: BinaryIO) -> Header:
    """Return the header of a BMP or TGA that Pillow has opened."""
    file.seek(16)
    one_bit = image.format == "TGA" and image.mode == "RGBA" and file.read(1) == b"\x10"

    def decode() -> Samples | NDArray[np.uint8]:
        image.load()
        if image.mode in ("LA", "RGBA") and (one_bit or image.getextrema()[-1] == (0, 0)):
            return pixels_of(image.convert(image.mode[:-1]))
        return pixels_of(image)

    header = header_of(image)
    return Header(header.format, header.height, header.width, decode)
