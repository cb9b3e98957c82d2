"""Reading the stored values of a label map, without scaling, palettes or lossy compression.

Single-channel PNG, TIFF and BMP files are supported: greyscale, palette or bilevel, with up to 16
bits (TIFF: 32). They are recognised by their content, not their name. The stored values are
returned: Pillow scales greyscale of 2 and 4 bits to 8, which is undone here. An EXIF orientation is
applied, as for images, so that a label map matches the image as viewers show it.

These are rejected with a message: lossy compression such as JPEG (it changes ids), colours (nothing
says which class a colour means), transparency, fractions, several frames, and TIFF whose 0 is white
(programs disagree about its values).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, ImageFile, TiffImagePlugin

from lightcluster.errors import ImageError
from lightcluster.images.png import png_orientation, read_indices
from lightcluster.images.recognition import NoImageError, open_plain

_FORMATS = ("PNG", "TIFF", "BMP")

_ADVICE = "save it as a single-channel PNG, greyscale or palette, that holds the class ids"

_STRETCHED = {"L;2": 85, "L;4": 17}
"""Factor by which Pillow multiplies the values of a raw mode."""

_LOSSLESS_TIFF = frozenset(
    {"raw", "tiff_ccitt", "group3", "group4", "tiff_lzw", "tiff_adobe_deflate", "packbits",
     "tiff_deflate", "lzma", "zstd"}
)  # fmt: skip

_PREDICTED = (5, 8, 32946, 34925, 50000)
"""TIFF compressions for which libtiff applies a predictor: LZW, Deflate, LZMA, Zstandard."""

_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda ids: ids[:, ::-1],
    3: lambda ids: ids[::-1, ::-1],
    4: lambda ids: ids[::-1],
    5: lambda ids: ids.T,
    6: lambda ids: ids[::-1].T,
    7: lambda ids: ids[::-1, ::-1].T,
    8: lambda ids: ids[:, ::-1].T,
}
"""Functions that make an array upright, by EXIF orientation."""


def read_values(source: Path | bytes, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Read the stored values of a label map.

    Parameters
    ----------
    source : Path or bytes
        Path of the file, or its content.
    size : (int, int)
        Height and width of its image; label maps of another size are rejected before decoding.

    Returns
    -------
    uint16 array, shape (height, width)

    Raises
    ------
    ImageError
        If it is missing, damaged, of another size, or not a single channel of integers from 0 to
        65,535. The message does not name the file.
    """
    try:
        with open_plain(source) as image:
            _check_lossless(image)
            if sorted(image.size) != sorted(size):  # the orientation is read later
                raise _other_size(image.size[::-1], size)
            _check_channels(image)
            ids = _stored(image)
        if ids.shape != tuple(size):
            raise _other_size(ids.shape, size)
    except NoImageError as error:
        raise ImageError(f"label cannot be read ({error}); {_ADVICE}") from None
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("the label map does not exist") from None
    except OSError as error:
        raise ImageError(f"label cannot be read ({error.strerror or error})") from None
    except Exception as error:  # damaged files make decoders raise all kinds of errors
        raise ImageError(f"label cannot be read ({error})") from None
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) > 65_535):
        raise ImageError(f"label holds ids from {ids.min()} to {ids.max()}; allowed: 0 to 65535")
    return np.ascontiguousarray(ids, np.uint16)


def _stored(image: ImageFile.ImageFile) -> NDArray[Any]:
    """Return the values of an image that passed `_check_channels`, upright."""
    if image.format == "PNG":
        assert image.fp is not None
        ids, turn = read_indices(image.fp), _TURNS.get(png_orientation(image, image.fp))
        return ids if turn is None else turn(ids)
    stretched = _STRETCHED.get(_raw_mode(image)[:3], 1)
    image.load()
    return np.asarray(image) // stretched


def _other_size(found: tuple[int, ...], wanted: tuple[int, int]) -> ImageError:
    turned = "; is one of them rotated by an orientation tag?" * (found == wanted[::-1])
    return ImageError(
        f"label is {found[0]} x {found[1]}, its image {wanted[0]} x {wanted[1]} (height x width)"
        f"{turned}"
    )


def _check_lossless(image: ImageFile.ImageFile) -> None:
    """Raise an ImageError if the compression may change ids, or if there are several frames."""
    if image.format not in _FORMATS:
        raise ImageError(
            f"label is {image.format} data, whatever its suffix; label maps must be PNG, TIFF or "
            f"BMP: {_ADVICE}"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"label has {frames} frames or pages; a label map must have one")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        compression = str(image.info.get("compression", "raw"))
        if compression not in _LOSSLESS_TIFF:
            raise ImageError(
                f"label is a TIFF compressed with {compression.removeprefix('tiff_')}, which may "
                f"change ids; {_ADVICE}"
            )


