"""The table that compares runs on one dataset, followed by published figures of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lightcluster.errors import StoreError
from lightcluster.evaluation.bootstrap import (
    MASK_METRICS,
    MASK_STAGES,
    bootstrap_classes,
    bootstrap_masks,
    interval,
)
from lightcluster.evaluation.protocols import PROTOCOLS, frame_called
from lightcluster.evaluation.published import PublishedFigure
from lightcluster.evaluation.tables import FOREGROUND, protocols_of, seeds_of
from lightcluster.shards import Shards

MEASURED, PUBLISHED = "measured", "published"
CLASS_METRICS = ("miou", "pixel_accuracy")
OF_METRICS = ["dataset", "protocol", "stage", "matching", "fallback", "metric", "classes",
              "clusters", "images", "ignored_pixels", "resolution", "crop", "refinement", "seeds",
              "fitted_on"]  # fmt: skip
"""Columns that a measured row has from the table of its run."""

COLUMNS = [
    "kind", "name", "dataset", "protocol", "stage", "matching", "fallback", "metric", "value", "sd",
    "floor", "ceiling", "difference", "low", "high", "reference", "resamples", "classes",
    "clusters", "images", "ignored_pixels", "resolution", "crop", "refinement", "seeds",
    "fitted_on", "source", "hygiene",
]  # fmt: skip


class Figure(NamedTuple):
    """A score by which runs are compared."""

    protocol: str
    stage: str
    metric: str


Scores = dict[Figure, NDArray[np.float64]]
"""Each figure of a run, float64 [1 + resamples]: over all images, then over each resample."""


def bootstrap_run(
    folder: Path, metrics: pd.DataFrame, shards: Shards, resamples: int, seed: int
) -> Scores:
    """Score a run and its resamples from the counts in its folder.

    Parameters
    ----------
    folder : Path
        ``results/<dataset>/<run>``, finished.
    metrics : DataFrame
        `evaluation.tables.Tables.metrics` of the run.
    shards : Shards
    resamples, seed : int

    Raises
    ------
    StoreError
        If counts are missing or damaged.
    """
    counts = folder / "counts"
    scores: Scores = {}
    if (metrics["protocol"] == FOREGROUND).any():
        of_masks = bootstrap_masks(counts, shards, resamples, seed)
        for (stage, metric), values in of_masks.items():
            scores[Figure(FOREGROUND, stage, metric)] = values
    seeds = [int(name) for name in seeds_of(metrics)]
    for protocol in protocols_of(metrics):
        first = metrics[metrics["protocol"] == protocol].iloc[0]
        frame = frame_called(str(first["resolution"]), str(first["crop"]))
        of_classes = bootstrap_classes(counts, shards, seeds, protocol, frame, resamples, seed)
        for metric, of_metric in zip(CLASS_METRICS, of_classes, strict=True):
            scores[Figure(protocol, "segmentation", metric)] = of_metric
    return scores


def main_rows(run: str, metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the main figures of a run: mean and sd over seeds, floor and ceiling.

    Masks have neither seeds nor a floor. Classes are scored by the matching of each protocol; their
    floor is random labels of the same regions, and their ceiling is oracle labels.
    """
    rows = []
    figures = [
        Figure(FOREGROUND, stage, metric) for stage in MASK_STAGES for metric in MASK_METRICS
    ]
    figures += [
        Figure(protocol, "segmentation", metric)
        for protocol in protocols_of(metrics)
        for metric in CLASS_METRICS
    ]
    for figure in figures:
        own = "none" if figure.protocol == FOREGROUND else PROTOCOLS[figure.protocol].matchings[0]
        table = metrics[
            (metrics["protocol"] == figure.protocol) & (metrics["metric"] == figure.metric)
        ]
        found = table[(table["stage"] == figure.stage) & (table["matching"] == own)]
        if not len(found):
            continue  # masks, without a background class or of a method without them
        row: dict[str, Any] = {"kind": MEASURED, "name": run}
        row |= {name: found[name].iloc[0] for name in OF_METRICS}
        if figure.protocol == FOREGROUND:
            row["value"] = found["value"].iloc[0]
        else:
            by_seed = found.set_index("seed")["value"]
            row |= {"value": by_seed["mean"], "sd": by_seed["sd"]}
            for bound, stage, matching in (
                ("floor", "random_labels", own),
                ("ceiling", "oracle_labels", "none"),
            ):
                at = (table["stage"] == stage) & (table["matching"] == matching)
                row[bound] = table[at & (table["seed"] == "mean")]["value"].iloc[0]
        rows.append(row)
    return rows


def published_row(figure: PublishedFigure) -> dict[str, Any]:
    """Return a published figure as a row; unknown values are empty."""
    return {
        "kind": PUBLISHED,
        "name": figure.name,
        "dataset": figure.dataset,
        "protocol": figure.protocol,
        "stage": "segmentation",
        "metric": figure.metric,
        "value": figure.value / 100,
        "sd": None if figure.sd is None else figure.sd / 100,
        "source": ", on ".join(filter(None, [figure.source, figure.images])),
        "hygiene": "; ".join(figure.hygiene),
    }


def comparable(row: Mapping[str, Any], reference: Mapping[str, Any]) -> bool:
    """Tell whether a figure of two runs can be compared.

    It cannot if the protocol counted other pixels, or matched another number of clusters. The
    scores of masks do not depend on clusters.
    """
    conditions = ["resolution", "crop"]
    if row["protocol"] != FOREGROUND:
        conditions += ["clusters", "fallback"]
    return all(row[name] == reference[name] for name in conditions)


def make_comparison(
    metrics: Mapping[str, pd.DataFrame],
    scores: Mapping[str, Scores],
    published: Sequence[PublishedFigure],
) -> pd.DataFrame:
    """Compare runs with the first of them, and put published figures below.

    Parameters
    ----------
    metrics : mapping of str to DataFrame
        `evaluation.tables.Tables.metrics` of each run.
    scores : mapping of str to Scores
        Of each run if there are several; resampled alike.
    published : sequence of PublishedFigure

    Returns
    -------
    DataFrame
        The `COLUMNS`, one row a run and figure; scores are fractions. ``difference`` is from the
        run ``reference``, and ``low`` to ``high`` its 95 % interval; empty for that run itself,
        and where it has no such figure or one that is not `comparable`.

    Raises
    ------
    StoreError
        If the runs are not of the same images.
    """
    images = {run: int(table["images"].iloc[0]) for run, table in metrics.items()}
    if len(set(images.values())) > 1:
        raise StoreError(
            f"runs of different images cannot be compared: {images}; run snakemake again"
        )
    reference = next(iter(metrics))
    rows, first = [], {}
    for run, table in metrics.items():
        for row in main_rows(run, table):
            figure = Figure(row["protocol"], row["stage"], row["metric"])
            if run == reference:
                first[figure] = row
            elif figure in first and comparable(row, first[figure]):
                own, other = scores[run][figure], scores[reference][figure]
                row |= interval(own, other)._asdict()
                row |= {"reference": reference, "resamples": len(own) - 1}
            rows.append(row)
    rows += map(published_row, published)
    return pd.DataFrame(rows).reindex(columns=COLUMNS)
