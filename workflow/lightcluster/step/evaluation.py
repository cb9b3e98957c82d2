"""The steps that count and score."""

from __future__ import annotations

from lightcluster.methods.registry import (
    CONDITIONS,
    COUNTED,
    WITH_MASKS,
    WITHOUT_MASKS,
    method_of,
)
from lightcluster.step.arguments import File, Files, FilesOfShards, Settings, Shards, Text
from lightcluster.step.declaration import Step
from lightcluster.threads import use_threads


@Step(
    title="masks against labels",
    unit="shard",
    kinds=WITH_MASKS,
    reads=("dataset.background", "dataset.ignore", "upsampling"),
    after=("index_dataset", "read_classes", "merge_levels", "score_patches", "refine_masks"),
    version=5,
)
def count_masks(
    settings: Settings, manifest: File, classes: File, merged: File, scores: File,
    pixel_masks: File, output: File,
) -> None:  # fmt: skip
    """Count the pixels of each class that the mask of each stage covers, and score boundaries."""
    use_threads(1)
    from lightcluster.evaluation.mask_counts import count_masks as do

    do(
        manifest, classes, merged, scores, pixel_masks, output,
        background=settings.dataset.background, ignore=settings.dataset.ignore,
        upsampling=settings.upsampling.method, threshold=settings.upsampling.threshold,
    )  # fmt: skip


@Step(
    title="regions against labels",
    unit="shard",
    kinds=WITH_MASKS,
    reads=("dataset.background", "dataset.ignore", "evaluation"),
    after=("index_dataset", "read_classes", "find_regions"),
)
def count_regions(
    settings: Settings, manifest: File, classes: File, region_maps: File, output: File,
) -> None:  # fmt: skip
    """Count the pixels of each region of a shard by ground-truth class."""
    use_threads(1)
    from lightcluster.evaluation.region_counts import count_regions as do

    do(
        manifest, classes, region_maps, output,
        background=settings.dataset.background, ignore=settings.dataset.ignore,
        protocols=settings.evaluation.protocols,
        stego_squash=settings.evaluation.stego_squash,
    )  # fmt: skip


@Step(
    title="classes against labels",
    unit="shard",
    kinds=WITH_MASKS,
    reads=("labelling.seeds",),
    after=("count_regions", "embed_regions", "label_regions", "adopt_labelling"),
    version=2,
)
def count_labels(
    settings: Settings, region_counts: File, regions: File, labelling: Files, output: File,
) -> None:  # fmt: skip
    """Count the predicted clusters of a shard against the ground-truth classes, by region."""
    use_threads(1)
    from lightcluster.evaluation.counting import count_labels as do

    labellings = dict(zip(settings.labelling.seeds, labelling, strict=True))
    do(region_counts, regions, labellings, output)


@Step(
    title="votes of neighbours",
    kinds=WITH_MASKS,
    reads=("labelling.seeds",),
    after=("count_regions", "embed_regions", "label_regions", "adopt_labelling"),
    version=2,
)
def vote_neighbors(
    settings: Settings, shards: Shards, region_counts: FilesOfShards, regions: FilesOfShards,
    labelling: File, output: File,
) -> None:  # fmt: skip
    """Label each region by a k-NN vote of regions of other images (uses the ground truth)."""
    use_threads(1)
    from lightcluster.evaluation.neighbors import vote_neighbors as do

    do(shards.paths(region_counts, ".npz"), shards.paths(regions, ".npz"), labelling, output)


@Step(
    title="pixels against labels",
    unit="shard",
    kinds=WITHOUT_MASKS,
    reads=(
        "dataset.background",
        "dataset.ignore",
        "labelling.classes",
        "labelling.seeds",
        "evaluation",
        "method",
    ),
    after=("index_dataset", "read_classes", *COUNTED),
    version=5,
)
def count_confusion(
    settings: Settings, manifest: File, classes: File, segmentation: Files, output: File,
) -> None:  # fmt: skip
    """Count predicted clusters against ground-truth classes, by pixel."""
    use_threads(1)
    from lightcluster.evaluation.counting import count_confusion as do

    clusters = method_of(settings).clusters
    assert clusters is not None  # of a method with masks, regions are counted
    do(
        manifest, classes, dict(zip(settings.labelling.seeds, segmentation, strict=True)), output,
        clusters=clusters, classes=settings.labelling.classes,
        background=settings.dataset.background, ignore=settings.dataset.ignore,
        protocols=settings.evaluation.protocols,
        stego_squash=settings.evaluation.stego_squash,
    )  # fmt: skip


@Step(
    title="scores",
    reads=(
        "dataset.background",
        "labelling.seeds",
        "evaluation",
        *CONDITIONS,
        "method",
    ),
    after=("read_classes", "count_masks", "count_labels", "count_confusion", "vote_neighbors"),
    version=8,
)
def evaluate(
    settings: Settings, shards: Shards, counts: File, classes: File, dataset: Text, run: Text,
    fitted_on: Text, tables: File,
) -> None:  # fmt: skip
    """Compute all scores of a run from its counts."""
    from lightcluster.evaluation.tables import Conditions
    from lightcluster.evaluation.tables import evaluate as do

    evaluation = settings.evaluation
    do(
        counts, shards, settings.labelling.seeds, classes, tables,
        masks=method_of(settings).masks, background=settings.dataset.background,
        conditions=Conditions(
            dataset, run, evaluation.protocols, evaluation.stego_squash,
            method_of(settings).refined_by(settings), fitted_on,
        ),
    )  # fmt: skip


@Step(
    title="scores of images",
    reads=(
        "labelling.seeds",
        *CONDITIONS,
        "method",
    ),
    places=("evaluation.protocols",),
    after=("count_labels", "count_confusion"),
    version=2,
)
def score_images(
    settings: Settings, shards: Shards, counts: File, dataset: Text, run: Text, fitted_on: Text,
    output: File, summary: File,
) -> None:  # fmt: skip
    """Score each image separately (protocol `per_image`)."""
    from lightcluster.evaluation.per_image import score_images as do

    do(
        counts, shards, settings.labelling.seeds, output, summary,
        refinement=method_of(settings).refined_by(settings),
        dataset=dataset, run=run, fitted_on=fitted_on,
    )  # fmt: skip
