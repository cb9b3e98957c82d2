"""Registering architectures with timm under names of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

ensure_torchvision_operators()

from timm.models import build_model_with_cfg, register_model  # noqa: E402

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Normalisation with the statistics of ImageNet."""


def register(
    name: str, kind: type[nn.Module], architecture: Mapping[str, Any], published: Mapping[str, Any]
) -> None:
    """Register an architecture with timm.

    Parameters
    ----------
    name : str
        Value of `backbone.model`.
    kind : type of nn.Module
        A class of timm, or one derived from it.
    architecture : mapping
        Arguments of the class.
    published : mapping
        Preprocessing, as in timm's ``pretrained_cfg``.
    """
    configuration = {
        "input_size": (3, architecture["img_size"], architecture["img_size"]),
        "num_classes": 0,
        "pool_size": None,
        "interpolation": "bicubic",
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        **published,
    }

    def build(pretrained: bool = False, **given: Any) -> nn.Module:
        settings = {**architecture, **given, "pretrained_cfg": configuration}
        network: nn.Module = build_model_with_cfg(kind, name, pretrained, **settings)
        return network

    build.__name__ = name
    register_model(build)
