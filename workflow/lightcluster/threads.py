"""Threads and device of a command, set before numpy, torch and faiss are imported."""

from __future__ import annotations

import os

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that BLAS and OpenMP read when they are loaded."""


def use_threads(threads: int) -> None:
    """Limit the threads of BLAS, OpenMP and faiss; must be called before numpy is imported."""
    for variable in VARIABLES:
        os.environ[variable] = str(threads)


def device_of(device: str) -> str:
    """Return the device: the given one, or CUDA if available for ``auto``, else the CPU."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
