"""A step that outlives its run leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lightcluster.commission import VARIABLE, check_commission, commission, publishing
from lightcluster.errors import OutlivedError
from lightcluster.files import replacing
from lightcluster.runlock import RunLock

STEP = """
import sys, threading
from pathlib import Path
from lightcluster import commission
from lightcluster.files import replacing
commission._SECONDS = 0.05
commission.end_with_the_run()
with replacing(Path("results/demo/out")) as temporary:
    temporary.write_text("half")
    print("at work", flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The lock of a run that has given this process a commission."""
    monkeypatch.chdir(tmp_path)
    lock = RunLock(Path("results/demo"))
    for name, value in lock.acquire().items():
        monkeypatch.setenv(name, value)
    yield lock
    lock.release()


def write(text: str) -> str:
    """Write a result; return which one is there."""
    with replacing(Path("results/demo/out")) as temporary:
        temporary.write_text(text)
    return Path("results/demo/out").read_text()


def test_without_a_run_everything_may_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert commission() is None
    check_commission()
    with publishing():
        assert write("by hand") == "by hand"


def test_a_folder_with_spaces_is_found_again(run, tmp_path, monkeypatch):
    lock = RunLock(tmp_path / "my results" / "a b")
    for name, value in lock.acquire().items():
        monkeypatch.setenv(name, value)
    token, folder = commission()
    assert folder == lock.folder
    assert json.loads(lock.file.read_text())["token"] == token
    check_commission()
    lock.release()


@pytest.mark.parametrize("end", ["over", "over, and another began", "gone with its folder"])
def test_what_an_outlived_step_made_is_not_kept(run, end):
    assert write("of the run") == "of the run"
    begun = RunLock(run.folder)

    def outlive() -> None:
        with replacing(Path("results/demo/out")) as temporary:
            temporary.write_text("too late")
            run.release()
            if end == "over, and another began":
                begun.acquire()
                Path("results/demo/out").write_text("newer")
            if end == "gone with its folder":
                run.file.unlink()

    with pytest.raises(OutlivedError, match="the result of the step is discarded"):
        outlive()
    left = "newer" if end == "over, and another began" else "of the run"
    assert Path("results/demo/out").read_text() == left
    assert not list(Path("results/demo").glob(".out*"))
    begun.release()


def test_an_outlived_step_does_not_remove_what_another_is_writing(run):
    run.release()
    theirs = Path("results/demo/.out.1.tmp")
    theirs.write_text("being written")
    with pytest.raises(OutlivedError), replacing(Path("results/demo/out")):
        pytest.fail("there is nothing to be made")
    assert theirs.exists()


def test_the_token_of_a_dead_run_is_worth_nothing(run):
    """It is still in the file, as after a kill, when nobody holds the lock."""
    said = run.file.read_bytes()
    run.release()
    run.file.write_bytes(said)
    with pytest.raises(OutlivedError, match="has ended"):
        check_commission()


def test_on_another_node_the_token_alone_counts(run):
    """The locks of some network file systems are those of each node alone."""
    said = json.loads(run.file.read_text())
    run.release()
    run.file.write_text(json.dumps({**said, "host": "elsewhere"}))
    check_commission()
    run.file.write_text(json.dumps({**said, "host": "elsewhere", "token": "another"}))
    with pytest.raises(OutlivedError):
        check_commission()


def test_no_run_begins_while_a_result_is_put_in_its_place(run, monkeypatch):
    monkeypatch.setattr("lightcluster.runlock._PATIENCE", 0.1)
    with publishing():
        said = run.file.read_bytes()
        run.release()  # killed in this very moment
        with pytest.raises(Exception, match="a step of an earlier run is still writing"):
            RunLock(run.folder).acquire()
        run.file.write_bytes(said)


def test_a_step_ends_soon_after_its_run_and_leaves_nothing(run):
    with subprocess.Popen(
        [sys.executable, "-c", STEP],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as step:
        assert step.stdout.readline() == "at work\n"
        run.release()
        assert step.wait(600) == 128 + signal.SIGTERM
        assert "Error: " in step.stderr.read()
    assert sorted(os.listdir("results/demo")) == [".lock", ".publishing"]


def test_a_step_of_a_dead_run_does_not_even_begin(run):
    run.release()
    done = subprocess.run(
        [sys.executable, "-m", "lightcluster.step", "gather-manifest"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "run snakemake again" in done.stderr
    assert "Traceback" not in done.stderr
