"""Resizing position embeddings to the patch grid of an image.

The interpolation is bicubic, but implementations differ:

- ``timm`` passes the new size and filters like Pillow: Keys' cubic with a = -1/2, widened when the
  grid shrinks (antialiasing), truncated and renormalised at the border.
- ``as_released``, the released code of DINO, iBOT and DINOv2, passes the scale factor
  (n + 0.1) / N from N to n patches; the 0.1 avoids rounding down. The grid is sampled at
  (i + 1/2) N / (n + 0.1) - 1/2, slightly off the patch centres, by Keys' cubic with a = -3/4,
  without antialiasing, repeating the border. The code for DINOv2 with registers passes the size
  and antialiases, like timm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as functional
from torch import Tensor

from lightcluster.extraction.backbones.protocol import Positions

if TYPE_CHECKING:
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

OFFSET = 0.1
"""The offset that the released code adds to the number of patches per side."""


def resize_as_released(cells: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resize a grid of embeddings as in the released code of DINO.

    Parameters
    ----------
    cells : Tensor float32 [1, old rows * old columns, D]
        Row-major.
    old, new : (int, int)
        Rows and columns.

    Returns
    -------
    Tensor float32 [1, new rows * new columns, D]
    """
    planes = cells.reshape(1, *old, -1).permute(0, 3, 1, 2)
    factors = [(after + OFFSET) / before for before, after in zip(old, new, strict=True)]
    resized = functional.interpolate(planes, scale_factor=factors, mode="bicubic")
    return resized.flatten(2).transpose(1, 2)


def embed_positions(model: VisionTransformer, patches: Tensor, positions: Positions) -> Tensor:
    """Prepend the prefix tokens to the patches, and add the position embedding.

    Parameters
    ----------
    model : VisionTransformer
        Built with ``dynamic_img_size``.
    patches : Tensor [B, rows, columns, D]
        Output of its patch embedding.
    positions : {"timm", "as_released"}
        How the embedding is resized.

    Returns
    -------
    Tensor [B, P + T, D]
    """
    grid = (patches.shape[1], patches.shape[2])
    trained = cast("tuple[int, int]", cast("PatchEmbed", model.patch_embed).grid_size)
    like_timm = positions == "timm" or model.reg_token is not None
    if like_timm or model.pos_embed is None or grid == trained:
        return model._pos_embed(patches)
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    of_prefix, cells = model.pos_embed[:, :prefix], model.pos_embed[:, prefix:]
    tokens = patches.flatten(1, 2) + resize_as_released(cells, trained, grid)
    if model.cls_token is None:
        return tokens
    first = model.cls_token + of_prefix if prefix else model.cls_token
    return torch.cat([first.expand(len(tokens), -1, -1), tokens], dim=1)
