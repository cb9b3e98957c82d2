"""Images and label maps in tars: listing, reading in place, and what cannot be used."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightcluster import digests
from lightcluster.config import parse_config
from lightcluster.datasets.entries import Entry
from lightcluster.datasets.formats import webdataset
from lightcluster.datasets.formats.webdataset import split_name
from lightcluster.datasets.labels import Classes, open_label
from lightcluster.datasets.listing import list_dataset, split_shards
from lightcluster.datasets.manifest import (
    Rejection,
    Row,
    index_entries,
    read_manifest,
    write_rows,
)
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.digests import digest_of
from lightcluster.errors import ConfigError, DatasetError, ImageError
from lightcluster.extraction.images import open_row
from lightcluster.layout import Layout
from lightcluster.locations import Member

SIZE = (4, 6)
TWO = Classes((0, 1), ("background", "thing"))
LIMITS = {"ignore": 255, "max_pixels": 10**6}


def encoded(pixels, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, kind)
    return file.getvalue()


def picture(value: int) -> bytes:
    return encoded(np.full((*SIZE, 3), value))


def label(value: int) -> bytes:
    return encoded(np.full(SIZE, value))


def write_tar(path: Path, members, **kinds) -> Path:
    """Write a tar of (name, content) pairs with the tool that WebDataset itself uses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **kinds) as tar:
        for name, content in members:
            item = tarfile.TarInfo(name)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
    return path


def entries_of(images: Path, others: list[str] | None = None, **keys) -> list[Entry]:
    raw = {"format": "webdataset", "images": images, "classes": images, **keys}
    return list_dataset(DatasetSettings.model_validate(raw), Path("unused"), others)


def indexed(images: Path, **keys) -> tuple[list[Row], list[Rejection]]:
    classes = TWO if "label_extension" in keys else None
    return index_entries(entries_of(images, **keys), classes, **LIMITS)


def reasons(images: Path, **keys) -> dict[str, str]:
    return {item.image_id: item.reason for item in indexed(images, **keys)[1]}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---- what is found -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("0001.jpg", ("0001", "jpg")),
        ("a/b.c/0001.seg.PNG", ("a/b.c/0001", "seg.png")),
        ("a/README", ("a/README", "")),
    ],
)
def test_a_name_is_split_at_the_first_dot_of_its_last_part(name, parts):
    assert split_name(name) == parts


