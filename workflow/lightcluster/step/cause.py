"""The steps of CAUSE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lightcluster.entry import Device, Threads
from lightcluster.step.arguments import OptionalPath, Settings, Shards, app, backbone_of
from lightcluster.threads import device_of, use_threads


def _caching(settings: dict[str, Any], size: int) -> dict[str, Any]:
    """Return the arguments that the steps that cache tokens have in common."""
    return {
        "size": size, "framing": settings["cause.framing"], **backbone_of(settings),
        "resampling": settings["cause.resampling"],
        "max_pixels": settings["dataset.max_pixels"], "precision": settings["features.precision"],
    }  # fmt: skip


@app.command()
def cache_crops(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()], weights: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
    size: Annotated[int, typer.Option(min=1, help="Side of a crop in pixels.")],
    device: Device = "auto", batch_size: Annotated[int, typer.Option(min=1)] = 8,
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Run the backbone over the training crops of a shard and store their tokens."""
    use_threads(threads)
    from lightcluster.cause.caching import cache_crops as step

    step(
        manifest, weights, output,
        fractions=settings["cause.fractions"], mirrored=settings["cause.mirrored"],
        **_caching(settings, size),
        device=device_of(device), batch_size=batch_size, threads=threads,
    )  # fmt: skip


@app.command()
def cache_views(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()], weights: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
    device: Device = "auto", batch_size: Annotated[int, typer.Option(min=1)] = 8,
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Run the backbone over the windows of a shard and store their tokens."""
    use_threads(threads)
    from lightcluster.cause.caching import cache_views as step

    step(
        manifest, weights, output, mirrored=settings["cause.crf"],
        **_caching(settings, settings["cause.size"]),
        device=device_of(device), batch_size=batch_size, threads=threads,
    )  # fmt: skip


@app.command()
def fit_clusterbook(
    settings: Settings, shards: Shards,
    seed: Annotated[int, typer.Option(min=0)],
    crops: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    losses: Annotated[Path, typer.Option()], device: Device = "auto", threads: Threads = 1,
) -> None:  # fmt: skip
    """Train the concepts of CAUSE."""
    use_threads(threads)
    from lightcluster.cause.course import course_of
    from lightcluster.cause.stages import fit_clusterbook as step

    step(
        [crops / f"{shard:04d}.zarr" for shard in range(shards)], output, losses,
        codes=settings["cause.codes"], course=course_of("clusterbook", settings, seed),
        device=device_of(device),
    )  # fmt: skip


@app.command()
def train_head(
    settings: Settings, shards: Shards,
    seed: Annotated[int, typer.Option(min=0)],
    crops: Annotated[Path, typer.Option()], clusterbook: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()], losses: Annotated[Path, typer.Option()],
    manifests: OptionalPath = None, classes: OptionalPath = None,
    device: Device = "auto", threads: Threads = 1,
) -> None:  # fmt: skip
    """Train the head of CAUSE; manifests and classes are for `linear_probe: as_released` alone."""
    use_threads(threads)
    from lightcluster.cause.course import course_of
    from lightcluster.cause.stages import train_head as step
    from lightcluster.cause.supervision import read_supervision

    names = [f"{shard:04d}" for shard in range(shards)]
    labels = None
    if manifests is not None and classes is not None:
        places = [manifests / f"{name}.csv" for name in names]
        labels = read_supervision(settings, places, classes, leaks=True)
    step(
        [crops / f"{name}.zarr" for name in names], clusterbook, output, losses,
        head=settings["cause.head"], bank=settings["cause.bank"],
        teacher_start=settings["cause.teacher_start"],
        course=course_of("head", settings, seed), device=device_of(device),
        supervision=labels,
    )  # fmt: skip


@app.command()
def fit_probe(
    settings: Settings, shards: Shards,
    seed: Annotated[int, typer.Option(min=0)],
    crops: Annotated[Path, typer.Option()], head: Annotated[Path, typer.Option()],
    manifests: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    losses: Annotated[Path, typer.Option()], palette: Annotated[Path, typer.Option()],
    images: Annotated[str, typer.Option(help="In words, what is trained on.")],
    classes: OptionalPath = None, device: Device = "auto", threads: Threads = 1,
) -> None:  # fmt: skip
    """Train the cluster probe of CAUSE, and a linear probe if one is asked for."""
    use_threads(threads)
    from lightcluster.cause.course import course_of
    from lightcluster.cause.stages import fit_probe as step
    from lightcluster.cause.supervision import read_supervision

    names = [f"{shard:04d}" for shard in range(shards)]
    labels, how = None, settings["cause.linear_probe"]
    if classes is not None and how != "none":
        places = [manifests / f"{name}.csv" for name in names]
        labels = read_supervision(settings, places, classes, leaks=how == "as_released")
    step(
        [crops / f"{name}.zarr" for name in names], head, classes, output, losses, palette,
        about={
            "framing": settings["cause.framing"], "size": settings["cause.size"], "images": images,
            "resampling": settings["cause.resampling"],
        },
        classes=settings["labelling.classes"], background=settings["dataset.background"],
        start=settings["cause.probe_start"], dropout=settings["cause.probe_dropout"],
        restarts=settings["clustering.restarts"],
        iterations=settings["clustering.iterations"],
        course=course_of("probe", settings, seed), device=device_of(device),
        supervision=labels,
    )  # fmt: skip


@app.command()
def adopt_probe(
    settings: Settings,
    seed: Annotated[int, typer.Option(min=0)],
    weights: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    palette: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Take a head and a probe that another run has trained."""
    from lightcluster.cause.adoption import adopt_probe as step

    step(
        Path(settings["fit"]["model"]), seed, weights, output, palette,
        mean=settings["backbone.mean"], std=settings["backbone.std"],
    )  # fmt: skip


@app.command()
def paint_probe(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()], views: Annotated[Path, typer.Option()],
    probe: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Write the segmentations of a shard that the probe makes."""
    use_threads(1)
    from lightcluster.cause.segmentation import paint_probe as step

    step(
        manifest, views, probe, output,
        framing=settings["cause.framing"], resampling=settings["cause.resampling"],
        crf=settings["cause.crf"], crf_image=settings["cause.crf_image"],
        max_pixels=settings["dataset.max_pixels"],
    )  # fmt: skip
