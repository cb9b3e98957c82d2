"""One run at a time in a folder of results, with the file system's locks and without."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lightcluster.commission import VARIABLE
from lightcluster.errors import LightClusterError
from lightcluster.locks import Lock
from lightcluster.runlock import Notes, RunLock

RESULTS = Path("results")
DEMO, PHOTOS = RESULTS / "demo", RESULTS / "photos"

HOLD = """
import fcntl, os, sys
from pathlib import Path
if sys.argv[2] == "without":
    def flock(descriptor, kind):
        raise OSError(38, "Function not implemented")
    fcntl.flock = flock
from lightcluster.runlock import Notes, RunLock
lock, notes = RunLock(Path(sys.argv[1])), Notes(Path(".snakemake"))
if "start" in sys.argv:
    notes.begin(Path("results"))
else:
    lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """In a folder of its own: notes name files as seen from where Snakemake runs."""
    monkeypatch.chdir(tmp_path)
    Path(".snakemake/locks").mkdir(parents=True)


@pytest.fixture(params=["with", "without"])
def flock(request, monkeypatch):
    """Whether the file system has locks."""
    if request.param == "without":

        def refuse(descriptor, kind):
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


@pytest.fixture
def start(flock):
    """``start(folder, *words)``: a process that holds the lock of a folder."""
    processes = []

    def begin(folder: Path = DEMO, *words: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), flock, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def note(name: str, *lines: str) -> Path:
    path = Path(".snakemake/locks", name)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def begin(wait: float = 0.0) -> Notes:
    notes = Notes(Path(".snakemake"))
    notes.begin(RESULTS, wait)
    return notes


# ---- the lock ------------------------------------------------------------------------------------


def test_nobody_is_at_work_in_a_new_folder(flock):
    lock = RunLock(DEMO)
    assert lock.holder() is None
    assert not DEMO.exists()
    lock.acquire()
    assert lock.file.exists()
    assert RunLock(DEMO).holder().startswith(f"process {os.getpid()} on ")
    lock.release()
    assert RunLock(DEMO).holder() is None


def test_another_process_is_named_and_kept_out(start):
    holder, lock = start(), RunLock(DEMO)
    assert lock.holder().startswith(f"process {holder.pid} on ")
    with pytest.raises(LightClusterError, match=rf"demo: is in use by process {holder.pid} on "):
        lock.acquire()


@pytest.mark.parametrize("how", ["killed", "killed and not yet waited for", "ended"])
def test_the_lock_ends_with_its_process(start, how):
    holder = start()
    if how == "ended":
        holder.communicate()
    else:
        holder.kill()
    if how == "killed":
        holder.wait()
    if how == "killed and not yet waited for":
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    lock = RunLock(DEMO)
    assert lock.holder() is None
    lock.acquire()
    lock.release()


def test_another_process_of_the_same_number_is_not_the_holder(flock):
    lock = RunLock(DEMO)
    lock.acquire()
    said = json.loads(lock.file.read_text())
    lock.release()
    boot, among, began = said["life"]
    for life, held in (
        ([boot, among, began], True),
        ([boot, among, str(int(began) + 1)], False),
        (["another", among, began], False),  # the machine was started again
        ([boot, "another", began], True),  # in another container: nobody can tell
        (None, True),
    ):
        lock.file.write_text(json.dumps({**said, "life": life, "flock": False}))
        assert (RunLock(DEMO).holder() is not None) == held


def test_who_cannot_be_looked_for_is_believed_to_live(flock):
    """On another machine, where the file system has no locks; what to do is said."""
    lock = RunLock(DEMO)
    lock.acquire()
    said = json.loads(lock.file.read_text())
    lock.release()
    lock.file.write_text(json.dumps({**said, "host": "elsewhere", "flock": False}))
    with pytest.raises(
        LightClusterError, match=r"elsewhere .*longer exists, delete results/demo/\."
    ):
        lock.acquire()
    lock.file.unlink()
    lock.acquire()
    assert lock.remedy() == (
        "" if flock == "with" else f". If that process no longer exists, delete {lock.file}"
    )
    lock.release()


def test_looking_does_not_hold(start):
    holder, lock = start(), RunLock(DEMO)
    assert "is in use by" in lock.obstacle()
    kill(holder)
    assert lock.obstacle() is None
    assert lock.obstacle() is None
    lock.acquire()
    lock.release()


