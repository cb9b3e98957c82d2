"""Strips and tiles of a TIFF that are complete images in another format, such as JPEG or LERC.

They are checked by the size in their own headers: a decoder would decode the whole of an oversized
one before everything outside the strip or tile is discarded.
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
"""Number of pixels by which an embedded image may be larger: encoders pad to whole blocks."""

_LEAST = 8


def check_part(data: bytes, page: TiffPage) -> None:
    """Check that the image embedded in a strip or tile is complete and not too large.

    Parameters
    ----------
    data : bytes
        The strip or tile as stored.
    page : TiffPage

    Raises
    ------
    ImageError
        If it is truncated, or its header declares more pixels than the strip or tile has.
    """
    name, size_of = _SIZES.get(int(page.compression), ("", None))
    if size_of is None:
        return
    if name == "JPEG" and b"\xff\xd9" not in data.rstrip(b"\0\xff")[-_SPARE:]:  # may be padded
        raise ImageError("damaged or truncated image (TIFF with a truncated JPEG)")
    size = size_of(data)
    if size is None:
        return
    rows = page.tilelength if page.is_tiled else page.rowsperstrip
    columns = page.tilewidth if page.is_tiled else page.imagewidth
    if size[0] > max(rows, _LEAST) + _SPARE or size[1] > max(columns, _LEAST) + _SPARE:
        raise ImageError(
            f"TIFF with a {name} of {size[1]} × {size[0]} pixels in a smaller strip or tile"
        )


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the height and width that a JPEG declares; None if it has no frame header."""
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
    """Return height and width of a JPEG 2000's reference grid; None if no codestream is found."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 16:
        return None
    height, width = data[start + 12 : start + 16], data[start + 8 : start + 12]
    return int.from_bytes(height, "big"), int.from_bytes(width, "big")


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Return the height and width that a WebP declares; None if it has no header."""
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
    """Return the height and width that a LERC declares; None if it is compressed again."""
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
"""Name of the embedded format and function that reads its size, by compression number."""


def read_lerc(data: bytes, decoded: NDArray[Any]) -> NDArray[Any]:
    """Return the samples of a LERC strip or tile, with NaN for the pixels that it masks.

    Parameters
    ----------
    data : bytes
        The strip or tile as stored.
    decoded : array, shape (1, height, width, samples)
        The result of tifffile, which ignores the mask and assumes that the samples have the data
        type of the page.

    Returns
    -------
    array, shape (1, height, width, samples)

    Raises
    ------
    ImageError
        If the number or the data type of the samples differs from `decoded`, or if integers or
        single samples are masked.
    """
    found: Any = imagecodecs.lerc_decode(data, masks=True)
    samples: NDArray[Any] = found[0]
    mask: NDArray[np.bool_] | None = found[1]
    if samples.dtype != decoded.dtype or samples.size != decoded.size:
        raise ImageError(
            f"TIFF with a LERC of {samples.size} samples of {samples.dtype} instead of "
            f"{decoded.size} of {decoded.dtype}"
        )
    samples = samples.reshape(decoded.shape)
    if mask is None or mask.all():
        return samples
    if samples.dtype.kind != "f" or mask.size != decoded[..., 0].size:
        raise ImageError("TIFF with a LERC that masks integers or single samples: not supported")
    masked: NDArray[Any] = samples.copy()
    masked[~mask.reshape(decoded.shape[:3])] = np.nan
    return masked
