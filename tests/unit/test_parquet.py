"""Images and label maps in parquet files: listing, reading, and what cannot be used."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightcluster import locations
from lightcluster.config import parse_config
from lightcluster.datasets.entries import Entry
from lightcluster.datasets.formats import parquet
from lightcluster.datasets.labels import Classes, open_label
from lightcluster.datasets.listing import list_dataset, split_shards
from lightcluster.datasets.manifest import Row, index_entries, read_manifest, write_rows
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.digests import digest_of
from lightcluster.errors import ConfigError, DatasetError, ImageError
from lightcluster.extraction.images import open_row

arrow = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

SIZE = (4, 6)
TWO = Classes((0, 1), ("background", "thing"))
LIMITS = {"ignore": 255, "max_pixels": 10**6}


def encoded(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def picture(value: int) -> bytes:
    return encoded(np.full((*SIZE, 3), value))


def label(value: int) -> bytes:
    return encoded(np.full(SIZE, value))


def write(path: Path, rows: int = 0, columns=None, **options) -> Path:
    """Write pictures 0 to `rows` - 1 in row groups of two, or other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = columns or {"image": [picture(number) for number in range(rows)]}
    pq.write_table(arrow.table(columns), path, **{"row_group_size": 2, **options})
    return path


def entries_of(images: Path, others: list[str] | None = None, **keys) -> list[Entry]:
    raw = {"format": "parquet", "images": images, "classes": images, **keys}
    return list_dataset(DatasetSettings.model_validate(raw), Path("unused"), others)


def reasons(images: Path, **keys) -> dict[str, str]:
    classes = TWO if "label_column" in keys else None
    rejections = index_entries(entries_of(images, **keys), classes, **LIMITS)[1]
    return {item.image_id: item.reason for item in rejections}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_cells_are_read_with_their_labels(compression, tmp_path):
    """Of structs, as Hugging Face writes them, and of bytes."""
    structs = [{"bytes": picture(number), "path": f"{number}.png"} for number in range(5)]
    labels = [label(number % 2) for number in range(5)]
    columns = {"id": list(range(5)), "image": structs, "truth": labels}
    write(tmp_path / "set/a.parquet", columns=columns, compression=compression)
    write(tmp_path / "set/b/c.parquet", columns=columns, compression=compression)
    (tmp_path / "set/README.md").write_text("x")
    others: list[str] = []
    keys = {"label_column": "truth"}
    entries = entries_of(tmp_path / "set", others, **keys)
    assert others == ["README.md"]
    assert [entry.output for entry in entries][4:6] == [
        "a.parquet/00000004.png", "b/c.parquet/00000000.png",
    ]  # fmt: skip
    rows, rejections = index_entries(entries, TWO, **LIMITS)
    assert rejections == []
    write_rows(tmp_path / "manifest.csv", rows, Row)
    read = read_manifest(tmp_path / "manifest.csv")
    assert read == rows
    for number, row in enumerate(read):
        assert row.image_id.endswith(f".parquet/{number % 5:08d}")
        assert row.digest == digest_of(picture(number % 5))
        assert open_row(row.image, 100).max() == number % 5
        assert open_label(row.label, SIZE).max() == number % 5 % 2


