"""Functions shared by all benchmarks: paired timing, and a table of results.

Every claim is a *ratio* of two measurements made alternately in one process (A B, B A, A B, …), so
that a temporary slowdown of the machine affects both. A ratio is computed for each pair, and the
median over pairs is reported with the quartiles. CPU time (of all threads) is least affected by
other work on the machine; elapsed time is what users notice.
"""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PROJECT = Path(__file__).resolve().parents[1]
SHARED = ("Snakefile", "workflow", "config", "profiles", "envs", "resources")
PACKAGES = ("torch", "timm", "numpy", "scipy", "faiss-cpu", "zarr", "pillow", "pydensecrf2")
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

console = Console()


# ---- runs of the workflow ------------------------------------------------------------------------


def run_workflow(
    folder: Path, settings: Mapping[str, object], images: Iterable[Path], cores: int
) -> None:
    """Run the workflow in a folder of its own, with links to `images` in its folder ``images``."""
    (folder / "images").mkdir(parents=True)
    for name in SHARED:
        (folder / name).symlink_to(PROJECT / name)
    for image in images:
        (folder / "images" / image.name).symlink_to(image)
    (folder / "run.yaml").write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
    command = ["snakemake", "--cores", str(cores), "--configfile", "run.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout)


# ---- timing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: elapsed, and of CPU over all threads of the process."""

    elapsed: float
    cpu: float

    def __add__(self, other: Timing) -> Timing:
        return Timing(self.elapsed + other.elapsed, self.cpu + other.cpu)


def timed(call: Callable[[], object]) -> Timing:
    """Time one call."""
    elapsed, cpu = time.perf_counter(), time.process_time()
    call()
    return Timing(time.perf_counter() - elapsed, time.process_time() - cpu)


def take_turns(
    contestants: Mapping[str, Callable[[], object]], repetitions: int, *, warm_up: bool = True
) -> dict[str, list[Timing]]:
    """Time the contestants in turns, in reversed order every second turn.

    Parameters
    ----------
    contestants : mapping of str to callable
    repetitions : int
        Number of turns.
    warm_up : bool
        Let each run once untimed before, to fill caches and allocate what stays allocated.

    Returns
    -------
    dict of str to list of Timing
        Of each contestant, turn by turn: entries of one index were measured side by side.
    """
    if warm_up:
        for call in contestants.values():
            call()
    timings: dict[str, list[Timing]] = {name: [] for name in contestants}
    for turn in range(repetitions):
        order = list(contestants.items())
        for name, call in reversed(order) if turn % 2 else order:
            timings[name].append(timed(call))
        console.print(f"[dim]turn {turn + 1} of {repetitions}: {_seconds(timings, turn)}[/dim]")
    return timings


def _seconds(timings: Mapping[str, list[Timing]], turn: int) -> str:
    return ", ".join(f"{name} {series[turn].elapsed:.2f} s" for name, series in timings.items())


def use_one_thread() -> None:
    """Start the script again with BLAS, OpenMP and so faiss bound to one thread, as jobs are.

    The libraries read these variables while they are imported: too early for a function call.
    So does tqdm, whose progress bars would get between the figures.
    """
    if any(os.environ.get(name) != "1" for name in THREAD_VARIABLES):
        environment = os.environ | dict.fromkeys((*THREAD_VARIABLES, "TQDM_DISABLE"), "1")
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


# ---- results -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes
    ----------
    name, unit : str
    values : list of float
        Turn by turn; one value for what does not vary.
    goal : str
        ``">= 0.9"`` or ``"<= 8"``; empty where nothing is claimed.
    """

    name: str
    unit: str
    values: list[float]
    goal: str = ""

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """First quartile, median and third quartile, linearly interpolated."""
        ordered = sorted(self.values)

        def at(share: float) -> float:
            position = share * (len(ordered) - 1)
            below = int(position)
            above = min(below + 1, len(ordered) - 1)
            return ordered[below] + (position - below) * (ordered[above] - ordered[below])

        return at(0.25), at(0.5), at(0.75)

    @property
    def met(self) -> str:
        """``yes`` or ``no``, by the median; empty without a goal."""
        if not self.goal:
            return ""
        relation, bound = self.goal.split()
        median = self.quartiles[1]
        return "yes" if (median >= float(bound)) == (relation == ">=") else "no"


@dataclass
class Report:
    """Figures of one benchmark on one input.

    Attributes
    ----------
    benchmark : str
        Name of the script and of its file of results.
    subject : str
        What was measured on; no path of this machine, for the results are published.
    """

    benchmark: str
    subject: str
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, unit: str, values: list[float] | float, goal: str = "") -> None:
        """Add a figure."""
        series = values if isinstance(values, list) else [values]
        self.figures.append(Figure(name, unit, series, goal))

    def finish(self) -> None:
        """Print the figures and append them to ``results/<benchmark>.csv``, a row each."""
        table = Table(title=f"{self.benchmark}: {self.subject}", title_justify="left")
        for heading in ("figure", "median", "quartiles", "unit", "goal", "met"):
            table.add_column(heading, justify="right" if heading == "median" else "left")
        for figure in self.figures:
            low, median, high = figure.quartiles
            spread = f"{low:.4g} to {high:.4g}" if len(figure.values) > 1 else ""
            row = (figure.name, f"{median:.4g}", spread, figure.unit, figure.goal, figure.met)
            table.add_row(*row)
        console.print(table)
        self._append()

    def _append(self) -> None:
        path = RESULTS / f"{self.benchmark}.csv"
        path.parent.mkdir(exist_ok=True)
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(
                    ["date", "subject", "figure", "median", "low", "high", "turns", "unit", "goal",
                     "met", "commit", "cpu", "cores", "load", "versions"]
                )  # fmt: skip
            for figure in self.figures:
                low, median, high = (f"{value:.5g}" for value in figure.quartiles)
                writer.writerow(
                    [date.today().isoformat(), self.subject, figure.name, median, low, high,
                     len(figure.values), figure.unit, figure.goal, figure.met, commit(),
                     *machine()]
                )  # fmt: skip


def commit() -> str:
    """Return the commit of the project, with ``-dirty`` if files differ from it."""
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> tuple[str, int, str, str]:
    """Return the processor with its features, the cores, the load now, and the versions."""
    model, flags = platform.processor() or platform.machine(), ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = dict(line.split("\t", 1) for line in lines if "\t" in line)
        model = facts.get("model name", model).lstrip("\t: ")
        flags = facts.get("flags", "")
    except OSError:
        pass  # no Linux: the name of the architecture has to do
    known = set(flags.split())
    features = " ".join(name for name in CPU_FEATURES if name in known)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = " ".join(f"{package}={version(package)}" for package in PACKAGES)
    python = f"python={platform.python_version()}"
    return f"{model} ({features})", cores or 1, f"{os.getloadavg()[0]:.1f}", f"{python} {versions}"


def ratios(above: list[float], below: list[float]) -> list[float]:
    """Return the ratio of two series, turn by turn."""
    return [a / b for a, b in zip(above, below, strict=True)]
