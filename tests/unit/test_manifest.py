"""The manifest: which images can be used, and why the others cannot."""

from __future__ import annotations

import csv
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from builders import indexed
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lightcluster.datasets.entries import Entry, LabelFile
from lightcluster.datasets.labels import Classes, open_label
from lightcluster.datasets.listing import list_dataset
from lightcluster.datasets.manifest import (
    Rejection,
    Row,
    gather_csv,
    gather_manifest,
    gather_rejected,
    index_dataset,
    index_entries,
    iter_manifest,
    read_manifest,
    write_rows,
)
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.digests import digest_of
from lightcluster.errors import DatasetError, ImageError, StoreError
from lightcluster.extraction.images import open_row
from lightcluster.shards import Shards

CLASSES = Classes((0, 1, 2), ("ground", "cat", "dog"))


def picture(mode: str = "RGB", width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def index(path: Path, label: Path | None = None, **settings):
    """Index one image; return its row, or None, and its rejections."""
    labels, label_id = (label.parent, label.name) if label else (None, "")
    entry = Entry(path.name, path.parent, labels, f"{path.stem}.png", label_id)
    settings = {"classes": CLASSES, "ignore": 255, "max_pixels": 10_000, **settings}
    rows, rejections = index_entries([entry], **settings)
    return (rows or [None])[0], rejections


def assert_usable(path: Path, height: int = 30, width: int = 40, **settings) -> None:
    row, rejections = index(path, **settings)
    assert rejections == []
    digest = digest_of(path.read_bytes())
    assert row == Row(path.name, path, None, f"{path.stem}.png", height, width, digest)


def assert_rejected(path: Path, reason: str, **settings) -> None:
    row, rejections = index(path, **settings)
    assert row is None
    assert [(rejection.image_id, rejection.what) for rejection in rejections] == [
        (path.name, "image")
    ]
    assert reason in rejections[0].reason


# ---- images of every kind ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("RGB", "a.jpg"),
        ("CMYK", "cmyk.jpg"),
        ("L", "grey.jpg"),
        ("L", "grey.png"),
        ("LA", "grey-alpha.png"),
        ("RGBA", "alpha.png"),
        ("P", "palette.png"),
        ("P", "palette.gif"),
        ("1", "bilevel.png"),
        ("I;16", "sixteen.png"),
        ("I", "thirty-two.tif"),
        ("F", "float.tif"),
        ("LAB", "lab.tif"),
        ("YCbCr", "ycbcr.tif"),
        ("RGB", "a.webp"),
        ("RGB", "a.bmp"),
        ("RGB", "a.ppm"),
        ("L", "a.pgm"),
    ],
)
def test_an_image_of_any_mode_and_format_is_usable(tmp_path, mode, name):
    if mode == "I;16":
        image = Image.fromarray(np.asarray(picture("L")).astype(np.uint16) * 257)
    elif mode == "LAB":
        image = Image.new("LAB", (40, 30))
    else:
        image = picture(mode)
    image.save(tmp_path / name)
    assert_usable(tmp_path / name)


def test_the_suffix_need_not_be_that_of_the_format(tmp_path):
    picture().save(tmp_path / "a.jpg", format="PNG")
    assert_usable(tmp_path / "a.jpg")


def test_one_pixel_is_an_image(tmp_path):
    picture(width=1, height=1).save(tmp_path / "a.png")
    assert_usable(tmp_path / "a.png", 1, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_after_exif_rotation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "a.jpg", exif=exif)
    height, width = (40, 30) if orientation >= 5 else (30, 40)
    assert_usable(tmp_path / "a.jpg", height, width)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_does_not_cost_the_image(tmp_path):
    picture().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert_usable(tmp_path / "a.jpg")


# ---- images that cannot be used ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.bmp", "a.tif", "a.ppm"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_image_is_rejected(tmp_path, name, share):
    picture().save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    row, rejections = index(tmp_path / name)
    assert row is None
    assert [rejection.image_id for rejection in rejections] == [name]
    assert "damaged" in rejections[0].reason


