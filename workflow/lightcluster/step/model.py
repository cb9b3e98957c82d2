"""The steps that write a model, or take one."""

from __future__ import annotations

from pathlib import Path

from lightcluster.config import Config
from lightcluster.methods.lightcluster.method import APPLIED, FITTED
from lightcluster.methods.sections import HOW
from lightcluster.step.arguments import (
    File,
    Files,
    FilesOfShards,
    OptionalFile,
    Seed,
    Settings,
    Shards,
    Text,
    chosen,
)
from lightcluster.step.declaration import Step
from lightcluster.threads import use_threads


def _model(settings: Config) -> Path:
    """Return the folder of the model that a run applies."""
    assert settings.fit.model is not None  # else the run would have no such step
    return settings.fit.model


@Step(
    title="levels of model",
    kinds=APPLIED,
    reads=("fit",),
    places=("dataset.name",),
    after=("fetch_weights",),
)
def adopt_fit(settings: Settings, weights: File, output: Files) -> None:
    """Copy the levels and the foreground decision of a model."""
    from lightcluster.model.adoption import adopt_fit as do

    do(_model(settings), weights, output)


@Step(
    title="groups of model",
    kinds=APPLIED,
    reads=("fit",),
    after=("gather_manifest", "extract_features"),
)
def adopt_superclasses(
    settings: Settings, shards: Shards, features: FilesOfShards, output: File,
) -> None:  # fmt: skip
    """Assign the images to the superclasses of a model."""
    use_threads(1)
    from lightcluster.model.adoption import adopt_superclasses as do

    do(_model(settings), shards.paths(features, ".zarr"), output)


@Step(
    title="classes of model",
    unit="seed",
    kinds=APPLIED,
    reads=("fit",),
    places=("dataset.name", "labelling.seeds"),
)
def adopt_labelling(settings: Settings, seed: Seed, output: File, palette: File) -> None:
    """Copy the classes of a model."""
    from lightcluster.model.adoption import adopt_labelling as do

    do(_model(settings), seed, output, palette)


@Step(
    title="model for new images",
    kinds=FITTED,
    reads=(*HOW, "dataset.max_pixels", "dataset.depth", "dataset.split"),
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
    settings: Settings, weights: File, dataset_level: File, superclasses: File,
    category_level: File, foreground: File, trees: File, labelling: File, palettes: File,
    dataset: Text, run: Text, output: File, choice: OptionalFile = None,
) -> None:  # fmt: skip
    """Write the model folder that `segment` uses for new images."""
    from lightcluster.model.folder import export_model as do

    dataset_keys, features = settings.dataset, settings.features
    facet, layer = chosen(features.facet, features.layer, choice)
    sections = {name: getattr(settings, name).model_dump() for name in HOW}
    sections["dataset"] = {"max_pixels": dataset_keys.max_pixels, "depth": dataset_keys.depth}
    arrays = {
        "dataset": dataset_level, "superclasses": superclasses, "category": category_level,
        "foreground": foreground, "trees": trees,
    }  # fmt: skip
    do(
        arrays, weights, labelling, palettes, output,
        config=Config.model_validate(sections), dataset=dataset, run=run,
        split=dataset_keys.split, facet=facet, layer=layer,
    )  # fmt: skip
