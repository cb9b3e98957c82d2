"""Plain Vision Transformers of timm: DINO, iBOT, MAE, MoCo-v3, DINOv2 and similar models.

With the notation of `protocol`, a block computes

    q, k, v = split(W_qkv norm1(x)),   x <- x + ls1 W_proj softmax(q k^T / sqrt(D / h)) v,
    x <- x + ls2 mlp(norm2(x)),

and the facets *query*, *key* and *value* are q, k and v of the patches with the heads
concatenated, *token* is x of the patches after the block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightcluster.errors import WeightsError
from lightcluster.extraction.backbones.protocol import Backbone, Facet, Features, Positions
from lightcluster.extraction.backbones.timm_family import TimmFamily

if TYPE_CHECKING:
    import torch
    from timm.layers.attention import Attention
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import Block, VisionTransformer
    from torch import Tensor, nn


class VisionTransformerBackbone(Backbone):
    """A Vision Transformer in evaluation mode whose parameters never change.

    Parameters
    ----------
    model : VisionTransformer
        Built with ``dynamic_img_size=True``, so that images of any size can be embedded.
    mean, std : sequence of float [3]
        Normalisation of the RGB channels, in [0, 1].
    positions : {"timm", "as_released"}
        How the position embedding is resized to the patch grid of an image; see `positions`.
    """

    def __init__(
        self,
        model: VisionTransformer,
        mean: Sequence[float],
        std: Sequence[float],
        positions: Positions = "timm",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.patch_size = cast("PatchEmbed", model.patch_embed).patch_size[0]
        self.dim: int = model.embed_dim
        self.depth: int = len(model.blocks)
        self.heads: int = cast("Attention", self._block(0).attn).num_heads
        self.prefix_tokens: int = model.num_prefix_tokens
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        self.positions = positions

    @property
    def device(self) -> torch.device:
        """Device of the parameters, on which the images must be."""
        return next(self.model.parameters()).device

    def _block(self, index: int) -> Block:
        return cast("Block", self.model.blocks[index])

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
        from lightcluster.extraction.backbones.positions import embed_positions
        from lightcluster.extraction.precision import autocast

        last, model, prefix = self.depth - 1, self.model, self.prefix_tokens
        only_class_token = model.has_class_token and not ("token" in facets and last in layers)
        collected: dict[int, tuple[dict[Facet, Tensor], Tensor]] = {}

        with autocast(images.device, precision):
            x = embed_positions(model, model.patch_embed(images), self.positions)
            x = model.norm_pre(model.patch_drop(x))
            for index in range(self.depth):
                rows = 1 if index == last and only_class_token else x.shape[1]
                x, query, key, value = _open_block(self._block(index), x, rows)
                if index in layers:
                    inner: dict[Facet, Tensor] = {"query": query, "key": key, "value": value}
                    found = {
                        name: concatenate_heads(inner[name][:, :, prefix:])
                        for name in inner.keys() & facets
                    }
                    if "token" in facets:
                        tokens = self._final_norm(x) if index == last else x
                        found["token"] = tokens[:, prefix:].float()
                    received = attention_received(query, key, model.has_class_token)
                    collected[index] = found, received[:, prefix:]
            final = self._final_norm(x)

        cls = final[:, 0] if model.has_class_token else final[:, prefix:].float().mean(dim=1)
        return [
            Features({name: found[name] for name in facets}, cls.float(), attention)
            for found, attention in (collected[layer] for layer in layers)
        ]

    def _final_norm(self, x: Tensor) -> Tensor:
        """Apply the final normalisation, which is ``fc_norm`` in models with pooling."""
        return cast("Tensor", self.model.fc_norm(self.model.norm(x)))


def _open_block(block: Any, x: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute one transformer block, and return its query, key and value as well.

    Parameters
    ----------
    block : timm Block
    x : Tensor [B, N, D]
        Tokens before the block.
    rows : int
        Number of leading tokens for which the output is computed; they attend to all N tokens.

    Returns
    -------
    output : Tensor [B, rows, D]
    query, key, value : Tensor [B, h, N, D / h]
        As used in the attention, after query and key norms if the block has them.
    """
    from lightcluster.extraction.backbones.attention import attend

    attention = block.attn
    normalised = block.norm1(x)
    batch, count, _ = normalised.shape
    projected = attention.qkv(normalised).reshape(batch, count, 3, attention.num_heads, -1)
    query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
    query, key = attention.q_norm(query), attention.k_norm(key)

    mixed = attend(query[:, :, :rows], key, value)
    mixed = attention.norm(mixed.transpose(1, 2).flatten(2))
    if getattr(attention, "gate", None) is not None:
        mixed = mixed * attention.gate(normalised[:, :rows]).sigmoid()
    output = x[:, :rows] + block.ls1(attention.proj(mixed))
    output = output + block.ls2(block.mlp(block.norm2(output)))
    return output, query, key, value


class VisionTransformers(TimmFamily):
    """Plain Vision Transformers of timm."""

    summary = (
        "plain Vision Transformers of timm with square patches, such as vit_small_patch8_224.dino, "
        "vit_base_patch16_224.dino, vit_base_patch16_224.mae, vit_small_patch14_dinov2.lvd142m, "
        "vit_small_patch14_reg4_dinov2.lvd142m or vit_tiny_patch16_224"
    )
    options: Mapping[str, Any] = {"dynamic_img_size": True, "dynamic_img_pad": False}

    def accepts(self, network: nn.Module) -> bool:
        """Return whether blocks, attention and patch embedding are the plain ones.

        This excludes Vision Transformers with parallel or post-norm blocks, differential
        attention, convolutional stems or non-square patches.
        """
        from timm.layers.attention import Attention
        from timm.layers.patch_embed import PatchEmbed
        from timm.models.vision_transformer import Block, VisionTransformer

        return (
            isinstance(network, VisionTransformer)
            and type(network.patch_embed) is PatchEmbed
            and len(set(network.patch_embed.patch_size)) == 1
            and all(type(block) is Block and type(block.attn) is Attention
                    for block in network.blocks)
        )  # fmt: skip

    def translate(
        self, tensors: Mapping[str, Tensor], network: nn.Module, path: Path
    ) -> dict[str, Tensor]:
        """Convert the parameters of a checkpoint in a published layout; see `layouts`.

        A position embedding for another grid is interpolated.
        """
        from timm.models.vision_transformer import checkpoint_filter_fn

        from lightcluster.extraction.backbones.layouts import check_size, name_as_timm

        network = cast("VisionTransformer", network)
        expected = network.state_dict()
        named = name_as_timm(tensors, path)
        others = 0 if network.no_embed_class else network.num_prefix_tokens
        check_size(named or tensors, expected, others, path)
        try:
            converted = checkpoint_filter_fn(dict(named), network)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{path}: its layout cannot be converted for this model ({error})"
            ) from error
        return {
            name: tensor
            for name, tensor in converted.items()
            if not (name.startswith("fc_norm.") and name not in expected)
        }

    def open(
        self,
        network: nn.Module,
        device: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        positions: Positions = "timm",
    ) -> VisionTransformerBackbone:
        """Return the backbone of a network, on a device."""
        published = self.published(network)
        return VisionTransformerBackbone(
            cast("VisionTransformer", network.to(device)),
            mean or published.mean,
            std or published.std,
            positions,
        )


VISION_TRANSFORMERS = VisionTransformers()
