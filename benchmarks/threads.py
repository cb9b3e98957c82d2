"""Two cores against one, for the CPU-bound steps.

Compares each step with one core and one thread, and with two. Steps with several threads (torch,
faiss) run in this process, whose CPU affinity is changed. Single-threaded steps run as in the
workflow: two shards one after the other, and two at the same time in separate processes. Twice the
cores should double the speed, and more threads than cores would reduce it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer
from harness import Report, console, ratios, take_turns
from inputs import (
    DEFAULT_MODEL,
    SETTINGS,
    CountOption,
    ImagesOption,
    Input,
    ModelOption,
    TurnsOption,
    WeightsOption,
    extract_automatically,
    level_steps,
    prepare_input,
)

from lightcluster.clustering.image_level import cluster_image
from lightcluster.clustering.kmeans import set_threads
from lightcluster.datasets.manifest import Row, write_rows
from lightcluster.masks.pixels import refine_masks
from lightcluster.regions.embedding import embed_regions
from lightcluster.regions.maps import find_regions
from lightcluster.shards import Shards

SHARDS = 2
CORES = sorted(os.sched_getaffinity(0))[:SHARDS]
GOALS = dict.fromkeys(["extract_features", "embed_regions", "refine_masks"], ">= 1.8")
"""Of the steps that bind the processor; the clustering steps last fractions of a second."""


def use_cores(count: int) -> None:
    """Leave this process so many cores, and as many threads."""
    os.sched_setaffinity(0, CORES[:count])
    torch.set_num_threads(count)
    set_threads(count)


def cluster_shard(folder: Path, name: str) -> None:
    """Run the image level of a shard."""
    set_threads(1)
    cluster_image(
        folder / "features" / f"{name}.zarr", folder / f"again-{name}.npz",
        k=SETTINGS.clustering.k_image, normalization=SETTINGS.clustering.normalize,
        metric=SETTINGS.clustering.metric, rules=SETTINGS.foreground.rules,
        restarts=SETTINGS.clustering.restarts_image, iterations=SETTINGS.clustering.iterations,
        seed=SETTINGS.clustering.seed,
    )  # fmt: skip


def refine_shard(folder: Path, name: str) -> None:
    """Refine the masks of a shard."""
    refine_masks(
        folder / f"{name}.csv", folder / "patch" / f"{name}.npz", folder / "pixel" / f"{name}.npz",
        upsampling=SETTINGS.upsampling.method, threshold=SETTINGS.upsampling.threshold,
        refinement=SETTINGS.refinement, max_pixels=SETTINGS.dataset.max_pixels,
    )  # fmt: skip


def embed_shard(source: Input, folder: Path, name: str) -> None:
    """Embed the regions of a shard."""
    settings = SETTINGS.regions
    embed_regions(
        folder / f"{name}.csv", folder / "maps" / f"{name}.npz", source.weights,
        folder / "regions" / f"{name}.npz", mean=None, std=None, margin=settings.margin,
        crop_size=settings.crop_size, masked=settings.masked,
        precision="auto", max_pixels=SETTINGS.dataset.max_pixels, device="cpu", batch_size=8,
        threads=torch.get_num_threads(),
    )  # fmt: skip


def write_shards(source: Input, folder: Path) -> list[str]:
    """Run all steps up to the refined masks on two halves of the images; their names."""
    names = list(Shards(SHARDS))
    (folder / "features").mkdir()
    for shard, name in enumerate(names):
        rows = source.rows[shard::SHARDS]
        write_rows(folder / f"{name}.csv", rows, Row)
        extract_automatically(replace(source, rows=rows), folder / "features" / f"{name}.zarr")
    for step in level_steps(folder, SHARDS).values():
        step()
    for name in names:
        refine_shard(folder, name)
        find_regions(
            folder / "features" / f"{name}.zarr", folder / "pixel" / f"{name}.npz",
            folder / "dataset.npz", folder / "maps" / f"{name}.npz",
            min_area=SETTINGS.regions.min_area, split=SETTINGS.regions.split,
        )  # fmt: skip
    return names


def main(
    images: ImagesOption = None,
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    count: CountOption = 48,
    turns: TurnsOption = 5,
) -> None:
    """Compare two cores with one."""
    if len(CORES) < SHARDS:
        console.print("This needs two cores.")
        raise typer.Exit(1)
    with TemporaryDirectory() as place, ProcessPoolExecutor(SHARDS, get_context("spawn")) as pool:
        folder = Path(place)
        source = prepare_input(folder, count, images=images, model=model, weights=weights)
        names = write_shards(source, folder)
        levels = level_steps(folder, SHARDS)
        backbone_steps: dict[str, Callable[[], None]] = {
            "extract_features": lambda: extract_automatically(source, folder / "again.zarr"),
            "embed_regions": lambda: [embed_shard(source, folder, name) for name in names] and None,
            "cluster_dataset": levels["cluster_dataset"],
        }
        report = Report("threads", f"{source.subject}, one core and one thread against two")
        for step, call in backbone_steps.items():
            compare(report, step, lambda n, c=call: (use_cores(n), c()), turns, GOALS.get(step, ""))
        use_cores(SHARDS)
        shard_steps = {"cluster_image": cluster_shard, "refine_masks": refine_shard}
        for step, function in shard_steps.items():

            def run(at_once: int, function: Callable[[Path, str], None] = function) -> None:
                if at_once == 1:
                    for name in names:
                        pool.submit(function, folder, name).result()
                else:
                    list(pool.map(function, [folder] * SHARDS, names))

            compare(report, f"{step}, 2 shards", run, turns, GOALS.get(step, ""))
    report.finish()


def compare(report: Report, step: str, run: Callable[[int], object], turns: int, goal: str) -> None:
    """Add the seconds of a step with one core and with two, and their ratio."""
    timings = take_turns({"1 core": lambda: run(1), "2 cores": lambda: run(2)}, turns)
    seconds = {name: [timing.elapsed for timing in series] for name, series in timings.items()}
    for name, series in seconds.items():
        report.add(f"{step}, {name}", "s", series)
    report.add(f"{step}, 2 cores / 1", "speed", ratios(seconds["1 core"], seconds["2 cores"]), goal)


if __name__ == "__main__":
    typer.run(main)
