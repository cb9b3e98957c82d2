"""Picking the network in a checkpoint that may contain several.

A checkpoint is a nested dictionary. Every patch projection in it belongs to a separate network,
such as the student and the teacher of self-distillation, or the weights and their moving average.
One of them is picked.
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
    r"(?P<place>(?:.*\.)?)(?:patch_embed(?:\.proj|\.projection)?|conv_proj"
    r"|embeddings\.patch_embeddings(?:\.projection)?)\.weight"
)
"""Names of the patch projection in timm and similar code, mmpretrain, CAPI, torchvision and
Hugging Face."""

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
"""Names of networks, the preferred first: timm uses moving averages, DINO and DINOv2 the teacher,
and the released code of MoCo-v3 and I-JEPA (in timm) the trained encoder."""

_LAST = re.compile(r"student|momentum_encoder|target_encoder|predictor")


@dataclass(frozen=True)
class Picked:
    """One network of a checkpoint.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By their names in the network.
    place : str
        Its key in the checkpoint, such as ``state_dict_ema``; empty at the top level.
    others : tuple of str
        Keys of the networks that were not picked.
    """

    tensors: dict[str, Tensor]
    place: str
    others: tuple[str, ...]

    @property
    def choice(self) -> str:
        """Description of the picked network; empty if there was only one."""
        if not self.others:
            return ""
        return f"{self.place or 'the outermost'}, not {' or '.join(self.others)}"


def pick_network(contents: Any, path: Path) -> Picked:
    """Return the network of a checkpoint, the preferred one if it holds several.

    Parameters
    ----------
    contents : object
        As read from the file: nested dictionaries with tensors.
    path : Path
        The file, for messages.

    Returns
    -------
    Picked

    Raises
    ------
    WeightsError
        If there is no complete network, or several with equal preference.
    """
    groups = list(_flatten(contents, path))
    names = [f"{place}{name}" for place, tensors in groups for name in tensors]
    if not names:
        raise WeightsError(f"{path}: contains no dictionary of named tensors")
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
            f"{path}: contains several networks, {several}, and nothing says which to use; save "
            "only one"
        )
    return Picked(
        networks[best],
        best.rstrip("."),
        tuple(place.rstrip(".") or "the outermost" for place in places if place != best),
    )


def _flatten(contents: Any, path: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the key of each nested dictionary that contains tensors, and its tensors by name."""
    pending: list[tuple[str, Any, int]] = [("", contents, 0)]
    while pending:
        place, value, depth = pending.pop()
        if not isinstance(value, Mapping):
            continue
        if depth == _DEEPEST:
            raise WeightsError(f"{path}: is nested more than {_DEEPEST} levels deep")
        if tensors := {str(key): item for key, item in value.items() if isinstance(item, Tensor)}:
            yield place, tensors
        inner = [(f"{place}{key}.", item, depth + 1) for key, item in value.items()]
        pending += reversed(inner)


def _networks(
    groups: Iterable[tuple[str, dict[str, Tensor]]],
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the key of each network, and its tensors by their names in the network."""
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
        "contains LoRA adapters without their base network; merge them into it (in PEFT, "
        "`merge_and_unload()`) and save the result"
    ),
    r"^base_model\.model\.|\.base_layer\.|adapter|modules_to_save"
    r"|(?:^|[._])(?:ia3|oft|boft|vera|hada|lokr)_": (
        "contains adapters (PEFT), such as LoRA, without their base network; merge them into it "
        "and save the result"
    ),
    r"(?:^|[._])(?:qweight|qzeros|SCB|absmax|quant_state|quant_map|_packed_params|zero_point)\b": (
        "contains quantised weights; save the network in float32, float16 or bfloat16"
    ),
}
"""Patterns of tensor names that do not occur in plain networks, and the messages for them."""


def _no_network(names: list[str]) -> str | None:
    """Return why tensors are not a complete plain network; None if no name suggests this."""
    for sign, reason in _SIGNS.items():
        if any(re.search(sign, name) for name in names):
            return reason
    return None


def _rank(place: str, places: list[str]) -> int:
    """Return the preference of a network by those parts of its key that not all networks share."""
    shared = set.intersection(*(set(other.split(".")) for other in places))
    own = [name for name in place.split(".") if name and name not in shared]
    if any(_LAST.fullmatch(name) for name in own):
        return len(_PREFERRED) + 1
    ranks = [rank for name in own for rank, what in enumerate(_PREFERRED) if what.fullmatch(name)]
    return min(ranks, default=len(_PREFERRED))
