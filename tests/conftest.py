"""Runs of the whole workflow, each in a folder of its own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SHARED = ("Snakefile", "workflow", "config", "profiles", "envs", "resources")
TIMEOUT = 600

FAST: dict[str, dict[str, Any]] = {
    "backbone": {"model": "vit_tiny_patch16_224", "weights": "random"},
    "features": {"short_side": 96, "precision": "float32"},
    "clustering": {"restarts": 1, "iterations": 5},
    "regions": {"crop_size": 64},
    "labelling": {"classes": 3, "seeds": [0]},
    "report": {"samples": 4},
}
"""Settings with which a dozen small images take seconds."""


class RunSnakemake(Protocol):
    def __call__(
        self, folder: Path, *args: str, config: Mapping[str, Any] | None = None
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


def _run(
    folder: Path, *args: str, config: Mapping[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``snakemake --cores 2`` in `folder`.

    Parameters
    ----------
    folder : Path
        Made into a checkout of the project by links, if it is none.
    *args : str
        Further arguments.
    config : mapping, optional
        Put over `config/config.yaml`; `FAST` is a good beginning. None: no further file, as a
        plain ``snakemake`` would run.

    Returns
    -------
    CompletedProcess
        `stdout` holds both streams, with the logs of failed jobs: the profile shows them. Assert
        ``result.returncode == 0, result.stdout``.
    """
    link_project(folder)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *args]
    if config is not None:
        (folder / "test.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
        command += ["--configfile", "test.yaml"]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("SNAKEMAKE_")
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["HF_HUB_OFFLINE"] = "1"
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
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


@pytest.fixture(scope="session")
def fast_config():
    """``fast_config(changes)``: `FAST` with `changes` put over it."""
    return lambda changes: merge(FAST, changes)


@pytest.fixture(scope="session")
def read_rows():
    """``read_rows(path)``: the rows of a CSV file as dictionaries."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read
