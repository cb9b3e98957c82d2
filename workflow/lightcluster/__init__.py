"""LightCluster: unsupervised semantic segmentation without training.

Implements the method of Cheung, Chen, Yang and Zhao (arXiv 2311.18628): the keys of a frozen
self-supervised Vision Transformer are clustered at three levels (dataset, category and image), the
levels vote on the foreground, and its regions are clustered into classes by their CLS tokens.

Examples
--------
>>> import lightcluster as lc
>>> model = lc.load("results/demo/lightcluster/model")  # doctest: +SKIP
>>> found = model("holiday.jpg")  # doctest: +SKIP
>>> found.mask, found.segmentation, found.score, found.levels, found.regions  # doctest: +SKIP
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, which each step's command would wait for
if TYPE_CHECKING:
    from typing import Any

    from lightcluster.api.masks import refine
    from lightcluster.api.model import load
    from lightcluster.api.patches import features
    from lightcluster.api.scores import miou

__version__ = "0.1.0"
__all__ = ["features", "load", "miou", "refine"]

_PLACES = {"features": "patches", "load": "model", "miou": "scores", "refine": "masks"}
"""Modules of `lightcluster.api`, which are imported on first use because torch takes seconds."""


def __getattr__(name: str) -> Any:
    """Import a public function on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"lightcluster.api.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names of the package."""
    return sorted([*__all__, "__version__"])
