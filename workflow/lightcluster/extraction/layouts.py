"""Checkpoints in the layouts in which networks are published, named as timm names parameters.

A checkpoint is a nest of dictionaries. Every place in it at which the projection of patches lies is
a network of its own: the student and the teacher of a self-distillation, weights and their moving
average. One is picked; its names are then translated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
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

_UNUSED = re.compile(
    r"^(?:head\.|head_dist\.|dino_head\.|ibot_head\.|mask_token$|masked_embed$|decoder|pooler\.)"
)
"""Classifiers, projection heads of self-distillation, what stands for masked patches, decoders."""


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


# ---- names -----------------------------------------------------------------------------------


def name_as_timm(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the parameters of a network under the names that timm has for them.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Of a network of timm, DINO, iBOT, MAE, MoCo-v3, DINOv2 (also in chunks of blocks),
        torchvision, mmpretrain, or Hugging Face's ViT, ViT-MAE, DINOv2 and DINOv2 with registers.
        Others are returned as they are.
    path : Path
        Named in messages.

    Raises
    ------
    WeightsError
        If they contradict each other.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        timm = _rename(name)
        if timm in renamed:
            raise WeightsError(f"{path}: holds {timm} twice, once as {name}")
        if not _UNUSED.match(timm):
            renamed[timm] = tensor
    if any(_CHUNKED.match(name) for name in renamed):
        renamed = _join_chunks(renamed, path)
    return _split_registers(_fuse(renamed, path))


_RENAMED = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        # Hugging Face
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
        (r"^(?:encoder\.layer|layers)\.(\d+)\.(?=attention|layernorm|intermediate|output|norm"
         r"|layer_scale|mlp)", r"blocks.\1."),
        (r"^(blocks\.\d+)\.attention\.(?:attention\.)?(query|key|value)\.", r"\1.attn.\2."),
        (r"^(blocks\.\d+)\.attention\.q_proj\.", r"\1.attn.query."),
        (r"^(blocks\.\d+)\.attention\.k_proj\.", r"\1.attn.key."),
        (r"^(blocks\.\d+)\.attention\.v_proj\.", r"\1.attn.value."),
        (r"^(blocks\.\d+)\.attention\.(?:output\.dense|o_proj)\.", r"\1.attn.proj."),
        (r"^(blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
        (r"^(blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
        (r"^(blocks\.\d+)\.intermediate\.dense\.", r"\1.mlp.fc1."),
        (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
        (r"^(blocks\.\d+)\.layer_scale([12])\.lambda1$", r"\1.ls\2.gamma"),
        (r"^(blocks\.\d+)\.mlp\.weights_in\.", r"\1.mlp.fc1."),
        (r"^(blocks\.\d+)\.mlp\.(?:weights_out|down_proj)\.", r"\1.mlp.fc2."),
        (r"^layernorm\.", "norm."),
        # torchvision
        (r"^conv_proj\.", "patch_embed.proj."),
        (r"^class_token$", "cls_token"),
        (r"^encoder\.pos_embedding$", "pos_embed"),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        (r"^(blocks\.\d+)\.ln_([12])\.", r"\1.norm\2."),
        (r"^(blocks\.\d+)\.self_attention\.in_proj_", r"\1.attn.qkv."),
        (r"^(blocks\.\d+)\.self_attention\.out_proj\.", r"\1.attn.proj."),
        (r"^(blocks\.\d+)\.mlp\.(?:linear_1|0)\.", r"\1.mlp.fc1."),
        (r"^(blocks\.\d+)\.mlp\.(?:linear_2|3)\.", r"\1.mlp.fc2."),
        (r"^encoder\.ln\.", "norm."),
        (r"^heads\.", "head."),
        # mmpretrain
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"^layers\.(\d+)\.(?=ln|attn|ffn)", r"blocks.\1."),
        (r"^(blocks\.\d+)\.ln([12])\.", r"\1.norm\2."),
        (r"^(blocks\.\d+)\.ffn\.layers\.0\.0\.", r"\1.mlp.fc1."),
        (r"^(blocks\.\d+)\.ffn\.layers\.1\.", r"\1.mlp.fc2."),
        (r"^ln1\.", "norm."),
        # DINOv2, and DeiT III
        (r"^(blocks\.\d+(?:\.\d+)?)\.mlp\.w12\.", r"\1.mlp.fc1."),
        (r"^(blocks\.\d+(?:\.\d+)?)\.mlp\.w3\.", r"\1.mlp.fc2."),
        (r"^(blocks\.\d+)\.gamma_([12])$", r"\1.ls\2.gamma"),
    )
)  # fmt: skip


def _rename(name: str) -> str:
    for pattern, timm in _RENAMED:
        name = pattern.sub(timm, name)
    return name


_CHUNKED = re.compile(r"^blocks\.(\d+)\.(\d+)\.")


def _join_chunks(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the blocks of DINOv2's chunks under their numbers in the whole network.

    In DINOv2 a chunk holds placeholders for all blocks before it, so that the second number counts
    through; where others count anew in each chunk, the chunks are put one after another.
    """
    found = sorted({(int(m[1]), int(m[2])) for name in tensors if (m := _CHUNKED.match(name))})
    numbers = [inner for _, inner in found]
    if sorted(numbers) != list(range(len(found))):  # they count anew in each chunk
        counts = [numbers[:place].count(0) for place in range(1, len(found) + 1)]
        starts = [place for place, inner in enumerate(numbers) if inner == 0]
        if not starts or any(
            inner != place - starts[count - 1]
            for place, (inner, count) in enumerate(zip(numbers, counts, strict=True))
        ):
            raise WeightsError(f"{path}: lacks blocks: those in its chunks are {found}")
    count_through = sorted(numbers) == list(range(len(found)))
    place_of = {pair: pair[1] if count_through else place for place, pair in enumerate(found)}
    joined: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if m := _CHUNKED.match(name):
            name = f"blocks.{place_of[int(m[1]), int(m[2])]}.{name[m.end() :]}"
        joined[name] = tensor
    return joined


_PARTS = {
    re.compile(r"^(blocks\.\d+\.attn)\.(query|key|value)\.(weight|bias)$"): (
        "qkv", ("query", "key", "value"),
    ),
    re.compile(r"^(blocks\.\d+\.mlp)\.(gate_proj|up_proj)\.(weight|bias)$"): (
        "fc1", ("gate_proj", "up_proj"),
    ),
}  # fmt: skip
"""Matrices that timm keeps as one, and the order of their parts in it."""


def _fuse(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return parameters with one matrix for queries, keys and values, and for gated perceptrons."""
    fused: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, (whole, parts) in _PARTS.items():
            if not (m := pattern.match(name)):
                continue
            if m[2] == parts[0]:
                names = [f"{m[1]}.{part}.{m[3]}" for part in parts]
                found = [tensors[part] for part in names if part in tensors]
                shapes = {part.shape for part in found}
                if len(found) < len(parts) or len(shapes) > 1:
                    raise WeightsError(
                        f"{path}: {', '.join(names)} are not all there, or not of one shape"
                    )
                fused[f"{m[1]}.{whole}.{m[3]}"] = torch.cat(found)
            break
        else:
            fused[name] = tensor
    return fused


def _split_registers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters with the class token's position in it, as timm has it with registers."""
    if "register_tokens" not in tensors:
        return tensors
    split = dict(tensors)
    split["reg_token"] = split.pop("register_tokens")
    position, start = split.get("pos_embed"), split.get("cls_token")
    if position is not None and start is not None and position.ndim == 3:
        split["cls_token"] = start + position[:, :1]
        split["pos_embed"] = position[:, 1:]
    return split
