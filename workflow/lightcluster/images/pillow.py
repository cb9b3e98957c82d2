"""What Pillow decodes: eight bits a channel, and grey of sixteen and thirty-two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from lightcluster.errors import ImageError
from lightcluster.images.depth import Samples
from lightcluster.images.header import Header

_TO_DRAFT = ("JPEG", "MPO")


def header_of(image: ImageFile.ImageFile) -> Header:
    """Return the header of an image that Pillow decodes."""

    def decode() -> Samples | NDArray[np.uint8]:
        image.load()
        return pixels_of(image)

    return Header(
        image.format or "",
        image.height,
        image.width,
        decode,
        orientation=orientation_of(image),
        frames=lambda: count_frames(image),
        draft=(lambda size: image.draft(None, size)) if image.format in _TO_DRAFT else None,
    )


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, that is still to be applied; 1 if there is none."""
    try:  # not PNG's own method, which decodes the pixels and hides that they are damaged
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block does not make the picture unusable
        return 1
    return orientation if orientation in range(2, 9) else 1


def count_frames(image: Image.Image) -> int:
    """Return the number of frames or pages; 1 where they cannot be counted."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # the first one may be sound all the same
        return 1


def pixels_of(image: Image.Image) -> Samples | NDArray[np.uint8]:
    """Return the samples of a decoded image; RGB where a channel has eight bits.

    Raises
    ------
    ImageError
        If its mode is one that has no single meaning.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        return Samples(values.astype(values.dtype.newbyteorder("=")), None)
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK",
                          "YCbCr"):  # fmt: skip
        raise ImageError(f"an image of Pillow's mode {image.mode}, which is not read")
    if image.mode == "La":
        image = image.convert("LA")
    elif image.mode == "RGBa":
        image = image.convert("RGBA")
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        paper = Image.new("RGBA", colors.size, "white")
        image = Image.alpha_composite(paper, colors)
    return np.asarray(image.convert("RGB"))
