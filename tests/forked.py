"""Snakemake in forks of a process that has imported it, and the package: dry runs start at once."""

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
    "snakemake.profiles",
    "snakemake.report.html_reporter",
    "snakemake.storage",
    "snakemake_executor_plugin_slurm",
    "requests",
    "rich.progress",
    "smart_open",
    "yaml",
    "lightcluster.aside",
    "lightcluster.configfiles",
    "lightcluster.ending",
    "lightcluster.measuring",
    "lightcluster.records",
    "lightcluster.rules",
    "lightcluster.runlock",
)
"""What every snakemake imports, and then the rules of this checkout."""

SNAKEFILE = Path(__file__).resolve().parents[1] / "Snakefile"


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
    given = "--snakefile" in arguments
    snakefile = Path(arguments[arguments.index("--snakefile") + 1] if given else "Snakefile")
    if snakefile.resolve() != SNAKEFILE:  # it may come with a package of its own
        for name in [name for name in sys.modules if name.partition(".")[0] == "lightcluster"]:
            del sys.modules[name]
    stream = os.open(output, os.O_WRONLY)
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), stream, stream)):
        os.dup2(descriptor, number)
    sys.argv = ["snakemake", *arguments]
    main(arguments)
