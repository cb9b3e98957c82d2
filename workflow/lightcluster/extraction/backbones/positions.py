"""Position embeddings at the grid of an image, which is rarely the one they were trained at.

They are resized bicubically, and programs differ in how:

- ``timm`` gives the new size, and filters as Pillow does: Keys' cubic with a = -1/2, widened where
  the grid shrinks (antialiasing), cut off and normalised again at the border.
- ``as_released``, the programs of DINO, iBOT and DINOv2, gives the factor (n + 0.1) / N from N
  patches to n, the tenth against rounding; the grid is sampled at (i + 1/2) N / (n + 0.1) - 1/2,
  a little off what its centres correspond to, by Keys' cubic with a = -3/4, never widened, the
  border repeated. The program of DINOv2's models with registers gives the size and antialiases, as
  timm does.
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
"""What the released programs add to the number of patches of a side."""


def resize_as_released(cells: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resize a grid of embeddings as the released programs do.

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
    """Put the prefix tokens before the patches, and add the position embedding.

    Parameters
    ----------
    model : VisionTransformer
        With ``dynamic_img_size``.
    patches : Tensor [B, rows, columns, D]
        As its patch embedding returns them.
    positions : {"timm", "as_released"}

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
