"""TIFF, decoded by tifffile, in all bit depths and layouts whose meaning is unambiguous.

Any other layout is rejected with a message that names it. TIFF allows more than any program
supports, and a wrong guess would produce a plausible but wrong picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from lightcluster.errors import ImageError
from lightcluster.images.depth import Samples, declared_white
from lightcluster.images.header import Header, turn
from lightcluster.images.tiff_parts import check_part, read_lerc
from lightcluster.images.ycbcr import read_plain_ycbcr, unreadable_ycbcr

COMPRESSIONS = {
    1: "none",
    2: "CCITT RLE",
    3: "CCITT group 3",
    4: "CCITT group 4",
    5: "LZW",
    6: "JPEG of the old style",
    7: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    34926: "Zstandard",
    34927: "WebP",
    50000: "Zstandard",
    50001: "WebP",
}
"""Supported compressions, by their number in the tag."""

_NOT_COMPRESSED, _OLD_JPEG, _JPEG, _WEBP = 1, 6, 7, (34927, 50001)
_LERC = 34887
_CCITT = (2, 3, 4)

_COLORS = {
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.SEPARATED: 4,
    PHOTOMETRIC.YCBCR: 3,
    PHOTOMETRIC.CIELAB: 3,
    PHOTOMETRIC.ICCLAB: 3,
}
"""Number of colour samples per pixel, for each supported photometric interpretation."""

_FORMATS = {1: "u", 2: "i", 3: "f"}
_COMPLEX = (5, 6)
_ASSOCIATED, _UNASSOCIATED = 1, 2
_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType: the page is a reduced copy of another one, or its transparency mask."""

_LOOKED_THROUGH = 64
"""Number of pages that are searched for pictures among previews and masks."""

_BYTES_PER_PIXEL = 16
"""Decoded samples may take this much memory for each of the allowed number of pixels."""


def read_tiff(file: BinaryIO, max_pixels: int) -> Header:
    """Read the header of the first page of a TIFF that is neither a preview nor a mask.

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
        If the file is damaged, or its layout is not supported.
    """
    file.seek(0)
    try:
        return _read_header(file, TiffFile(file), max_pixels)
    except ImageError:
        raise
    except Exception as error:  # damaged files make header parsers raise all kinds of errors
        reason = str(error)
        if isinstance(error, (AttributeError, LookupError, TypeError)):  # no message for users
            reason = "a tag is missing or invalid, or samples differ in type"
        raise ImageError(f"damaged or truncated image (TIFF: {reason})") from error


def _read_header(file: BinaryIO, tiff: TiffFile, max_pixels: int) -> Header:
    page = picture_of(tiff)
    height, width = int(page.imagelength), int(page.imagewidth)
    stated = page.tags.valueof(274, 1)
    orientation = upright = int(stated) if stated in range(1, 9) else 1
    if height * width <= max_pixels:  # the caller rejects larger images
        _check_layout(page, max_pixels)
    by_libtiff = _is_for_libtiff(page)
    if by_libtiff:
        orientation = 1
        if upright in (5, 6, 7, 8):
            height, width = width, height

    def decode() -> Samples | NDArray[np.uint8]:
        outside = _outside(tiff, page, max_pixels)
        if _is_plain_ycbcr(page):
            return Samples(read_plain_ycbcr(tiff, page), 255, hidden=outside)
        if not by_libtiff:
            samples = _decode(tiff, page)
            if outside is None:
                return samples
            return replace(
                samples, hidden=outside if samples.hidden is None else outside | samples.hidden
            )
        rgb = _decode_by_libtiff(file, page.index)
        return rgb if outside is None else Samples(rgb, 255, hidden=turn(outside, upright))

    return Header(
        "TIFF", height, width, decode, orientation=orientation, frames=lambda: _count(tiff)
    )


def _pages(tiff: TiffFile) -> Iterator[TiffPage]:
    """Yield the first pages."""
    for number in range(min(len(tiff.pages), _LOOKED_THROUGH)):
        if isinstance(page := tiff.pages[number], TiffPage):
            yield page


