"""The steps that draw figures and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightcluster.entry import Device, Threads
from lightcluster.kinds import METHOD, OURS, TRAINED
from lightcluster.step.arguments import (
    File,
    FilesOfShards,
    OptionalFile,
    OptionalFilesOfShards,
    Settings,
    Shards,
    chosen,
)
from lightcluster.step.declaration import Step
from lightcluster.threads import device_of, use_threads


@Step(
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
    """Draw patches, superclasses and the regions of each class."""
    use_threads(1)
    from lightcluster.reporting.analysis import analyse as do

    do(
        shards,
        {
            "manifest": manifests, "features": features, "sample": run_folder / "sample",
            "patch": run_folder / "masks" / "patch", "regions": run_folder / "regions",
        },
        run_folder / "clusters" / "superclasses.npz", labelling, classes, output,
        metric=settings.clustering.metric, seed=settings.clustering.seed,
        ignore=settings.dataset.ignore, margin=settings.regions.margin,
        max_pixels=settings.dataset.max_pixels,
    )  # fmt: skip


@Step(
    kinds=OURS,
    reads=(
        "report.parts",
        "report.seed",
        "backbone.mean",
        "backbone.std",
        "backbone.positions",
        "features.layer",
        "features.short_side",
        "features.max_tokens",
        "features.precision",
        "dataset.max_pixels",
    ),
    after=("index_dataset", "fetch_weights", "choose_features", "score_patches"),
    torch=True,
)
def discover_parts(
    settings: Settings, shards: Shards, manifests: FilesOfShards, patch_masks: FilesOfShards,
    weights: File, output: File, choice: OptionalFile = None, device: Device = "auto",
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Draw the parts of objects, by tokens and by keys."""
    use_threads(threads)
    from lightcluster.reporting.parts import discover_parts as do

    backbone, features = settings.backbone, settings.features
    _, layer = chosen("key", features.layer, choice)
    do(
        shards.paths(manifests, ".csv"), shards.paths(patch_masks, ".npz"), weights, output,
        parts=settings.report.parts, seed=settings.report.seed,
        mean=backbone.mean, std=backbone.std, positions=backbone.positions, layer=layer,
        short_side=features.short_side, max_tokens=features.max_tokens,
        max_pixels=settings.dataset.max_pixels, precision=features.precision,
        device=device_of(device), threads=threads,
    )  # fmt: skip


@Step(
    kinds=TRAINED,
    reads=("labelling.seeds",),
    after=("fit_clusterbook", "train_head", "fit_probe"),
    torch=True,
)
def plot_training(
    settings: Settings, run_folder: File, clusterbooks: File, heads: File, output: File,
) -> None:  # fmt: skip
    """Draw the losses of a training, and how many tokens each cluster has."""
    from lightcluster.reporting.training import plot_training as do

    do(run_folder, clusterbooks, heads, settings.labelling.seeds, output)


@Step(
    unit="all runs",
    reads=("comparison",),
    after=("count_masks", "count_labels", "count_confusion", "evaluate"),
    version=5,
)
def compare(
    settings: Settings, shards: Shards, folder: File, run: Annotated[list[str], typer.Option()],
    table: File, figure: File,
) -> None:  # fmt: skip
    """Compare all runs, and published figures."""
    use_threads(1)
    from lightcluster.reporting.comparison import compare as do

    comparison = settings.comparison
    do(
        folder, run, shards, table, figure, published=comparison.published,
        resamples=comparison.resamples, seed=comparison.seed,
    )  # fmt: skip


@Step(
    unit="all runs",
    reads=("report", "dataset.ignore", "dataset.max_pixels"),
    after=("gather_manifest", "compare", "report"),
)
def write_dataset_page(
    settings: Settings, folder: File,
    segmentation: Annotated[list[Path], typer.Option(help="Of each run, below its folder.")],
    output: File, comparison: OptionalFile = None, classes: OptionalFile = None,
) -> None:  # fmt: skip
    """Write the page that holds all runs."""
    use_threads(1)
    from lightcluster.reporting.dataset_page import write_dataset_page as do

    do(
        folder, {path.parts[-3]: path for path in segmentation}, folder / "manifest.csv", output,
        dataset=folder.name, comparison=comparison, classes_file=classes,
        ignore=settings.dataset.ignore, max_pixels=settings.dataset.max_pixels,
        samples=settings.report.samples, seed=settings.report.seed,
    )  # fmt: skip


@Step(
    reads=("report", "dataset.ignore", "dataset.max_pixels", "method", *METHOD, "cause"),
    after=(
        "gather_manifest",
        "score_patches",
        "refine_masks",
        "paint_segmentation",
        "paint_clusters",
        "paint_probe",
        "evaluate",
        "score_images",
        "analyse",
        "discover_parts",
        "plot_training",
    ),
    version=6,
)
def report(
    settings: Settings, manifest: File, segmentation: File, benchmarks: File,
    features: Annotated[list[str], typer.Option(help="`Layout.shared_names`.")], output: File,
    patch_masks: OptionalFilesOfShards = None, pixel_masks: OptionalFilesOfShards = None,
    analysis: OptionalFile = None, parts: OptionalFile = None, training: OptionalFile = None,
    tables: OptionalFile = None, per_image: OptionalFile = None, counts: OptionalFile = None,
    classes: OptionalFile = None,
) -> None:  # fmt: skip
    """Draw contact sheets and figures, and write the page that holds them."""
    from lightcluster.reporting.provenance import read_costs
    from lightcluster.reporting.report import report as do

    drawn, method = settings.report, settings.method
    shown = ("backbone", "labelling", "cause") if method == "cause" else METHOD
    sections = {name: getattr(settings, name).model_dump(mode="json") for name in shown}
    do(
        manifest, patch_masks, pixel_masks, segmentation, output,
        tables=tables, per_image=per_image, classes_file=classes, ignore=settings.dataset.ignore,
        samples=drawn.samples, seed=drawn.seed, failures=drawn.failures,
        max_pixels=settings.dataset.max_pixels, config={"method": method, **sections},
        costs=read_costs(benchmarks, manifest.parent / "benchmarks", features),
        analysis=analysis, figures=[path for path in (parts, training) if path], counts=counts,
    )  # fmt: skip
