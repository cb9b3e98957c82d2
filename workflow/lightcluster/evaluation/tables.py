"""The tables of scores: one row per figure, each with its protocol, matching, seed and stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lightcluster.datasets.labels import background_index, read_classes
from lightcluster.errors import DatasetError
from lightcluster.evaluation.counting import (
    ImageCounts,
    files_of_seed,
    read_class_counts,
)
from lightcluster.evaluation.mask_counts import MaskTotals, score_masks, sum_mask_counts
from lightcluster.evaluation.protocols import (
    FRAMES,
    PROTOCOLS,
    FrameName,
    Protocol,
    dataset_level,
    frame_of,
    frames_of,
)
from lightcluster.evaluation.scores import (
    iou_per_class,
    mean_and_sd,
    mean_iou,
    pixel_accuracy,
    score_classes,
)
from lightcluster.files import read_arrays, replacing
from lightcluster.shards import Shards

FOREGROUND = "foreground"
"""Protocol name for scores of foreground masks at label resolution, where nothing is matched."""

VARIANTS = {"segmentation": "segmentation", "random": "random_labels"}
"""Arrays of counts with clusters as rows, and the stage they are reported as."""

COLUMNS = [
    "dataset", "run", "protocol", "stage", "matching", "fallback", "seed", "metric", "value",
    "classes", "clusters", "images", "ignored_pixels", "resolution", "crop", "refinement", "seeds",
    "fitted_on",
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


def protocols_of(metrics: pd.DataFrame) -> list[str]:
    """Return the protocols of the classes, the one that is drawn first."""
    return [name for name in metrics["protocol"].unique() if name != FOREGROUND]


def seeds_of(metrics: pd.DataFrame) -> list[str]:
    """Return the labelling seeds."""
    seeds = metrics.loc[metrics["stage"] == "segmentation", "seed"].astype(str).unique()
    return [seed for seed in seeds if seed not in ("mean", "sd")]


def score_seed(
    counts: ImageCounts,
    names: tuple[str, ...],
    background: int | None,
    protocol: Protocol,
    seed: int,
    neighbors: NDArray[np.int64] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of metrics, of per-class IoU and of matchings of one labelling seed.

    `neighbors` are the counts of `neighbors.vote_neighbors`, the same for all seeds.
    """
    metrics, per_class, matchings = [], [], []
    for array, stage in VARIANTS.items():
        table = getattr(counts, array)
        for how in protocol.matchings:
            if how == "background_fixed" and background is None:
                continue
            scores = score_classes(table, names, how, protocol.absent, background)
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
                        "pixels": int(table[cluster].sum()),
                    }
                    for cluster, matched in enumerate(scores.matching.cluster_to_class)
                ]
    for stage, table in (("neighbor_labels", neighbors), ("oracle_labels", counts.oracle)):
        if table is None:
            continue
        key = {"stage": stage, "matching": "none", "seed": str(seed)}
        iou = iou_per_class(table)
        best = mean_iou(iou, protocol.absent)
        metrics.append({**key, "metric": "miou", "value": best})
        metrics.append({**key, "metric": "pixel_accuracy", "value": pixel_accuracy(table)})
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


@dataclass(frozen=True)
class Conditions:
    """Conditions of the scores of a run, in addition to those of each protocol.

    Attributes
    ----------
    dataset, run : str
    protocols : sequence of str
    stego_squash : bool
        As in ``evaluation`` of the configuration.
    refinement : str
        The method that refined the masks, ``none`` where nothing did.
    fitted_on : str
        Which images, in words.
    """

    dataset: str
    run: str
    protocols: Sequence[str]
    stego_squash: bool
    refinement: str
    fitted_on: str


