"""The forward pass that all transformers share, and the families of timm's transformers.

The facets *query*, *key* and *value* are those of the patches with the heads concatenated, before
or after the rotation by position where there is one; *token* is the patches after the block. What
a block computes is described in `blocks`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightcluster.errors import WeightsError
from lightcluster.extraction.backbones.protocol import (
    Backbone,
    Facet,
    Features,
    Positions,
    Rotation,
)
from lightcluster.extraction.backbones.timm_family import TimmFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lightcluster.extraction.backbones.blocks import Place


_MISFITS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What timm's conversions raise for layouts that they do not expect."""


class TransformerBackbone(Backbone):
    """A transformer of timm in evaluation mode whose parameters never change.

    Parameters
    ----------
    model : nn.Module
        Built for images of any size, with values for all parameters and buffers (on the meta
        device, it can only be described).
    mean, std : sequence of float [3]
        Normalisation of the RGB channels, in [0, 1].
    positions : {"timm", "as_released"}
        How the position embedding is resized to the patch grid of an image; see `positions`.
    rotation : {"before", "after"}
        Whether the facets *query* and *key* are those before or after the rotation.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        positions: Positions = "timm",
        rotation: Rotation = "before",
    ) -> None:
        from lightcluster.extraction.backbones.blocks import number_of_heads

        self.model = cast("Any", model.eval().requires_grad_(False))
        embeds = getattr(self.model, "embeds", None)  # of NaFlex
        self.patch_size = (embeds or self.model.patch_embed).patch_size[0]
        self.has_class_token: bool = (embeds or self.model).cls_token is not None
        self.dim: int = self.model.embed_dim
        self.depth: int = len(self.model.blocks)
        self.heads: int = number_of_heads(self.model.blocks[0])
        self.prefix_tokens: int = self.model.num_prefix_tokens
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        self.positions = positions
        self.rotation = rotation
        self.rotary = getattr(self.model, "rope", None) is not None

    @property
    def device(self) -> torch.device:
        """Device of the parameters, on which the images must be."""
        return cast("torch.device", next(self.model.parameters()).device)

    @abstractmethod
    def _embed(self, images: Tensor) -> tuple[Tensor, Iterable[Place]]:
        """Return the tokens [B, P + T, D] before the first block, and the place of each block."""

    def _compute(
        self,
        images: Tensor,
        facets: Sequence[Facet],
        layers: Sequence[int],
        precision: torch.dtype,
    ) -> list[Features]:
        """Compute :meth:`forward` for valid facets and for blocks in ``0 … depth - 1``.

        Unless the tokens of the last block are requested, only its class token is needed.
        Attention, projection and MLP of the last block are then computed for this single row,
        which is exact up to rounding and saves most of the block.
        """
        from lightcluster.extraction.backbones.attention import (
            attention_received,
            concatenate_heads,
        )
        from lightcluster.extraction.backbones.blocks import open_block
        from lightcluster.extraction.precision import autocast

        last, prefix = self.depth - 1, self.prefix_tokens
        only_class_token = self.has_class_token and not ("token" in facets and last in layers)
        collected: dict[int, tuple[dict[Facet, Tensor], Tensor]] = {}

        with autocast(images.device, precision):
            x, places = self._embed(images)
            for index, (block, place) in enumerate(zip(self.model.blocks, places, strict=False)):
                rows = 1 if index == last and only_class_token else x.shape[1]
                x, heads = open_block(block, x, rows, place)
                if index in layers:
                    inner: dict[Facet, Tensor] = {
                        "query": heads.query, "key": heads.key, "value": heads.value
                    }  # fmt: skip
                    if self.rotation == "after":
                        inner |= {"query": heads.rotated_query, "key": heads.rotated_key}
                    found = {
                        name: concatenate_heads(inner[name][:, :, prefix:])
                        for name in inner.keys() & facets
                    }
                    if "token" in facets:
                        tokens = self._final_norm(x) if index == last else x
                        found["token"] = tokens[:, prefix:].float()
                    received = attention_received(
                        heads.rotated_query, heads.rotated_key, self.has_class_token, place.bias
                    )
                    collected[index] = found, received[:, prefix:]
            final = self._final_norm(x)

        cls = final[:, 0] if self.has_class_token else final[:, prefix:].float().mean(dim=1)
        return [
            Features({name: found[name] for name in facets}, cls.float(), attention)
            for found, attention in (collected[layer] for layer in layers)
        ]

    def _final_norm(self, x: Tensor) -> Tensor:
        """Apply the final normalisation, which is ``fc_norm`` in models with pooling."""
        return cast("Tensor", self.model.fc_norm(self.model.norm(x)))


class TransformerFamily(TimmFamily):
    """Transformers of timm with one kind of embedding and positions.

    Attributes
    ----------
    backbone : type of TransformerBackbone
    """

    backbone: type[TransformerBackbone]

    @abstractmethod
    def _convert(self, tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Convert published layouts as timm does; this also resizes embeddings of positions."""

    def translate(
        self, tensors: Mapping[str, Tensor], network: nn.Module, path: Path
    ) -> dict[str, Tensor]:
        """Convert the parameters of a checkpoint in a published layout; see `layouts`.

        A position embedding for another grid is interpolated.
        """
        from lightcluster.extraction.backbones.layouts import (
            check_size,
            fit_names,
            has_blocks,
            name_as_timm,
        )

        expected = network.state_dict()
        named = name_as_timm(tensors, path)
        if not has_blocks(named):  # a layout that timm converts as a whole
            with suppress(*_MISFITS):
                named = self._convert(dict(named), network)
        prefix = cast("int", network.num_prefix_tokens)
        others = 0 if getattr(network, "no_embed_class", False) else prefix
        check_size(named or tensors, expected, others, path)
        try:
            converted = self._convert(dict(named), network)
        except _MISFITS as error:
            raise WeightsError(
                f"{path}: its layout cannot be converted for this model ({error})"
            ) from error
        return fit_names(converted, expected, path)

    def objection_to(self, network: nn.Module) -> str | None:
        """Return why a network cannot be used: its patches, blocks or attention."""
        from timm.layers.patch_embed import PatchEmbed

        from lightcluster.extraction.backbones.blocks import objection_to

        patches = getattr(network, "patch_embed", None)
        if patches is not None and type(patches) is not PatchEmbed:
            return (
                f"its patches are the output of a {type(patches).__name__}, not of one projection"
            )
        size = (patches or cast("Any", network).embeds).patch_size
        if len(set(size)) > 1:
            return f"its patches are not square but {size[0]} x {size[1]}"
        reasons = (objection_to(block) for block in cast("Any", network).blocks)
        return next(filter(None, reasons), None)

    def open(
        self,
        network: nn.Module,
        device: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        positions: Positions = "timm",
        rotation: Rotation = "before",
    ) -> TransformerBackbone:
        """Return the backbone of a network, on a device."""
        published = self.published(network)
        compute_buffers(network)
        return self.backbone(
            network.to(device), mean or published.mean, std or published.std, positions, rotation
        )


def compute_buffers(network: nn.Module) -> None:
    """Compute what no weights file holds, such as the frequencies of rotary positions.

    The values of these buffers are missing in a network that was built on the meta device. A
    network that has no parameters either is left as it is.
    """
    import torch

    if any(parameter.is_meta for parameter in network.parameters()):
        return
    for module in network.modules():
        missing = {name: buffer for name, buffer in module.named_buffers(recurse=False)
                   if buffer.is_meta}  # fmt: skip
        for name, buffer in missing.items():
            setattr(module, name, torch.empty_like(buffer, device="cpu"))
        if missing:
            cast("Any", module).init_non_persistent_buffers()
