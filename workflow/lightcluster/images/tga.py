"""TGA, whose fourth channel is often not opacity, but zero throughout."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from lightcluster.images.depth import Samples
from lightcluster.images.header import Header
from lightcluster.images.pillow import header_of, pixels_of


def read_tga(image: ImageFile.ImageFile, file: BinaryIO) -> Header:
    """Return the header of a TGA that Pillow has opened."""
    file.seek(17)
    declared = file.read(1)[0] & 15 > 0

    def decode() -> Samples | NDArray[np.uint8]:
        image.load()
        unused = image.mode in ("LA", "RGBA") and not declared and image.getextrema()[-1] == (0, 0)
        return pixels_of(image.convert(image.mode[:-1]) if unused else image)

    header = header_of(image)
    return Header(header.format, header.height, header.width, decode)