def _check_channels(image: ImageFile.ImageFile) -> None:
    """Raise an ImageError unless Pillow keeps the values of a single channel of integers."""
    if image.mode not in {"1", "L", "P", "I;16", "I;16B", "I"}:
        colours = "colours are not converted to classes, " * (image.mode[:3] in ("RGB", "YCb"))
        raise ImageError(
            f"label has mode {image.mode}; it must have a single channel of integers: "
            f"{colours}{_ADVICE}"
        )
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tags(image.tag_v2)
    if image.format == "BMP":
        _check_bitmap(image)


def _check_tags(tags: Any) -> None:
    """Raise an ImageError unless Pillow returns the stored values of a TIFF."""
    bits = tags.get(ExifTags.Base.BitsPerSample, (1,))
    photometric = tags.get(ExifTags.Base.PhotometricInterpretation, 0)
    signed = tags.get(ExifTags.Base.SampleFormat, (1,))[0] == 2
    if len(bits) != 1 or tags.get(ExifTags.Base.SamplesPerPixel, 1) != 1:
        raise ImageError(f"label is a TIFF with {len(bits)} channels; it must have a single one")
    if tags.get(ExifTags.Base.Predictor, 1) != 1 and (
        tags.get(ExifTags.Base.Compression, 1) not in _PREDICTED
    ):
        raise ImageError(
            "label is a TIFF with a predictor but a compression that does not use one, and "
            f"programs disagree about its values; {_ADVICE}"
        )
    if photometric == 0:
        raise ImageError(
            "label is a TIFF whose 0 is white (MinIsWhite), and programs disagree about its "
            f"values; {_ADVICE}"
        )
    if tags.get(ExifTags.Base.Orientation, 1) != 1:
        raise ImageError(f"label is a TIFF with an orientation tag; {_ADVICE}")
    if photometric not in (1, 3) or ((signed or bits[0] > 16) and not _is_plain(tags, bits[0])):
        raise ImageError(
            f"label is a TIFF with {'signed ' * signed}{bits[0]} bits and photometric "
            f"interpretation {photometric}, which is not supported for label maps; {_ADVICE}"
        )


def _is_plain(tags: Any, bits: int) -> bool:
    """Return whether Pillow returns the stored values of signed or 32-bit integers."""
    return bits > 8 and tags.prefix[:2] == b"II"


def _check_bitmap(image: ImageFile.ImageFile) -> None:
    """Raise an ImageError unless Pillow returns the stored indices of a BMP."""
    assert image.fp is not None
    place = image.fp.tell()
    image.fp.seek(28)
    bits = int.from_bytes(image.fp.read(2), "little")
    image.fp.seek(place)
    if _raw_mode(image) not in {1: ("1", "P;1"), 4: ("P;4",), 8: ("L", "P")}.get(bits, ()):
        raise ImageError(f"label is a BMP with {bits} bits and an unusual palette; {_ADVICE}")


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Return the raw mode from which Pillow unpacks the pixels; empty if there are none."""
    tiles: list[Any] = getattr(image, "tile", [])
    args = tiles[0][3] if tiles else ""
    return str(args if isinstance(args, str) else args[0])


def remap(label: NDArray[np.uint16], values: Mapping[int, int]) -> NDArray[np.uint16]:
    """Replace the values of a label map by class ids.

    Parameters
    ----------
    label : uint16 array
    values : mapping of int to int
        Class id of each value.

    Returns
    -------
    uint16 array, same shape

    Raises
    ------
    ImageError
        If the label holds a value that is not in `values`.
    """
    return look_up(label, values, _spans(sorted(values)))


def _spans(numbers: list[int]) -> str:
    """Format ascending numbers as ranges, such as ``0 to 3, 5``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join(" to ".join(map(str, span)) for span in spans)


def look_up(
    label: NDArray[np.uint16], replacements: Mapping[int, int], allowed: str
) -> NDArray[np.uint16]:
    """Return the replacement of each value.

    Parameters
    ----------
    label : uint16 array
    replacements : mapping of int to int
    allowed : str
        The values that have a replacement, for the message.

    Returns
    -------
    uint16 array, same shape

    Raises
    ------
    ImageError
        If some values have no replacement; the message names them.
    """
    table, known = np.zeros(65_536, np.uint16), np.zeros(65_536, bool)
    keys = list(replacements)
    table[keys], known[keys] = list(replacements.values()), True
    unknown = np.flatnonzero(~known & (np.bincount(label.ravel(), minlength=65_536) > 0))
    if unknown.size:
        raise ImageError(
            f"label holds the ids {', '.join(map(str, unknown[:5]))}{' …' * (unknown.size > 5)}; "
            f"allowed: {allowed}"
        )
    return table[label]
