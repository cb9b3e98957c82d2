"""TIFF, PNG and others of every depth and layout, against arrays worked out by hand."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from lightcluster.datasets.entries import LabelFile
from lightcluster.datasets.labels import read_label
from lightcluster.errors import ImageError
from lightcluster.extraction.images import examine_image, image_size, open_image
from lightcluster.images.depth import Levels, Samples, choose_levels, span_of, to_rgb
from lightcluster.images.tiff_parts import jpeg_size

LIMIT = 10**6
G = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
RGB = np.dstack([G, G[:, ::-1], G])
GREY = np.dstack([G] * 3)


def assert_reads(path: Path, expected: np.ndarray, tolerance: int = 0, **settings) -> None:
    found = open_image(path, LIMIT, **settings)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape == (*image_size(path, LIMIT), 3)
    assert np.abs(found.astype(int) - expected).max() <= tolerance


def assert_refused(path: Path, reason: str) -> None:
    for source in (path, path.read_bytes()):
        with pytest.raises(ImageError, match=reason):
            open_image(source, LIMIT)


def on_white(colors: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Colours from 0 to 255 composited on white paper, opacity from 0 to 1."""
    return np.rint(colors * opacity[..., None] + 255 * (1 - opacity[..., None]))


# ---- TIFF: the matrix ------------------------------------------------------------------------

WHITES = {"u1": 255, "u2": 65535, "f2": 1, "f4": 1, "f8": 1}


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits", "lerc"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", list(WHITES))
def test_every_layout_of_tiff(dtype, channels, planar, tile, compression, tmp_path):
    if channels == 1 and planar == "separate":
        pytest.skip("one channel is one plane")
    if compression == "lerc" and dtype == "f2":
        pytest.skip("LERC knows no half precision")
    eight = GREY if channels == 1 else RGB
    stored = eight.astype("f8") / 255 * WHITES[dtype]
    if dtype[0] == "u":
        stored = np.rint(stored)
    stored = stored.astype(dtype)[..., :channels]
    if channels == 1:
        stored = stored[..., 0]
    elif planar == "separate":
        stored = stored.transpose(2, 0, 1).copy()
    big = dtype == "u2" or compression == "lzw"
    order = ">" if (big or tile) and compression != "lerc" else "<"
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb" if channels == 3 else "minisblack",
        planarconfig=planar if channels == 3 else None, tile=tile, compression=compression,
        rowsperstrip=None if tile else 7, bigtiff=big, byteorder=order,
    )  # fmt: skip
    assert_reads(tmp_path / "a.tif", eight)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_predictors(dtype, planar, tmp_path):
    stored = (RGB.astype("f8") / 255 * WHITES[dtype]).astype(dtype)
    stored = stored if planar == "contig" else stored.transpose(2, 0, 1).copy()
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, compression="zlib",
        predictor=True,
    )  # fmt: skip
    assert_reads(tmp_path / "a.tif", RGB)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["tif", "png", "pgm"])
def test_fewer_bits_in_a_container_of_sixteen(bits, suffix, tmp_path):
    stored = G.astype("u2") * 2 ** (bits - 8)
    path = tmp_path / f"a.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 256 64 65535\n" + stored.astype(">u2").tobytes())
    elif suffix == "tif":
        tifffile.imwrite(path, stored, photometric="minisblack")
    else:
        Image.fromarray(stored).save(path)
    white = 2**bits - 1
    expected = np.rint(stored * 255.0 / white)
    assert np.abs(expected - G).max() <= 1
    assert_reads(path, np.dstack([expected] * 3))
    assert_reads(path, np.dstack([expected] * 3), depth=bits)
    assert_reads(path, np.dstack([np.rint(stored * 255.0 / 65535)] * 3), depth="full")
    assert_reads(path, GREY, depth="stretch")
    picture = examine_image(path, LIMIT, "auto")
    assert picture.levels == Levels(0, white)
    assert_reads(
        path, np.dstack([np.minimum(stored, 255)] * 3), depth=picture.levels._replace(white=255)
    )


def pack(samples: np.ndarray, bits: int) -> bytes:
    """Rows of samples bit after bit, the highest first, each row filled up to whole bytes."""
    rows = samples.reshape(samples.shape[0], -1)
    every = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(every.reshape(rows.shape[0], -1).astype(np.uint8), axis=1).tobytes()


def raw_tiff(path: Path, width: int, height: int, data: bytes, tags: dict[int, tuple]) -> None:
    """A TIFF of one strip with any tags: number to (type 2, 3, 4 or 12, values)."""
    sizes = {2: "s", 3: "H", 4: "I", 12: "d"}
    tags = {
        256: (4, [width]), 257: (4, [height]), 259: (3, [1]), 273: (4, [8]), 278: (4, [height]),
        279: (4, [len(data)]), **tags,
    }  # fmt: skip
    place = 8 + len(data) + len(data) % 2
    body, entries = b"", b""
    start = place + 2 + 12 * len(tags) + 4
    for number, (kind, values) in sorted(tags.items()):
        packed = values if kind == 2 else struct.pack(f"<{len(values)}{sizes[kind]}", *values)
        if len(packed) > 4:
            where = struct.pack("<I", start + len(body))
            body += packed + b"\0" * (len(packed) % 2)
        else:
            where = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", number, kind, len(values)) + where
    path.write_bytes(
        b"II*\0" + struct.pack("<I", place) + data + b"\0" * (len(data) % 2)
        + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + body
    )  # fmt: skip


@pytest.mark.parametrize("bits", range(1, 24))
@pytest.mark.parametrize("photometric", [0, 1])
def test_declared_bits_are_scaled_by_their_own_maximum(bits, photometric, tmp_path):
    white = 2**bits - 1
    samples = np.rint(np.linspace(0, white, 256)).astype(np.int64)[None].repeat(5, axis=0)
    data = pack(samples, bits)
    if bits == 16:  # samples of whole bytes are in the order of the file
        data = samples.astype("<u2").tobytes()
    raw_tiff(
        tmp_path / "a.tif", 256, 5, data,
        {258: (3, [bits]), 262: (3, [photometric]), 277: (3, [1])},
    )  # fmt: skip
    expected = np.rint(samples * 255 / white)
    expected = 255 - expected if photometric == 0 else expected
    assert_reads(tmp_path / "a.tif", np.dstack([expected] * 3), tolerance=bits > 8)


