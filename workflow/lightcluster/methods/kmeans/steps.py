"""The steps of the k-means baseline."""

from __future__ import annotations

from lightcluster.entry import Threads
from lightcluster.methods.kmeans.method import KMEANS
from lightcluster.step.arguments import (
    File,
    FilesOfShards,
    OptionalFile,
    Seed,
    Settings,
    Shards,
)
from lightcluster.step.declaration import Step
from lightcluster.threads import use_threads


@Step(
    title="clusters of patches",
    unit="seed",
    kinds=KMEANS.kinds,
    reads=(
        "clustering.metric",
        "clustering.restarts",
        "clustering.iterations",
        "labelling.classes",
        "dataset.background",
    ),
    places=("method", "labelling.seeds"),
    after=("gather_manifest", "read_classes", "sample_features"),
    version=2,
)
def fit_clusters(
    settings: Settings, shards: Shards, seed: Seed, sample: FilesOfShards, output: File,
    palette: File, classes: OptionalFile = None, threads: Threads = 1,
) -> None:  # fmt: skip
    """Cluster patches into classes (baseline)."""
    use_threads(threads)
    from lightcluster.methods.kmeans.patch_clusters import fit_clusters as do

    clustering = settings.clustering
    do(
        shards.paths(sample, ".npz"), classes, output, palette,
        metric=clustering.metric, classes=settings.labelling.classes,
        background=settings.dataset.background, restarts=clustering.restarts,
        iterations=clustering.iterations, seed=seed,
    )  # fmt: skip


@Step(
    title="segmentations",
    unit="shard and seed",
    kinds=KMEANS.kinds,
    reads=("clustering.normalize", "clustering.metric", "upsampling.method"),
    after=("index_dataset", "extract_features", "fit_clusters"),
    version=2,
)
def paint_clusters(
    settings: Settings, manifest: File, store: File, clusters: File, output: File,
) -> None:  # fmt: skip
    """Write the segmentations of a shard given by the patch clusters."""
    use_threads(1)
    from lightcluster.methods.kmeans.patch_clusters import paint_clusters as do

    do(
        manifest, store, clusters, output,
        normalization=settings.clustering.normalize, metric=settings.clustering.metric,
        upsampling=settings.upsampling.method,
    )  # fmt: skip