def test_an_empty_file_is_rejected(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert_rejected(tmp_path / "a.jpg", "the file is empty")


@pytest.mark.parametrize("content", [b"Dear reader,\n", b"<svg/>", bytes(1000)])
def test_a_file_that_is_no_image_is_rejected(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    assert_rejected(tmp_path / "a.jpg", "not an image in a supported format: BMP")


@pytest.mark.parametrize(
    ("content", "kind"), [(b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"BM", "BMP")]
)
def test_a_header_alone_is_rejected(tmp_path, content, kind):
    (tmp_path / "a.jpg").write_bytes(content)
    assert_rejected(tmp_path / "a.jpg", f"{kind} of a variant that is not supported")


def test_a_format_that_runs_another_program_is_not_opened(tmp_path):
    picture().save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    assert_rejected(tmp_path / "a.jpg", "not an image in a supported format: BMP")


def test_a_file_that_is_gone_is_rejected(tmp_path):
    (tmp_path / "a.jpg").symlink_to("nowhere")
    assert_rejected(tmp_path / "a.jpg", "the file does not exist")


def test_a_file_whose_content_cannot_be_read_is_rejected(tmp_path):
    """As on a disk with a damaged sector: here the memory of a process, of which page 0 is none."""
    (tmp_path / "a.jpg").symlink_to("/proc/self/mem")
    assert_rejected(tmp_path / "a.jpg", "the file cannot be read (Input/output error)")


def test_a_folder_is_rejected(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    assert_rejected(tmp_path / "a.jpg", "")


def test_a_pipe_is_rejected_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.jpg").symlink_to("pipe")
    assert_rejected(tmp_path / "a.jpg", "not ")


def test_an_image_of_too_many_pixels_is_rejected(tmp_path):
    picture(width=101, height=100).save(tmp_path / "a.png")
    assert_rejected(tmp_path / "a.png", "101 × 100 pixels; at most 10000 are allowed")
    assert_usable(tmp_path / "a.png", 100, 101, max_pixels=10_100)


def test_a_decompression_bomb_is_rejected_by_its_header(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1_000_000)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bomb)
    limit = DatasetSettings().max_pixels
    reason = "60000 × 60000 pixels; at most 150000000 are allowed"
    assert_rejected(tmp_path / "a.png", reason, max_pixels=limit)


def test_pixels_that_are_no_numbers_are_rejected(tmp_path):
    Image.fromarray(np.full((30, 40), np.nan, np.float32)).save(tmp_path / "a.tif")
    assert_rejected(tmp_path / "a.tif", "not finite numbers")


def test_a_name_that_is_no_utf8_is_rejected_and_printable(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb") as file:
        picture().save(file, format="JPEG")
    (path,) = tmp_path.iterdir()
    _, (rejection,) = index(path)
    assert (rejection.image_id, rejection.reason) == ("caf\\xe9.jpg", "file name is not UTF-8")
    write_rows(tmp_path / "rejected.csv", [rejection], Rejection)


# ---- labels --------------------------------------------------------------------------------------


def image_with_label(folder: Path, label: Image.Image) -> tuple[Path, Path]:
    picture().save(folder / "a.jpg")
    (folder / "labels").mkdir()
    label.save(folder / "labels" / "a.png")
    return folder / "a.jpg", folder / "labels" / "a.png"


def test_a_good_label_stands_in_the_row(tmp_path):
    image, label = image_with_label(tmp_path, Image.new("L", (40, 30), 2))
    row, rejections = index(image, label)
    assert (row.label, rejections) == (indexed(label), [])


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (Image.new("L", (30, 40)), "label is 40 x 30, its image 30 x 40 (height x width)"),
        (Image.new("L", (40, 30), 3), "label holds the ids 3; allowed: the ids of classes.csv"),
        (Image.new("RGB", (40, 30)), "label has mode RGB"),
    ],
    ids=["size", "id", "mode"],
)
def test_a_bad_label_is_rejected_and_its_image_kept(tmp_path, label, reason):
    row, rejections = index(*image_with_label(tmp_path, label))
    assert (row.image_id, row.label) == ("a.jpg", None)
    assert [(rejection.image_id, rejection.what) for rejection in rejections] == [
        ("a.jpg", "label")
    ]
    assert reason in rejections[0].reason


def test_the_label_of_a_rotated_image_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image, label = image_with_label(tmp_path, Image.new("L", (30, 40)))
    picture().save(image, exif=exif)
    row, rejections = index(image, label)
    assert (row.label, rejections) == (indexed(label), [])


def test_the_label_of_a_bad_image_is_not_named_as_well(tmp_path):
    image, label = image_with_label(tmp_path, Image.new("RGB", (1, 1)))
    image.write_bytes(b"")
    row, rejections = index(image, label)
    assert row is None
    assert [rejection.what for rejection in rejections] == ["image"]


def test_without_classes_labels_are_not_looked_at(tmp_path):
    image, label = image_with_label(tmp_path, Image.new("RGB", (1, 1)))
    row, rejections = index(image, label, classes=None)
    assert (row.label, rejections) == (None, [])


# ---- on_bad_image: stop --------------------------------------------------------------------------


def test_stop_ends_with_the_name_and_the_reason_of_the_first_bad_image(tmp_path):
    (tmp_path / "a;b.jpg").touch()
    _, (rejection,) = index(tmp_path / "a;b.jpg")
    with pytest.raises(DatasetError) as caught:
        index(tmp_path / "a;b.jpg", stop=True)
    assert str(caught.value) == f"'a;b.jpg': {rejection.reason} (on_bad_image: stop)"


def test_stop_ends_at_a_bad_label_as_well(tmp_path):
    image, label = image_with_label(tmp_path, Image.new("L", (40, 30), 3))
    with pytest.raises(DatasetError, match=r"'a\.jpg': label holds the ids 3; .*stop"):
        index(image, label, stop=True)


def test_stop_does_not_mind_good_images(tmp_path):
    picture().save(tmp_path / "a.jpg")
    assert_usable(tmp_path / "a.jpg", stop=True)


# ---- the files -----------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
AWKWARD = [
    "a b.jpg",
    " a.jpg",
    'a"b.jpg',
    '"a".jpg',
    "a'b.jpg",
    "a;b.jpg",
    "a,b.jpg",
    "a\nb.jpg",
    "a\rb.jpg",
    "a\r\nb.jpg",
    "\r",
    "a\tb.jpg",
    "żółć/写真/🐈.jpg",
    "$(touch pwned).jpg",
    "\u2028.jpg",
    "\x85\x0c.jpg",
    "#a.jpg",
    "=1+1.jpg",
]


def row_named(name: str) -> Row:
    label = LabelFile(Path("/labels") / name, digest="1f")
    return Row(name, Path("/images") / name, label, name, 30, 40, "0c")


def test_any_name_survives_writing_and_reading(tmp_path):
    rows = [row_named(name) for name in AWKWARD] + [Row("a", Path("b"), None, "c", 1, 1)]
    write_rows(tmp_path / "0000.csv", rows, Row)
    assert read_manifest(tmp_path / "0000.csv") == rows


@settings(deadline=None)
@given(st.lists(TEXT.filter(lambda name: str(Path(name)) == name), max_size=5))
def test_all_names_survive_writing_gathering_and_reading(tmp_path_factory, names):
    folder = tmp_path_factory.getbasetemp()
    rows = [row_named(name) for name in names]
    write_rows(folder / "0000.csv", rows, Row)
    assert read_manifest(folder / "0000.csv") == rows
    assert gather_csv([folder / "0000.csv"], folder / "manifest.csv") == len(rows)
    gathered = list(iter_manifest(folder / "manifest.csv"))
    assert [(sample.shard, sample.row) for sample in gathered] == [("0000", row) for row in rows]


HEADER = (
    b"image_id,path,part,label,label_part,taxonomy,output,levels,span,frames,height,width,digest,"
    b"label_digest\n"
)


def test_a_manifest_without_rows_has_its_header(tmp_path):
    write_rows(tmp_path / "0000.csv", [], Row)
    assert read_manifest(tmp_path / "0000.csv") == []
    assert (tmp_path / "0000.csv").read_bytes() == HEADER


@pytest.mark.parametrize(
    "content",
    [
        b"image_id,path\na,b\n",
        HEADER + b"a,b,,,,,c,1\n",
        HEADER + b"a,b,,,,,c,,255,1,1,1,0c\n",
        HEADER + b"a,b,,,,,c,,255,1,x,1,0c,\n",
        HEADER + b"a,b,,c,,coco,d,,255,1,1,1,0c,1f\n",
        HEADER + b"a\xff,b,,,,,c,,255,1,1,1,0c,\n",
        HEADER + b"a\rb,b,,,,,c,,255,1,1,1,0c,\n",
        HEADER + b"a,b,zip 1 2 a,,,,c,,255,1,1,1,0c,\n",
        HEADER + b"a,b,tar 1 x a,,,,c,,255,1,1,1,0c,\n",
    ],
    ids=["columns", "cut line", "cut at the end", "number", "taxonomy", "encoding",
         "carriage return", "kind of part", "part"],
)  # fmt: skip
def test_a_damaged_manifest_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "0000.csv").write_bytes(content)
    with pytest.raises(StoreError, match=r"0000\.csv: cannot be read .* run snakemake"):
        read_manifest(tmp_path / "0000.csv")


