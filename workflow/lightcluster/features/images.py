"""From an image file to the array a backbone reads.

Photographs come as Pillow's eight bits per channel and everything else is brought there:

- EXIF orientation is applied; sizes are those a viewer shows.
- Transparency is composited on white, as on paper: hidden pixels often hold arbitrary colours.
- Sixteen-bit grey is divided by 257. Formats without a fixed white (32-bit integers and floats)
  are scaled by the smallest of 1 (floats only), 255 and 65535 that holds all values, and
  stretched from minimum to maximum if none does.
- Of several frames or pages the first is taken.

Each function checks the header against its ``max_pixels`` before anything is decoded. Formats are
known by the first bytes, see `images.recognition`.
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
from PIL import ExifTags, Image

from lightcluster.errors import ConfigError, ImageError
from lightcluster.images.recognition import DECODERS, open_header

FORMATS = tuple(DECODERS)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DRAFT_MARGIN = 2

COLORS_PER_SIDE = 2
"""Of a patch, down and across, that `patch_colors` keeps."""


class ImageRow(NamedTuple):
    """One image of a manifest; height and width are those of the upright image."""

    image_id: str
    path: Path
    height: int
    width: int


def open_image(
    source: Path | bytes, max_pixels: int, draft_size: tuple[int, int] | None = None
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
    with _open_header(source, max_pixels) as image:
        orientation = _orientation(image)
        try:
            if draft_size is not None:
                height, width = (_DRAFT_MARGIN * side for side in draft_size)
                image.draft(None, (height, width) if orientation >= 5 else (width, height))
            image.load()
            rgb = _to_rgb(image)
        except ImageError:
            raise
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            raise ImageError(f"damaged or truncated image ({error})") from error
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    return np.asarray(rgb)


def open_row(
    row: ImageRow, max_pixels: int, draft_size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Decode an image of a manifest; see :func:`open_image`.

    Raises
    ------
    ImageError
        Naming the file, if it cannot be read or has changed since it was indexed.
    """
    try:
        found = image_size(row.path, max_pixels)
        if found != (row.height, row.width):
            raise ImageError(
                f"is {found[0]} × {found[1]} pixels (height × width) but was {row.height} × "
                f"{row.width} when the dataset was indexed; index it again "
                "(snakemake --forcerun index_dataset)"
            )
        return open_image(row.path, max_pixels, draft_size)
    except ImageError as error:
        raise ImageError(f"{row.path}: {error}") from error


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
    with _open_header(source, max_pixels) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


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
def _open_header(source: Path | bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Give an image whose header is read, and whose size is allowed."""
    with _open_file(source) as file:
        if not file.read(1):
            raise ImageError("the file is empty")
        image = open_header(file)
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(f"{width} × {height} pixels; at most {max_pixels} are allowed")
        yield image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that is still to be applied; 1 if there is none."""
    if image.format == "TIFF":  # Pillow applies it itself, to the size as well
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block does not make the picture unusable
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Eight-bit RGB of a decoded image of any mode."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(_scale(np.asarray(image), 65535)).convert("RGB")
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        return Image.fromarray(_scale(values, _white(values))).convert("RGB")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        paper = Image.new("RGBA", colours.size, "white")
        return Image.alpha_composite(paper, colours).convert("RGB")
    return image.convert("RGB")


def _white(values: NDArray[np.generic]) -> float | None:
    """The value that stands for white, or None where no convention fits."""
    smallest, largest = float(values.min()), float(values.max())
    if not np.isfinite([smallest, largest]).all():
        raise ImageError("pixels that are not finite numbers")
    levels = (1, 255, 65535) if values.dtype.kind == "f" else (255, 65535)
    return next((level for level in levels if smallest >= 0 and largest <= level), None)


def _scale(values: NDArray[np.generic], white: float | None) -> NDArray[np.uint8]:
    """Linear scaling of [0, white], or else of [minimum, maximum], to 0 … 255."""
    scaled = values.astype(np.float64)
    if white is None:
        scaled -= scaled.min()
        white = float(scaled.max()) or 1.0
    return np.rint(scaled * 255 / white).astype(np.uint8)


def _round_ratio(numerator: int, denominator: int) -> int:
    """The nearest integer to a quotient of positive integers, halves upwards."""
    return (2 * numerator + denominator) // (2 * denominator)
