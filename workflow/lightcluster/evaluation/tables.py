"""The tables of scores: one row a figure, each with its protocol, matching, seed and stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lightcluster.datasets.labels import background_index, read_classes
from lightcluster.errors import DatasetError
from lightcluster.evaluation.counting import STAGES, sum_counts
from lightcluster.evaluation.matching import How
from lightcluster.evaluation.scores import (
    foreground_scores,
    iou_per_class,
    mean_and_sd,
    mean_iou,
    pixel_accuracy,
    score_classes,
)
from lightcluster.files import replacing

PROTOCOL = "maskcontrast"
"""Counts at the images' own resolution; absent classes count 0; see `specs` in the README."""

MATCHINGS: tuple[How, ...] = ("iou_hungarian", "count_hungarian", "background_fixed", "majority")
VARIANTS = {"segmentation": "segmentation", "random": "random_labels"}
"""Arrays of counts with clusters as rows, and the stage they are reported as."""

COLUMNS = [
    "dataset", "run", "protocol", "stage", "matching", "fallback", "seed", "metric", "value",
    "classes", "clusters", "images", "ignored_pixels", "resolution", "fitted_on",
]  # fmt: skip


@dataclass(frozen=True)
class Tables:
    """Scores of one run.

    Attributes
    ----------
    metrics : DataFrame
        The `COLUMNS`; values are fractions. ``seed`` is a labelling seed, ``mean`` or ``sd`` over
        the seeds, or empty for the masks, which do not depend on it.
    per_class : DataFrame
        IoU of each class by stage, matching and seed.
    matching : DataFrame
        Class of each cluster by matching and seed.
    """

    metrics: pd.DataFrame
    per_class: pd.DataFrame
    matching: pd.DataFrame


def score_masks(counts: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yield the foreground scores of each stage from counts [stages, 2, 2]."""
    for stage, table in zip(STAGES, counts, strict=True):
        scores = foreground_scores(table)
        for metric, value in zip(
            ("background_iou", "foreground_iou", "fgbg_miou", "fgbg_accuracy"), scores, strict=True
        ):
            yield {"stage": stage, "matching": "none", "metric": metric, "value": value}


def score_seed(
    counts: dict[str, NDArray[np.int64]], names: tuple[str, ...], background: int | None, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of metrics, of per-class IoU and of matchings of one labelling seed."""
    metrics, per_class, matchings = [], [], []
    for array, stage in VARIANTS.items():
        for how in MATCHINGS:
            if how == "background_fixed" and background is None:
                continue
            scores = score_classes(counts[array], names, how, "zero", background)
            key = {"stage": stage, "matching": how, "seed": str(seed)}
            fallback = {"fallback": scores.matching.fallback or ""}
            for metric, value in (
                ("miou", scores.mean_iou),
                ("pixel_accuracy", scores.pixel_accuracy),
            ):
                metrics.append({**key, **fallback, "metric": metric, "value": value})
            per_class += [
                {**key, "class": name, "iou": iou}
                for name, iou in zip(names, scores.iou, strict=True)
            ]
            if stage == "segmentation":
                matchings += [
                    {
                        **key,
                        "cluster": cluster,
                        "class": names[matched] if matched >= 0 else "",
                        "pixels": int(counts[array][cluster].sum()),
                    }
                    for cluster, matched in enumerate(scores.matching.cluster_to_class)
                ]
    oracle = counts["oracle"]
    present = oracle.sum(axis=0) > 0
    key = {"stage": "oracle_labels", "matching": "none", "seed": str(seed)}
    iou = iou_per_class(oracle)
    metrics.append({**key, "metric": "miou", "value": mean_iou(iou, present, "zero")})
    metrics.append({**key, "metric": "pixel_accuracy", "value": pixel_accuracy(oracle)})
    per_class += [
        {**key, "class": name, "iou": value} for name, value in zip(names, iou, strict=True)
    ]
    return metrics, per_class, matchings


def over_seeds(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return `rows` followed by the mean and the sample sd over seeds of each group of them."""
    keys = [name for name in rows.columns if name not in ("seed", value)]
    summary = []
    for group, members in rows.groupby(keys, sort=False, dropna=False):
        mean, sd = mean_and_sd(members[value].tolist())
        for seed, number in (("mean", mean), ("sd", sd)):
            summary.append({**dict(zip(keys, group, strict=True)), "seed": seed, value: number})
    return pd.concat([rows, pd.DataFrame(summary)], ignore_index=True)


def make_tables(
    mask_counts: dict[str, NDArray[np.int64]],
    class_counts: dict[int, dict[str, NDArray[np.int64]]],
    names: tuple[str, ...],
    background: int | None,
    *,
    dataset: str,
    run: str,
) -> Tables:
    """Compute all scores of a run.

    Parameters
    ----------
    mask_counts : dict
        Summed counts of `counting.count_masks`.
    class_counts : dict of int to dict
        Summed counts of `counting.count_confusion` by seed.
    names : tuple of str
        Classes.
    background : int or None
        Position of the background class.
    dataset, run : str
        Written into the tables.
    """
    metrics: list[dict[str, Any]] = []
    per_class: list[dict[str, Any]] = []
    matchings: list[dict[str, Any]] = []
    for seed, counts in class_counts.items():
        for rows, new in zip(
            (metrics, per_class, matchings),
            score_seed(counts, names, background, seed),
            strict=True,
        ):
            rows.extend(new)
    first = next(iter(class_counts.values()))
    semantic = over_seeds(pd.DataFrame(metrics).fillna({"fallback": ""}), "value")
    masks = pd.DataFrame(score_masks(mask_counts["counts"]) if background is not None else [])
    images = int(first["images"])
    table = pd.concat([masks, semantic], ignore_index=True).assign(
        dataset=dataset,
        run=run,
        protocol=PROTOCOL,
        classes=len(names),
        clusters=len(first["segmentation"]),
        images=images,
        ignored_pixels=int(first["ignored"]),
        resolution="original",
        fitted_on="the evaluated images, without labels",
    )
    return Tables(
        metrics=table.reindex(columns=COLUMNS),
        per_class=over_seeds(pd.DataFrame(per_class), "iou").assign(dataset=dataset, run=run),
        matching=pd.DataFrame(matchings).assign(dataset=dataset, run=run),
    )


def evaluate(
    counts_folder: Path,
    shards: int,
    seeds: list[int],
    classes_file: Path,
    output: Path,
    *,
    background: int | None,
    dataset: str,
    run: str,
) -> None:
    """Write ``metrics.csv``, ``per_class.csv`` and ``matching.csv`` into the folder `output`.

    Raises
    ------
    DatasetError
        If not one image has a usable label.
    """
    names = read_classes(classes_file)
    shard_names = [f"{shard:04d}.npz" for shard in range(shards)]
    by_seed = {
        seed: sum_counts([counts_folder / f"seed-{seed}" / name for name in shard_names])
        for seed in seeds
    }
    if not int(by_seed[seeds[0]]["images"]):
        raise DatasetError(
            "no image has a usable label: nothing can be evaluated. Label PNGs are looked for at "
            "`<dataset.labels>/<image path without suffix>.png`; rejected.csv lists those refused"
        )
    tables = make_tables(
        sum_counts([counts_folder / "masks" / name for name in shard_names]),
        by_seed, names.names, background_index(names, background), dataset=dataset, run=run,
    )  # fmt: skip
    for name in ("metrics", "per_class", "matching"):
        with replacing(output / f"{name}.csv") as temporary:
            getattr(tables, name).to_csv(temporary, index=False, float_format="%.6f")
