"""Converting parameters from published checkpoint layouts to timm's names."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lightcluster.errors import WeightsError
from lightcluster.sections import shorten

_UNUSED = re.compile(
    r"^(?:head\.|head_dist\.|dino_head\.|ibot_head\.|rasa_head\.|lm_head\.|projectors\.|decoder"
    r"|pooler\.|mask_token$|masked_embed$|local_cls_norm\.|rope_embed\.periods$)"
    r"|\.(?:relative_position_index|num_batches_tracked)$"
)
"""Parameters to drop: classifiers, other heads, mask tokens, decoders, norms that only training
uses, and buffers that the network computes."""


def name_as_timm(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Rename the parameters of a network as in timm.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Parameters in the layout of timm, DINO, iBOT, MAE, MoCo-v3, DINOv2 and Franca (also with
        chunks of blocks), DINOv3, CAPI, BEiT, torchvision, mmpretrain, or Hugging Face's ViT,
        ViT-MAE, DINOv2, DINOv2 with registers and DINOv3. Other names are kept.
    path : Path
        The file, for messages.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    WeightsError
        If a parameter occurs twice, or blocks or parts of a matrix are missing.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        timm = _rename(name)
        if timm in renamed:
            raise WeightsError(f"{path}: contains {timm} twice, once as {name}")
        if not _UNUSED.search(timm):
            renamed[timm] = tensor
    if any(_CHUNKED.match(name) for name in renamed):
        renamed = _join_chunks(renamed, path)
    return _split_registers(_stack_angles(_fuse(_mask_biases(renamed), path)))


def has_blocks(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether parameters have the names of timm's blocks."""
    return any(name.startswith("blocks.") for name in tensors)


