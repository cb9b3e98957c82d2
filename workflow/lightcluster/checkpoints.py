"""Training checkpoints: tensors and metadata in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn, optim

from lightcluster.errors import StoreError
from lightcluster.files import replacing
from lightcluster.paths import require_file


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors from any device, and `about` as metadata of the file.

    If `about` has several entries, their order is not fixed, so the bytes of the file may differ.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        safetensors.torch.save_file(ready, temporary, dict(about))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file of `write_tensors`.

    Returns
    -------
    tensors : dict of str to Tensor
    about : dict of str to str

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    try:
        with safetensors.safe_open(require_file(path), "pt") as file:
            # A copy has torch's own memory alignment. Sums over differently aligned memory round
            # differently, so a resumed training would end with other weights.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise StoreError(f"{path}: damaged ({error}); delete it and start again") from None


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, with the prefix removed."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def training_state(
    modules: Mapping[str, nn.Module], optimizer: optim.Optimizer
) -> dict[str, Tensor]:
    """Return the parameters of modules and the state of their optimiser by name."""
    tensors = {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": moment for name, moment in moments.items()}
    return tensors


def restore_training(
    tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module], optimizer: optim.Optimizer
) -> None:
    """Restore what `training_state` returned."""
    for name, module in modules.items():
        module.load_state_dict(below(tensors, f"{name}."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in below(tensors, "optimizer.").items():
        number, _, moment = name.partition(".")
        state.setdefault(int(number), {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
