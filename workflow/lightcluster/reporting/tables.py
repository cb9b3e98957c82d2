"""The tables of a run, read back: scores over seeds, protocols, matchings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lightcluster.methods.protocol import seen_labels

MATCHING_NAMES = {
    "iou_hungarian": "IoU-Hungarian",
    "count_hungarian": "count-Hungarian",
    "background_fixed": "background fixed",
    "iou_majority": "majority vote by IoU",
    "count_majority": "majority vote by pixels",
}


@dataclass(frozen=True)
class Score:
    """Mean and sample standard deviation over seeds; NaN where there is none."""

    mean: float
    sd: float = math.nan

    def __str__(self) -> str:
        """Return per cent with one decimal, as ``34.1 ± 1.2``."""
        if math.isnan(self.mean):
            return "n/a"
        spread = "" if math.isnan(self.sd) else f" ± {100 * self.sd:.1f}"
        return f"{100 * self.mean:.1f}{spread}"


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of `evaluation.tables`.

    Seeds and names are text, empty where there is none; a class may well be called ``NA``.
    """
    return pd.read_csv(
        path,
        dtype={"seed": str, "class": str, "dataset": str, "run": str},
        keep_default_na=False,
        na_values={"value": [""], "iou": [""]},
    )


def mask_score(metrics: pd.DataFrame, stage: str, metric: str = "fgbg_miou") -> Score:
    """Return a score of a stage of the mask; NaN if the table does not have it."""
    rows = metrics[(metrics["stage"] == stage) & (metrics["metric"] == metric)]
    return Score(float(rows["value"].iloc[0]) if len(rows) else math.nan)


def of_protocol(table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Return the rows of one protocol."""
    return table[table["protocol"] == protocol]


def class_score(
    metrics: pd.DataFrame, stage: str, matching: str = "none", metric: str = "miou"
) -> Score:
    """Return a score of the classes over seeds; NaN if the table does not have it.

    The rows must be those of one protocol, as in all that follows.
    """
    rows = metrics[
        (metrics["stage"] == stage)
        & (metrics["matching"] == matching)
        & (metrics["metric"] == metric)
    ]
    return over_seeds(rows, "value")


def over_seeds(rows: pd.DataFrame, value: str) -> Score:
    """Return mean and standard deviation in a column of the rows of one score."""
    mean, sd = (rows.loc[rows["seed"] == name, value] for name in ("mean", "sd"))
    return Score(
        float(mean.iloc[0]) if len(mean) else math.nan, float(sd.iloc[0]) if len(sd) else math.nan
    )


def iou_of_classes(per_class: pd.DataFrame, stage: str, matching: str) -> dict[str, Score]:
    """Return the IoU of each class over seeds, in a stage under a matching of one protocol."""
    rows = per_class[(per_class["stage"] == stage) & (per_class["matching"] == matching)]
    return {
        str(name): over_seeds(members, "iou") for name, members in rows.groupby("class", sort=False)
    }


def has_masks(metrics: pd.DataFrame) -> bool:
    """Tell whether the masks were scored, as they are if one of the classes is the background."""
    return bool((metrics["metric"] == "fgbg_miou").any())


def matchings_of(metrics: pd.DataFrame) -> list[str]:
    """Return the matchings that the table has scores for, the protocol's own first."""
    return [name for name in metrics["matching"].unique() if name != "none"]


def fallback_of(metrics: pd.DataFrame, matching: str) -> str:
    """Return what was done in place of a matching that was impossible; empty if it was not."""
    fallback = metrics.loc[metrics["matching"] == matching, "fallback"].fillna("")
    return str(fallback.iloc[0]) if len(fallback) else ""


def describe_run(metrics: pd.DataFrame) -> str:
    """Return dataset, run, protocol of the first row and number of images in one line.

    What labels have had a part in says so.
    """
    first = metrics.iloc[0]
    images, labels = int(first["images"]), seen_labels(str(first["fitted_on"]))
    return (
        f"{first['dataset']} · run {first['run']} · protocol {first['protocol']} · "
        f"{images:,} image{'s' * (images != 1)}" + f" · {labels}" * bool(labels)
    )
