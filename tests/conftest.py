"""Runs of the whole workflow, each in a folder of its own, for the tests that make them."""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from forked import snakemake
from lightcluster import forkserver
from lightcluster.places import RECORDS

ROOT = Path(__file__).resolve().parents[1]
SHARED = ("Snakefile", "workflow", "config", "profiles", "envs", "resources")
TIMEOUT = 1800
MARK = "LIGHTCLUSTER_TESTS"
"""Of the environment: what tells the processes of these tests, and of this worker, from others."""
_ASIDE = {"logs", "benchmarks", RECORDS, ".snakemake_timestamp", ".lock", ".publishing"}
TIMINGS = re.compile(rb"<h2>Time and memory</h2>.*?</table>", re.S)
FAST: dict[str, dict[str, Any]] = {
    "backbone": {"model": "vit_tiny_patch16_224", "weights": "random"},
    "features": {"short_side": 96, "precision": "float32"},
    "clustering": {"restarts": 1, "iterations": 5},
    "regions": {"crop_size": 64},
    "labelling": {"classes": 3, "seeds": [0]},
    "cause": {"size": 184, "codes": 16, "bank": 4, "batch_size": 8, "least_steps": 3},
    "report": {"samples": 4, "parts": 0},
}
"""Settings with which a dozen small images take seconds."""


LONGEST = (
    "test_reruns.py",
    "test_interruptions.py",
    "test_figures.py",
    "test_fit_elsewhere.py",
    "test_cause.py",
    "test_demo.py",
    "test_bad_images.py",
    "test_bad_input.py",
    "test_segment.py",
    "test_field_datasets.py",
)
"""Files of tests that take long. Workers begin with them and end together, with short ones."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put `LONGEST` first, then all others that run the workflow."""
    places = {name: place for place, name in enumerate(LONGEST)}

    def place_of(item: pytest.Item) -> tuple[int, bool]:
        return places.get(item.path.name, len(places)), item.path.parent.name == "unit"

    items.sort(key=place_of)


class RunSnakemake(Protocol):
    def __call__(
        self,
        folder: Path,
        *args: str,
        config: Mapping[str, Any] | None = None,
        cores: int = 2,
        within: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]: ...


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put nested settings over others."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) else value
    return merged


def link_project(folder: Path) -> Path:
    """Make `folder` look like a checkout of the project whose results are its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        if (ROOT / name).exists() and not (folder / name).is_symlink():
            (folder / name).symlink_to(ROOT / name)
    return folder


def write_settings(folder: Path, config: Mapping[str, Any]) -> str:
    """Write settings into `folder`; the name of the file depends on them, so none is replaced."""
    text = yaml.safe_dump(dict(config))
    name = f"test-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}.yaml"
    (folder / name).write_text(text, encoding="utf-8")
    return name


def environment() -> dict[str, str]:
    """The environment of a user of this very Python, without settings for snakemake.

    Modules are compiled once, not by each of the many processes that are started.
    """
    without = {"PYTEST_CURRENT_TEST", "PYTHONDONTWRITEBYTECODE"}
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("SNAKEMAKE_") and key not in without
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "HF_HUB_OFFLINE": "1"}


@functools.cache
def _forkserver() -> tuple[dict[str, str], int]:
    """Start what a run starts for its steps once for all runs of these tests."""
    return forkserver.start(environment())


def started_by_tests() -> dict[int, str]:
    """Return the processes that these tests have started and their command lines.

    Those of Python's `multiprocessing` are none: they serve this process until it ends.
    """
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                command = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                )
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if command and not ("multiprocessing." in command and parent == str(os.getpid())):
                    found[int(entry.name)] = command
        except OSError:  # it has just ended, or is another user's
            continue
    found.pop(os.getpid(), None)
    return found


@pytest.fixture(scope="session", autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    """If a process is left at the end of all tests and their fixtures, kill it and fail."""
    os.environ[MARK] = uuid.uuid4().hex
    yield
    if _forkserver.cache_info().currsize:
        os.close(_forkserver()[1])
    end = time.monotonic() + 300  # the machine may be busy
    while (left := started_by_tests()) and time.monotonic() < end:
        time.sleep(0.1)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left


def _run(
    folder: Path,
    *args: str,
    config: Mapping[str, Any] | None = None,
    cores: int = 2,
    within: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``snakemake --cores N`` in `folder`.

    Parameters
    ----------
    folder : Path
        Made into a checkout of the project by links, if it is none.
    *args : str
        Further arguments.
    config : mapping, optional
        Put over `config/config.yaml`; `FAST` is a good beginning. None: no further file, as a
        plain ``snakemake`` would run.
    cores : int
    within : sequence of str
        A command that runs the command after it, such as ``setpriv`` with its options.
    variables : mapping of str to str, optional
        Put over the environment.

    Returns
    -------
    CompletedProcess
        `stdout` holds both streams, with the logs of failed jobs: the profile shows them. Assert
        ``result.returncode == 0, result.stdout``.
    """
    link_project(folder)
    arguments = ["--cores", str(cores), *args]
    if config is not None:
        arguments += ["--configfile", write_settings(folder, config)]
    if not within and "--profile" not in args:
        served = {} if "--dry-run" in args else _forkserver()[0]
        return snakemake(folder, arguments, environment() | served | dict(variables or {}), TIMEOUT)
    return subprocess.run(
        [*within, sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        env=environment() | dict(variables or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        timeout=TIMEOUT,
        check=False,
    )


@pytest.fixture(scope="session")
def run_snakemake() -> RunSnakemake:
    """``run_snakemake(folder, *args, config=None)``; see `_run`."""
    return _run


def _digests(folder: Path) -> dict[str, str]:
    """Return a digest of every result; logs, timings, records and time stamps are none.

    A page is a result but for the table of timings on it.
    """
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        place = path.relative_to(folder)
        aside = _ASIDE & set(place.parts)
        if path.is_file() and not aside:
            content = path.read_bytes()
            if path.suffix == ".html":
                content = TIMINGS.sub(b"", content)
            found[str(place)] = hashlib.sha256(content).hexdigest()
    return found


@pytest.fixture(scope="session")
def digests():
    """``digests(folder)``: a digest of every result, by its place."""
    return _digests


@pytest.fixture(scope="session")
def served():
    """``served()``: an environment in which a run has its steps done by the tests' fork server."""
    return lambda: environment() | _forkserver()[0]


@pytest.fixture(scope="session")
def settings_file():
    """``settings_file(folder, config)``: the name of a new file in `folder`; see `_run`."""
    return write_settings


@pytest.fixture(scope="session")
def fast_config():
    """``fast_config(*changes)``: `FAST` with `changes` put over it, one after another."""
    return lambda *changes: functools.reduce(merge, changes, FAST)


@pytest.fixture(scope="session", name="merge")
def _merge():
    """``merge(config, changes)``: nested settings put over others."""
    return merge


@pytest.fixture(scope="session")
def read_rows():
    """``read_rows(path)``: the rows of a CSV file as dictionaries."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read
