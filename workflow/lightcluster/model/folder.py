"""The folder of a fitted run: all that new images are segmented with, and nothing else.

===================== ==========================================================================
file                  what it holds
===================== ==========================================================================
model.json            version, configuration, steps and their versions, SHA-256 of all files
weights.safetensors   the backbone, as `features.weights` verified it; weights.json describes it
dataset.npz           ``centroids`` float32 [k, dim] of the dataset level
superclasses.npz      ``centroids`` float32 [groups, dim] of the images' CLS tokens
category.npz          ``centroids`` float32 [groups, k, dim] of the category level
foreground.npz        ``dataset`` bool [k], ``category`` bool [groups, k]: clusters of foreground
discriminant.npz      ``direction`` float32 [dim] or [0], ``constant`` float64 [1]
labelling.npz         arrays of `regions.labelling.Labelling`: centres, components, centroids
classes.csv           id, name and colour of each value in a segmentation
===================== ==========================================================================

Nothing in it is unpickled, it refers to no file outside, and it may be copied to another machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lightcluster import __version__
from lightcluster.config import Config, DatasetSettings, nest
from lightcluster.errors import ModelError
from lightcluster.files import read_arrays, replacing, write_arrays
from lightcluster.steps import STEPS, settings_of

_DESCRIPTION = "model.json"

APPLIED = (
    "extract_features", "cluster_image", "merge_levels", "score_patches", "refine_masks",
    "embed_regions", "paint_segmentation", "paint_masks",
)  # fmt: skip
"""Steps that are done with new images."""

ARRAYS = {
    "dataset": ("centroids",),
    "superclasses": ("centroids",),
    "category": ("centroids",),
    "foreground": ("dataset", "category"),
    "discriminant": ("direction", "constant"),
    "labelling": ("features", "centers", "components", "centroids"),
}
"""Files of arrays, and what is kept of those that the steps of the fit wrote."""

_PLACES: dict[str, Any] = {
    "dataset": set(DatasetSettings.model_fields) - {"max_pixels"},
    "report": True,
}
"""What of the configuration says nothing about new images."""

_FILES = (*(f"{name}.npz" for name in ARRAYS), "classes.csv", "weights.json", "weights.safetensors")


class Model(BaseModel):
    """The contents of ``model.json``.

    Attributes
    ----------
    format : "lightcluster-model"
    version : int
        Of the folder's layout.
    made_by : str
        Version of LightCluster.
    dataset, run : str
        What it was fitted on.
    seed : int
        Labelling seed of the classes.
    facet : str
    layer : int
        Read from the backbone; where they were chosen, the choice.
    config : Config
        Of the run, without the places of its images.
    steps : dict of str to int
        Version of each step in `APPLIED`.
    files : dict of str to str
        SHA-256 of every other file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["lightcluster-model"] = "lightcluster-model"
    version: Literal[1] = 1
    made_by: str = __version__
    dataset: str
    run: str
    seed: int
    facet: Literal["key", "query", "value", "token"]
    layer: int
    config: Config
    steps: dict[str, int] = Field(
        default_factory=lambda: {name: STEPS[name].version for name in APPLIED}
    )
    files: dict[str, str]

    def settings(self, step: str) -> dict[str, Any]:
        """Return what a step reads of the configuration; see `steps.settings_of`."""
        settings = settings_of(step, self.config)
        if step == "extract_features":
            settings |= {"features.facet": self.facet, "features.layer": self.layer}
        return settings


def export_model(
    arrays: Mapping[str, Path],
    weights: Path,
    palette: Path,
    output: Path,
    *,
    sections: Mapping[str, Any],
    dataset: str,
    run: str,
    facet: str,
    layer: int,
) -> None:
    """Write the model folder of a run.

    Parameters
    ----------
    arrays : mapping of str to Path
        The file of each key of `ARRAYS`.
    weights : Path
        The verified weights, with their record beside them. They are linked if the file system
        can, so that they take no room twice; a copy of the folder holds them.
    palette : Path
        ``classes.csv`` of the segmentations.
    output : Path
        The folder; appears only when complete.
    sections : mapping
        Sections and dotted keys of the configuration, as `steps.settings_of` returns them.
    dataset, run : str
    facet : str
    layer : int
    """
    config = Config.model_validate(nest(sections))
    with replacing(output) as folder:
        folder.mkdir()
        for name, kept in ARRAYS.items():
            kept_arrays: dict[str, Any] = dict(read_arrays(arrays[name], *kept))
            write_arrays(folder / f"{name}.npz", **kept_arrays)
        shutil.copyfile(palette, folder / "classes.csv")
        _link(weights, folder / "weights.safetensors")
        shutil.copyfile(weights.with_suffix(".json"), folder / "weights.json")
        model = Model(
            dataset=dataset, run=run, seed=config.labelling.seeds[0], facet=facet, layer=layer,
            config=config, files={name: _sha256(folder / name) for name in _FILES},
        )  # fmt: skip
        text = model.model_dump_json(indent=2, exclude={"config": _PLACES})
        (folder / _DESCRIPTION).write_text(text + "\n", "utf-8")


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that cannot be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_model(folder: Path) -> Model:
    """Read and verify a model folder.

    Raises
    ------
    ModelError
        If it is none, is damaged, or was made by a LightCluster whose steps did something else.
    """
    path = folder / _DESCRIPTION
    try:
        raw = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: no model, {_DESCRIPTION} is missing; runs write theirs to "
            "results/<dataset>/<run>/model"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    if not isinstance(raw, dict) or raw.get("format") != "lightcluster-model":
        raise ModelError(f"{path}: not of the format 'lightcluster-model'")
    if raw.get("version") != 1:
        raise ModelError(
            f"{path}: version {raw.get('version')!r} of the folder's layout, made by LightCluster "
            f"{raw.get('made_by')}; this one, {__version__}, reads version 1"
        )
    try:
        model = Model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path}: {where}: {first['msg']} ({first['input']!r})") from None
    for step in APPLIED:
        found, own = model.steps.get(step), STEPS[step].version
        if found != own:
            raise ModelError(
                f"{path}: made by LightCluster {model.made_by} with version {found} of the step "
                f"{step}, which is at version {own} here and computes something else: run "
                "snakemake again to export the model anew, or install that LightCluster"
            )
    for name in _FILES:
        file = folder / name
        if not file.is_file() or _sha256(file) != model.files.get(name):
            raise ModelError(f"{file}: missing, or not what {_DESCRIPTION} says: copy it again")
    return model
