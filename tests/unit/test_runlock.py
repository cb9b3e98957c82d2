"""One run at a time in a folder of results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightcluster.errors import LightClusterError
from lightcluster.runlock import RunLock

HOLD = """
import sys, time
from pathlib import Path
from lightcluster.runlock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of ``results/demo``."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "results/demo")],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_nobody_is_at_work_in_a_new_folder(tmp_path):
    lock = RunLock(tmp_path / "results/demo")
    assert lock.holder() is None
    assert not lock.folder.exists()
    lock.acquire()
    assert lock.file.exists()


def test_another_process_is_named_and_kept_out(tmp_path, holder):
    lock = RunLock(tmp_path / "results/demo")
    assert lock.holder().startswith(f"process {holder.pid} on ")
    with pytest.raises(LightClusterError, match=rf"demo: process {holder.pid} on .* is at work"):
        lock.acquire()


def test_the_lock_ends_with_its_process(tmp_path, holder):
    holder.kill()
    holder.wait()
    lock = RunLock(tmp_path / "results/demo")
    assert lock.holder() is None
    lock.acquire()


def test_looking_does_not_hold(tmp_path, holder):
    lock = RunLock(tmp_path / "results/demo")
    assert "is at work there" in lock.obstacle()
    holder.kill()
    holder.wait()
    assert lock.obstacle() is None
    assert lock.obstacle() is None
    lock.acquire()


def test_notes_of_the_dead_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notes = tmp_path / "locks"
    notes.mkdir()
    (notes / "0.output.lock").write_text("results/demo/manifest.csv\nresults/weights/a\n")
    (notes / "1.output.lock").write_text("results/photos/manifest.csv\n")
    (notes / "2.output.lock").write_text("results/demo2/manifest.csv\n")
    RunLock(tmp_path / "results/demo").forget_the_dead(notes)
    assert len(list(notes.iterdir())) == 3  # these paths are relative, and so is the folder
    lock = RunLock((tmp_path / "results/demo").relative_to(tmp_path))
    lock.forget_the_dead(notes)
    assert sorted(note.name for note in notes.iterdir()) == ["1.output.lock", "2.output.lock"]
    lock.forget_the_dead(tmp_path / "nowhere")


def test_notes_of_the_living_stay(tmp_path, holder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    note = tmp_path / "0.output.lock"
    note.write_text("results/demo/manifest.csv\n")
    RunLock(Path("results/demo")).forget_the_dead(tmp_path)
    assert note.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(LightClusterError, match="results/demo: cannot be written to"):
        RunLock(tmp_path / "results" / "demo").acquire()


def test_what_the_lock_says_is_no_condition(tmp_path, holder):
    file = tmp_path / "results/demo/.lock"
    os.truncate(file, 0)
    assert RunLock(file.parent).holder() == "another run"