def picture_of(tiff: TiffFile) -> TiffPage:
    """Return the first page that is neither a preview nor a mask; the first page if all are."""
    if not isinstance(first := tiff.pages.first, TiffPage):
        raise ImageError("damaged or truncated image (TIFF without a page)")
    if not _kind(first):
        return first
    return next((page for page in _pages(tiff) if not _kind(page)), first)


def _kind(page: TiffPage) -> int:
    """Return the sum of `_REDUCED` and `_MASK`, as far as they apply to a page."""
    kind = page.tags.valueof(254, 0)
    if isinstance(kind, int) and kind:
        return kind & (_REDUCED | _MASK)
    return _REDUCED if page.tags.valueof(255, 1) == 2 else 0


def _count(tiff: TiffFile) -> int:
    """Return the number of pages that are pictures; 1 if they cannot be counted."""
    try:
        if len(tiff.pages) > _LOOKED_THROUGH:
            return len(tiff.pages)
        return max(1, sum(not _kind(page) for page in _pages(tiff)))
    except Exception:  # the first page may still be intact
        return 1


def _outside(tiff: TiffFile, page: TiffPage, max_pixels: int) -> NDArray[np.bool_] | None:
    """Return the pixels that a mask page marks as invalid (GDAL writes such pages), or None."""
    shape = (page.imagelength, page.imagewidth)
    for mask in _pages(tiff):
        if _kind(mask) == _MASK and (mask.imagelength, mask.imagewidth) == shape:
            reason = _unreadable_parts(mask, max_pixels)
            if mask.samplesperpixel != 1:
                reason = f"with {mask.samplesperpixel} samples per pixel"
            elif mask.compression not in COMPRESSIONS:
                reason = f"with compression {_name(mask.compression)}, which is not supported"
            if reason:
                raise ImageError(f"TIFF with a mask page {reason}")
            inside: NDArray[np.bool_] = _stored_samples(tiff, mask)[..., 0] != 0
            return None if inside.all() else ~inside
    return None


def _photometric(page: TiffPage) -> int:
    """Return the photometric interpretation; libtiff's default if the tag is missing."""
    if 262 in page.tags:
        return int(page.photometric)
    if page.compression in _CCITT:
        return int(PHOTOMETRIC.MINISWHITE)
    return int(PHOTOMETRIC.RGB if page.samplesperpixel >= 3 else PHOTOMETRIC.MINISBLACK)


def _is_for_libtiff(page: TiffPage) -> bool:
    """Return whether libtiff decodes a page: 8-bit YCbCr that tifffile does not convert to RGB."""
    return page.compression == _OLD_JPEG or (
        _photometric(page) == PHOTOMETRIC.YCBCR
        and page.compression not in (_NOT_COMPRESSED, _JPEG)
        and page.compression not in _WEBP
    )


def _is_plain_ycbcr(page: TiffPage) -> bool:
    return page.compression == _NOT_COMPRESSED and _photometric(page) == PHOTOMETRIC.YCBCR


def _extras(page: TiffPage) -> int:
    return int(page.samplesperpixel) - _COLORS[PHOTOMETRIC(_photometric(page))]


def _alpha(page: TiffPage) -> tuple[int, int] | None:
    """Return the index of the alpha sample after the colours and its kind; None without one."""
    kinds = tuple(int(kind) for kind in page.extrasamples)
    for place, kind in enumerate(kinds[: _extras(page)]):
        if kind in (_ASSOCIATED, _UNASSOCIATED):
            return place, kind
    rgb = _photometric(page) == PHOTOMETRIC.RGB  # writers often omit the tag
    return (0, _UNASSOCIATED) if rgb and not kinds and _extras(page) == 1 else None


def _check_layout(page: TiffPage, max_pixels: int) -> None:
    """Raise an ImageError that names what is unsupported in a page's layout."""
    if reason := _unreadable(page, max_pixels):
        raise ImageError(f"TIFF {reason}")


