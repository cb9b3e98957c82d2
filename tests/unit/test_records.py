"""What is recorded of results: whether a file is another one, or missing from a folder."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from lightcluster.records import inventory, is_altered, lacking, portrait


@pytest.fixture
def folder(tmp_path):
    for place in ("a.png", "b.png", "inner/deep/c", "inner/d"):
        path = tmp_path / "made" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(place)
    return tmp_path / "made"


@pytest.fixture
def recorded(folder):
    return json.loads(json.dumps(inventory(folder)))


def test_a_folder_as_it_was_made_lacks_nothing(folder, recorded):
    assert lacking(folder, recorded) is None
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    (folder / "mine.txt").write_text("")
    assert lacking(folder, recorded) is None


@pytest.mark.parametrize("place", ["a.png", "b.png", "inner/deep/c", "inner/d"])
def test_each_file_is_missed(place, folder, recorded):
    (folder / place).unlink()
    assert lacking(folder, recorded) == place


def test_files_of_another_size_are_seen_where_the_folder_was_written_to(folder, recorded):
    (folder / "a.png").unlink()
    (folder / "a.png").write_text("cut")
    assert lacking(folder, recorded) == "a.png"


def test_files_that_were_edited_in_place_are_seen(folder, recorded):
    """The times of the folders stay as they were; so may the size of the file."""
    path = folder / "inner/d"
    before = path.stat().st_mtime_ns, path.parent.stat().st_mtime_ns
    for text in ("inner/D", "longer than before"):
        path.write_text(text)
        os.utime(path, ns=(1, 1))
        assert path.parent.stat().st_mtime_ns == before[1]
        assert lacking(folder, recorded) == "inner/d"
    path.write_text("inner/d")
    os.utime(path, ns=(1, 1))
    assert lacking(folder, recorded) is None


def test_files_of_one_size_that_changed_places_are_seen(folder, recorded):
    (folder / "a.png").rename(folder / "c")
    (folder / "b.png").rename(folder / "a.png")
    (folder / "c").rename(folder / "b.png")
    os.utime(folder / "a.png", (1, 1))
    assert lacking(folder, recorded) == "a.png"


def test_of_very_many_files_and_of_large_ones_not_all_is_looked_at(folder, recorded, monkeypatch):
    (folder / "a.png").write_text("A.png")
    monkeypatch.setattr("lightcluster.records._LOOKED_AT", 3)
    assert lacking(folder, recorded) is None
    os.utime(folder, (1, 1))
    assert lacking(folder, recorded) == "a.png"
    monkeypatch.setattr("lightcluster.records._DIGESTED", 5)
    again = json.loads(json.dumps(inventory(folder)))
    assert again["files"]["inner/d"][2] is None
    assert again["files"]["a.png"][2] is not None


def test_a_folder_that_is_missed_is_named(folder, recorded):
    shutil.rmtree(folder / "inner")
    assert "inner" in lacking(folder, recorded)


def test_copies_lack_nothing_whatever_their_times(folder, recorded, tmp_path):
    for number, copy in enumerate((shutil.copy, shutil.copyfile)):
        other = shutil.copytree(folder, tmp_path / str(number), copy_function=copy)
        assert lacking(other, recorded) is None
    (tmp_path / "0" / "inner" / "d").unlink()
    assert lacking(tmp_path / "0", recorded) == "inner/d"


# ---- a file ------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path):
    """A file, and what is recorded of it, through JSON."""
    path = tmp_path / "made.csv"
    path.write_text("a,b\n1,2\n")
    return path, json.loads(json.dumps(portrait(path)))


def test_a_file_that_was_touched_moved_or_copied_is_the_same(made, tmp_path):
    path, recorded = made
    assert not is_altered(path, recorded)
    assert not is_altered(shutil.copyfile(path, tmp_path / "copy.csv"), recorded)
    os.utime(path, (1, 1))
    assert not is_altered(path.rename(tmp_path / "moved.csv"), recorded)


@pytest.mark.parametrize("text", ["a,b\n1,3\n", "a,b\n", ""])
def test_a_file_that_was_changed_or_replaced_is_another(text, made):
    path, recorded = made
    path.write_text(text)
    os.utime(path, (1, 1))
    assert is_altered(path, recorded)


def test_a_file_whose_size_and_time_are_the_same_is_not_read(made):
    path, recorded = made
    status = path.stat()
    path.write_text("a,b\n1,3\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not is_altered(path, recorded)


def test_a_file_that_is_gone_cannot_be_judged(made):
    path, recorded = made
    path.unlink()
    with pytest.raises(FileNotFoundError):
        is_altered(path, recorded)