@pytest.mark.parametrize("read", [read_manifest, lambda path: list(iter_manifest(path))])
def test_a_manifest_that_is_no_csv_is_an_error_that_names_it(tmp_path, read):
    longest = csv.field_size_limit()
    (tmp_path / "0000.csv").write_bytes(b"shard," + HEADER + b"0000," + b"a" * (longest + 1))
    with pytest.raises(StoreError, match=r"0000\.csv: cannot be read .*limit.* run snakemake"):
        read(tmp_path / "0000.csv")


def test_a_missing_manifest_is_an_error_that_names_it(tmp_path):
    with pytest.raises(StoreError, match=r"0000\.csv: cannot be read .* run snakemake"):
        read_manifest(tmp_path / "0000.csv")


CHANGES = {
    "other pixels": lambda path: overwrite(path, path.stat().st_size // 2),
    "other end": lambda path: overwrite(path, path.stat().st_size - 1),
    "a row more": lambda path: Image.new("L", (40, 31)).save(path),
    "cut": lambda path: os.truncate(path, 20),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "gone": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


def overwrite(path: Path, position: int) -> None:
    """Change a byte of a file, and neither its length nor its time."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", CHANGES)
def test_whoever_opens_what_has_changed_since_it_was_indexed_is_told(tmp_path, change):
    image, label = image_with_label(tmp_path, Image.new("L", (40, 30), 2))
    row, _ = index(image, label)
    size = (row.height, row.width)
    write_rows(tmp_path / "0000.csv", [row], Row)
    (row,) = read_manifest(tmp_path / "0000.csv")
    for path in (image, label):
        os.utime(path, (1, 1))
    assert open_row(row.image, 10_000).shape == (*size, 3)
    assert open_label(row.label, size).tolist() == [[2] * 40] * 30
    for path in (image, label):
        CHANGES[change](path)
    what = "has disappeared" if change in {"gone", "a folder", "a pipe"} else "has changed"
    for path, read in (
        (image, lambda: open_row(row.image, 10_000, draft_size=(8, 8))),
        (label, lambda: open_label(row.label, size)),
    ):
        with pytest.raises(ImageError) as caught:
            read()
        assert str(caught.value) == (
            f"{path}: {what} since the dataset was indexed; run the same command again to "
            "index it again"
        )


def test_gathering_puts_the_shard_first_and_keeps_one_header(tmp_path):
    names = (["a.jpg", "b\rc\n.jpg"], [], ["d.jpg"])
    for shard, part in enumerate(names):
        rejections = [Rejection(name, "image", "it is, so to say, bad") for name in part]
        write_rows(tmp_path / f"{shard:04d}.rejected.csv", rejections, Rejection)
    parts = [tmp_path / f"{shard:04d}.rejected.csv" for shard in range(3)]
    assert gather_csv(parts, tmp_path / "rejected.csv") == 3
    with (tmp_path / "rejected.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["shard", "image_id", "what", "reason"],
            ["0000", "a.jpg", "image", "it is, so to say, bad"],
            ["0000", "b\rc\n.jpg", "image", "it is, so to say, bad"],
            ["0002", "d.jpg", "image", "it is, so to say, bad"],
        ]


def test_shards_are_indexed_and_gathered_whatever_they_hold(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        picture().save(images / f"{number}.jpg")
    (images / "bad.jpg").touch()
    dataset = DatasetSettings.model_validate({"format": "folder", "images": images})
    folder = tmp_path / "manifest"
    for shard in range(8):
        manifest, rejected = folder / f"{shard:04d}.csv", folder / f"{shard:04d}.rejected.csv"
        index_dataset(dataset, tmp_path, shard, 8, None, manifest, rejected)
    gather_rejected(Shards(8).paths(folder, ".rejected.csv"), tmp_path / "rejected.csv")
    gather_manifest(Shards(8).paths(folder, ".csv"), tmp_path / "manifest.csv")
    found = [sample.row for sample in iter_manifest(tmp_path / "manifest.csv")]
    listed = [entry for entry in list_dataset(dataset, tmp_path) if entry.image_id != "bad.jpg"]
    assert sorted((row.image_id, row.output) for row in found) == [
        (entry.image_id, entry.output) for entry in listed
    ]
    assert "bad.jpg,image,the file is empty" in (tmp_path / "rejected.csv").read_text()


def test_a_dataset_without_a_usable_image_is_an_error_that_says_where_to_look(tmp_path):
    write_rows(tmp_path / "0000.csv", [], Row)
    write_rows(tmp_path / "0000.rejected.csv", [Rejection("a", "image", "b")], Rejection)
    with pytest.raises(DatasetError, match=r"no image can be used; see .*/\*\.rejected\.csv"):
        gather_manifest([tmp_path / "0000.csv"], tmp_path / "manifest.csv")
    assert (tmp_path / "0000.rejected.csv").exists()
