"""A head that another run has trained, in the place of training: what it is, and its adoption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
from pydantic import BaseModel, ConfigDict, ValidationError

from lightcluster.config import Positions
from lightcluster.errors import ModelError
from lightcluster.files import copy_file
from lightcluster.paths import require_file

ABOUT = "trained"
"""Name, in the header of a probe's file, under which `Trained` is kept."""

PALETTE = "classes.csv"
"""Beside the probe's file."""


class Trained(BaseModel):
    """What is known of a trained head and probe.

    Attributes
    ----------
    head, framing, resampling : str
    size : int
        Settings of `config.CauseSettings` that a run needs to apply it.
    weights : str
        SHA-256 of the backbone's weights.
    positions : {"timm", "as_released"}
        How position embeddings were resized.
    images : str
        In words, the images that it was trained on.
    supervised : bool
        Whether a loss on labels has changed the head (`linear_probe: as_released`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: str
    framing: str
    resampling: str = "antialiased"
    size: int
    weights: str
    positions: Positions = "timm"
    images: str
    supervised: bool

    @property
    def fitted_on(self) -> str:
        """In words, what it owes to images and labels."""
        return f"{self.images}, {WITH_LABELS if self.supervised else WITHOUT_LABELS}"


WITHOUT_LABELS = "without labels"
WITH_LABELS = "WITH THEIR LABELS (linear probe as released)"


def probe_of(folder: Path, seed: int) -> Path:
    """Return the file of a seed below the folder ``cause`` of a run."""
    return folder / f"seed-{seed}" / "probe.safetensors"


def read_trained(path: Path) -> Trained:
    """Read what a probe's file says of itself; its tensors are not read.

    Raises
    ------
    ModelError
        If the file is missing or damaged, or no probe.
    """
    try:
        with safetensors.safe_open(require_file(path), "np") as file:
            header: Mapping[str, str] = file.metadata() or {}
        return Trained.model_validate(json.loads(header[ABOUT]))
    except FileNotFoundError:
        raise ModelError(
            f"{path}: is missing; a run with `method: cause` writes its own to "
            "results/<dataset>/<run>/cause/seed-N/"
        ) from None
    except (OSError, KeyError, ValueError, safetensors.SafetensorError, ValidationError) as error:
        raise ModelError(f"{path}: is no probe of a trained head ({error})") from None


def adopt_probe(folder: Path, seed: int, weights: str, output: Path, palette: Path) -> None:
    """Copy a probe, with its head, and the table of its clusters.

    Parameters
    ----------
    folder : Path
        ``cause`` of a trained run.
    seed : int
    weights : str
        SHA-256 of the backbone's weights that this run segments with.
    output, palette : Path

    Raises
    ------
    ModelError
        If the probe cannot be used, or was trained on tokens of other weights.
    """
    source = probe_of(folder, seed)
    if read_trained(source).weights != weights:
        raise ModelError(
            f"{source}: trained on tokens of other weights than those that `backbone` names"
        )
    for origin, target in ((source, output), (source.with_name(PALETTE), palette)):
        copy_file(origin, target)
