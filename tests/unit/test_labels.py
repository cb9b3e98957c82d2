"""Label maps and classes.csv."""

from __future__ import annotations

import csv
import io
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from builders import quick
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw, ImageOps

from lightcluster.config import parse_config
from lightcluster.datasets.entries import LabelFile
from lightcluster.datasets.labels import (
    IGNORED,
    Classes,
    background_index,
    read_classes,
    read_label,
    to_indices,
    write_classes,
)
from lightcluster.errors import ConfigError, DatasetError, ImageError

THREE = Classes((0, 5, 9), ("ground", "cat", "dog"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "classes.csv"


# ---- classes.csv ---------------------------------------------------------------------------------


def test_classes_are_read_in_the_order_of_their_ids(table):
    table.write_text("id,name\n9,dog\n0,ground\n5,cat\n")
    assert read_classes(table) == THREE


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffid,name\n0,ground\n5,cat\n9,dog\n",
        "id,name\r\n0,ground\r\n5,cat\r\n9,dog\r\n",
        "name,colour,id\nground,red,0\ncat,,5\ndog,blue,9\n",
        "id,name\n 0 , ground \n\n05,cat\n9,dog",
        'id,name\n"0","ground"\n"5","cat"\n"9","dog"\n',
        "id, name\n0, ground\n5, cat\n9, dog\n",
        ' id , "name"\n0, "ground"\n5, "cat"\n9, "dog"\n',
        "id;name\n0;ground\n5;cat\n9;dog\n",
        "\ufeffid; name\r\n0; ground\r\n5;cat\r\n9;dog\r\n\r\n\r\n",
        "id\tname\n0\tground\n5\tcat\n9\tdog",
        "name\tid\nground\t0\n\ncat\t5\ndog\t9\n\t\n",
        "\n\nid,name,\n0,ground,\n5,cat,\n9,dog,\n,,\n",
        "id,name\r0,ground\r5,cat\r9,dog\r",
    ],
    ids=[
        "byte order mark", "carriage returns", "other columns", "spaces", "quotes",
        "a space after the comma", "spaces and quotes", "semicolons", "semicolons of a spreadsheet",
        "tabs", "tabs and empty lines", "empty lines and columns", "carriage returns alone",
    ],
)  # fmt: skip
def test_classes_are_read_from_tables_of_other_programs(table, text):
    table.write_bytes(text.encode())
    assert read_classes(table) == THREE


def test_a_name_may_hold_any_letter_or_space(table):
    table.write_text("id,name\n0,traffic\u00a0light\n5,Käse 🧀\n", encoding="utf-8")
    assert read_classes(table).names == ("traffic\u00a0light", "Käse 🧀")


