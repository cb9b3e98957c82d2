"""The steps of the workflow: what each reads, and so what must run again when a key changes.

This table is the single source for the `params` of the Snakemake rules, for the column "reruns"
of `config/README.md` and for the tests of both. A step's version is raised whenever its
implementation changes what it writes; that alone makes the step and all that follows run again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from lightcluster.config import METHOD, Config, lookup

Kind = Literal["lightcluster", "applied", "kmeans", "cause", "cause-applied"]
"""What a run does: its `method`; ``applied`` and ``cause-applied`` fit nothing (`fit.model`)."""

KINDS: tuple[Kind, ...] = get_args(Kind)

Unit = Literal["dataset", "dataset shard", "weights", "features", "features shard", "crops shard",
               "views shard", "clusterbook and seed", "head and seed", "run", "shard", "seed",
               "shard and seed", "all runs"]  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One rule of the workflow.

    Attributes
    ----------
    reads : tuple of str
        Configuration keys, or whole sections, on which the step's result depends.
    places : tuple of str
        Configuration keys on which only the names, or the number, of its files depend: another
        value makes files beside those that there are, which stay as they are.
    after : tuple of str
        Steps whose files it reads.
    unit : str
        What there is one job for: see `Unit`.
    kinds : tuple of str
        Runs that have it: see `Kind`.
    version : int
        Version of the implementation.
    torch : bool
        Whether its command imports torch; see `forkserver`.
    """

    reads: tuple[str, ...]
    after: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    unit: Unit = "run"
    kinds: tuple[Kind, ...] = KINDS
    version: int = 1
    torch: bool = False


OURS: tuple[Kind, ...] = ("lightcluster", "applied")
FITTED: tuple[Kind, ...] = ("lightcluster",)
APPLIED: tuple[Kind, ...] = ("applied",)
CAUSE: tuple[Kind, ...] = ("cause", "cause-applied")
TRAINED: tuple[Kind, ...] = ("cause",)
WITHOUT_TRAINING: tuple[Kind, ...] = (*OURS, "kmeans")

LISTED = (
    "dataset.format",
    "dataset.root",
    "dataset.split",
    "dataset.image_list",
    "dataset.images",
    "dataset.labels",
)
"""Keys that say which files a dataset has."""

