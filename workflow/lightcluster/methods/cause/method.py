"""The declaration of CAUSE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.methods.cause.recipe import released
from lightcluster.methods.cause.settings import CauseSections, defaults
from lightcluster.methods.cause.sharing import CLUSTERBOOK, CROPS, HEAD, VIEWS, training_size
from lightcluster.methods.clusters import one_a_class
from lightcluster.methods.protocol import WITH_LABELS, WITHOUT_LABELS, Figure, Method

TRAINED: tuple[str, ...] = ("cause",)
APPLIED: tuple[str, ...] = ("cause-applied",)
KINDS = (*TRAINED, *APPLIED)
"""Kinds of its runs."""

LABELS = f"{WITH_LABELS} (linear probe as released)"
"""Remark on results whose head was changed by a loss on labels."""

_CONTRASTS = 6
"""Numbers that the contrastive loss stores per pair of an anchor and a projection of the bank."""


def learns_from_labels(config: CauseSections) -> bool:
    """Return whether labels influence the segmentations of a run."""
    return config.fit.model is None and config.cause.linear_probe == "as_released"


def _problems(config: CauseSections) -> Iterator[str]:
    """Yield a message for each setting with which CAUSE cannot be trained."""
    dataset, cause = config.dataset, config.cause
    labelled = FORMATS[dataset.format].labelled(dataset)
    if cause.linear_probe != "none" and not labelled:
        yield (
            f"cause.linear_probe = {cause.linear_probe!r}: needs labels, but dataset.labels is none"
        )
    backbone = config.backbone
    if not backbone.declaration.network:
        yield f"method = 'cause': needs the tokens of a network, but {backbone.model} is not one"


def _views(height: int, width: int, config: CauseSections, patch: int) -> tuple[int, int]:
    """Return the number of crops and windows of an image, and of their patches."""
    from lightcluster.methods.cause.views import (  # imports torch
        evaluation_views,
        side_in_patches,
        training_views,
    )

    cause = config.cause
    crops = len(training_views(height, width, cause.fractions, cause.mirrored, cause.framing))
    windows = (1 + cause.crf) * len(evaluation_views(height, width, cause.framing))
    of_head = training_size(cause.head, cause.size)
    twice = cause.clusterbook_crops == "full" and of_head != cause.size
    seen = [(crops, of_head), (crops * twice, cause.size), (windows, cause.size)]
    return (
        sum(count for count, _ in seen),
        sum(count * side_in_patches(size, patch) ** 2 for count, size in seen),
    )


def _peak_bytes(views: int, tokens: int, dim: int, config: CauseSections) -> int:
    """Return the memory that is needed with a full bank, which has projections for every code.

    The bank is compared with the tokens of one image at a time.
    """
    from lightcluster.methods.cause.heads import FEATURES, PROJECTED  # imports torch
    from lightcluster.methods.cause.modularity import BLOCK

    bank = config.cause.codes * config.cause.bank
    anchors = tokens // max(1, views) // BLOCK**2
    return 700 * 2**20 + 4 * bank * (PROJECTED + 2 * FEATURES + _CONTRASTS * anchors)


def _describe_recipe() -> Iterator[str]:
    """Yield the table of the defaults of `recipe: released`."""
    columns = {
        "`coco_stuff27`": "coco_stuff27",
        "`coco_stuff81`, `coco_stuff171`": "coco_stuff81",
        "`voc`": "voc",
        "`cityscapes`": "cityscapes",
        "others": "folder",
    }
    yield (
        "The defaults with `recipe: released`, by `dataset.format`; if a cell has two values, they "
        "are for the heads `mlp` and `tr`:\n"
    )
    yield f"| key | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for key in released("voc", "mlp"):
        cells = [_of_heads(*(released(name, head)[key] for head in ("mlp", "tr")))
                 for name in columns.values()]  # fmt: skip
        yield f"| `{key}` | {' | '.join(cells)} |"
    yield ""


def _of_heads(mlp: Any, tr: Any) -> str:
    """Return the values for both heads; only one if they are equal."""
    values = [mlp] if mlp == tr else [mlp, tr]
    return ", ".join("none" if value is None else f"`{json.dumps(value)}`" for value in values)


CAUSE: Method[CauseSections] = Method(
    name="cause",
    summary="a published method that trains a head on the backbone's tokens",
    drawings={"cause": ("CAUSE", "`method: cause`, [another published method](cause.md).")},
    steps=("lightcluster.methods.cause.steps",),
    segments="paint_probe",
    clusters=one_a_class,
    shared=(CROPS, VIEWS, CLUSTERBOOK, HEAD),
    shown=("backbone", "labelling", "cause"),
    figures=(
        Figure(
            "plot_training",
            "training.png",
            "Training",
            "The loss of each stage, averaged over 2 % of its steps, and the share of the tokens "
            "that each cluster of the probe has in the end, from the largest to the smallest; a "
            "line for each seed.",
        ),
    ),
    conditions=("cause.crf", "cause.linear_probe"),
    refined_by=lambda config: "crf" if config.cause.crf else "none",
    labels=lambda config: LABELS if learns_from_labels(config) else WITHOUT_LABELS,
    defaults=defaults,
    problems=_problems,
    notes={"cause": _describe_recipe},
    progress={"features": (VIEWS, ".zarr")},
    views=_views,
    peak_bytes=_peak_bytes,
    fit="the folder `cause` of another run, whose trained heads are applied.",
    adopted="cause-applied",
    adoption="lightcluster.methods.cause.fit",
    preloaded={"torch": ("lightcluster.methods.cause.stages",)},
)
