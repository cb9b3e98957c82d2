"""Images that Pillow decodes: 8 bits per channel, and greyscale of 16 and 32 bits."""

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
    """Return the EXIF orientation that must still be applied, 1 to 8; 1 if there is none."""
    try:  # not PngImageFile.getexif, which decodes the pixels and hides damage
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block does not make the picture unusable
        return 1
    return orientation if orientation in range(2, 9) else 1


def count_frames(image: Image.Image) -> int:
    """Return the number of frames or pages; 1 if they cannot be counted."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # the first frame may still be intact
        return 1


def pixels_of(image: Image.Image) -> Samples | NDArray[np.uint8]:
    """Return the samples of a decoded image.

    Returns
    -------
    Samples, or uint8 array, shape (height, width, 3)
        RGB, blended onto white, if the image has 8 bits per channel; `Samples` if it has more.

    Raises
    ------
    ImageError
        If the mode of the image is not supported.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        return Samples(values.astype(values.dtype.newbyteorder("=")), None)
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK",
                          "YCbCr"):  # fmt: skip
        raise ImageError(f"the image has Pillow's mode {image.mode}, which is not supported")
    if image.mode == "La":
        image = image.convert("LA")
    elif image.mode == "RGBa":
        image = image.convert("RGBA")
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        paper = Image.new("RGBA", colors.size, "white")
        image = Image.alpha_composite(paper, colors)
    return np.asarray(image.convert("RGB"))
