"""A step that the fork server does is done as if its command did it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightcluster import forkserver
from lightcluster.config import Config
from lightcluster.forkserver import VARIABLE, usage_of
from lightcluster.steps import settings_of

PACKAGE = Path(forkserver.__file__).parents[1]
PATIENCE = 900.0
"""Seconds: the machine may be so busy that torch takes minutes to be imported."""
CLASSES = "id,name\n0,background\n1,thing\n"
SETTINGS = json.dumps(settings_of("read_classes", Config()))


@pytest.fixture(scope="module")
def base():
    """An environment in which the package is found."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    kept.pop(VARIABLE, None)
    return {**kept, "PYTHONPATH": str(PACKAGE)}


@contextmanager
def started(base):
    """A server: the environment with which it is asked, and the descriptor that keeps it."""
    environment, owner = forkserver.start(base)
    yield base | environment, owner
    try:
        os.close(owner)
    except OSError:
        return
    wait_until(lambda: not folder_of(environment).exists())


@pytest.fixture(scope="module")
def lasting_server(base):
    with started(base) as server:
        yield server


@pytest.fixture
def server(lasting_server):
    """The server of all tests that leave it as it is, without what other tests' steps took."""
    for path in folder_of(lasting_server[0]).glob("*-*"):
        path.unlink()
    return lasting_server


@pytest.fixture
def own_server(base):
    """A server that no other test has used, and that may be ended."""
    with started(base) as server:
        yield server


def folder_of(environment) -> Path:
    return Path(environment[VARIABLE].partition(" ")[2])


def wait_until(condition, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "lightcluster.step", *map(str, words)]


def run(environment, folder: Path, *words: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=folder, env=environment, capture_output=True, text=True, **options
    )


def read_classes(environment, folder: Path, name: str = "out.csv", **options):
    (folder / "classes.csv").write_text(CLASSES)
    words = ("read-classes", SETTINGS, "--output", name, "--source", "classes.csv")
    return run(environment, folder, *words, **options)


def was_forked(environment) -> bool:
    """Tell whether the server did a step, which leaves what it took."""
    return any("-" in path.name for path in folder_of(environment).iterdir())


def servers(environment, name: str) -> list[int]:
    """Return the processes of the server of a name."""
    words = [b"lightcluster.forkserver", name.encode(), os.fsencode(folder_of(environment))]
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if words == (entry / "cmdline").read_bytes().split(b"\0")[2:5]:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def processes(folder: str) -> list[int]:
    """Return the processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if folder in str((entry / "cwd").resolve()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_step_is_done_in_the_folder_of_its_command(server, tmp_path):
    environment, _ = server
    done = read_classes(environment, tmp_path, umask=0o027)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.csv").read_text() == CLASSES
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o640
    assert was_forked(environment)


def test_streams_and_status_are_those_of_the_step(server, tmp_path):
    environment, _ = server
    words = ("--output", "out.csv", "--source", "none.csv")
    bad = run(environment, tmp_path, "read-classes", SETTINGS, *words)
    assert bad.returncode == 1
    assert bad.stderr.startswith("Error: dataset.classes = 'none.csv': cannot be read")
    assert was_forked(environment)
    wrong = run(environment, tmp_path, "read-classes", "--no-such-option")
    assert wrong.returncode == 2
    assert "No such option" in wrong.stderr
    said = run(environment, tmp_path, "read-classes", "--help")
    assert said.returncode == 0
    assert "read-classes [OPTIONS]" in said.stdout


def test_limits_are_those_of_the_command(server, tmp_path):
    environment, _ = server

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, resource.RLIM_INFINITY))

    done = read_classes(environment, tmp_path, preexec_fn=small_files)
    assert done.returncode != 0
    assert not (tmp_path / "out.csv").exists()
    assert was_forked(environment)


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.thorough), 3])
def test_libraries_use_the_threads_of_the_command(base, threads):
    code = f"""