_RENAMED = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        # CAPI
        (r"^patch_embed\.(weight|bias)$", r"patch_embed.proj.\1"),
        (r"^registers$", "reg_token"),
        (r"^encoder\.blocks\.", "blocks."),
        (r"^(blocks\.\d+)\.residual([12])\.norm\.", r"\1.norm\2."),
        (r"^(blocks\.\d+)\.residual1\.fn\.", r"\1.attn."),
        (r"^(blocks\.\d+)\.residual2\.fn\.", r"\1.mlp."),
        # Hugging Face
        (r"^embeddings\.patch_embeddings\.(?:projection\.)?", "patch_embed.proj."),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
        (r"^(?:encoder\.layer|(?:model\.)?layers?)\.(\d+)\.(?=attention|layernorm|intermediate|output|norm"
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
        (r"^storage_tokens$", "register_tokens"),  # DINOv3
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
        # DINOv2, DINOv3, and DeiT III
        (r"^(blocks\.\d+(?:\.\d+)?)\.mlp\.w1\.", r"\1.mlp.gate_proj."),
        (r"^(blocks\.\d+(?:\.\d+)?)\.mlp\.w2\.", r"\1.mlp.up_proj."),
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
    """Renumber the blocks in DINOv2's chunks by their position in the whole network.

    In DINOv2, a chunk contains placeholders for all preceding blocks, so the second number is the
    position in the network. If the numbers start at 0 in each chunk instead, the chunks are
    concatenated.
    """
    found = sorted({(int(m[1]), int(m[2])) for name in tensors if (m := _CHUNKED.match(name))})
    numbers = [inner for _, inner in found]
    if sorted(numbers) != list(range(len(found))):  # they start at 0 in each chunk
        counts = [numbers[:place].count(0) for place in range(1, len(found) + 1)]
        starts = [place for place, inner in enumerate(numbers) if inner == 0]
        if not starts or any(
            inner != place - starts[count - 1]
            for place, (inner, count) in enumerate(zip(numbers, counts, strict=True))
        ):
            raise WeightsError(f"{path}: some blocks are missing; its chunks contain {found}")
    count_through = sorted(numbers) == list(range(len(found)))
    place_of = {pair: pair[1] if count_through else place for place, pair in enumerate(found)}
    joined: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if m := _CHUNKED.match(name):
            name = f"blocks.{place_of[int(m[1]), int(m[2])]}.{name[m.end() :]}"
        joined[name] = tensor
    return joined


_MASK = ".bias_mask"


def _mask_biases(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Apply the masks of DINOv3's biases, by which keys have none."""
    masked = {name: tensor for name, tensor in tensors.items() if not name.endswith(_MASK)}
    for name in tensors.keys() - masked.keys():
        bias = name.removesuffix(_MASK) + ".bias"
        if bias in masked:
            masked[bias] = torch.where(tensors[name] == 0, 0, masked[bias])
    return masked


_ANGLES = "blocks.{}.attn.rope.freqs"


def _stack_angles(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join the frequencies of CAPI's rotations, of which each block stores its own."""
    if _ANGLES.format(0) not in tensors:
        return tensors
    names = list(itertools.takewhile(tensors.__contains__, map(_ANGLES.format, itertools.count())))
    others = {name: tensor for name, tensor in tensors.items() if name not in names}
    return {**others, "rope.freqs": torch.stack([tensors[name] for name in names])}


_PARTS = {
    re.compile(r"^(blocks\.\d+\.attn)\.(query|key|value)\.(weight|bias)$"): (
        "qkv", ("query", "key", "value"),
    ),
    re.compile(r"^(blocks\.\d+\.mlp)\.(gate_proj|up_proj)\.(weight|bias)$"): (
        "fc1", ("gate_proj", "up_proj"),
    ),
}  # fmt: skip
"""Matrices that timm stores as one, and the order of their parts in it."""

_QUERY_BIAS = re.compile(r"^blocks\.\d+\.attn\.query\.bias$")
_KEY_BIAS = re.compile(r"^blocks\.\d+\.attn\.key\.bias$")


def _fuse(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Join the matrices of queries, keys and values, and those of gated MLPs, as timm does.

    In Hugging Face's DINOv3, keys have no bias, and an MLP without gate consists of `up_proj` and
    `down_proj`.
    """
    tensors = dict(tensors)
    if not any(_KEY_BIAS.match(name) for name in tensors):
        for name in [name for name in tensors if _QUERY_BIAS.match(name)]:
            tensors[name.replace(".query.", ".key.")] = torch.zeros_like(tensors[name])
    gated = any(".mlp.gate_proj." in name for name in tensors)
    fused: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, (whole, parts) in _PARTS.items():
            if not (m := pattern.match(name)):
                continue
            if m[2] == "up_proj" and not gated:
                fused[f"{m[1]}.{whole}.{m[3]}"] = tensor
            elif m[2] == parts[0]:
                names = [f"{m[1]}.{part}.{m[3]}" for part in parts]
                found = [tensors[part] for part in names if part in tensors]
                shapes = {part.shape for part in found}
                if len(found) < len(parts) or len(shapes) > 1:
                    raise WeightsError(
                        f"{path}: some of {', '.join(names)} are missing or of another shape"
                    )
                fused[f"{m[1]}.{whole}.{m[3]}"] = torch.cat(found)
            break
        else:
            fused[name] = tensor
    return fused


def _split_registers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the class token's position embedding to the token, as timm does for registers."""
    if "register_tokens" not in tensors:
        return tensors
    split = dict(tensors)
    split["reg_token"] = split.pop("register_tokens")
    position, start = split.get("pos_embed"), split.get("cls_token")
    if position is not None and start is not None and position.ndim == 3:
        split["cls_token"] = start + position[:, :1]
        split["pos_embed"] = position[:, 1:]
    return split


# ---- names of a network ----------------------------------------------------------------------


def fit_names(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Name and divide the parameters of a checkpoint as a network of timm does.

    timm's networks differ in the name of layer scales, in whether queries, keys and values have
    one matrix, and in whether keys have a bias.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Named as by `name_as_timm`, or as in the network.
    expected : mapping of str to Tensor
        Parameters of the network.
    path : Path
        The file, for messages.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    WeightsError
        If the checkpoint has biases that the network does not have.
    """
    fitted: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in expected:
            fitted[name] = tensor
        elif not (_UNUSED.search(name) or name.startswith("fc_norm.")):
            fitted |= _divide(name, tensor, expected, path)
    return fitted


_SCALE = re.compile(r"^(blocks\.\d+)\.ls([12])\.gamma$")


def _divide(
    name: str, tensor: Tensor, expected: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Return a parameter under the names that it has in a network, in parts if it has several."""
    start, _, end = name.rpartition(".")
    if (match := _SCALE.match(name)) and f"{match[1]}.gamma_{match[2]}" in expected:
        return {f"{match[1]}.gamma_{match[2]}": tensor}
    if start.endswith(".mlp.fc1") and f"{start}_g.{end}" in expected:
        gate, value = tensor.chunk(2)
        return {f"{start}_g.{end}": gate, f"{start}_x.{end}": value}
    if not start.endswith(".attn.qkv"):
        return {name: tensor}
    attention = start.removesuffix(".qkv")
    parts = dict(zip("qkv", tensor.chunk(3), strict=True))
    if end == "weight":
        whole = f"{attention}.q_proj.weight" not in expected
        return {name: tensor} if whole else {
            f"{attention}.{part}_proj.weight": value for part, value in parts.items()
        }  # fmt: skip
    fused = f"{attention}.q_bias" in expected
    named = {f"{attention}.{part}_bias" if fused else f"{attention}.{part}_proj.bias": value
             for part, value in parts.items()}  # fmt: skip
    surplus = [part for part, value in named.items() if part not in expected and value.any()]
    if surplus:
        raise WeightsError(
            f"{path}: has a bias, {name}, which backbone.model does not have; if timm has the same "
            "model with `_qkvb` in its name, use that"
        )
    return {part: value for part, value in named.items() if part in expected}


# ---- size ------------------------------------------------------------------------------------


def check_size(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], others: int, path: Path
) -> None:
    """Check that the parameters of a checkpoint belong to a network of the expected size.

    Parameters
    ----------
    tensors, expected : mapping of str to Tensor
        Parameters of the checkpoint and of the network, by their names in timm.
    others : int
        Number of positions in the network's embedding that belong to prefix tokens.
    path : Path
        The file, for messages.

    Raises
    ------
    WeightsError
        If the number or width of blocks, patch size, registers or channels differ, or if the
        position embedding is not a square grid.
    """
    found, wanted = describe_architecture(tensors), describe_architecture(expected)
    if found is not None and found != wanted:
        # timm would resample the patches and accept a network of another size
        raise WeightsError(
            f"{path}: contains {found}, but backbone.model has {wanted}; set backbone.model to the "
            "model of these weights"
        )
    if not has_blocks(tensors):
        raise WeightsError(
            f"{path}: contains a network of another kind or in an unknown layout; its tensors are "
            f"{shorten(sorted(tensors), _LISTED)}"
        )
    if reason := _no_grid(tensors, others):
        raise WeightsError(f"{path}: {reason}")


_LISTED = 3


def describe_architecture(state: Mapping[str, Tensor]) -> str | None:
    """Describe the size of a network by its parameters; None if they do not show it."""
    patches = state.get("patch_embed.proj.weight")
    blocks = {match[1] for name in state if (match := re.match(r"blocks\.(\d+)\.", name))}
    if patches is None or patches.ndim != 4 or not blocks:
        return None
    dim, channels, height, width = patches.shape
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    return (
        f"{len(blocks)} blocks of {dim} features with patches of {height} x {width}"
        + (f", {registers} register tokens" if registers else "")
        + (f", {channels} input channels" if channels != 3 else "")
    )


def _no_grid(tensors: Mapping[str, Tensor], others: int) -> str | None:
    """Return why a position embedding is not a square grid; None if it is, or is missing."""
    positions = tensors.get("pos_embed")
    if positions is None or "dist_token" in tensors:  # which has one more prefix token
        return None
    shape = list(positions.shape)
    if len(shape) != 3 or shape[0] != 1:
        return f"pos_embed is {shape}; it must be [1, positions, features]"
    grid = shape[1] - others
    if grid < 1 or math.isqrt(grid) ** 2 != grid:
        less = f" without those of {others} other token" + "s" * (others > 1) if others else ""
        return f"pos_embed is {shape}; its positions{less} must form a square, such as 14 x 14"
    return None
