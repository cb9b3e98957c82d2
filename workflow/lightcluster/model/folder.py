"""The folder of a model: all that is needed of a fitted run to segment new images.

===================== ==========================================================================
file                  what it holds
===================== ==========================================================================
model.json            version, configuration, steps and their versions, SHA-256 of all files
weights.safetensors   the backbone, as `extraction.weights` verified it; weights.json describes it
dataset.npz           ``centroids`` float32 [k, dim] of the dataset level, ``distance`` float64 [1]
superclasses.npz      ``centroids`` float32 [groups, dim] of the images' CLS tokens
category.npz          ``centroids`` float32 [groups, k, dim] of the category level
foreground.npz        ``dataset`` bool [k], ``category`` bool [groups, k]: clusters of foreground
trees.npz             arrays of `masks.reestimation.fit_trees`: projection, centroids, shares
labelling/seed-N.npz  arrays of `regions.labelling.Labelling`: centres, components, centroids
labelling/seed-N.csv  id, name and colour of each value in a segmentation
===================== ==========================================================================

No file is unpickled, and none refers to a file outside, so the folder can be copied to another
machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
from pydantic import Field

from lightcluster import __version__
from lightcluster.config import Config, lookup, walk_keys
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.errors import ModelError, reason_of
from lightcluster.extraction.backbones.registry import size_of
from lightcluster.files import read_arrays, replacing, write_arrays
from lightcluster.identity import with_split
from lightcluster.methods.registry import method_of
from lightcluster.methods.sections import HOW
from lightcluster.names.run import given_names
from lightcluster.paths import require_file
from lightcluster.regions.painted import is_written
from lightcluster.regions.palette import read_palette, write_palette
from lightcluster.sections import Name, Section, Seed, find_mistakes, shorten, show, tidy
from lightcluster.soundness import (
    check_fit,
    check_labelling,
    check_palette,
)
from lightcluster.steps import STEPS

DESCRIPTION = "model.json"

APPLIED_STEPS = (
    "extract_features", "cluster_image", "merge_levels", "score_patches", "refine_masks",
    "find_regions", "embed_regions",
)  # fmt: skip
"""Steps that run on new images, up to the descriptors of regions. `export_model` follows all of
them, so that a model is exported again when one of them changes."""

ARRAYS = {
    "dataset": ("centroids", "distance"),
    "superclasses": ("centroids",),
    "category": ("centroids",),
    "foreground": ("dataset", "category"),
    "trees": ("projection", "centroids", "share", "threshold"),
}
"""The files of arrays, and which arrays are kept of those that the fitting steps wrote."""

_OF_IMAGES = ("max_pixels", "depth")
"""Keys of the section `dataset` that say how images are read; they apply to new images as well."""

_NOT_KEPT: dict[str, Any] = {
    "dataset": set(DatasetSettings.model_fields).difference(_OF_IMAGES),
    **dict.fromkeys(set(Config.model_fields).difference(HOW, ("method", "dataset")), True),
}
"""Settings that a model does not hold, because new images are segmented without them."""

WEIGHTS, RECORD = "weights.safetensors", "weights.json"
_FILES = (*(f"{name}.npz" for name in ARRAYS), RECORD, WEIGHTS)


class Model(Section):
    """The contents of ``model.json``.

    Attributes
    ----------
    format : "lightcluster-model"
    version : int
        Version of the layout of the folder.
    made_by : str
        Version of LightCluster.
    dataset, run : str
        The run that was fitted, and its dataset.
    split : str or None
        Split of a standard dataset.
    seeds : tuple of int
        Labelling seeds; new images are segmented with the first.
    classes : int
        Number of object classes.
    facet : str
    layer : int
        The features that are read from the backbone; if they were chosen automatically, the choice.
    config : Config
        The settings that new images are segmented with.
    steps : dict of str to int
        Version of each step in `APPLIED_STEPS`.
    files : dict of str to str
        SHA-256 of every other file.
    """

    format: Literal["lightcluster-model"] = "lightcluster-model"
    version: Literal[4] = 4
    made_by: str = Field(__version__, max_length=80)
    dataset: Name
    run: Name
    split: Name | None
    seeds: tuple[Seed, ...] = Field(min_length=1)
    classes: int = Field(ge=1, le=10_000)
    facet: Literal["key", "query", "value", "token"]
    layer: int
    config: Config
    steps: dict[str, int]
    files: dict[str, str]

    @property
    def images(self) -> str:
        """The images that it was fitted on, in words."""
        return with_split(self.dataset, self.split)

    def method_settings(self, folder: Path) -> dict[str, Any]:
        """Return the settings of a run that applies this model, by section.

        Weights that were read from a file are taken from the folder of the model; others are
        fetched from the same source as before.
        """
        sections = self.config.model_dump(mode="json", include=set(HOW))
        sections["features"] |= {"facet": self.facet, "layer": self.layer}
        sections["labelling"] |= {"classes": self.classes, "seeds": self.seeds}
        if self.config.backbone.source == "file":
            sections["backbone"]["weights"] = str(folder / WEIGHTS)
        return sections

    @property
    def settings(self) -> Config:
        """The settings for the steps that segment new images; facet and layer are never `auto`."""
        chosen = {"facet": self.facet, "layer": self.layer}
        features = self.config.features.model_copy(update=chosen)
        return self.config.model_copy(update={"features": features})


def export_model(
    arrays: Mapping[str, Path],
    weights: Path,
    labelling: Path,
    palettes: Path,
    output: Path,
    *,
    config: Config,
    dataset: str,
    run: str,
    split: str | None,
    facet: str,
    layer: int,
) -> None:
    """Write the model folder of a run.

    Parameters
    ----------
    arrays : mapping of str to Path
        The file of each key of `ARRAYS`.
    weights : Path
        The verified weights, with their record beside them. They become a hard link if the file
        system supports that, so that they are not stored twice.
    labelling, palettes : Path
        Folder of the files ``seed-N.npz``, and the folder with ``seed-N/classes.csv``, whose
        clusters a user may have named (`names`).
    output : Path
        The folder. It appears only when it is complete.
    config : Config
        Settings of the run.
    dataset, run : str
    split : str or None
    facet : str
    layer : int
    """
    with replacing(output) as folder:
        folder.mkdir()
        for name, kept in ARRAYS.items():
            kept_arrays: dict[str, Any] = dict(read_arrays(arrays[name], *kept))
            write_arrays(folder / f"{name}.npz", **kept_arrays)
        (folder / "labelling").mkdir()
        for seed in config.labelling.seeds:
            shutil.copyfile(labelling / f"seed-{seed}.npz", folder / labelling_of(seed))
            _copy_palette(palettes / f"seed-{seed}", folder / palette_of(seed))
        _link(weights, folder / WEIGHTS)
        shutil.copyfile(weights.with_suffix(".json"), folder / RECORD)
        model = Model(
            dataset=dataset, run=run, split=split, seeds=config.labelling.seeds,
            classes=len(read_palette(folder / palette_of(config.labelling.seeds[0]))) - 1,
            facet=facet, layer=layer, config=config,
            steps={name: STEPS[name].version for name in APPLIED_STEPS},
            files={name: file_digest(folder / name) for name in _files(config.labelling.seeds)},
        )  # fmt: skip
        text = model.model_dump_json(indent=2, exclude={"config": _NOT_KEPT})
        (folder / DESCRIPTION).write_text(text + "\n", "utf-8")


def _copy_palette(segmentation: Path, output: Path) -> None:
    """Copy the table of the values in segmentations, with the names that a user gave.

    Names follow the pixels, so only seeds whose segmentations are written have them.
    """
    values = read_palette(segmentation / "classes.csv")
    given = given_names(segmentation) if is_written(segmentation) else {}
    names = [given.get(number, value.name) for number, value in enumerate(values)]
    write_palette(output, names, [value.size for value in values], "regions")


def labelling_of(seed: int) -> str:
    """Return the path of the classes of a seed in the folder of a model."""
    return f"labelling/seed-{seed}.npz"


def palette_of(seed: int) -> str:
    """Return the path of the names and colours of the classes of a seed."""
    return f"labelling/seed-{seed}.csv"


def files_of(folder: Path) -> list[Path]:
    """Return the paths of all files of a model.

    Raises
    ------
    ModelError
        As `read_model` does.
    """
    return [folder / name for name in (DESCRIPTION, *_files(read_model(folder).seeds))]


def _files(seeds: Iterable[int]) -> list[str]:
    """Return the names of all files of a model except its description."""
    return [*_FILES, *(name(seed) for seed in seeds for name in (labelling_of, palette_of))]


def _link(source: Path, target: Path) -> None:
    """Make a hard link to a file, or a copy if the file system does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_model(folder: Path) -> Model:
    """Read the description of a model, but none of its other files.

    Raises
    ------
    ModelError
        If it is not a model, or was made by a version whose steps compute something else.
    """
    path = folder / DESCRIPTION
    raw = _read_json(path)
    if not isinstance(raw, dict) or raw.get("format") != "lightcluster-model":
        raise ModelError(f"{path}: not of the format 'lightcluster-model'")
    version = Model.model_fields["version"].default
    if raw.get("version") != version:
        raise ModelError(
            f"{path}: version {show(raw.get('version'))} of the folder's layout, made by "
            f"LightCluster {show(raw.get('made_by'))}; this one, {__version__}, reads version "
            f"{version}"
        )
    if mistakes := find_mistakes(raw, Model):
        more = f" (and {len(mistakes) - 1} more mistakes)" if len(mistakes) > 1 else ""
        raise ModelError(f"{path}: {mistakes[0]}{more}")
    if key := _left_out(raw["config"] or {}):
        raise ModelError(
            f"{path}: config.{key}: is missing, and with its default the model could be another: "
            "run snakemake again to export it anew"
        )
    model = Model.model_validate(tidy(raw, Model))
    if reason := _contradiction(model):
        raise ModelError(f"{path}: {reason}")
    for step in APPLIED_STEPS:
        found, own = model.steps.get(step), STEPS[step].version
        if found != own:
            raise ModelError(
                f"{path}: made by LightCluster {shorten([model.made_by])} with version "
                f"{show(found)} of the step {step}, which is at version {own} here and computes "
                "something else: run snakemake again to export the model anew, or install that "
                "LightCluster"
            )
    return model


