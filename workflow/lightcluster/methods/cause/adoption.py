"""Reading, checking and copying a head and probe that another run has trained."""

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
"""Key of `Trained` in the header of a probe's file."""

PALETTE = "classes.csv"
"""Name of the palette next to the probe's file."""


class Trained(Section):
    """Description of a trained head and probe.

    Attributes
    ----------
    head, framing, resampling : str
    size : int
        Settings of `CauseSettings` that a run must share to apply it.
    weights : str
        SHA-256 of the backbone's weights.
    mean, std : tuple of float [3]
        Normalisation of the backbone's input.
    positions : {"timm", "as_released"}
        How position embeddings were resized.
    images : str
        Description of the training images.
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
        """Description of the training images and the use of labels."""
        return f"{self.images}, {LABELS if self.supervised else WITHOUT_LABELS}"


def probe_of(folder: Path, seed: int) -> Path:
    """Return the probe file of a seed in the folder ``cause`` of a run."""
    return folder / f"seed-{seed}" / "probe.safetensors"


def read_trained(path: Path) -> Trained:
    """Read the description in a probe's file, without its tensors.

    Raises
    ------
    ModelError
        If the file is missing, damaged or not a probe.
    """
    try:
        with safetensors.safe_open(require_file(path), "np") as file:
            header: Mapping[str, str] = file.metadata() or {}
        described = json.loads(header[ABOUT])
    except FileNotFoundError:
        raise ModelError(
            f"{path}: is missing; a run with `method: cause` writes it to "
            "results/<dataset>/<run>/cause/seed-N/"
        ) from None
    except (OSError, KeyError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: is not a probe of a trained head ({error})") from None
    if not isinstance(described, dict):
        raise ModelError(f"{path}: is not a probe of a trained head")
    if mistakes := find_mistakes(described, Trained):
        raise ModelError(f"{path}: {mistakes[0]}")
    return Trained.model_validate(described)


def check_probe(path: Path) -> None:
    """Check a head, its codes, its probe and the palette before they are used.

    Raises
    ------
    ModelError
        If a file is damaged, contradicts the other file or the head's description, or contains
        numbers that are not finite.
    """
    import torch  # not needed for reading only the description

    from lightcluster.methods.cause.heads import FEATURES, build_head

    described = read_trained(path)
    shapes = _shapes(path)
    codes, probe, position = (shapes.get(name, ()) for name in ("codes", "probe", "head.position"))
    if len(codes) != 2 or len(probe) != 2 or min(*codes, *probe) < 1:
        raise ModelError(f"{path}: the codes or the probe are missing")
    count = 0
    if described.head == "tr":
        count = position[0] if len(position) == 2 else 1
        if not count or count != math.isqrt(count) ** 2 or count > described.size**2:
            raise ModelError(f"{path}: head.position has {count} positions, which is not a square")
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
    """Copy a probe with its head, and its palette.

    Parameters
    ----------
    folder : Path
        Folder ``cause`` of a trained run.
    seed : int
    weights : Path
        The backbone's weights in this run, with their record beside them.
    output, palette : Path
    mean, std : sequence of float [3] or None
        Settings of the backbone.

    Raises
    ------
    ModelError
        If the probe cannot be used, or was trained with other weights or another normalisation.
    """
    from lightcluster.extraction.weights import read_record  # imports torch

    source, record = probe_of(folder, seed), read_record(weights)
    check_probe(source)
    trained = read_trained(source)
    if trained.weights != record.sha256:
        raise ModelError(
            f"{source}: was trained with other backbone weights than those set in `backbone`"
        )
    for name, fitted, own in zip(
        ("mean", "std"), (trained.mean, trained.std), record.normalization(mean, std), strict=True
    ):
        if fitted != own:
            raise ModelError(
                f"{source}: was trained with `backbone.{name}: {list(fitted)}`, but this run has "
                f"{list(own)}"
            )
    for origin, target in ((source, output), (source.with_name(PALETTE), palette)):
        copy_file(origin, target)
