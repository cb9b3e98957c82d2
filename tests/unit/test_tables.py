"""The tables of scores."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import write_classes
from numpy.typing import NDArray

from lightcluster.errors import DatasetError
from lightcluster.evaluation.counting import STAGES
from lightcluster.evaluation.scores import score_classes
from lightcluster.evaluation.tables import (
    COLUMNS,
    MATCHINGS,
    Tables,
    evaluate,
    make_tables,
    over_seeds,
)
from lightcluster.files import write_arrays

NAMES = ("ground", "cat", "dog")
Counts = dict[str, NDArray[np.int64]]

MASKS: Counts = {
    "counts": np.asarray([[[50 + s, 10], [20, 20 - s]] for s in range(len(STAGES))]),
    "ignored": np.asarray(9),
    "images": np.asarray(4),
}


def class_counts(seed: int) -> Counts:
    """Counts whose one-to-one matching is the identity."""
    segmentation = [[50 + seed, 4, 2], [3, 20, 2 * seed], [5, 1, 13]]
    random = [[50 + seed, 4, 2], [4, 10, 3], [4, 11, 10 + 2 * seed]]
    oracle = [[50 + seed, 4, 2], [0, 21, 0], [8, 0, 13 + 2 * seed], [0, 0, 0]]
    return {
        "segmentation": np.asarray(segmentation),
        "random": np.asarray(random),
        "oracle": np.asarray(oracle),
        "ignored": np.asarray(9),
        "images": np.asarray(4),
    }


def tables_of(seeds: list[int], background: int | None = 0) -> Tables:
    counts = {seed: class_counts(seed) for seed in seeds}
    return make_tables(MASKS, counts, NAMES, background, dataset="data", run="a run")


def value_of(tables: Tables, **where: Any) -> float:
    rows = tables.metrics
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    (value,) = rows["value"]
    return float(value)


def iou_of(counts: NDArray[np.int64], number: int) -> float:
    right = counts[number, number]
    return float(right / (counts[number].sum() + counts[:, number].sum() - right))


def test_tables_are_tidy() -> None:
    tables = tables_of([0, 1, 2])
    metrics = tables.metrics
    assert list(metrics.columns) == COLUMNS
    key = ["stage", "matching", "seed", "metric"]
    assert not metrics.duplicated(key).any()
    # 6 stages x 4; (2 variants x 4 matchings + the ceiling) x 2 metrics x (3 seeds + mean + sd)
    assert len(metrics) == len(STAGES) * 4 + 9 * 2 * 5
    constant = metrics.drop(columns=[*key, "value", "fallback"]).drop_duplicates()
    assert constant.to_dict("records") == [
        {
            "dataset": "data", "run": "a run", "protocol": "maskcontrast", "classes": 3,
            "clusters": 3, "images": 4, "ignored_pixels": 9, "resolution": "original",
            "fitted_on": "the evaluated images, without labels",
        }
    ]  # fmt: skip
    assert metrics["value"].between(0, 1).all()
    for table, width in ((tables.per_class, 3), (tables.matching, 3)):
        assert (table["run"] == "a run").all()
        assert not table.drop(columns=["iou", "pixels"], errors="ignore").duplicated().any()
        assert len(table) % width == 0


def test_masks_are_scored_by_stage_and_not_by_seed() -> None:
    tables = tables_of([0, 1])
    rows = tables.metrics[tables.metrics["stage"].isin(STAGES)]
    assert rows["seed"].isna().all()
    assert list(dict.fromkeys(rows["stage"])) == list(STAGES)
    for stage, counts in zip(STAGES, MASKS["counts"], strict=True):
        ground, thing = iou_of(counts, 0), iou_of(counts, 1)
        for metric, expected in {
            "background_iou": ground,
            "foreground_iou": thing,
            "fgbg_miou": (ground + thing) / 2,
            "fgbg_accuracy": np.trace(counts) / counts.sum(),
        }.items():
            assert value_of(tables, stage=stage, metric=metric) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stage", "array"), [("segmentation", "segmentation"), ("random_labels", "random")]
)
@pytest.mark.parametrize("matching", MATCHINGS)
def test_scores_of_each_seed_and_matching(stage: str, array: str, matching: Any) -> None:
    tables = tables_of([0, 1, 2])
    for seed in range(3):
        counts = class_counts(seed)[array]
        where = {"stage": stage, "matching": matching, "seed": str(seed)}
        scores = score_classes(counts, NAMES, matching, "zero", 0)
        assert value_of(tables, metric="miou", **where) == pytest.approx(scores.mean_iou)
        assert value_of(tables, metric="pixel_accuracy", **where) == pytest.approx(
            scores.pixel_accuracy
        )
        if stage == "segmentation":  # the identity is the matching of all kinds
            direct = np.mean([iou_of(counts, number) for number in range(3)])
            assert scores.mean_iou == pytest.approx(direct)
            assert scores.pixel_accuracy == pytest.approx(np.trace(counts) / counts.sum())


def test_the_ceiling_is_scored_without_a_matching() -> None:
    tables = tables_of([0, 1])
    for seed in range(2):
        counts = class_counts(seed)["oracle"]
        where = {"stage": "oracle_labels", "matching": "none", "seed": str(seed)}
        direct = np.mean([iou_of(counts, number) for number in range(3)])
        assert value_of(tables, metric="miou", **where) == pytest.approx(direct)
        assert value_of(tables, metric="pixel_accuracy", **where) == pytest.approx(
            np.trace(counts) / counts.sum()
        )


def test_pixels_without_a_class_lower_the_ceiling() -> None:
    counts = class_counts(0)
    counts["oracle"] = np.asarray([[0, 0, 0], [0, 10, 0], [0, 0, 10], [20, 0, 0]])
    tables = make_tables(MASKS, {0: counts}, NAMES, None, dataset="data", run="run")
    where = {"stage": "oracle_labels", "seed": "0"}
    assert value_of(tables, metric="pixel_accuracy", **where) == 0.5
    assert value_of(tables, metric="miou", **where) == pytest.approx(2 / 3)


def test_a_class_that_is_nowhere_true_counts_zero() -> None:
    counts = class_counts(0)
    for name in ("segmentation", "random", "oracle"):
        counts[name] = counts[name] * [1, 1, 0]
    counts["oracle"][2] = 0  # nor is it predicted anywhere: it has no IoU at all
    tables = make_tables(MASKS, {0: counts}, NAMES, 0, dataset="data", run="run")
    for array, stage, matching in (
        ("oracle", "oracle_labels", "none"),
        ("segmentation", "segmentation", "iou_hungarian"),
    ):
        expected = (iou_of(counts[array], 0) + iou_of(counts[array], 1)) / 3
        where = {"stage": stage, "matching": matching, "seed": "0", "metric": "miou"}
        assert value_of(tables, **where) == pytest.approx(expected)


@pytest.mark.parametrize("stage", ["segmentation", "random_labels", "oracle_labels"])
@pytest.mark.parametrize("metric", ["miou", "pixel_accuracy"])
def test_mean_and_sample_deviation_over_seeds(stage: str, metric: str) -> None:
    tables = tables_of([4, 0, 9])
    rows = tables.metrics.query("stage == @stage and metric == @metric")
    for _, group in rows.groupby("matching"):
        assert group["seed"].tolist() == ["4", "0", "9", "mean", "sd"]
        *values, mean, sd = group["value"].tolist()
        assert mean == pytest.approx(statistics.mean(values))
        assert sd == pytest.approx(statistics.stdev(values))
        assert sd > 0


def test_per_class_scores_and_their_mean() -> None:
    tables = tables_of([0, 3])
    rows = tables.per_class.query("stage == 'segmentation' and matching == 'iou_hungarian'")
    for number, name in enumerate(NAMES):
        of_class = rows[rows["class"] == name].set_index("seed")["iou"]
        expected = [iou_of(class_counts(seed)["segmentation"], number) for seed in (0, 3)]
        assert of_class[["0", "3"]].tolist() == pytest.approx(expected)
        assert of_class["mean"] == pytest.approx(statistics.mean(expected))
        assert of_class["sd"] == pytest.approx(statistics.stdev(expected))
    assert set(tables.per_class["stage"]) == {"segmentation", "random_labels", "oracle_labels"}


def test_a_single_seed_has_no_deviation() -> None:
    tables = tables_of([5])
    for table, value in ((tables.metrics, "value"), (tables.per_class, "iou")):
        seeds = table.dropna(subset="seed").set_index("seed")[value]
        assert seeds["sd"].isna().all()
        assert seeds["mean"].tolist() == seeds["5"].tolist()


def test_the_matching_names_the_class_and_the_pixels_of_each_cluster() -> None:
    tables = tables_of([0, 1])
    rows = tables.matching.query("matching == 'iou_hungarian' and seed == '1'")
    assert rows["cluster"].tolist() == [0, 1, 2]
    assert rows["class"].tolist() == list(NAMES)
    assert rows["pixels"].tolist() == class_counts(1)["segmentation"].sum(axis=1).tolist()
    assert set(tables.matching["seed"]) == {"0", "1"}
    assert set(tables.matching["stage"]) == {"segmentation"}


def test_another_number_of_clusters_is_matched_by_majority_and_said_so() -> None:
    counts = class_counts(0)
    for name in ("segmentation", "random"):
        counts[name] = np.concatenate([counts[name], [[0, 0, 8], [0, 0, 0]]])
    tables = make_tables(MASKS, {0: counts, 1: counts}, NAMES, 0, dataset="data", run="run")
    fallback = tables.metrics.query("stage == 'segmentation'").groupby("matching")["fallback"]
    assert {matching: set(values) for matching, values in fallback} == {
        "iou_hungarian": {"majority"},
        "count_hungarian": {"extra clusters by majority"},
        "background_fixed": {"majority"},
        "majority": {""},
    }
    assert (tables.metrics["clusters"] == 5).all()
    rows = tables.matching.query("matching == 'majority' and seed == '0'")
    assert rows["class"].tolist() == ["ground", "cat", "dog", "dog", ""]


def test_without_a_background_there_are_no_foreground_scores() -> None:
    tables = tables_of([0, 1], background=None)
    metrics = tables.metrics
    assert list(metrics.columns) == COLUMNS
    assert set(metrics["stage"]) == {"segmentation", "random_labels", "oracle_labels"}
    assert set(metrics["matching"]) == {*MATCHINGS, "none"} - {"background_fixed"}
    assert len(metrics) == 7 * 2 * 4
    assert "background_fixed" not in set(tables.per_class["matching"])
    assert "background_fixed" not in set(tables.matching["matching"])


def test_summaries_follow_the_rows_they_are_of() -> None:
    rows = pd.DataFrame(
        {"stage": ["a", "a", "b", "b"], "seed": ["0", "1"] * 2, "value": [1.0, 3.0, 5.0, 5.0]}
    )
    table = over_seeds(rows, "value")
    pd.testing.assert_frame_equal(table[:4], rows)
    assert table[4:].to_dict("records") == [
        {"stage": "a", "seed": "mean", "value": 2.0},
        {"stage": "a", "seed": "sd", "value": pytest.approx(2**0.5)},
        {"stage": "b", "seed": "mean", "value": 5.0},
        {"stage": "b", "seed": "sd", "value": 0.0},
    ]


def write_counts(folder: Path, images: int = 4) -> tuple[Path, Path]:
    """Write counts of two shards and the seeds 0 and 1; the second shard is twice the first."""
    for shard in range(2):
        for place, counts in (
            ("masks", MASKS),
            ("seed-0", class_counts(0)),
            ("seed-1", class_counts(1)),
        ):
            of_shard = {name: array * (shard + 1) for name, array in counts.items()}
            of_shard["images"] = np.asarray(images // 2)
            write_arrays(folder / "counts" / place / f"{shard:04d}.npz", **of_shard)
    classes = write_classes(folder / "classes.csv", dict(zip((0, 3, 7), NAMES, strict=True)))
    return folder / "counts", classes


@pytest.mark.parametrize("background", [0, 7, None])
def test_tables_are_written_from_the_counts_of_all_shards(
    tmp_path: Path, background: int | None
) -> None:
    counts, classes = write_counts(tmp_path)
    evaluate(
        counts, 2, [0, 1], classes, tmp_path / "tables", background=background, dataset="data",
        run="a run",
    )  # fmt: skip
    tripled = [{n: a * 3 for n, a in counts.items()} for counts in map(class_counts, (0, 1))]
    for of_seed in tripled:
        of_seed["images"] = np.asarray(4)
    position = {0: 0, 7: 2, None: None}[background]
    expected = make_tables(
        {"counts": 3 * MASKS["counts"]}, dict(enumerate(tripled)), NAMES, position,
        dataset="data", run="a run",
    )  # fmt: skip
    for name in ("metrics", "per_class", "matching"):
        found = pd.read_csv(
            tmp_path / "tables" / f"{name}.csv", dtype={"seed": str}, keep_default_na=True
        )
        wanted = getattr(expected, name).replace("", np.nan)
        pd.testing.assert_frame_equal(found, wanted, atol=1e-6, check_dtype=False)
    assert (found["run"] == "a run").all()


def test_without_a_single_usable_label_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    counts, classes = write_counts(tmp_path, images=0)
    with pytest.raises(DatasetError, match="no image has a usable label"):
        evaluate(
            counts, 2, [0, 1], classes, tmp_path / "tables", background=0, dataset="d", run="r"
        )
    assert not (tmp_path / "tables").exists()
