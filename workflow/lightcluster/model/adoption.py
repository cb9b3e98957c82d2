"""Using a model instead of fitting: its files replace those that the fitting steps would write."""

from __future__ import annotations

from pathlib import Path

from lightcluster.clustering.superclasses import assign_superclasses
from lightcluster.errors import ModelError
from lightcluster.files import copy_file, read_arrays
from lightcluster.model.folder import (
    WEIGHTS,
    file_digest,
    labelling_of,
    open_model,
    palette_of,
)


def adopt_fit(model: Path, weights: Path, outputs: list[Path]) -> None:
    """Copy the levels and the foreground decision of a model.

    Parameters
    ----------
    model : Path
        The folder of a model.
    weights : Path
        Weights with which the features of this run are extracted.
    outputs : list of Path
        Each has the name of its file in the folder of the model.

    Raises
    ------
    ModelError
        If the model cannot be used, or has other weights.
    """
    described = open_model(model)
    if file_digest(weights) != described.files[WEIGHTS]:
        raise ModelError(
            f"{model}: fitted with other weights than {weights}, which `backbone.weights` names; "
            f"leave that key out, or set it to {model / WEIGHTS}"
        )
    for output in outputs:
        copy_file(model / output.name, output)


def adopt_superclasses(model: Path, stores: list[Path], output: Path) -> None:
    """Assign each image to the nearest superclass of a model; see `superclasses.group_images`."""
    open_model(model)
    assign_to_model(model, stores, output)


def assign_to_model(model: Path, stores: list[Path], output: Path) -> None:
    """Do what `adopt_superclasses` does, with a model that has been verified."""
    centroids = read_arrays(model / "superclasses.npz", "centroids")["centroids"]
    assign_superclasses(stores, centroids, output)


def adopt_labelling(model: Path, seed: int, output: Path, palette: Path) -> None:
    """Copy the classes of a labelling seed, and their names and colours.

    Raises
    ------
    ModelError
        If the model cannot be used.
    """
    open_model(model)
    copy_file(model / labelling_of(seed), output)
    copy_file(model / palette_of(seed), palette)
