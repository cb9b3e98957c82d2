"""Decoding and preparing images for a backbone.

All images are converted to 8-bit RGB:

- The orientation in EXIF or TIFF tags is applied; sizes are those after rotation.
- Transparency is blended onto white, because transparent pixels often have arbitrary colours.
  Pixels with the value of GDAL_NODATA become white, too.
- Samples of more than 8 bits are scaled according to `dataset.depth`, see `images.depth`.
- The first of several frames or pages is used. Colour profiles are ignored.

Each function compares the header with ``max_pixels`` before anything is decoded. Formats are
recognised by their content, see `images.recognition`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcluster.errors import ConfigError, ImageError, reason_of
from lightcluster.images.depth import Depth, Levels, Samples, choose_levels, span_of, to_rgb
from lightcluster.images.header import Header, turn
from lightcluster.images.recognition import read_header
from lightcluster.locations import Location, unchanged

_DRAFT_MARGIN = 2

COLORS_PER_SIDE = 2
"""`patch_colors` divides each side of a patch into this many parts."""


class ImageRow(NamedTuple):
    """One image of a manifest.

    Attributes
    ----------
    image_id : str
    path : Location
    height, width : int
        Size of the upright image.
    digest : str
        Digest of its content when it was indexed.
    levels : Levels or None
        Sample values that become black and white in images of more than 8 bits.
    """

    image_id: str
    path: Location
    height: int
    width: int
    digest: str = ""
    levels: Levels | None = None


class Picture(NamedTuple):
    """A decoded image, and how it was decoded.

    Attributes
    ----------
    rgb : uint8 array, shape (height, width, 3)
        Upright.
    levels : Levels or None
        The sample values that became black and white; None for images of 8 bits.
    span : int
        How many of the 256 values the middle 98 % of its samples span.
    frames : int
        Number of frames or pages in the file.
    orientation : int
        EXIF orientation of the stored image, 1 to 8, which has been applied.
    """

    rgb: NDArray[np.uint8]
    levels: Levels | None
    span: int
    frames: int
    orientation: int = 1


def open_image(
    source: Path | bytes,
    max_pixels: int,
    draft_size: tuple[int, int] | None = None,
    depth: Depth = "auto",
) -> NDArray[np.uint8]:
    """Decode an image file to 8-bit RGB.

    Parameters
    ----------
    source : Path or bytes
        Path of the file, or its content.
    max_pixels : int
        Images with more pixels are rejected by their header.
    draft_size : (height, width), optional
        Size to which the image will be resized. JPEGs that are at least four times as large are
        decoded at a half, a quarter or an eighth of their size, but at least at twice
        ``draft_size``. This is many times faster, and the difference is negligible after an
        antialiased resize.
    depth : Depth
        How samples of more than 8 bits are scaled, see `images.depth.choose_levels`.

    Returns
    -------
    uint8 [H, W, 3]
        The upright image.

    Raises
    ------
    ImageError
        If the file is missing, empty, not an image, too large or damaged. The message does not
        name the file.
    """
    with _open_header(source, max_pixels) as header:
        return _decode(header, draft_size, depth)[0]


def examine_image(source: Path | bytes, max_pixels: int, depth: Depth) -> Picture:
    """Decode an image file and report how; see :func:`open_image`."""
    with _open_header(source, max_pixels) as header:
        rgb, levels, hidden = _decode(header, None, depth)
        return Picture(rgb, levels, span_of(rgb, hidden), header.frames(), header.orientation)


def _decode(
    header: Header, draft_size: tuple[int, int] | None, depth: Depth
) -> tuple[NDArray[np.uint8], Levels | None, NDArray[np.bool_] | None]:
    """Return an upright image, its levels and its hidden pixels."""
    try:
        if draft_size is not None and header.draft is not None:
            height, width = (_DRAFT_MARGIN * side for side in draft_size)
            header.draft((height, width) if header.orientation >= 5 else (width, height))
        stored = header.decode()
        levels = hidden = None
        if isinstance(stored, Samples):
            hidden = stored.hidden
            levels = choose_levels(stored, depth)
            deep = stored.white is None or stored.white > 255
            stored = to_rgb(stored, levels)
            levels = levels if deep else None
        if draft_size is None and stored.shape[:2] != (header.height, header.width):
            raise ImageError("damaged or truncated image (its size differs from its header)")
    except ImageError:
        raise
    except Exception as error:  # damaged files make decoders raise all kinds of errors
        raise ImageError(f"damaged or truncated image ({reason_of(error)})") from error
    upright = turn(stored, header.orientation)
    if hidden is not None:
        hidden = turn(hidden, header.orientation)
    return upright, levels, hidden


def open_row(
    row: ImageRow, max_pixels: int, draft_size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Decode an image of a manifest; see :func:`open_image`.

    Raises
    ------
    ImageError
        If the file cannot be read or has changed since it was indexed; the message names it.
    """
    with unchanged(row.path, row.digest) as source:
        return open_image(source, max_pixels, draft_size, row.levels or "auto")


