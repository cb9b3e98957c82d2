"""The mean colour of each patch in place of a network: the baseline that any backbone has to beat.

It takes the place of a Vision Transformer in every step, so that what is compared is the features
alone.
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
    """Patches of 8 × 8 pixels whose every facet is their mean RGB colour in [0, 1].

    The class token is the mean colour of the image. It attends to all patches alike, so that
    border and centre alone decide what is foreground.

    Parameters
    ----------
    device : str or torch.device
        Where the images lie.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = device
        self.patch_size, self.dim = MEAN_COLOR.size["patch_size"], MEAN_COLOR.size["dim"]
        self.depth, self.heads, self.prefix_tokens = MEAN_COLOR.size["depth"], 1, 0
        self.mean, self.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    @property
    def device(self) -> torch.device:
        """Where the images have to lie."""
        import torch

        return torch.device(self._device)

    def _compute(
        self,
        images: Tensor,
        facets: Sequence[Facet],
        layers: Sequence[int],
        precision: torch.dtype,
    ) -> list[Features]:
        """Mean colours of images [B, 3, H, W], in float32 whatever the precision."""
        import torch
        from torch.nn.functional import avg_pool2d

        colours = avg_pool2d(images.float(), self.patch_size).flatten(2).transpose(1, 2)
        attention = torch.full(colours.shape[:2], 1 / colours.shape[1], device=images.device)
        return [Features(dict.fromkeys(facets, colours), colours.mean(dim=1), attention)]


class MeanColors(Family):
    """The one model that is no network: its module has no parameters."""

    summary = f"{MEAN_COLOR.name}, {MEAN_COLOR.summary}"

    def outline(self, model: str) -> nn.Module | None:
        """Return a module without parameters; None for other models."""
        return self.build(model) if model == MEAN_COLOR.name else None

    def build(self, model: str) -> nn.Module:
        """Return a module without parameters."""
        from torch import nn

        return nn.Identity()

    def download(self, model: str) -> nn.Module:
        """Return a module without parameters: there is nothing to be had."""
        return self.build(model)

    def translate(
        self, tensors: Mapping[str, Tensor], network: nn.Module, path: Path
    ) -> dict[str, Tensor]:
        """Return the parameters as they are: any is one too many."""
        return dict(tensors)

    def published(self, network: nn.Module) -> Published:
        """Return that colours are not normalised."""
        return Published((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bicubic")

    def open(
        self,
        network: nn.Module,
        device: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        positions: Positions = "timm",
    ) -> MeanColor:
        """Return the baseline: colours as they are, without positions, whatever is given."""
        return MeanColor(device)


MEAN_COLORS = MeanColors()
