"""The steps of the regions and their classes."""

from __future__ import annotations

from lightcluster.entry import Device, Threads
from lightcluster.methods.lightcluster.method import FITTED, OURS
from lightcluster.step.arguments import (
    BatchSize,
    File,
    FilesOfShards,
    OptionalFile,
    Seed,
    Settings,
    Shards,
)
from lightcluster.step.declaration import Step
from lightcluster.threads import device_of, use_threads


@Step(
    title="regions",
    unit="shard",
    kinds=OURS,
    reads=("regions.min_area", "regions.split"),
    after=("extract_features", "refine_masks", "cluster_dataset", "adopt_fit"),
)
def find_regions(
    settings: Settings, store: File, pixel_masks: File, dataset_level: File, output: File,
) -> None:  # fmt: skip
    """Find the regions in the masks of a shard."""
    use_threads(1)
    from lightcluster.regions.maps import find_regions as do

    do(
        store, pixel_masks, dataset_level, output,
        min_area=settings.regions.min_area, split=settings.regions.split,
    )  # fmt: skip


@Step(
    title="features of regions",
    unit="shard",
    kinds=OURS,
    reads=(
        "regions.margin",
        "regions.crop_size",
        "regions.masked",
        "backbone.mean",
        "backbone.std",
        "backbone.positions",
        "features.rotation",
        "features.precision",
        "dataset.max_pixels",
    ),
    after=("index_dataset", "find_regions", "fetch_weights"),
    version=3,
    torch=True,
)
def embed_regions(
    settings: Settings, manifest: File, region_maps: File, weights: File, output: File,
    device: Device = "auto", batch_size: BatchSize = 8, threads: Threads = 1,
) -> None:  # fmt: skip
    """Crop the regions of a shard and embed them with the backbone."""
    use_threads(threads)
    from lightcluster.regions.embedding import embed_regions as do

    backbone, regions = settings.backbone, settings.regions
    do(
        manifest, region_maps, weights, output,
        mean=backbone.mean, std=backbone.std, positions=backbone.positions,
        rotation=settings.features.rotation,
        margin=regions.margin, crop_size=regions.crop_size, masked=regions.masked,
        precision=settings.features.precision, max_pixels=settings.dataset.max_pixels,
        device=device_of(device), batch_size=batch_size, threads=threads,
    )  # fmt: skip


@Step(
    title="classes of regions",
    unit="seed",
    kinds=FITTED,
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
    version=3,
)
def label_regions(
    settings: Settings, shards: Shards, seed: Seed, regions: FilesOfShards, output: File,
    palette: File, classes: OptionalFile = None, threads: Threads = 1,
) -> None:  # fmt: skip
    """Cluster the regions of all shards into classes."""
    use_threads(threads)
    from lightcluster.regions.labelling import label_regions as do

    chosen = settings.labelling
    do(
        shards.paths(regions, ".npz"), classes, output, palette,
        classes=chosen.classes, background=settings.dataset.background,
        features=chosen.features, method=chosen.method, pca=chosen.pca,
        restarts=chosen.restarts, iterations=chosen.iterations,
        sample_regions=chosen.sample_regions, seed=seed,
    )  # fmt: skip


@Step(
    title="segmentations",
    unit="shard and seed",
    kinds=OURS,
    places=("report.segmentations",),
    after=("find_regions", "embed_regions", "label_regions", "adopt_labelling"),
    version=4,
)
def paint_segmentation(
    manifest: File, region_maps: File, regions: File, labelling: File, output: File, table: File,
) -> None:  # fmt: skip
    """Write the segmentations of a shard as indexed PNGs, and a table of its regions."""
    use_threads(1)
    from lightcluster.regions.painting import paint_segmentation as do

    do(manifest, region_maps, regions, labelling, output, table)