def test_a_class_without_a_name_is_called_by_its_id(table):
    table.write_text("id,name\n3,\n4\n")
    assert read_classes(table).names == ("class 3", "class 4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a header line `id,name` and a line for each class"),
        ("id,name\n", "needs a header line `id,name` and a line for each class"),
        ("0,ground\n1,cat\n", "needs a header line `id,name`"),
        ("id|name\n0|ground\n", "instead of commas); its first line is 'id|name'"),
        ("id name\n0 ground\n", "its first line is 'id name'"),
        ("\nid,id,name\n0,0,ground\n", "its first line is 'id,id,name'"),
        ("id;name,\n0;ground\n", "its first line is 'id;name,'"),
        ("id;name\n0;a\n0;b\n", "line 3: id 0 is repeated"),
        ("id,name\n0;ground\n", "line 2: id '0;ground' is not an integer"),
        ("id,name\n0,ground\n1,sea, lake\n", "line 3: has 3 values, the header 2; put names"),
        ("id\tname\n0\tground\tx\n", "line 2: has 3 values, the header 2"),
        (f"id,name\n{'9' * 5000},a\n", "line 2: id '999"),
        ("ID,Name\n0,ground\n", "needs a header line `id,name`"),
        ("id,name\n0,a\nx,b\n", "line 3: id 'x' is not an integer from 0 to 65535"),
        ("id,name\n-1,a\n", "line 2: id '-1' is not an integer"),
        ("id,name\n1.0,a\n", "line 2: id '1.0' is not an integer"),
        ("id,name\n65536,a\n", "line 2: id '65536' is not an integer"),
        ("id,name\n,a\n", "line 2: id '' is not an integer"),
        ("id,name\n²,a\n", "line 2: id '²' is not an integer"),
        ("id,name\n1,a\n01,b\n", "line 3: id 01 is repeated"),
        ("id,name\n\n\n0,a\n\n0,b\n", "line 6: id 0 is repeated"),
        ('id,name\n0,"ground\n1,cat\n', r"line 3: name 'ground\n1,cat' contains a line break"),
        ("id,name\n0,a\0b\n", "another control character"),
    ],
)
def test_a_mistake_in_classes_names_the_file_and_the_line(table, text, message):
    table.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        read_classes(table)
    assert message in str(caught.value)
    assert "classes.csv" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "id,name\n0,ä\n".encode("latin-1"),
        "id,name\n".encode("utf-16"),
        b"id,name\n0," + b"x" * 200_000,
    ],
    ids=["latin-1", "utf-16", "endless field"],
)
def test_a_file_that_is_no_table_is_refused_with_its_key(table, content):
    table.write_bytes(content)
    with pytest.raises(DatasetError, match=r"dataset\.classes = .*classes\.csv': cannot be read"):
        read_classes(table)


def test_missing_classes_are_refused_with_their_key(tmp_path):
    for path in (tmp_path / "classes.csv", tmp_path):
        with pytest.raises(
            DatasetError,
            match=r"dataset\.classes = '.*': cannot be read \([NI]",  # once, and why,
        ):
            read_classes(path)


def test_a_name_may_hold_the_separator_in_quotes(table):
    for text in ('id,name\n1, "sea, lake"\n', 'id;name\n1;"sea, lake"\n', "id;name\n1;sea, lake\n"):
        table.write_text(text)
        assert read_classes(table) == Classes((1,), ("sea, lake",))


def test_classes_are_copied_as_they_are_read(table, tmp_path):
    table.write_text('\ufeffname,id\n"cat, or ""dog""",7\nground,0\n', encoding="utf-8")
    write_classes(read_classes(table), tmp_path / "below" / "copy.csv", background=0, ignore=255)
    copied = (tmp_path / "below" / "copy.csv").read_text()
    assert list(csv.reader(io.StringIO(copied))) == [
        ["id", "name"],
        ["0", "ground"],
        ["7", 'cat, or "dog"'],
    ]
    assert read_classes(tmp_path / "below" / "copy.csv") == read_classes(table)


def test_classes_without_the_background_are_not_copied(table, tmp_path):
    table.write_text("id,name\n1,cat\n2,dog\n")
    with pytest.raises(DatasetError, match=r"dataset\.background = 0: .*allowed: 1, 2, or null"):
        write_classes(read_classes(table), tmp_path / "copy.csv", background=0, ignore=255)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.csv"]


def test_the_background_is_found_by_its_id():
    assert background_index(THREE, 5) == 1
    assert background_index(THREE, 0) == 0
    assert background_index(THREE, None) is None
    with pytest.raises(DatasetError, match=r"dataset\.background = 1: .*allowed: 0, 5, 9, or null"):
        background_index(THREE, 1)


# ---- reading label maps --------------------------------------------------------------------------

IDS = np.array([[0, 1, 2], [3, 255, 7]], np.uint8)


def palette_image(ids: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids)
    image.putpalette(list(range(255, -1, -1)) * 3)
    return image


def test_the_values_of_a_grey_image_are_ids(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "label.png")
    label = read_label(LabelFile(tmp_path / "label.png"), (2, 3))
    assert label.dtype == np.uint16
    assert label.tolist() == IDS.tolist()


