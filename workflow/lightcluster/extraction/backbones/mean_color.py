"""A baseline that any backbone should beat: the mean colour of each patch.

It replaces the Vision Transformer in every step, so that only the features differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightcluster.extraction.backbones.protocol import (
    Backbone,
    Declaration,
    Facet,
    Family,
    Features,
    Positions,
    Published,
    Rotation,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

MEAN_COLOR = Declaration(
    name="mean_color",
    summary="a baseline: the mean colour of each patch",
    network=False,
    size={"dim": 3, "depth": 1, "patch_size": 8},
)


class MeanColor(Backbone):
    """Patches of 8 × 8 pixels; every facet is their mean RGB colour in [0, 1].

    The class token is the mean colour of the image. It attends equally to all patches, so only the
    border and the centre decide what is foreground.

    Parameters
    ----------
    device : str or torch.device
        Device of the images.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = device
        self.patch_size, self.dim = MEAN_COLOR.size["patch_size"], MEAN_COLOR.size["dim"]
        self.depth, self.heads, self.prefix_tokens = MEAN_COLOR.size["depth"], 1, 0
        self.mean, self.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    @property
    def device(self) -> torch.device:
        """Device on which the images must be."""
        import torch

        return torch.device(self._device)

    def _compute(
        self,
        images: Tensor,
        facets: Sequence[Facet],
        layers: Sequence[int],
        precision: torch.dtype,
    ) -> list[Features]:
        """Compute the mean colours of images [B, 3, H, W], always in float32."""
        import torch
        from torch.nn.functional import avg_pool2d

        colours = avg_pool2d(images.float(), self.patch_size).flatten(2).transpose(1, 2)
        attention = torch.full(colours.shape[:2], 1 / colours.shape[1], device=images.device)
        return [Features(dict.fromkeys(facets, colours), colours.mean(dim=1), attention)]


class MeanColors(Family):
    """The family of `MeanColor`, whose module has no parameters."""

    summary = f"{MEAN_COLOR.name}, {MEAN_COLOR.summary}"

    def outline(self, model: str) -> nn.Module | None:
        """Return a module without parameters; None for other models."""
        return self.build(model) if model == MEAN_COLOR.name else None

    def build(self, model: str) -> nn.Module:
        """Return a module without parameters."""
        from torch import nn

        return nn.Identity()

    def download(self, model: str, revision: str | None = None) -> tuple[nn.Module, str]:
        """Return a module without parameters; nothing is downloaded."""
        return self.build(model), ""

    def translate(
        self, tensors: Mapping[str, Tensor], network: nn.Module, path: Path
    ) -> dict[str, Tensor]:
        """Return the parameters unchanged; the caller rejects any as unexpected."""
        return dict(tensors)

    def published(self, network: nn.Module) -> Published:
        """Return the identity normalisation."""
        return Published((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bicubic")

    def open(
        self,
        network: nn.Module,
        device: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        positions: Positions = "timm",
        rotation: Rotation = "before",
    ) -> MeanColor:
        """Return the baseline; everything else is ignored."""
        return MeanColor(device)


MEAN_COLORS = MeanColors()
