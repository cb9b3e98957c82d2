"""Provenance of a run: time and memory of each step, and versions of the software."""

from __future__ import annotations

import csv
import platform
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lightcluster import __version__
from lightcluster.steps import STEPS

PACKAGES = ("snakemake", "torch", "timm", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu12", "numpy",
            "scipy", "scikit-image", "zarr", "pydensecrf2", "pillow", "pandas")  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Time and memory of the jobs of one step, as measured by Snakemake.

    Attributes
    ----------
    step : str
    jobs : int
    seconds, longest : float
        Of all jobs together, and of the longest one.
    cpu : float
        Seconds of all cores.
    memory : float
        Peak resident memory of the largest job in MiB; 0 where jobs ended before it was measured.
    """

    step: str
    jobs: int
    seconds: float
    longest: float
    cpu: float
    memory: float


def read_cost(step: str, files: Sequence[Path]) -> Cost:
    """Sum the benchmark files of the jobs of a step; what Snakemake could not measure counts 0."""
    lines: list[dict[str, float]] = []
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                wanted = ("s", "cpu_time", "max_rss")
                lines.append({key: _number(row.get(key)) for key in wanted})
    return Cost(
        step=step,
        jobs=len(lines),
        seconds=sum(line["s"] for line in lines),
        longest=max((line["s"] for line in lines), default=0.0),
        cpu=sum(line["cpu_time"] for line in lines),
        memory=max((line["max_rss"] for line in lines), default=0.0),
    )


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:  # "-", "NA"
        return 0.0


def read_costs(run: Path, dataset: Path, shared: Sequence[str]) -> list[Cost]:
    """Read what each step of a run has taken.

    Parameters
    ----------
    run, dataset : Path
        Folders ``benchmarks`` of the run and of its dataset.
    shared : sequence of str
        Names of the run's features, below the steps that make them; see `Layout.shared_names`.

    Returns
    -------
    list of Cost
        In the order of the workflow; steps without a file are left out.
    """
    costs = []
    for step in STEPS:
        places = (run / step, *(dataset / step / name for name in shared))
        files = [path for place in places for path in sorted(place.rglob("*.tsv"))]
        named = [run / f"{step}.tsv", dataset / f"{step}.tsv"]
        named += [dataset / step / f"{name}.tsv" for name in shared]
        files += [path for path in named if path.is_file()]
        if step == "index_dataset":
            files += sorted((dataset / step).glob("*.tsv"))
        if files:
            costs.append(read_cost(step, files))
    return costs


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of this project, of Python and of the libraries that matter."""
    found = {"LightCluster": __version__, "Python": platform.python_version()}
    for package in packages:
        with suppress(PackageNotFoundError):  # such as faiss-cpu, where there is faiss-gpu
            found[package] = version(package)
    return found
