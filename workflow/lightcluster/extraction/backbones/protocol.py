"""What a backbone is to the rest of the program: a family that opens it, and what it computes.

Notation: ``B`` images, ``T`` patches of an image in row-major order, ``P`` prefix tokens (the
class token first, then registers), ``h`` heads and ``D`` features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lightcluster.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Facet = Literal["key", "query", "value", "token"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Positions = Literal["timm", "as_released"]
"""How position embeddings are resized; see `backbones.positions`."""

FACETS: tuple[Facet, ...] = ("key", "query", "value", "token")


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


class Backbone(ABC):
    """A backbone in evaluation mode whose parameters never change.

    Attributes
    ----------
    patch_size, dim, heads, depth, prefix_tokens : int
    mean, std : tuple of float [3]
        Normalisation of the RGB channels on the scale 0 to 1.
    positions : {"timm", "as_released"}
        How the position embedding is resized to the grid of an image.
    """

    patch_size: int
    dim: int
    depth: int
    heads: int
    prefix_tokens: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    positions: Positions = "timm"

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the images have to lie."""

    @abstractmethod
    def _compute(
        self,
        images: Tensor,
        facets: Sequence[Facet],
        layers: Sequence[int],
        precision: torch.dtype,
    ) -> list[Features]:
        """The features of :meth:`forward` of known facets, at blocks from ``0 … depth - 1``."""

    def resolve_layer(self, layer: int) -> int:
        """Turn a layer counted from either end into one in ``0 … depth - 1``.

        Raises
        ------
        ConfigError
            If the model has no such layer.
        """
        if not -self.depth <= layer < self.depth:
            raise ConfigError(
                f"features.layer = {layer}: is outside this backbone of {self.depth} blocks; "
                f"allowed are {-self.depth} to {self.depth - 1}"
            )
        return layer % self.depth

    def forward(
        self,
        images: Tensor,
        facets: Sequence[Facet] = ("key",),
        layer: int = -1,
        precision: torch.dtype | None = None,
    ) -> Features:
        """Features of a batch of images of one shape.

        Parameters
        ----------
        images : Tensor float32 [B, 3, H, W]
            Normalised with ``mean`` and ``std``; H and W are multiples of the patch size.
        facets : sequence of "key", "query", "value", "token"
        layer : int
            The block they come from; negative counts from the last.
        precision : torch.dtype, optional
            Of the matrix products, by autocast; see :func:`.precision.resolve_precision`.
            float32 by default.

        Returns
        -------
        Features

        Raises
        ------
        ConfigError
            If a facet is unknown or the layer does not exist.
        """
        if unknown := set(facets) - set(FACETS):
            raise ConfigError(
                f"features.facets: {sorted(unknown)} unknown; allowed are {list(FACETS)}"
            )
        return self._infer(images, facets, [self.resolve_layer(layer)], precision)[0]

    def forward_layers(
        self, images: Tensor, facets: Sequence[Facet], precision: torch.dtype | None = None
    ) -> list[Features]:
        """Features of every layer, from the first to the last, in one pass; see :meth:`forward`."""
        return self._infer(images, facets, range(self.depth), precision)

    def _infer(
        self,
        images: Tensor,
        facets: Sequence[Facet],
        layers: Sequence[int],
        precision: torch.dtype | None,
    ) -> list[Features]:
        import torch

        with torch.inference_mode():
            return self._compute(images, facets, layers, precision or torch.float32)


@dataclass(frozen=True)
class Published:
    """How images were prepared for the weights that are published of a model.

    Attributes
    ----------
    mean, std : tuple of float [3]
        Normalisation of the RGB channels on the scale 0 to 1.
    interpolation : str
        Filter that they were resized with.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


class Family(ABC):
    """Models that the same code builds, fills with weights and looks into.

    A *network* is the torch module of a model. It may be on the meta device, without values.

    Attributes
    ----------
    summary : str
        Which models these are, for messages.
    """

    summary: str

    @abstractmethod
    def outline(self, model: str) -> nn.Module | None:
        """Return the network of a model without values; None if it is of another family."""

    @abstractmethod
    def build(self, model: str) -> nn.Module:
        """Return the network of a model of this family, drawn by torch's generator."""

    @abstractmethod
    def download(self, model: str) -> nn.Module:
        """Return the network with its published weights.

        Raises
        ------
        WeightsError
            If none are published, or they cannot be had.
        """

    @abstractmethod
    def translate(
        self, tensors: Mapping[str, Tensor], network: nn.Module, path: Path
    ) -> dict[str, Tensor]:
        """Return the parameters of a checkpoint by the names that the network has for them.

        Whether none is missing and all are of the right shape is checked by the caller; `path` is
        named in messages.

        Raises
        ------
        WeightsError
            If they are in no known layout, or evidently of another network.
        """

    @abstractmethod
    def published(self, network: nn.Module) -> Published:
        """Return how images were prepared for the published weights of a network."""

    @abstractmethod
    def open(
        self,
        network: nn.Module,
        device: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        positions: Positions = "timm",
    ) -> Backbone:
        """Return the backbone of a network, on a device.

        Parameters
        ----------
        network : nn.Module
            With its weights, on any device.
        device : str
            Such as ``"cpu"`` or ``"cuda:0"``.
        mean, std : sequence of float [3], optional
            Normalisation of images; as published by default.
        positions : {"timm", "as_released"}
        """


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What the configuration has to know of a model, before it is built.

    Attributes
    ----------
    name : str
        Value of `backbone.model`.
    summary : str
        What it is, for the table of that key, where it is more than a name in timm.
    network : bool
        Whether it has weights, a seed and a normalisation to be set; if not, the source of its
        weights is ``none``.
    weights : Path or None
        Its file that ships with the project: `backbone.weights: embedded`.
    size : mapping of str to int
        ``dim``, ``depth`` and ``patch_size``, where no weights show them.
    defaults : mapping of str to mapping of str to int
        Defaults of other sections, by key, in the place of those for DINO.
    register : callable, optional
        Makes an architecture of this project known to timm.
    """

    name: str
    summary: str = ""
    network: bool = True
    weights: Path | None = None
    size: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    register: Callable[[], None] | None = None