def _unreadable(page: TiffPage, max_pixels: int) -> str:
    """Return what is unsupported in a page's layout, to follow "TIFF"; empty if nothing is."""
    bits, kind, count = page.bitspersample, page.sampleformat, int(page.samplesperpixel)
    photometric, compression = _photometric(page), int(page.compression)
    if page.imagedepth != 1:
        return f"that is a volume of {page.imagedepth} slices; only 2D images are supported"
    if 50706 in page.tags:
        return "with raw camera data (DNG); convert it to RGB of 8 or 16 bits first"
    if 330 in page.tags and _kind(page) == _REDUCED:
        return "whose first page is a preview, as in raw camera files; convert it to RGB first"
    if compression not in COMPRESSIONS:
        return f"with compression {_name(page.compression)}, which is not supported"
    if photometric not in list(_COLORS):
        name = _name(PHOTOMETRIC(photometric)) if photometric in list(PHOTOMETRIC) else photometric
        return f"with photometric interpretation {name}, which is not supported"
    color = _name(PHOTOMETRIC(photometric))
    if np.ndim(bits):
        return f"with samples of different depths ({', '.join(map(str, np.ravel(bits)))} bits)"
    if kind in _COMPLEX:
        return f"with complex numbers ({bits} bits), which are not supported"
    if not isinstance(kind, int) or int(kind) not in _FORMATS or page.dtype is None:
        return f"with samples of {bits} bits in the format {_name(kind)}, which is not supported"
    if bits == 24 and kind != 3 and page.parent.byteorder == "<":
        return "with little-endian integers of 24 bits, whose byte order programs disagree about"
    if (extras := _extras(page)) < 0:
        return f"with {count} samples per pixel, too few for {color}"
    if count > 1 and _COLORS[PHOTOMETRIC(photometric)] == 1 and (extras > 1 or not _alpha(page)):
        return (
            f"with {count} bands of {bits} bits, {color}: the file does not say which of them are "
            "red, green and blue; write one band, or three as RGB"
        )
    return _unreadable_colors(page, photometric, bits, extras) or _unreadable_parts(
        page, max_pixels
    )


def _unreadable_colors(page: TiffPage, photometric: int, bits: int, extras: int) -> str:
    color, whole = _name(PHOTOMETRIC(photometric)), page.sampleformat == 1
    if photometric == PHOTOMETRIC.PALETTE and (
        not whole or page.colormap is None or page.colormap.shape != (3, 2**bits)
    ):
        return "with a palette that does not fit its samples"
    if photometric == PHOTOMETRIC.SEPARATED and page.tags.valueof(332, 1) != 1:
        return "with inks other than CMYK"
    if photometric == PHOTOMETRIC.MINISWHITE and (_alpha(page) or (0, 0))[1] == _ASSOCIATED:
        return "in MinIsWhite with associated alpha, which is not supported"
    if photometric in (PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB) and (
        not whole or bits not in (8, 16) or extras
    ):
        return (
            f"in {color} with samples of {bits} bits and {extras} extra samples; only unsigned "
            "integers of 8 or 16 bits without extra samples are supported"
        )
    if photometric == PHOTOMETRIC.YCBCR and (
        extras or bits != 8 or not whole or page.planarconfig != 1
    ):
        planes = " in planes" * (page.planarconfig != 1)
        return (
            f"in YCbCr with samples of {bits} bits{planes} and {extras} extra samples; only "
            "interleaved colours of 8 bits without extra samples are supported"
        )
    return unreadable_ycbcr(page) if _is_plain_ycbcr(page) else ""


