"""The transformer blocks of timm: queries, keys, values and output of each kind.

With q, k, v the projections of the tokens, P the attention including its output projection, and s
a layer scale where there is one, a block computes

- before norm: x <- x + s1 P(norm1(x)), then x <- x + s2 mlp(norm2(x));
- after norm: x <- x + norm1(P(x)), then x <- x + norm2(mlp(x));
- parallel: x <- x + s (P(norm(x)) + mlp(norm(x))).

Attention modules differ in how the projections are stored (one matrix or three, with biases of
their own), in norms of queries and keys, in a norm or gate before the output projection, in
rotations and biases by position, and in sharing keys and values among heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lightcluster.extraction.backbones.attention import attend
from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

ensure_torchvision_operators()

from timm.layers.attention import Attention, AttentionRope  # noqa: E402
from timm.layers.diff_attention import DiffAttention  # noqa: E402
from timm.layers.pos_embed_sincos import apply_rot_embed_cat  # noqa: E402
from timm.models import beit, eva, vision_transformer, vision_transformer_relpos  # noqa: E402


class Place(NamedTuple):
    """What the attention of a block knows of the positions of the tokens.

    Attributes
    ----------
    rotation : Tensor [..., T, 2 d] or None
        Sines and cosines by which queries and keys of the patches are rotated.
    bias : Tensor [h, N, N] or None
        Added to the scaled products of queries and keys.
    """

    rotation: Tensor | None = None
    bias: Tensor | None = None


class Heads(NamedTuple):
    """Queries, keys and values of the attention of a block; all [B, h, N, d].

    Attributes
    ----------
    query, key, value : Tensor
        After the norms of queries and keys, if the block has them; before the rotation.
    rotated_query, rotated_key : Tensor
        As the attention compares them; the same without rotary positions.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    rotated_query: Tensor
    rotated_key: Tensor


def open_block(block: nn.Module, x: Tensor, rows: int, place: Place) -> tuple[Tensor, Heads]:
    """Compute one transformer block, and return its queries, keys and values as well.

    Parameters
    ----------
    block : nn.Module
        One of timm's; see `objection_to`.
    x : Tensor [B, N, D]
        Tokens before the block.
    rows : int
        Number of leading tokens for which the output is computed; they attend to all N tokens.
    place : Place

    Returns
    -------
    output : Tensor [B, rows, D]
    heads : Heads
    """
    return _KINDS[type(block)](block, x, rows, place)


def objection_to(block: nn.Module) -> str | None:
    """Return why a block cannot be computed here; None if it can."""
    if type(block) in _REFUSED:
        return _REFUSED[type(block)]
    if type(block) not in _KINDS:
        return f"its blocks are of an unknown kind, {type(block).__name__}"
    attention = getattr(block, "attn", None)
    if attention is not None and type(attention) not in _ATTENTIONS:
        kind = type(attention).__name__
        return _REFUSED.get(type(attention)) or f"its attention is of an unknown kind, {kind}"
    return None


def number_of_heads(block: nn.Module) -> int:
    """Return the number of query heads of a block."""
    return cast("Any", getattr(block, "attn", block)).num_heads  # type: ignore[no-any-return]


def _norm_before(block: Any, x: Tensor, rows: int, place: Place) -> tuple[Tensor, Heads]:
    mixed, heads = _attention(block.attn, block.norm1(x), rows, place)
    output = x[:, :rows] + _scale(block, 1, mixed)
    return output + _scale(block, 2, block.mlp(block.norm2(output))), heads


def _norm_after(block: Any, x: Tensor, rows: int, place: Place) -> tuple[Tensor, Heads]:
    mixed, heads = _attention(block.attn, x, rows, place)
    output = x[:, :rows] + block.norm1(mixed)
    return output + block.norm2(block.mlp(output)), heads


def _parallel(block: Any, x: Tensor, rows: int, place: Place) -> tuple[Tensor, Heads]:
    """Compute a block of which one matrix holds the MLP's first layer and the projections."""
    hidden, *projected = block.in_proj(block.in_norm(x)).split(block.in_split, dim=-1)
    query, key, value = (_into_heads(part, block.head_dim) for part in projected)
    heads = _place_heads(block, query, key, value, place)
    mixed = attend(heads.rotated_query[:, :, :rows], heads.rotated_key, heads.value)
    mixed, hidden = mixed.transpose(1, 2).flatten(2), hidden[:, :rows]
    hidden = block.mlp_act(hidden if block.mlp_bias is None else hidden + block.mlp_bias)
    if block.out_proj is not None:
        change = block.out_proj(torch.cat([mixed, hidden], dim=-1))
    else:
        change = block.attn_out_proj(mixed) + block.mlp_out_proj(hidden)
    return x[:, :rows] + block.ls(change), heads


