"""Files between steps: whole or not there at all."""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from builders import quick
from hypothesis import given
from hypothesis import strategies as st

from lightcluster.errors import StoreError
from lightcluster.extraction.store import FeatureStoreWriter, ImageFeatures
from lightcluster.files import (
    copy_file,
    decode_names,
    encode_names,
    read_arrays,
    replacing,
    require_file,
    write_arrays,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(path: Path, *names: str) -> None:
    path.mkdir()
    for name in names:
        (path / name).write_text(name)


class BrokenError(Exception):
    pass


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.startswith(".")
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names_in(path.parent) == ["file"]


@pytest.mark.parametrize("old_is_folder", [False, True])
@pytest.mark.parametrize("new_is_folder", [False, True])
def test_what_stood_there_is_replaced(
    tmp_path: Path, old_is_folder: bool, new_is_folder: bool
) -> None:
    path = tmp_path / "output"
    write_folder(path, "old") if old_is_folder else path.write_text("old")
    with replacing(path) as temporary:
        write_folder(temporary, "new") if new_is_folder else temporary.write_text("new")
        assert ((path / "old") if old_is_folder else path).read_text() == "old"
    assert ((path / "new") if new_is_folder else path).read_text() == "new"
    assert names_in(tmp_path) == ["output"]
    if new_is_folder:
        assert names_in(path) == ["new"]


@pytest.mark.parametrize("old_is_folder", [False, True])
@pytest.mark.parametrize("new_is_folder", [False, True])
def test_a_failure_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, old_is_folder: bool, new_is_folder: bool
) -> None:
    path = tmp_path / "output"
    write_folder(path, "old") if old_is_folder else path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            write_folder(temporary, "new") if new_is_folder else temporary.write_text("new")
            raise BrokenError

    with pytest.raises(BrokenError):
        fail()
    assert ((path / "old") if old_is_folder else path).read_text() == "old"
    assert names_in(tmp_path) == ["output"]


@pytest.mark.parametrize("old_is_folder", [False, True])
def test_forgetting_to_write_leaves_the_old_one(tmp_path: Path, old_is_folder: bool) -> None:
    path = tmp_path / "output"
    write_folder(path, "old") if old_is_folder else path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert ((path / "old") if old_is_folder else path).read_text() == "old"
    assert names_in(tmp_path) == ["output"]


def test_a_failed_renaming_brings_an_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "output"
    write_folder(path, "old")
    rename = os.replace

    def no_space(source: Path, target: Path) -> None:
        if source.name.endswith(".tmp"):
            raise OSError("no space")
        rename(source, target)

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OSError, match="no space"), replacing(path) as temporary:
        write_folder(temporary, "new")
    assert names_in(path) == ["old"]
    assert names_in(tmp_path) == ["output"]


@pytest.mark.parametrize("left_is_folder", [False, True])
def test_what_a_killed_process_of_the_same_number_left_is_no_hindrance(
    tmp_path: Path, left_is_folder: bool
) -> None:
    """In containers, processes have the same few numbers over and over again."""
    path = tmp_path / "output"
    with replacing(path) as temporary:
        name = temporary
        temporary.write_text("")
    path.unlink()
    write_folder(name, "stale") if left_is_folder else name.write_text("stale")
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
    assert names_in(path) == ["new"]
    assert names_in(tmp_path) == ["output"]


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    write_folder(tmp_path / "target", "old")
    (tmp_path / "output").symlink_to(tmp_path / "target")
    with replacing(tmp_path / "output") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "output").read_text() == "new"
    assert names_in(tmp_path / "target") == ["old"]
    assert names_in(tmp_path) == ["output", "target"]


ARRAYS = {
    "label": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "score": np.linspace(0, 1, 5, dtype=np.float16),
    "flag": np.asarray([True, False]),
    "count": np.asarray(7, np.int64),
    "none": np.empty((0, 4), np.float32),
}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_arrays_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "arrays.npz"
    write_arrays(path, **ARRAYS)
    assert_same(read_arrays(path), ARRAYS)
    assert_same(read_arrays(path, "score", "none"), {n: ARRAYS[n] for n in ("score", "none")})
    assert names_in(path.parent) == ["arrays.npz"]


