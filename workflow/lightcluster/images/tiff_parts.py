"""Strips and tiles of a TIFF that are whole pictures of another format, such as JPEG or LERC.

Their own headers say how large they are. One that is larger than its place would be decoded whole
before all but a corner of it is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from lightcluster.errors import ImageError

_SPARE = 16
"""Pixels by which a picture may exceed its place: coders fill up blocks."""

_LEAST = 8


def check_part(data: bytes, page: TiffPage) -> None:
    """Raise an ImageError if a strip or tile says it is larger than its place, or is cut off.

    Parameters
    ----------
    data : bytes
        As stored.
    page : TiffPage
    """
    name, size_of = _SIZES.get(int(page.compression), ("", None))
    if size_of is None:
        return
    if name == "JPEG" and b"\xff\xd9" not in data.rstrip(b"\0\xff")[-_SPARE:]:  # may be filled up
        raise ImageError("damaged or truncated image (TIFF with a JPEG that is cut off)")
    size = size_of(data)
    if size is None:
        return
    rows = page.tilelength if page.is_tiled else page.rowsperstrip
    columns = page.tilewidth if page.is_tiled else page.imagewidth
    if size[0] > max(rows, _LEAST) + _SPARE or size[1] > max(columns, _LEAST) + _SPARE:
        raise ImageError(f"TIFF with a {name} of {size[1]} × {size[0]} pixels in a smaller place")


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width that a JPEG declares; None if it has no header of a frame."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return (
                int.from_bytes(data[place + 5 : place + 7], "big"),
                int.from_bytes(data[place + 7 : place + 9], "big"),
            )
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width that a JPEG 2000 declares, its reference grid; None if none."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 16:
        return None
    height, width = data[start + 12 : start + 16], data[start + 8 : start + 12]
    return int.from_bytes(height, "big"), int.from_bytes(width, "big")


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width that a WebP declares; None if it has no header."""
    kind, start = data[12:16], data[20:30]
    if data[:4] != b"RIFF" or len(start) < 10:
        return None
    if kind == b"VP8X":
        low = int.from_bytes(start[4:7], "little"), int.from_bytes(start[7:10], "little")
        return low[1] + 1, low[0] + 1
    if kind == b"VP8L":
        packed = int.from_bytes(start[1:5], "little")
        return (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1
    width, height = int.from_bytes(start[6:8], "little"), int.from_bytes(start[8:10], "little")
    return height & 0x3FFF, width & 0x3FFF


def lerc_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width that a LERC declares; None of what is compressed once more."""
    if data[:6] != b"Lerc2 ":
        return None
    version = int.from_bytes(data[6:10], "little")
    start = 14 if version >= 3 else 10
    rows, columns = data[start : start + 4], data[start + 4 : start + 8]
    return int.from_bytes(rows, "little"), int.from_bytes(columns, "little")


_SIZES: dict[int, tuple[str, Callable[[bytes], tuple[int, int] | None]]] = {
    7: ("JPEG", jpeg_size),
    34712: ("JPEG 2000", jpeg2000_size),
    34887: ("LERC", lerc_size),
    34927: ("WebP", webp_size),
    50001: ("WebP", webp_size),
}
"""Name and size of a strip or tile, by the number of its compression."""


def read_lerc(data: bytes, decoded: NDArray[Any]) -> NDArray[Any]:
    """Return the samples of a strip or tile of LERC, pixels that it masks being no numbers.

    Parameters
    ----------
    data : bytes
        As stored.
    decoded : array, shape (1, height, width, samples)
        As tifffile makes it, which takes samples of any type for those of the page, and does not
        look at the mask.

    Raises
    ------
    ImageError
        If the samples are of another type or number, or whole ones are masked.
    """
    found: Any = imagecodecs.lerc_decode(data, masks=True)
    samples: NDArray[Any] = found[0]
    mask: NDArray[np.bool_] | None = found[1]
    if samples.dtype != decoded.dtype or samples.size != decoded.size:
        raise ImageError(
            f"TIFF with a LERC of {samples.size} samples of {samples.dtype}, where "
            f"{decoded.size} of {decoded.dtype} belong"
        )
    samples = samples.reshape(decoded.shape)
    if mask is None or mask.all():
        return samples
    if samples.dtype.kind != "f" or mask.size != decoded[..., 0].size:
        raise ImageError("TIFF with a LERC that masks pixels of whole numbers, or single samples")
    masked: NDArray[Any] = samples.copy()
    masked[~mask.reshape(decoded.shape[:3])] = np.nan
    return masked