def test_24_bits_in_ambiguous_byte_order_are_refused(tmp_path):
    tags = {258: (3, [24]), 262: (3, [1]), 277: (3, [1])}
    raw_tiff(tmp_path / "a.tif", 8, 8, bytes(range(192)), tags)
    assert_refused(tmp_path / "a.tif", "24 bits, whose byte order programs disagree")


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_rgb_of_declared_bits(bits, tmp_path):
    white = 2**bits - 1
    samples = np.rint(RGB.astype(float) / 255 * white).astype(np.int64)
    raw_tiff(
        tmp_path / "a.tif", 256, 64, pack(samples, bits),
        {258: (3, [bits] * 3), 262: (3, [2]), 277: (3, [3])},
    )  # fmt: skip
    assert_reads(tmp_path / "a.tif", RGB)
    dark = samples // 64
    raw_tiff(
        tmp_path / "a.tif", 256, 64, pack(dark, bits),
        {258: (3, [bits] * 3), 262: (3, [2]), 277: (3, [3])},
    )  # fmt: skip
    assert_reads(tmp_path / "a.tif", np.rint(dark * 255 / white))  # stays dark: it is declared
    assert open_image(tmp_path / "a.tif", LIMIT, depth="stretch").max() == 255


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u4", "u8"])
def test_wide_and_signed_numbers_spread_over_their_range(dtype, tmp_path):
    info = np.iinfo(dtype)
    step = (int(info.max) - int(info.min)) // 255
    stored = (np.arange(256, dtype=object) * step + int(info.min)).astype(dtype)[None].repeat(9, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack")
    assert_reads(tmp_path / "a.tif", GREY[:9])
    assert_reads(tmp_path / "a.tif", GREY[:9], depth="full")
    few = np.arange(256).astype("i2" if dtype == "i1" else dtype)[None]
    tifffile.imwrite(tmp_path / "a.tif", few, photometric="minisblack")
    assert_reads(tmp_path / "a.tif", GREY[:1])


@pytest.mark.parametrize(
    ("values", "black", "white"),
    [
        ([0, 0.5, 1], 0, 1), ([0, 0.1], 0, 1), ([0, 3, 200], 0, 255), ([0, 900], 0, 1023),
        ([0, 4000], 0, 4095), ([0, 60000], 0, 65535), ([-0.01, 1.02], -0.01, 1.02),
        ([0, 1.5], 0, 1.5), ([0, 1e9], 0, 1e9), ([-5, 5], -5, 5), ([7e5, 7e5], 7e5, 7e5),
    ],
)  # fmt: skip
def test_floating_point_numbers(values, black, white):
    samples = Samples(np.array([values], np.float64), None)
    levels = choose_levels(samples, "auto")
    assert levels == (black, white)
    grey = np.array(values)
    expected = np.rint((grey - black) / ((white - black) or 1) * 255)
    assert to_rgb(samples, levels)[0, :, 0].tolist() == expected.tolist()


def test_what_is_dark_stays_dark_where_one_depth_is_set(tmp_path):
    for name, factor in (("dark", 1), ("bright", 16)):
        tifffile.imwrite(tmp_path / f"{name}.tif", G.astype("u2") * factor)
    found = [open_image(tmp_path / f"{name}.tif", LIMIT, depth=12) for name in ("dark", "bright")]
    assert (found[0].max(), found[1].max()) == (16, 254)


# ---- TIFF: what is not there, or transparent --------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("f4", "-9999"), ("f4", "nan"), ("f8", "-3.4028234663852886e+38"), ("f4", "1e38"),
     ("f4", "-3.4028234663852886e+38"), ("i2", "-9999"), ("u2", "65535"), ("u1", "7"),
     ("f2", "-32768")],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_nodata_is_white_and_stretches_nothing(dtype, nodata, channels, tmp_path):
    eight = (GREY if channels == 1 else RGB)[..., :channels].astype("f8")
    stored = eight.astype(dtype)
    stored[stored == 7] = 8
    expected = np.where(eight == 7, 8, eight)
    with np.errstate(over="ignore"):
        stored[:5, :9] = np.array(float(nodata)).astype(dtype)
    expected[:5, :9] = 255
    tifffile.imwrite(
        tmp_path / "a.tif", stored if channels == 3 else stored[..., 0],
        photometric="rgb" if channels == 3 else "minisblack",
        extratags=[(42113, 2, 0, nodata, True)],
    )  # fmt: skip
    assert_reads(tmp_path / "a.tif", np.broadcast_to(expected, (64, 256, 3)))


def test_nodata_of_one_band_alone_hides_nothing(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", RGB, photometric="rgb", extratags=[(42113, 2, 0, "0", True)]
    )
    assert_reads(tmp_path / "a.tif", RGB)


def test_nodata_that_is_no_number(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", G, extratags=[(42113, 2, 0, "none", True)])
    assert_refused(tmp_path / "a.tif", "GDAL_NODATA = 'none'")


def test_an_empty_nodata_says_nothing(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", G, extratags=[(42113, 2, 0, "", True)])
    assert_reads(tmp_path / "a.tif", GREY)


def test_not_a_number_without_a_word_of_it(tmp_path):
    values = G.astype("f4")
    values[3, 3] = np.inf
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert_refused(tmp_path / "a.tif", "not finite")


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
@pytest.mark.parametrize("channels", [1, 3])
def test_extra_samples_of_tiff(channels, kind, planar, dtype, tmp_path):
    eight = (GREY if channels == 1 else RGB)[..., :channels]
    opacity = np.linspace(0, 1, 64)[:, None].repeat(256, axis=1)
    opacity = np.rint(opacity * 255) / 255
    colors = eight / 255
    if kind == "assocalpha":
        colors = colors * opacity[..., None]
    stored = np.concatenate([colors, opacity[..., None]], axis=-1) * WHITES[dtype]
    if dtype[0] == "u":
        stored = np.rint(stored)
    stored = stored.astype(dtype)
    if planar == "separate":
        stored = stored.transpose(2, 0, 1).copy()
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb" if channels == 3 else "minisblack",
        planarconfig=planar, extrasamples=[kind],
    )  # fmt: skip
    if kind == "unspecified" and channels == 1:
        assert_refused(tmp_path / "a.tif", "2 bands of .* bits, MinIsBlack")
        return
    expected = on_white(eight, opacity) if kind != "unspecified" else eight
    assert_reads(tmp_path / "a.tif", np.broadcast_to(expected, (64, 256, 3)), tolerance=1)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_bands_without_a_meaning_are_refused_by_their_layout(dtype, tmp_path):
    for count in (2, 4, 5):
        for planar in ("contig", "separate"):
            shape = (64, 256, count) if planar == "contig" else (count, 64, 256)
            tifffile.imwrite(
                tmp_path / "a.tif", np.zeros(shape, dtype), photometric="minisblack",
                planarconfig=planar,
            )  # fmt: skip
            assert_refused(
                tmp_path / "a.tif", f"{count} bands of {8 * int(dtype[1])} bits, MinIsBl"
            )


def test_rgb_and_infrared(tmp_path):
    stored = np.dstack([RGB, G, G])
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["unspecified"] * 2
    )
    assert_reads(tmp_path / "a.tif", RGB)


