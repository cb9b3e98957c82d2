"""Transformers of timm with relative positions: BEiT, BEiTv2 and relative-position ViTs.

The attention adds a bias to the product of a query and a key, which depends on how many rows and
columns their patches are apart. The table of biases of a block is resized to the patch grid of an
image as timm does when it is told a new image size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from functools import lru_cache, reduce
from operator import add
from typing import TYPE_CHECKING, Any, cast

from lightcluster.extraction.backbones.transformer import TransformerBackbone, TransformerFamily

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lightcluster.extraction.backbones.blocks import Place

Grid = tuple[int, int]

_KEPT = 16
"""Number of patch grids whose tables of biases are kept."""


class RelativeBackbone(TransformerBackbone):
    """A transformer with a table of biases in each block, one for all blocks, or both."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.model.patch_embed.strict_img_size = False
        shared = self._shared()
        self._tables = [
            [_Table(module, self.prefix_tokens) for module in (own, shared) if module is not None]
            for own in map(self._own, self.model.blocks)
        ]

    @abstractmethod
    def _own(self, block: Any) -> nn.Module | None:
        """Return the module with the table of a block, if it has one."""

    @abstractmethod
    def _shared(self) -> nn.Module | None:
        """Return the module with the table of all blocks, if there is one."""

    def _embed(self, images: Tensor) -> tuple[Tensor, Iterable[Place]]:
        import torch
        from timm.layers.pos_embed import resample_abs_pos_embed

        from lightcluster.extraction.backbones.blocks import Place

        model = self.model
        grid = (images.shape[2] // self.patch_size, images.shape[3] // self.patch_size)
        x = model.patch_embed(images)
        if model.cls_token is not None:
            x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1)
        if (positions := getattr(model, "pos_embed", None)) is not None:
            trained = model.patch_embed.grid_size
            x = x + resample_abs_pos_embed(positions, grid, trained, self.prefix_tokens)
        return x, (
            Place(bias=reduce(add, (table.biases(grid) for table in tables)) if tables else None)
            for tables in self._tables
        )


class BeitBackbone(RelativeBackbone):
    """A `Beit`."""

    def _own(self, block: Any) -> nn.Module | None:
        module: nn.Module = block.attn
        return None if block.attn.relative_position_bias_table is None else module

    def _shared(self) -> nn.Module | None:
        module: nn.Module | None = self.model.rel_pos_bias
        return module


class RelPosBackbone(RelativeBackbone):
    """A `VisionTransformerRelPos`."""

    def _own(self, block: Any) -> nn.Module | None:
        module: nn.Module | None = block.attn.rel_pos
        return module

    def _shared(self) -> nn.Module | None:
        module: nn.Module | None = self.model.shared_rel_pos
        return module


class _Table:
    """The biases of a module, by the distance of two patches.

    Parameters
    ----------
    module : nn.Module
        timm's: with a table, or with a small network that computes it from the distances.
    prefix : int
        Number of tokens that are no patches, 0 or 1.
    """

    def __init__(self, module: Any, prefix: int) -> None:
        self._module, self._prefix = module, prefix
        self._table = lru_cache(_KEPT)(self._resized)

    def biases(self, grid: Grid) -> Tensor:
        """Return the bias of each pair of tokens, [h, N, N], for a patch grid."""
        table, others = self._table(grid)
        pairs = biases_of_pairs(table, grid, self._prefix)
        if others is not None:
            from_class_token, to_class_token, itself = others
            pairs[:, 0] = from_class_token.unsqueeze(1)
            pairs[:, :, 0] = to_class_token.unsqueeze(1)
            pairs[:, 0, 0] = itself
        return pairs

    def _resized(self, grid: Grid) -> tuple[Tensor, Tensor | None]:
        """Return the table [2 rows - 1, 2 columns - 1, h], and biases [3, h] of the class token."""
        import torch
        from timm.layers.pos_embed_rel import (
            gen_relative_log_coords,
            resize_rel_pos_bias_table,
        )

        module, shape = self._module, (2 * grid[0] - 1, 2 * grid[1] - 1)
        table = getattr(module, "relative_position_bias_table", None)
        if table is not None:
            extra = 3 * self._prefix
            flat = resize_rel_pos_bias_table(
                table, grid, (shape[0] * shape[1] + extra, table.shape[1]), module.window_size
            )
            cells = flat[: len(flat) - extra].unflatten(0, shape)
            return cells, flat[-3:] if extra else None
        device = next(module.parameters()).device
        with torch.autocast(device.type, enabled=False):
            distances = gen_relative_log_coords(
                grid, module.pretrained_window_size, module.mode, device, torch.float32
            )
            cells = module.bias_act(module.mlp(distances))
        return cells if module.bias_gain is None else module.bias_gain * cells, None


def biases_of_pairs(table: Tensor, grid: Grid, prefix: int) -> Tensor:
    """Return the bias of each pair of patches by their distance.

    Parameters
    ----------
    table : Tensor [2 rows - 1, 2 columns - 1, h]
        By row of the query minus row of the key plus rows - 1, and likewise for columns.
    grid : (int, int)
        Rows and columns.
    prefix : int
        Number of tokens before the patches; pairs with them have no bias.

    Returns
    -------
    Tensor [h, prefix + rows * columns, prefix + rows * columns]
        By query and key.
    """
    rows, columns = grid
    # by head, descending distance in rows, column of the query and column of the key
    by_rows = table.permute(2, 0, 1).flip(1).unfold(2, columns, 1).flip(3)
    count = prefix + rows * columns
    heads = table.shape[2]
    pairs = table.new_zeros(heads, count, count)
    cells = pairs[:, prefix:, prefix:].view(heads, rows, columns, rows, columns)
    for row in range(rows):
        cells[:, row] = by_rows[:, rows - 1 - row : 2 * rows - 1 - row].transpose(1, 2)
    return pairs


class Beits(TransformerFamily):
    """BEiT and BEiTv2."""

    summary = "BEiT, such as beitv2_base_patch16_224.in1k_ft_in22k"
    options: Mapping[str, Any] = {}
    backbone = BeitBackbone

    def accepts(self, network: nn.Module) -> bool:
        """Return whether a network is a `Beit`."""
        from timm.models.beit import Beit

        return isinstance(network, Beit)

    def _convert(self, tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        from timm.models.beit import checkpoint_filter_fn

        return checkpoint_filter_fn(tensors, network)


class RelPosTransformers(TransformerFamily):
    """Vision Transformers with relative positions."""

    summary = "those with relative positions, such as vit_relpos_small_patch16_224.sw_in1k"
    options: Mapping[str, Any] = {}
    backbone = RelPosBackbone

    def accepts(self, network: nn.Module) -> bool:
        """Return whether a network is a `VisionTransformerRelPos`."""
        from timm.models.vision_transformer_relpos import VisionTransformerRelPos

        return isinstance(network, VisionTransformerRelPos)

    def _convert(self, tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        from timm.models.vision_transformer_relpos import checkpoint_filter_fn

        return cast("Any", checkpoint_filter_fn)(tensors, network)  # type: ignore[no-any-return]


BEITS, REL_POS_TRANSFORMERS = Beits(), RelPosTransformers()
