"""The small backbone that this project pretrained: a plain Vision Transformer of timm."""

from __future__ import annotations

import functools
from pathlib import Path

from lightcluster.extraction.backbones.protocol import Declaration

SIDE = 80
"""Side in pixels of its training images."""

_NAME = "vit_mini_patch8_80"
_ARCHITECTURE = {
    "img_size": SIDE,
    "patch_size": 8,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "num_classes": 0,
}
_PUBLISHED = {"mean": (0.45, 0.45, 0.45), "std": (0.25, 0.25, 0.25)}


@functools.cache
def _register() -> None:
    """Register the architecture with timm."""
    from lightcluster.extraction.backbones.registering import register
    from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

    ensure_torchvision_operators()
    from timm.models.vision_transformer import VisionTransformer

    register(_NAME, VisionTransformer, _ARCHITECTURE, _PUBLISHED)


EMBEDDED = Declaration(
    name=_NAME,
    weights=Path(__file__).parents[2].joinpath("resources").resolve() / f"{_NAME}.safetensors",
    defaults={
        "features": {"short_side": 192},
        "regions": {"crop_size": 96},
    },
    register=_register,
)
"""The embedded backbone; ``resources/README.md`` is its model card."""