def open_model(folder: Path) -> Model:
    """Read and verify a model folder.

    Raises
    ------
    ModelError
        As `read_model` does, and if a file is missing or damaged.
    """
    model = read_model(folder)
    for name in _files(model.seeds):
        file = folder / name
        if file.is_file() and (size := file.stat().st_size) > _LARGEST[file.suffix]:
            raise ModelError(f"{file}: is of {size:,} bytes, too large for a file of a model")
        if not file.is_file() or file_digest(file) != model.files.get(name):
            raise ModelError(f"{file}: missing, or not what {DESCRIPTION} says: copy it again")
    _check_files(folder, model)
    return model


_LARGEST_DESCRIPTION = 2**20

_LARGEST = {".json": 2**20, ".csv": 2**24, ".npz": 2**32, ".safetensors": 2**35}
"""Size limits in bytes by suffix; larger files are not read."""


def _read_json(path: Path) -> Any:
    """Return the contents of a JSON file."""
    try:
        if require_file(path).stat().st_size > _LARGEST_DESCRIPTION:
            raise ModelError(f"{path}: is too large for the description of a model")
        return json.loads(path.read_text("utf-8"), object_pairs_hook=_once)
    except FileNotFoundError:
        raise ModelError(
            f"{path.parent}: no model, {path.name} is missing; runs write theirs to "
            "results/<dataset>/<run>/model"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ModelError(f"{path}: cannot be read ({reason})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a dict; keys must not repeat."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _left_out(config: Mapping[str, Any]) -> str | None:
    """Return a key that new images depend on and that is missing; None if all are there."""
    for name, _ in walk_keys():
        section, _, key = name.partition(".")
        needed = section in HOW or (section == "dataset" and key in _OF_IMAGES)
        if needed and key not in (config.get(section) or {}):
            return name
    return None if "method" in config else "method"


def _contradiction(model: Model) -> str | None:
    """Return a contradiction in a description; None if there is none."""
    config = model.config
    if not method_of(config).masks:
        return f"config.method = {config.method!r}: such runs have no model"
    if set(model.files) != set(_files(model.seeds)):
        other = min(set(model.files) ^ set(_files(model.seeds)))
        return f"files: {show(other)} is missing there, or no file of a model"
    for name, own in (
        ("features.facet", model.facet),
        ("features.layer", model.layer),
        ("labelling.classes", model.classes),
        ("labelling.seeds", list(model.seeds)),
    ):
        found = lookup(config, name)
        if found not in ("auto", own):
            return f"config.{name} = {show(found)}: contradicts {show(own)} beside it"
    return None


def _check_files(folder: Path, model: Model) -> None:
    """Raise ModelError if a file contradicts the description; see `soundness`."""
    config, place = model.config, folder / RECORD
    record = _read_json(place)
    size = size_of(config.backbone.model, _shapes_of(folder / WEIGHTS))
    if size is None:
        raise ModelError(f"{folder / WEIGHTS}: are no weights of {config.backbone.model}")
    own: dict[str, Any] = {"model": config.backbone.model, "sha256": model.files[WEIGHTS], **size}
    if not isinstance(record, dict):
        raise ModelError(f"{place}: not a record of weights")
    for name, value in own.items():
        if record.get(name) != value:
            raise ModelError(
                f"{place}: {name} = {show(record.get(name))}, which is {show(value)} by the "
                "model's other files"
            )
    for name, least in (("mean", 0.0), ("std", 0.001)):
        numbers = record.get(name)
        if (
            not isinstance(numbers, list)
            or len(numbers) != 3
            or not all(type(number) in (int, float) and least <= number <= 1 for number in numbers)
        ):
            raise ModelError(f"{place}: {name} = {show(numbers)}: must be three numbers up to 1")
    dim, depth = size["dim"], size["depth"]
    if not -depth <= model.layer < depth:
        raise ModelError(
            f"{folder / DESCRIPTION}: layer = {model.layer}: its backbone has {depth} blocks"
        )
    groups = config.superclasses.count
    check_fit(
        folder, dim=dim, levels=(config.clustering.k_dataset, config.clustering.k_category),
        groups=_MOST_GROUPS if groups == "auto" else groups,
        trees=(config.reestimation.trees, config.reestimation.clusters),
    )  # fmt: skip
    for seed in model.seeds:
        check_labelling(
            folder / labelling_of(seed), dim=dim, features=config.labelling.features,
            pca=config.labelling.pca, classes=model.classes,
        )  # fmt: skip
        check_palette(folder / palette_of(seed), model.classes + 1)


_MOST_GROUPS = 20
"""Largest number of superclasses with `superclasses.count: auto`."""


def _shapes_of(weights: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor, from the header of a file of weights."""
    try:
        with safetensors.safe_open(weights, "np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{weights}: is no file of safetensors ({reason_of(error)})") from None
