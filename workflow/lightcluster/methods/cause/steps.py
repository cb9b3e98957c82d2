"""The steps of CAUSE."""

from __future__ import annotations

from typing import Annotated

import typer

from lightcluster.entry import Device, Threads
from lightcluster.methods.cause.method import APPLIED, KINDS, TRAINED
from lightcluster.methods.cause.settings import CACHE_VERSION
from lightcluster.methods.cause.sharing import (
    CLUSTERBOOK,
    CLUSTERBOOK_READS,
    CROPS,
    HEAD,
    HEAD_READS,
    VIEWS,
)
from lightcluster.step.arguments import (
    BatchSize,
    File,
    FilesOfShards,
    OptionalFile,
    OptionalFilesOfShards,
    Seed,
    Settings,
    Shards,
)
from lightcluster.step.declaration import Step
from lightcluster.threads import device_of, use_threads


@Step(
    title="features of crops",
    unit=CROPS.unit,
    kinds=TRAINED,
    reads=(
        "backbone.mean",
        "backbone.std",
        "backbone.positions",
        "cause.framing",
        "cause.resampling",
        "cause.fractions",
        "cause.mirrored",
        "features.precision",
        "dataset.max_pixels",
    ),
    places=("method", "cause.head", "cause.size", "cause.clusterbook_crops"),
    after=("index_dataset", "fetch_weights"),
    version=CACHE_VERSION,
    torch=True,
)
def cache_crops(
    settings: Settings, manifest: File, weights: File, output: File,
    size: Annotated[int, typer.Option(min=1, help="Side of a crop in pixels.")],
    device: Device = "auto", batch_size: BatchSize = 8, threads: Threads = 1,
) -> None:  # fmt: skip
    """Run the backbone on the training crops of a shard and store their tokens."""
    use_threads(threads)
    from lightcluster.methods.cause.caching import cache_crops as do

    backbone, cause = settings.backbone, settings.cause
    do(
        manifest, weights, output, fractions=cause.fractions, mirrored=cause.mirrored,
        size=size, framing=cause.framing, resampling=cause.resampling,
        mean=backbone.mean, std=backbone.std, positions=backbone.positions,
        precision=settings.features.precision, max_pixels=settings.dataset.max_pixels,
        device=device_of(device), batch_size=batch_size, threads=threads,
    )  # fmt: skip


@Step(
    title="features of windows",
    unit=VIEWS.unit,
    kinds=KINDS,
    reads=(
        "backbone.mean",
        "backbone.std",
        "backbone.positions",
        "cause.size",
        "cause.framing",
        "cause.resampling",
        "cause.crf",
        "features.precision",
        "dataset.max_pixels",
    ),
    places=("method",),
    after=("index_dataset", "fetch_weights"),
    version=CACHE_VERSION,
    torch=True,
)
def cache_views(
    settings: Settings, manifest: File, weights: File, output: File, device: Device = "auto",
    batch_size: BatchSize = 8, threads: Threads = 1,
) -> None:  # fmt: skip
    """Run the backbone on the windows of a shard and store their tokens."""
    use_threads(threads)
    from lightcluster.methods.cause.caching import cache_views as do

    backbone, cause = settings.backbone, settings.cause
    do(
        manifest, weights, output, mirrored=cause.crf,
        size=cause.size, framing=cause.framing, resampling=cause.resampling,
        mean=backbone.mean, std=backbone.std, positions=backbone.positions,
        precision=settings.features.precision, max_pixels=settings.dataset.max_pixels,
        device=device_of(device), batch_size=batch_size, threads=threads,
    )  # fmt: skip


@Step(
    title="training of clusterbook",
    unit=CLUSTERBOOK.unit,
    kinds=TRAINED,
    reads=CLUSTERBOOK_READS,
    places=("method", "labelling.seeds"),
    after=("gather_manifest", "cache_crops"),
    torch=True,
)
def fit_clusterbook(
    settings: Settings, shards: Shards, seed: Seed, crops: FilesOfShards, output: File,
    losses: File, device: Device = "auto", threads: Threads = 1,
) -> None:  # fmt: skip
    """Train CAUSE's clusterbook."""
    use_threads(threads)
    from lightcluster.methods.cause.course import course_of
    from lightcluster.methods.cause.stages import fit_clusterbook as do

    do(
        shards.paths(crops, ".zarr"), output, losses,
        codes=settings.cause.codes, course=course_of("clusterbook", settings.cause, seed),
        device=device_of(device),
    )  # fmt: skip


