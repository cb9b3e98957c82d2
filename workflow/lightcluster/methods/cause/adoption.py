"""A head that another run has trained, in the place of training: what it is, and its adoption."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import safetensors
from pydantic import Field

from lightcluster.errors import ModelError
from lightcluster.extraction.backbones.protocol import Positions
from lightcluster.files import copy_file
from lightcluster.methods.cause.method import LABELS
from lightcluster.methods.protocol import WITHOUT_LABELS
from lightcluster.paths import require_file
from lightcluster.sections import Section, Share, Spread, find_mistakes
from lightcluster.soundness import check_palette, check_tensors

ABOUT = "trained"
"""Name, in the header of a probe's file, under which `Trained` is kept."""

PALETTE = "classes.csv"
"""Beside the probe's file."""


class Trained(Section):
    """What is known of a trained head and probe.

    Attributes
    ----------
    head, framing, resampling : str
    size : int
        Settings of `config.CauseSettings` that a run needs to apply it.
    weights : str
        SHA-256 of the backbone's weights.
    mean, std : tuple of float [3]
        By which the backbone's input was normalised.
    positions : {"timm", "as_released"}
        How position embeddings were resized.
    images : str
        In words, the images that it was trained on.
    supervised : bool
        Whether a loss on labels has changed the head (`linear_probe: as_released`).
    """

    head: Literal["mlp", "tr"]
    framing: Literal["crop", "squash"]
    resampling: str = Field("antialiased", max_length=80)
    size: int = Field(ge=1, le=4096)
    weights: str = Field(max_length=200)
    mean: tuple[Share, Share, Share]
    std: tuple[Spread, Spread, Spread]
    positions: Positions = "timm"
    images: str = Field(max_length=1000)
    supervised: bool

    @property
    def fitted_on(self) -> str:
        """In words, what it owes to images and labels."""
        return f"{self.images}, {LABELS if self.supervised else WITHOUT_LABELS}"


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
        described = json.loads(header[ABOUT])
    except FileNotFoundError:
        raise ModelError(
            f"{path}: is missing; a run with `method: cause` writes its own to "
            "results/<dataset>/<run>/cause/seed-N/"
        ) from None
    except (OSError, KeyError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: is no probe of a trained head ({error})") from None
    if not isinstance(described, dict):
        raise ModelError(f"{path}: is no probe of a trained head")
    if mistakes := find_mistakes(described, Trained):
        raise ModelError(f"{path}: {mistakes[0]}")
    return Trained.model_validate(described)


def check_probe(path: Path) -> None:
    """Check a head, its codes, its probe and the table of its clusters, before they are used.

    Raises
    ------
    ModelError
        If a file is damaged, contradicts the other one or what the head says of itself, or holds
        numbers that are not finite.
    """
    import torch  # which a look at what a file says of itself has no need of

    from lightcluster.methods.cause.heads import FEATURES, build_head

    described = read_trained(path)
    shapes = _shapes(path)
    codes, probe, position = (shapes.get(name, ()) for name in ("codes", "probe", "head.position"))
    if len(codes) != 2 or len(probe) != 2 or min(*codes, *probe) < 1:
        raise ModelError(f"{path}: lacks the codes of a head, or its probe")
    count = 0
    if described.head == "tr":
        count = position[0] if len(position) == 2 else 1
        if not count or count != math.isqrt(count) ** 2 or count > described.size**2:
            raise ModelError(f"{path}: head.position has {count} places, which are no square")
    with torch.device("meta"):
        head = build_head(described.head, codes[1], count)
    wanted = {f"head.{name}": tuple(part.shape) for name, part in head.state_dict().items()}
    check_tensors(path, {**wanted, "codes": codes, "probe": (probe[0], FEATURES)})
    check_palette(path.with_name(PALETTE), probe[0])


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with safetensors.safe_open(path, "np") as file:
        names = list(file.keys())
        return {name: tuple(file.get_slice(name).get_shape()) for name in names}


def adopt_probe(
    folder: Path,
    seed: int,
    weights: Path,
    output: Path,
    palette: Path,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> None:
    """Copy a probe, with its head, and the table of its clusters.

    Parameters
    ----------
    folder : Path
        ``cause`` of a trained run.
    seed : int
    weights : Path
        The backbone's weights that this run segments with, their record beside them.
    output, palette : Path
    mean, std : sequence of float [3], optional
        Settings of the backbone.

    Raises
    ------
    ModelError
        If the probe cannot be used, or was trained on tokens of other weights, or of images that
        were normalised otherwise.
    """
    from lightcluster.extraction.weights import read_record  # torch with it

    source, record = probe_of(folder, seed), read_record(weights)
    check_probe(source)
    trained = read_trained(source)
    if trained.weights != record.sha256:
        raise ModelError(
            f"{source}: trained on tokens of other weights than those that `backbone` names"
        )
    for name, fitted, own in zip(
        ("mean", "std"), (trained.mean, trained.std), record.normalization(mean, std), strict=True
    ):
        if fitted != own:
            raise ModelError(
                f"{source}: trained on tokens of images that were normalised with a {name} of "
                f"{list(fitted)}, and not of {list(own)}, as `backbone.{name}` has it"
            )
    for origin, target in ((source, output), (source.with_name(PALETTE), palette)):
        copy_file(origin, target)
