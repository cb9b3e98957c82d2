"""The cost of planning a run: a dry run on simulated listings of increasing size.

Compares the time and peak memory of ``snakemake --dry-run`` on folders of images with those on the
smallest folder, each in a new process. Nothing is finished, so every job is planned. The images are
files of a few bytes that cannot be decoded, because planning only uses names and, in the first run
in a folder, digests all files. For files of usual size, the latter depends on the disk: a core
digests about 1 GB per second.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from harness import Report, console, ratios

ROOT = Path(__file__).resolve().parents[1]
PLAN = """
import resource, sys
from snakemake.cli import main
try:
    main()
finally:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_listing(folder: Path, images: int) -> None:
    """Write tiny images with labels, a thousand in a folder, and a configuration."""
    for kind, suffix in (("images", "jpg"), ("labels", "png")):
        for number in range(images):
            place = folder / kind / f"{number // 1000:03d}"
            if number % 1000 == 0:
                place.mkdir(parents=True)
            (place / f"{number:012d}.{suffix}").write_text(str(number))
    (folder / "classes.csv").write_text("id,name\n0,background\n1,thing\n")
    (folder / "run.yaml").write_text(
        "dataset: {name: simulated, format: folder, images: images, labels: labels, "
        "classes: classes.csv}\n"
    )
    (folder / "config").symlink_to(ROOT / "config")


def plan(folder: Path) -> tuple[float, float, int]:
    """Plan a run: seconds, MiB at the peak, jobs."""
    arguments = ["--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--quiet", "all"]
    command = [sys.executable, "-c", PLAN, *arguments, "--cores", "2", "--configfile", "run.yaml"]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    said = done.stdout + done.stderr
    jobs = re.findall(r"^total +(\d+)$", said, flags=re.M)
    peak = re.findall(r"^PEAK (\d+)$", said, flags=re.M)
    return seconds, int(peak[0]) / 1024, int(jobs[0])


def main(
    images: Annotated[
        list[int] | None, typer.Option(help="Sizes of the datasets, in rising order.")
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="Dry runs of each.")] = 5,
) -> None:
    """Compare the planning of small and large datasets."""
    sizes = images or [1_000, 10_000, 118_000]
    report = Report("planning", "simulated listings with labels, default settings, 5 seeds")
    with TemporaryDirectory() as name:
        folders = {size: Path(name, str(size)) for size in sizes}
        for size, folder in folders.items():
            write_listing(folder, size)
        time.sleep(3)  # files that have only just been written are read each time
        for size, folder in folders.items():
            report.add(f"{size:,} images", "s, first run", plan(folder)[0])
        seconds: dict[int, list[float]] = {size: [] for size in sizes}
        for turn in range(turns):
            for size, folder in folders.items():
                elapsed, peak, jobs = plan(folder)
                seconds[size].append(elapsed)
                console.print(f"[dim]turn {turn + 1}: {size:,} images, {elapsed:.1f} s[/dim]")
                if turn == 0:
                    report.add(f"{size:,} images", "jobs", jobs)
                    report.add(f"{size:,} images", "MiB", peak, "<= 1024")
    for size in sizes:
        report.add(f"{size:,} images", "s", seconds[size], "<= 10")
        report.add(f"{size:,} / {sizes[0]:,}", "ratio", ratios(seconds[size], seconds[sizes[0]]))
    report.finish()


if __name__ == "__main__":
    typer.run(main)