def test_the_same_arrays_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_arrays(tmp_path / "one.npz", **ARRAYS)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    write_arrays(tmp_path / "other.npz", **{name: a.copy() for name, a in ARRAYS.items()})
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()


def test_objects_are_neither_written_nor_does_the_attempt_leave_anything(tmp_path: Path) -> None:
    write_arrays(tmp_path / "arrays.npz", **ARRAYS)
    with pytest.raises(ValueError, match="Object arrays"):
        write_arrays(tmp_path / "arrays.npz", bad=np.asarray([{}], object))
    assert names_in(tmp_path) == ["arrays.npz"]
    assert_same(read_arrays(tmp_path / "arrays.npz"), ARRAYS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere\.npz: not found; run snakemake"):
        read_arrays(tmp_path / "nowhere.npz", "label")


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    write_arrays(tmp_path / "arrays.npz", **ARRAYS)
    with pytest.raises(StoreError, match=r"arrays\.npz: array 'centroids' is missing; delete it"):
        read_arrays(tmp_path / "arrays.npz", "label", "centroids")


def test_an_object_array_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    path = tmp_path / "trap.npz"
    np.savez(path, label=np.asarray([Trap()], object))
    for names in ((), ("label",)):
        with pytest.raises(StoreError, match=r"trap\.npz: damaged \(Object arrays"):
            read_arrays(path, *names)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(StoreError, match=r"trap\.npz: damaged"):
        read_arrays(path)
    assert not (tmp_path / "sprung").exists()


def a_single_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04", bytes(500), a_single_array()])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"other\.npz: damaged .*delete it and run snakemake"):
        read_arrays(path, "label")


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"damaged \(.*directory"):
        read_arrays(tmp_path, "label")


def test_a_file_cut_short_anywhere_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    write_arrays(path, label=ARRAYS["label"], score=ARRAYS["score"])
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=r"cut\.npz"):
            read_arrays(path, "label", "score")


def test_a_flipped_bit_anywhere_is_found_or_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "flipped.npz"
    arrays = {name: ARRAYS[name] for name in ("label", "score")}
    write_arrays(path, **arrays)
    whole = path.read_bytes()
    found = 0
    for place in range(len(whole)):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        )
        try:
            assert_same(read_arrays(path, *arrays), arrays)
        except StoreError:
            found += 1
    assert found > len(whole) / 2


NAMES = [
    "plain.jpg", "with space.png", "a/b/c.png", "quote\".png", "new\nline", "tab\t", "back\\slash",
    "nul\0", "ünïcödé", "日本語", "🦊.webp", "", "comma, semicolon;", "[glob]*?", "'",
]  # fmt: skip


@pytest.mark.parametrize("names", [[], [""], NAMES])
def test_names_of_odd_characters_survive(tmp_path: Path, names: list[str]) -> None:
    write_arrays(tmp_path / "names.npz", image_id=encode_names(names))
    assert decode_names(read_arrays(tmp_path / "names.npz", "image_id")["image_id"]) == names


@quick
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_names_survive(names: list[str]) -> None:
    encoded = encode_names(names)
    assert encoded.dtype == np.uint8
    assert decode_names(encoded) == names


# ---- where nothing can be written ----------------------------------------------------------------


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 4096 bytes: as on a full disk, but nobody else is disturbed.

    Only for the writing itself: pytest's own report may go to a file, which must grow.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_grow_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "made.npz"
    write_arrays(path, a=np.zeros(3))
    before = path.read_bytes()
    with (
        pytest.raises(StoreError, match=r"made\.npz: cannot be written .*ulimit -f.*run snakem"),
        small_files(),
    ):
        write_arrays(path, compressed=False, a=np.zeros(10_000))
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["made.npz"]


