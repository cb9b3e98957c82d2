"""Checks for contradictions between sections."""

from __future__ import annotations

from collections.abc import Iterator

from lightcluster.config.configuration import Config
from lightcluster.extraction.backbones.registry import DECLARED
from lightcluster.methods.registry import method_of


def _foreign_weights(config: Config) -> Iterator[str]:
    """Yield a message if the embedded weights belong to another model."""
    backbone = config.backbone
    if backbone.source == "embedded" and backbone.file is None:
        shipped = ", ".join(own.name for own in DECLARED.values() if own.weights)
        yield (
            f"backbone.weights = 'embedded': these weights are for {shipped}; for {backbone.model} "
            "use `hub`, `random` or the path of a file"
        )


def _number_contradictions(config: Config) -> Iterator[str]:
    """Yield a message if regions should determine the number of classes, but there are none."""
    if config.labelling.classes == "silhouette" and not method_of(config).masks:
        yield (
            f"labelling.classes = 'silhouette': needs regions, which `method: {config.method}` "
            "does not have; use a number or `auto`"
        )


def find_contradictions(config: Config) -> Iterator[str]:
    """Yield a message for each contradiction between the settings of a run."""
    for find in (_foreign_weights, _number_contradictions, method_of(config).problems):
        yield from find(config)
