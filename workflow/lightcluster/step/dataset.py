"""The steps of the dataset: scenes, classes, labels, manifests."""

from __future__ import annotations

from lightcluster.datasets.settings import LISTED
from lightcluster.step.arguments import (
    File,
    FilesOfShards,
    OptionalFile,
    Settings,
    Shard,
    Shards,
)
from lightcluster.step.declaration import Step

_LISTED = tuple(f"dataset.{key}" for key in LISTED)


@Step(
    title="demo scenes",
    unit="dataset",
    reads=("dataset.demo",),
    places=("dataset.name", "dataset.format"),
    version=4,
)
def generate_demo(settings: Settings, output: File) -> None:
    """Generate the demo scenes and their label maps."""
    from lightcluster.datasets.scenes import write_scenes
    from lightcluster.files import replacing

    demo = settings.dataset.demo
    with replacing(output) as folder:
        write_scenes(folder, demo.scenes, demo.seed)


@Step(
    title="list of classes",
    unit="dataset",
    reads=("dataset.format", "dataset.classes", "dataset.background", "dataset.ignore"),
    places=("dataset.name",),
    after=("generate_demo",),
)
def read_classes(settings: Settings, output: File, source: OptionalFile = None) -> None:
    """Validate classes.csv and copy it, or write the class list of a standard dataset."""
    from lightcluster.datasets.labels import built_in_classes, write_classes
    from lightcluster.datasets.labels import read_classes as read

    dataset = settings.dataset
    classes = read(source) if source is not None else built_in_classes(dataset.format)
    write_classes(classes, output, dataset.background, dataset.ignore)


@Step(
    title="label maps",
    unit="dataset",
    reads=("dataset.root", "dataset.split", "dataset.image_list", "dataset.max_pixels"),
    places=("dataset.name", "dataset.format"),
    version=2,
)
def paint_labels(settings: Settings, output: File) -> None:
    """Render label maps from COCO instance annotations."""
    from lightcluster.datasets.painting import paint_labels as do
    from lightcluster.datasets.settings import DatasetSettings

    given = settings.dataset
    dataset = DatasetSettings(
        format="coco_things", root=given.root, split=given.split, image_list=given.image_list,
        max_pixels=given.max_pixels,
    )  # fmt: skip
    do(dataset, output)


@Step(
    title="reading images",
    unit="dataset shard",
    reads=(
        *_LISTED,
        "dataset.ignore",
        "dataset.on_bad_image",
        "dataset.max_pixels",
        "dataset.depth",
    ),
    places=("dataset.name", "dataset.shard_size"),
    after=("generate_demo", "read_classes", "paint_labels"),
    version=6,
)
def index_dataset(
    settings: Settings, shard: Shard, shards: Shards, generated: File, lists: File,
    manifest: File, rejected: File, census: File, classes: OptionalFile = None,
) -> None:  # fmt: skip
    """Decode every image and label map of a shard once, and write its manifest."""
    from lightcluster.datasets.manifest import index_dataset as do

    do(
        settings.dataset, generated, shard, len(shards), classes, manifest, rejected, census, lists
    )  # fmt: skip


@Step(title="list of images", unit="dataset", after=("index_dataset",), version=3)
def gather_manifest(manifests: FilesOfShards, shards: Shards, manifest: File, census: File) -> None:
    """Concatenate the manifests and statistics of all shards."""
    from lightcluster.datasets.manifest import gather_census
    from lightcluster.datasets.manifest import gather_manifest as do

    do(shards.paths(manifests, ".csv"), manifest)
    gather_census(shards.paths(manifests, ".census.csv"), census)


@Step(
    title="rejected images",
    unit="dataset",
    reads=_LISTED,
    after=("index_dataset",),
)
def gather_rejected(
    settings: Settings, rejections: FilesOfShards, shards: Shards, output: File, generated: File,
    lists: File,
) -> None:  # fmt: skip
    """Concatenate the tables of rejected images, and count files that are not images."""
    from lightcluster.datasets.manifest import list_rejected as do

    do(settings.dataset, generated, shards.paths(rejections, ".rejected.csv"), output, lists)
