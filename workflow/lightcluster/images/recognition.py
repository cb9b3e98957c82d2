"""Recognition of a file's format from its content alone, and the choice of its decoder.

Pillow's ``Image.open`` is not used: it tries every format that is registered in the process, some
of which run external programs, and its limit on image size applies to the whole process. Here,
each file is passed to exactly one decoder, and the caller sets the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from lightcluster.errors import ImageError
from lightcluster.images.bitmap import read_bitmap
from lightcluster.images.header import Header
from lightcluster.images.jpeg2000 import read_jpeg2000
from lightcluster.images.netpbm import read_color_pfm, read_netpbm, read_pam
from lightcluster.images.pillow import header_of
from lightcluster.images.png import open_png, read_png
from lightcluster.paths import open_source

PREFIX = 64
"""Number of bytes at the start of a file that are enough to recognise its format."""

FORMATS = (
    "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "PAM", "PFM", "TIFF", "WEBP", "AVIF", "HEIF",
    "TGA",
)  # fmt: skip
"""Supported formats, as listed in messages; HEIF only if pillow-heif is installed."""

_MAGIC: dict[bytes, str] = {
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\xff\xd8\xff": "JPEG",
    b"\xff\x4f\xff\x51": "JPEG2000",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_DIB = (12, 40, 52, 56, 64, 108, 124)
"""Possible header lengths of a DIB, a BMP without its file header of 14 bytes."""

_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

_BY_PILLOW: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "BMP": BmpImagePlugin.BmpImageFile,
    "DIB": BmpImagePlugin.DibImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "JPEG": JpegImagePlugin.jpeg_factory,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "TGA": TgaImagePlugin.TgaImageFile,
    "PNG": open_png,
    "PPM": PpmImagePlugin.PpmImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
}

_OWN: dict[str, Callable[[BinaryIO], Header]] = {"PAM": read_pam, "PFM": read_color_pfm}


class NoImageError(ImageError):
    """A file that is not an image in a supported format, or has a damaged header."""


def format_of(prefix: bytes) -> str | None:
    """Return the format of a file; None if it is not supported.

    Parameters
    ----------
    prefix : bytes
        The first `PREFIX` bytes, or the whole of a shorter file.

    Returns
    -------
    str or None
    """
    for magic, name in _MAGIC.items():
        if prefix.startswith(magic):
            return name
    if prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP":
        return "WEBP"
    if prefix[4:8] == b"ftyp":
        length = int.from_bytes(prefix[:4], "big")
        brands = {prefix[8:12], *(prefix[at : at + 4] for at in range(16, min(length, 64), 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIF" if brands & _HEIF else None
    if prefix[:1] == b"P" and prefix[1:2] in b"1234567fF" and prefix[2:3].isspace():
        return {b"7": "PAM", b"F": "PFM"}.get(prefix[1:2], "PPM")
    if int.from_bytes(prefix[:4], "little") in _DIB:
        return "DIB"
    return "TGA" if _is_tga(prefix) else None


def _is_tga(prefix: bytes) -> bool:
    """Return whether the first bytes make sense as a header of TGA, which has no magic number."""
    if len(prefix) < 18:
        return False
    palette, kind, entry, depth = prefix[1], prefix[2], prefix[7], prefix[16]
    width = int.from_bytes(prefix[12:14], "little")
    height = int.from_bytes(prefix[14:16], "little")
    depths = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}.get(kind & 7, ())
    return (
        kind in (1, 2, 3, 9, 10, 11)
        and palette == (kind & 7 == 1)
        and depth in depths
        and (entry in (16, 24, 32) if palette else entry in (0, 16, 24, 32))
        and width > 0
        and height > 0
        and prefix[17] & 0xC0 == 0
    )


def read_header(file: BinaryIO, max_pixels: int) -> Header:
    """Read the header of an image.

    Parameters
    ----------
    file : binary file
    max_pixels : int
        The largest allowed number of pixels.

    Returns
    -------
    Header

    Raises
    ------
    ImageError
        If the file is not an image, has more than `max_pixels` pixels, or its layout is not
        supported.
    """
    file.seek(0)
    prefix = file.read(PREFIX)
    if not prefix:
        raise ImageError("the file is empty")
    header = _read(_recognised(prefix), file, max_pixels)
    height, width = header.height, header.width
    if height * width > max_pixels:
        raise ImageError(f"{width} × {height} pixels; at most {max_pixels} are allowed")
    if height * width < 1:
        raise ImageError(f"the image is empty ({width} × {height} pixels)")
    return header


def _recognised(prefix: bytes) -> str:
    found = format_of(prefix)
    if found is None:
        raise NoImageError(f"not an image in a supported format: {', '.join(FORMATS)}")
    return found


def _read(found: str, file: BinaryIO, max_pixels: int) -> Header:
    if found == "TIFF":
        from lightcluster.images.tiff import read_tiff  # the import takes 0.5 s

        return read_tiff(file, max_pixels)
    if found in _OWN:
        return _OWN[found](file)
    image = _open(_open_heif if found == "HEIF" else _BY_PILLOW[found], found, file)
    if image.width * image.height > max_pixels:  # the caller rejects it; stop here
        return header_of(image)
    further = {
        "PNG": read_png, "PPM": read_netpbm, "JPEG2000": read_jpeg2000, "BMP": read_bitmap,
        "DIB": read_bitmap, "TGA": read_bitmap,
    }  # fmt: skip
    return further[found](image, file) if found in further else header_of(image)


def _open_heif(file: BinaryIO) -> ImageFile.ImageFile:
    """Open HEIC without registering it with Pillow for the whole process."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            "reading HEIC needs pillow-heif: pip install 'lightcluster[heic]', or pillow-heif"
        ) from None
    return HeifImageFile(file)  # type: ignore[no-untyped-call]


def _open(
    decoder: Callable[[BinaryIO], ImageFile.ImageFile], found: str, file: BinaryIO
) -> ImageFile.ImageFile:
    file.seek(0)
    try:
        return decoder(file)
    except ImageError:
        raise
    except Exception as error:  # damaged files make header parsers raise all kinds of errors
        reason = "" if "not identified" in str(error) else f" ({' '.join(str(error).split())})"
        if str(error).isdecimal():
            reason = f" (unknown value {error} in its header)"
        raise NoImageError(
            f"damaged image, or {found} of a variant that is not supported{reason}"
        ) from error


@contextmanager
def open_plain(source: Path | bytes) -> Iterator[ImageFile.ImageFile]:
    """Open a picture whose stored values are used unchanged: a label map or a written picture.

    Parameters
    ----------
    source : Path or bytes
        Path of the file, or its content.

    Yields
    ------
    PIL.ImageFile.ImageFile
        Valid while the context is open.

    Raises
    ------
    OSError
        If the file cannot be opened.
    NoImageError
        If Pillow cannot decode it.
    """
    with open_source(source) as file:
        found = _recognised(file.read(PREFIX))
        decoders = {**_BY_PILLOW, "TIFF": TiffImagePlugin.TiffImageFile}
        if found not in decoders:
            raise NoImageError(f"{found} is not supported for label maps")
        yield _open(decoders[found], found, file)