def test_the_indices_of_a_palette_image_are_ids_and_not_its_colours(tmp_path):
    palette_image(IDS).save(tmp_path / "label.png")
    assert read_label(LabelFile(tmp_path / "label.png"), (2, 3)).tolist() == IDS.tolist()


def test_a_palette_image_of_few_bits_is_read(tmp_path):
    palette_image(IDS % 4).save(tmp_path / "label.png", bits=2)
    assert read_label(LabelFile(tmp_path / "label.png"), (2, 3)).tolist() == (IDS % 4).tolist()


def test_a_black_and_white_image_has_the_ids_0_and_1(tmp_path):
    Image.fromarray(IDS > 2).save(tmp_path / "label.png")
    assert read_label(LabelFile(tmp_path / "label.png"), (2, 3)).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_sixteen_bits_are_read(tmp_path):
    ids = IDS.astype(np.uint16) * 257
    Image.fromarray(ids).save(tmp_path / "label.png")
    assert read_label(LabelFile(tmp_path / "label.png"), (2, 3)).tolist() == ids.tolist()


def test_32_bits_are_read_as_long_as_16_would_do(tmp_path):
    for highest, allowed in ((65_535, True), (65_536, False), (-1, False)):
        ids = np.full((2, 3), highest, np.int32)
        Image.fromarray(ids).save(tmp_path / "label.tif")
        if allowed:
            assert read_label(LabelFile(tmp_path / "label.tif"), (2, 3)).tolist() == ids.tolist()
        else:
            with pytest.raises(ImageError, match=f"ids from {highest} to {highest}; allowed: 0 to"):
                read_label(LabelFile(tmp_path / "label.tif"), (2, 3))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F", "CMYK"])
def test_a_label_of_colours_is_refused(tmp_path, mode):
    Image.new(mode, (3, 2)).save(tmp_path / "label.tif")
    with pytest.raises(ImageError, match=f"label has mode {mode}; it must have a single channel"):
        read_label(LabelFile(tmp_path / "label.tif"), (2, 3))


def test_of_colours_it_is_said_what_is_needed(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "label.png")
    with pytest.raises(ImageError, match="colours are not converted to classes, save it as a"):
        read_label(LabelFile(tmp_path / "label.png"), (2, 3))


def png(ids: np.ndarray, bits: int, *, palette: bool = False, interlaced: bool = False) -> bytes:
    """Return a PNG, packed by hand: grey or palette, 1 to 16 bits, with Adam7 or without."""
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1))  # fmt: skip
    passes = [ids[top::down, left::right] for top, left, down, right in starts]
    rows = b"".join(
        b"\0" + np.packbits([int(d) for value in row for d in f"{value:0{bits}b}"]).tobytes()
        for part in (passes if interlaced else [ids])
        for row in part.tolist()
        if row
    )

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    height, width = ids.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 3 * palette, 0, 0, interlaced)
    colours = chunk(b"PLTE", bytes(range(3 * 2 ** min(bits, 6)))) if palette else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + colours
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@quick
@given(
    st.sampled_from([(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (1, 1), (2, 1), (4, 1), (8, 1)]),
    st.booleans(),
    st.data(),
)
def test_the_stored_values_of_a_png_of_any_depth_are_ids(tmp_path_factory, kind, interlaced, data):
    bits, palette = kind
    highest = min(2**bits, 64 if palette else 2**16) - 1
    shape = hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)
    ids = data.draw(hnp.arrays(np.uint16, shape, elements=st.integers(0, highest)))
    path = tmp_path_factory.getbasetemp() / "depth.png"
    path.write_bytes(png(ids, bits, palette=bool(palette), interlaced=interlaced))
    assert read_label(LabelFile(path), ids.shape).tolist() == ids.tolist()


