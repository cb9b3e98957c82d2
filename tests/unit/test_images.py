"""Image files of every kind, good and bad."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightcluster.errors import ImageError
from lightcluster.extraction.images import (
    color_map,
    image_size,
    open_image,
    patch_colors,
    prepare_image,
    target_size,
)

LIMIT = 10**6


def gradient(height: int = 20, width: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 8, columns * 8, rows * 0 + 100], axis=-1).astype(np.uint8)


def check(path: Path, expected: np.ndarray, tolerance: int = 0) -> None:
    found = open_image(path, LIMIT)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape == (*image_size(path, LIMIT), 3)
    content = path.read_bytes()
    assert image_size(content, LIMIT) == found.shape[:2]
    assert np.array_equal(open_image(content, LIMIT), found)
    assert np.abs(found.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff", "ppm", "jp2", "gif"])
def test_formats(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a b'\";\né.{suffix}"
    Image.fromarray(gradient()).save(path, **({"lossless": True} if suffix == "webp" else {}))
    check(path, gradient(), tolerance=80 if suffix == "gif" else 0)


def test_jpeg_in_colour_and_grey(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "c.jpg", quality=98, subsampling=0)
    check(tmp_path / "c.jpg", gradient(), tolerance=6)
    Image.fromarray(gradient()[:, :, 0]).save(tmp_path / "g.jpg", quality=98)
    check(tmp_path / "g.jpg", gradient()[:, :, [0, 0, 0]], tolerance=6)


def test_cmyk(tmp_path: Path) -> None:
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "c.jpg", quality=98)
    check(tmp_path / "c.jpg", gradient(), tolerance=12)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_grey(suffix: str, tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey * 257).save(tmp_path / f"g.{suffix}")
    check(tmp_path / f"g.{suffix}", np.repeat(grey[..., None], 3, axis=-1))


def write_png(path: Path, width: int, height: int, depth: int, colour: int, rows: bytes) -> None:
    """A PNG of any declared size and depth, which Pillow itself would not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    contents = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        contents += struct.pack(">I", len(data)) + kind + data + checksum
    path.write_bytes(contents)


def test_sixteen_bit_colour_png(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in gradient())
    write_png(tmp_path / "c.png", 30, 20, 16, 2, rows)
    check(tmp_path / "c.png", gradient())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 128, 255]], dtype=np.int32), [0, 128, 255]),
        (np.array([[0, 257, 65535]], dtype=np.int32), [0, 1, 255]),
        (np.array([[-100, 0, 100]], dtype=np.int32), [0, 128, 255]),
        (np.array([[0, 0.2, 1]], dtype=np.float32), [0, 51, 255]),
        (np.array([[0, 2, 254]], dtype=np.float32), [0, 2, 254]),
        (np.array([[1e6, 1e6, 1e6]], dtype=np.float32), [0, 0, 0]),
    ],
)
def test_formats_without_a_white(values: np.ndarray, expected: list[int], tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "v.tiff")
    check(tmp_path / "v.tiff", np.repeat(np.array([expected])[..., None], 3, axis=-1))


def test_not_a_number(tmp_path: Path) -> None:
    Image.fromarray(np.array([[np.nan, 1]], dtype=np.float32)).save(tmp_path / "v.tiff")
    with pytest.raises(ImageError, match="finite"):
        open_image(tmp_path / "v.tiff", LIMIT)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white(mode: str, tmp_path: Path) -> None:
    path, image = tmp_path / "a.png", Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.paste((40, 40, 40, 255), (0, 0, 2, 2))
    if mode == "P":
        palette = Image.new("P", (4, 2), 1)
        palette.putpalette([0, 0, 0, 40, 40, 40])
        palette.paste(0, (2, 0, 4, 2))
        palette.save(path, transparency=0)
    else:
        image.convert(mode).save(path)
    expected = np.full((2, 4, 3), 255)
    expected[:, :2] = 40
    check(path, expected)


def test_palette_without_transparency_and_bilevel(tmp_path: Path) -> None:
    grey = Image.fromarray(np.array([[0, 255, 0]], dtype=np.uint8))
    grey.convert("P").save(tmp_path / "p.png")
    grey.convert("1").save(tmp_path / "1.png")
    for name in ("p.png", "1.png"):
        check(tmp_path / name, np.array([[[0] * 3, [255] * 3, [0] * 3]]))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, suffix: str, tmp_path: Path) -> None:
    upright = Image.fromarray(gradient(24, 32))
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.rotate(180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.rotate(90, expand=True),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.rotate(-90, expand=True),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98, "subsampling": 0} if suffix == "jpg" else {}
    stored.save(tmp_path / f"o.{suffix}", exif=exif, **options)
    check(tmp_path / f"o.{suffix}", np.asarray(upright), tolerance=6 if suffix == "jpg" else 0)


def test_broken_exif_is_no_obstacle(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "e.jpg", quality=98, exif=b"Exif\0\0II*\0\xff\xff")
    check(tmp_path / "e.jpg", gradient(), tolerance=12)