STEPS: dict[str, Step] = {
    "generate_demo": Step(
        unit="dataset",
        reads=("dataset.demo",),
        places=("dataset.name", "dataset.format"),
        version=4,
    ),
    "read_classes": Step(
        unit="dataset",
        reads=("dataset.format", "dataset.classes", "dataset.background", "dataset.ignore"),
        places=("dataset.name",),
        after=("generate_demo",),
    ),
    "paint_labels": Step(
        unit="dataset",
        reads=("dataset.root", "dataset.split", "dataset.image_list", "dataset.max_pixels"),
        places=("dataset.name", "dataset.format"),
        version=2,
    ),
    "index_dataset": Step(
        unit="dataset shard",
        reads=(
            *LISTED,
            "dataset.label_pattern",
            "dataset.ignore",
            "dataset.on_bad_image",
            "dataset.max_pixels",
            "dataset.depth",
            "dataset.demo",
        ),
        places=("dataset.name", "dataset.shard_size"),
        after=("generate_demo", "read_classes", "paint_labels"),
        version=4,
    ),
    "gather_manifest": Step(unit="dataset", reads=(), after=("index_dataset",), version=2),
    "gather_rejected": Step(
        unit="dataset",
        reads=(
            *LISTED,
            "dataset.demo",
        ),
        after=("index_dataset",),
    ),
    "fetch_weights": Step(
        torch=True,
        unit="weights",
        reads=("backbone.model", "backbone.weights", "backbone.seed"),
        version=2,
    ),
    "choose_features": Step(
        torch=True,
        unit="features",
        kinds=WITHOUT_TRAINING,
        places=("method",),
        reads=(
            "backbone.mean",
            "backbone.std",
            "backbone.positions",
            "features",
            "dataset.max_pixels",
        ),
        after=("gather_manifest", "fetch_weights"),
    ),
    "extract_features": Step(
        torch=True,
        unit="features shard",
        kinds=WITHOUT_TRAINING,
        places=("method",),
        reads=(
            "backbone.mean",
            "backbone.std",
            "backbone.positions",
            "features.facet",
            "features.layer",
            "features.short_side",
            "features.max_tokens",
            "features.precision",
            "dataset.max_pixels",
        ),
        after=("index_dataset", "fetch_weights", "choose_features"),
        version=3,
    ),
    "sample_features": Step(
        unit="shard",
        kinds=WITHOUT_TRAINING,
        places=("method",),
        reads=("clustering.sample_tokens", "clustering.normalize", "clustering.seed"),
        after=("extract_features",),
    ),
    "adopt_fit": Step(
        kinds=APPLIED,
        reads=("fit",),
        places=("dataset.name",),
        after=("fetch_weights",),
    ),
    "adopt_superclasses": Step(
        kinds=APPLIED,
        reads=("fit",),
        after=("gather_manifest", "extract_features"),
    ),
    "adopt_labelling": Step(
        unit="seed",
        kinds=APPLIED,
        reads=("fit",),
        places=("dataset.name", "labelling.seeds"),
    ),
    "fit_clusters": Step(
        unit="seed",
        kinds=("kmeans",),
        reads=(
            "clustering.metric",
            "clustering.restarts",
            "clustering.iterations",
            "labelling.classes",
            "dataset.background",
        ),
        places=("method", "labelling.seeds"),
        after=("gather_manifest", "read_classes", "sample_features"),
    ),
    "paint_clusters": Step(
        unit="shard and seed",
        kinds=("kmeans",),
        reads=("clustering.normalize", "clustering.metric", "upsampling.method"),
        after=("index_dataset", "extract_features", "fit_clusters"),
    ),
    "cache_crops": Step(
        torch=True,
        unit="crops shard",
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
    ),
    "cache_views": Step(
        torch=True,
        unit="views shard",
        kinds=CAUSE,
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
    ),
    "fit_clusterbook": Step(
        torch=True,
        unit="clusterbook and seed",
        kinds=TRAINED,
        reads=(
            "cause.codes",
            "cause.batch_size",
            "cause.learning_rate",
            "cause.least_steps",
        ),
        places=("method", "labelling.seeds"),
        after=("gather_manifest", "cache_crops"),
    ),
    "train_head": Step(
        torch=True,
        unit="head and seed",
        kinds=TRAINED,
        reads=(
            "cause.head",
            "cause.bank",
            "cause.batch_size",
            "cause.learning_rate",
            "cause.weight_decay",
            "cause.clip",
            "cause.least_steps",
            "cause.teacher_start",
            "cause.framing",
            "cause.fractions",
            "cause.mirrored",
            "dataset.ignore",
        ),
        places=("method", "labelling.seeds", "cause.linear_probe"),
        after=("cache_crops", "fit_clusterbook"),
        version=2,
    ),
    "fit_probe": Step(
        torch=True,
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
        version=2,
    ),
    "adopt_probe": Step(
        torch=True,
        unit="seed",
        kinds=("cause-applied",),
        reads=("fit", "backbone.mean", "backbone.std"),
        places=("dataset.name", "labelling.seeds"),
        after=("fetch_weights",),
    ),
    "paint_probe": Step(
        torch=True,
        unit="shard and seed",
        kinds=CAUSE,
        reads=(
            "cause.framing",
            "cause.resampling",
            "cause.crf",
            "cause.crf_image",
            "dataset.max_pixels",
        ),
        after=("index_dataset", "cache_views", "fit_probe", "adopt_probe"),
    ),
    "plot_training": Step(
        torch=True,
        kinds=TRAINED,
        reads=("labelling.seeds",),
        after=("fit_clusterbook", "train_head", "fit_probe"),
    ),
    "cluster_dataset": Step(
        kinds=FITTED,
        places=("method",),
        reads=(
            "clustering.metric",
            "clustering.k_dataset",
            "clustering.restarts",
            "clustering.iterations",
            "clustering.seed",
        ),
        after=("gather_manifest", "sample_features"),
        version=2,
    ),
    "group_images": Step(
        kinds=FITTED,
        places=("method",),
        reads=(
            "superclasses",
            "clustering.restarts",
            "clustering.iterations",
            "clustering.seed",
        ),
        after=("gather_manifest", "extract_features"),
    ),
    "cluster_category": Step(
        kinds=FITTED,
        reads=(
            "clustering.metric",
            "clustering.k_category",
            "clustering.restarts",
            "clustering.iterations",
            "clustering.seed",
        ),
        after=("sample_features", "group_images"),
    ),
    "cluster_image": Step(
        kinds=OURS,
        places=("method",),
        unit="shard",
        reads=(
            "clustering.normalize",
            "clustering.metric",
            "clustering.k_image",
            "clustering.restarts_image",
            "clustering.iterations",
            "clustering.seed",
            "foreground",
        ),
        after=("extract_features",),
    ),
    "decide_foreground": Step(
        kinds=FITTED,
        reads=("clustering.metric",),
        after=("sample_features", "cluster_dataset", "cluster_category", "cluster_image"),
    ),
    "merge_levels": Step(
        kinds=OURS,
        unit="shard",
        reads=("clustering.normalize", "clustering.metric", "consistency"),
        after=(
            "extract_features",
            "cluster_image",
            "decide_foreground",
            "adopt_fit",
            "adopt_superclasses",
        ),
    ),
    "fit_trees": Step(
        kinds=FITTED,
        reads=(
            "reestimation.rounds",
            "reestimation.start",
            "reestimation.trees",
            "reestimation.clusters",
            "reestimation.prior",
            "reestimation.radius",
            "reestimation.epsilon",
            "reestimation.sample_tokens",
            "clustering.seed",
        ),
        after=("extract_features", "sample_features", "merge_levels"),
    ),
    "score_patches": Step(
        kinds=OURS,
        unit="shard",
        reads=("reestimation.start", "reestimation.radius", "reestimation.epsilon"),
        after=("extract_features", "merge_levels", "fit_trees", "adopt_fit"),
        version=4,
    ),
    "refine_masks": Step(
        kinds=OURS,
        unit="shard",
        reads=("upsampling", "refinement", "dataset.max_pixels"),
        after=("index_dataset", "score_patches"),
        version=2,
    ),
    "paint_masks": Step(kinds=OURS, unit="shard", reads=(), after=("refine_masks",)),
    "find_regions": Step(
        kinds=OURS,
        unit="shard",
        reads=("regions.min_area", "regions.split"),
        after=("extract_features", "refine_masks", "cluster_dataset", "adopt_fit"),
    ),
    "embed_regions": Step(
        torch=True,
        kinds=OURS,
        unit="shard",
        reads=(
            "regions.margin",
            "regions.crop_size",
            "regions.masked",
            "backbone.mean",
            "backbone.std",
            "backbone.positions",
            "features.precision",
            "dataset.max_pixels",
        ),
        after=("index_dataset", "find_regions", "fetch_weights"),
        version=3,
    ),
    "label_regions": Step(
        kinds=FITTED,
        unit="seed",
        reads=(
            "labelling.classes",
            "labelling.features",
            "labelling.method",
            "labelling.pca",
            "labelling.restarts",
            "labelling.iterations",
            "labelling.sample_regions",
            "dataset.background",
        ),
        places=("labelling.seeds",),
        after=("read_classes", "embed_regions"),
        version=2,
    ),
    "paint_segmentation": Step(
        kinds=OURS,
        unit="shard and seed",
        reads=(),
        after=("find_regions", "embed_regions", "label_regions", "adopt_labelling"),
        version=2,
    ),
    "export_model": Step(
        kinds=FITTED,
        reads=(*METHOD, "dataset.max_pixels", "dataset.depth", "dataset.split"),
        after=(
            "fetch_weights",
            "choose_features",
            "group_images",
            "cluster_dataset",
            "cluster_category",
            "decide_foreground",
            "fit_trees",
            "label_regions",
        ),
    ),
    "count_masks": Step(
        kinds=OURS,
        unit="shard",
        reads=("dataset.background", "dataset.ignore", "upsampling"),
        after=("index_dataset", "read_classes", "score_patches", "refine_masks"),
        version=5,
    ),
    "count_confusion": Step(
        unit="shard and seed",
        reads=(
            "dataset.background",
            "dataset.ignore",
            "labelling.classes",
            "evaluation",
            "method",
        ),
        after=(
            "index_dataset",
            "read_classes",
            "find_regions",
            "paint_segmentation",
            "paint_clusters",
            "paint_probe",
        ),
        version=3,
    ),
    "evaluate": Step(
        reads=(
            "dataset.background",
            "labelling.seeds",
            "evaluation",
            "refinement.method",
            "cause.crf",
            "cause.linear_probe",
            "method",
        ),
        after=("read_classes", "count_masks", "count_confusion"),
        version=6,
    ),
    "score_images": Step(
        reads=(
            "labelling.seeds",
            "refinement.method",
            "cause.crf",
            "cause.linear_probe",
            "method",
        ),
        places=("evaluation.protocols",),
        after=("count_confusion",),
    ),
    "analyse": Step(
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
    ),
    "discover_parts": Step(
        torch=True,
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
    ),
    "compare": Step(
        unit="all runs",
        reads=("comparison",),
        after=("count_masks", "count_confusion", "evaluate"),
        version=5,
    ),
    "report": Step(
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
    ),
    "write_dataset_page": Step(
        unit="all runs",
        reads=("report", "dataset.ignore", "dataset.max_pixels"),
        after=("gather_manifest", "compare", "report"),
    ),
}


def settings_of(step: str, config: Config) -> dict[str, Any]:
    """Return what `step` reads of the configuration, by dotted key, with its version."""
    settings = {key: lookup(config, key) for key in STEPS[step].reads}
    return {**settings, "version": STEPS[step].version}


def rerun_by(key: str) -> list[str]:
    """Return the steps that run when a configuration key changes, in workflow order."""
    readers = {
        name
        for name, step in STEPS.items()
        if any(_covers(read, key) for read in step.reads + step.places)
    }
    rerun: set[str] = set()
    for name, step in STEPS.items():  # the table is in topological order
        if name in readers or rerun & set(step.after):
            rerun.add(name)
    return [name for name in STEPS if name in rerun]


def _covers(read: str, key: str) -> bool:
    return key == read or key.startswith(f"{read}.")
