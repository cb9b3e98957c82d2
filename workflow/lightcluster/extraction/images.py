"""From an image file to the array a backbone reads.

Photographs come as eight bits per channel and everything else is brought there:

- The orientation, of EXIF or of TIFF, is applied; sizes are those a viewer shows.
- Transparency is composited on white, as on paper: hidden pixels often hold arbitrary colours.
  Pixels of GDAL's value of no data are white, too.
- Samples of more than eight bits are scaled as `dataset.depth` says, see `images.depth`.
- Of several frames or pages the first is taken. Colour profiles are not looked at.

Each function checks the header against its ``max_pixels`` before anything is decoded. Formats are
known by the content, see `images.recognition`.
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

from lightcluster.digests import unchanged
from lightcluster.errors import ConfigError, ImageError
from lightcluster.images.depth import Depth, Levels, Samples, choose_levels, span_of, to_rgb
from lightcluster.images.header import Header, turn
from lightcluster.images.recognition import read_header

_DRAFT_MARGIN = 2

COLORS_PER_SIDE = 2
"""Of a patch, down and across, that `patch_colors` keeps."""


class ImageRow(NamedTuple):
    """One image of a manifest; height and width are those of the upright image.

    `digest` is that of the file's content when it was indexed; `levels` are what its samples of
    more than eight bits are scaled by.
    """

    image_id: str
    path: Path
    height: int
    width: int
    digest: str = ""
    levels: Levels | None = None


class Picture(NamedTuple):
    """A decoded image, and what is to be known of how it was decoded.

    Attributes
    ----------
    rgb : uint8 array, shape (height, width, 3)
        Upright.
    levels : Levels or None
        The samples that became black and white; None of eight bits.
    span : int
        Of the 256 levels, over how many the middle 98 % of its samples spread.
    frames : int
        Frames or pages of the file.
    orientation : int
        1 to 8 as in EXIF: how the stored picture was turned.
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
    """Decode an image file into eight-bit RGB.

    Parameters
    ----------
    source : Path or bytes
        Where the file is, or its whole content.
    max_pixels : int
        Larger images are refused by their header.
    draft_size : (height, width), optional
        What the image will be resized to. JPEGs of at least four times that size are then
        decoded at a half, a quarter or an eighth, never below twice ``draft_size``: many times
        faster, and too fine a difference to matter after an antialiased resize.
    depth : Depth
        How samples of more than eight bits are scaled, see `images.depth.choose_levels`.

    Returns
    -------
    uint8 [H, W, 3]
        Upright.

    Raises
    ------
    ImageError
        If the file is missing, empty, no image, too large or damaged. The message does not
        name the file.
    """
    with _open_header(source, max_pixels) as header:
        return _decode(header, draft_size, depth)[0]


def examine_image(source: Path | bytes, max_pixels: int, depth: Depth) -> Picture:
    """Decode an image file, see :func:`open_image`, and tell how."""
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
            raise ImageError("damaged or truncated image (of another size than its header says)")
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise ImageError(
            f"damaged or truncated image ({' '.join(str(error).split()) or type(error).__name__})"
        ) from error
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
        Naming the file, if it cannot be read or has changed since it was indexed.
    """
    with unchanged(row.path, row.digest):
        return open_image(row.path, max_pixels, draft_size, row.levels or "auto")


def image_size(source: Path | bytes, max_pixels: int) -> tuple[int, int]:
    """Height and width of the upright image, from the header alone.

    Parameters
    ----------
    source : Path or bytes
        Where the file is, or its whole content.
    max_pixels : int

    Raises
    ------
    ImageError
        If the file is missing, empty, no image or has more than ``max_pixels`` pixels.
    """
    with _open_header(source, max_pixels) as header:
        return header.upright


def target_size(
    height: int, width: int, short_side: int, patch: int, max_tokens: int
) -> tuple[int, int]:
    """The size an image is resized to: its own aspect ratio in whole patches.

    The short side becomes ``short_side``, rounded to patches. The long side keeps the aspect
    ratio to the nearest patch; only where that exceeds ``max_tokens`` is it lowered, so that
    extreme panoramas are squashed along their long side rather than blurred along the short.

    Parameters
    ----------
    height, width : int
        Of the image, at least 1.
    short_side : int
        Pixels wanted along the shorter side.
    patch : int
        Side of a patch in pixels.
    max_tokens : int
        Bound on the number of patches; at least that of a square image.

    Returns
    -------
    height, width : int
        Multiples of ``patch``.

    Raises
    ------
    ConfigError
        If ``max_tokens`` is below the patches of a square image.
    """
    short = max(1, _round_ratio(short_side, patch))
    if max_tokens < short * short:
        raise ConfigError(
            f"features.max_tokens = {max_tokens}: too few for a short side of {short_side} pixels; "
            f"allowed are {short * short} or more"
        )
    long = _round_ratio(short * max(height, width), min(height, width))
    long = min(long, max_tokens // short)
    return (short * patch, long * patch) if height <= width else (long * patch, short * patch)


def resize_image(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an image [H, W, 3] to (height, width): bicubic, antialiased, by Pillow."""
    if rgb.shape[:2] == size:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BICUBIC))


def patch_colors(rgb: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the mean colours of the quarters of each patch.

    Parameters
    ----------
    rgb : uint8 array, shape (height, width, 3)
        Resized to whole patches.
    grid : (int, int)
        Rows and columns of patches.

    Returns
    -------
    uint8 array, shape (rows * columns, 4, 3)
        RGB; the quarters from left to right and from top to bottom.
    """
    side, (rows, columns) = COLORS_PER_SIDE, grid
    small = Image.fromarray(rgb).resize((side * columns, side * rows), Image.Resampling.BOX)
    blocks = np.asarray(small).reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(-1, side * side, 3)


def color_map(colors: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the small picture, uint8 [2 * rows, 2 * columns, 3], of `patch_colors`."""
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
        Height and width wanted.
    mean, std : sequence of float [3]
        On the scale 0 to 1.

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
        if not stat.S_ISREG(source.stat().st_mode):  # opening a FIFO waits, perhaps for ever
            raise ImageError("a folder or a special file, not an image")
        return source.open("rb")
    except FileNotFoundError as error:
        raise ImageError("the file does not exist") from error
    except OSError as error:
        raise ImageError(f"the file cannot be opened ({error.strerror})") from error


@contextmanager
def _open_header(source: Path | bytes, max_pixels: int) -> Iterator[Header]:
    """Give the header of an image whose size is allowed, while its file is open."""
    with _open_file(source) as file:
        try:
            yield read_header(file, max_pixels)
        except OSError as error:  # a sector that is damaged, a server that is gone
            raise ImageError(f"the file cannot be read ({error.strerror or error})") from error


def _round_ratio(numerator: int, denominator: int) -> int:
    """The nearest integer to a quotient of positive integers, halves upwards."""
    return (2 * numerator + denominator) // (2 * denominator)
