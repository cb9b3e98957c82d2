"""Inputs of the benchmarks: images with their manifest, a backbone, and the steps of the levels.

By default, scenes of the size of photographs (640 × 480 pixels, some rotated, some square) are
generated and the backbone has random weights, so that anyone can run every benchmark. Real
photographs and trained weights are better: k-means converges sooner on structured features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from lightcluster.clustering.category_level import cluster_category
from lightcluster.clustering.dataset_level import cluster_dataset
from lightcluster.clustering.image_level import cluster_image
from lightcluster.clustering.sample import sample_features
from lightcluster.clustering.superclasses import group_images
from lightcluster.config import Config
from lightcluster.datasets.labels import background_index, read_classes, read_label, to_indices
from lightcluster.datasets.manifest import Row, index_dataset, read_manifest, write_rows
from lightcluster.datasets.scenes import SceneStyle, write_scenes
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.evaluation.confusion import Confusion, count_confusion
from lightcluster.evaluation.scores import foreground_scores
from lightcluster.extraction.backbones.protocol import Backbone
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.precision import resolve_precision
from lightcluster.extraction.settings import BackboneSettings
from lightcluster.extraction.shard import extract_shard
from lightcluster.extraction.weights import fetch_weights
from lightcluster.masks.consistency import merge_levels
from lightcluster.masks.decision import decide_foreground
from lightcluster.masks.patches import LevelMasks, read_level_masks
from lightcluster.masks.reestimation import fit_trees, score_patches
from lightcluster.masks.upsampling import upsample
from lightcluster.shards import Shards

DEFAULT_MODEL = "vit_tiny_patch16_224"

SETTINGS = Config(backbone=BackboneSettings(model=DEFAULT_MODEL, weights="random"))
"""The defaults of the project, at the sizes for photographs: what is timed is what a user gets."""

ImagesOption = Annotated[Path | None, typer.Option("--images", help="Folder; default: scenes.")]
LabelsOption = Annotated[Path | None, typer.Option("--labels", help="Folder of label PNGs.")]
ClassesOption = Annotated[Path | None, typer.Option("--classes", help="Their classes.csv.")]
ModelOption = Annotated[str, typer.Option("--model", help="A Vision Transformer of timm.")]
WeightsOption = Annotated[Path | None, typer.Option("--weights", help="File; default: random.")]
CountOption = Annotated[int, typer.Option("--count", min=1, help="Images at most.")]
TurnsOption = Annotated[int, typer.Option("--turns", min=1, help="Repetitions of each contestant.")]


@dataclass(frozen=True)
class Input:
    """Images and a backbone.

    Attributes
    ----------
    rows : list of Row
    manifest : Path
        Of `rows`.
    weights : Path
        Verified, as `fetch_weights` leaves them.
    classes : Path or None
        None if there are no labels.
    subject : str
        In words, for the table of results.
    """

    rows: list[Row]
    manifest: Path
    weights: Path
    classes: Path | None
    subject: str

    def backbone(self, device: str = "cpu") -> Backbone:
        """Load the backbone, on the CPU by default."""
        return open_backbone(self.weights, device, None, None)


def prepare_input(
    folder: Path,
    count: int,
    *,
    images: Path | None,
    model: str,
    weights: Path | None,
    labels: Path | None = None,
    classes: Path | None = None,
) -> Input:
    """Draw scenes or list photographs, index them, and fetch the weights of the backbone.

    Parameters
    ----------
    folder : Path
        For everything that is written.
    count : int
        Number of images at most.
    images, labels, classes, weights : Path or None
        None: scenes with their labels; random weights.
    model : str
    """
    kind = "photographs"
    if images is None:
        kind, scenes = "generated scenes", folder / "scenes"
        write_scenes(scenes, count, seed=0, style=SceneStyle(height=480, width=640))
        images, labels, classes = scenes / "images", scenes / "labels", scenes / "classes.csv"
    dataset = DatasetSettings(format="folder", images=images, labels=labels, classes=classes)
    manifest = folder / "manifest.csv"
    index_dataset(dataset, folder, 0, 1, classes, manifest, folder / "rejected.csv")
    rows = read_manifest(manifest)[:count]
    write_rows(manifest, rows, Row)
    verified = folder / "weights.safetensors"
    fetch_weights(model, "file" if weights else "random", weights, 0, verified)
    trained = "given" if weights else "random"
    subject = f"{len(rows)} {kind}, {model} with {trained} weights"
    return Input(rows, manifest, verified, classes if labels else None, subject)


def extract(
    source: Input, backbone: Backbone, output: Path, precision: torch.dtype, batch_size: int = 8
) -> None:
    """Extract the features of all images into a store, as the step does."""
    features = SETTINGS.features
    extract_shard(
        [row.image for row in source.rows],
        backbone, output, facets=(features.facet,), layer=features.layer,
        short_side=features.short_side, max_tokens=features.max_tokens,
        max_pixels=SETTINGS.dataset.max_pixels, precision=precision, batch_size=batch_size,
        threads=torch.get_num_threads(), attributes={},
    )  # fmt: skip


def extract_automatically(source: Input, output: Path) -> None:
    """Extract the features in the precision that the project chooses by default."""
    extract(source, source.backbone(), output, resolve_precision("auto", "cpu"))


def level_steps(folder: Path, shards: int) -> dict[str, Callable[[], None]]:
    """Return the steps from features to the merged patch mask, in order, with the defaults.

    Each runs over all `shards` of the stores ``folder/features/<shard>.zarr``.
    """
    settings, names = SETTINGS.clustering, Shards(shards)
    stores = names.paths(folder / "features", ".zarr")
    sample = names.paths(folder / "sample", ".npz")
    image_level = names.paths(folder / "image", ".npz")
    dataset_level, category_level = folder / "dataset.npz", folder / "category.npz"
    superclasses, decision = folder / "superclasses.npz", folder / "foreground.npz"
    lloyd = {
        "restarts": settings.restarts, "iterations": settings.iterations, "seed": settings.seed,
    }  # fmt: skip
    space = {"normalization": settings.normalize, "metric": settings.metric}

    def sample_all() -> None:
        for shard, store in enumerate(stores):
            sample_features(
                store, sample[shard], shard=shard, shards=shards,
                tokens=settings.sample_tokens, normalization=settings.normalize,
                seed=settings.seed,
            )  # fmt: skip

    def cluster_images() -> None:
        for shard, store in enumerate(stores):
            cluster_image(
                store, image_level[shard], k=settings.k_image,
                rules=SETTINGS.foreground.rules, **space,
                **{**lloyd, "restarts": settings.restarts_image},
            )  # fmt: skip

    def merge_all() -> None:
        for shard, name in enumerate(names):
            merge_levels(
                stores[shard], shard, image_level[shard], superclasses, dataset_level,
                category_level, decision, folder / "patch" / f"{name}.npz",
                rule=SETTINGS.consistency.rule, **space,
            )  # fmt: skip

    return {
        "sample_features": sample_all,
        "cluster_dataset": lambda: cluster_dataset(
            sample, dataset_level, k=settings.k_dataset, metric=settings.metric, **lloyd
        ),
        "group_images": lambda: group_images(
            stores, superclasses, **SETTINGS.superclasses.model_dump(), **lloyd
        ),
        "cluster_category": lambda: cluster_category(
            sample, superclasses, category_level,
            k=settings.k_category, metric=settings.metric, **lloyd,
        ),
        "cluster_image": cluster_images,
        "decide_foreground": lambda: decide_foreground(
            sample, image_level, dataset_level, superclasses, category_level, decision,
            metric=settings.metric,
        ),
        "merge_levels": merge_all,
    }  # fmt: skip


def reestimation_steps(folder: Path, shards: int = 1) -> dict[str, Callable[[], None]]:
    """Return the steps that estimate the foreground anew, in order, with the defaults.

    They follow `level_steps` of one shard, which stands for all `shards` that the trees are
    fitted on, and write ``folder/trees.npz`` and, for one, ``folder/scored.npz``.
    """
    settings, store = SETTINGS.reestimation, folder / "features/0000.zarr"
    merged, trees = folder / "patch/0000.npz", folder / "trees.npz"
    sample = [folder / "sample/0000.npz"] * shards
    return {
        "fit_trees": lambda: fit_trees(
            [store] * shards, [merged] * shards, sample, trees, **settings.model_dump(),
            seed=SETTINGS.clustering.seed,
        ),
        "score_patches": lambda: score_patches(
            store, merged, trees, folder / "scored.npz", start=settings.start,
            radius=settings.radius, epsilon=settings.epsilon,
        ),
    }  # fmt: skip


def merged_masks(folder: Path) -> LevelMasks:
    """Run the levels on the one store ``folder/features/0000.zarr`` and return their masks."""
    for step in level_steps(folder, shards=1).values():
        step()
    return read_level_masks(folder / "patch" / "0000.npz")


def mask_miou(source: Input, masks: LevelMasks) -> float | None:
    """Return the pooled fg/bg mIoU of merged patch masks in per cent; None without labels."""
    if source.classes is None:
        return None
    classes = read_classes(source.classes)
    ground = background_index(classes, SETTINGS.dataset.background)
    rows = {row.image_id: row for row in source.rows}
    total = Confusion(np.zeros((2, 2), np.int64), 0)
    for number, image_id in enumerate(masks.image_id):
        row = rows[image_id]
        if row.label is None:
            continue
        size = (row.height, row.width)
        ids = read_label(row.label, size)
        truth = (to_indices(ids, classes, SETTINGS.dataset.ignore) != ground).astype(np.uint8)
        truth[ids == SETTINGS.dataset.ignore] = 255
        mask = upsample(masks.merged_of(number), size, "nearest") > 0.5
        total += count_confusion(mask.view(np.uint8), truth, 2, 2)
    return 100 * foreground_scores(total.counts).mean_iou
