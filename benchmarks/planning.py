"""The cost of planning a run: a dry run on simulated listings of increasing size.

Compares the time and peak memory of ``snakemake --dry-run`` on datasets with those on the smallest
one, each in a new process. Nothing is finished, so every job is planned. The images are files of a
few bytes that cannot be decoded, because planning only uses names and, in the first run in a
folder, digests all files. For files of usual size, the latter depends on the disk: a core digests
about 1 GB per second.

The formats are a folder of images with label maps, a list of the same files, and tars of 10,000
images each, without label maps.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer
from harness import Report, console, ratios

ROOT = Path(__file__).resolve().parents[1]
IN_A_TAR = 10_000
PLAN = """
import resource, sys
from snakemake.cli import main
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print("PEAK", used.ru_maxrss)
    print("CPU", used.ru_utime + used.ru_stime)
"""


Kind = Literal["folder", "list", "webdataset"]


def write_listing(folder: Path, kind: Kind, images: int) -> None:
    """Write tiny images, a thousand in a folder or ten thousand in a tar, and a configuration."""
    folder.mkdir()
    settings = "images: tars"
    if kind == "webdataset":
        write_tars(folder / "tars", images)
    else:
        names = [f"{number // 1000:04d}/{number:012d}" for number in range(images)]
        for place, suffix in (("images", "jpg"), ("labels", "png")):
            for number, name in enumerate(names):
                path = f"{folder}/{place}/{name}.{suffix}"
                if number % 1000 == 0:
                    os.makedirs(os.path.dirname(path))
                with open(path, "w") as file:
                    file.write(name)
        settings = "images: images, labels: labels, classes: classes.csv"
        if kind == "list":
            lines = [f"images/{name}.jpg\tlabels/{name}.png\n" for name in names]
            (folder / "list.txt").write_text("".join(lines))
            settings = "images: list.txt, classes: classes.csv"
    (folder / "classes.csv").write_text("id,name\n0,background\n1,thing\n")
    (folder / "run.yaml").write_text(f"dataset: {{name: simulated, format: {kind}, {settings}}}\n")
    (folder / "config").symlink_to(ROOT / "config")


def write_tars(folder: Path, images: int) -> None:
    """Write tars of tiny images, block by block: a header, and its content."""
    folder.mkdir()
    for first in range(0, images, IN_A_TAR):
        with (folder / f"{first // IN_A_TAR:05d}.tar").open("wb") as tar:
            for number in range(first, min(images, first + IN_A_TAR)):
                item = tarfile.TarInfo(f"{number:012d}.jpg")
                item.size = 12
                tar.write(item.tobuf() + f"{number:012d}".encode().ljust(512, b"\0"))
            tar.write(bytes(10240))


def plan(folder: Path) -> tuple[float, float, float, int]:
    """Plan a run: seconds, those of the CPU, MiB at the peak, jobs."""
    arguments = ["--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--quiet", "all"]
    command = [sys.executable, "-c", PLAN, *arguments, "--cores", "2", "--configfile", "run.yaml"]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    said = done.stdout + done.stderr
    jobs = re.findall(r"^total +(\d+)$", said, flags=re.M)
    peak = re.findall(r"^PEAK (\d+)$", said, flags=re.M)
    cpu = re.findall(r"^CPU ([\d.]+)$", said, flags=re.M)
    return seconds, float(cpu[0]), int(peak[0]) / 1024, int(jobs[0])


def main(
    images: Annotated[
        list[int] | None, typer.Option(help="Sizes of the datasets, in rising order.")
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="Dry runs of each.")] = 5,
    kind: Annotated[Kind, typer.Option(help="Format of the datasets.")] = "folder",
    scratch: Annotated[Path | None, typer.Option(help="Where to write them.")] = None,
) -> None:
    """Compare the planning of small and large datasets."""
    sizes = images or [1_000, 10_000, 118_000]
    labels = "one seed" if kind == "webdataset" else "labels, 5 seeds"
    report = Report("planning", f"simulated listings ({kind}), default settings, {labels}")
    with TemporaryDirectory(dir=scratch) as name:
        folders = {size: Path(name, str(size)) for size in sizes}
        for size, folder in folders.items():
            write_listing(folder, kind, size)
        time.sleep(3)  # files that have only just been written are read each time
        for size, folder in folders.items():
            elapsed, _, peak, _ = plan(folder)
            report.add(f"{size:,} images", "s, first run", elapsed)
            report.add(f"{size:,} images", "MiB, first run", peak)
        seconds: dict[int, list[float]] = {size: [] for size in sizes}
        cpu: dict[int, list[float]] = {size: [] for size in sizes}
        for turn in range(turns):
            for size, folder in folders.items():
                elapsed, used, peak, jobs = plan(folder)
                seconds[size].append(elapsed)
                cpu[size].append(used)
                console.print(f"[dim]turn {turn + 1}: {size:,} images, {elapsed:.1f} s[/dim]")
                if turn == 0:
                    report.add(f"{size:,} images", "jobs", jobs)
                    report.add(f"{size:,} images", "MiB", peak, "<= 1024")
    for size in sizes:
        report.add(f"{size:,} images", "s", seconds[size], "<= 10")
        report.add(f"{size:,} images", "s of CPU", cpu[size])
        report.add(f"{size:,} / {sizes[0]:,}", "CPU ratio", ratios(cpu[size], cpu[sizes[0]]))
    report.finish()


if __name__ == "__main__":
    typer.run(main)
