"""The steps that write a model, or take one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightcluster.config import Config
from lightcluster.kinds import APPLIED, FITTED, METHOD
from lightcluster.step.arguments import OptionalPath, Settings, Shards, chosen
from lightcluster.step.declaration import Step
from lightcluster.threads import use_threads


def _model(settings: Config) -> Path:
    """Return the folder of the model that a run applies."""
    assert settings.fit.model is not None  # else the run would have no such step
    return settings.fit.model


@Step(kinds=APPLIED, reads=("fit",), places=("dataset.name",), after=("fetch_weights",))
def adopt_fit(
    settings: Settings,
    weights: Annotated[Path, typer.Option()],
    output: Annotated[list[Path], typer.Option()],
) -> None:
    """Take levels and foreground of a model."""
    from lightcluster.model.adoption import adopt_fit as do

    do(_model(settings), weights, output)


@Step(kinds=APPLIED, reads=("fit",), after=("gather_manifest", "extract_features"))
def adopt_superclasses(
    settings: Settings, shards: Shards,
    features: Annotated[Path, typer.Option()], output: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Assign the images to the superclasses of a model."""
    use_threads(1)
    from lightcluster.model.adoption import adopt_superclasses as do

    do(_model(settings), shards.paths(features, ".zarr"), output)


@Step(unit="seed", kinds=APPLIED, reads=("fit",), places=("dataset.name", "labelling.seeds"))
def adopt_labelling(
    settings: Settings,
    seed: Annotated[int, typer.Option(min=0)], output: Annotated[Path, typer.Option()],
    palette: Annotated[Path, typer.Option()],
) -> None:  # fmt: skip
    """Take the classes of a model."""
    from lightcluster.model.adoption import adopt_labelling as do

    do(_model(settings), seed, output, palette)


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

    dataset_keys, features = settings.dataset, settings.features
    facet, layer = chosen(features.facet, features.layer, choice)
    sections = {name: getattr(settings, name).model_dump() for name in METHOD}
    sections["dataset"] = {"max_pixels": dataset_keys.max_pixels, "depth": dataset_keys.depth}
    arrays = {name: clusters / f"{name}.npz" for name in ("dataset", "superclasses", "category")}
    arrays |= {name: masks / f"{name}.npz" for name in ("foreground", "trees")}
    do(
        arrays, weights, labelling, palettes, output,
        config=Config.model_validate(sections), dataset=dataset, run=run,
        split=dataset_keys.split, facet=facet, layer=layer,
    )  # fmt: skip
