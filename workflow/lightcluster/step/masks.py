"""The steps from the levels to refined masks."""

from __future__ import annotations

from lightcluster.entry import Threads
from lightcluster.methods.lightcluster.method import FITTED, OURS
from lightcluster.step.arguments import File, FilesOfShards, Settings, Shard, Shards
from lightcluster.step.declaration import Step
from lightcluster.threads import use_threads


@Step(
    title="foreground clusters",
    kinds=FITTED,
    reads=("clustering.metric",),
    after=("sample_features", "cluster_dataset", "cluster_category", "cluster_image"),
)
def decide_foreground(
    settings: Settings, shards: Shards, sample: FilesOfShards, image_level: FilesOfShards,
    dataset_level: File, superclasses: File, category_level: File, output: File,
) -> None:  # fmt: skip
    """Decide which clusters of the dataset and category levels are foreground."""
    use_threads(1)
    from lightcluster.masks.decision import decide_foreground as do

    do(
        shards.paths(sample, ".npz"), shards.paths(image_level, ".npz"), dataset_level,
        superclasses, category_level, output, metric=settings.clustering.metric,
    )  # fmt: skip


@Step(
    title="first masks",
    unit="shard",
    kinds=OURS,
    reads=("clustering.normalize", "clustering.metric", "consistency"),
    after=(
        "extract_features",
        "cluster_image",
        "decide_foreground",
        "adopt_fit",
        "adopt_superclasses",
    ),
    version=2,
)
def merge_levels(
    settings: Settings, shard: Shard, store: File, image_level: File, superclasses: File,
    dataset_level: File, category_level: File, decision: File, output: File,
) -> None:  # fmt: skip
    """Merge the masks of the three levels of a shard."""
    use_threads(1)
    from lightcluster.masks.consistency import merge_levels as do

    do(
        store, shard, image_level, superclasses, dataset_level, category_level, decision, output,
        normalization=settings.clustering.normalize, metric=settings.clustering.metric,
        rule=settings.consistency.rule,
    )  # fmt: skip


@Step(
    title="foreground of dataset",
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
    version=3,
)
def fit_trees(
    settings: Settings, shards: Shards, features: FilesOfShards, merged: FilesOfShards,
    sample: FilesOfShards, output: File, threads: Threads = 1,
) -> None:  # fmt: skip
    """Re-estimate the foreground of the whole dataset with trees of patch clusters."""
    use_threads(threads)
    from lightcluster.masks.reestimation import fit_trees as do

    chosen = settings.reestimation
    do(
        shards.paths(features, ".zarr"), shards.paths(merged, ".npz"),
        shards.paths(sample, ".npz"), output,
        rounds=chosen.rounds, start=chosen.start, trees=chosen.trees, clusters=chosen.clusters,
        prior=chosen.prior, radius=chosen.radius, epsilon=chosen.epsilon,
        sample_tokens=chosen.sample_tokens, seed=settings.clustering.seed,
    )  # fmt: skip


@Step(
    title="foreground scores",
    unit="shard",
    kinds=OURS,
    reads=("reestimation.start", "reestimation.radius", "reestimation.epsilon"),
    after=("extract_features", "merge_levels", "fit_trees", "adopt_fit"),
    version=6,
)
def score_patches(settings: Settings, store: File, merged: File, trees: File, output: File) -> None:
    """Compute the foreground score of each patch of a shard with the trees."""
    use_threads(1)
    from lightcluster.masks.reestimation import score_patches as do

    chosen = settings.reestimation
    do(
        store, merged, trees, output,
        start=chosen.start, radius=chosen.radius, epsilon=chosen.epsilon,
    )  # fmt: skip


@Step(
    title="refined masks",
    unit="shard",
    kinds=OURS,
    reads=("upsampling", "refinement", "dataset.max_pixels"),
    after=("index_dataset", "score_patches"),
    version=3,
)
def refine_masks(settings: Settings, manifest: File, scores: File, output: File) -> None:
    """Upsample the patch scores of a shard and refine the masks."""
    use_threads(1)
    from lightcluster.masks.pixels import refine_masks as do

    do(
        manifest, scores, output,
        upsampling=settings.upsampling.method, threshold=settings.upsampling.threshold,
        refinement=settings.refinement, max_pixels=settings.dataset.max_pixels,
    )  # fmt: skip


@Step(title="masks as PNG", unit="shard", kinds=OURS, after=("refine_masks",))
def paint_masks(manifest: File, pixel_masks: File, output: File) -> None:
    """Write the binary masks of a shard as PNGs."""
    from lightcluster.regions.painting import paint_masks as do

    do(manifest, pixel_masks, output)
