"""The small backbone that this project pretrained: a plain Vision Transformer of timm."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightcluster.extraction.backbones.protocol import Declaration

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

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
_PUBLISHED = {
    "input_size": (3, SIDE, SIDE),
    "num_classes": 0,
    "pool_size": None,
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "fixed_input_size": True,
    "mean": (0.45, 0.45, 0.45),
    "std": (0.25, 0.25, 0.25),
    "first_conv": "patch_embed.proj",
    "classifier": "head",
    "license": "apache-2.0",
}


@functools.cache
def _register() -> None:
    """Register the architecture with timm."""
    from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

    ensure_torchvision_operators()
    from timm.models import build_model_with_cfg, register_model
    from timm.models.vision_transformer import VisionTransformer

    @register_model
    def vit_mini_patch8_80(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
        settings = {**_ARCHITECTURE, **kwargs, "pretrained_cfg": _PUBLISHED}
        network: VisionTransformer = build_model_with_cfg(
            VisionTransformer, _NAME, pretrained, **settings
        )
        return network


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