def test_a_store_that_cannot_grow_leaves_nothing(tmp_path):
    one = np.array([[40, 40]])
    features = ImageFeatures(
        np.zeros(8, np.float32),
        np.zeros(1600, np.float16),
        np.zeros((1600, 4, 3), np.uint8),
        {"key": np.ones((1600, 8), np.float16)},
    )
    with (
        pytest.raises(StoreError, match=r"0000\.zarr: cannot be written"),
        small_files(),
        FeatureStoreWriter(tmp_path / "0000.zarr", one, one, ["a"], ["key"], 8, {}) as writer,
    ):
        writer.append("a", features)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_explained(tmp_path, number):
    match = re.escape(os.strerror(number))
    with pytest.raises(StoreError, match=match), replacing(tmp_path / "file"):
        raise OSError(number, os.strerror(number))


def test_only_what_was_to_be_written_is_explained(tmp_path):
    denied = PermissionError(errno.EACCES, "Permission denied", "/somewhere/else.jpg")
    with pytest.raises(PermissionError), replacing(tmp_path / "file"):
        raise denied
    missing = FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        raise missing
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".file.tmp"))
    with pytest.raises(StoreError, match="file: cannot be written"), replacing(tmp_path / "file"):
        raise denied


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".[a].npz.77.tmp").write_text("half")
    write_folder(tmp_path / ".[a].npz.78.old", "x")
    (tmp_path / ".a.npz.77.tmp").write_text("of another file")
    write_arrays(tmp_path / "[a].npz", a=np.zeros(3))
    assert names_in(tmp_path) == [".a.npz.77.tmp", "[a].npz"]


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127 + "a", "日" * 85])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, name, is_folder):
    for _ in range(2):
        with replacing(tmp_path / name) as temporary:
            write_folder(temporary, "new") if is_folder else temporary.write_text("new")
    assert names_in(tmp_path) == [name]


def test_another_file_whose_name_begins_alike_is_not_disturbed(tmp_path):
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        with replacing(tmp_path / "a") as other:
            other.write_text("whole")
        assert temporary.read_text() == "half"
    assert names_in(tmp_path) == ["a", "a.json"]


# ---- what reaches the disk -----------------------------------------------------------------------


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """A loss of power after the renaming finds whole files; in which order they came is kept."""
    happened: list[str] = []
    sync, rename = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        happened.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        happened.append(f"renamed to {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    with replacing(tmp_path / "folder") as temporary:
        (temporary / "sub").mkdir(parents=True)
        (temporary / "a").write_text("a")
        (temporary / "sub" / "b").write_text("b")
    assert sorted(happened[:4]) == sorted(["a", "b", "sub", temporary.name])
    assert happened[4:] == ["renamed to folder", tmp_path.name]
    happened.clear()
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("a")
    assert happened == [temporary.name, "renamed to file", tmp_path.name]


def test_a_disk_that_is_full_only_when_it_is_written_to_is_noticed(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="file: cannot be written"):
        write_arrays(tmp_path / "file", a=np.zeros(3))
    assert names_in(tmp_path) == []


# ---- what is no file -----------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path):
    """A named pipe into which nobody writes: whoever opens it waits for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("linked", [False, True])
def test_pipes_devices_and_folders_are_not_opened(tmp_path, pipe, linked, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the address of a socket is a short path
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    for path, said in {
        pipe: "is a pipe, not a file",
        tmp_path / "socket": "is a socket, not a file",
        Path("/dev/zero"): "is a device, not a file",
        tmp_path: "Is a directory",
    }.items():
        place = tmp_path / f"link-{path.name}" if linked else path
        if linked:
            place.symlink_to(path)
        with pytest.raises(OSError, match=f"{said}: .*{place.name}"):
            require_file(place)


def test_files_and_links_to_files_may_be_opened(tmp_path):
    (tmp_path / "file").write_text("here")
    (tmp_path / "link").symlink_to("file")
    assert require_file(tmp_path / "link").read_text() == "here"
    (tmp_path / "nothing").symlink_to("nowhere")
    (tmp_path / "itself").symlink_to("itself")
    for name in ("nothing", "itself", "missing"):
        with pytest.raises(OSError, match=name):
            require_file(tmp_path / name)


def test_a_pipe_is_neither_copied_nor_read(tmp_path, pipe):
    with pytest.raises(OSError, match="is a pipe"):
        copy_file(pipe, tmp_path / "copy")
    with pytest.raises(StoreError, match="is a pipe"):
        read_arrays(pipe)
    assert names_in(tmp_path) == ["pipe"]