def test_grey_of_two_bits_holds_the_ids_0_to_3(tmp_path):
    ids = np.arange(4).repeat(5).reshape(4, 5)
    (tmp_path / "label.png").write_bytes(png(ids, 2))
    assert np.unique(np.asarray(Image.open(tmp_path / "label.png"))).tolist() == [0, 85, 170, 255]
    assert read_label(LabelFile(tmp_path / "label.png"), (4, 5)).tolist() == ids.tolist()


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "JPEG2000", "AVIF", "GIF", "PPM"])
def test_other_data_in_a_label_is_refused_by_its_name(tmp_path, form):
    Image.fromarray(IDS).save(tmp_path / "label.png", form)
    with pytest.raises(ImageError, match=f"label is {form} data, whatever its suffix"):
        read_label(LabelFile(tmp_path / "label.png"), (2, 3))


@pytest.mark.parametrize(
    "compression",
    [None, "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd"],
)
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_lossless_tiff_is_read(tmp_path, compression, depth):
    ids = np.random.default_rng(0).integers(0, np.iinfo(depth).max, (20, 30)).astype(depth)
    Image.fromarray(ids).save(tmp_path / "label.tif", compression=compression)
    assert read_label(LabelFile(tmp_path / "label.tif"), (20, 30)).tolist() == ids.tolist()


def test_a_predictor_of_which_programs_disagree_is_refused(tmp_path):
    for compression in ("packbits", "lzw"):
        tifffile.imwrite(tmp_path / "label.tif", IDS, compression=compression, predictor=True)
        label = LabelFile(tmp_path / "label.tif")
        if compression == "lzw":
            assert read_label(label, (2, 3)).tolist() == IDS.tolist()
        else:
            with pytest.raises(
                ImageError, match="predictor but a compression that does not use one"
            ):
                read_label(label, (2, 3))


def test_a_tiff_that_is_not_read_is_told_what_to_do(tmp_path):
    tifffile.imwrite(tmp_path / "label.tif", IDS, compression="jpeg2000")
    with pytest.raises(
        ImageError, match=r"TIFF of a variant .* 34712 .* save it as a single-channel PNG"
    ):
        read_label(LabelFile(tmp_path / "label.tif"), (2, 3))


def test_a_lossy_tiff_is_refused(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "label.png", "TIFF", compression="jpeg")
    with pytest.raises(ImageError, match="a TIFF compressed with jpeg, which may change ids"):
        read_label(LabelFile(tmp_path / "label.png"), (2, 3))


@quick
@given(
    st.sampled_from(["u1", "<u2", ">u2", "<u4", "<i2", ">i4"]),
    st.sampled_from([{}, {"rowsperstrip": 3}, {"tile": (16, 16)}, {"compression": "zlib"}]),
)
def test_tiff_of_other_programs_is_read(tmp_path_factory, kind, how):
    dtype = np.dtype(kind)
    path = tmp_path_factory.getbasetemp() / "other.tif"
    ids = np.random.default_rng(0).integers(0, 2**8 if kind == "u1" else 2**15, (20, 37))
    order = ">" if dtype.byteorder == ">" else "<"
    tifffile.imwrite(path, ids.astype(dtype), byteorder=order, photometric="minisblack", **how)
    try:
        assert read_label(LabelFile(path), (20, 37)).tolist() == ids.tolist()
    except ImageError:  # which Pillow reads wrongly, if it is compressed
        assert kind == ">i4"


