"""The interface of backbones, of their families, and of what they compute.

Notation: ``B`` images, ``T`` patches per image in row-major order, ``P`` prefix tokens (the class
token first, then registers), ``h`` heads and ``D`` features.
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
"""Ways to resize position embeddings; see `backbones.positions`."""

Rotation = Literal["before", "after"]
"""Whether queries and keys are those before or after the rotation by position."""

FACETS: tuple[Facet, ...] = ("key", "query", "value", "token")


@dataclass(frozen=True)
class Features:
    """Output of a forward pass for a batch of images of the same shape; all float32.

    Attributes
    ----------
    facets : dict of str to Tensor [B, T, D]
        The requested facets of the patches, row-major.
    cls : Tensor [B, D]
        Class token after the last block and the final normalisation, for any layer of the facets;
        the mean of the patch tokens if the model has no class token.
    cls_attention : Tensor [B, T]
        Attention of the class token to each patch at the layer, in [0, 1], averaged over the
        heads. The softmax includes all tokens, so each row sums to one minus the attention to the
        prefix tokens. The mean over all queries if the model has no class token.
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
        Normalisation of the RGB channels, in [0, 1].
    positions : {"timm", "as_released"}
        How the position embedding is resized to the patch grid of an image.
    rotation : {"before", "after"}
        Whether the facets *query* and *key* are those before or after the rotation by position.
    rotary : bool
        Whether there is such a rotation.
    """

    patch_size: int
    dim: int
    depth: int
    heads: int
    prefix_tokens: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    positions: Positions = "timm"
    rotation: Rotation = "before"
    rotary: bool = False

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device on which the images must be."""

    @abstractmethod
    def _compute(
        self,
        images: Tensor,
        facets: Sequence[Facet],
        layers: Sequence[int],
        precision: torch.dtype,
    ) -> list[Features]:
        """Compute :meth:`forward` for valid facets and for blocks in ``0 … depth - 1``."""

    def resolve_layer(self, layer: int) -> int:
        """Convert a layer number that may be negative to one in ``0 … depth - 1``.

        Raises
        ------
        ConfigError
            If the model has no such layer.
        """
        if not -self.depth <= layer < self.depth:
            raise ConfigError(
                f"features.layer = {layer}: this backbone has {self.depth} "
                f"block{'s' * (self.depth > 1)}; allowed: {-self.depth} to {self.depth - 1}"
            )
        return layer % self.depth

    def forward(
        self,
        images: Tensor,
        facets: Sequence[Facet] = ("key",),
        layer: int = -1,
        precision: torch.dtype | None = None,
    ) -> Features:
        """Compute the features of a batch of images of the same shape.

        Parameters
        ----------
        images : Tensor float32 [B, 3, H, W]
            Normalised with ``mean`` and ``std``; H and W are multiples of the patch size.
        facets : sequence of "key", "query", "value", "token"
        layer : int
            Block of the facets; negative numbers count from the last.
        precision : torch.dtype, optional
            Precision of the matrix products (by autocast), float32 by default; see
            :func:`.precision.resolve_precision`.

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
                f"features.facet: unknown value {sorted(unknown)}; allowed: {list(FACETS)}"
            )
        return self._infer(images, facets, [self.resolve_layer(layer)], precision)[0]

    def forward_layers(
        self, images: Tensor, facets: Sequence[Facet], precision: torch.dtype | None = None
    ) -> list[Features]:
        """Compute the features of all layers, first to last, in one pass; see :meth:`forward`."""
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
    """Preprocessing that the published weights of a model expect.

    Attributes
    ----------
    mean, std : tuple of float [3]
        Normalisation of the RGB channels, in [0, 1].
    interpolation : str
        Filter for resizing.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


class Family(ABC):
    """Models that the same code builds, loads and runs.

    A *network* is the torch module of a model. It may be on the meta device, without values.

    Attributes
    ----------
    summary : str
        Description of these models for messages.
    """

    summary: str

    @abstractmethod
    def outline(self, model: str) -> nn.Module | None:
        """Return the network of a model without values; None if it is not in this family."""

    def refusal(self, model: str) -> str | None:
        """Return why a model of this family's architecture cannot be used; None of other models."""
        return None

    @abstractmethod
    def build(self, model: str) -> nn.Module:
        """Return the network of a model, randomly initialised by torch's global generator."""

    def locate(self, model: str, revision: str | None = None) -> str:
        """Return in words where the published weights are; for families that have some.

        Parameters
        ----------
        model : str
        revision : str, optional
            Commit, tag or branch of a repository on the hub.

        Raises
        ------
        WeightsError
            If none are published, or they cannot be had; said within seconds.
        """
        return "no weights"

    @abstractmethod
    def download(self, model: str, revision: str | None = None) -> tuple[nn.Module, str]:
        """Return the network with its published weights, and where they are from.

        Parameters
        ----------
        model : str
        revision : str, optional
            As for `locate`.

        Raises
        ------
        WeightsError
            If none are published, or they cannot be downloaded.
        """

    @abstractmethod
    def translate(
        self, tensors: Mapping[str, Tensor], network: nn.Module, path: Path
    ) -> dict[str, Tensor]:
        """Convert the parameters of a checkpoint to the names in the network.

        The caller checks that none is missing and that the shapes are right.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            By the names in the checkpoint.
        network : nn.Module
        path : Path
            The file, for messages.

        Returns
        -------
        dict of str to Tensor

        Raises
        ------
        WeightsError
            If the layout is unknown, or the parameters clearly belong to another network.
        """

    def size_of(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int] | None:
        """Return the size of a network from the shapes of its parameters; see `registry.size_of`.

        None if they are not those of a network of this family.
        """
        return None

    @abstractmethod
    def published(self, network: nn.Module) -> Published:
        """Return the preprocessing for the published weights of a network."""

    @abstractmethod
    def open(
        self,
        network: nn.Module,
        device: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        positions: Positions = "timm",
        rotation: Rotation = "before",
    ) -> Backbone:
        """Return the backbone of a network, on a device.

        Parameters
        ----------
        network : nn.Module
            With its weights, on any device.
        device : str
            Such as ``"cpu"`` or ``"cuda:0"``.
        mean, std : sequence of float [3], optional
            Normalisation of the RGB channels, in [0, 1]; by default as published.
        positions : {"timm", "as_released"}
            How the position embedding is resized.
        rotation : {"before", "after"}
            Whether queries and keys are those before or after the rotation by position.

        Returns
        -------
        Backbone
        """


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """Facts about a model that are known before it is built.

    Attributes
    ----------
    name : str
        Value of `backbone.model`.
    summary : str
        Description for the table entry of this key; empty for ordinary models of timm.
    network : bool
        Whether it has weights, a seed and a configurable normalisation; if not, the source of its
        weights is ``none``.
    weights : Path or None
        Weights file that ships with the project, for `backbone.weights: embedded`.
    size : mapping of str to int
        ``dim``, ``depth`` and ``patch_size``, for a model without weights.
    defaults : mapping of str to mapping of str to int
        Defaults of other sections, by key, that replace those for DINO.
    register : callable, optional
        Registers an architecture of this project with timm.
    """

    name: str
    summary: str = ""
    network: bool = True
    weights: Path | None = None
    size: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    register: Callable[[], None] | None = None
