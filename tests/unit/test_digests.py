"""Digests of whole files: what they tell apart, and when a file is read again."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightcluster import digests
from lightcluster.digests import MISSING, UNREADABLE, Digests, combine, digest_of

LONG_AGO = 60.0
"""Seconds, after which times of files say that they are the same."""


@pytest.fixture
def later(monkeypatch):
    """Let the clock, but not that of the file system, be a minute ahead: files have settled."""
    clock = time.time_ns
    monkeypatch.setattr(digests.time, "time_ns", lambda: clock() + int(LONG_AGO * 1e9))


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read, as they are read."""
    names = []
    read = digests._digest_file

    def noting(name, count):
        names.append(Path(name).name)
        return read(name, count)

    monkeypatch.setattr(digests, "_digest_file", noting)
    return names


def of(folder: Path, *names: str) -> list[str]:
    """Look files up as a process of its own would."""
    return Digests(folder / "cache").of([folder / name for name in names])


def overwrite(path: Path, position: int, content: bytes) -> None:
    """Change a file in place, and neither its length nor its time."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_digest_is_blake2b_of_the_whole_file(tmp_path, size):
    content = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.blake2b(content, digest_size=16).hexdigest()
    assert of(tmp_path, "file") == [digest_of(content)] == [expected]


def test_a_file_is_read_once(tmp_path, later, reads):
    for name in "abc":
        (tmp_path / name).write_text(name)
    first = of(tmp_path, "a", "b")
    assert sorted(reads) == ["a", "b"]
    assert of(tmp_path, "c", "a", "b", "a")[1:] == [*first, first[0]]
    assert sorted(reads) == ["a", "b", "c"]


@pytest.mark.parametrize("position", [0, 150_000, 299_999])
def test_a_byte_changed_in_place_is_seen_whatever_the_time_of_the_file_says(
    tmp_path, later, position
):
    path = tmp_path / "weights"
    path.write_bytes(bytes(300_000))
    before = of(tmp_path, "weights")
    overwrite(path, position, b"x")
    changed = of(tmp_path, "weights")
    assert changed == [digest_of(path.read_bytes())] != before
    overwrite(path, position, b"\0")
    assert of(tmp_path, "weights") == before


def test_a_file_in_the_place_of_another_of_the_same_length_and_time_is_seen(tmp_path, later):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1, 1))
    before = of(tmp_path, "a")
    os.replace(tmp_path / "b", tmp_path / "a")
    assert of(tmp_path, "a") == [digest_of(b"b")] != before


def test_a_link_that_points_elsewhere_is_seen(tmp_path, later):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("a")
    assert of(tmp_path, "link") == [digest_of(b"a")]
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("b")
    assert of(tmp_path, "link") == [digest_of(b"b")]


def test_times_and_permissions_cost_a_reading_and_change_nothing(tmp_path, later, reads):
    path = tmp_path / "a"
    path.write_text("a")
    before = of(tmp_path, "a")
    os.utime(path, (1, 1))
    assert of(tmp_path, "a") == before
    path.chmod(0o600)
    assert of(tmp_path, "a") == before
    path.rename(tmp_path / "b")
    assert of(tmp_path, "b") == before
    assert reads == ["a", "a", "a", "b"]


def test_a_file_that_has_just_been_changed_is_read_again(tmp_path, reads):
    (tmp_path / "a").write_text("a")
    for _ in range(3):
        assert of(tmp_path, "a") == [digest_of(b"a")]
    assert reads == ["a"] * 3


def test_a_file_that_is_changed_while_it_is_read_is_read_again(tmp_path, later, reads, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(bytes(4))
    monkeypatch.setattr(digests, "_CHUNK", 2)
    looked = Digests(tmp_path / "cache")
    original = digests._digest_file

    def growing(name, count):
        def grow(read):
            if path.stat().st_size < 6:
                with path.open("ab") as file:
                    file.write(b"xx")

        return original(name, grow)

    with monkeypatch.context() as patch:
        patch.setattr(digests, "_digest_file", growing)
        looked.of([path])
    assert looked.of([path]) == of(tmp_path, "a") == [digest_of(bytes(4) + b"xx")]
    assert reads == ["a"] * 2  # once while it grew, and then once more


def test_a_time_in_the_future_is_no_reason_to_read_again(tmp_path, later, reads):
    (tmp_path / "a").write_text("a")
    os.utime(tmp_path / "a", (time.time() + 1e6,) * 2)
    assert of(tmp_path, "a") == of(tmp_path, "a")
    assert reads == ["a"]


def test_what_is_no_file(tmp_path, later):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    names = ("none", "folder", "pipe", "link", "loop", "nul\0")
    assert of(tmp_path, *names) == [MISSING] * len(names)
    assert Digests(tmp_path / "cache").of(["", "/dev/zero"]) == [MISSING] * 2


def test_a_file_that_may_not_be_read(tmp_path, later, monkeypatch):
    (tmp_path / "a").write_text("a")
    with monkeypatch.context() as patch:
        patch.setattr(digests, "_open_at_once", lambda *_: (_ for _ in ()).throw(PermissionError))
        assert of(tmp_path, "a") == [UNREADABLE]
    assert of(tmp_path, "a") == [digest_of(b"a")]


DAMAGES = {
    "cut": lambda body: body[:-7],
    "a byte": lambda body: body[:60] + bytes([body[60] ^ 1]) + body[61:],
    "empty": lambda body: b"",
    "noise": lambda body: os.urandom(len(body)),
    "another version": lambda body: body.replace(b"digests 1", b"digests 2"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_again(tmp_path, later, reads, damage):
    (tmp_path / "a").write_text("a")
    before = of(tmp_path, "a")
    cache = tmp_path / "cache"
    whole = cache.read_bytes()
    cache.write_bytes(DAMAGES[damage](whole))
    assert of(tmp_path, "a") == before
    assert reads == ["a", "a"]
    assert cache.read_bytes() == whole


@pytest.mark.parametrize("place", ["file/cache", "folder"])
def test_where_no_cache_can_be_written_files_are_read_again(tmp_path, later, place):
    (tmp_path / "file").write_text("a")
    (tmp_path / "folder").mkdir()
    for _ in range(2):
        assert Digests(tmp_path / place).of([tmp_path / "file"]) == [digest_of(b"a")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_jobs_use_the_cache_and_leave_it_as_it_is(tmp_path, later, reads):
    for name in "ab":
        (tmp_path / name).write_text(name)
    of(tmp_path, "a")
    before = (tmp_path / "cache").read_bytes()
    found = Digests(tmp_path / "cache", keep=False).of([tmp_path / name for name in "ab"])
    assert found == [digest_of(b"a"), digest_of(b"b")]
    assert reads == ["a", "b"]
    assert (tmp_path / "cache").read_bytes() == before


def test_files_that_are_gone_leave_the_cache_and_others_stay_in_it(tmp_path, later, reads):
    for name in "abc":
        (tmp_path / name).write_text(name)
    of(tmp_path, "a", "b")
    (tmp_path / "a").unlink()
    of(tmp_path, "c")
    of(tmp_path, "b", "c")
    assert sorted(reads) == ["a", "b", "c"]
    assert b"/a\0" not in (tmp_path / "cache").read_bytes()


@pytest.mark.parametrize("name", ["a b\tc\n", "é", os.fsdecode(b"\xff.jpg"), "-rf", "=1"])
def test_names_of_any_characters(tmp_path, later, reads, name):
    (tmp_path / name).write_text("x")
    assert of(tmp_path, name) == of(tmp_path, name) == [digest_of(b"x")]
    assert len(reads) == 1


def test_an_interrupted_reading_goes_on_from_where_it_was(tmp_path, later, reads, monkeypatch):
    for number in range(200):
        (tmp_path / f"{number:03}").write_text(str(number))
    names = sorted(path.name for path in tmp_path.iterdir())
    read = digests._digest_file

    def stopping(name, count):
        if name.endswith("150"):
            raise KeyboardInterrupt
        return read(name, count)

    with monkeypatch.context() as patch:
        patch.setattr(digests, "_digest_file", stopping)
        with pytest.raises(KeyboardInterrupt):
            of(tmp_path, *names)
    reads.clear()
    found = of(tmp_path, *names)
    assert found == [digest_of(str(number).encode()) for number in range(200)]
    assert sorted(reads) == names[150:]


def look_up(folder: Path, rounds: int) -> None:
    """Look files up again and again, each time with a memory of one's own."""
    digests._COARSEST_NS = 0  # of this process
    names = sorted(path for path in folder.iterdir() if path.name.isdigit())
    for turn in range(rounds):
        looked = Digests(folder / "cache")
        own = names[turn % 3 :]
        assert looked.of(own) == [digest_of(path.read_bytes()) for path in own]


def test_several_at_once_never_damage_what_they_share(tmp_path):
    for number in range(30):
        (tmp_path / str(number)).write_bytes(random.Random(number).randbytes(1000))
    processes = [
        multiprocessing.get_context("spawn").Process(target=look_up, args=(tmp_path, 20))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    assert len(Digests(tmp_path / "cache")._known) in range(28, 31)
    assert not list(tmp_path.glob("*.tmp"))


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None)
@given(*[st.lists(TEXTS)] * 2)
def test_texts_are_told_apart(one, other):
    assert (combine(one) == combine(other)) == (one == other)
