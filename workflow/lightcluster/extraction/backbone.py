"""A frozen timm Vision Transformer that hands out the inner features of one attention block.

Notation: ``B`` images, ``T`` patches of an image in row-major order, ``P`` prefix tokens (the
class token first, then registers), ``h`` heads and ``D`` features. A block computes

    q, k, v = split(W_qkv norm1(x)),   x <- x + ls1 W_proj softmax(q k^T / sqrt(D / h)) v,
    x <- x + ls2 mlp(norm2(x)),

and the facets *query*, *key* and *value* are q, k and v of the patches with the heads
concatenated, *token* is x of the patches after the block.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal, cast

import safetensors.torch
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lightcluster.errors import ConfigError, ModelError, WeightsError
from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

ensure_torchvision_operators()

import timm  # noqa: E402  (the operators must be declared first)
from timm.layers.attention import Attention  # noqa: E402
from timm.layers.patch_embed import PatchEmbed  # noqa: E402
from timm.models import get_arch_pretrained_cfgs  # noqa: E402
from timm.models.vision_transformer import Block, VisionTransformer  # noqa: E402

import lightcluster.extraction.embedded  # noqa: E402, F401  (registers its architecture with timm)
from lightcluster.extraction.positions import embed_positions  # noqa: E402
from lightcluster.extraction.settings import Positions  # noqa: E402
from lightcluster.soundness import check_tensors  # noqa: E402

Facet = Literal["key", "query", "value", "token"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

FACETS: tuple[Facet, ...] = ("key", "query", "value", "token")
_SUPPORTED = (
    "plain Vision Transformers of timm with square patches, such as vit_small_patch8_224.dino, "
    "vit_base_patch16_224.dino, vit_base_patch16_224.mae, vit_small_patch14_dinov2.lvd142m, "
    "vit_small_patch14_reg4_dinov2.lvd142m or vit_tiny_patch16_224"
)
_SCORES_IN_CACHE = 2**22  # 8 MiB


@dataclass(frozen=True)
class Features:
    """What one forward pass yields for a batch of images of one shape; all float32.

    Attributes
    ----------
    facets : dict of str to Tensor [B, T, D]
        The facets asked for, of the patches, row-major.
    cls : Tensor [B, D]
        Class token after the last block and the final normalisation, whatever the layer of the
        facets; the mean of the patch tokens where the model has no class token.
    cls_attention : Tensor [B, T]
        Attention the class token pays to each patch at the layer, in [0, 1], averaged over the
        heads. The softmax runs over all tokens, so that a row sums to one *less* what the
        prefix tokens receive. Averaged over all queries where the model has no class token.
    """

    facets: dict[Facet, Tensor]
    cls: Tensor
    cls_attention: Tensor


def resolve_layer(layer: int, depth: int) -> int:
    """Turn a layer counted from either end of `depth` blocks into one in ``0 … depth - 1``.

    Raises
    ------
    ConfigError
        If there is no such layer.
    """
    if not -depth <= layer < depth:
        raise ConfigError(
            f"features.layer = {layer}: is outside this backbone of {depth} blocks; "
            f"allowed are {-depth} to {depth - 1}"
        )
    return layer % depth


class Backbone:
    """A Vision Transformer in evaluation mode whose parameters never change.

    Parameters
    ----------
    model : VisionTransformer
        Built with ``dynamic_img_size=True``, so that images of any size can be embedded.
    mean, std : sequence of float [3]
        Normalisation of the RGB channels on the scale 0 to 1.
    positions : {"timm", "as_released"}
        How the position embedding is resized to the grid of an image; see `extraction.positions`.

    Attributes
    ----------
    patch_size, dim, heads, depth, prefix_tokens : int
    mean, std : tuple of float [3]
    positions : {"timm", "as_released"}
    device : torch.device
    """

    def __init__(
        self,
        model: VisionTransformer,
        mean: Sequence[float],
        std: Sequence[float],
        positions: Positions = "timm",
    ) -> None:
        require_plain_transformer(model, type(model).__name__)
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
        """Where the parameters lie, and the images have to."""
        return next(self.model.parameters()).device

    def _block(self, index: int) -> Block:
        return cast("Block", self.model.blocks[index])

    def resolve_layer(self, layer: int) -> int:
        """Turn a layer counted from either end into one in ``0 … depth - 1``.

        Raises
        ------
        ConfigError
            If the model has no such layer.
        """
        return resolve_layer(layer, self.depth)

    @torch.inference_mode()
    def forward(
        self,
        images: Tensor,
        facets: Sequence[Facet] = ("key",),
        layer: int = -1,
        precision: torch.dtype = torch.float32,
    ) -> Features:
        """Features of a batch of images of one shape.

        Parameters
        ----------
        images : Tensor float32 [B, 3, H, W]
            Normalised with ``mean`` and ``std``; H and W are multiples of the patch size.
        facets : sequence of "key", "query", "value", "token"
        layer : int
            The block they come from; negative counts from the last.
        precision : torch.dtype
            Of the matrix products, by autocast; see :func:`resolve_precision`.

        Returns
        -------
        Features

        Raises
        ------
        ConfigError
            If a facet is unknown or the layer does not exist.

        Notes
        -----
        The class token of the last block is all that leaves the model unless tokens of that
        block are asked for. Attention, projection and perceptron of the last block are then
        computed for that single row, which is exact up to rounding and saves most of a block.
        """
        if unknown := set(facets) - set(FACETS):
            raise ConfigError(
                f"features.facets: {sorted(unknown)} unknown; allowed are {list(FACETS)}"
            )
        return self._compute(images, facets, [self.resolve_layer(layer)], precision)[0]

    @torch.inference_mode()
    def forward_layers(
        self, images: Tensor, facets: Sequence[Facet], precision: torch.dtype = torch.float32
    ) -> list[Features]:
        """Features of every layer, from the first to the last, in one pass; see :meth:`forward`."""
        return self._compute(images, facets, range(self.depth), precision)

    def _compute(
        self,
        images: Tensor,
        facets: Sequence[Facet],
        layers: Sequence[int],
        precision: torch.dtype,
    ) -> list[Features]:
        """The features of :meth:`forward` of known facets, at blocks from ``0 … depth - 1``."""
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
                        name: _concatenate_heads(inner[name][:, :, prefix:])
                        for name in inner.keys() & facets
                    }
                    if "token" in facets:
                        tokens = self._final_norm(x) if index == last else x
                        found["token"] = tokens[:, prefix:].float()
                    collected[index] = found, self._class_attention(query, key)
            final = self._final_norm(x)

        cls = final[:, 0] if model.has_class_token else final[:, prefix:].float().mean(dim=1)
        return [
            Features({name: found[name] for name in facets}, cls.float(), attention)
            for found, attention in (collected[layer] for layer in layers)
        ]

    def _final_norm(self, x: Tensor) -> Tensor:
        """The model's last normalisation, which timm keeps in ``fc_norm`` of pooling models."""
        return cast("Tensor", self.model.fc_norm(self.model.norm(x)))

    def _class_attention(self, query: Tensor, key: Tensor) -> Tensor:
        """Attention to the patches [B, T]; query and key are [B, h, P + T, D / h]."""
        with torch.autocast(query.device.type, enabled=False):
            query, key = query.float() * query.shape[-1] ** -0.5, key.float()
            if self.model.has_class_token:
                scores = query[:, :, :1] @ key.transpose(-2, -1)
                received = scores.softmax(dim=-1)[:, :, 0].mean(dim=1)
            else:  # all queries: one image at a time bounds the memory
                received = torch.stack(
                    [(q @ k.transpose(-2, -1)).softmax(dim=-1).mean(dim=(0, 1))
                     for q, k in zip(query, key, strict=True)]
                )  # fmt: skip
        return received[:, self.prefix_tokens :]


