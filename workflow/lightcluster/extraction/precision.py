"""Floating-point precision of the backbone's matrix products."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from lightcluster.extraction.backbones.protocol import Precision


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast | nullcontext[None]:
    """Return the context in which matrix products have the given precision."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)


def resolve_precision(precision: Precision, device: str | torch.device) -> torch.dtype:
    """Return the floating-point type of the matrix products.

    Parameters
    ----------
    precision : "auto", "float32", "bfloat16" or "float16"
        ``auto``: bfloat16 if the hardware supports it natively (CPUs with ``avx512_bf16`` or
        ``amx_bf16``, recent GPUs), float16 on other GPUs, else float32.
    device : str or torch.device

    Returns
    -------
    torch.dtype

    Raises
    ------
    ValueError
        If the precision is not one of the four.
    """
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision in types:
        return types[precision]
    if precision != "auto":
        allowed = ["auto", *types]
        raise ValueError(f"features.precision: unknown value {precision!r}; allowed: {allowed}")
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    ask = getattr(torch.cpu, "get_capabilities", None)  # older versions of torch cannot tell
    capabilities = ask() if ask else {}
    native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if native else torch.float32
