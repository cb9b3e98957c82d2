"""The scores of a run in a few lines of text, which end it."""

from __future__ import annotations

import math

import pandas as pd

from lightcluster.evaluation.tables import protocols_of, seeds_of
from lightcluster.reporting.lines import ClassLine, class_lines
from lightcluster.reporting.tables import (
    Score,
    has_masks,
    mask_score,
    matchings_of,
    of_protocol,
)

VARIANTS_NOT_SUMMARIZED = ("count_hungarian", "iou_majority", "count_majority")
"""Matchings that the summary leaves out, unless they are the protocol's own."""


def summary_lines(metrics: pd.DataFrame) -> list[str]:
    """Return the scores of a run in a few lines of text.

    Parameters
    ----------
    metrics : DataFrame
        `evaluation.tables.Tables.metrics`.
    """
    first, images = metrics.iloc[0], int(metrics["images"].iloc[0])
    scores = {
        stage: f"{stage} mask: {mask_score(metrics, stage)} fg/bg mIoU, foreground IoU by image "
        f"{mask_score(metrics, stage, 'image_foreground_iou')}, recall by class "
        f"{mask_score(metrics, stage, 'class_recall')}, boundary F "
        f"{mask_score(metrics, stage, 'boundary_f')}"
        for stage in ("merged", "reestimated", "refined") * has_masks(metrics)
    }
    if scores and mask_score(metrics, "reestimated") == mask_score(metrics, "merged"):
        del scores["reestimated"]  # there were no rounds
    masks = list(scores.values())
    classes = [
        line
        for name in protocols_of(metrics)
        for line in summarize_protocol(of_protocol(metrics, name))
    ]
    names = protocols_of(metrics)
    scope = (
        f"scores in per cent, on {images:,} labelled image{'s' * (images != 1)} and "
        f"{int(first['classes'])} classes, protocol{'s' * (len(names) > 1)} {', '.join(names)}"
    )
    return [*masks, *classes, scope]


def summarize_protocol(metrics: pd.DataFrame) -> list[str]:
    """Return the scores of the classes under one protocol, equal ones once."""
    own, *variants = matchings_of(metrics)
    shown = [own, *(name for name in variants if name not in VARIANTS_NOT_SUMMARIZED)]
    lines = class_lines(metrics, shown)
    distinct = {(line.miou, line.floor, line.fallback): line for line in reversed(lines)}
    seeds = len(seeds_of(metrics))
    return [describe_classes(line, seeds) for line in reversed(distinct.values())]


def describe_classes(line: ClassLine, seeds: int) -> str:
    """Return the scores of the classes under one matching in a line of text."""
    matching = f"{line.matching}, here {line.fallback}" if line.fallback else line.matching
    beside = {"random": line.floor, "neighbours'": line.neighbors, "oracle": line.ceiling}
    bounds = [
        f"{whose} labels {Score(score.mean)}"
        for whose, score in beside.items()
        if not math.isnan(score.mean)
    ]
    return (
        f"classes: {line.miou} mIoU ({matching}, {seeds} seed{'s' * (seeds != 1)}; "
        f"{', '.join(bounds)})"
    )