@pytest.mark.parametrize("flock", ["with"], indirect=True)
def test_somebody_who_looks_at_the_lock_for_long_is_not_taken_for_a_run(flock):
    DEMO.mkdir(parents=True)
    looking = os.open(DEMO / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(1.5, os.close, [looking]).start()
    lock = RunLock(DEMO)
    lock.acquire()
    lock.release()


def test_a_lock_that_is_removed_when_it_is_given_back_can_be_taken_again(flock):
    for _ in range(3):
        lock = Lock(DEMO / ".lock")
        assert lock.take()
        assert not Lock(DEMO / ".lock").take(wait=0)
        lock.release(remove=True)
        assert list(DEMO.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named():
    RESULTS.write_text("a file")
    with pytest.raises(LightClusterError, match="results/demo: cannot be written to"):
        RunLock(DEMO).acquire()


@pytest.mark.parametrize("flock", ["with"], indirect=True)
@pytest.mark.parametrize("said", ["", "{", "null", "[1]", "{}", '{"process": "x"}'])
def test_what_the_lock_says_is_no_condition(start, said):
    start()
    (DEMO / ".lock").write_text(said)
    assert RunLock(DEMO).holder() == "another run"


@pytest.mark.parametrize("said", ["", "{", "null", "[1]", "\0" * 100])
def test_a_file_that_says_nothing_is_nobodys(flock, said):
    DEMO.mkdir(parents=True)
    (DEMO / ".lock").write_text(said)
    lock = RunLock(DEMO)
    assert lock.holder() is None
    lock.acquire()
    lock.release()


def test_a_run_waits_for_a_step_that_is_putting_a_result_in_its_place(monkeypatch):
    monkeypatch.setattr("lightcluster.runlock._PATIENCE", 0.2)
    DEMO.mkdir(parents=True)
    with (DEMO / ".publishing").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(LightClusterError, match="demo: a step of an earlier run is still"):
            RunLock(DEMO).acquire()
    lock = RunLock(DEMO)
    assert VARIABLE in lock.acquire()
    lock.release()


# ---- Snakemake's notes ---------------------------------------------------------------------------


def test_notes_of_the_dead_are_removed_whatever_was_being_made(flock):
    note("0.output.lock", "results/demo/manifest.csv", "results/weights/a")
    note("1.output.lock", "results/photos/manifest.csv")
    note("2.output.lock", "results/weights/a.safetensors")
    note("3.output.lock", "results/demo/x", "results/photos/.lock")
    note("4.output.lock", "/elsewhere/x", "results/photos/.lock")
    other = note("5.output.lock", "of/another/workflow")
    notes = begin()
    assert list(Path(".snakemake/locks").iterdir()) == [other]
    notes.sign(RunLock(DEMO))
    Notes(Path("nowhere")).begin(RESULTS)


def test_notes_of_the_living_stay(start):
    start(PHOTOS)
    kill(start(DEMO))
    note("0.output.lock", "results/demo/manifest.csv", "results/weights/a")
    note("1.output.lock", "results/photos/manifest.csv")
    note("2.output.lock", "results/weights/a", "results/demo/.lock")
    signed = note("3.output.lock", "results/weights/a", "results/photos/.lock")
    begin().sign(RunLock(DEMO))
    left = sorted(path.name for path in Path(".snakemake/locks").iterdir())
    assert left == ["1.output.lock", "3.output.lock"]
    assert "demo" not in signed.read_text()


def test_a_run_signs_its_own_notes_and_no_others(flock):
    (DEMO / ".lock").parent.mkdir(parents=True)
    lock = RunLock(PHOTOS)
    lock.acquire()
    other = note("0.output.lock", "results/photos/x")
    notes = begin()
    mine = note("1.output.lock", "results/weights/a")
    notes.sign(RunLock(DEMO))
    assert mine.read_text() == "results/weights/a\nresults/demo/.lock\n"
    assert other.read_text() == "results/photos/x\n"
    lock.release()


def test_while_another_is_starting_only_signed_notes_are_known_to_be_dead(start):
    starting = start(PHOTOS, "start")
    unsigned = note("0.output.lock", "results/weights/a")
    signed = note("1.output.lock", "results/weights/a", "results/demo/.lock")
    begin().sign(RunLock(DEMO))
    assert unsigned.exists()
    assert not signed.exists()
    kill(starting)
    begin().sign(RunLock(DEMO))
    assert not unsigned.exists()


def test_weights_that_are_made_can_be_used_while_their_run_goes_on(start):
    """Though it notes them until its end: it will not touch them again."""
    maker, weights = start(PHOTOS), RESULTS / "weights/a.safetensors"
    weights.parent.mkdir()
    weights.write_text("of an earlier run, to be made again")
    noted = note("0.output.lock", "results/photos/x", str(weights), "results/photos/.lock")
    began = noted.stat().st_mtime_ns
    os.utime(weights, ns=(began - 10**9, began - 10**9))
    marker = Path(".snakemake/incomplete", base64.urlsafe_b64encode(bytes(weights)).decode())
    marker.parent.mkdir()

    def said() -> str:
        return "".join(begin().share([weights, RESULTS / "weights/b"], RESULTS))

    waits = f"a.safetensors: will be written by the run of results/photos (process {maker.pid} on "
    assert waits in said()
    marker.touch()  # it is being made
    os.utime(weights, ns=(began + 10**9, began + 10**9))
    assert waits in said()
    assert str(weights) in noted.read_text()
    marker.unlink()
    assert said() == ""
    assert noted.read_text() == "results/photos/x\nresults/photos/.lock\n"
    assert noted.stat().st_mtime_ns == began


def test_a_stopped_holder_still_holds(start):
    holder = start()
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        assert RunLock(DEMO).holder() is not None
    finally:
        os.kill(holder.pid, signal.SIGCONT)
