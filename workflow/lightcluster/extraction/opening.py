"""Loading a backbone with the weights in a file, and checking such a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from lightcluster.errors import ModelError, WeightsError
from lightcluster.extraction.backbones.protocol import Backbone, Positions, Rotation
from lightcluster.extraction.backbones.registry import find_family
from lightcluster.extraction.weights import read_record
from lightcluster.soundness import check_tensors


def open_backbone(
    weights: Path,
    device: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    positions: Positions = "timm",
    rotation: Rotation = "before",
) -> Backbone:
    """Load the backbone that a weights file and its record describe.

    Parameters
    ----------
    weights : Path
        A weights file of :func:`.weights.fetch_weights`, with its record beside it.
    device : str
        Such as ``"cpu"`` or ``"cuda:0"``.
    mean, std : sequence of float [3] or None
        Normalisation of the RGB channels, in [0, 1]; None: as in the record. Ignored by the
        mean-colour baseline.
    positions : {"timm", "as_released"}
        How position embeddings are resized, see `backbones.positions`.
    rotation : {"before", "after"}
        Whether queries and keys are those before or after the rotation by rotary positions.

    Returns
    -------
    Backbone

    Raises
    ------
    WeightsError
        If a file is missing, unreadable or belongs to another architecture.
    """
    record = read_record(weights)
    return load_backbone(
        record.model, weights, device, *record.normalization(mean, std),
        positions=positions, rotation=rotation,
    )  # fmt: skip


def load_backbone(
    model: str,
    weights: Path,
    device: str = "cpu",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    positions: Positions = "timm",
    rotation: Rotation = "before",
) -> Backbone:
    """Load a frozen backbone with weights written by :func:`.weights.fetch_weights`.

    Parameters
    ----------
    model : str
        Value of `backbone.model`.
    weights : Path
        A safetensors file with exactly the parameters of the model.
    device : str
        Such as ``"cpu"`` or ``"cuda:0"``.
    mean, std : sequence of float [3], optional
        Normalisation of the RGB channels, in [0, 1]; by default as published for the model.
    positions : {"timm", "as_released"}
        How position embeddings are resized, see `backbones.positions`.
    rotation : {"before", "after"}
        Whether queries and keys are those before or after the rotation by rotary positions.

    Returns
    -------
    Backbone

    Raises
    ------
    WeightsError
        If the file is missing, unreadable or belongs to another architecture.
    """
    try:
        state = safetensors.torch.load_file(weights)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{weights}: not a readable safetensors file ({error})") from error
    family, network = find_family(model)  # on the meta device, without initialisation
    if _kinds(state) != _kinds(network.state_dict()):
        try:
            check_tensors(weights, _shapes(network))
        except ModelError as error:
            raise WeightsError(str(error)) from None
    network.load_state_dict(state, strict=True, assign=True)
    return family.open(network, device, mean, std, positions, rotation)


def outline(model: str) -> Backbone:
    """Return a backbone without weights, for its size, layers and normalisation.

    Raises
    ------
    WeightsError
        If the model is unknown or not supported.
    """
    family, network = find_family(model)
    return family.open(network, "meta")


def check_weights(model: str, weights: Path) -> None:
    """Check that a file contains exactly the parameters of a model, and that they are finite.

    Raises
    ------
    ModelError
        If it does not; see `soundness.check_tensors`.
    """
    check_tensors(weights, _shapes(find_family(model)[1]))


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _kinds(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in state.items()}
