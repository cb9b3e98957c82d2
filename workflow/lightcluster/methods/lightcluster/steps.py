"""Steps that draw further figures for the report of this project's method."""

from __future__ import annotations

from lightcluster.entry import Device, Threads
from lightcluster.methods.lightcluster.method import OURS
from lightcluster.step.arguments import (
    File,
    FilesOfShards,
    OptionalFile,
    Settings,
    Shards,
    chosen,
)
from lightcluster.step.declaration import Step
from lightcluster.threads import device_of, use_threads


@Step(
    title="figures",
    kinds=OURS,
    reads=(
        "clustering.metric",
        "clustering.seed",
        "dataset.ignore",
        "dataset.max_pixels",
        "regions.margin",
        "labelling.seeds",
    ),
    after=(
        "read_classes",
        "index_dataset",
        "sample_features",
        "group_images",
        "score_patches",
        "label_regions",
        "adopt_superclasses",
        "adopt_labelling",
    ),
)
def analyse(
    settings: Settings, shards: Shards, manifests: FilesOfShards, features: FilesOfShards,
    run_folder: File, labelling: File, output: File, classes: OptionalFile = None,
) -> None:  # fmt: skip
    """Plot the patches, the superclasses and typical regions of each class."""
    use_threads(1)
    from lightcluster.reporting.analysis import analyse as do

    do(
        shards,
        {
            "manifest": manifests, "features": features, "sample": run_folder / "sample",
            "scores": run_folder / "masks" / "scores", "regions": run_folder / "regions",
        },
        run_folder / "clusters" / "superclasses.npz", labelling, classes, output,
        metric=settings.clustering.metric, seed=settings.clustering.seed,
        ignore=settings.dataset.ignore, margin=settings.regions.margin,
        max_pixels=settings.dataset.max_pixels,
    )  # fmt: skip


@Step(
    title="object parts",
    kinds=OURS,
    reads=(
        "report.parts",
        "report.seed",
        "backbone.mean",
        "backbone.std",
        "backbone.positions",
        "features.layer",
        "features.rotation",
        "features.short_side",
        "features.max_tokens",
        "features.precision",
        "dataset.max_pixels",
    ),
    after=("index_dataset", "fetch_weights", "choose_features", "score_patches"),
    version=2,
    torch=True,
)
def discover_parts(
    settings: Settings, shards: Shards, manifests: FilesOfShards, scores: FilesOfShards,
    weights: File, output: File, choice: OptionalFile = None, device: Device = "auto",
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Plot object parts, found by clustering tokens and keys."""
    use_threads(threads)
    from lightcluster.reporting.parts import discover_parts as do

    backbone, features = settings.backbone, settings.features
    _, layer = chosen("key", features.layer, choice)
    do(
        shards.paths(manifests, ".csv"), shards.paths(scores, ".npz"), weights, output,
        parts=settings.report.parts, seed=settings.report.seed,
        mean=backbone.mean, std=backbone.std, positions=backbone.positions,
        rotation=features.rotation, layer=layer,
        short_side=features.short_side, max_tokens=features.max_tokens,
        max_pixels=settings.dataset.max_pixels, precision=features.precision,
        device=device_of(device), threads=threads,
    )  # fmt: skip