def _unreadable_parts(page: TiffPage, max_pixels: int) -> str:
    """Return why strips or tiles cannot be decoded (missing, too large); empty if they can."""
    pixels = int(page.imagewidth) * int(page.imagelength)
    itemsize = page.dtype.itemsize if page.dtype is not None else 1
    if pixels * int(page.samplesperpixel) * itemsize > _BYTES_PER_PIXEL * max_pixels:
        return f"with {page.samplesperpixel} samples of {8 * itemsize} bits per pixel: too large"
    if pixels == 0:
        return "without pixels"
    if page.is_tiled:
        tile = int(page.tilewidth) * int(page.tilelength)
        if not 0 < tile <= max(4 * pixels, 2**24) or page.tiledepth != 1:
            return f"with tiles of {page.tilewidth} × {page.tilelength} pixels, an invalid size"
    elif page.rowsperstrip < 1:
        return "with strips without rows"
    if page.compression == _OLD_JPEG:  # other tags say where its data are
        return ""
    parts, size = int(np.prod(page.chunked)), page.parent.filehandle.size
    if min(len(page.dataoffsets), len(page.databytecounts)) < parts:
        return f"of {parts} strips or tiles, some of which are missing"
    for offset, count in zip(page.dataoffsets[:parts], page.databytecounts[:parts], strict=True):
        if offset <= 0 or count <= 0 or offset >= size:
            return "with strips or tiles that are missing"
        if page.compression != 1 and offset + count > size:
            return "that is damaged or truncated: strips or tiles extend beyond the end of the file"
    return ""


def _name(value: object) -> str:
    """Return the common spelling of a tag's value."""
    names = {
        "MINISWHITE": "MinIsWhite",
        "MINISBLACK": "MinIsBlack",
        "PALETTE": "palette",
        "SEPARATED": "CMYK",
        "YCBCR": "YCbCr",
        "CIELAB": "CIELab",
        "ICCLAB": "ICCLab",
        "MASK": "mask",
        "CFA": "CFA (raw camera data)",
        "LINEAR_RAW": "LinearRaw (raw camera data)",
    }
    name = getattr(value, "name", None)
    return str(value) if name is None else names.get(name, name)


def _decode_by_libtiff(file: BinaryIO, page: int) -> NDArray[np.uint8]:
    file.seek(0)
    image = TiffImagePlugin.TiffImageFile(file)
    image.seek(page)
    image.load()
    if image.mode not in ("L", "RGB", "YCbCr"):
        raise ImageError(f"TIFF in YCbCr or old-style JPEG that decodes to mode {image.mode}")
    return np.asarray(image.convert("RGB"))


def _decode(tiff: TiffFile, page: TiffPage) -> Samples:
    stored = _stored_samples(tiff, page)
    photometric = _photometric(page)
    colors = _COLORS[PHOTOMETRIC(photometric)]
    hidden = _nodata(page, stored[..., :colors])
    opacity, bits = _alpha(page), int(page.bitspersample)
    alpha = None if opacity is None else stored[..., colors + opacity[0]]
    found, white = stored[..., :colors], declared_white(bits)
    if stored.dtype.kind != "u":
        white = None
    if photometric == PHOTOMETRIC.PALETTE:
        found, white, alpha = _look_up(page, found[..., 0]), 255, _eight_bits(alpha, bits)
    elif photometric == PHOTOMETRIC.SEPARATED:
        found, white, alpha = _from_cmyk(found, bits), 255, _eight_bits(alpha, bits)
    elif photometric in (PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB):
        found, white = _from_lab(found, signed=photometric == PHOTOMETRIC.CIELAB), 255
    return Samples(
        found[..., 0] if found.shape[-1] == 1 else found,
        white,
        alpha=alpha,
        premultiplied=opacity is not None and opacity[1] == _ASSOCIATED,
        hidden=hidden,
        inverted=photometric == PHOTOMETRIC.MINISWHITE,
    )