def test_damaged_files(tmp_path: Path) -> None:
    for suffix in ("jpg", "png", "webp", "tiff"):
        path = tmp_path / f"t.{suffix}"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ImageError, match=r"damaged|not an image"):
            open_image(path, LIMIT)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("I am a photograph")
    (tmp_path / "code.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe.jpg").symlink_to("pipe")  # opening it would wait for ever
    for name, reason in (
        ("empty.jpg", "empty"),
        ("text.jpg", "not an image"),
        ("code.jpg", "not an image"),
        ("folder.jpg", "not an image"),
        ("pipe.jpg", "not an image"),
        ("absent.jpg", "does not exist"),
    ):
        for read in (open_image, image_size):
            with pytest.raises(ImageError, match=reason):
                read(tmp_path / name, LIMIT)


def test_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    write_png(path, 60000, 50000, 8, 2, bytes(10**6))
    for read in (open_image, image_size):
        with pytest.raises(ImageError, match="60000 × 50000 pixels; at most 1000000"):
            read(path, LIMIT)


def test_a_large_image_within_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (12000, 9000), (200, 30, 60)).save(path)
    assert image_size(path, 108_000_000) == (9000, 12000)
    rgb = open_image(path, 108_000_000, draft_size=(448, 592))
    assert rgb.shape == (1125, 1500, 3)
    assert np.abs(rgb.astype(int) - (200, 30, 60)).max() < 3


def test_draft_of_a_rotated_image_and_of_small_ones(tmp_path: Path) -> None:
    path, exif = tmp_path / "d.jpg", Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(gradient(64, 512))
    stored.save(path, exif=exif)
    assert image_size(path, LIMIT) == (512, 64)
    assert open_image(path, LIMIT, draft_size=(64, 8)).shape == (128, 16, 3)
    assert open_image(path, LIMIT, draft_size=(128, 32)).shape == (512, 64, 3)
    assert open_image(path, LIMIT).shape == (512, 64, 3)


@given(
    height=st.integers(1, 20000),
    width=st.integers(1, 20000),
    short_side=st.integers(1, 1000),
    patch=st.sampled_from([8, 14, 16]),
    slack=st.integers(0, 3000),
)
def test_target_size(height: int, width: int, short_side: int, patch: int, slack: int) -> None:
    side = max(1, (short_side + patch // 2) // patch)
    max_tokens = side * side + slack
    rows, columns = (
        size / patch for size in target_size(height, width, short_side, patch, max_tokens)
    )
    assert rows == int(rows)
    assert columns == int(columns)
    assert rows * columns <= max_tokens
    assert min(rows, columns) == side
    assert (rows <= columns) == (height <= width) or rows == columns
    if (max(rows, columns) + 1) * side <= max_tokens:  # not bounded
        aspect = max(height, width) / min(height, width)
        assert abs(max(rows, columns) - side * aspect) <= 0.5 + 1e-9


def test_target_size_of_known_cases() -> None:
    assert target_size(480, 640, 448, 16, 4096) == (448, 592)
    assert target_size(640, 480, 448, 14, 4096) == (602, 448)
    assert target_size(1, 1, 448, 16, 4096) == (448, 448)
    assert target_size(1, 5000, 448, 16, 4096) == (448, 146 * 16)
    with pytest.raises(ValueError, match="at least 784"):
        target_size(480, 640, 448, 16, 500)


def test_prepare_image() -> None:
    rgb, mean, std = gradient(32, 48), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    same = prepare_image(rgb, (32, 48), mean, std)
    assert same.dtype == np.float32
    assert np.allclose(same, ((rgb / 255 - mean) / std).transpose(2, 0, 1), atol=1e-5)
    half = prepare_image(rgb, (16, 24), mean, std)
    resized = np.asarray(Image.fromarray(rgb).resize((24, 16), Image.Resampling.BICUBIC))
    assert np.allclose(half, ((resized / 255 - mean) / std).transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("patch", [8, 14])
def test_patch_colors(patch: int) -> None:
    grid = (3, 4)
    rgb = np.random.default_rng(0).integers(0, 256, (3 * patch, 4 * patch, 3), np.uint8)
    found = patch_colors(rgb, grid)
    assert found.shape == (12, 4, 3)
    assert found.dtype == np.uint8
    fine = rgb.repeat(2, axis=0).repeat(2, axis=1).astype(float)  # quarters are whole pixels
    for index, quarters in enumerate(found):
        row, column = divmod(index, 4)
        for quarter, color in enumerate(quarters):
            top, left = row * 2 + quarter // 2, column * 2 + quarter % 2
            block = fine[top * patch : (top + 1) * patch, left * patch : (left + 1) * patch]
            np.testing.assert_allclose(color, block.mean(axis=(0, 1)), atol=1.01)
    small = color_map(found, grid)
    assert small.shape == (6, 8, 3)
    np.testing.assert_array_equal(small[4, 5], found[2 * 4 + 2, 1])
