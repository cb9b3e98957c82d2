"""The network that is meant in a checkpoint that may hold several.

A checkpoint is a nest of dictionaries. Every place in it at which the projection of patches lies is
a network of its own: the student and the teacher of a self-distillation, weights and their moving
average. One is picked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lightcluster.errors import WeightsError

_PATCHES = re.compile(
    r"(?P<place>(?:.*\.)?)(?:patch_embed\.proj|patch_embed\.projection|conv_proj"
    r"|embeddings\.patch_embeddings\.projection)\.weight"
)
"""Of timm and all that follow it; of mmpretrain; of torchvision; of Hugging Face."""

_WRAPPERS = re.compile(r"^(?:(?:state_dict|model|module|_orig_mod|backbone|encoder)\.)+")
_DEEPEST = 16

_PREFERRED = (
    re.compile(r"ema|ema_.*|.*_ema|.*_ema_.*"),
    re.compile(r"teacher"),
    re.compile(r"base_encoder"),
    re.compile(r"encoder"),
    re.compile(r"state_dict"),
    re.compile(r"model"),
)
"""Names of networks, the preferred first: as timm prefers averages, DINO and DINOv2 their teacher,
and the released programs of MoCo-v3 and I-JEPA (in timm) the encoder that is trained."""

_LAST = re.compile(r"student|momentum_encoder|target_encoder|predictor")


@dataclass(frozen=True)
class Picked:
    """One network of a checkpoint.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By their names in the network.
    place : str
        Where it lies in the checkpoint, such as ``state_dict_ema``; empty at the top.
    others : tuple of str
        Where others lie that were not picked.
    """

    tensors: dict[str, Tensor]
    place: str
    others: tuple[str, ...]

    @property
    def choice(self) -> str:
        """In words, which one was picked; empty if there was no choice."""
        if not self.others:
            return ""
        return f"{self.place or 'the outermost'}, not {' or '.join(self.others)}"


def pick_network(contents: Any, path: Path) -> Picked:
    """Return the network of a checkpoint, the preferred one if it holds several.

    Parameters
    ----------
    contents : object
        As the file was read: dictionaries in dictionaries, with tensors somewhere.
    path : Path
        Named in messages.

    Raises
    ------
    WeightsError
        If there is no network, no telling which is meant, or what is there is no whole network.
    """
    groups = list(_flatten(contents, path))
    names = [f"{place}{name}" for place, tensors in groups for name in tensors]
    if not names:
        raise WeightsError(f"{path}: holds no tensors by name, in dictionaries")
    if reason := _no_network(names):
        raise WeightsError(f"{path}: {reason}")
    networks = dict(_networks(groups))
    places = list(networks)
    if not places:
        place, tensors = max(groups, key=lambda group: len(group[1]))
        return Picked({_WRAPPERS.sub("", name): tensors[name] for name in tensors}, place, ())
    ranks = {place: _rank(place, places) for place in places}
    best = min(ranks, key=lambda place: ranks[place])
    if list(ranks.values()).count(ranks[best]) > 1:
        several = " and ".join(repr(place.rstrip(".")) for place in places)
        raise WeightsError(
            f"{path}: holds several networks, at {several}, and nothing says which is meant; save "
            "the one alone"
        )
    return Picked(
        networks[best],
        best.rstrip("."),
        tuple(place.rstrip(".") or "the outermost" for place in places if place != best),
    )


def _flatten(contents: Any, path: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the tensors of each dictionary of a nest by name, with the place of the dictionary."""
    pending: list[tuple[str, Any, int]] = [("", contents, 0)]
    while pending:
        place, value, depth = pending.pop()
        if not isinstance(value, Mapping):
            continue
        if depth == _DEEPEST:
            raise WeightsError(f"{path}: is nested more than {_DEEPEST} deep, or without end")
        if tensors := {str(key): item for key, item in value.items() if isinstance(item, Tensor)}:
            yield place, tensors
        inner = [(f"{place}{key}.", item, depth + 1) for key, item in value.items()]
        pending += reversed(inner)


def _networks(
    groups: Iterable[tuple[str, dict[str, Tensor]]],
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the place of each network, and its tensors by their names in it."""
    for place, tensors in groups:
        for name in tensors:
            if found := _PATCHES.fullmatch(name):
                prefix = found["place"]
                own = {
                    other.removeprefix(prefix): tensor
                    for other, tensor in tensors.items()
                    if other.startswith(prefix)
                }
                yield f"{place}{prefix}", own


_SIGNS = {
    r"(?:^|[._])lora_": (
        "holds LoRA adapters and no network of its own; merge them into the network (in PEFT, "
        "`merge_and_unload()`) and save that"
    ),
    r"^base_model\.model\.|\.base_layer\.|adapter|modules_to_save"
    r"|(?:^|[._])(?:ia3|oft|boft|vera|hada|lokr)_": (
        "holds adapters (PEFT), such as LoRA, and no network of its own; merge them into the "
        "network and save that"
    ),
    r"(?:^|[._])(?:qweight|qzeros|SCB|absmax|quant_state|quant_map|_packed_params|zero_point)\b": (
        "holds quantised weights; save the network in float32, float16 or bfloat16"
    ),
}
"""Parts of names that only what is no plain network has, and what to say of it."""


def _no_network(names: list[str]) -> str | None:
    """Return why tensors are no whole network of plain numbers; None if nothing says so."""
    for sign, reason in _SIGNS.items():
        if any(re.search(sign, name) for name in names):
            return reason
    return None


def _rank(place: str, places: list[str]) -> int:
    """Return the rank of a network among others by the names in its place that they lack."""
    shared = set.intersection(*(set(other.split(".")) for other in places))
    own = [name for name in place.split(".") if name and name not in shared]
    if any(_LAST.fullmatch(name) for name in own):
        return len(_PREFERRED) + 1
    ranks = [rank for name in own for rank, what in enumerate(_PREFERRED) if what.fullmatch(name)]
    return min(ranks, default=len(_PREFERRED))
