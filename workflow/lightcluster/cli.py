"""The command line: the steps that Snakemake calls, and two commands to run before a long run.

A command parses its arguments, imports what it needs and calls one function.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from lightcluster.commission import end_with_the_run
from lightcluster.errors import LightClusterError
from lightcluster.forkserver import THREADS

if TYPE_CHECKING:
    from lightcluster.config import DatasetSettings

app = typer.Typer(
    name="lightcluster",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Unsupervised semantic segmentation without training. The workflow itself is run by "
    "`snakemake --cores N`; `check` and `plan` look at a configuration before that.",
)
Configs = Annotated[
    list[Path] | None,
    typer.Option(
        "--configfile",
        "--configfiles",
        metavar="FILE...",
        help="As for snakemake: one or more files, put over config/config.yaml in their order.",
    ),
]
Settings = Annotated[
    dict[str, Any], typer.Argument(parser=json.loads, metavar="JSON", help="`steps.settings_of`.")
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch, faiss and BLAS.")]
Device = Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")]
Shards = Annotated[int, typer.Argument(min=1, help="Number of shards.")]
Shard = Annotated[int, typer.Argument(min=0, help="Number of this shard.")]
OptionalPath = Annotated[Path | None, typer.Option()]
STEP_PANEL = "Steps (called by the workflow)"


def main() -> None:
    """Run the command line; a mistake in the input ends it with a message, not a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("faiss").setLevel(logging.WARNING)
    try:
        end_with_the_run()
        app()
    except LightClusterError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise SystemExit(1) from None


def _use_threads(threads: int) -> None:
    """Bound the threads of BLAS, OpenMP and faiss; before numpy is imported."""
    for variable in THREADS:
        os.environ[variable] = str(threads)


def _device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class TakesConfigfiles(TyperCommand):
    """A command that takes several files after ``--configfile``, as snakemake does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option for each file that follows it."""
        return super().parse_args(ctx, _repeat_configfile(args))


def _repeat_configfile(args: list[str]) -> list[str]:
    """Return ``--configfile A B`` as ``--configfile A --configfile B``."""
    repeated: list[str] = []
    place, options = 0, 0  # where the files of an option begin, while it takes files
    for arg in args:
        name, sign, _ = arg.partition("=")
        if name in ("--configfile", "--configfiles"):
            options += 1
            repeated.append(arg)
            place = 0 if sign else len(repeated)
        elif arg.startswith("-"):
            repeated.append(arg)
            place = 0
        else:
            repeated += [repeated[place - 1]] if 0 < place < len(repeated) else []
            repeated.append(arg)
    if options > 1:
        raise typer.BadParameter(
            "give all files after one --configfile: of several, snakemake reads the last alone"
        )
    return repeated


@app.command(cls=TakesConfigfiles)
def check(configfile: Configs = None) -> None:
    """Check a configuration, its dataset and its weights; print what there is."""
    from lightcluster.preview import check_all

    raise typer.Exit(check_all(configfile or []))


@app.command(cls=TakesConfigfiles)
def plan(configfile: Configs = None) -> None:
    """Print the size of a run: images, patches, bytes of features, peak memory, jobs."""
    from lightcluster.preview import print_plan

    print_plan(configfile or [])