def test_images_and_label_maps_are_read_where_they_are(tmp_path):
    for number in range(2):
        write_tar(
            tmp_path / f"set/train-{number}.tar",
            [
                *((f"{n}.png", picture(10 * number + n)) for n in range(3)),
                *((f"{n}.seg.png", label(n % 2)) for n in range(2)),
                ("0.json", b"{}"),
            ],
        )
    others: list[str] = []
    keys = {"label_extension": "seg.png"}
    assert [entry.output for entry in entries_of(tmp_path / "set", others, **keys)] == [
        f"train-{number}.tar/{n}.png" for number in range(2) for n in range(3)
    ]
    assert others == []
    rows, rejections = indexed(tmp_path / "set", **keys)
    assert rejections == []
    assert [row.image_id for row in rows][:4] == [
        "train-0.tar/0.png", "train-0.tar/1.png", "train-0.tar/2.png", "train-1.tar/0.png",
    ]  # fmt: skip
    write_rows(tmp_path / "manifest.csv", rows, Row)
    read = read_manifest(tmp_path / "manifest.csv")
    assert read == rows
    for number, row in enumerate(read):
        value = 10 * (number // 3) + number % 3
        assert row.digest == digest_of(picture(value))
        np.testing.assert_array_equal(open_row(row.image, 100), np.full((*SIZE, 3), value))
    assert [None if row.label is None else open_label(row.label, SIZE).max() for row in read] == [
        0, 1, None, 0, 1, None,
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.csv", "set"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_kinds_of_tars_are_read(form, tmp_path):
    long = "/".join(["folder"] * 12) + "/żółć-" + "x" * 60 + ".png"
    write_tar(tmp_path / "a.tar", [("./a.png", picture(1)), (long, picture(2))], format=form)
    rows, _ = indexed(tmp_path / "a.tar")
    assert {row.image_id: open_row(row.image, 100).max() for row in rows} == {
        "a.tar/a.png": 1, f"a.tar/{long}": 2,
    }  # fmt: skip


def test_the_image_of_a_sample_may_be_chosen(tmp_path):
    members = [("1.depth.png", picture(1)), ("1.jpg", encoded(np.zeros((*SIZE, 3)), "JPEG"))]
    write_tar(tmp_path / "a.tar", members)
    others: list[str] = []
    assert [entry.image_id for entry in entries_of(tmp_path, others)] == ["a.tar/1.jpg"]
    assert others == ["a.tar/1.depth.png"]
    chosen = entries_of(tmp_path, image_extension="Depth.png")
    assert [entry.image_id for entry in chosen] == ["a.tar/1.depth.png"]


def test_an_image_may_have_the_suffix_of_a_label_map(tmp_path):
    write_tar(
        tmp_path / "a.tar", [("1.png", label(1)), ("1.webp", encoded(np.zeros((*SIZE, 3)), "WEBP"))]
    )
    (row,), rejections = indexed(tmp_path, label_extension="png")
    assert (row.image_id, rejections) == ("a.tar/1.webp", [])
    assert open_label(row.label, SIZE).max() == 1


def test_hidden_files_and_folders_are_skipped(tmp_path):
    with tarfile.open(
        write_tar(tmp_path / "a.tar", [("._1.png", b"x"), ("1.png", picture(1))]), "a"
    ) as tar:
        folder = tarfile.TarInfo("images.png")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        tar.addfile(tarfile.TarInfo(".git/2.png"))
    assert [entry.image_id for entry in entries_of(tmp_path)] == ["a.tar/1.png"]


# ---- what cannot be used -------------------------------------------------------------------------


def test_names_that_lead_elsewhere_are_rejected_and_name_no_file(tmp_path):
    names = ["../1.png", "/2.png", "a/../../3.png", "a//4.png", "..", "5.png"]
    write_tar(tmp_path / "set/a.tar", [(name, picture(1)) for name in names])
    found = entries_of(tmp_path / "set")
    assert all(".." not in entry.output and entry.output[0] != "/" for entry in found)
    rows, rejections = indexed(tmp_path / "set")
    assert [row.image_id for row in rows] == ["a.tar/5.png"]
    assert sorted(item.reason.split(":")[0] for item in rejections) == [
        repr(name) for name in sorted(names[:4])
    ]
    assert all(item.reason.endswith("not a plain path") for item in rejections)


def test_members_that_are_no_images_links_and_repeated_names_are_rejected(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        [
            ("1.png", picture(1)), ("2.png", b"no image"), ("3.png", b""), ("1.png", picture(9)),
            ("1.jpg", picture(5)), ("4.png", picture(4)[:-30]),
        ],
    )  # fmt: skip
    with tarfile.open(path, "a") as tar:
        for name, kind in (("5.png", tarfile.SYMTYPE), ("6.png", tarfile.LNKTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    (row,), rejections = indexed(tmp_path)
    assert open_row(row.image, 100).max() == 1
    said = "\n".join(item.reason for item in rejections)
    assert len(rejections) == 7
    for reason in (
        "not an image in a supported format", "the file is empty", "damaged or truncated image",
        "'1.png': an earlier member of the tar has the same name, and is used",
        "'1.jpg': '1.png' is the image of this sample (see dataset.image_extension)",
        "'5.png': a link or special file", "'6.png': a link or special file",
    ):  # fmt: skip
        assert reason in said


@pytest.mark.parametrize(
    ("kept", "usable", "reason"),
    [
        (3 * 1024, 3, "no end marker at byte 3072"),
        (2 * 1024 + 700, 3, "damaged or truncated tar"),  # within the padding
        (2 * 1024 + 550, 2, "damaged or truncated tar"),
        (2 * 1024 + 100, 2, "damaged or truncated tar (no header at byte 2048)"),
        (100, 0, "damaged or truncated tar"),
        (0, 0, "damaged or truncated tar (empty file)"),
    ],
)
def test_what_a_truncated_tar_still_has_is_used(kept, usable, reason, tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"{n}.png", picture(n)) for n in range(3)])
    write_tar(tmp_path / "b.tar", [("1.png", picture(1))])
    assert len(picture(0)) < 512
    path.write_bytes(path.read_bytes()[:kept])
    rows, rejections = indexed(tmp_path)
    assert len(rows) == usable + 1
    found = {item.image_id: item.reason for item in rejections}
    assert reason in found["a.tar"]


def test_a_tar_damaged_in_the_middle_is_reported(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"{n}.png", picture(n)) for n in range(3)])
    content = bytearray(path.read_bytes())
    content[1024:1100] = bytes(range(76))
    path.write_bytes(content)
    rows, rejections = indexed(tmp_path)
    assert [row.image_id for row in rows] == ["a.tar/0.png"]
    assert [item.image_id for item in rejections] == ["a.tar"]
    assert "no header at byte 1024); the 1 files before that are used" in rejections[0].reason


