"""The mean colour of each patch in place of a network: the baseline that any backbone has to beat.

It takes the place of a Vision Transformer in every step, so that what is compared is the features
alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from lightcluster.extraction.backbone import Backbone, Facet, Features


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
        self._device = torch.device(device)
        self.patch_size, self.dim, self.depth, self.heads, self.prefix_tokens = 8, 3, 1, 1, 0
        self.mean, self.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        self.positions = "timm"  # nothing here looks at them

    @property
    def device(self) -> torch.device:
        """Where the images have to lie."""
        return self._device

    def _compute(
        self,
        images: Tensor,
        facets: Sequence[Facet],
        layers: Sequence[int],
        precision: torch.dtype,
    ) -> list[Features]:
        """Mean colours of images [B, 3, H, W], in float32 whatever the precision."""
        colours = avg_pool2d(images.float(), self.patch_size).flatten(2).transpose(1, 2)
        attention = torch.full(colours.shape[:2], 1 / colours.shape[1], device=images.device)
        return [Features(dict.fromkeys(facets, colours), colours.mean(dim=1), attention)]
