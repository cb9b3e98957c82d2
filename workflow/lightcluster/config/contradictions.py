"""What is wrong between sections that are each right by themselves."""

from __future__ import annotations

from collections.abc import Iterator

from lightcluster.config.configuration import Config
from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.extraction.settings import (
    EMBEDDED,
    MEAN_COLOR,
)


def _foreign_weights(config: Config) -> Iterator[str]:
    """Yield the mistake of a run whose model is not that of the embedded weights."""
    backbone = config.backbone
    if backbone.weights == "embedded" and backbone.model not in (EMBEDDED, MEAN_COLOR):
        yield (
            f"backbone.weights = 'embedded': these are of {EMBEDDED}; for {backbone.model} use "
            "`hub`, `random` or the path of a file"
        )


def _number_contradictions(config: Config) -> Iterator[str]:
    """Yield the mistake of a method without regions whose number of classes they are to tell."""
    if config.labelling.classes == "silhouette" and config.method != "lightcluster":
        yield (
            f"labelling.classes = 'silhouette': is of regions, which `method: {config.method}` "
            "does not have; give a number, or `auto`"
        )


def _cause_contradictions(config: Config) -> Iterator[str]:
    """Yield what `method: cause` cannot be trained with."""
    if config.method != "cause":
        return
    dataset, cause = config.dataset, config.cause
    labelled = FORMATS[dataset.format].labelled(dataset)
    if cause.linear_probe != "none" and not labelled:
        yield (
            f"cause.linear_probe = {cause.linear_probe!r}: needs labels, and dataset.labels is none"
        )
    if config.backbone.model == MEAN_COLOR:
        yield f"method = 'cause': needs the tokens of a network, and {MEAN_COLOR} is none"


def find_contradictions(config: Config) -> Iterator[str]:
    """Yield what is wrong with the settings of a run taken together."""
    for find in (_foreign_weights, _number_contradictions, _cause_contradictions):
        yield from find(config)
