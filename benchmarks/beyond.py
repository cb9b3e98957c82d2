"""The cost of the parts that go beyond the paper, relative to feature extraction.

Compares the CPU time of the re-estimation of the foreground, of the consensus of the classes and of
the choice of a layer with that of extracting the features of the same images, because these parts
should be negligible next to the extraction. Reading and writing files is included; starting the
process of a job is not. Everything is single-threaded.

The regions for the consensus are drawn at random, as many as `labelling.sample_regions` allows. Its
cost is bounded by this number and is stated separately, because it does not grow with the images.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from harness import Report, ratios, take_turns, use_one_thread
from inputs import (
    DEFAULT_MODEL,
    SETTINGS,
    CountOption,
    ImagesOption,
    ModelOption,
    TurnsOption,
    WeightsOption,
    extract_automatically,
    level_steps,
    prepare_input,
    reestimation_steps,
)

from lightcluster.clustering.kmeans import set_threads
from lightcluster.extraction.choice import choose_features
from lightcluster.regions.labelling import fit_labelling

CLASSES, DIM = 20, 384


def random_regions(count: int) -> dict[str, np.ndarray]:
    """Draw features of regions in `CLASSES` directions, more or less."""
    random = np.random.default_rng(0)
    directions = random.normal(size=(CLASSES, DIM))[random.integers(CLASSES, size=count)]
    return {
        name: (directions + random.normal(0, 1, (count, DIM))).astype(np.float32)
        for name in SETTINGS.labelling.features
    }


def main(
    images: ImagesOption = None,
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    count: CountOption = 100,
    turns: TurnsOption = 3,
    repeat: Annotated[
        int, typer.Option(min=1, help="Let the images stand for this many shards of such images.")
    ] = 1,
) -> None:
    """Compare the CPU time of what is added with that of the extraction."""
    use_one_thread()
    set_threads(1)
    labelling = SETTINGS.labelling.model_dump(include={"method", "pca", "restarts", "iterations"})
    regions = random_regions(SETTINGS.labelling.sample_regions)
    automatic = SETTINGS.features.model_dump() | {"layer": "auto"}
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = prepare_input(folder, count, images=images, model=model, weights=weights)
        store = folder / "features/0000.zarr"
        store.parent.mkdir()
        extract_automatically(source, store)
        for step in level_steps(folder, shards=1).values():
            step()
        steps = reestimation_steps(folder, repeat)
        contestants = {
            "extract_features": lambda: extract_automatically(source, folder / "again.zarr"),
            **steps,
            "choose_features": lambda: choose_features(
                [source.manifest], source.weights, folder / "choice.csv", mean=None, std=None,
                **automatic, max_pixels=SETTINGS.dataset.max_pixels, device="cpu", threads=1,
            ),
            "consensus": lambda: fit_labelling(regions, CLASSES, seed=0, **labelling),
            "kmeans": lambda: fit_labelling(
                regions, CLASSES, seed=0, **labelling | {"method": "kmeans"}
            ),
        }  # fmt: skip
        timings = take_turns(contestants, turns)
    cpu = {name: [timing.cpu for timing in series] for name, series in timings.items()}
    cpu["fit_trees"] = [seconds / repeat for seconds in cpu["fit_trees"]]
    added = [sum(turn) for turn in zip(*(cpu[name] for name in steps), strict=True)]
    simulated = f", as {repeat} shards" if repeat > 1 else ""
    report, n = Report("beyond", f"{source.subject}{simulated}"), len(source.rows)
    for name in ("extract_features", *steps):
        report.add(name, "ms CPU/image", [1000 * seconds / n for seconds in cpu[name]])
    report.add("added / extraction", "ratio", ratios(added, cpu["extract_features"]), "<= 0.1")
    looked = min(n, SETTINGS.features.auto_images)
    report.add(f"choose_features, {looked} images", "s CPU", cpu["choose_features"])
    shape = f"{len(regions['cls']):,} regions x {DIM}, {CLASSES} classes"
    for name in ("consensus", "kmeans"):
        report.add(f"{name} of {shape}", "s CPU", cpu[name])
    report.finish()


if __name__ == "__main__":
    typer.run(main)
