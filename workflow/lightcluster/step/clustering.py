"""The steps of the levels."""

from __future__ import annotations

from lightcluster.entry import Threads
from lightcluster.methods.lightcluster.method import FITTED, OURS
from lightcluster.step.arguments import (
    File,
    FilesOfShards,
    Settings,
    Shards,
)
from lightcluster.step.declaration import Step
from lightcluster.threads import use_threads


@Step(
    title="clusters of dataset",
    kinds=FITTED,
    reads=(
        "clustering.metric",
        "clustering.k_dataset",
        "clustering.restarts",
        "clustering.iterations",
        "clustering.seed",
    ),
    places=("method",),
    after=("gather_manifest", "sample_features"),
    version=2,
)
def cluster_dataset(
    settings: Settings, shards: Shards, sample: FilesOfShards, output: File, threads: Threads = 1,
) -> None:  # fmt: skip
    """Fit the k-means centroids of the dataset level."""
    use_threads(threads)
    from lightcluster.clustering.dataset_level import cluster_dataset as do

    clustering = settings.clustering
    do(
        shards.paths(sample, ".npz"), output, k=clustering.k_dataset, metric=clustering.metric,
        restarts=clustering.restarts, iterations=clustering.iterations, seed=clustering.seed,
    )  # fmt: skip


@Step(
    title="groups of images",
    kinds=FITTED,
    reads=(
        "superclasses",
        "clustering.restarts",
        "clustering.iterations",
        "clustering.seed",
    ),
    places=("method",),
    after=("gather_manifest", "extract_features"),
)
def group_images(
    settings: Settings, shards: Shards, features: FilesOfShards, output: File, threads: Threads = 1,
) -> None:  # fmt: skip
    """Group the images into superclasses by their CLS tokens."""
    use_threads(threads)
    from lightcluster.clustering.superclasses import group_images as do

    clustering, superclasses = settings.clustering, settings.superclasses
    do(
        shards.paths(features, ".zarr"), output, count=superclasses.count,
        min_images=superclasses.min_images, sample_images=superclasses.sample_images,
        restarts=clustering.restarts, iterations=clustering.iterations, seed=clustering.seed,
    )  # fmt: skip


@Step(
    title="clusters of groups",
    kinds=FITTED,
    reads=(
        "clustering.metric",
        "clustering.k_category",
        "clustering.restarts",
        "clustering.iterations",
        "clustering.seed",
    ),
    after=("sample_features", "group_images"),
)
def cluster_category(
    settings: Settings, shards: Shards, sample: FilesOfShards, superclasses: File, output: File,
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Fit the k-means centroids of each superclass."""
    use_threads(threads)
    from lightcluster.clustering.category_level import cluster_category as do

    clustering = settings.clustering
    do(
        shards.paths(sample, ".npz"), superclasses, output,
        k=clustering.k_category, metric=clustering.metric, restarts=clustering.restarts,
        iterations=clustering.iterations, seed=clustering.seed,
    )  # fmt: skip


@Step(
    title="clusters of images",
    unit="shard",
    kinds=OURS,
    reads=(
        "clustering.normalize",
        "clustering.metric",
        "clustering.k_image",
        "clustering.restarts_image",
        "clustering.iterations",
        "clustering.seed",
        "foreground",
    ),
    places=("method",),
    after=("extract_features",),
    version=2,
)
def cluster_image(settings: Settings, store: File, output: File) -> None:
    """Cluster the patches of each image of a shard, and decide which clusters are foreground."""
    use_threads(1)
    from lightcluster.clustering.image_level import cluster_image as do

    clustering = settings.clustering
    do(
        store, output, k=clustering.k_image, normalization=clustering.normalize,
        metric=clustering.metric, rules=settings.foreground.rules,
        restarts=clustering.restarts_image, iterations=clustering.iterations,
        seed=clustering.seed,
    )  # fmt: skip