def _stored_samples(tiff: TiffFile, page: TiffPage) -> NDArray[Any]:
    """Return the stored samples, [height, width, samples per pixel]."""
    parts = int(np.prod(page.chunked))
    jpeg = page.compression == _JPEG
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if jpeg else {}
    dtype = np.dtype(np.uint8) if page.dtype == bool else np.dtype(page.dtype).newbyteorder("=")
    planes, _, height, width, samples = page.shaped
    stored = np.empty((planes, height, width, samples), dtype)
    for data, index in tiff.filehandle.read_segments(
        page.dataoffsets[:parts], page.databytecounts[:parts], length=parts, flat=True
    ):
        if not isinstance(data, bytes):
            raise ImageError("TIFF with strips or tiles that are missing")
        check_part(data, page)
        segment, (plane, _, top, left, _), _ = page.decode(data, index, **tables)
        if segment is None:
            raise ImageError("TIFF with strips or tiles that are missing")
        if page.compression == _LERC:
            segment = read_lerc(data, segment)
        part = segment[0, : height - top, : width - left]
        if part.dtype != dtype and part.dtype != bool:
            raise ImageError(f"TIFF whose strips or tiles are {part.dtype} instead of {dtype}")
        stored[plane, top : top + part.shape[0], left : left + part.shape[1]] = part
    return np.moveaxis(stored[..., 0], 0, -1) if planes > 1 else stored[0]


def _nodata(page: TiffPage, colors: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return the pixels whose colours all equal GDAL_NODATA; None if there are none."""
    text = str(page.tags.valueof(42113) or "").strip(" \0\r\n\t")
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        raise ImageError(f"TIFF with GDAL_NODATA = {text[:40]!r}, which is not a number") from None
    if np.isnan(value):
        same = np.isnan(colors) if colors.dtype.kind == "f" else np.zeros(colors.shape, bool)
    elif colors.dtype.kind == "f":
        with np.errstate(over="ignore"):
            same = (colors == np.asarray(value, colors.dtype)) | np.isclose(
                colors.astype(np.float64), value, rtol=1e-6, atol=0
            )
    else:
        same = colors == value
    hidden = np.asarray(same.all(axis=-1))
    return hidden if hidden.any() else None


def _eight_bits(values: NDArray[Any] | None, bits: int) -> NDArray[np.uint8] | None:
    """Scale unsigned integers of `bits` bits to 0 to 255."""
    if values is None:
        return None
    return np.rint(values.astype(np.float64) * 255 / (2.0**bits - 1)).astype(np.uint8)


def _look_up(page: TiffPage, indices: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the palette colours of indices; some writers store 8 bits instead of 16."""
    assert page.colormap is not None
    palette = page.colormap.T.astype(np.float64)
    scale = 1 if palette.max() < 256 else 257
    colors: NDArray[np.uint8] = np.rint(palette / scale).astype(np.uint8)[indices]
    return colors


def _from_cmyk(inks: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Convert CMYK to RGB by Pillow's formula, without colour profiles."""
    if inks.dtype.kind != "u":
        raise ImageError(
            f"TIFF in CMYK with samples of type {inks.dtype}; only unsigned integers are supported"
        )
    eight = np.rint(inks.astype(np.float32) * (255 / (2.0**bits - 1))).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(eight), "CMYK")
    return np.asarray(picture.convert("RGB"))


def _from_lab(lab: NDArray[Any], *, signed: bool) -> NDArray[np.uint8]:
    """Convert CIELab to sRGB, using the upper 8 bits of 16."""
    bits = 8 * lab.dtype.itemsize
    lightness = np.rint(lab[..., :1].astype(np.float64) * 255 / (2**bits - 1))
    chroma = lab[..., 1:].astype(np.int32)
    if signed:
        chroma = (chroma + 2 ** (bits - 1)) % 2**bits
    chroma = np.minimum((chroma + (2 ** (bits - 9) if bits > 8 else 0)) >> (bits - 8), 255)
    stacked = np.concatenate([lightness, chroma - 128], axis=-1).astype(np.int16).astype(np.uint8)
    picture = Image.frombytes("LAB", lab.shape[1::-1], np.ascontiguousarray(stacked).tobytes())
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
    converted = ImageCms.applyTransform(picture, transform)
    assert converted is not None  # None only with inPlace=True
    return np.asarray(converted)
