"""CAPI, whose registers lie around the image and are rotated like patches; timm does not have it.

Source: Darcet et al., "Cluster and Predict Latent Patches for Improved Masked Image Modeling"
(2025), and its published code. The weights are read from a file.
"""

from __future__ import annotations

import functools

from lightcluster.extraction.backbones.protocol import Declaration

_NAME = "capi_vitl14"
_SIZE = {
    "img_size": 224, "patch_size": 14, "embed_dim": 1024, "depth": 24, "num_heads": 16,
    "num_reg_tokens": 16,
}  # fmt: skip


@functools.cache
def _register() -> None:
    """Register the architecture with timm."""
    from lightcluster.extraction.backbones.capi_network import Capi
    from lightcluster.extraction.backbones.registering import IMAGENET, register

    register(_NAME, Capi, _SIZE, IMAGENET)


CAPI = Declaration(name=_NAME, register=_register)