def test_the_indices_of_a_palette_tiff_are_ids(tmp_path):
    colours = np.random.default_rng(0).integers(0, 2**16, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "label.tif", IDS, photometric="palette", colormap=colours)
    assert read_label(LabelFile(tmp_path / "label.tif"), (2, 3)).tolist() == IDS.tolist()


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        (IDS, {"photometric": "miniswhite"}, "0 is white"),
        (IDS.astype("i1"), {"photometric": "minisblack"}, "signed 8 bits"),
        (IDS.astype("f4"), {"photometric": "minisblack"}, "mode F; it must have a single channel"),
        (np.dstack([IDS, IDS]), {"planarconfig": "contig", "extrasamples": [0]}, "with 2 channels"),
        (np.stack([IDS, IDS]), {"photometric": "minisblack"}, "has 2 frames or pages"),
    ],
    ids=["white is 0", "signed", "floats", "two channels", "two pages"],
)
def test_a_tiff_that_is_not_read_as_it_is_stored_is_refused(tmp_path, values, options, reason):
    tifffile.imwrite(tmp_path / "label.tif", values, **options)
    with pytest.raises(ImageError, match=reason):
        read_label(LabelFile(tmp_path / "label.tif"), (2, 3))


def bmp(ids: np.ndarray, bits: int, palette: Sequence[int]) -> bytes:
    """Return a BMP of 1, 4 or 8 bits, by hand; the palette is of grey values."""
    rows = []
    for row in ids.tolist()[::-1]:
        packed = np.packbits([int(d) for value in row for d in f"{value:0{bits}b}"]).tobytes()
        rows.append(packed + bytes(-len(packed) % 4))
    colours = b"".join(bytes([grey, grey, grey, 0]) for grey in palette)
    data, height, width = b"".join(rows), *ids.shape
    start = 54 + len(colours)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(data), 1, 1,
                       len(palette), 0)  # fmt: skip
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + colours + data


@pytest.mark.parametrize(
    ("bits", "palette"),
    [
        (1, [0, 255]), (1, [255, 0]), (1, [9, 90]), (4, [3] * 16), (4, [0, 255]), (4, range(16)),
        (8, range(256)), (8, [0, 255]), (8, [7, 8, 9]),
    ],
)  # fmt: skip
def test_a_bitmap_is_read_as_it_is_stored_or_refused(tmp_path, bits, palette):
    ids = np.random.default_rng(0).integers(0, len(palette), (5, 13))
    (tmp_path / "label.bmp").write_bytes(bmp(ids, bits, list(palette)))
    try:
        label = read_label(LabelFile(tmp_path / "label.bmp"), (5, 13))
    except ImageError as error:
        assert "an unusual palette" in str(error)  # noqa: PT017
        assert (bits, len(palette)) in {(4, 16), (4, 2), (8, 2)}
        return
    assert label.tolist() == ids.tolist()


def test_an_orientation_is_applied_as_to_images(tmp_path):
    """An upright label map is that of an upright image, however the two are stored."""
    ids = np.random.default_rng(0).integers(0, 255, (6, 8), dtype=np.uint8)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(ids).save(tmp_path / "label.png", exif=exif)
        with Image.open(tmp_path / "label.png") as image:
            upright = np.asarray(ImageOps.exif_transpose(image))
        label = read_label(LabelFile(tmp_path / "label.png"), upright.shape)
        assert label.tolist() == upright.tolist()
        Image.fromarray(ids).save(tmp_path / "label.tif", exif=exif)
        if orientation > 1:
            with pytest.raises(ImageError, match=r"orientation tag|label is 8 x 6"):
                read_label(LabelFile(tmp_path / "label.tif"), (6, 8))


def test_several_frames_are_refused(tmp_path):
    frame = Image.fromarray(IDS)
    frame.save(tmp_path / "label.png", save_all=True, append_images=[Image.fromarray(IDS + 1)])
    with pytest.raises(ImageError, match="label has 2 frames or pages; a label map must have one"):
        read_label(LabelFile(tmp_path / "label.png"), (2, 3))


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    kinds = {"pipe": "is a pipe", "folder": "Is a directory", "/dev/zero": "is a device"}
    for number, (target, kind) in enumerate(kinds.items()):
        (tmp_path / f"{number}.png").symlink_to(target)
        with pytest.raises(ImageError, match=rf"label cannot be read \({kind}"):
            read_label(LabelFile(tmp_path / f"{number}.png"), (2, 3))


