"""The scores of a run as the lines of tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from lightcluster.evaluation.mask_counts import STAGES
from lightcluster.evaluation.tables import protocols_of, seeds_of
from lightcluster.reporting.lettering import printable
from lightcluster.reporting.tables import (
    MATCHING_NAMES,
    Score,
    class_score,
    fallback_of,
    has_masks,
    iou_of_classes,
    mask_score,
    matchings_of,
    of_protocol,
)


@dataclass(frozen=True)
class MaskLine:
    """One line of the table of masks, in per cent."""

    stage: str
    miou: Score
    foreground: Score
    background: Score
    accuracy: Score
    image: Score
    recall: Score
    outline: Score
    taken: Score


@dataclass(frozen=True)
class ClassLine:
    """One line of the table of classes, in per cent."""

    matching: str
    fallback: str
    miou: Score
    floor: Score
    neighbors: Score
    ceiling: Score
    accuracy: Score


@dataclass(frozen=True)
class IouLine:
    """One line of the table of the IoU of each class, in per cent."""

    name: str
    iou: Score
    floor: Score
    ceiling: Score

    @property
    def drawn(self) -> tuple[float, float | None, float | None] | None:
        """Fractions for a chart; None if the class has no IoU."""
        if math.isnan(self.iou.mean):
            return None
        floor, ceiling = (
            None if math.isnan(bound.mean) else bound.mean for bound in (self.floor, self.ceiling)
        )
        return self.iou.mean, floor, ceiling


@dataclass(frozen=True)
class ProtocolScores:
    """One protocol as shown on the page: its conditions, and a line for each matching."""

    conditions: dict[str, str]
    lines: list[ClassLine]


def mask_lines(metrics: pd.DataFrame) -> list[MaskLine]:
    """Return the scores of each stage of the mask; none if they were not scored."""
    return [
        MaskLine(
            stage=f"{stage} level" if stage in STAGES[:3] else stage,
            miou=mask_score(metrics, stage, "fgbg_miou"),
            foreground=mask_score(metrics, stage, "foreground_iou"),
            background=mask_score(metrics, stage, "background_iou"),
            accuracy=mask_score(metrics, stage, "fgbg_accuracy"),
            image=mask_score(metrics, stage, "image_foreground_iou"),
            recall=mask_score(metrics, stage, "class_recall"),
            outline=mask_score(metrics, stage, "boundary_f"),
            taken=mask_score(metrics, stage, "background_taken"),
        )
        for stage in STAGES * has_masks(metrics)
    ]


def class_lines(metrics: pd.DataFrame, matchings: list[str]) -> list[ClassLine]:
    """Return the scores of the classes under each of some matchings of one protocol."""
    return [
        ClassLine(
            matching=MATCHING_NAMES[matching],
            fallback=fallback_of(metrics, matching),
            miou=class_score(metrics, "segmentation", matching),
            floor=class_score(metrics, "random_labels", matching),
            neighbors=class_score(metrics, "neighbor_labels"),
            ceiling=class_score(metrics, "oracle_labels"),
            accuracy=class_score(metrics, "segmentation", matching, "pixel_accuracy"),
        )
        for matching in matchings
    ]


def iou_lines(per_class: pd.DataFrame, matching: str) -> list[IouLine]:
    """Return the IoU of each class under a matching of one protocol, the highest first."""
    found, floor, ceiling = (
        iou_of_classes(per_class, stage, own)
        for stage, own in (
            ("segmentation", matching), ("random_labels", matching), ("oracle_labels", "none")
        )
    )  # fmt: skip
    lines = [
        IouLine(printable(name), iou, floor.get(name, Score(math.nan)),
                ceiling.get(name, Score(math.nan)))
        for name, iou in found.items()
    ]  # fmt: skip
    return sorted(lines, key=lambda line: (math.isnan(line.iou.mean), -line.iou.mean, line.name))


def image_score(summary: pd.DataFrame) -> Score:
    """Return the score of protocol ``per_image`` over seeds."""
    values = summary.set_index("seed")["value"]
    return Score(float(values["mean"]), float(values["sd"]))


def conditions(metrics: pd.DataFrame) -> dict[str, str]:
    """Return what must stand beside every score of one protocol for it to be comparable."""
    first = metrics.iloc[0]
    return {
        "dataset": str(first["dataset"]),
        "run": str(first["run"]),
        "protocol": str(first["protocol"]),
        "images": f"{int(first['images']):,}",
        "ignored pixels": f"{int(first['ignored_pixels']):,}",
        "resolution": str(first["resolution"]),
        "crop": str(first["crop"]),
        "refinement": str(first["refinement"]),
        "classes": f"{int(first['classes'])}, from {int(first['clusters'])} clusters",
        "labelling seeds": ", ".join(seeds_of(metrics)) or "none",
        "fitted on": str(first["fitted_on"]),
    }


def protocol_scores(metrics: pd.DataFrame) -> list[ProtocolScores]:
    """Return the scores of the classes, those of each protocol by themselves."""
    tables = [of_protocol(metrics, name) for name in protocols_of(metrics)]
    return [
        ProtocolScores(conditions(table), class_lines(table, matchings_of(table)))
        for table in tables
    ]
