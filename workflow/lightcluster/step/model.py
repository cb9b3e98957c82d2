"""The steps that write a model, or take one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightcluster.kinds import APPLIED, FITTED, METHOD
from lightcluster.step.arguments import OptionalPath, Settings, Shards, chosen
from lightcluster.step.declaration import Step
from lightcluster.threads import use_threads


@Step(kinds=APPLIED, reads=("fit",), places=("dataset.name",), after=("fetch_weights",))
def adopt_fit(
    settings: Settings,
    weights: Annotated[Path, typer.Option()],
    output: Annotated[list[Path], typer.Option()],
) -> None:
    """Take levels and foreground of a model."""
    from lightcluster.model.adoption import adopt_fit as do

    do(Path(settings["fit"]["model"]), weights, output)


@Step(kinds=APPLIED, reads=("fit",), after=("gather_manifest", "extract_features"))
def adopt_superclasses(
    settings: Settings, shards: Shards,
    features: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Assign the images to the superclasses of a model."""
    use_threads(1)
    from lightcluster.model.adoption import adopt_superclasses as do

    stores = [features / f"{shard:04d}.zarr" for shard in range(shards)]
    do(Path(settings["fit"]["model"]), stores, output)


@Step(unit="seed", kinds=APPLIED, reads=("fit",), places=("dataset.name", "labelling.seeds"))
def adopt_labelling(
    settings: Settings,
    seed: Annotated[int, typer.Option(min=0)], output: Annotated[Path, typer.Option()],
    palette: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Take the classes of a model."""
    from lightcluster.model.adoption import adopt_labelling as do

    do(Path(settings["fit"]["model"]), seed, output, palette)


@Step(
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
)
def export_model(
    settings: Settings,
    weights: Annotated[Path, typer.Option()], clusters: Annotated[Path, typer.Option()],
    masks: Annotated[Path, typer.Option()], labelling: Annotated[Path, typer.Option()],
    palettes: Annotated[Path, typer.Option()], dataset: Annotated[str, typer.Option()],
    run: Annotated[str, typer.Option()], output: Annotated[Path, typer.Option()],
    choice: OptionalPath = None,
) -> None:  # fmt: skip
    """Write the folder with which `segment` segments new images."""
    from lightcluster.model.folder import export_model as do

    del settings["version"]
    split = settings.pop("dataset.split")
    features = settings["features"]
    facet, layer = chosen(features["facet"], features["layer"], choice)
    arrays = {name: clusters / f"{name}.npz" for name in ("dataset", "superclasses", "category")}
    arrays |= {name: masks / f"{name}.npz" for name in ("foreground", "trees")}
    do(
        arrays, weights, labelling, palettes, output,
        sections=settings, dataset=dataset, run=run, split=split, facet=facet, layer=layer,
    )  # fmt: skip
