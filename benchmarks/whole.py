"""A whole run against the forward passes of its backbone.

What is compared: the CPU time of all steps of a run of the workflow, as Snakemake's benchmarks
record it, with the bare passes of the backbone that no implementation can leave out: over the
images, and over the crops of their regions, on batches in memory. Passes and steps use one thread.
A run and the passes follow each other, in each turn; Snakemake itself is stated separately, because
it takes as long for any number of images in a shard.
"""

from __future__ import annotations

import csv
import resource
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from harness import Report, console, ratios, run_workflow, timed, use_one_thread


def seconds_of_snakemake(folder: Path, settings: dict[str, Any], images: list[Path]) -> float:
    """Run the workflow in a folder on one core; return the CPU seconds of Snakemake itself."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_workflow(folder, settings, images, cores=1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def seconds_of_steps(results: Path) -> Counter[str]:
    """Return the CPU seconds of each step, summed over its jobs."""
    seconds: Counter[str] = Counter()
    for path in results.glob("**/benchmarks/**/*.tsv"):
        parts = path.relative_to(results).with_suffix("").parts
        name = "fetch_weights" if parts[0] == "weights" else parts[parts.index("benchmarks") + 1]
        with path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file, delimiter="\t"):
                seconds[name] += float(line["cpu_time"])
    return seconds


def record_passes(results: Path, model: str) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Run extraction and embedding of a finished run again; return the passes of its backbone.

    Each is the backbone, and the arguments of its `forward`.
    """
    from lightcluster.config import Config
    from lightcluster.extraction.backbones.protocol import Backbone
    from lightcluster.extraction.settings import BackboneSettings
    from lightcluster.extraction.shard import extract_features
    from lightcluster.regions.embedding import embed_regions

    passes: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    forward = Backbone.forward

    def record(backbone: Any, *given: Any, **named: Any) -> Any:
        passes.append((backbone, given, named))
        return forward(backbone, *given, **named)

    # The sizes are those for photographs, unlike those of the embedded backbone.
    settings = Config(backbone=BackboneSettings(model=model, weights="random"))
    (weights,) = results.glob("weights/*.safetensors")
    common: dict[str, Any] = {
        "mean": None, "std": None, "precision": settings.features.precision,
        "max_pixels": settings.dataset.max_pixels, "device": "cpu", "batch_size": 8, "threads": 1,
    }  # fmt: skip
    Backbone.forward = record  # type: ignore[method-assign]
    try:
        with TemporaryDirectory() as name:
            for manifest in sorted(results.glob("photographs/manifest/????.csv")):
                features, regions = settings.features, settings.regions
                extract_features(
                    manifest, weights, Path(name, f"{manifest.stem}.zarr"),
                    facet=features.facet, layer=features.layer, short_side=features.short_side,
                    max_tokens=features.max_tokens, **common,
                )  # fmt: skip
                maps = results / "photographs/lightcluster/regions/maps" / f"{manifest.stem}.npz"
                embed_regions(
                    manifest, maps, weights, Path(name, f"{manifest.stem}.npz"),
                    margin=regions.margin, crop_size=regions.crop_size, masked=regions.masked,
                    **common,
                )  # fmt: skip
    finally:
        Backbone.forward = forward  # type: ignore[method-assign]
    return passes


def main(
    images: Annotated[Path, typer.Option(exists=True, file_okay=False)],
    labels: Annotated[Path, typer.Option(exists=True, file_okay=False)],
    classes: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    weights: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    model: Annotated[str, typer.Option(help="A Vision Transformer of timm.")],
    count: Annotated[int, typer.Option(min=2, help="Images at most.")] = 100,
    turns: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Compare all steps of a run with the bare passes of its backbone."""
    use_one_thread()
    import torch

    from lightcluster.steps import STEPS

    torch.set_num_threads(1)
    chosen = sorted(path.resolve() for path in images.iterdir() if path.is_file())[:count]
    steps: list[Counter[str]] = []
    snakemake, bare = [], []
    for turn in range(turns):
        with TemporaryDirectory() as name:
            folder = Path(name)
            settings: dict[str, Any] = {
                "dataset": {
                    "name": "photographs", "format": "folder", "images": str(folder / "images"),
                    "labels": str(labels.resolve()), "classes": str(classes.resolve()),
                },
                "backbone": {"model": model, "weights": str(weights.resolve())},
            }  # fmt: skip
            snakemake.append(seconds_of_snakemake(folder, settings, chosen))
            steps.append(seconds_of_steps(folder / "results"))
            passes = record_passes(folder / "results", model)
        bare.append(timed(lambda: _repeat(passes)).cpu)  # noqa: B023
        console.print(
            f"[dim]turn {turn + 1}: {steps[-1].total():.1f} s, passes {bare[-1]:.1f} s[/dim]"
        )
    report = Report("whole", f"{len(chosen)} photographs, {model}")

    def add(name: str, seconds: list[float]) -> None:
        report.add(name, "ms CPU/image", [1000 * value / len(chosen) for value in seconds])

    every = sorted(steps[0], key=lambda name: -steps[0][name])
    for name in every:
        add(name, [turn[name] for turn in steps])
    whole = [turn.total() for turn in steps]
    of_shards = [sum(turn[name] for name in every if "shard" in STEPS[name].unit) for turn in steps]
    add("bare passes", bare)
    add("all steps", whole)
    add("steps of shards", of_shards)
    add("Snakemake itself", snakemake)
    report.add("all steps / bare passes", "CPU time", ratios(whole, bare), "<= 1.6")
    report.add("steps of shards / bare passes", "CPU time", ratios(of_shards, bare))
    report.finish()


def _repeat(passes: list[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> None:
    for backbone, given, named in passes:
        backbone.forward(*given, **named)


if __name__ == "__main__":
    typer.run(main)
