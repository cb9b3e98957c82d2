"""Threads and devices of a command, settled before the libraries that have them are imported."""

from __future__ import annotations

import os

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Of the environment: read by BLAS and OpenMP when they are loaded."""


def use_threads(threads: int) -> None:
    """Bound the threads of BLAS, OpenMP and faiss; before numpy is imported."""
    for variable in VARIABLES:
        os.environ[variable] = str(threads)


def device_of(device: str) -> str:
    """Return the device that ``auto`` stands for, or the one that is named."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
