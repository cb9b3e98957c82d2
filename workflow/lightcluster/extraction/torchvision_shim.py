"""Make ``import timm`` work if the installed torchvision does not match torch.

timm imports torchvision for a few transforms. Package indexes without CPU builds of torchvision
deliver the CUDA wheel, whose compiled extension cannot be loaded with a CPU build of torch; the
import then fails with ``operator torchvision::nms does not exist``. This package never calls an
operator of torchvision, so declaring their signatures is enough.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


@functools.cache
def ensure_torchvision_operators() -> None:
    """Declare torchvision's operators if its compiled extension cannot be loaded.

    Call this before importing timm. With a matching torchvision, or with none, it has no effect.
    """
    specification = importlib.util.find_spec("torchvision")
    if specification is None or not specification.submodule_search_locations:
        return
    folder = Path(specification.submodule_search_locations[0])
    try:
        for extension in folder.glob("_C*.so"):
            torch.ops.load_library(str(extension))  # type: ignore[no-untyped-call]
    except (OSError, ImportError):
        for name in _OPERATORS:
            torch.library.define(f"torchvision::{name}", _SIGNATURE)
