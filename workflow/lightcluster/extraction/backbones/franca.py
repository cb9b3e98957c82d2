"""Franca: DINOv2's architecture with gated MLPs at all sizes, which timm does not have.

Source: Venkataramanan et al., "Franca: Nested Matryoshka Clustering for Scalable Visual
Representation Learning" (2025), and its published code. The weights are read from a file.
"""

from __future__ import annotations

import functools

from lightcluster.extraction.backbones.protocol import Declaration

_SIZES = {
    "franca_vitb14": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "franca_vitl14": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
    "franca_vitg14": {"embed_dim": 1536, "depth": 40, "num_heads": 24},
}


@functools.cache
def _register() -> None:
    """Register the architectures with timm."""
    from lightcluster.extraction.backbones.registering import IMAGENET, register
    from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

    ensure_torchvision_operators()
    from timm.layers.mlp import SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer
    from torch.nn import SiLU

    for name, size in _SIZES.items():
        dim = size["embed_dim"]
        gated = 2 * 8 * -(-(8 * dim // 3) // 8)  # of two halves: 2/3 of 4 dim, a multiple of 8
        architecture = {
            "img_size": 518, "patch_size": 14, "init_values": 1e-5, "act_layer": SiLU,
            "mlp_layer": SwiGLUPacked, "mlp_ratio": (gated + 0.5) / dim,  # timm rounds down
        }  # fmt: skip
        register(name, VisionTransformer, architecture | size, IMAGENET)


FRANCA = tuple(Declaration(name=name, register=_register) for name in _SIZES)
