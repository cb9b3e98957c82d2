"""Attention arithmetic that all families share.

Notation as in `protocol`; an image has ``N`` tokens, of which ``P`` are prefix tokens.
"""

from __future__ import annotations

from math import ceil

import torch
import torch.nn.functional as functional
from torch import Tensor

_SCORES_IN_CACHE = 2**22  # 8 MiB


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention.

    Parameters
    ----------
    query : Tensor [B, h, R, d]
    key, value : Tensor [B, h, N, d]
    bias : Tensor [h, R, N], optional
        Added to the scaled products.

    Returns
    -------
    Tensor [B, h, R, d]

    Notes
    -----
    On a CPU, torch's fused attention is no faster in bfloat16. Plain matrix products are, if the
    scores fit into the cache, so one image and a slice of its queries are computed at a time.
    """
    bias = None if bias is None else bias.to(query.dtype)
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    batch, heads, rows, width = query.shape
    mixed = query.new_empty(batch, rows, heads, width).transpose(1, 2)
    query, value = (query * width**-0.5).contiguous(), value.contiguous()
    key = key.contiguous().transpose(-2, -1)
    step = ceil(rows / ceil(heads * rows * key.shape[-1] / _SCORES_IN_CACHE))
    for image in range(batch):
        for start in range(0, rows, step):
            part = slice(start, start + step)
            scores = query[image, :, part] @ key[image]
            weights = (scores if bias is None else scores + bias[:, part]).softmax(dim=-1)
            mixed[image, :, part] = weights @ value[image]
    return mixed


def attention_received(
    query: Tensor, key: Tensor, class_token: bool, bias: Tensor | None = None
) -> Tensor:
    """Return the attention that each token receives, averaged over the heads.

    Parameters
    ----------
    query, key : Tensor [B, h, N, d]
    class_token : bool
        True: attention from the class token, which is the first; False: mean over all tokens.
    bias : Tensor [h, N, N], optional
        Added to the scaled products.

    Returns
    -------
    Tensor float32 [B, N]
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key = query.float() * query.shape[-1] ** -0.5, key.float()
        if class_token:
            scores = query[:, :, :1] @ key.transpose(-2, -1)
            scores = scores if bias is None else scores + bias[:, :1].float()
            return scores.softmax(dim=-1)[:, :, 0].mean(dim=1)
        received = []
        for q, k in zip(query, key, strict=True):  # one image at a time bounds the memory
            scores = q @ k.transpose(-2, -1)
            scores = scores if bias is None else scores + bias.float()
            received.append(scores.softmax(dim=-1).mean(dim=(0, 1)))
        return torch.stack(received)


def concatenate_heads(heads: Tensor) -> Tensor:
    """Concatenate the heads of [B, h, T, D / h] to float32 [B, T, D]."""
    return heads.transpose(1, 2).flatten(2).float()
