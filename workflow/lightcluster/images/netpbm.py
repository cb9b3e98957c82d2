"""Netpbm files that Pillow does not decode losslessly: deep PGM and PPM, PAM and colour PFM.

Pillow reduces PGM and PPM of more than 8 bits to 8, or scales them, and reads neither PAM nor PFM
with three channels.
"""

from __future__ import annotations

import math
import re
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from lightcluster.errors import ImageError
from lightcluster.images.depth import Samples
from lightcluster.images.header import Header
from lightcluster.images.pillow import header_of, pixels_of

_CONTAINER = 65_535

_LONGEST_HEADER = 2**16

_TUPLES = {"BLACKANDWHITE": 1, "GRAYSCALE": 1, "RGB": 3}
"""Number of colour channels by the tuple type of a PAM, without the suffix ``_ALPHA``."""


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
        if isinstance(found, Samples):  # Pillow has scaled them to 16 bits
            return Samples(found.colors, _CONTAINER)
        return found

    return Header(header.format, image.height, image.width, decode)


def _binary(
    file: BinaryIO, offset: int, size: tuple[int, int], channels: int, largest: int
) -> Samples:
    """Read big-endian 16-bit samples."""
    stored = _stored(file, offset, (size[1], size[0], channels), ">u2")
    return Samples(
        stored[..., 0] if channels == 1 else stored, None if largest == _CONTAINER else largest
    )


def read_pam(file: BinaryIO) -> Header:
    """Return the header of a PAM.

    Raises
    ------
    ImageError
        If it is damaged, or its tuple type is not supported.
    """
    file.seek(0)
    start = file.read(_LONGEST_HEADER)
    text, found, _ = start.partition(b"\nENDHDR\n")
    fields: dict[str, str] = {}
    for line in text.decode("ascii", "replace").splitlines()[1:]:
        key, _, value = line.partition("#" if line.startswith("#") else " ")
        if key:
            fields[key] = value.strip()
    numbers = [fields.get(key, "") for key in ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL")]
    if not found or not all(number.isdecimal() and len(number) < 10 for number in numbers):
        raise ImageError("damaged image (PAM with an incomplete header)")
    width, height, depth, largest = map(int, numbers)
    kind = fields.get("TUPLTYPE", {1: "GRAYSCALE", 3: "RGB"}.get(depth, ""))
    colors, has_alpha = _TUPLES.get(kind.removesuffix("_ALPHA"), 0), kind.endswith("_ALPHA")
    if depth != colors + has_alpha or not 0 < largest <= _CONTAINER:
        raise ImageError(
            f"PAM with {depth} samples per pixel, maximum {largest} and tuple type {kind[:40]!r}: "
            "not supported"
        )

    def decode() -> Samples:
        offset, dtype = len(text) + len(found), ">u2" if largest > 255 else "u1"
        stored = _stored(file, offset, (height, width, depth), dtype)
        return Samples(
            stored[..., 0] if colors == 1 else stored[..., :3],
            None if largest == _CONTAINER else largest,
            alpha=stored[..., colors] if has_alpha else None,
        )

    return Header("PAM", height, width, decode)


def read_color_pfm(file: BinaryIO) -> Header:
    """Return the header of a PFM with three channels.

    Raises
    ------
    ImageError
        If it is damaged.
    """
    file.seek(0)
    match = re.match(
        rb"PF\s+(\d{1,9})\s+(\d{1,9})\s+([-+.\deE]{1,20})\s", file.read(_LONGEST_HEADER)
    )
    if match is None:
        raise ImageError("damaged image (PFM with an incomplete header)")
    width, height = int(match[1]), int(match[2])
    order = "<" if match[3].startswith(b"-") else ">"

    def decode() -> Samples:
        stored = _stored(file, match.end(), (height, width, 3), f"{order}f4")
        return Samples(stored[::-1], None)  # the bottom row is stored first

    return Header("PFM", height, width, decode)


def _stored(file: BinaryIO, offset: int, shape: tuple[int, ...], dtype: str) -> NDArray[np.generic]:
    file.seek(offset)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    content = file.read(size)
    if len(content) < size:
        raise ImageError("damaged or truncated image (the file ends within the pixel data)")
    stored = np.frombuffer(content, dtype).reshape(shape)
    return stored.astype(stored.dtype.newbyteorder("="))
