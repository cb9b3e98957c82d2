"""What a run on one machine gains from forked steps.

Compares the elapsed time of a whole workflow run with steps that are forked from a server and with
steps that each start Python (``LIGHTCLUSTER_FORKSERVER=``), alternately, each in an empty folder.
The small run is one from the tests (a dozen small scenes), which is dominated by starting Python;
the large one is ``make run``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
import yaml
from harness import Report, console, ratios

from lightcluster.forkserver import VARIABLE

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "dataset": {"demo": {"scenes": 12}},
    "backbone": {"model": "vit_tiny_patch16_224", "weights": "random"},
    "features": {"short_side": 96},
    "regions": {"crop_size": 64},
    "labelling": {"seeds": [0]},
    "report": {"parts": 0},
}


def run(settings: dict[str, object], forked: bool) -> tuple[float, int]:
    """Run the workflow: seconds, and the number of its jobs."""
    variables = {name: value for name, value in os.environ.items() if name != VARIABLE}
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config").symlink_to(ROOT / "config")
        (folder / "run.yaml").write_text(yaml.safe_dump(settings))
        arguments = ["--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments, "--configfile", "run.yaml"],
            cwd=folder,
            env=variables if forked else variables | {VARIABLE: ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - start
    return seconds, int(re.findall(r"^total +(\d+)$", done.stdout, flags=re.M)[0])


def main(turns: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3) -> None:
    """Compare forked steps with steps that start Python."""
    report = Report("forkserver", "the demo, 2 cores")
    for name, settings in {"12 small scenes": SMALL, "the demo as it is": {}}.items():
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(turns):
            for forked in (True, False) if turn % 2 else (False, True):
                elapsed, jobs = run(settings, forked)
                seconds[forked].append(elapsed)
                console.print(f"[dim]turn {turn + 1}: {name}, {forked=}, {elapsed:.1f} s[/dim]")
        report.add(name, "jobs", jobs)
        report.add(f"{name}, forked", "s", seconds[True])
        report.add(f"{name}, a Python for each", "s", seconds[False])
        report.add(
            f"{name}, a Python for each / forked", "ratio", ratios(seconds[False], seconds[True])
        )
    report.finish()


if __name__ == "__main__":
    typer.run(main)
