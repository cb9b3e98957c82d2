"""What is wrong between sections that are each right by themselves."""

from __future__ import annotations

from collections.abc import Iterator

from lightcluster.config.configuration import Config
from lightcluster.extraction.backbones.registry import DECLARED
from lightcluster.methods.registry import method_of


def _foreign_weights(config: Config) -> Iterator[str]:
    """Yield the mistake of a run whose model is not that of the embedded weights."""
    backbone = config.backbone
    if backbone.source == "embedded" and backbone.file is None:
        shipped = ", ".join(own.name for own in DECLARED.values() if own.weights)
        yield (
            f"backbone.weights = 'embedded': these are of {shipped}; for {backbone.model} use "
            "`hub`, `random` or the path of a file"
        )


def _number_contradictions(config: Config) -> Iterator[str]:
    """Yield the mistake of a method without regions whose number of classes they are to tell."""
    if config.labelling.classes == "silhouette" and not method_of(config).masks:
        yield (
            f"labelling.classes = 'silhouette': is of regions, which `method: {config.method}` "
            "does not have; give a number, or `auto`"
        )


def find_contradictions(config: Config) -> Iterator[str]:
    """Yield what is wrong with the settings of a run taken together."""
    for find in (_foreign_weights, _number_contradictions, method_of(config).problems):
        yield from find(config)
