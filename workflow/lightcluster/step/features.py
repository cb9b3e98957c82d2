"""The steps of the features: weights, extraction, samples."""

from __future__ import annotations

from lightcluster.entry import Device, Threads
from lightcluster.extraction.settings import VERSION
from lightcluster.methods.features import FEATURES
from lightcluster.methods.registry import kinds_sharing
from lightcluster.step.arguments import (
    BatchSize,
    File,
    FilesOfShards,
    OptionalFile,
    Settings,
    Shard,
    Shards,
    chosen,
)
from lightcluster.step.declaration import Step
from lightcluster.threads import device_of, use_threads

OF_FEATURES = kinds_sharing(FEATURES.wildcard)


@Step(
    title="weights",
    unit="weights",
    reads=("backbone.model", "backbone.weights", "backbone.seed"),
    version=2,
    torch=True,
)
def fetch_weights(settings: Settings, output: File) -> None:
    """Download or read the weights of the backbone, verify and store them."""
    from lightcluster.extraction.settings import BackboneSettings
    from lightcluster.extraction.weights import fetch_weights as do

    backbone = BackboneSettings(
        model=settings.backbone.model,
        weights=settings.backbone.weights,
        seed=settings.backbone.seed,
    )
    do(
        backbone.model, backbone.source, backbone.file, backbone.seed, output, backbone.revision
    )  # fmt: skip


@Step(
    title="choice of features",
    unit="features",
    kinds=OF_FEATURES,
    reads=(
        "backbone.mean",
        "backbone.std",
        "backbone.positions",
        "features",
        "dataset.max_pixels",
    ),
    places=("method",),
    after=("gather_manifest", "fetch_weights"),
    torch=True,
)
def choose_features(
    settings: Settings, shards: Shards, manifests: FilesOfShards, weights: File, output: File,
    device: Device = "auto", threads: Threads = 1,
) -> None:  # fmt: skip
    """Choose the facet and layer for which the levels agree best."""
    use_threads(threads)
    from lightcluster.extraction.choice import choose_features as do

    backbone, features = settings.backbone, settings.features
    do(
        shards.paths(manifests, ".csv"), weights, output,
        mean=backbone.mean, std=backbone.std, positions=backbone.positions,
        rotation=features.rotation,
        facet=features.facet, layer=features.layer, auto_images=features.auto_images,
        short_side=features.short_side, max_tokens=features.max_tokens,
        precision=features.precision, max_pixels=settings.dataset.max_pixels,
        device=device_of(device), threads=threads,
    )  # fmt: skip


@Step(
    title="features of images",
    unit=FEATURES.unit,
    kinds=OF_FEATURES,
    reads=(
        "backbone.mean",
        "backbone.std",
        "backbone.positions",
        "features.facet",
        "features.layer",
        "features.rotation",
        "features.short_side",
        "features.max_tokens",
        "features.precision",
        "dataset.max_pixels",
    ),
    places=("method",),
    after=("index_dataset", "fetch_weights", "choose_features"),
    version=VERSION,
    torch=True,
)
def extract_features(
    settings: Settings, manifest: File, weights: File, output: File, choice: OptionalFile = None,
    device: Device = "auto", batch_size: BatchSize = 8, threads: Threads = 1,
) -> None:  # fmt: skip
    """Run the backbone on the images of a shard and store the features."""
    use_threads(threads)
    from lightcluster.extraction.shard import extract_features as do

    backbone, features = settings.backbone, settings.features
    facet, layer = chosen(features.facet, features.layer, choice)
    do(
        manifest, weights, output,
        mean=backbone.mean, std=backbone.std, positions=backbone.positions,
        rotation=features.rotation,
        facet=facet, layer=layer, short_side=features.short_side,
        max_tokens=features.max_tokens, max_pixels=settings.dataset.max_pixels,
        precision=features.precision,
        device=device_of(device), batch_size=batch_size, threads=threads,
    )  # fmt: skip


@Step(
    title="sample of features",
    unit="shard",
    kinds=OF_FEATURES,
    reads=("clustering.sample_tokens", "clustering.normalize", "clustering.seed"),
    places=("method",),
    after=("extract_features",),
)
def sample_features(
    settings: Settings, shard: Shard, shards: Shards, store: File, output: File,
) -> None:  # fmt: skip
    """Draw this shard's share of the patches that the upper levels are fitted on."""
    use_threads(1)
    from lightcluster.clustering.sample import sample_features as do

    do(
        store, output, shard=shard, shards=len(shards),
        tokens=settings.clustering.sample_tokens,
        normalization=settings.clustering.normalize, seed=settings.clustering.seed,
    )  # fmt: skip
