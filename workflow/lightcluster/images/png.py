"""PNG, decoded by libpng, because Pillow accepts damaged files and loses bit depth.

Pillow checks neither the checksums of the pixel data nor its length, reduces 16-bit colours to 8
bits, and misreads the transparent grey value of images with fewer than 8 bits: it compares it with
samples that are already scaled.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import IO, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

from lightcluster.errors import ImageError
from lightcluster.images.depth import Samples
from lightcluster.images.header import Header
from lightcluster.images.pillow import count_frames, orientation_of, pixels_of

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
"""Chunks of text, of which only an orientation is used."""

_LONGEST_TEXT = 2**26

_GREY, _RGB, _PALETTE, _ALPHA = 0, 2, 3, 4

_LONGEST_EXIF = 2**20


def open_png(file: IO[bytes]) -> PngImagePlugin.PngImageFile:
    """Open a PNG with Pillow, without texts and colour profiles if Pillow finds them too large.

    Pillow refuses a PNG with more than a megabyte of them.

    Raises
    ------
    Exception
        Whatever Pillow raises if the file is damaged.
    """
    try:
        return PngImagePlugin.PngImageFile(file)
    except ValueError as error:
        if not re.search("too large|too much memory", str(error), re.IGNORECASE):
            raise
    lean = bytearray(_SIGNATURE)
    for name, place, length in _chunks(file):
        if name in _TEXTS:
            file.seek(place)
            lean += _orienting(name, file.read(length))
        elif name != b"iCCP":
            file.seek(place - 8)
            lean += file.read(length + 12)
    return PngImagePlugin.PngImageFile(BytesIO(lean + _chunk(b"IEND", b"")))


def _orienting(name: bytes, content: bytes) -> bytes:
    """Return a text chunk reduced to the orientation that it states; empty if it states none.

    Pillow finds an orientation in XMP, and in the text profile in which ImageMagick stores EXIF.
    """
    keyword, _, rest = content.partition(b"\0")
    if name == b"iTXt" and keyword == b"XML:com.adobe.xmp":
        packed, rest = rest[:1] == b"\1", rest[2:]
        text = rest.split(b"\0", 2)[-1]
        found = re.search(rb'tiff:Orientation(="|>)[1-8]', _inflated(text) if packed else text)
        return _chunk(b"iTXt", keyword + bytes(5) + found.group()) if found else b""
    if keyword == b"Raw profile type exif":
        text = _inflated(rest[1:]) if name == b"zTXt" else rest
        if len(text) <= PngImagePlugin.MAX_TEXT_CHUNK:
            return _chunk(b"tEXt", keyword + b"\0" + text)
    return b""


def _inflated(packed: bytes) -> bytes:
    """Return decompressed text, at most `_LONGEST_TEXT` bytes; empty if it is damaged."""
    try:
        return zlib.decompressobj().decompress(packed, _LONGEST_TEXT)
    except zlib.error:
        return b""


def _foreign(names: set[bytes]) -> str:
    """Return why chunks of these names make a PNG unreadable; empty if they do not."""
    if b"CgBI" in names:
        return "PNG in Apple's CgBI variant, which is not supported; save it as a standard PNG"
    unknown = sorted(name for name in names if name[:1].isupper() and name not in _CRITICAL)
    if unknown:
        name = unknown[0].decode("ascii", "backslashreplace")
        return f"damaged image, or PNG with an unknown critical chunk ({name})"
    return ""


def read_png(image: ImageFile.ImageFile, file: BinaryIO) -> Header:
    """Return the header of a PNG that Pillow has opened."""
    file.seek(24)
    depth, kind = file.read(2)

    def decode() -> Samples | NDArray[np.uint8]:
        lengths = {name: length for name, _, length in _chunks(file)}
        names = set(lengths)
        if b"IDAT" not in names or (kind == _PALETTE and b"PLTE" not in names):
            lacks = "palette" if b"IDAT" in names else "pixels"
            raise ImageError(f"damaged or truncated image (PNG without {lacks})")
        if reason := _foreign(names):
            raise ImageError(reason)
        if kind == _PALETTE and lengths[b"PLTE"] // 3 < 2**depth:  # an index may exceed it
            last = int(read_indices(file).max())
            if last >= lengths[b"PLTE"] // 3:
                raise ImageError(f"damaged image (PNG whose palette has no colour {last})")
        file.seek(0)
        stored = imagecodecs.png_decode(file.read())
        return _deep(stored, kind) if depth == 16 else pixels_of(Image.fromarray(stored))

    return Header(
        "PNG",
        image.height,
        image.width,
        decode,
        orientation=png_orientation(image, file),
        frames=lambda: count_frames(image),
    )


def _deep(stored: NDArray[np.uint16], kind: int) -> Samples:
    """Convert decoded 16-bit pixels, [height, width] or [height, width, channels], to `Samples`."""
    if stored.ndim == 2:
        return Samples(stored, None)
    count = 1 if kind in (_GREY, _ALPHA) else 3
    colors = stored[..., 0] if count == 1 else stored[..., :3]
    if stored.shape[-1] == count:
        return Samples(colors, None)
    alpha = stored[..., count]
    if kind in (_GREY, _RGB):  # the file declares one colour as transparent
        return Samples(colors, None, hidden=alpha == 0)
    return Samples(colors, None, alpha=alpha)


def read_indices(file: IO[bytes]) -> NDArray[np.unsignedinteger]:
    """Return the stored samples of a single-channel PNG: grey values or palette indices.

    libpng is told that the PNG is greyscale, because it would apply a palette.

    Returns
    -------
    uint8 or uint16 array, shape (height, width)

    Raises
    ------
    ValueError
        If the PNG is damaged. Errors of libpng pass through.
    """
    file.seek(0)
    start, depth, pixels = file.read(8), 8, []
    for name, place, length in _chunks(file):
        if name == b"IHDR":
            file.seek(place)
            header = bytearray(file.read(length))
            depth, header[9] = header[8], _GREY
            start += _chunk(name, bytes(header))
        elif name == b"IDAT":
            file.seek(place - 8)
            pixels.append(file.read(length + 12))
    if not pixels:
        raise ValueError("PNG without pixels")
    kept = (start, *pixels, _chunk(b"IEND", b""))
    stored: NDArray[np.unsignedinteger] = imagecodecs.png_decode(b"".join(kept))
    return stored // (255 // (2**depth - 1)) if depth < 8 else stored


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + name + content + checksum


def png_orientation(image: ImageFile.ImageFile, file: IO[bytes]) -> int:
    """Return the EXIF orientation, which may be stored after the pixel data (this is skipped)."""
    if "exif" not in image.info:
        for name, place, length in _chunks(file):
            if name == b"eXIf":
                file.seek(place)
                image.info["exif"] = b"Exif\0\0" + file.read(min(length, _LONGEST_EXIF))
                break
    return orientation_of(image)


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk, and offset and length of its content."""
    place = 8
    while True:
        file.seek(place)
        start = file.read(8)
        length, name = int.from_bytes(start[:4], "big"), start[4:]
        if len(start) < 8 or name == b"IEND":
            return
        yield name, place + 8, length
        place += length + 12