def test_compressed_tars_and_links_to_nothing_are_rejected(tmp_path):
    whole = write_tar(tmp_path / "a.tar", [("1.png", picture(1))]).read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(whole))
    (tmp_path / "c.tar").symlink_to("nowhere")
    os.mkfifo(tmp_path / "d.tar")
    (tmp_path / "notes.txt").write_text("x")
    others: list[str] = []
    assert len(entries_of(tmp_path, others)) == 4
    assert others == ["notes.txt"]
    said = reasons(tmp_path)
    assert "unpack it with gzip" in said["b.tar.gz"]
    assert "No such file" in said["c.tar"]
    assert "is a pipe" in said["d.tar"]


def test_sparse_members_are_rejected(tmp_path):
    (tmp_path / "1.png").write_bytes(picture(1))
    with (tmp_path / "1.png").open("ab") as file:
        file.truncate(1 << 20)
    done = os.system(f"tar -C {tmp_path} --sparse -cf {tmp_path}/a.tar 1.png")
    assert done == 0
    assert "sparse" in reasons(tmp_path / "a.tar")["a.tar/member at byte 512"]


def test_missing_and_repeated_label_maps_are_reported(tmp_path):
    members = [
        ("1.png", picture(1)),
        ("1.seg.png", label(1)),
        ("1.seg.png", label(0)),
        ("2.png", picture(2)),
    ]
    write_tar(tmp_path / "a.tar", members)
    assert reasons(tmp_path, label_extension="seg.png") == {
        "a.tar/1.png": "the tar has 2 label maps for this image, such as '1.seg.png'",
        "a.tar/2.png": "the tar has no member '2.seg.png' (see dataset.label_extension)",
    }
    write_tar(tmp_path / "a.tar", [*members[:2], members[3]])
    rows, rejections = indexed(tmp_path, label_extension="seg.png")
    assert ([row.label is None for row in rows], rejections) == ([False, True], [])
    write_tar(tmp_path / "a.tar", [*members[:1], ("1.seg.png", label(7)), members[3]])
    assert "label holds the ids 7" in reasons(tmp_path, label_extension="seg.png")["a.tar/1.png"]


def test_a_tar_that_changes_later_is_noticed(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("1.png", picture(1))])
    (row,), _ = indexed(tmp_path)
    write_tar(path, [("1.png", picture(2))])
    with pytest.raises(ImageError, match=r"a\.tar/1\.png: has changed since"):
        open_row(row.image, 100)
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"a\.tar/1\.png: has changed since"):
        open_row(row.image, 100)
    path.unlink()
    with pytest.raises(ImageError, match=r"a\.tar/1\.png: has disappeared since"):
        open_row(row.image, 100)