import os
import faiss, numpy, torch
from threadpoolctl import threadpool_info
from lightcluster.forkserver import _use_threads
_use_threads({threads})
print(torch.get_num_threads(), *{{pool["num_threads"] for pool in threadpool_info()}})
"""
    environment = base | dict.fromkeys(forkserver.THREADS, "1")
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [str(threads)] * 2


@pytest.mark.parametrize(
    "changed",
    [
        {"SOMETHING": "else"},  # which a library may have read when it was imported
        {VARIABLE: "0123456789abcdef /tmp"},  # of another Python
        {VARIABLE: ""},
        {VARIABLE: "{python} /nowhere"},
    ],
)
def test_elsewhere_the_command_does_the_step_itself(server, tmp_path, changed):
    environment, _ = server
    python = environment[VARIABLE].partition(" ")[0]
    changed = {name: value.replace("{python}", python) for name, value in changed.items()}
    done = read_classes({**environment, **changed}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.csv").read_text() == CLASSES
    assert not was_forked(environment)


@pytest.mark.parametrize("hindrance", ["long", "missing"])
def test_where_it_cannot_be_nothing_is_left(base, tmp_path, monkeypatch, hindrance):
    """A folder of temporary files whose path is too long for a socket, or which is gone."""
    folder = tmp_path / ("x" * 100)
    if hindrance == "long":
        folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    opened = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="path too long" if hindrance == "long" else "No such file"):
        forkserver.start(base)
    assert not folder.exists() or not list(folder.iterdir())
    assert len(os.listdir("/proc/self/fd")) == opened


def test_only_steps_are_forked(server, tmp_path):
    environment, _ = server
    assert run(environment, tmp_path, "--help").returncode == 0
    assert not was_forked(environment)


def test_threads_folder_and_run_may_differ_from_those_of_the_server(server, tmp_path):
    environment, _ = server
    own = {"OMP_NUM_THREADS": "3", "TMPDIR": str(tmp_path), "PATH": "/usr/bin"}
    assert read_classes(environment | own, tmp_path).returncode == 0
    assert was_forked(environment)


@pytest.mark.thorough
def test_steps_with_torch_have_a_server_that_starts_with_the_first(own_server, tmp_path):
    environment, _ = own_server
    settings = {"backbone.model": "vit_tiny_patch16_224", "backbone.weights": "random",
                "backbone.seed": 0}  # fmt: skip
    assert not servers(environment, "torch")
    found = []
    for number in range(2):
        name = tmp_path / f"{number}.safetensors"
        done = run(environment, tmp_path, "fetch-weights", json.dumps(settings), "--output", name)
        assert done.returncode == 0, done.stderr
        found += servers(environment, "torch")
    assert len(found) == 2
    assert len(set(found)) == 1
    assert len(list(folder_of(environment).glob("*-*"))) == 2  # both were forked
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()


def test_what_says_nothing_sensible_disturbs_nobody(server, tmp_path):
    environment, _ = server
    for content in (b"", b"nonsense", (10**6).to_bytes(8, "big"), b"\xff" * 8):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(folder_of(environment) / "plain"))
            connection.sendall(content)
    assert read_classes(environment, tmp_path).returncode == 0
    assert was_forked(environment)


def test_many_steps_at_once(server, tmp_path):
    environment, _ = server
    (tmp_path / "classes.csv").write_text(CLASSES)
    steps = [
        subprocess.Popen(
            command(
                "read-classes", SETTINGS, "--output", f"{number}.csv", "--source", "classes.csv"
            ),
            cwd=tmp_path,
            env=environment,
        )
        for number in range(20)
    ]
    assert [step.wait() for step in steps] == [0] * 20
    assert {(tmp_path / f"{number}.csv").read_text() for number in range(20)} == {CLASSES}


# ---- what takes long, and is ended ---------------------------------------------------------------


@contextmanager
def at_work(server, tmp_path):
    """A step that is at work: its command, and the process that does it."""
    environment, _ = server
    settings = json.dumps({"dataset.demo": {"scenes": 5000, "seed": 0}})
    step = subprocess.Popen(
        command("generate-demo", settings, "--output", "scenes"),
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def worker() -> list[int]:
        return [pid for pid in processes(str(tmp_path)) if pid != step.pid]

    wait_until(lambda: list(tmp_path.glob(".scenes*/images/*")) and worker())
    (pid,) = worker()
    yield step, pid
    step.kill()
    step.wait()


@pytest.fixture
def long_step(server, tmp_path):
    with at_work(server, tmp_path) as step:
        yield step


@pytest.fixture
def long_step_of_own_server(own_server, tmp_path):
    with at_work(own_server, tmp_path) as step:
        yield step


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)]
)
def test_a_signal_to_the_command_ends_the_step(long_step, number, status):
    step, pid = long_step
    step.send_signal(number)
    assert step.wait(PATIENCE) == status
    assert is_gone(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1])
def test_a_step_whose_command_is_killed_is_killed(long_step, number, tmp_path):
    step, pid = long_step
    step.send_signal(number)
    step.wait(PATIENCE)
    wait_until(lambda: is_gone(pid))
    assert not (tmp_path / "scenes").exists()


def test_a_command_ends_as_its_step_that_is_killed(long_step):
    """As by the kernel, where memory is short."""
    step, pid = long_step
    os.kill(pid, signal.SIGKILL)
    assert step.wait(PATIENCE) == -signal.SIGKILL


def test_steps_end_with_the_owner_of_the_server(long_step_of_own_server, own_server):
    step, pid = long_step_of_own_server
    os.close(own_server[1])
    assert step.wait(PATIENCE) == -signal.SIGTERM
    assert is_gone(pid)
    wait_until(lambda: not folder_of(own_server[0]).exists())


def test_a_step_ends_with_the_server(long_step_of_own_server, own_server):
    step, pid = long_step_of_own_server
    (parent,) = [
        int(line.split()[1])
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("PPid")
    ]
    os.kill(parent, signal.SIGKILL)
    assert step.wait(PATIENCE) == 1
    wait_until(lambda: is_gone(pid))
    shutil.rmtree(folder_of(own_server[0]))  # which nobody is left to remove


def test_a_step_pauses_with_its_command(long_step):
    step, pid = long_step

    def state(of: int) -> str:
        return Path(f"/proc/{of}/stat").read_text().rpartition(")")[2].split()[0]

    step.send_signal(signal.SIGTSTP)
    wait_until(lambda: state(pid) == "T" and state(step.pid) == "T")
    step.send_signal(signal.SIGCONT)
    wait_until(lambda: state(pid) in "RSD" and state(step.pid) in "RSD")


# ---- what it took --------------------------------------------------------------------------------


def test_what_a_step_took_is_told_once(server, tmp_path):
    environment, _ = server
    settings = json.dumps({"dataset.demo": {"scenes": 20, "seed": 0}})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    step = subprocess.Popen(
        command("generate-demo", settings, "--output", "scenes"), cwd=tmp_path, env=environment
    )
    assert step.wait() == 0
    assert usage_of(os.getpid() + 10**7, environment) is None
    used = usage_of(step.pid, environment)
    assert used is not None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert used[0] > after.ru_utime - before.ru_utime  # what the command itself took
    assert 20 < used[1] < 2000
    assert usage_of(step.pid, environment) is None