def test_a_label_of_another_size_is_refused_with_both_sizes(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "label.png")
    for size in ((3, 2), (2, 4), (1, 6)):
        with pytest.raises(
            ImageError, match=rf"label is 2 x 3, its image {size[0]} x {size[1]}"
        ) as caught:
            read_label(LabelFile(tmp_path / "label.png"), size)
        assert ("rotated by an orientation tag?" in str(caught.value)) == (size == (3, 2))


def test_a_label_of_too_many_pixels_is_refused_without_decoding_it(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "label.png")
    with pytest.raises(ImageError, match="label is 20000 x 20000, its image 2 x 3"):
        read_label(LabelFile(tmp_path / "label.png"), (2, 3))


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 2\n"]
)
def test_a_file_that_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "label.png").write_bytes(content)
    with pytest.raises(ImageError, match="label cannot be read"):
        read_label(LabelFile(tmp_path / "label.png"), (2, 3))


def test_a_label_that_is_gone_is_refused(tmp_path):
    with pytest.raises(ImageError, match="the label map does not exist"):
        read_label(LabelFile(tmp_path / "label.png"), (2, 3))


def noisy_label() -> bytes:
    """A PNG that does not compress: 20 x 30 pixels, ids 0 to 255."""
    file = io.BytesIO()
    ids = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    palette_image(ids).save(file, format="PNG")
    return file.getvalue()


NOISY = noisy_label()


