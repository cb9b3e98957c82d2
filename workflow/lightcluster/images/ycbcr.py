"""Uncompressed YCbCr in TIFF, where several pixels share one Cb and one Cr sample.

Pillow ignores the subsampling, and tifffile does not decode such data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import TiffFile, TiffPage

from lightcluster.errors import ImageError

_FULL = (0, 255, 128, 255, 128, 255)
"""Default of ReferenceBlackWhite: zero and full value of luma, Cb and Cr."""

_LUMA = (0.299, 0.587, 0.114)
"""Supported luma coefficients of red, green and blue (ITU-R BT.601)."""


def unreadable_ycbcr(page: TiffPage) -> str:
    """Return what is unsupported in an uncompressed YCbCr page; empty if nothing is.

    Parameters
    ----------
    page : TiffPage

    Returns
    -------
    str
        To follow "TIFF" in a message.
    """
    across, down = subsampling(page)
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        return f"in YCbCr with chroma subsampling {across} × {down}; 1, 2 and 4 are supported"
    if page.fillorder != 1:
        return f"in YCbCr with FillOrder {page.fillorder}, which is not supported"
    luma = _numbers(page, 529, _LUMA)
    if len(luma) != 3 or not np.allclose(luma, _LUMA, atol=0.002):
        return f"in YCbCr with luma coefficients other than {_LUMA}"
    range_ = _numbers(page, 532, _FULL)
    if len(range_) != 6 or not all(a < b for a, b in zip(range_[::2], range_[1::2], strict=True)):
        return "in YCbCr with an invalid range of samples (ReferenceBlackWhite)"
    return ""


def subsampling(page: TiffPage) -> tuple[int, int]:
    """Return how many pixels share one chroma sample across and down; the default of TIFF is 2, 2.

    Parameters
    ----------
    page : TiffPage

    Returns
    -------
    across, down : int
        Both 0 if the tag is invalid.
    """
    stated = page.tags.valueof(530, (2, 2))
    across, down = stated if isinstance(stated, tuple) and len(stated) == 2 else (0, 0)
    return int(across), int(down)


def read_plain_ycbcr(tiff: TiffFile, page: TiffPage) -> NDArray[np.uint8]:
    """Decode a page for which `unreadable_ycbcr` finds no fault.

    Parameters
    ----------
    tiff : TiffFile
    page : TiffPage

    Returns
    -------
    uint8 array, shape (height, width, 3)
        RGB.

    Raises
    ------
    ImageError
        If strips or tiles are missing, too short, or more than a quarter too long.
    """
    height, width = int(page.imagelength), int(page.imagewidth)
    tiled = page.is_tiled
    rows = int(page.tilelength) if tiled else min(int(page.rowsperstrip), height)
    columns = int(page.tilewidth) if tiled else width
    stored = np.zeros((height, width, 3), np.uint8)
    places = [(top, left) for top in range(0, height, rows) for left in range(0, width, columns)]
    segments: Any = tiff.filehandle.read_segments(
        page.dataoffsets[: len(places)], page.databytecounts[: len(places)], length=len(places),
        flat=True,
    )  # fmt: skip
    for data, index in segments:  # in the order of the file
        top, left = places[index]
        if not isinstance(data, bytes):
            raise ImageError("TIFF with strips or tiles that are missing")
        tall = rows if tiled else min(rows, height - top)
        part = _spread(data, (tall, columns), subsampling(page))
        part = part[: height - top, : width - left]
        stored[top : top + part.shape[0], left : left + part.shape[1]] = part
    return _to_rgb(stored, _numbers(page, 532, _FULL))


def _spread(data: bytes, size: tuple[int, int], subsampled: tuple[int, int]) -> NDArray[np.uint8]:
    """Upsample the chroma of a strip or tile, which is stored block by block, to every pixel."""
    across, down = subsampled
    blocks_down, blocks_across = -(-size[0] // down), -(-size[1] // across)
    length = across * down + 2
    needed = blocks_down * blocks_across * length
    if len(data) < needed:
        raise ImageError("damaged or truncated image (TIFF whose strips or tiles are too short)")
    if len(data) > needed + needed // 4:
        raise ImageError(
            f"TIFF in YCbCr with more samples than chroma subsampling {across} × {down} has"
        )
    stored = np.frombuffer(data, np.uint8, needed)
    blocks = stored.reshape(blocks_down, blocks_across, length)
    pixels = np.empty((blocks_down, down, blocks_across, across, 3), np.uint8)
    luma = blocks[..., :-2].reshape(blocks_down, blocks_across, down, across)
    pixels[..., 0] = luma.transpose(0, 2, 1, 3)
    pixels[..., 1:] = blocks[:, None, :, None, -2:]
    return pixels.reshape(blocks_down * down, blocks_across * across, 3)[: size[0], : size[1]]


def _to_rgb(ycbcr: NDArray[np.uint8], limits: tuple[float, ...]) -> NDArray[np.uint8]:
    if limits != _FULL:
        none, full = np.array(limits[::2]), np.array(limits[1::2])
        scaled = (ycbcr - none) * (np.array([255, 127, 127]) / (full - none)) + [0, 128, 128]
        ycbcr = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB"))


def _numbers(page: TiffPage, tag: int, default: tuple[float, ...]) -> tuple[float, ...]:
    """Return the numbers of a tag, integers or fractions; empty if they are not numbers."""
    stated: Any = page.tags.valueof(tag)
    if stated is None:
        return default
    values = np.ravel(np.asarray(stated, dtype=object))
    if not all(isinstance(value, (int, float)) for value in values):
        return ()
    if page.tags[tag].dtype in (5, 10) and len(values) % 2 == 0:
        if not all(values[1::2]):
            return ()
        values = values[::2] / values[1::2]
    return tuple(float(value) for value in values)
