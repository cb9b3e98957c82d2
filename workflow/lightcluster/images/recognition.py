"""Which format a file has, by its first bytes, and Pillow's decoder of it.

Pillow's own ``Image.open`` is not called: it tries all formats that the program around us has
registered, and refuses large images by a limit that is one for the whole process. Here a file goes
to one decoder, and limits are the caller's.
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
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from lightcluster.errors import ImageError
from lightcluster.paths import require_file

PREFIX = 32
"""Bytes at the beginning of a file by which its format is known."""

DECODERS: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "JPEG": JpegImagePlugin.jpeg_factory,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}

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


class NoImageError(ImageError):
    """A file that is no image, or whose header is damaged."""


def format_of(prefix: bytes) -> str | None:
    """Return the format of a file, a key of `DECODERS`; None if it is none of them.

    Parameters
    ----------
    prefix : bytes
        The first `PREFIX` bytes, or all of a shorter file.
    """
    for magic, name in _MAGIC.items():
        if prefix.startswith(magic):
            return name
    if prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP":
        return "WEBP"
    if prefix[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    if prefix[4:8] == b"ftyp" and b"avif" in prefix[16:]:
        return "AVIF"
    if prefix[:1] == b"P" and prefix[1:2] in b"123456f" and prefix[2:3].isspace():
        return "PPM"
    return None


def open_header(file: BinaryIO) -> ImageFile.ImageFile:
    """Read the header of an image: its pixels are decoded by its method ``load``.

    Raises
    ------
    NoImageError
        If it is none.
    """
    file.seek(0)
    found = format_of(file.read(PREFIX))
    no_image = f"not an image in a format among {', '.join(DECODERS)}"
    if found is None:
        raise NoImageError(no_image)
    file.seek(0)
    try:
        return DECODERS[found](file)
    except Exception as error:  # header parsers raise whatever a damaged file leads them to
        raise NoImageError(f"{no_image}: its header of {found} is damaged ({error})") from error


@contextmanager
def open_plain(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Give a picture whose pixels are taken as they are: a label map, or what was painted here.

    Raises
    ------
    OSError
        If the file cannot be opened.
    NoImageError
        If it is none.
    """
    with require_file(path).open("rb") as file:
        yield open_header(file)