def make_tables(
    masks: tuple[dict[str, MaskTotals], int] | None,
    class_counts: dict[FrameName, dict[int, ImageCounts]],
    images: int,
    names: tuple[str, ...],
    background: int | None,
    conditions: Conditions,
    neighbors: Mapping[str, NDArray[np.int64]] | None = None,
) -> Tables:
    """Compute all scores of a run.

    Parameters
    ----------
    masks : dict of stage to MaskTotals and int, optional
        None of a method that has no masks.
    class_counts : dict of frame to dict of seed to ImageCounts
        Summed counts, of each frame that the protocols need.
    images : int
        Images with a label.
    names : tuple of str
        Classes.
    background : int or None
        Position of the background class.
    conditions : Conditions
    neighbors : mapping of frame to int64 array, optional
        Of `neighbors.vote_neighbors`; None of a method that has no masks.
    """
    parts: dict[str, list[pd.DataFrame]] = {"metrics": [], "per_class": [], "matching": []}
    first = next(iter(next(iter(class_counts.values())).values()))
    if masks is None:
        background = None  # no cluster is known to be the background
    elif background is not None:
        totals, ignored = masks
        of_masks = pd.DataFrame(
            {"stage": stage, "matching": "none", "metric": metric, "value": value}
            for stage, of_stage in totals.items()
            for metric, value in score_masks(of_stage).items()
        ).assign(protocol=FOREGROUND, ignored_pixels=ignored, seeds=1, **_frame("original"))
        refined = of_masks["stage"] == "refined"
        parts["metrics"].append(
            of_masks.assign(refinement=np.where(refined, conditions.refinement, "none"))
        )
    for name in dataset_level(conditions.protocols):
        frame = frame_of(name, conditions.stego_squash)
        by_seed = class_counts[frame]
        scored = [
            score_seed(
                counts, names, background, PROTOCOLS[name], seed, (neighbors or {}).get(frame)
            )
            for seed, counts in by_seed.items()
        ]
        metrics, per_class, matchings = (
            pd.DataFrame([row for rows in of_table for row in rows])
            for of_table in zip(*scored, strict=True)
        )
        parts["metrics"].append(
            over_seeds(metrics.fillna({"fallback": ""}), "value").assign(
                protocol=name,
                ignored_pixels=next(iter(by_seed.values())).ignored,
                seeds=len(by_seed),
                refinement=conditions.refinement,
                **_frame(frame),
            )
        )
        parts["per_class"].append(over_seeds(per_class, "iou").assign(protocol=name))
        parts["matching"].append(matchings.assign(protocol=name))
    run = {"dataset": conditions.dataset, "run": conditions.run}
    table = pd.concat(parts["metrics"], ignore_index=True).assign(
        **run,
        classes=len(names),
        clusters=len(first.segmentation),
        images=images,
        fitted_on=conditions.fitted_on,
    )
    return Tables(
        metrics=table.reindex(columns=COLUMNS),
        per_class=pd.concat(parts["per_class"], ignore_index=True).assign(**run),
        matching=pd.concat(parts["matching"], ignore_index=True).assign(**run),
    )


def _frame(name: FrameName) -> dict[str, str]:
    return FRAMES[name]._asdict()


def evaluate(
    counts_folder: Path,
    shards: Shards,
    seeds: Sequence[int],
    classes_file: Path,
    output: Path,
    *,
    masks: bool,
    background: int | None,
    conditions: Conditions,
) -> None:
    """Write ``metrics.csv``, ``per_class.csv`` and ``matching.csv`` into the folder `output`.

    Raises
    ------
    DatasetError
        If not one image has a usable label.
    """
    names = read_classes(classes_file)
    class_counts: dict[FrameName, dict[int, ImageCounts]] = {}
    for frame in frames_of(dataset_level(conditions.protocols), conditions.stego_squash):
        class_counts[frame] = {}
        for seed in seeds:
            paths = files_of_seed(counts_folder, shards, seed)
            class_counts[frame][seed], images = read_class_counts(paths, frame)
    if not images:
        raise DatasetError(
            "no image has a usable label: nothing can be evaluated; `lightcluster check` says "
            "where label maps are looked for, rejected.csv lists those refused"
        )
    mask_files = shards.paths(counts_folder / "masks", ".npz")
    tables = make_tables(
        sum_mask_counts(mask_files) if masks else None,
        class_counts, images, names.names, background_index(names, background), conditions,
        read_arrays(counts_folder / "neighbors.npz") if masks else None,
    )  # fmt: skip
    for name in ("metrics", "per_class", "matching"):
        with replacing(output / f"{name}.csv") as temporary:
            getattr(tables, name).to_csv(temporary, index=False, float_format="%.6f")
