"""Snakemake in forks of a process that has imported it: a dry run takes a quarter of the time."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOADED = (
    "snakemake.cli",
    "snakemake.persistence",
    "snakemake.report",
    "snakemake_executor_plugin_slurm",
    "pydantic",
    "yaml",
)
"""What every snakemake imports. The package under test is not: some tests change a copy of it."""


def snakemake(
    folder: Path, arguments: Sequence[str], variables: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run ``snakemake`` with `arguments` in `folder`; `stdout` holds both streams."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with tempfile.NamedTemporaryFile() as output:
        process = context.Process(
            target=_snakemake, args=(folder, list(arguments), dict(variables), output.name)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(Path(output.name).read_text(errors="backslashreplace"))
        text = Path(output.name).read_text(encoding="utf-8", errors="backslashreplace")
    assert process.exitcode is not None
    return subprocess.CompletedProcess(list(arguments), process.exitcode, text)


def _snakemake(folder: Path, arguments: list[str], variables: dict[str, str], output: str) -> None:
    from snakemake.cli import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    stream = os.open(output, os.O_WRONLY)
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), stream, stream)):
        os.dup2(descriptor, number)
    sys.argv = ["snakemake", *arguments]
    main(arguments)