def test_opacity_behind_infrared(tmp_path):
    """As GDAL writes red, green, blue, infrared and opacity."""
    opacity = G[::-1, ::-1].copy()
    stored = np.dstack([RGB, G // 2, opacity])
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["unspecified", "unassalpha"]
    )
    assert_reads(tmp_path / "a.tif", on_white(RGB, opacity / 255))


@pytest.mark.parametrize("depth", ["auto", "full", "stretch", 8, 16])
def test_opacity_has_a_scale_of_its_own(depth):
    """Floating-point colours that are negative or above 1 beside an opacity from 0 to 1."""
    opacity = np.linspace(0, 1, 256, dtype="f4")[None]
    for colors in (np.zeros((1, 256), "f4") - 0.5, np.full((1, 256), 255, "f4")):
        colors[0, -1], colors[0, 0] = 0, 255
        samples = Samples(colors, None, alpha=opacity)
        levels = choose_levels(samples, depth)
        alone = to_rgb(Samples(colors, None), levels)
        expected = on_white(alone, opacity)
        assert np.abs(to_rgb(samples, levels) - expected).max() <= 1
    hidden = Samples(
        np.array([[0.5, np.nan]]), None, alpha=np.array([[1, np.nan]]),
        hidden=np.array([[False, True]]),
    )  # fmt: skip
    assert to_rgb(hidden, choose_levels(hidden, "auto"))[0, :, 0].tolist() == [128, 255]
    deep = np.array([[300, 400, 500]], "u2")
    samples = Samples(deep, None, alpha=np.array([[65535, 32768, 0]], "u2"))
    levels = choose_levels(samples, "stretch")
    assert levels == Levels(300, 500)
    assert to_rgb(samples, levels)[0, :, 0].tolist() == [0, 191, 255]


# ---- TIFF: photometric interpretations --------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("deep", [True, False])
def test_palettes(bits, deep, tmp_path):
    count = 2**bits
    palette = np.random.default_rng(bits).integers(0, 256, (3, count)).astype(np.uint16)
    palette[:, 0] = 255
    indices = np.random.default_rng(0).integers(0, count, (7, 11))
    data = indices.astype("<u2").tobytes() if bits == 16 else pack(indices, bits)
    raw_tiff(
        tmp_path / "a.tif", 11, 7, data,
        {258: (3, [bits]), 262: (3, [3]), 277: (3, [1]),
         320: (3, (palette * (257 if deep else 1)).ravel().tolist())},
    )  # fmt: skip
    assert_reads(tmp_path / "a.tif", palette.T[indices])


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_cmyk(dtype, planar, tmp_path):
    inks = np.dstack([RGB, np.full_like(G, 51)]).astype("f8")
    expected = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    stored = np.rint(inks / 255 * WHITES[dtype]).astype(dtype)
    stored = stored if planar == "contig" else stored.transpose(2, 0, 1).copy()
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="separated", planarconfig=planar)
    assert_reads(tmp_path / "a.tif", expected, tolerance=1)


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """CIELab under D50 to sRGB, by the formulas, adapted by Bradford's matrix."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    white = [0.9642, 1.0, 0.8249]
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * white
    to_linear = np.array(
        [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540],
         [0.0719453, -0.2289914, 1.4052427]]
    )  # fmt: skip
    linear = np.clip(xyz @ to_linear.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return srgb * 255


@pytest.mark.parametrize(("photometric", "bits"), [(8, 8), (9, 8), (8, 16), (9, 16)])
def test_lab(photometric, bits, tmp_path):
    lab = np.stack(
        np.broadcast_arrays(
            np.linspace(20, 90, 8)[:, None], np.linspace(-15, 15, 5)[None], np.full((1, 1), 10.0)
        ),
        axis=-1,
    )
    stored = lab.copy()
    stored[..., 0] *= (2**bits - 1) / 100
    stored[..., 1:] = stored[..., 1:] * 2 ** (bits - 8) + (photometric == 9) * 2 ** (bits - 1)
    stored = np.rint(stored).astype(np.int64) % 2**bits
    data = stored.astype("<u2" if bits == 16 else "u1").tobytes()
    raw_tiff(
        tmp_path / "a.tif", 5, 8, data,
        {258: (3, [bits] * 3), 262: (3, [photometric]), 277: (3, [3])},
    )  # fmt: skip
    assert_reads(tmp_path / "a.tif", np.rint(lab_to_srgb(lab)), tolerance=3)


@pytest.mark.parametrize("subsampling", [None, (1, 1), (2, 2), (2, 1)])
def test_ycbcr(subsampling, tmp_path):
    smooth = np.array(Image.fromarray(RGB[:, :64]).resize((64, 64)))
    tifffile.imwrite(
        tmp_path / "a.tif", smooth, photometric="rgb",
        compression="jpeg", compressionargs={"level": 98}, subsampling=subsampling,
    )  # fmt: skip
    assert_reads(tmp_path / "a.tif", smooth, tolerance=12)


def test_ycbcr_that_is_not_a_jpeg_is_converted(tmp_path):
    flat = np.zeros((8, 8, 3), np.uint8) + np.array([76, 85, 255], np.uint8)  # red
    raw_tiff(
        tmp_path / "a.tif", 8, 8, flat.tobytes(),
        {258: (3, [8] * 3), 262: (3, [6]), 277: (3, [3]), 530: (3, [1, 1])},
    )  # fmt: skip
    assert_reads(tmp_path / "a.tif", np.full((8, 8, 3), (254, 0, 0)), tolerance=2)


def ycbcr_tiff(path: Path, across: int, down: int, limits: tuple, tags: dict) -> np.ndarray:
    """Write YCbCr block by block, as the specification has it; return the RGB it stands for."""
    rng = np.random.default_rng(across + 4 * down)
    height, width = 13, 19
    luma = rng.integers(60, 180, (height, width))
    tall, wide = -(-height // down), -(-width // across)
    chroma = rng.integers(108, 148, (2, tall, wide))
    padded = np.pad(luma, ((0, tall * down - height), (0, wide * across - width)))
    none, full = np.array(limits[::2]), np.array(limits[1::2])
    data, colours = bytearray(), np.empty((height, width, 3))
    for row in range(tall):
        for column in range(wide):
            for y in range(row * down, (row + 1) * down):
                data += bytes(padded[y, column * across : (column + 1) * across].tolist())
            data += bytes(chroma[:, row, column].tolist())
    for y in range(height):
        for x in range(width):
            stored = np.array([luma[y, x], *chroma[:, y // down, x // across]])
            light, blue, red = (stored - none) / (full - none) * [255, 127, 127]
            colours[y, x] = (
                light + 1.402 * red, light - 0.344136 * blue - 0.714136 * red, light + 1.772 * blue
            )  # fmt: skip
    raw_tiff(
        path, width, height, bytes(data),
        {258: (3, [8] * 3), 262: (3, [6]), 277: (3, [3]), 530: (3, [across, down]), **tags},
    )  # fmt: skip
    return np.clip(np.rint(colours), 0, 255)


@pytest.mark.parametrize("across", [1, 2, 4])
@pytest.mark.parametrize("down", [1, 2, 4])
@pytest.mark.parametrize("limits", [(0, 255, 128, 255, 128, 255), (16, 235, 128, 240, 128, 240)])
def test_plain_ycbcr_of_shared_chroma(across, down, limits, tmp_path):
    tags = {} if limits[0] == 0 else {532: (3, list(limits))}
    expected = ycbcr_tiff(tmp_path / "a.tif", across, down, limits, tags)
    assert_reads(tmp_path / "a.tif", expected, tolerance=3)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({530: (3, [3, 1])}, "chroma subsampling 3 × 1; 1, 2 and 4 are supported"),
        ({530: (3, [4, 2])}, "more samples than chroma subsampling 4 × 2"),
        ({530: (3, [1, 1])}, "strips or tiles are too short"),
        ({529: (12, [0.2126, 0.7152, 0.0722])}, "luma coefficients other than"),
        ({532: (3, [9, 9, 128, 255, 128, 255])}, "ReferenceBlackWhite"),
        ({266: (3, [2])}, "FillOrder"),
    ],
)
def test_plain_ycbcr_that_is_not_read(tags, reason, tmp_path):
    ycbcr_tiff(tmp_path / "a.tif", 2, 1, (0, 255, 128, 255, 128, 255), tags)
    assert_refused(tmp_path / "a.tif", reason)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({262: (3, [4])}, "mask"),
        ({262: (3, [32803])}, "CFA"),
        ({262: (3, [34892])}, "LinearRaw"),
        ({262: (3, [32844])}, "interpretation LOGL"),
        ({262: (3, [777])}, "interpretation 777"),
        ({262: (3, [3])}, "palette that does not fit"),
        ({262: (3, [2])}, "1 samples per pixel, too few for RGB"),
        ({262: (3, [5]), 277: (3, [4]), 332: (3, [2])}, "inks other than CMYK"),
        ({259: (3, [32909])}, "compression PIXARLOG"),
        ({259: (3, [34661])}, "compression JBIG"),
        ({259: (3, [999])}, "compression 999"),
        ({339: (3, [6])}, "8 bits in the format|complex"),
        ({50706: (4, [1])}, "raw camera data"),
        ({32997: (4, [3])}, "volume of 3 slices"),
        ({279: (4, [0])}, "missing"),
        ({273: (4, [10**6])}, "missing"),
        ({259: (3, [8]), 279: (4, [10**6])}, "beyond the end of the file"),
        ({277: (3, [3]), 262: (3, [2]), 258: (3, [5, 6, 5])}, "different depths"),
        ({322: (4, [2**31]), 323: (4, [2**31]), 324: (4, [8]), 325: (4, [64])}, "tiles of"),
        ({256: (4, [0])}, "without pixels"),
        ({256: (4, [10**5]), 257: (4, [10**5])}, "100000 × 100000 pixels; at most"),
    ],
)
def test_layouts_that_are_refused_by_name(tags, reason, tmp_path):
    base = {258: (3, [8]), 262: (3, [1]), 277: (3, [1])}
    raw_tiff(tmp_path / "a.tif", 8, 8, bytes(64 * 3), {**base, **tags})
    assert_refused(tmp_path / "a.tif", reason)


def test_an_invalid_header_is_reported_in_plain_words(tmp_path):
    tags = {258: (3, [8] * 4), 262: (3, [2]), 277: (3, [4]), 339: (3, [1, 1, 1, 2])}
    raw_tiff(tmp_path / "a.tif", 4, 4, bytes(64), tags)
    assert_refused(tmp_path / "a.tif", "samples differ in type")
    Image.fromarray(G > 99).save(tmp_path / "a.tif", compression="group3")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:8])
    assert_refused(tmp_path / "a.tif", r"a tag is missing|TIFF: [a-zA-Z ]{6}")


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_numbers_are_refused(dtype, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 5), dtype))
    assert_refused(tmp_path / "a.tif", "complex")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_orientation_of_tiff(orientation, dtype, tmp_path):
    upright = RGB[:24, :200:5]
    turned = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright), 7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    stored = (turned.astype("u4") * (WHITES[dtype] // 255)).astype(dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb",
        extratags=[(274, 3, 1, orientation, True)],
    )  # fmt: skip
    assert_reads(tmp_path / "a.tif", upright)


def test_of_several_pages_the_first_is_taken(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in (RGB, RGB[::2], 255 - RGB):
            writer.write(page, photometric="rgb")
    assert_reads(tmp_path / "a.tif", RGB)
    assert examine_image(tmp_path / "a.tif", LIMIT, "auto").frames == 3


def test_a_preview_before_the_picture_is_not_the_picture(tmp_path):
    for tag in ({"subfiletype": 1}, {"extratags": [(255, 3, 1, 2, True)]}):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(255 - RGB[::4, ::4], photometric="rgb", **tag)
            writer.write(RGB, photometric="rgb")
        assert_reads(tmp_path / "a.tif", RGB)
        assert examine_image(tmp_path / "a.tif", LIMIT, "auto").frames == 1
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(RGB, photometric="rgb", subfiletype=1)  # and nothing else
    assert_reads(tmp_path / "a.tif", RGB)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["rgb", "ycbcr"])
def test_the_mask_of_gdal_says_what_is_there(kind, orientation, tmp_path):
    inside = (G > 90) & (G[::-1] < 200)
    stored = RGB
    if kind == "ycbcr":
        stored = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        tags = [(274, 3, 1, orientation, True)]
        more = {"subsampling": (1, 1)} if kind == "ycbcr" else {}
        writer.write(stored, photometric=kind, extratags=tags, **more)
        writer.write(inside[::2, ::2], photometric="mask", subfiletype=5)
        writer.write(inside, photometric="mask", subfiletype=4, compression="zlib")
        writer.write(RGB[::2, ::2], photometric="rgb", subfiletype=1)
    expected = np.where(inside[..., None], RGB, 255).astype("u1")
    if orientation == 6:
        expected = np.rot90(expected, -1)
    assert_reads(tmp_path / "a.tif", expected, tolerance=4 * (kind == "ycbcr"))
    assert examine_image(tmp_path / "a.tif", LIMIT, "auto").frames == 1


def test_a_mask_that_is_cut_off_is_named(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(G > 90, photometric="mask", subfiletype=4, compression="zlib")
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[:-9])
    assert_refused(tmp_path / "a.tif", "TIFF with a mask page that is damaged or truncated")


@pytest.mark.parametrize("tag", [254, 256, 258, 259, 262, 274, 277, 284, 339, 42113])
def test_a_tag_of_another_type_is_refused_or_read_but_never_a_crash(tag, tmp_path):
    for values in ((3, [1, 2, 3]), (2, b"A\0"), (4, [2**31]), (12, [0.5]), (3, [])):
        base = {258: (3, [8]), 262: (3, [1]), 277: (3, [1]), tag: values}
        raw_tiff(tmp_path / "a.tif", 8, 8, bytes(64), base)
        try:
            open_image(tmp_path / "a.tif", LIMIT)
        except ImageError:
            continue


def test_a_jpeg_that_is_larger_than_its_strip_is_not_decoded(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", compression="jpeg")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    start = content.find(b"\xff\xc0")
    assert jpeg_size(bytes(content[content.find(b"\xff\xd8") :])) == (64, 256)
    content[start + 5 : start + 9] = struct.pack(">HH", 65000, 65000)
    (tmp_path / "a.tif").write_bytes(content)
    assert_refused(tmp_path / "a.tif", "JPEG of 65000 × 65000 pixels in a smaller strip or tile")


PARTS = {
    "JPEG 2000": (34712, imagecodecs.jpeg2k_encode),
    "LERC": (34887, imagecodecs.lerc_encode),
    "WebP": (50001, imagecodecs.webp_encode),
}


@pytest.mark.parametrize("name", list(PARTS))
def test_a_part_that_is_larger_than_its_place_is_not_decoded(name, tmp_path):
    number, encode = PARTS[name]
    stored = np.zeros((90, 100, 3) if name == "WebP" else (90, 100), np.uint8)
    channels = stored[0, 0].size
    tags = {
        258: (3, [8] * channels), 262: (3, [2 if channels == 3 else 1]), 277: (3, [channels]),
        259: (3, [number]),
    }  # fmt: skip
    raw_tiff(tmp_path / "a.tif", 100, 90, bytes(encode(stored)), tags)
    assert_reads(tmp_path / "a.tif", np.zeros((90, 100, 3)))
    raw_tiff(tmp_path / "a.tif", 64, 64, bytes(encode(stored)), tags)
    assert_refused(tmp_path / "a.tif", f"{name} of 100 × 90 pixels in a smaller strip or tile")


@pytest.mark.parametrize(
    ("number", "content", "reason"),
    [
        (
            34712,
            imagecodecs.jpeg2k_encode(np.full((8, 8), 40_000, np.uint16)),
            "are uint16",
        ),
        (34887, imagecodecs.lerc_encode(np.full((8, 8), 300.5, np.float32)), "64 samples of float"),
        (7, imagecodecs.jpeg_encode(np.full((8, 8), 200, np.uint8))[:-2], "truncated JPEG"),
    ],
)
def test_parts_that_are_not_what_the_page_says(number, content, reason, tmp_path):
    tags = {258: (3, [8]), 262: (3, [1]), 277: (3, [1]), 259: (3, [number])}
    raw_tiff(tmp_path / "a.tif", 8, 8, bytes(content), tags)
    assert_refused(tmp_path / "a.tif", reason)


def test_what_lerc_masks_is_no_number(tmp_path):
    inside = np.ones((8, 8), bool)
    inside[:2] = False
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    tags = {258: (3, [32]), 339: (3, [3]), 262: (3, [1]), 277: (3, [1]), 259: (3, [34887])}
    content = bytes(imagecodecs.lerc_encode(values, masks=inside))
    raw_tiff(tmp_path / "a.tif", 8, 8, content, tags)
    assert_refused(tmp_path / "a.tif", "not finite")
    raw_tiff(tmp_path / "a.tif", 8, 8, content, {**tags, 42113: (2, b"nan\0")})
    expected = np.where(inside, np.rint(values * 255), 255)
    assert_reads(tmp_path / "a.tif", np.dstack([expected] * 3))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits", "lerc", "jpeg"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_a_damaged_tiff_is_refused_or_read_but_never_a_crash(compression, tile, tmp_path):
    noise = np.random.default_rng(0)
    stored = noise.integers(0, 256, (64, 256, 3), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", compression=compression, tile=tile
    )
    whole = (tmp_path / "a.tif").read_bytes()
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        with pytest.raises(ImageError):
            open_image(whole[: int(len(whole) * share)], LIMIT)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in noise.integers(0, len(whole), 8):
            damaged[place] = noise.integers(0, 256)
        try:
            open_image(bytes(damaged), LIMIT)
        except ImageError:
            continue


# ---- PNG -------------------------------------------------------------------------------------

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2)]  # fmt: skip


def write_png(
    path: Path, samples: np.ndarray, bits: int, kind: int, chunks=(), interlaced=False, after=()
) -> None:
    """A PNG of any depth and colour type, row filters none; samples [height, width, channels]."""

    def rows(part: np.ndarray) -> bytes:
        if not part.size:
            return b""
        if bits == 16:
            lines = [row.astype(">u2").tobytes() for row in part]
        else:
            lines = [pack(row.reshape(1, -1).astype(np.int64), bits) for row in part]
        return b"".join(b"\0" + line for line in lines)

    parts = [(0, 0, 1, 1)] if not interlaced else PASSES
    data = b"".join(rows(samples[y::down, x::right]) for x, y, right, down in parts)
    header = struct.pack(
        ">IIBBBBB", samples.shape[1], samples.shape[0], bits, kind, 0, 0, int(interlaced)
    )
    contents = b"\x89PNG\r\n\x1a\n"
    order = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(data)), *after, (b"IEND", b"")]
    for name, content in order:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        contents += struct.pack(">I", len(content)) + name + content + checksum
    path.write_bytes(contents)


DEPTHS = [(kind, bits) for kind, depths in
          {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items()
          for bits in depths]  # fmt: skip


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "bits"), DEPTHS)
def test_every_layout_of_png(kind, bits, interlaced, transparent, tmp_path):
    if transparent and kind in (4, 6):
        pytest.skip("opacity is a channel already")
    white, noise = 2**bits - 1, np.random.default_rng(kind + bits)
    samples = noise.integers(0, white + 1, (13, 17, CHANNELS[kind]))
    samples[0, :2], samples[1, 0] = white, samples[5, 5]
    samples[2:4, 3:6] = samples[5, 5]
    chunks = []
    if kind == 3:
        palette = noise.integers(0, 256, (white + 1, 3))
        chunks.append((b"PLTE", palette.astype("u1").tobytes()))
        expected = palette[samples[..., 0]].astype(float)
        if transparent:
            opacity = noise.integers(0, 256, white + 1)
            chunks.append((b"tRNS", opacity.astype("u1").tobytes()))
            expected = on_white(expected, opacity[samples[..., 0]] / 255)
    else:
        count = 3 if kind in (2, 6) else 1
        expected = np.rint(samples[..., :count] * 255 / white)
        if kind in (4, 6):
            exact = samples[..., :count] * 255 / white
            expected = on_white(exact, samples[..., count] / white)
        if transparent:
            key = samples[5, 5]
            chunks.append((b"tRNS", key.astype(">u2").tobytes()))
            expected[(samples == key).all(axis=-1)] = 255
    write_png(tmp_path / "a.png", samples, bits, kind, chunks, interlaced)
    tolerance = 1 if kind in (4, 6) or (kind == 3 and transparent) else 0
    assert_reads(tmp_path / "a.png", np.broadcast_to(expected, (13, 17, 3)), tolerance)


def test_the_transparent_colour_does_not_count_for_the_depth(tmp_path):
    samples = (G[..., None].astype("u2") * 16).astype(np.int64)
    samples[:9] = 65535
    write_png(tmp_path / "a.png", samples, 16, 0, [(b"tRNS", b"\xff\xff")])
    expected = GREY.astype(float) * 16 * 255 / 4095
    expected[:9] = 255
    assert_reads(tmp_path / "a.png", np.rint(expected))


@pytest.mark.parametrize("where", ["chunks", "after"])
def test_the_orientation_of_a_png_wherever_it_stands(where, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    samples = np.rot90(RGB[:20, :33]).astype(np.int64)
    write_png(tmp_path / "a.png", samples, 8, 2, **{where: [(b"eXIf", content)]})
    assert image_size(tmp_path / "a.png", LIMIT) == (20, 33)
    assert_reads(tmp_path / "a.png", RGB[:20, :33])


def test_a_damaged_png_of_sixteen_bits(tmp_path):
    noise = np.random.default_rng(0)
    write_png(tmp_path / "a.png", noise.integers(0, 65536, (40, 50, 3)), 16, 2)
    whole = (tmp_path / "a.png").read_bytes()
    for length in range(34, len(whole) - 16, 997):
        with pytest.raises(ImageError):
            open_image(whole[:length], LIMIT)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[noise.integers(34, len(whole) - 16)] ^= 1 << noise.integers(0, 8)
        with pytest.raises(ImageError):
            open_image(bytes(damaged), LIMIT)


@pytest.mark.parametrize(("kind", "bits"), [(0, 1), (2, 8), (3, 4), (6, 16)])
def test_a_png_is_refused_where_pixels_or_their_checksum_are_wrong(kind, bits, tmp_path):
    samples = np.random.default_rng(0).integers(0, 2**bits, (9, 8, CHANNELS[kind]))
    palette = [(b"PLTE", bytes(3 * 2**bits))] if kind == 3 else []
    path = tmp_path / "a.png"
    write_png(path, samples, bits, kind, palette)
    whole = path.read_bytes()
    open_image(whole, LIMIT)
    place = whole.find(b"IDAT")
    length = int.from_bytes(whole[place - 4 : place], "big")
    checksum = place + 4 + length
    damaged = whole[:checksum] + bytes([whole[checksum] ^ 1]) + whole[checksum + 1 :]
    with pytest.raises(ImageError, match="CRC"):
        open_image(damaged, LIMIT)
    taller = whole[:20] + struct.pack(">I", 10) + whole[24:29]
    taller += struct.pack(">I", zlib.crc32(taller[12:])) + whole[33:]
    with pytest.raises(ImageError, match="Not enough image data"):
        open_image(taller, LIMIT)
    with pytest.raises(ImageError, match="PNG without pixels"):
        open_image(whole[: place - 4] + whole[checksum + 4 :], LIMIT)
    if kind == 3:
        with pytest.raises(ImageError, match="PNG without palette"):
            open_image(whole[:33] + whole[place - 4 :], LIMIT)


@pytest.mark.parametrize("kind", [0, 2])
@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21))),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2**21))),
        (b"iCCP", b"a\0\0" + zlib.compress(bytes(2**21))),
    ],
    ids=["text", "XMP", "profile"],
)
def test_a_long_text_or_profile_of_a_png_does_not_cost_the_picture(kind, chunk, tmp_path):
    samples = (RGB if kind == 2 else G[..., None]).astype(np.int64)
    exif = Image.Exif()
    exif[0x112] = 3
    chunks = [chunk, (b"eXIf", exif.tobytes()[6:])]
    write_png(tmp_path / "a.png", samples, 8, kind, chunks)
    assert_reads(tmp_path / "a.png", (RGB if kind == 2 else GREY)[::-1, ::-1])
    ids = read_label(LabelFile(tmp_path / "a.png"), G.shape) if kind == 0 else None
    assert ids is None or ids.tolist() == G[::-1, ::-1].tolist()


XMP = b"XML:com.adobe.xmp"
OF_XMP = b'<x tiff:Orientation="3"/>'
LONG = b" " * 2**21
MAGICK = b"Raw profile type exif"


def of_magick() -> bytes:
    """EXIF as ImageMagick writes it into a text: three lines of a header, then in hexadecimals."""
    exif = Image.Exif()
    exif[0x112] = 3
    return b"\nexif\n  64\n" + exif.tobytes().hex().encode()


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"iTXt", XMP + bytes(5) + OF_XMP), (b"zTXt", b"a\0\0" + zlib.compress(LONG))],
        [(b"iTXt", XMP + b"\0\1\0\0\0" + zlib.compress(OF_XMP + LONG))],
        [(b"iTXt", XMP + bytes(5) + LONG + OF_XMP)],
        [(b"tEXt", MAGICK + b"\0" + of_magick()), (b"zTXt", b"a\0\0" + zlib.compress(LONG))],
        [(b"zTXt", MAGICK + b"\0\0" + zlib.compress(of_magick())), (b"tEXt", b"a\0" + LONG)],
        [*[(b"tEXt", b"%d\0" % n + LONG[: 2**20]) for n in range(70)],
         (b"iTXt", XMP + bytes(5) + OF_XMP)],
    ],
    ids=["beside XMP", "in long XMP", "at its end", "beside EXIF", "packed EXIF", "many texts"],
)  # fmt: skip
def test_the_orientation_beside_long_texts_of_a_png_is_kept(chunks, tmp_path):
    write_png(tmp_path / "a.png", RGB.astype(np.int64), 8, 2, chunks)
    assert_reads(tmp_path / "a.png", RGB[::-1, ::-1])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_colour_that_the_palette_of_a_png_lacks_is_named(bits, tmp_path):
    palette = [(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]))]
    samples = np.array([[0, 1, 2, 1]])[..., None]
    write_png(tmp_path / "a.png", samples, bits, 3, palette)
    assert_reads(tmp_path / "a.png", np.eye(3)[samples[..., 0]] * 255)
    write_png(tmp_path / "a.png", samples + 1, bits, 3, palette)
    assert_refused(tmp_path / "a.png", "palette has no colour 3")


@pytest.mark.parametrize(
    ("name", "reason"),
    [(b"CgBI", "CgBI variant"), (b"ABCD", r"critical chunk \(ABCD\)")],
)
def test_parts_of_a_png_that_change_its_meaning_are_named(name, reason, tmp_path):
    write_png(tmp_path / "a.png", RGB.astype(np.int64), 8, 2, [(name, b"1234")])
    assert_refused(tmp_path / "a.png", reason)


def test_damaged_pixels_are_not_hidden_by_the_search_for_an_orientation(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    whole = bytearray((tmp_path / "a.png").read_bytes())
    whole[len(whole) // 2] ^= 255
    assert_refused_bytes(bytes(whole))


def assert_refused_bytes(content: bytes) -> None:
    with pytest.raises(ImageError):
        open_image(content, LIMIT)


# ---- others ----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("largest", [100, 255, 1000, 1023, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_netpbm_is_scaled_by_what_it_declares(channels, largest, plain, tmp_path):
    stored = np.rint(RGB[:3, :, :channels] / 255.0 * largest).astype(np.int64)
    mark = {(1, False): "P5", (3, False): "P6", (1, True): "P2", (3, True): "P3"}[channels, plain]
    head = f"{mark}\n# noted\n256 3\n{largest}\n".encode()
    body = stored.astype(">u2" if largest > 255 else "u1").tobytes()
    text = "\n".join(" ".join(map(str, row.ravel())) for row in stored).encode()
    (tmp_path / "a.ppm").write_bytes(head + (text if plain else body))
    expected = np.rint(stored * 255 / largest)
    assert_reads(tmp_path / "a.ppm", np.broadcast_to(expected, (3, 256, 3)), tolerance=1)
    if largest == 4095 and not plain:  # declared, so that what is dark stays dark
        (tmp_path / "a.ppm").write_bytes(head + (stored // 64).astype(">u2").tobytes())
        assert open_image(tmp_path / "a.ppm", LIMIT).max() == 4
        (tmp_path / "a.ppm").write_bytes((head + body)[:-1])
        assert_refused(tmp_path / "a.ppm", "truncated")


def test_pfm(tmp_path):
    grey = np.linspace(0, 1, 60, dtype="<f4").reshape(6, 10)
    (tmp_path / "a.pfm").write_bytes(b"Pf\n10 6\n-1.0\n" + grey[::-1].tobytes())
    assert_reads(tmp_path / "a.pfm", np.dstack([np.rint(grey * 255)] * 3))


def test_pfm_of_three_colours(tmp_path):
    for order, scale in (("<", "-1.0"), (">", "2.5e0")):
        content = (RGB[::-1] / 255).astype(f"{order}f4").tobytes()
        (tmp_path / "a.pfm").write_bytes(f"PF\n256 64\n{scale}\n".encode() + content)
        assert_reads(tmp_path / "a.pfm", RGB)
    (tmp_path / "a.pfm").write_bytes(b"PF\n256 64\n-1\n" + content[:-1])
    assert_refused(tmp_path / "a.pfm", "ends within the pixel data")


@pytest.mark.parametrize("largest", [1, 15, 255, 1000, 65535])
@pytest.mark.parametrize("kind", ["GRAYSCALE", "RGB", "GRAYSCALE_ALPHA", "RGB_ALPHA"])
def test_pam(kind, largest, tmp_path):
    colors = RGB if kind.startswith("RGB") else G[..., None]
    stored = np.dstack([colors, G[:, ::-1]]) if kind.endswith("ALPHA") else colors
    stored = np.rint(stored / 255 * largest).astype(">u2" if largest > 255 else "u1")
    header = (
        f"P7\n# made by hand\nWIDTH 256\nHEIGHT 64\nDEPTH {stored.shape[2]}\nMAXVAL {largest}\n"
    )
    start = header + f"TUPLTYPE {kind}\nENDHDR\n"
    (tmp_path / "a.pam").write_bytes(start.encode() + stored.tobytes())
    expected = stored[..., : colors.shape[2]] / largest * 255
    if kind.endswith("ALPHA"):
        expected = on_white(expected, stored[..., -1] / largest)
    expected = np.rint(np.broadcast_to(expected, (64, 256, 3)))
    assert_reads(tmp_path / "a.pam", expected, tolerance=1)
    for wrong, reason in (("CMYK", "tuple type 'CMYK'"), ("RGB_ALPHA_X", "tuple type")):
        (tmp_path / "a.pam").write_bytes(start.replace(kind, wrong).encode() + stored.tobytes())
        assert_refused(tmp_path / "a.pam", reason)
    (tmp_path / "a.pam").write_bytes(header.encode())
    assert_refused(tmp_path / "a.pam", "PAM with an incomplete header")


@pytest.mark.parametrize("bits", [9, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("container", ["jp2", "j2k"])
def test_deep_jpeg2000(bits, channels, container, tmp_path):
    import imagecodecs

    eight = np.dstack([RGB, np.full_like(G, 255)])[:40, :60, :channels]
    eight[0, 0] = 255  # or sixteen bits would be taken for fewer
    stored = np.rint(eight.astype(float) / 255 * (2**bits - 1)).astype("u2")
    (tmp_path / f"a.{container}").write_bytes(
        imagecodecs.jpeg2k_encode(
            stored if channels > 1 else stored[..., 0], level=0, bitspersample=bits,
            codecformat=container, reversible=True,
        )
    )  # fmt: skip
    expected = np.broadcast_to(eight[..., :1], (40, 60, 3)) if channels == 1 else eight[..., :3]
    assert_reads(tmp_path / f"a.{container}", expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg2000_of_few_bits(bits, channels, tmp_path):
    import imagecodecs

    stored = (RGB[:40, :256] >> (8 - bits))[..., :channels].squeeze()
    (tmp_path / "a.jp2").write_bytes(
        imagecodecs.jpeg2k_encode(stored, level=0, bitspersample=bits, reversible=True)
    )
    expected = np.rint(stored * (255 / (2**bits - 1)))
    expected = expected if channels == 3 else np.dstack([expected] * 3)
    assert_reads(tmp_path / "a.jp2", expected)


@pytest.mark.parametrize(
    ("top", "right"), [(False, False), (False, True), (True, False), (True, True)]
)
@pytest.mark.parametrize("depth", [24, 32])
def test_tga_in_every_orientation(top, right, depth, tmp_path):
    picture = RGB[:20, :33]
    stored = picture[:: 1 if top else -1, :: -1 if right else 1, ::-1]
    flags = 0x20 * top + 0x10 * right
    if depth == 32:
        stored = np.dstack([stored, np.zeros(stored.shape[:2], "u1")])  # no opacity is declared
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 33, 20, depth, flags)
    (tmp_path / "a.tga").write_bytes(header + stored.tobytes())
    assert_reads(tmp_path / "a.tga", picture)
    if depth == 32:
        stored[..., 3] = 255
        stored[0, 0, 3] = 0
        header = header[:-1] + bytes([flags + 8])
        (tmp_path / "a.tga").write_bytes(header + stored.tobytes())
        found = open_image(tmp_path / "a.tga", LIMIT)
        assert (found != picture).any(axis=-1).sum() <= 1


@pytest.mark.parametrize("bit", [0, 0x8000, None])
@pytest.mark.parametrize("declared", [0, 1])
def test_the_spare_bit_of_a_tga_is_not_opacity(bit, declared, tmp_path):
    five = RGB[:20, :32] >> 3
    stored = five[..., 0].astype("<u2") << 10 | five[..., 1].astype("<u2") << 5 | five[..., 2]
    stored |= np.uint16(bit) if bit is not None else (stored & 1) << 15
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 32, 20, 16, 0x20 + declared)
    (tmp_path / "a.tga").write_bytes(header + stored.astype("<u2").tobytes())
    assert_reads(tmp_path / "a.tga", np.rint(five * (255 / 31)), tolerance=1)


def test_tga_of_grey_and_opacity(tmp_path):
    stored = np.dstack([G, G[:, ::-1]])
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 3, 0, 0, 0, 0, 0, 256, 64, 16, 0x28)
    (tmp_path / "a.tga").write_bytes(header + stored.tobytes())
    assert_reads(tmp_path / "a.tga", on_white(GREY, G[:, ::-1] / 255), tolerance=1)


@pytest.mark.parametrize("alpha", [0, 255, None])
def test_opacity_of_a_bitmap_that_is_zero_throughout_is_none(alpha, tmp_path):
    """As Windows leaves it in the clipboard; None: the opacity is in use."""
    opacity = G if alpha is None else np.full_like(G, alpha)
    header = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 122)
    header += struct.pack("<IiiHHIIiiII", 108, 256, -64, 1, 32, 3, 0, 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    (tmp_path / "a.bmp").write_bytes(header + np.dstack([RGB[..., ::-1], opacity]).tobytes())
    assert_reads(tmp_path / "a.bmp", on_white(RGB, G / 255) if alpha is None else RGB, tolerance=1)


def test_modes_of_pillow_with_transparency(tmp_path):
    half = Image.fromarray(np.dstack([RGB, np.full_like(G, 128)]))
    expected = np.rint(RGB * (128 / 255) + 255 * (127 / 255))
    for name, options in (("a.webp", {"lossless": True, "exact": True}), ("a.tiff", {}),
                          ("a.png", {}), ("a.tga", {}), ("a.avif", {"quality": 100}),
                          ("a.jp2", {})):  # fmt: skip
        half.save(tmp_path / name, **options)
        assert_reads(tmp_path / name, expected, tolerance=4 if "avif" in name else 1)


def test_cmyk_jpegs_of_adobe(tmp_path):
    inks = np.dstack([RGB, np.full_like(G, 51)])
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    expected = (255.0 - inks[..., :3]) * (255 - 51) / 255
    assert_reads(tmp_path / "a.jpg", expected, tolerance=6)


def test_the_first_frame_of_moving_pictures(tmp_path):
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True}), ("a.gif", {}),
                          ("a.avif", {}), ("a.mpo", {"quality": 98, "subsampling": 0}),
                          ("a.tiff", {})):  # fmt: skip
        frames = [Image.fromarray(picture) for picture in (RGB, 255 - RGB, RGB[::-1])]
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        picture = examine_image(tmp_path / name, LIMIT, "auto")
        assert picture.frames == 3
        assert np.abs(picture.rgb.astype(int) - RGB).mean() < 12
        assert picture.levels is None


@pytest.mark.parametrize("name", ["a.avif", "a.jfif", "a.jpe", "a.jp2", "a.dib", "a.pbm", "a.pnm"])
def test_further_formats(name, tmp_path):
    picture = Image.fromarray(RGB)
    if name.endswith("pbm"):
        picture = picture.convert("1", dither=Image.Dither.NONE)
    options = {"quality": 100} if name.endswith(("avif", "jfif", "jpe")) else {}
    picture.save(tmp_path / name, **options)
    lossy = name.endswith(("avif", "jfif", "jpe"))
    assert_reads(tmp_path / name, np.asarray(picture.convert("RGB")), tolerance=40 * lossy)


def test_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    picture = Image.fromarray(RGB)
    before = dict(Image.OPEN)
    heif.from_pillow(picture).save(tmp_path / "a.heic", quality=100, chroma=444)
    assert_reads(tmp_path / "a.heic", RGB, tolerance=12)
    assert before == dict(Image.OPEN)
    assert_refused_bytes((tmp_path / "a.heic").read_bytes()[:300])


def test_without_its_plugin_heic_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert_refused(tmp_path / "a.heic", r"pip install 'lightcluster\[heic\]'")


def test_over_how_many_levels_a_picture_spreads():
    assert span_of(GREY) == 251
    assert span_of(np.full((9, 9, 3), 7, np.uint8)) == 0
    hidden = np.zeros((64, 256), bool)
    hidden[:, 10:] = True
    assert span_of(GREY, hidden) == 9
    assert span_of(GREY, ~np.zeros((64, 256), bool)) == 0