_KINDS: dict[type[nn.Module], Callable[[Any, Tensor, int, Place], tuple[Tensor, Heads]]] = {
    vision_transformer.Block: _norm_before,
    vision_transformer.ResPostBlock: _norm_after,
    vision_transformer.ParallelScalingBlock: _parallel,
    eva.EvaBlock: _norm_before,
    eva.EvaBlockPostNorm: _norm_after,
    beit.Block: _norm_before,
    vision_transformer_relpos.RelPosBlock: _norm_before,
    vision_transformer_relpos.ResPostRelPosBlock: _norm_after,
}
_ATTENTIONS = (
    Attention,
    AttentionRope,
    eva.EvaAttention,
    beit.Attention,
    vision_transformer_relpos.RelPosAttention,
)
_DIFFERENTIAL = "its attention is a difference of two, so that there is no single key of a patch"
_REFUSED: dict[type[nn.Module], str] = {
    vision_transformer.ParallelThingsBlock: "its blocks have several attentions side by side, so "
    "that there is no single key of a patch",
    vision_transformer.DiffParallelScalingBlock: _DIFFERENTIAL,
    DiffAttention: _DIFFERENTIAL,
}


def _attention(attention: Any, x: Tensor, rows: int, place: Place) -> tuple[Tensor, Heads]:
    """Return the output of an attention module for the first rows, and its heads."""
    heads = _place_heads(attention, *_project(attention, x), place)
    bias = None if place.bias is None else place.bias[:, :rows]
    mixed = attend(heads.rotated_query[:, :, :rows], heads.rotated_key, heads.value, bias)
    mixed = _apply(attention, "norm", mixed.transpose(1, 2).flatten(2))
    if getattr(attention, "gate", None) is not None:
        mixed = mixed * attention.gate(x[:, :rows]).sigmoid()
    return attention.proj(mixed), heads


def _project(attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values [B, h, N, d] as projected."""
    if attention.qkv is None:
        query, key, value = (
            _into_heads(projection(x), attention.head_dim)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        return query, key, value
    if getattr(attention, "q_bias", None) is None:
        projected = attention.qkv(x)
    else:
        biases = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        projected = functional.linear(x, attention.qkv.weight, biases)
    batch, count, _ = x.shape
    projected = projected.reshape(batch, count, 3, attention.num_heads, -1)
    query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
    return query, key, value


def _place_heads(attention: Any, query: Tensor, key: Tensor, value: Tensor, place: Place) -> Heads:
    """Normalise and rotate queries and keys, and repeat keys and values that heads share."""
    query, key = _apply(attention, "q_norm", query), _apply(attention, "k_norm", key)
    rotated_query, rotated_key = query, key
    if place.rotation is not None:
        prefix, half = attention.num_prefix_tokens, attention.rotate_half
        rotated_query = _rotate(query, place.rotation, prefix, half).type_as(value)
        rotated_key = _rotate(key, place.rotation, prefix, half).type_as(value)
    if (sharing := query.shape[1] // key.shape[1]) > 1:
        key, rotated_key, value = (
            part.repeat_interleave(sharing, dim=1) for part in (key, rotated_key, value)
        )
    return Heads(query, key, value, rotated_query, rotated_key)


def _rotate(heads: Tensor, rotation: Tensor, prefix: int, half: bool) -> Tensor:
    """Rotate pairs of features of the patches; the prefix tokens have no position."""
    rotated = apply_rot_embed_cat(heads[:, :, prefix:], rotation, half=half)
    return torch.cat([heads[:, :, :prefix], rotated], dim=2)


def _into_heads(projected: Tensor, width: int) -> Tensor:
    """Split [B, N, h d] into heads, [B, h, N, d]."""
    batch, count, _ = projected.shape
    return projected.reshape(batch, count, -1, width).transpose(1, 2)


def _scale(block: Any, number: int, x: Tensor) -> Tensor:
    """Apply a layer scale, which timm stores as ``gamma_1`` or ``ls1``; not every block has one."""
    gamma = getattr(block, f"gamma_{number}", None)
    return _apply(block, f"ls{number}", x) if gamma is None else gamma * x


def _apply(module: Any, name: str, x: Tensor) -> Tensor:
    """Apply a part of a module if it has such a part."""
    part = getattr(module, name, None)
    return x if part is None else part(x)
