"""The architecture of the backbone that this project trains itself, registered with timm."""

from __future__ import annotations

from typing import Any

from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

ensure_torchvision_operators()

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

SIDE = 80
"""Side in pixels of the images it is trained on."""

default_cfgs = generate_default_cfgs(
    {
        "vit_mini_patch8_80": {
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
    }
)


@register_model
def vit_mini_patch8_80(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """A Vision Transformer of 1.2 million parameters: 6 blocks, 128 features, 4 heads, patch 8."""
    settings = {
        "img_size": SIDE,
        "patch_size": 8,
        "embed_dim": 128,
        "depth": 6,
        "num_heads": 4,
        "num_classes": 0,
        **kwargs,
    }
    network: VisionTransformer = build_model_with_cfg(
        VisionTransformer, "vit_mini_patch8_80", pretrained, **settings
    )
    return network