@app.command()
def pretrain(
    output: Annotated[Path, typer.Argument(help="Folder of pictures, checkpoint and weights.")],
    recipe: Annotated[
        Path | None, typer.Option(help="YAML with the keys of the recipe that differ.")
    ] = None,
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Train the small backbone on generated scenes; the same command resumes it."""
    _use_threads(threads)
    from lightcluster.pretraining.recipe import read_recipe
    from lightcluster.pretraining.training import pretrain as train

    typer.echo(train(output, read_recipe(recipe), device=_device(device), threads=threads))


@app.command()
def segment(
    paths: Annotated[list[Path], typer.Argument(help="Images, and folders of images.")],
    model: Annotated[Path, typer.Option(help="`results/<dataset>/<run>/model`, or a copy of it.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; new or of an earlier call.")],
    device: Device = "auto",
    threads: Threads = 2,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
) -> None:
    """Segment new images with a fitted run, without fitting anything."""
    _use_threads(1)
    from lightcluster.model import segment as apply
    from lightcluster.model.segmentation import describe

    folder = apply(paths, model, out, device=device, threads=threads, batch_size=batch_size)
    for line in describe(folder.parent):
        typer.echo(line)


@app.command()
def export(
    segmentation: Annotated[
        Path, typer.Argument(help="`segmentation/seed-N` of a run, or `OUT/segmentation`.")
    ],
    out: Annotated[Path, typer.Option(help="coco: a JSON file; panoptic: a folder.")],
    form: Annotated[
        Literal["coco", "panoptic"], typer.Option("--format", help="Of COCO: objects, or panoptic.")
    ] = "coco",
) -> None:
    """Write segmentations in a format that other tools read."""
    from lightcluster.reporting import exports

    step = {"coco": exports.export_coco, "panoptic": exports.export_panoptic}[form]
    typer.echo(f"{step(segmentation, out)} objects: {out}")


@app.command(rich_help_panel=STEP_PANEL)
def generate_demo(settings: Settings, output: Path) -> None:
    """Draw the demo scenes."""
    from lightcluster.datasets.scenes import write_scenes
    from lightcluster.files import replacing

    demo = settings["dataset.demo"]
    with replacing(output) as folder:
        write_scenes(folder, demo["scenes"], demo["seed"])


@app.command(rich_help_panel=STEP_PANEL)
def read_classes(settings: Settings, output: Path, source: OptionalPath = None) -> None:
    """Check classes.csv and copy it, or write the classes of a dataset of the field."""
    from lightcluster.datasets.labels import built_in_classes, write_classes
    from lightcluster.datasets.labels import read_classes as read

    classes = read(source) if source is not None else built_in_classes(settings["dataset.format"])
    write_classes(classes, output, settings["dataset.background"], settings["dataset.ignore"])


@app.command(rich_help_panel=STEP_PANEL)
def paint_labels(settings: Settings, output: Path) -> None:
    """Paint label maps from the instance annotations of COCO."""
    from lightcluster.datasets.coco_things import paint_labels as step

    step(_dataset_settings({**settings, "dataset.format": "coco_things"}), output)


@app.command(rich_help_panel=STEP_PANEL)
def index_dataset(
    settings: Settings,
    shard: Shard,
    shards: Shards,
    generated: Annotated[Path, typer.Option()],
    manifest: Annotated[Path, typer.Option()],
    rejected: Annotated[Path, typer.Option()],
    census: Annotated[Path, typer.Option()],
    classes: OptionalPath = None,
) -> None:
    """Decode the images and labels of a shard once and write its manifest."""
    from lightcluster.datasets.manifest import index_dataset as step

    dataset = _dataset_settings(settings)
    step(dataset, generated, shard, shards, classes, manifest, rejected, census)


def _section(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the settings of a section by their own keys."""
    given = ((key.partition("."), value) for key, value in settings.items())
    return {key: value for (section, _, key), value in given if section == name}


def _dataset_settings(settings: dict[str, Any]) -> DatasetSettings:
    """Return the dataset that a step's settings describe."""
    from lightcluster.config import DatasetSettings

    return DatasetSettings.model_validate(_section(settings, "dataset"))


@app.command(rich_help_panel=STEP_PANEL)
def gather_manifest(
    folder: Path,
    shards: Shards,
    manifest: Annotated[Path, typer.Option()],
    census: Annotated[Path, typer.Option()],
) -> None:
    """Join the manifests of all shards."""
    from lightcluster.datasets.manifest import gather_census
    from lightcluster.datasets.manifest import gather_manifest as step

    step(folder, shards, manifest)
    gather_census(folder, shards, census)


@app.command(rich_help_panel=STEP_PANEL)
def gather_rejected(
    settings: Settings,
    folder: Path,
    shards: Shards,
    output: Path,
    generated: Annotated[Path, typer.Option()],
) -> None:
    """Join the rejections of all shards, and count the files that are no images."""
    from lightcluster.datasets.manifest import list_rejected as step

    step(_dataset_settings(settings), generated, folder, shards, output)


@app.command(rich_help_panel=STEP_PANEL)
def fetch_weights(settings: Settings, output: Path) -> None:
    """Fetch, verify and store the weights of the backbone."""
    from lightcluster.config import BackboneSettings
    from lightcluster.features.weights import fetch_weights as step
    from lightcluster.identity import local_weights, weights_source

    backbone = BackboneSettings(
        model=settings["backbone.model"],
        weights=settings["backbone.weights"],
        seed=settings["backbone.seed"],
    )
    source, path = weights_source(backbone), local_weights(backbone)
    step(backbone.model, source, path, backbone.seed, output)


def _backbone(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that all steps that run the backbone have in common."""
    return {name: settings[f"backbone.{name}"] for name in ("mean", "std", "positions")}


@app.command(rich_help_panel=STEP_PANEL)
def choose_features(
    settings: Settings, shards: Shards,
    manifests: Annotated[Path, typer.Option()], weights: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
    device: Device = "auto", threads: Threads = 1,
) -> None:  # fmt: skip
    """Choose the facet and the layer whose levels agree best."""
    _use_threads(threads)
    from lightcluster.features.choice import choose_features as step

    step(
        [manifests / f"{shard:04d}.csv" for shard in range(shards)], weights, output,
        **_backbone(settings), **settings["features"],
        max_pixels=settings["dataset.max_pixels"], device=_device(device), threads=threads,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def extract_features(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()],
    weights: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
    choice: OptionalPath = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    threads: Threads = 1,
) -> None:
    """Run the backbone over a shard and store its features."""
    _use_threads(threads)
    from lightcluster.features.step import extract_features as step

    facet, layer = _chosen(settings["features.facet"], settings["features.layer"], choice)
    step(
        manifest, weights, output,
        **_backbone(settings), facet=facet, layer=layer,
        short_side=settings["features.short_side"], max_tokens=settings["features.max_tokens"],
        max_pixels=settings["dataset.max_pixels"], precision=settings["features.precision"],
        device=_device(device), batch_size=batch_size, threads=threads,
    )  # fmt: skip


def _chosen(facet: str, layer: Any, choice: Path | None) -> tuple[Any, Any]:
    """Return the facet and the layer: those of the table of a choice, if there is one."""
    if choice is None:
        return facet, layer
    from lightcluster.layout import read_choice

    return read_choice(choice)


@app.command(rich_help_panel=STEP_PANEL)
def sample_features(
    settings: Settings, shard: Shard, shards: Shards,
    store: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Draw a shard's part of the sample that the upper levels are fitted on."""
    _use_threads(1)
    from lightcluster.clustering.sample import sample_features as step

    step(
        store, output, shard=shard, shards=shards,
        tokens=settings["clustering.sample_tokens"],
        normalization=settings["clustering.normalize"], seed=settings["clustering.seed"],
    )  # fmt: skip


def _lloyd(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that the k-means of the upper levels have in common."""
    return {
        "restarts": settings["clustering.restarts"],
        "iterations": settings["clustering.iterations"],
        "seed": settings["clustering.seed"],
    }


@app.command(rich_help_panel=STEP_PANEL)
def adopt_fit(
    settings: Settings,
    weights: Annotated[Path, typer.Option()],
    output: Annotated[list[Path], typer.Option()],
) -> None:
    """Take levels and foreground of a model."""
    from lightcluster.model.adoption import adopt_fit as step

    step(Path(settings["fit"]["model"]), weights, output)


@app.command(rich_help_panel=STEP_PANEL)
def adopt_superclasses(
    settings: Settings, shards: Shards,
    features: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Assign the images to the superclasses of a model."""
    _use_threads(1)
    from lightcluster.model.adoption import adopt_superclasses as step

    stores = [features / f"{shard:04d}.zarr" for shard in range(shards)]
    step(Path(settings["fit"]["model"]), stores, output)


@app.command(rich_help_panel=STEP_PANEL)
def adopt_labelling(
    settings: Settings,
    seed: Annotated[int, typer.Option(min=0)], output: Annotated[Path, typer.Option()],
    palette: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Take the classes of a model."""
    from lightcluster.model.adoption import adopt_labelling as step

    step(Path(settings["fit"]["model"]), seed, output, palette)


@app.command(rich_help_panel=STEP_PANEL)
def fit_clusters(
    settings: Settings, shards: Shards,
    seed: Annotated[int, typer.Option(min=0)],
    sample: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    palette: Annotated[Path, typer.Option()], classes: OptionalPath = None, threads: Threads = 1,
) -> None:  # fmt: skip
    """Cluster patches into classes: the baseline."""
    _use_threads(threads)
    from lightcluster.clustering.patch_clusters import fit_clusters as step

    step(
        sample, shards, classes, output, palette,
        metric=settings["clustering.metric"], classes=settings["labelling.classes"],
        background=settings["dataset.background"], restarts=settings["clustering.restarts"],
        iterations=settings["clustering.iterations"], seed=seed,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def paint_clusters(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()], store: Annotated[Path, typer.Option()],
    clusters: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Write the segmentations of a shard that the clusters of patches make."""
    _use_threads(1)
    from lightcluster.clustering.patch_clusters import paint_clusters as step

    step(
        manifest, store, clusters, output,
        normalization=settings["clustering.normalize"], metric=settings["clustering.metric"],
        upsampling=settings["upsampling.method"],
    )  # fmt: skip


def _caching(settings: dict[str, Any], size: int) -> dict[str, Any]:
    """Return the arguments that the steps that cache tokens have in common."""
    return {
        "size": size, "framing": settings["cause.framing"], **_backbone(settings),
        "resampling": settings["cause.resampling"],
        "max_pixels": settings["dataset.max_pixels"], "precision": settings["features.precision"],
    }  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def cache_crops(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()], weights: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
    size: Annotated[int, typer.Option(min=1, help="Side of a crop in pixels.")],
    device: Device = "auto", batch_size: Annotated[int, typer.Option(min=1)] = 8,
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Run the backbone over the training crops of a shard and store their tokens."""
    _use_threads(threads)
    from lightcluster.cause.caching import cache_crops as step

    step(
        manifest, weights, output,
        fractions=settings["cause.fractions"], mirrored=settings["cause.mirrored"],
        **_caching(settings, size),
        device=_device(device), batch_size=batch_size, threads=threads,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def cache_views(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()], weights: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
    device: Device = "auto", batch_size: Annotated[int, typer.Option(min=1)] = 8,
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Run the backbone over the windows of a shard and store their tokens."""
    _use_threads(threads)
    from lightcluster.cause.caching import cache_views as step

    step(
        manifest, weights, output, mirrored=settings["cause.crf"],
        **_caching(settings, settings["cause.size"]),
        device=_device(device), batch_size=batch_size, threads=threads,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def fit_clusterbook(
    settings: Settings, shards: Shards,
    seed: Annotated[int, typer.Option(min=0)],
    crops: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    losses: Annotated[Path, typer.Option()], device: Device = "auto", threads: Threads = 1,
) -> None:  # fmt: skip
    """Train the concepts of CAUSE."""
    _use_threads(threads)
    from lightcluster.cause.course import course_of
    from lightcluster.cause.stages import fit_clusterbook as step

    step(
        [crops / f"{shard:04d}.zarr" for shard in range(shards)], output, losses,
        codes=settings["cause.codes"], course=course_of("clusterbook", settings, seed),
        device=_device(device),
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def train_head(
    settings: Settings, shards: Shards,
    seed: Annotated[int, typer.Option(min=0)],
    crops: Annotated[Path, typer.Option()], clusterbook: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()], losses: Annotated[Path, typer.Option()],
    manifests: OptionalPath = None, classes: OptionalPath = None,
    device: Device = "auto", threads: Threads = 1,
) -> None:  # fmt: skip
    """Train the head of CAUSE; manifests and classes are for `linear_probe: as_released` alone."""
    _use_threads(threads)
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
        course=course_of("head", settings, seed), device=_device(device),
        supervision=labels,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
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
    _use_threads(threads)
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
        course=course_of("probe", settings, seed), device=_device(device),
        supervision=labels,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
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


@app.command(rich_help_panel=STEP_PANEL)
def paint_probe(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()], views: Annotated[Path, typer.Option()],
    probe: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Write the segmentations of a shard that the probe makes."""
    _use_threads(1)
    from lightcluster.cause.segmentation import paint_probe as step

    step(
        manifest, views, probe, output,
        framing=settings["cause.framing"], resampling=settings["cause.resampling"],
        crf=settings["cause.crf"], crf_image=settings["cause.crf_image"],
        max_pixels=settings["dataset.max_pixels"],
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def plot_training(
    settings: Settings,
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    clusterbooks: Annotated[Path, typer.Option()],
    heads: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:
    """Draw the losses of a training, and how many tokens each cluster has."""
    from lightcluster.reporting.training import plot_training as step

    step(run, clusterbooks, heads, settings["labelling.seeds"], output)


@app.command(rich_help_panel=STEP_PANEL)
def cluster_dataset(
    settings: Settings, shards: Shards,
    sample: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Fit the centroids of the dataset level."""
    _use_threads(threads)
    from lightcluster.clustering.dataset_level import cluster_dataset as step

    step(
        sample, shards, output,
        k=settings["clustering.k_dataset"], metric=settings["clustering.metric"],
        **_lloyd(settings),
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def group_images(
    settings: Settings, shards: Shards,
    features: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Group the images into superclasses by their CLS tokens."""
    _use_threads(threads)
    from lightcluster.clustering.superclasses import group_images as step

    stores = [features / f"{shard:04d}.zarr" for shard in range(shards)]
    step(stores, output, **settings["superclasses"], **_lloyd(settings))


@app.command(rich_help_panel=STEP_PANEL)
def cluster_category(
    settings: Settings, shards: Shards,
    sample: Annotated[Path, typer.Option()], superclasses: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()], threads: Threads = 1,
) -> None:  # fmt: skip
    """Fit the centroids of each superclass."""
    _use_threads(threads)
    from lightcluster.clustering.category_level import cluster_category as step

    step(
        sample, shards, superclasses, output,
        k=settings["clustering.k_category"], metric=settings["clustering.metric"],
        **_lloyd(settings),
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def cluster_image(
    settings: Settings,
    store: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:
    """Cluster each image of a shard and decide its foreground."""
    _use_threads(1)
    from lightcluster.clustering.image_level import cluster_image as step

    step(
        store, output,
        k=settings["clustering.k_image"], normalization=settings["clustering.normalize"],
        metric=settings["clustering.metric"], rules=settings["foreground"]["rules"],
        restarts=settings["clustering.restarts_image"],
        iterations=settings["clustering.iterations"], seed=settings["clustering.seed"],
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def decide_foreground(
    settings: Settings, shards: Shards,
    sample: Annotated[Path, typer.Option()], image_level: Annotated[Path, typer.Option()],
    dataset_level: Annotated[Path, typer.Option()], superclasses: Annotated[Path, typer.Option()],
    category_level: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Decide which clusters of the dataset and category levels are foreground."""
    _use_threads(1)
    from lightcluster.masks.decision import decide_foreground as step

    step(
        sample, image_level, shards, dataset_level, superclasses, category_level, output,
        metric=settings["clustering.metric"],
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def merge_levels(
    settings: Settings, shard: Shard,
    store: Annotated[Path, typer.Option()], image_level: Annotated[Path, typer.Option()],
    superclasses: Annotated[Path, typer.Option()], dataset_level: Annotated[Path, typer.Option()],
    category_level: Annotated[Path, typer.Option()], decision: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Merge the masks of the three levels of a shard."""
    _use_threads(1)
    from lightcluster.masks.consistency import merge_levels as step

    step(
        store, shard, image_level, superclasses, dataset_level, category_level, decision, output,
        normalization=settings["clustering.normalize"], metric=settings["clustering.metric"],
        rule=settings["consistency"]["rule"],
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def fit_trees(
    settings: Settings, shards: Shards,
    features: Annotated[Path, typer.Option()], merged: Annotated[Path, typer.Option()],
    sample: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Re-estimate the foreground of the whole dataset by trees of clusters of patches."""
    _use_threads(threads)
    from lightcluster.masks.reestimation import fit_trees as step

    names = [f"{shard:04d}" for shard in range(shards)]
    step(
        [features / f"{name}.zarr" for name in names],
        [merged / f"{name}.npz" for name in names],
        sample, output, **_section(settings, "reestimation"), seed=settings["clustering.seed"],
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def score_patches(
    settings: Settings,
    store: Annotated[Path, typer.Option()], merged: Annotated[Path, typer.Option()],
    trees: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Score the patches of a shard by the trees."""
    _use_threads(1)
    from lightcluster.masks.reestimation import score_patches as step

    step(store, merged, trees, output, **_section(settings, "reestimation"))


@app.command(rich_help_panel=STEP_PANEL)
def refine_masks(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()],
    patch_masks: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:
    """Upsample and refine the masks of a shard."""
    _use_threads(1)
    from lightcluster.masks.refinement import method_of
    from lightcluster.masks.refinement import refine_masks as step

    refinement = settings["refinement"]
    step(
        manifest, patch_masks, output,
        upsampling=settings["upsampling"]["method"], threshold=settings["upsampling"]["threshold"],
        method=method_of(refinement), working_pixels=refinement["max_pixels"],
        min_area=refinement["min_area"],
        max_pixels=settings["dataset.max_pixels"],
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def paint_masks(
    manifest: Annotated[Path, typer.Option()],
    pixel_masks: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:
    """Write the binary masks of a shard as PNG."""
    from lightcluster.regions.painting import paint_masks as step

    step(manifest, pixel_masks, output)


@app.command(rich_help_panel=STEP_PANEL)
def find_regions(
    settings: Settings,
    store: Annotated[Path, typer.Option()],
    pixel_masks: Annotated[Path, typer.Option()],
    dataset_level: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:
    """Find the regions of a shard."""
    _use_threads(1)
    from lightcluster.regions.maps import find_regions as step

    step(
        store, pixel_masks, dataset_level, output,
        min_area=settings["regions.min_area"], split=settings["regions.split"],
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def embed_regions(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()],
    region_maps: Annotated[Path, typer.Option()],
    weights: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    threads: Threads = 1,
) -> None:
    """Embed the object regions of a shard."""
    _use_threads(threads)
    from lightcluster.regions.embedding import embed_regions as step

    step(
        manifest, region_maps, weights, output,
        **_backbone(settings), **_section(settings, "regions"),
        precision=settings["features.precision"], max_pixels=settings["dataset.max_pixels"],
        device=_device(device), batch_size=batch_size, threads=threads,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def label_regions(
    settings: Settings, shards: Shards,
    seed: Annotated[int, typer.Option(min=0)],
    regions: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    palette: Annotated[Path, typer.Option()], classes: OptionalPath = None, threads: Threads = 1,
) -> None:  # fmt: skip
    """Cluster the regions of all shards into classes."""
    _use_threads(threads)
    from lightcluster.regions.labelling import label_regions as step

    step(
        [regions / f"{shard:04d}.npz" for shard in range(shards)], classes, output, palette,
        classes=settings["labelling.classes"], background=settings["dataset.background"],
        features=settings["labelling.features"], method=settings["labelling.method"],
        pca=settings["labelling.pca"], restarts=settings["labelling.restarts"],
        iterations=settings["labelling.iterations"],
        sample_regions=settings["labelling.sample_regions"], seed=seed,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def paint_segmentation(
    manifest: Annotated[Path, typer.Option()],
    region_maps: Annotated[Path, typer.Option()],
    regions: Annotated[Path, typer.Option()],
    labelling: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:
    """Write the segmentations of a shard as indexed PNG."""
    _use_threads(1)
    from lightcluster.regions.painting import paint_segmentation as step

    step(manifest, region_maps, regions, labelling, output)


@app.command(rich_help_panel=STEP_PANEL)
def export_model(
    settings: Settings,
    weights: Annotated[Path, typer.Option()], clusters: Annotated[Path, typer.Option()],
    masks: Annotated[Path, typer.Option()], labelling: Annotated[Path, typer.Option()],
    palettes: Annotated[Path, typer.Option()], dataset: Annotated[str, typer.Option()],
    run: Annotated[str, typer.Option()], output: Annotated[Path, typer.Option()],
    choice: OptionalPath = None,
) -> None:  # fmt: skip
    """Write the folder with which `segment` segments new images."""
    from lightcluster.model.folder import export_model as step

    del settings["version"]
    split = settings.pop("dataset.split")
    features = settings["features"]
    facet, layer = _chosen(features["facet"], features["layer"], choice)
    arrays = {name: clusters / f"{name}.npz" for name in ("dataset", "superclasses", "category")}
    arrays |= {name: masks / f"{name}.npz" for name in ("foreground", "trees")}
    step(
        arrays, weights, labelling, palettes, output,
        sections=settings, dataset=dataset, run=run, split=split, facet=facet, layer=layer,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def count_masks(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()],
    classes: Annotated[Path, typer.Option()],
    patch_masks: Annotated[Path, typer.Option()],
    pixel_masks: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:
    """Count predicted against true foreground, stage by stage."""
    _use_threads(1)
    from lightcluster.evaluation.masks import count_masks as step

    step(
        manifest, classes, patch_masks, pixel_masks, output,
        background=settings["dataset.background"], ignore=settings["dataset.ignore"],
        upsampling=settings["upsampling"]["method"], threshold=settings["upsampling"]["threshold"],
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def count_confusion(
    settings: Settings,
    seed: Annotated[int, typer.Option(min=0)],
    manifest: Annotated[Path, typer.Option()],
    classes: Annotated[Path, typer.Option()],
    segmentation: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
    region_maps: OptionalPath = None,
) -> None:
    """Count predicted clusters against true classes."""
    _use_threads(1)
    from lightcluster.evaluation.counting import count_confusion as step

    step(
        manifest, classes, region_maps, segmentation, output,
        method=settings["method"], classes=settings["labelling.classes"],
        background=settings["dataset.background"],
        ignore=settings["dataset.ignore"],
        protocols=settings["evaluation"]["protocols"],
        stego_squash=settings["evaluation"]["stego_squash"], seed=seed,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def evaluate(
    settings: Settings, shards: Shards,
    counts: Annotated[Path, typer.Option()], classes: Annotated[Path, typer.Option()],
    dataset: Annotated[str, typer.Option()], run: Annotated[str, typer.Option()],
    fitted_on: Annotated[str, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Compute all scores of a run from its counts."""
    from lightcluster.evaluation.tables import Conditions
    from lightcluster.evaluation.tables import evaluate as step

    evaluation = settings["evaluation"]
    step(
        counts, shards, settings["labelling.seeds"], classes, output,
        masks=settings["method"] == "lightcluster", background=settings["dataset.background"],
        conditions=Conditions(
            dataset, run, evaluation["protocols"], evaluation["stego_squash"],
            _refinement(settings), fitted_on,
        ),
    )  # fmt: skip


def _refinement(settings: dict[str, Any]) -> str:
    """Return what refined the segmentation of a run."""
    refined = {
        "lightcluster": str(settings["refinement.method"]),
        "cause": "crf" if settings["cause.crf"] else "none",
    }
    return refined.get(settings["method"], "none")


@app.command(rich_help_panel=STEP_PANEL)
def score_images(
    settings: Settings, shards: Shards,
    counts: Annotated[Path, typer.Option()],
    dataset: Annotated[str, typer.Option()], run: Annotated[str, typer.Option()],
    fitted_on: Annotated[str, typer.Option()],
    output: Annotated[Path, typer.Option()], summary: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Score each image by itself (protocol `per_image`)."""
    from lightcluster.evaluation.per_image import score_images as step

    step(
        counts, shards, settings["labelling.seeds"], output, summary,
        refinement=_refinement(settings), dataset=dataset, run=run, fitted_on=fitted_on,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def analyse(
    settings: Settings, shards: Shards,
    manifests: Annotated[Path, typer.Option()], features: Annotated[Path, typer.Option()],
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    labelling: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    classes: OptionalPath = None,
) -> None:  # fmt: skip
    """Draw patches, superclasses and the regions of each class."""
    _use_threads(1)
    from lightcluster.reporting.analysis import analyse as step

    step(
        [f"{shard:04d}" for shard in range(shards)],
        {
            "manifest": manifests, "features": features, "sample": run / "sample",
            "patch": run / "masks" / "patch", "regions": run / "regions",
        },
        run / "clusters" / "superclasses.npz", labelling, classes, output,
        metric=settings["clustering.metric"], seed=settings["clustering.seed"],
        ignore=settings["dataset.ignore"], margin=settings["regions.margin"],
        max_pixels=settings["dataset.max_pixels"],
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def discover_parts(
    settings: Settings, shards: Shards,
    manifests: Annotated[Path, typer.Option()], patch_masks: Annotated[Path, typer.Option()],
    weights: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    choice: OptionalPath = None, device: Device = "auto", threads: Threads = 1,
) -> None:  # fmt: skip
    """Draw the parts of objects, by tokens and by keys."""
    _use_threads(threads)
    from lightcluster.reporting.parts import discover_parts as step

    names = [f"{shard:04d}" for shard in range(shards)]
    _, layer = _chosen("key", settings["features.layer"], choice)
    step(
        [manifests / f"{name}.csv" for name in names],
        [patch_masks / f"{name}.npz" for name in names], weights, output,
        parts=settings["report.parts"], seed=settings["report.seed"],
        **_backbone(settings), layer=layer,
        short_side=settings["features.short_side"], max_tokens=settings["features.max_tokens"],
        max_pixels=settings["dataset.max_pixels"], precision=settings["features.precision"],
        device=_device(device), threads=threads,
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def compare(
    settings: Settings, shards: Shards,
    folder: Annotated[Path, typer.Option()], run: Annotated[list[str], typer.Option()],
    table: Annotated[Path, typer.Option()], figure: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Compare all runs, and published figures."""
    _use_threads(1)
    from lightcluster.reporting.comparison import compare as step

    names = [f"{shard:04d}" for shard in range(shards)]
    step(folder, run, names, table, figure, **settings["comparison"])


@app.command(rich_help_panel=STEP_PANEL)
def write_dataset_page(
    settings: Settings,
    folder: Annotated[Path, typer.Option()],
    segmentation: Annotated[list[Path], typer.Option(help="Of each run, below its folder.")],
    output: Annotated[Path, typer.Option()],
    comparison: OptionalPath = None, classes: OptionalPath = None,
) -> None:  # fmt: skip
    """Write the page that holds all runs."""
    _use_threads(1)
    from lightcluster.reporting.dataset_page import write_dataset_page as step

    drawn = settings["report"]
    step(
        folder, {path.parts[-3]: path for path in segmentation}, folder / "manifest.csv", output,
        dataset=folder.name, comparison=comparison, classes_file=classes,
        ignore=settings["dataset.ignore"], max_pixels=settings["dataset.max_pixels"],
        samples=drawn["samples"], seed=drawn["seed"],
    )  # fmt: skip


@app.command(rich_help_panel=STEP_PANEL)
def report(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()],
    segmentation: Annotated[Path, typer.Option()],
    benchmarks: Annotated[Path, typer.Option()],
    features: Annotated[list[str], typer.Option(help="`Layout.shared_names`.")],
    output: Annotated[Path, typer.Option()],
    patch_masks: OptionalPath = None,
    pixel_masks: OptionalPath = None,
    analysis: OptionalPath = None,
    parts: OptionalPath = None,
    training: OptionalPath = None,
    tables: OptionalPath = None,
    per_image: OptionalPath = None,
    counts: OptionalPath = None,
    classes: OptionalPath = None,
) -> None:
    """Draw contact sheets and figures, and write the page that holds them."""
    from lightcluster.config import METHOD
    from lightcluster.reporting.provenance import read_costs
    from lightcluster.reporting.report import report as step

    drawn = settings["report"]
    cause = ("backbone", "labelling", "cause")
    shown = ("method", *(cause if settings["method"] == "cause" else METHOD))
    step(
        manifest, patch_masks, pixel_masks, segmentation, output,
        tables=tables, per_image=per_image, classes_file=classes, ignore=settings["dataset.ignore"],
        samples=drawn["samples"], seed=drawn["seed"], failures=drawn["failures"],
        max_pixels=settings["dataset.max_pixels"],
        config={key: settings[key] for key in shown},
        costs=read_costs(benchmarks, manifest.parent / "benchmarks", features),
        analysis=analysis, figures=[path for path in (parts, training) if path], counts=counts,
    )  # fmt: skip
