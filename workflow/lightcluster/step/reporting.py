"""The steps that draw figures and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightcluster.methods.registry import FIGURES, REPORTED, SEGMENTING, SHOWN, method_of
from lightcluster.step.arguments import (
    File,
    FilesOfShards,
    OptionalFile,
    OptionalFiles,
    OptionalFilesOfShards,
    Settings,
    Shards,
    Text,
)
from lightcluster.step.declaration import Step
from lightcluster.threads import use_threads


@Step(
    title="comparison of runs",
    unit="all runs",
    reads=("comparison",),
    after=("count_masks", "count_labels", "count_confusion", "evaluate"),
    version=6,
)
def compare(
    settings: Settings, shards: Shards, folder: File, run: Annotated[list[str], typer.Option()],
    table: File, figure: File,
) -> None:  # fmt: skip
    """Compare all runs with each other and with published results."""
    use_threads(1)
    from lightcluster.reporting.comparison import compare as do

    comparison = settings.comparison
    do(
        folder, run, shards, table, figure, published=comparison.published,
        resamples=comparison.resamples, seed=comparison.seed,
    )  # fmt: skip


@Step(
    title="page of all runs",
    unit="all runs",
    reads=("report", "dataset.ignore", "dataset.max_pixels"),
    after=("gather_manifest", "compare", "report"),
    version=4,
)
def write_dataset_page(
    settings: Settings, folder: File,
    segmentation: Annotated[list[Path], typer.Option(help="Segmentation of each run.")],
    output: File, pictures: File, comparison: OptionalFile = None, classes: OptionalFile = None,
) -> None:  # fmt: skip
    """Write the page that compares all runs."""
    use_threads(1)
    from lightcluster.reporting.dataset_page import write_dataset_page as do

    do(
        folder, {path.parts[-3]: path for path in segmentation}, folder / "manifest.csv", output,
        pictures, dataset=folder.name, comparison=comparison, classes_file=classes,
        ignore=settings.dataset.ignore, max_pixels=settings.dataset.max_pixels,
        samples=settings.report.samples, seed=settings.report.seed,
    )  # fmt: skip


@Step(
    title="pictures of gallery",
    unit="shard",
    reads=("labelling.seeds", "dataset.ignore", "dataset.max_pixels"),
    places=("report.gallery",),
    after=(
        "index_dataset",
        "read_classes",
        "merge_levels",
        "score_patches",
        "refine_masks",
        "find_regions",
        *SEGMENTING,
    ),
    version=3,
)
def draw_gallery(
    settings: Settings, manifest: File, segmentation: File, output: File,
    region_maps: OptionalFile = None, table: OptionalFile = None,
    merged: OptionalFile = None, scores: OptionalFile = None, pixel_masks: OptionalFile = None,
    classes: OptionalFile = None,
    images: Annotated[int | None, typer.Option(min=0, help="Images to draw; default: all.")] = None,
) -> None:  # fmt: skip
    """Draw the thumbnails, views and layers of a shard for the gallery."""
    use_threads(1)
    from lightcluster.reporting.gallery.drawing import draw_gallery as do

    do(
        manifest, segmentation, output,
        region_maps=region_maps, table=table, merged=merged, scores=scores,
        pixel_masks=pixel_masks, classes_file=classes, ignore=settings.dataset.ignore,
        max_pixels=settings.dataset.max_pixels, images=images,
    )  # fmt: skip


@Step(
    title="gallery",
    reads=("labelling.seeds", "evaluation", "method"),
    places=("report.gallery",),
    after=(
        "index_dataset",
        "gather_manifest",
        "read_classes",
        *SEGMENTING,
        "draw_gallery",
        "count_masks",
        "count_labels",
        "count_confusion",
        "evaluate",
    ),
    version=4,
)
def write_gallery(
    settings: Settings, shards: Shards, drawn: FilesOfShards, rejected: FilesOfShards,
    palette: File, dataset: Text, run: Text, output: File, data: File,
    counts: OptionalFile = None, classes: OptionalFile = None, matching: OptionalFile = None,
) -> None:  # fmt: skip
    """Write the gallery page and its data."""
    from lightcluster.evaluation.protocols import frames_of
    from lightcluster.names.run import given_names, open_named
    from lightcluster.reporting.gallery.writing import write_gallery as do

    evaluation = settings.evaluation
    do(
        drawn, shards, rejected, palette, output, data,
        dataset=dataset, run=run, seed=settings.labelling.seeds[0],
        given=given_names(palette.parent), clustering=open_named(palette.parent).fingerprint(),
        masks=method_of(settings).masks,
        counts=counts, classes_file=classes, matching=matching,
        frame=frames_of(evaluation.protocols, evaluation.stego_squash)[0],
    )  # fmt: skip


@Step(
    title="report",
    reads=("report", "dataset.ignore", "dataset.max_pixels", "method", *SHOWN),
    after=(
        "index_dataset",
        "gather_manifest",
        *REPORTED,
        *SEGMENTING,
        "evaluate",
        "score_images",
        *(figure.step for figure in FIGURES),
    ),
    version=10,
)
def report(
    settings: Settings, shards: Shards, manifest: File, rejected: FilesOfShards, palette: File,
    segmentation: File, benchmarks: File,
    features: Annotated[list[str], typer.Option(help="Shared features: `Layout.shared_names`.")],
    dataset: Text, run: Text, output: File,
    merged: OptionalFilesOfShards = None, scores: OptionalFilesOfShards = None,
    pixel_masks: OptionalFilesOfShards = None, regions: OptionalFilesOfShards = None,
    analysis: OptionalFile = None, figures: OptionalFiles = None,
    tables: OptionalFile = None, per_image: OptionalFile = None, counts: OptionalFile = None,
    classes: OptionalFile = None,
) -> None:  # fmt: skip
    """Write the report page, and draw contact sheets and figures."""
    from lightcluster.names.run import given_names
    from lightcluster.reporting.provenance import read_costs
    from lightcluster.reporting.report import report as do
    from lightcluster.reporting.strips import MaskFolders

    masks = MaskFolders(merged, scores, pixel_masks) if merged and scores and pixel_masks else None
    drawn, method = settings.report, method_of(settings)
    sections = {name: getattr(settings, name).model_dump(mode="json") for name in method.shown}
    do(
        manifest, masks, segmentation, output,
        dataset=dataset, run=run, every_shard=shards, rejected=rejected, palette=palette,
        regions=regions, tables=tables, per_image=per_image, classes_file=classes,
        ignore=settings.dataset.ignore, samples=drawn.samples, seed=drawn.seed,
        failures=drawn.failures, max_pixels=settings.dataset.max_pixels,
        config={"method": method.name, **sections},
        costs=read_costs(benchmarks, manifest.parent / "benchmarks", features),
        analysis=analysis, figures=figures or [], counts=counts, called=given_names(segmentation),
        gallery=drawn.gallery > 0,
    )  # fmt: skip