@settings(deadline=None)
@given(st.integers(0, len(NOISY) - 100))
@example(len(NOISY) // 2)
def test_a_truncated_label_is_refused(tmp_path_factory, length):
    path = tmp_path_factory.getbasetemp() / "truncated.png"
    path.write_bytes(NOISY[:length])
    with pytest.raises(ImageError, match="label cannot be read"):
        read_label(LabelFile(path), (20, 30))


@settings(deadline=None)
@given(st.integers(0, len(NOISY) - 1), st.integers(1, 255))
def test_a_damaged_label_is_read_or_refused_and_nothing_else(tmp_path_factory, place, change):
    damaged = bytearray(NOISY)
    damaged[place] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(bytes(damaged))
    try:
        label = read_label(LabelFile(path), (20, 30))
    except ImageError:
        return
    assert label.shape == (20, 30)


@pytest.mark.parametrize(("bits", "palette"), [(2, False), (8, False), (4, True), (16, False)])
def test_a_label_of_fewer_pixels_than_it_says_is_refused(tmp_path, bits, palette):
    whole = png(np.arange(4).repeat(5).reshape(4, 5), bits, palette=palette)
    taller = whole[:20] + struct.pack(">I", 5) + whole[24:29]
    taller += struct.pack(">I", zlib.crc32(taller[12:])) + whole[33:]
    (tmp_path / "label.png").write_bytes(taller)
    with pytest.raises(ImageError, match=r"label cannot be read \(.*Not enough image data"):
        read_label(LabelFile(tmp_path / "label.png"), (5, 5))
    place = whole.find(b"IEND") - 5  # the last byte of the checksum of the pixels
    damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    (tmp_path / "label.png").write_bytes(damaged)
    with pytest.raises(ImageError, match=r"label cannot be read \(.*CRC"):
        read_label(LabelFile(tmp_path / "label.png"), (4, 5))


def test_a_label_may_be_drawn_by_any_program(tmp_path):
    image = Image.new("P", (30, 20), 0)
    image.putpalette([0, 0, 0, 128, 0, 0])
    ImageDraw.Draw(image).rectangle((5, 5, 10, 10), fill=1)
    image.save(tmp_path / "label.png", optimize=True, interlace=1)
    label = read_label(LabelFile(tmp_path / "label.png"), (20, 30))
    assert label.sum() == 36
    assert label[5, 5] == label[10, 10] == 1


# ---- ids to positions ----------------------------------------------------------------------------


def test_ids_become_positions_over_gaps_and_ignored_pixels_are_marked():
    label = np.array([[0, 5, 9], [255, 9, 0]], np.uint16)
    indices = to_indices(label, THREE, ignore=255)
    assert indices.dtype == np.uint16
    assert indices.tolist() == [[0, 1, 2], [IGNORED, 2, 0]]


def test_unknown_ids_are_listed_with_what_is_allowed():
    label = np.array([[0, 1, 5, 9, 300]], np.uint16)
    with pytest.raises(ImageError) as caught:
        to_indices(label, THREE, ignore=255)
    assert "ids 1, 300; allowed: the ids of classes.csv and 255 (ignored)" in str(caught.value)


def test_of_many_unknown_ids_the_first_are_listed():
    with pytest.raises(ImageError, match="ids 1, 2, 3, 4, 6 …; allowed"):
        to_indices(np.arange(100, dtype=np.uint16)[None], THREE, ignore=255)


def test_255_is_unknown_where_another_value_is_ignored():
    with pytest.raises(ImageError, match=r"ids 255; allowed: .* and 254"):
        to_indices(np.array([[0, 254, 255]], np.uint16), THREE, ignore=254)


def test_the_ignored_value_may_be_the_highest_of_sixteen_bits(tmp_path):
    Image.fromarray(np.array([[0, 65535], [9, 255]], np.uint16)).save(tmp_path / "label.png")
    dataset = {"name": "d", "format": "folder", "images": "i", "labels": "l", "classes": "c.csv"}
    config = parse_config({"dataset": {**dataset, "ignore": 65_535}})["lightcluster"]
    label = read_label(LabelFile(tmp_path / "label.png"), (2, 2))
    classes = Classes((0, 9, 255), ("ground", "cat", "dog"))
    indices = to_indices(label, classes, config.dataset.ignore)
    assert indices.tolist() == [[0, IGNORED], [1, 2]]
    with pytest.raises(ConfigError, match=r"dataset\.ignore = 65536"):
        parse_config({"dataset": {**dataset, "ignore": 65_536}})


def test_a_class_may_have_the_highest_id():
    classes = Classes((0, 65_535), ("ground", "cat"))
    label = np.array([[0, 65_535]], np.uint16)
    assert to_indices(label, classes, ignore=255).tolist() == [[0, 1]]


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 65_535).filter(lambda number: number != 255), min_size=1, max_size=20),
    hnp.array_shapes(min_dims=2, max_dims=2),
    st.data(),
)
def test_positions_lead_back_to_the_ids(ids, shape, data):
    classes = Classes(tuple(sorted(ids)), tuple(map(str, sorted(ids))))
    elements = st.sampled_from([*classes.ids, 255])
    label = data.draw(hnp.arrays(np.uint16, shape, elements=elements))
    indices = to_indices(label, classes, ignore=255)
    for index, value in zip(indices.ravel().tolist(), label.ravel().tolist(), strict=True):
        assert (255 if index == IGNORED else classes.ids[index]) == value


def test_a_class_cannot_be_the_ignored_value(tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text("id,name\n0,background\n255,cat\n")
    with pytest.raises(DatasetError, match=r"dataset\.ignore = 255: is the id of class 'cat'"):
        write_classes(read_classes(table), tmp_path / "copy.csv", background=0, ignore=255)


def test_names_of_classes_are_unique(tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text("id,name\n0,background\n1,cat\n2,cat\n")
    with pytest.raises(DatasetError, match="line 4: name 'cat' is repeated"):
        read_classes(table)


def test_there_must_be_a_class_beside_the_background(tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text("id,name\n0,background\n")
    with pytest.raises(DatasetError, match="no class except the background"):
        write_classes(read_classes(table), tmp_path / "copy.csv", background=0, ignore=255)