def test_a_member_that_does_not_fit_into_memory_is_not_read(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.png", picture(1))])
    with pytest.raises(ImageError, match="at most 1073741824 are allowed in a tar"):
        Member(tmp_path / "a.tar", "1.png", 512, 1 << 31).read()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"images": None}, "`format: webdataset` needs the folder of the tars, or one tar"),
        ({"label_extension": "seg.png"}, "dataset.classes = none: labels need a classes.csv"),
        ({"image_extension": ".jpg"}, "must be what follows the first dot of a name"),
        ({"image_extension": "a/b"}, "must be what follows the first dot of a name"),
        ({"label_extension": "png", "image_extension": "PNG", "classes": "c"}, "choose different"),
        ({"labels": "l"}, "not used by `format: webdataset`; remove it, or set `format`"),
        ({"root": "r"}, "not used by `format: webdataset`; remove it, or set `format`"),
    ],
)
def test_mistakes_in_the_configuration_are_explained(keys, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        parse_config({"dataset": {"format": "webdataset", "images": "i", **keys}})


def test_a_folder_without_tars_or_images_is_explained(tmp_path):
    with pytest.raises(DatasetError, match="there is no such folder or tar"):
        entries_of(tmp_path / "nowhere")
    (tmp_path / "a.jpg").write_bytes(picture(1))
    with pytest.raises(DatasetError, match="no tars found"):
        entries_of(tmp_path)
    write_tar(tmp_path / "a.tar", [("a.txt", b"x")])
    with pytest.raises(DatasetError, match=r"no images found in 1 tar\(s\)"):
        entries_of(tmp_path)


# ---- shards, reruns and the cache ----------------------------------------------------------------


def test_shards_are_cut_at_the_borders_of_tars_if_there_are_enough(tmp_path):
    for number in range(11):
        write_tar(tmp_path / f"{number:02d}.tar", [(f"{n}.png", b"x") for n in range(8)])
    entries = entries_of(tmp_path)
    for shards in (1, 4, 8):
        split = split_shards(entries, shards)
        assert sorted(entry.image_id for part in split for entry in part) == sorted(
            entry.image_id for entry in entries
        )
        held = [{entry.inside.container for entry in part} for part in split]
        assert sum(map(len, held)) == 11
        assert max(map(len, held)) <= -(-11 // shards)
    split = split_shards(entries, 32)
    held = [{entry.inside.container for entry in part} for part in split]
    assert all(len(tars) <= 2 for tars in held)  # 8 groups of tars, each in 4 shards
    assert sum(map(len, split)) == len(entries)


def test_only_the_shards_of_a_changed_tar_are_stamped_anew(tmp_path):
    for number in range(4):
        write_tar(tmp_path / f"set/{number}.tar", [("1.png", picture(number))])
    raw = {"dataset": {"format": "webdataset", "images": "set", "shard_size": 1}}

    def stamps():
        layout = Layout(parse_config(raw), planning=True)
        return [layout.files_stamp(shard) for shard in layout.shards]

    before = stamps()
    assert len(set(before)) == 4
    write_tar(tmp_path / "set/2.tar", [("1.png", picture(99))])
    assert [old == new for old, new in zip(before, stamps(), strict=True)] == [
        True,
        True,
        False,
        True,
    ]


def test_a_tar_is_read_through_once_until_it_changes(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", [("1.png", picture(1)), ("é\udcff.png", b"x")])
    read = []
    original = webdataset.read_tar
    monkeypatch.setattr(webdataset, "read_tar", lambda path: read.append(path) or original(path))
    first = entries_of(tmp_path)
    assert entries_of(tmp_path) == first
    assert len(read) == 2  # it may be changed again without a change of its times
    monkeypatch.setattr(digests, "_COARSEST_NS", 0)
    entries_of(tmp_path)
    assert entries_of(tmp_path) == first
    assert len(read) == 3
    (kept,) = (tmp_path / ".snakemake/lightcluster/contents").iterdir()
    kept.write_bytes(kept.read_bytes()[:-3])
    assert entries_of(tmp_path) == first
    assert len(read) == 4
    write_tar(path, [("2.png", picture(1))])
    assert [entry.image_id for entry in entries_of(tmp_path)] == ["a.tar/2.png"]
