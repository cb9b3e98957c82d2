"""The steps from the levels to refined masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightcluster.entry import Threads
from lightcluster.step.arguments import Settings, Shard, Shards, app, section
from lightcluster.threads import use_threads


@app.command()
def decide_foreground(
    settings: Settings, shards: Shards,
    sample: Annotated[Path, typer.Option()], image_level: Annotated[Path, typer.Option()],
    dataset_level: Annotated[Path, typer.Option()], superclasses: Annotated[Path, typer.Option()],
    category_level: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Decide which clusters of the dataset and category levels are foreground."""
    use_threads(1)
    from lightcluster.masks.decision import decide_foreground as step

    step(
        sample, image_level, shards, dataset_level, superclasses, category_level, output,
        metric=settings["clustering.metric"],
    )  # fmt: skip


@app.command()
def merge_levels(
    settings: Settings, shard: Shard,
    store: Annotated[Path, typer.Option()], image_level: Annotated[Path, typer.Option()],
    superclasses: Annotated[Path, typer.Option()], dataset_level: Annotated[Path, typer.Option()],
    category_level: Annotated[Path, typer.Option()], decision: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Merge the masks of the three levels of a shard."""
    use_threads(1)
    from lightcluster.masks.consistency import merge_levels as step

    step(
        store, shard, image_level, superclasses, dataset_level, category_level, decision, output,
        normalization=settings["clustering.normalize"], metric=settings["clustering.metric"],
        rule=settings["consistency"]["rule"],
    )  # fmt: skip


@app.command()
def fit_trees(
    settings: Settings, shards: Shards,
    features: Annotated[Path, typer.Option()], merged: Annotated[Path, typer.Option()],
    sample: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Re-estimate the foreground of the whole dataset by trees of clusters of patches."""
    use_threads(threads)
    from lightcluster.masks.reestimation import fit_trees as step

    names = [f"{shard:04d}" for shard in range(shards)]
    step(
        [features / f"{name}.zarr" for name in names],
        [merged / f"{name}.npz" for name in names],
        sample, output, **section(settings, "reestimation"), seed=settings["clustering.seed"],
    )  # fmt: skip


@app.command()
def score_patches(
    settings: Settings,
    store: Annotated[Path, typer.Option()], merged: Annotated[Path, typer.Option()],
    trees: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Score the patches of a shard by the trees."""
    use_threads(1)
    from lightcluster.masks.reestimation import score_patches as step

    step(store, merged, trees, output, **section(settings, "reestimation"))


@app.command()
def refine_masks(
    settings: Settings,
    manifest: Annotated[Path, typer.Option()],
    patch_masks: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:
    """Upsample and refine the masks of a shard."""
    use_threads(1)
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


@app.command()
def paint_masks(
    manifest: Annotated[Path, typer.Option()],
    pixel_masks: Annotated[Path, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:
    """Write the binary masks of a shard as PNG."""
    from lightcluster.regions.painting import paint_masks as step

    step(manifest, pixel_masks, output)