def test_a_row_group_is_read_once_for_all_its_rows(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", 6)
    locations._read_column.cache_clear()
    rows, _ = index_entries(entries_of(tmp_path), None, **LIMITS)
    assert len(rows) == 6
    assert locations._read_column.cache_info().misses == 3


def test_shards_are_cut_between_row_groups(tmp_path):
    write(tmp_path / "a.parquet", 8)
    write(tmp_path / "b.parquet", 7)
    split = split_shards(entries_of(tmp_path), 4)
    numbers = [{(entry.inside.container, entry.inside.block) for entry in part} for part in split]
    assert [len(groups) for groups in numbers] == [2, 2, 2, 2]
    assert len(set.union(*numbers)) == 8


def test_cells_without_an_image_are_rejected(tmp_path):
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    values = [
        {"bytes": picture(1), "path": None}, None, {"bytes": None, "path": "x.png"},
        {"bytes": b"text", "path": "y.png"}, {"bytes": b"", "path": None},
    ]  # fmt: skip
    truth = [None, label(1), label(1), label(1), label(1)]
    columns = {"image": arrow.array(values, kind), "truth": arrow.array(truth, arrow.binary())}
    write(tmp_path / "a.parquet", columns=columns)
    said = reasons(tmp_path, label_column="truth")
    assert [said[f"a.parquet/{number:08d}"].split(":")[0] for number in range(5)] == [
        "the cell is empty", "the cell is empty",
        "the cell is empty and only names a file, 'x.png'",
        "not an image in a supported format", "the file is empty",
    ]  # fmt: skip


def test_damaged_files_and_missing_columns_are_rejected(tmp_path):
    write(tmp_path / "a.parquet", 2)
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "link.parquet").symlink_to("nowhere")
    write(tmp_path / "other.parquet", columns={"image": ["text"], "picture": [b"x"]})
    said = reasons(tmp_path)
    assert sorted(said) == ["cut.parquet", "empty.parquet", "link.parquet", "other.parquet"]
    assert said["cut.parquet"].startswith("damaged parquet file")
    assert said["empty.parquet"].startswith("damaged parquet file")
    assert "No such file" in said["link.parquet"]
    assert said["other.parquet"] == (
        "there is no column 'image' with the bytes of files; such columns: 'picture'"
    )


def test_damaged_data_are_rejected_with_the_row_group(tmp_path):
    path = write(tmp_path / "a.parquet", 4, compression="none", use_dictionary=False)
    content = path.read_bytes()
    at = content.index(picture(0))
    path.write_bytes(content[: at - 30] + b"\xff" * 30 + content[at:])
    rows, _ = index_entries(entries_of(tmp_path), None, **LIMITS)
    assert [row.image_id for row in rows] == ["a.parquet/00000002", "a.parquet/00000003"]
    assert "the parquet file cannot be read" in reasons(tmp_path)["a.parquet/00000001"]


def test_a_file_that_changes_later_is_noticed(tmp_path):
    path = write(tmp_path / "a.parquet", 2)
    (row, _), _ = index_entries(entries_of(tmp_path), None, **LIMITS)
    path.unlink()
    write(path, columns={"image": [picture(7), picture(8)]})
    with pytest.raises(ImageError, match=r"a\.parquet, row 0, 'image': has changed since"):
        open_row(row.image, 100)
    path.unlink()
    with pytest.raises(ImageError, match="has disappeared since"):
        open_row(row.image, 100)


def test_row_groups_that_do_not_fit_into_memory_are_not_read(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", 2)
    monkeypatch.setattr(parquet, "LARGEST_GROUP", 10)
    assert "at most 10 are allowed" in reasons(tmp_path)["a.parquet/00000000"]


def test_without_pyarrow_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", 2)
    (row, _), _ = index_entries(entries_of(tmp_path), None, **LIMITS)
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    locations._read_column.cache_clear()
    with pytest.raises(DatasetError, match=r"pip install 'lightcluster\[parquet\]'"):
        entries_of(tmp_path)
    with pytest.raises(ImageError, match=r"pip install 'lightcluster\[parquet\]'"):
        row.path.read()


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(DatasetError, match="there is no such folder or file"):
        entries_of(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no parquet files found"):
        entries_of(tmp_path)
    write(tmp_path / "a.parquet", columns={"image": arrow.array([], arrow.binary())})
    with pytest.raises(DatasetError, match="has no rows"):
        entries_of(tmp_path)
    for keys, message in (
        ({"images": None}, "needs the folder of the parquet files, or one file"),
        ({"label_column": "l"}, "labels need a classes.csv"),
        ({"image_extension": "jpg"}, "not used by `format: parquet`"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_config({"dataset": {"format": "parquet", "images": "i", **keys}})