@Step(
    title="training of head",
    unit=HEAD.unit,
    kinds=TRAINED,
    reads=HEAD_READS,
    places=("method", "labelling.seeds", "cause.linear_probe"),
    after=("cache_crops", "fit_clusterbook"),
    version=2,
    torch=True,
)
def train_head(
    settings: Settings, shards: Shards, seed: Seed, crops: FilesOfShards, clusterbook: File,
    output: File, losses: File, manifests: OptionalFilesOfShards = None,
    classes: OptionalFile = None, device: Device = "auto", threads: Threads = 1,
) -> None:  # fmt: skip
    """Train CAUSE's head; manifests and classes are used by `linear_probe: as_released` only."""
    use_threads(threads)
    from lightcluster.methods.cause.course import course_of
    from lightcluster.methods.cause.stages import train_head as do
    from lightcluster.methods.cause.supervision import read_supervision

    labels, cause = None, settings.cause
    if manifests is not None and classes is not None:
        labels = read_supervision(
            cause, shards.paths(manifests, ".csv"), classes, ignore=settings.dataset.ignore,
            leaks=True,
        )  # fmt: skip
    do(
        shards.paths(crops, ".zarr"), clusterbook, output, losses,
        head=cause.head, bank=cause.bank, teacher_start=cause.teacher_start,
        course=course_of("head", cause, seed), device=device_of(device),
        supervision=labels,
    )  # fmt: skip


@Step(
    title="training of probe",
    unit="seed",
    kinds=TRAINED,
    reads=(
        "cause.head",
        "cause.framing",
        "cause.fractions",
        "cause.mirrored",
        "cause.batch_size",
        "cause.learning_rate",
        "cause.least_steps",
        "cause.probe_start",
        "cause.probe_dropout",
        "cause.probe_weight_decay",
        "cause.probe_clip",
        "cause.linear_probe",
        "cause.size",
        "cause.resampling",
        "dataset.split",
        "clustering.restarts",
        "clustering.iterations",
        "labelling.classes",
        "dataset.background",
        "dataset.ignore",
    ),
    places=("labelling.seeds",),
    after=("read_classes", "cache_crops", "train_head"),
    version=3,
    torch=True,
)
def fit_probe(
    settings: Settings, shards: Shards, seed: Seed, crops: FilesOfShards, head: File, output: File,
    losses: File, palette: File,
    images: Annotated[str, typer.Option(help="In words, what is trained on.")],
    manifests: OptionalFilesOfShards = None, classes: OptionalFile = None, device: Device = "auto",
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Train CAUSE's cluster probe, and a linear probe if requested."""
    use_threads(threads)
    from lightcluster.methods.cause.course import course_of
    from lightcluster.methods.cause.stages import fit_probe as do
    from lightcluster.methods.cause.supervision import read_supervision

    labels, cause = None, settings.cause
    if manifests is not None and classes is not None:
        labels = read_supervision(
            cause, shards.paths(manifests, ".csv"), classes, ignore=settings.dataset.ignore,
            leaks=cause.linear_probe == "as_released",
        )  # fmt: skip
    do(
        shards.paths(crops, ".zarr"), head, classes, output, losses, palette,
        about={
            "framing": cause.framing, "size": cause.size, "images": images,
            "resampling": cause.resampling,
        },
        classes=settings.labelling.classes, background=settings.dataset.background,
        start=cause.probe_start, dropout=cause.probe_dropout,
        restarts=settings.clustering.restarts, iterations=settings.clustering.iterations,
        course=course_of("probe", cause, seed), device=device_of(device),
        supervision=labels,
    )  # fmt: skip


@Step(
    title="probe of other run",
    unit="seed",
    kinds=APPLIED,
    reads=("fit", "backbone.mean", "backbone.std"),
    places=("dataset.name", "labelling.seeds"),
    after=("fetch_weights",),
    torch=True,
)
def adopt_probe(settings: Settings, seed: Seed, weights: File, output: File, palette: File) -> None:
    """Copy a head and a probe trained by another run."""
    from lightcluster.methods.cause.adoption import adopt_probe as do

    assert settings.fit.model is not None  # only runs with `fit.model` have this step
    do(
        settings.fit.model, seed, weights, output, palette,
        mean=settings.backbone.mean, std=settings.backbone.std,
    )  # fmt: skip


@Step(
    title="segmentations",
    unit="shard and seed",
    kinds=KINDS,
    reads=(
        "cause.framing",
        "cause.resampling",
        "cause.crf",
        "cause.crf_image",
        "dataset.max_pixels",
    ),
    after=("index_dataset", "cache_views", "fit_probe", "adopt_probe"),
    torch=True,
    version=2,
)
def paint_probe(settings: Settings, manifest: File, views: File, probe: File, output: File) -> None:
    """Write the segmentations of a shard predicted by the probe."""
    use_threads(1)
    from lightcluster.methods.cause.segmentation import paint_probe as do

    cause = settings.cause
    do(
        manifest, views, probe, output, framing=cause.framing, resampling=cause.resampling,
        crf=cause.crf, crf_image=cause.crf_image, max_pixels=settings.dataset.max_pixels,
    )  # fmt: skip


@Step(
    title="plots of training",
    kinds=TRAINED,
    reads=("labelling.seeds",),
    after=("fit_clusterbook", "train_head", "fit_probe"),
    torch=True,
)
def plot_training(
    settings: Settings, run_folder: File, clusterbooks: File, heads: File, output: File,
) -> None:  # fmt: skip
    """Plot the training losses and the cluster sizes."""
    from lightcluster.methods.cause.figure import plot_training as do

    do(run_folder, clusterbooks, heads, settings.labelling.seeds, output)