def _open_block(block: Any, x: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One transformer block, with its inner query, key and value laid open.

    Parameters
    ----------
    block : timm Block
    x : Tensor [B, N, D]
        Tokens before the block.
    rows : int
        How many of the first tokens the output is wanted for; all N attend-to tokens take part
        in any case.

    Returns
    -------
    output : Tensor [B, rows, D]
    query, key, value : Tensor [B, h, N, D / h]
        As they enter the attention, hence normalised where the block has such norms.
    """
    attention = block.attn
    normalised = block.norm1(x)
    batch, count, _ = normalised.shape
    projected = attention.qkv(normalised).reshape(batch, count, 3, attention.num_heads, -1)
    query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
    query, key = attention.q_norm(query), attention.k_norm(key)

    mixed = _attend(query[:, :, :rows], key, value)
    mixed = attention.norm(mixed.transpose(1, 2).flatten(2))
    if getattr(attention, "gate", None) is not None:
        mixed = mixed * attention.gate(normalised[:, :rows]).sigmoid()
    output = x[:, :rows] + block.ls1(attention.proj(mixed))
    output = output + block.ls2(block.mlp(block.norm2(output)))
    return output, query, key, value


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention.

    Parameters
    ----------
    query : Tensor [B, h, R, d]
    key, value : Tensor [B, h, N, d]

    Returns
    -------
    Tensor [B, h, R, d]

    Notes
    -----
    torch's fused attention gains nothing from bfloat16 on a CPU. Plain matrix products do,
    provided the scores stay in the cache: hence one image and a slice of its queries at a time.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return functional.scaled_dot_product_attention(query, key, value)
    batch, heads, rows, width = query.shape
    mixed = query.new_empty(batch, rows, heads, width).transpose(1, 2)
    query, value = (query * width**-0.5).contiguous(), value.contiguous()
    key = key.contiguous().transpose(-2, -1)
    step = ceil(rows / ceil(heads * rows * key.shape[-1] / _SCORES_IN_CACHE))
    for image in range(batch):
        for start in range(0, rows, step):
            part = slice(start, start + step)
            weights = (query[image, :, part] @ key[image]).softmax(dim=-1)
            mixed[image, :, part] = weights @ value[image]
    return mixed


def _concatenate_heads(heads: Tensor) -> Tensor:
    """[B, h, T, D / h] to float32 [B, T, D]."""
    return heads.transpose(1, 2).flatten(2).float()


def build_architecture(model: str, *, pretrained: bool = False) -> VisionTransformer:
    """A timm Vision Transformer without classifier, for images of any multiple of its patch.

    Parameters
    ----------
    model : str
        Name in timm, with or without the tag of its weights.
    pretrained : bool
        Whether timm loads its published weights, from its cache or the network.

    Raises
    ------
    WeightsError
        If timm has no such model or tag, or if it is another kind of architecture.
    Exception
        Whatever the download raises, with ``pretrained``.
    """
    name, _, tag = model.partition(".")
    if not timm.is_model(name):
        known = timm.list_models() + timm.list_models(pretrained=True)
        close = difflib.get_close_matches(model, known, n=5)
        hint = f"did you mean {', '.join(close)}?" if close else f"supported are {_SUPPORTED}"
        raise WeightsError(f"backbone.model: timm has no model {model!r}; {hint}")
    if tag and model not in (tags := get_arch_pretrained_cfgs(name)):
        allowed = ", ".join(tags) or name
        raise WeightsError(f"backbone.model: no weights are tagged {model!r}; allowed: {allowed}")
    try:
        network = timm.create_model(
            model,
            pretrained=pretrained,
            num_classes=0,
            dynamic_img_size=True,
            dynamic_img_pad=False,
        )
    except TypeError as error:  # raised by constructors that do not know dynamic_img_size
        raise WeightsError(f"backbone.model: {model!r} is not among {_SUPPORTED}") from error
    return require_plain_transformer(network, model)


def published_configuration(network: VisionTransformer) -> dict[str, Any]:
    """``mean``, ``std``, ``interpolation`` and more of the weights that timm publishes."""
    return cast("dict[str, Any]", network.pretrained_cfg)


def require_plain_transformer(network: nn.Module, name: str) -> VisionTransformer:
    """The network itself, if its blocks are the ones :class:`Backbone` can open.

    Raises
    ------
    WeightsError
        For other architectures, and for Vision Transformers with parallel or post-norm blocks,
        differential attention, convolutional stems or oblong patches.
    """
    supported = (
        isinstance(network, VisionTransformer)
        and type(network.patch_embed) is PatchEmbed
        and len(set(network.patch_embed.patch_size)) == 1
        and all(type(block) is Block and type(block.attn) is Attention for block in network.blocks)
    )
    if not supported:
        raise WeightsError(f"backbone.model: {name!r} is not among {_SUPPORTED}")
    return cast("VisionTransformer", network)


def check_weights(model: str, weights: Path) -> None:
    """Check that a file has exactly the parameters of a model, before anything is done with them.

    Raises
    ------
    ModelError
        If it has not, or if they are not finite; see `soundness.check_tensors`.
    """
    with torch.device("meta"):
        network = build_architecture(model)
    check_tensors(weights, _shapes(network))


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _kinds(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in state.items()}


def load_backbone(model: str, weights: Path, device: str = "cpu") -> Backbone:
    """A frozen backbone with the weights that :func:`.weights.fetch_weights` wrote.

    Parameters
    ----------
    model : str
        Name in timm.
    weights : Path
        A safetensors file with exactly the parameters of the model.
    device : str
        Where it runs, e.g. ``"cpu"`` or ``"cuda:0"``.

    Raises
    ------
    WeightsError
        If the file is missing, unreadable or of another architecture.
    """
    try:
        state = safetensors.torch.load_file(weights)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{weights}: not a readable safetensors file ({error})") from error
    with torch.device("meta"):  # no random start that the weights would replace
        network = build_architecture(model)
    if _kinds(state) != _kinds(network.state_dict()):
        try:
            check_tensors(weights, _shapes(network))
        except ModelError as error:
            raise WeightsError(str(error)) from None
    network.load_state_dict(state, strict=True, assign=True)
    configuration = published_configuration(network)
    return Backbone(network.to(device), configuration["mean"], configuration["std"])


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast | nullcontext[None]:
    """The context in which matrix products have the given precision."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)


def resolve_precision(precision: Precision, device: str | torch.device) -> torch.dtype:
    """The floating-point type of the matrix products.

    Parameters
    ----------
    precision : "auto", "float32", "bfloat16" or "float16"
        ``auto`` takes bfloat16 where the hardware multiplies it natively (CPUs with
        ``avx512_bf16`` or ``amx_bf16``, recent GPUs), float16 on other GPUs, else float32.
    device : str or torch.device

    Raises
    ------
    ValueError
        If the precision is none of the four.
    """
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision in types:
        return types[precision]
    if precision != "auto":
        allowed = ["auto", *types]
        raise ValueError(f"features.precision: {precision!r} unknown; allowed are {allowed}")
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if native else torch.float32
