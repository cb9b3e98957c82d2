"""Files among the images that are none, and what is said of unusual images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lightcluster.datasets.listing import list_dataset, list_paths
from lightcluster.datasets.manifest import (
    Rejection,
    Row,
    count_rejected,
    first_rejected,
    index_entries,
    list_rejected,
    passed_over,
    read_manifest,
    write_rows,
)
from lightcluster.datasets.others import (
    IMAGE_SUFFIXES,
    MOST_SUFFIXES,
    NOT_READ,
    count_others,
    describe_others,
    digest_others,
    is_image,
)
from lightcluster.datasets.remarks import remarks
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.errors import DatasetError
from lightcluster.images.depth import Levels

G = np.tile(np.arange(256, dtype=np.uint8), (64, 1))


def test_what_decodes_is_an_image_and_the_rest_is_not():
    for suffix in ("avif", "jp2", "jfif", "jpe", "mpo", "dib", "pbm", "apng", "tga", "TIF", "Jpg"):
        assert is_image(f"folder.d/a.{suffix}")
    for name in ("a.txt", "a", "a.jpg.xml", ".jpg/a", "a.cr2", "a.svg"):
        assert not is_image(name)
    assert not IMAGE_SUFFIXES & set(NOT_READ)
    assert {".heic", ".heif"} <= IMAGE_SUFFIXES | set(NOT_READ)


def test_others_are_counted_by_suffix_pictures_first():
    names = ["b.CR2", "a.cr2", "x/d.svg", *(f"{n}.xml" for n in range(1000)), "README"]
    raw, svg, xml, bare = count_others(names)
    assert (raw.pattern, raw.what, raw.count) == ("*.cr2", "passed over", 2)
    assert raw.reason.startswith("2 files, such as 'a.cr2': raw camera data")
    assert (svg.what, svg.reason[:30]) == ("passed over", "1 file, such as 'x/d.svg': an ")
    assert (xml.pattern, xml.what, xml.count) == ("*.xml", "no image", 1000)
    assert (bare.pattern, bare.what) == ("* (no suffix)", "no image")
    assert list(describe_others([raw, svg, xml, bare])) == [
        "3 pictures were skipped, by suffix: 2 .cr2, 1 .svg",
        "1001 other files were skipped: 1000 .xml, 1 without suffix",
    ]
    assert not list(describe_others([]))


def test_many_suffixes_do_not_make_many_rows():
    others = count_others(f"a.{number}" for number in range(1000))
    assert len(others) == MOST_SUFFIXES + 1
    assert sum(one.count for one in others) == 1000
    assert others[-1].pattern == "* (other suffixes)"


def test_the_digest_follows_the_files():
    digests = {
        digest_others(count_others(names)) for names in ([], ["a.x"], ["b.x"], ["a.x", "b.x"])
    }
    assert len(digests) == 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    Image.fromarray(G).save(tmp_path / "images" / "a.png")
    for name in ("b.cr2", "deep/c.cr2", "d.xml", ".hidden.xml"):
        (tmp_path / "images" / name).write_text("")
    (tmp_path / "0000.rejected.csv").write_text(
        "image_id,what,reason\nz.jpg,image,the file is empty\n"
    )
    return tmp_path


def test_they_have_a_row_a_suffix_in_the_table_of_rejections(folder):
    dataset = DatasetSettings(format="folder", images=folder / "images")
    others: list[str] = []
    assert [entry.image_id for entry in list_dataset(dataset, folder, others)] == ["a.png"]
    assert sorted(others) == ["b.cr2", "d.xml", "deep/c.cr2"]
    rejected = folder / "rejected.csv"
    list_rejected(dataset, folder, [folder / "0000.rejected.csv"], rejected)
    with rejected.open(newline="") as file:
        rows = [(row["shard"], row["image_id"], row["what"]) for row in csv.DictReader(file)]
    assert rows == [
        ("0000", "z.jpg", "image"), ("", "*.cr2", "passed over"), ("", "*.xml", "no image"),
    ]  # fmt: skip
    assert count_rejected(rejected) == 1
    assert first_rejected(rejected) == ["image 'z.jpg': the file is empty"]
    with rejected.open("a") as file:
        file.writelines(f"0000,{n}.jpg,label,too small\n" for n in range(4))
    assert first_rejected(rejected, 2)[1:] == ["label '0.jpg': too small", "and 3 more"]
    (line,) = passed_over(rejected)
    assert line.startswith("*.cr2: 2 files, such as 'b.cr2': raw camera data")
    others = []
    list_paths([folder / "images"], others)
    assert len(others) == 3


def test_where_there_is_no_image_what_is_there_is_said(folder):
    (folder / "images" / "a.png").unlink()
    dataset = DatasetSettings(format="folder", images=folder / "images")
    for listed in (
        lambda: list_dataset(dataset, folder),
        lambda: list_paths([folder / "images"], []),
    ):
        with pytest.raises(
            DatasetError, match=r"image suffixes are \.bmp.*; 2 pictures .*: 2 \.cr2"
        ):
            listed()


def index(folder: Path, depth) -> list[Row]:
    rows, rejections = index_entries(
        list_paths([folder]), None, ignore=255, max_pixels=10**6, depth=depth
    )
    assert not rejections
    return rows


def test_what_is_unusual_of_images_is_said(tmp_path):
    Image.fromarray(G).save(tmp_path / "plain.png")
    assert not list(remarks(index(tmp_path, "auto")))
    tifffile.imwrite(tmp_path / "deep.tif", G.astype("u2") * 16)
    tifffile.imwrite(tmp_path / "dark.tif", G.astype("u2") // 40 + 256)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        for _ in range(3):
            writer.write(G)
    found = list(remarks(index(tmp_path, "auto")))
    assert [remark.warning for remark in found] == [True, True, False]
    depth, narrow, several = (remark.text for remark in found)
    assert depth == (
        "2 images of more than 8 bits; black to white is 0 to 1023 (1), 0 to 4095 (1); the range "
        "was chosen for each image; set dataset.depth to use one for all"
    )
    assert narrow.startswith("1 image of more than 8 bits, such as 'dark.tif', uses a small part")
    assert several.startswith("1 image, such as 'pages.tif', has several frames or pages")
    depth, _, _ = remarks(index(tmp_path, 12))
    assert not depth.warning
    assert depth.text == "2 images of more than 8 bits; black to white is 0 to 4095 (2)"
    assert len(list(remarks(index(tmp_path, "stretch")))) == 2


def test_that_every_image_is_of_one_colour_is_said(tmp_path):
    for value in (0, 255):
        Image.new("RGB", (9, 9), (value, 0, 0)).save(tmp_path / f"{value}.png")
    assert [remark.text for remark in remarks(index(tmp_path, "auto"))] == [
        "every image has a single colour: there is nothing in them to segment"
    ]
    Image.fromarray(G).save(tmp_path / "plain.png")
    assert not list(remarks(index(tmp_path, "auto")))


def test_levels_are_kept_in_the_manifest(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", G.astype("f4") / 3 - 1.5)
    (row,) = index(tmp_path, "auto")
    assert row.levels == Levels(-1.5, np.float32(83.5))
    write_rows(tmp_path / "a.csv", [row], Row)
    (read,) = read_manifest(tmp_path / "a.csv")
    assert (read.levels, read.span, read.frames) == (row.levels, row.span, 1)
    assert read.image.levels == row.levels
    write_rows(tmp_path / "r.csv", [Rejection("a", "image", "b")], Rejection)
