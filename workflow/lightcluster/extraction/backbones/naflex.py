"""Transformers of timm for images of any size and aspect ratio (NaFlex), such as SigLIP 2's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Any, cast

from lightcluster.extraction.backbones.transformer import TransformerBackbone, TransformerFamily

if TYPE_CHECKING:
    from timm.models.naflexvit import NaFlexVit
    from torch import Tensor, nn

    from lightcluster.extraction.backbones.blocks import Place


class NaFlexBackbone(TransformerBackbone):
    """A `NaFlexVit`, given whole images; embedded positions are resized as in timm."""

    def _embed(self, images: Tensor) -> tuple[Tensor, Iterable[Place]]:
        from lightcluster.extraction.backbones.blocks import Place

        model = self.model
        x, grid = model.embeds(images)
        rotation: Any = None if model.rope is None else model.rope.get_embed(shape=grid)
        if model.rope_is_mixed:
            places: Iterable[Place] = (Place(rotation=of_block) for of_block in rotation)
        else:
            places = repeat(Place(rotation=rotation))
        return model.norm_pre(x), places


class NaFlexTransformers(TransformerFamily):
    """NaFlex transformers."""

    summary = "NaFlex transformers, such as naflexvit_so400m_patch16_siglip.v2_webli"
    options: Mapping[str, Any] = {}
    backbone = NaFlexBackbone

    def accepts(self, network: nn.Module) -> bool:
        """Return whether a network is a `NaFlexVit`."""
        from timm.models.naflexvit import NaFlexVit

        return isinstance(network, NaFlexVit)

    def _convert(self, tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        from timm.models.naflexvit import checkpoint_filter_fn

        return checkpoint_filter_fn(tensors, cast("NaFlexVit", network))


NAFLEX_TRANSFORMERS = NaFlexTransformers()