def image_size(source: Path | bytes, max_pixels: int) -> tuple[int, int]:
    """Height and width of the upright image, read from the header only.

    Parameters
    ----------
    source : Path or bytes
        Path of the file, or its content.
    max_pixels : int

    Returns
    -------
    height, width : int

    Raises
    ------
    ImageError
        If the file is missing, empty, not an image or has more than ``max_pixels`` pixels.
    """
    with _open_header(source, max_pixels) as header:
        return header.upright


def target_size(
    height: int, width: int, short_side: int, patch: int, max_tokens: int
) -> tuple[int, int]:
    """The size to which an image is resized: its aspect ratio, rounded to whole patches.

    The short side becomes ``short_side``, rounded to whole patches. The long side keeps the aspect
    ratio to the nearest patch, unless this exceeds ``max_tokens``: extreme panoramas are squashed
    along their long side, so that the short side keeps its resolution.

    Parameters
    ----------
    height, width : int
        Size of the image, at least 1.
    short_side : int
        Desired short side in pixels.
    patch : int
        Side of a patch in pixels.
    max_tokens : int
        Largest number of patches; at least that of a square image.

    Returns
    -------
    height, width : int
        Multiples of ``patch``.

    Raises
    ------
    ConfigError
        If ``max_tokens`` is smaller than the number of patches of a square image.
    """
    short = max(1, _round_ratio(short_side, patch))
    if max_tokens < short * short:
        raise ConfigError(
            f"features.max_tokens = {max_tokens}: too few for a short side of {short_side} pixels; "
            f"must be at least {short * short}"
        )
    long = _round_ratio(short * max(height, width), min(height, width))
    long = min(long, max_tokens // short)
    return (short * patch, long * patch) if height <= width else (long * patch, short * patch)


def resize_image(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an image [H, W, 3] to (height, width) by Pillow's antialiased bicubic filter."""
    if rgb.shape[:2] == size:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BICUBIC))


def patch_colors(rgb: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the mean colours of the quarters of each patch.

    Parameters
    ----------
    rgb : uint8 array, shape (height, width, 3)
        An image whose size is a multiple of the patch size.
    grid : (int, int)
        Rows and columns of patches.

    Returns
    -------
    uint8 array, shape (rows * columns, 4, 3)
        RGB; the quarters in row-major order.
    """
    side, (rows, columns) = COLORS_PER_SIDE, grid
    small = Image.fromarray(rgb).resize((side * columns, side * rows), Image.Resampling.BOX)
    blocks = np.asarray(small).reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(-1, side * side, 3)


def color_map(colors: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Arrange `patch_colors` as an image, uint8 [2 * rows, 2 * columns, 3]."""
    side, (rows, columns) = COLORS_PER_SIDE, grid
    blocks = colors.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(side * rows, side * columns, 3)


def prepare_image(
    rgb: NDArray[np.uint8], size: tuple[int, int], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Resize (see :func:`resize_image`) and normalise an image.

    Parameters
    ----------
    rgb : uint8 [H, W, 3]
    size : (int, int)
        Output height and width.
    mean, std : sequence of float [3]
        Of the RGB channels, in [0, 1].

    Returns
    -------
    float32 [3, height, width]
        ``(rgb / 255 - mean) / std``.
    """
    height, width = size
    rgb = resize_image(rgb, size)
    prepared = np.empty((3, height, width), dtype=np.float32)
    for channel in range(3):
        scale = np.float32(1 / (255 * std[channel]))
        shift = np.float32(-mean[channel] / std[channel])
        np.multiply(rgb[:, :, channel], scale, out=prepared[channel])
        prepared[channel] += shift
    return prepared


def _open_file(source: Path | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return BytesIO(source)
    try:
        if not stat.S_ISREG(source.stat().st_mode):  # opening a FIFO may block forever
            raise ImageError("not an image file but a folder or special file")
        return source.open("rb")
    except FileNotFoundError as error:
        raise ImageError("the file does not exist") from error
    except OSError as error:
        raise ImageError(f"the file cannot be opened ({error.strerror})") from error


@contextmanager
def _open_header(source: Path | bytes, max_pixels: int) -> Iterator[Header]:
    """Open an image file, check its size, and yield its header."""
    with _open_file(source) as file:
        try:
            yield read_header(file, max_pixels)
        except OSError as error:  # a bad sector or an unreachable server
            raise ImageError(f"the file cannot be read ({error.strerror or error})") from error


def _round_ratio(numerator: int, denominator: int) -> int:
    """The quotient of positive integers, rounded to the nearest integer, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
