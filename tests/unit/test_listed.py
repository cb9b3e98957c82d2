"""A text file that lists images and label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightcluster.config import parse_config
from lightcluster.datasets.entries import Entry
from lightcluster.datasets.labels import Classes, open_label
from lightcluster.datasets.listing import list_dataset
from lightcluster.datasets.manifest import index_entries
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.errors import DatasetError
from lightcluster.extraction.images import open_row
from lightcluster.layout import Layout

SIZE = (4, 6)
TWO = Classes((0, 1), ("background", "thing"))


def save(path: Path, value: int, *channels: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, *channels), value, np.uint8)).save(path)
    return path


def entries_of(path: Path, text: str, **keys) -> list[Entry]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    raw = {"format": "list", "images": path, **keys}
    return list_dataset(DatasetSettings.model_validate(raw), Path("unused"))


def test_paths_are_relative_to_the_list_absolute_or_file_urls(tmp_path):
    for number, name in enumerate(["set/a/x.png", "set/b y.png", "far/c.jpg.png", "far/ü.png"]):
        save(tmp_path / name, number, 3)
    text = f"./a/x.png\r\n\nb y.png\n{tmp_path}/far/c.jpg.png\nfile://{tmp_path}/far/%C3%BC.png\n"
    entries = entries_of(tmp_path / "set/list.txt", f"\ufeff{text}")
    far = str(tmp_path / "far").lstrip("/")
    assert [entry.image_id for entry in entries] == sorted(
        ["a/x.png", "b y.png", f"{far}/c.jpg.png", f"{far}/ü.png"]
    )
    assert not any(entry.output.startswith("/") for entry in entries)
    rows, rejections = index_entries(entries, None, ignore=255, max_pixels=100)
    assert rejections == []
    assert sorted(open_row(row.image, 100).max() for row in rows) == [0, 1, 2, 3]


def test_a_path_that_leads_up_names_no_file_outside_the_results(tmp_path):
    save(tmp_path / "far/a.png", 5, 3)
    (entry,) = entries_of(tmp_path / "set/list.txt", "../set/../far/a.png\n")
    assert entry.path == tmp_path / "far/a.png"
    assert entry.output == f"{tmp_path}/far/a.png".lstrip("/")
    (inside,) = entries_of(tmp_path / "set/list.txt", "x/../y.png\n")
    assert (inside.image_id, inside.path) == ("y.png", tmp_path / "set/y.png")


def test_label_maps_are_listed_after_a_tab(tmp_path):
    save(tmp_path / "a.png", 1, 3)
    save(tmp_path / "b.png", 2, 3)
    save(tmp_path / "c.png", 3, 3)
    save(tmp_path / "truth/one.png", 1)
    text = "a.png\ttruth/one.png\nb.png\nc.png\ttruth/missing.png\n"
    entries = entries_of(tmp_path / "list.txt", text, classes="classes.csv")
    rows, rejections = index_entries(entries, TWO, ignore=255, max_pixels=100)
    assert [row.label is not None for row in rows] == [True, False, False]
    assert open_label(rows[0].label, SIZE).max() == 1
    assert [(item.image_id, item.what, item.reason) for item in rejections] == [
        ("c.png", "label", "the label map does not exist")
    ]
    for classes, labelled in (("classes.csv", True), (None, False)):
        raw = {"format": "list", "images": str(tmp_path / "list.txt"), "classes": classes}
        assert Layout(parse_config({"dataset": raw})).labelled == labelled


def test_missing_and_repeated_images_are_rejected(tmp_path):
    save(tmp_path / "a.png", 1, 3)
    text = "a.png\nmissing.png\n./a.png\n.\n\0.png\n"
    entries = entries_of(tmp_path / "list.txt", text)
    rows, rejections = index_entries(entries, None, ignore=255, max_pixels=100)
    assert [row.image_id for row in rows] == ["a.png"]
    assert {item.image_id: item.reason for item in rejections if "list.txt" in item.image_id} == {
        "line 3 of list.txt": "'./a.png' is also in line 1",
        "line 5 of list.txt": "'\\x00.png' is not the path of a file",
    }
    others = {item.reason for item in rejections if "list.txt" not in item.image_id}
    assert others == {
        "the file does not exist", "not an image file but a folder or special file",
    }  # fmt: skip


@pytest.mark.parametrize("url", ["s3://bucket/a.jpg", "https://x.org/a.jpg", "file://server/a"])
def test_urls_are_refused(url, tmp_path):
    with pytest.raises(DatasetError, match=r"list\.txt', line 2: .* is a URL, .* mount the stor"):
        entries_of(tmp_path / "list.txt", f"a.png\n{url}\n")


def test_a_list_that_is_missing_empty_or_no_text_is_explained(tmp_path):
    with pytest.raises(DatasetError, match="the list is empty"):
        entries_of(tmp_path / "list.txt", "\n\n")
    (tmp_path / "list.txt").write_bytes(b"a\xff.png\n")
    raw = {"format": "list", "images": tmp_path / "list.txt"}
    with pytest.raises(DatasetError, match=r"the list cannot be read .*utf-8"):
        list_dataset(DatasetSettings.model_validate(raw), Path("unused"))
    for path, reason in ((tmp_path / "none.txt", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(DatasetError, match=f"the list cannot be read .*{reason}"):
            list_dataset(DatasetSettings.model_validate({**raw, "images": path}), Path("unused"))


def test_an_image_that_leaves_the_list_changes_its_own_shard_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{number}.png" for number in range(8)]
    for number, name in enumerate(names):
        save(tmp_path / name, number, 3)

    def stamps(listed):
        (tmp_path / "list.txt").write_text("\n".join(listed))
        raw = {"format": "list", "images": "list.txt", "shard_size": 2}
        layout = Layout(parse_config({"dataset": raw}))
        return [layout.files_stamp(shard) for shard in layout.shards]

    before, after = stamps(names), stamps(names[:7])
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 1
