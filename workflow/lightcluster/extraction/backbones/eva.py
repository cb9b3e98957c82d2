"""Transformers of timm with rotary positions: DINOv3, EVA-02, PE, ROPE-ViT and similar models.

The queries and keys of a patch are rotated, pair of features by pair, by angles that its row and
column determine (rotary position embedding). EVA, which has embedded positions only, has the same
class in timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Any

from lightcluster.extraction.backbones.transformer import TransformerBackbone, TransformerFamily

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lightcluster.extraction.backbones.blocks import Place


class EvaBackbone(TransformerBackbone):
    """An `Eva`; embedded positions, where it has them as well, are resized as in timm."""

    def _embed(self, images: Tensor) -> tuple[Tensor, Iterable[Place]]:
        from lightcluster.extraction.backbones.blocks import Place

        model = self.model
        x, rotation = model._pos_embed(model.patch_embed(images))
        if model.rope_mixed:  # the angles differ from block to block
            places: Iterable[Place] = (Place(rotation=of_block) for of_block in rotation)
        else:
            places = repeat(Place(rotation=rotation))
        return model.norm_pre(x), places


class Evas(TransformerFamily):
    """Transformers with rotary positions."""

    summary = (
        "those with rotary positions, such as vit_small_patch16_dinov3.lvd1689m, "
        "vit_pe_spatial_base_patch16_512.fb or eva02_small_patch14_224.mim_in22k"
    )
    options: Mapping[str, Any] = {"dynamic_img_size": True, "dynamic_img_pad": False}
    backbone = EvaBackbone

    def accepts(self, network: nn.Module) -> bool:
        """Return whether a network is an `Eva`."""
        from timm.models.eva import Eva

        return isinstance(network, Eva)

    def _convert(self, tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        from timm.models.eva import checkpoint_filter_fn

        return checkpoint_filter_fn(tensors, network)


EVAS = Evas()
