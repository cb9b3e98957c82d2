"""The encoder of CAPI, made of the blocks of timm's `Eva`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

ensure_torchvision_operators()

from timm.layers.mlp import Mlp  # noqa: E402
from timm.layers.norm import RmsNorm  # noqa: E402
from timm.models.eva import Eva  # noqa: E402

_EPS = 1e-5
_FREQUENCIES = (7e-4, 7.0)
"""Lowest and highest, in periods per side of an image."""


class Capi(Eva):
    """The encoder, without biases except in the patch projection.

    Parameters
    ----------
    **arguments
        Of `Eva`: sizes, and ``num_reg_tokens``, a multiple of 4.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(
            **{
                "class_token": False, "qkv_bias": False, "qkv_fused": False, "attn_type": "rope",
                "rope_rotate_half": True, "use_abs_pos_emb": False, "use_fc_norm": False,
                "norm_layer": partial(RmsNorm, eps=_EPS), **arguments,
            }
        )  # fmt: skip
        dim, depth = self.embed_dim, len(self.blocks)
        for block in cast("Any", self.blocks):
            block.attn.num_prefix_tokens = 0  # the registers are rotated as well
            block.attn.proj = nn.Linear(dim, dim, bias=False)
            block.mlp = Mlp(dim, 4 * dim, bias=False)
        head_dim = dim // arguments["num_heads"]
        registers: int = self.num_prefix_tokens
        self.rope, self.rope_mixed = Angles(head_dim, depth, registers), True
        self.norm = RmsNorm(dim, eps=_EPS, affine=False)


class Angles(nn.Module):
    """Sines and cosines of the angles by which each block rotates registers and patches.

    Parameters
    ----------
    dim : int
        Features of a head.
    depth, registers : int
    """

    def __init__(self, dim: int, depth: int, registers: int) -> None:
        super().__init__()
        low, high = _FREQUENCIES
        falling = high * (high / low) ** torch.linspace(0, -1, dim // 4)
        paired = 2 * math.pi * torch.cat([falling, falling])
        of_axes = torch.stack([torch.cat([paired, 0 * paired]), torch.cat([0 * paired, paired])])
        self.freqs = nn.Parameter(of_axes.repeat(depth, 1, 1))
        self.registers = registers

    def get_embed(self, shape: Sequence[int]) -> Tensor:
        """Return the sines and cosines [depth, registers + patches, 2 dim] for a patch grid.

        The rows and columns of the patches go from 0 to 1; the registers are spaced evenly along
        the border, clockwise from the first patch if rows were drawn to the right.
        """
        axes = [torch.linspace(0, 1, count, device=self.freqs.device) for count in shape]
        patches = torch.cartesian_prod(*axes)
        along = torch.arange(self.registers // 4, device=patches.device) / (self.registers // 4)
        none, full = torch.zeros_like(along), torch.ones_like(along)
        sides = [(along, none), (full, along), (1 - along, full), (none, 1 - along)]
        border = torch.cat([torch.stack(side, dim=1) for side in sides])
        angles = torch.cat([border * patches.amax(dim=0), patches]) @ self.freqs
        return torch.cat([angles.sin(), angles.cos()], dim=-1)
