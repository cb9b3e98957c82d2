"""Vision Transformers of timm: DINO, iBOT, MAE, MoCo-v3, DINOv2, SigLIP 2, AIMv2 and others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Any, cast

from lightcluster.extraction.backbones.transformer import TransformerBackbone, TransformerFamily

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lightcluster.extraction.backbones.blocks import Place


class VisionTransformerBackbone(TransformerBackbone):
    """A `VisionTransformer`, whose positions are embedded in its tokens."""

    def _embed(self, images: Tensor) -> tuple[Tensor, Iterable[Place]]:
        from lightcluster.extraction.backbones.blocks import Place
        from lightcluster.extraction.backbones.positions import embed_positions

        model = self.model
        x = embed_positions(model, model.patch_embed(images), self.positions)
        return model.norm_pre(model.patch_drop(x)), repeat(Place())


class VisionTransformers(TransformerFamily):
    """Vision Transformers with embedded positions."""

    summary = (
        "Vision Transformers of timm with square patches, such as vit_small_patch8_224.dino, "
        "vit_base_patch16_224.mae or vit_small_patch14_reg4_dinov2.lvd142m"
    )
    options: Mapping[str, Any] = {"dynamic_img_size": True, "dynamic_img_pad": False}
    backbone = VisionTransformerBackbone

    def accepts(self, network: nn.Module) -> bool:
        """Return whether a network is a `VisionTransformer`."""
        from timm.models.vision_transformer import VisionTransformer

        return isinstance(network, VisionTransformer)

    def _convert(self, tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

        return checkpoint_filter_fn(tensors, cast("VisionTransformer", network))


VISION_TRANSFORMERS = VisionTransformers()
