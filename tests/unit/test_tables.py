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
from lightcluster.evaluation.counting import ImageCounts
from lightcluster.evaluation.mask_counts import STAGES, MaskTotals, score_masks
from lightcluster.evaluation.protocols import PROTOCOLS
from lightcluster.evaluation.scores import score_classes
from lightcluster.evaluation.tables import (
    COLUMNS,
    Conditions,
    Tables,
    evaluate,
    make_tables,
    over_seeds,
)
from lightcluster.files import encode_names, write_arrays
from lightcluster.shards import Shards

NAMES = ("ground", "cat", "dog")
MATCHINGS = PROTOCOLS["maskcontrast"].matchings
BY_CLASS = np.asarray([[[60, 6, 9 - s], [20, 18, s]] for s in range(len(STAGES))])
"""Of ground, cat and dog: outside of the mask, and inside."""

MASKS = np.stack([BY_CLASS[..., 0], BY_CLASS[..., 1:].sum(axis=-1)], axis=-1)

SEEN = np.asarray([4, 3, 2])


def iou_of(counts: NDArray[np.int64], number: int) -> float:
    right = counts[number, number]
    return float(right / (counts[number].sum() + counts[:, number].sum() - right))


def mask_totals() -> tuple[dict[str, MaskTotals], int]:
    return {
        stage: MaskTotals(BY_CLASS[number], SEEN, 0.5 + number / 100, 0.4, 0)
        for number, stage in enumerate(STAGES)
    }, 9


def conditions(*protocols: str, squash: bool = False) -> Conditions:
    return Conditions("data", "a run", [*protocols] or ["maskcontrast"], squash, "guided", "halves")


def class_counts(seed: int) -> ImageCounts:
    """Counts whose one-to-one matching is the identity."""
    segmentation = [[50 + seed, 4, 2], [3, 20, 2 * seed], [5, 1, 13]]
    random = [[50 + seed, 4, 2], [4, 10, 3], [4, 11, 10 + 2 * seed]]
    oracle = [[50 + seed, 4, 2], [0, 21, 0], [8, 0, 13 + 2 * seed], [0, 0, 0]]
    return ImageCounts(np.asarray(segmentation), np.asarray(random), np.asarray(oracle), 9)


def tables_of(seeds: list[int], background: int | None = 0) -> Tables:
    return tables_from({seed: class_counts(seed) for seed in seeds}, background)


def tables_from(by_seed: dict[int, ImageCounts], background: int | None = 0) -> Tables:
    return make_tables(mask_totals(), {"original": by_seed}, 4, NAMES, background, conditions())


def value_of(tables: Tables, **where: Any) -> float:
    rows = tables.metrics
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    (value,) = rows["value"]
    return float(value)


def test_tables_are_tidy() -> None:
    tables = tables_of([0, 1, 2])
    metrics = tables.metrics
    assert list(metrics.columns) == COLUMNS
    key = ["protocol", "stage", "matching", "seed", "metric"]
    assert not metrics.duplicated(key).any()
    # stages x 8; (2 variants x 5 matchings + the ceiling) x 2 metrics x (3 seeds + mean + sd)
    assert len(metrics) == len(STAGES) * 8 + 11 * 2 * 5
    varying = [*key, "value", "fallback", "refinement", "seeds"]
    constant = metrics.drop(columns=varying).drop_duplicates()
    assert constant.to_dict("records") == [
        {
            "dataset": "data", "run": "a run", "classes": 3, "clusters": 3, "images": 4,
            "ignored_pixels": 9, "resolution": "original", "crop": "none",
            "fitted_on": "halves",
        }
    ]  # fmt: skip
    assert set(metrics["protocol"]) == {"foreground", "maskcontrast"}
    refined = ~metrics["stage"].isin(STAGES[:-1])
    assert metrics["refinement"].tolist() == np.where(refined, "guided", "none").tolist()
    masks = metrics["stage"].isin(STAGES)
    assert metrics["seeds"].tolist() == np.where(masks, 1, 3).tolist()
    assert metrics["protocol"].tolist() == np.where(masks, "foreground", "maskcontrast").tolist()
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
    for stage, counts in zip(STAGES, MASKS, strict=True):
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
        counts = getattr(class_counts(seed), array)
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
        counts = class_counts(seed).oracle
        where = {"stage": "oracle_labels", "matching": "none", "seed": str(seed)}
        direct = np.mean([iou_of(counts, number) for number in range(3)])
        assert value_of(tables, metric="miou", **where) == pytest.approx(direct)
        assert value_of(tables, metric="pixel_accuracy", **where) == pytest.approx(
            np.trace(counts) / counts.sum()
        )


def test_pixels_without_a_class_lower_the_ceiling() -> None:
    oracle = np.asarray([[0, 0, 0], [0, 10, 0], [0, 0, 10], [20, 0, 0]])
    tables = tables_from({0: class_counts(0)._replace(oracle=oracle)}, None)
    where = {"stage": "oracle_labels", "seed": "0"}
    assert value_of(tables, metric="pixel_accuracy", **where) == 0.5
    assert value_of(tables, metric="miou", **where) == pytest.approx(2 / 3)


def test_masks_are_scored_by_image_and_by_class_beside_the_pooled_pixels() -> None:
    found = tables_of([0])
    for number, stage in enumerate(STAGES):
        for metric, expected in {
            "image_foreground_iou": 0.5 + number / 100,
            "boundary_f": 0.4,
            "class_recall": 18 / 24,  # of cats; dogs are in two images only
            "background_taken": 20 / 80,
        }.items():
            assert value_of(found, stage=stage, metric=metric) == pytest.approx(expected)
    more = score_masks(mask_totals()[0]["refined"]._replace(seen=3 * SEEN))
    assert more["class_recall"] == pytest.approx((18 / 24 + 6 / 9) / 2)


def test_a_class_that_is_nowhere_true_counts_zero_unless_it_is_not_predicted_either() -> None:
    without = np.asarray([1, 1, 0])
    segmentation, random, oracle, ignored = class_counts(0)
    oracle = oracle * without
    oracle[2] = 0  # here it is not predicted either, so that it has no IoU at all
    counts = ImageCounts(segmentation * without, random * without, oracle, ignored)
    protocols = ["maskcontrast", "coco_things", "stego"]
    tables = make_tables(
        mask_totals(), {"original": {0: counts}, "centre": {0: counts}}, 4, NAMES, 0,
        conditions(*protocols),
    )  # fmt: skip
    for protocol, of_oracle in zip(protocols, (3, 3, 2), strict=True):
        for array, stage, matching, divisor in (
            ("oracle", "oracle_labels", "none", of_oracle),
            ("segmentation", "segmentation", PROTOCOLS[protocol].matchings[0], 3),
        ):
            table = getattr(counts, array)
            expected = (iou_of(table, 0) + iou_of(table, 1)) / divisor
            where = {"stage": stage, "matching": matching, "seed": "0", "metric": "miou"}
            assert value_of(tables, protocol=protocol, **where) == pytest.approx(expected)


def test_each_protocol_has_its_own_frame_matchings_and_ignored_pixels() -> None:
    other = class_counts(1)._replace(ignored=77)
    for squash, frame in ((False, "centre"), (True, "squashed")):
        tables = make_tables(
            mask_totals(), {"original": {0: class_counts(0)}, frame: {0: other}}, 4, NAMES, 0,
            conditions("stego", "maskcontrast", "per_image", squash=squash),
        )  # fmt: skip
        metrics = tables.metrics
        assert list(dict.fromkeys(metrics["protocol"])) == ["foreground", "stego", "maskcontrast"]
        stego = metrics[metrics["protocol"] == "stego"]
        assert set(stego["matching"]) == {"count_hungarian", "none"}
        (words,) = stego[["resolution", "crop", "ignored_pixels"]].drop_duplicates().to_numpy()
        assert (
            words.tolist()
            == {
                "centre": ["short side 320, nearest", "centre 320", 77],
                "squashed": ["squashed to 320 x 320, nearest", "none", 77],
            }[frame]
        )
        rest = metrics[metrics["protocol"] != "stego"]
        assert set(rest["resolution"]) == {"original"}
        assert set(rest["ignored_pixels"]) == {9}
        where = {"stage": "segmentation", "metric": "pixel_accuracy", "seed": "0"}
        where["matching"] = "count_hungarian"
        for protocol, counts in (("stego", other), ("maskcontrast", class_counts(0))):
            table = counts.segmentation
            expected = np.trace(table) / table.sum()
            assert value_of(tables, protocol=protocol, **where) == pytest.approx(expected)
        for table in (tables.per_class, tables.matching):
            assert list(dict.fromkeys(table["protocol"])) == ["stego", "maskcontrast"]


def test_pixels_that_are_all_ignored_have_no_scores() -> None:
    empty = ImageCounts(*(np.zeros_like(part) for part in class_counts(0)[:3]), 100)
    nothing = np.zeros((2, 3), np.int64)
    masks = dict.fromkeys(STAGES, MaskTotals(nothing, nothing[0], np.nan, np.nan, 0))
    with np.errstate(all="raise"):
        metrics = make_tables(
            (masks, 100), {"original": {0: empty, 1: empty}}, 1, NAMES, 0, conditions()
        ).metrics
    assert metrics["value"].isna().all()
    assert set(metrics["ignored_pixels"]) == {100}


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
        expected = [iou_of(class_counts(seed).segmentation, number) for seed in (0, 3)]
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
    assert rows["pixels"].tolist() == class_counts(1).segmentation.sum(axis=1).tolist()
    assert set(tables.matching["seed"]) == {"0", "1"}
    assert set(tables.matching["stage"]) == {"segmentation"}


def test_another_number_of_clusters_is_matched_by_votes_and_said_so() -> None:
    more = np.asarray([[0, 0, 8], [0, 0, 0]])
    segmentation, random, oracle, ignored = class_counts(0)
    counts = ImageCounts(
        np.concatenate([segmentation, more]), np.concatenate([random, more]), oracle, ignored
    )
    tables = tables_from({0: counts, 1: counts})
    fallback = tables.metrics.query("stage == 'segmentation'").groupby("matching")["fallback"]
    assert {matching: set(values) for matching, values in fallback} == {
        "iou_hungarian": {"majority vote by IoU"},
        "count_hungarian": {"extra clusters by majority of pixels"},
        "background_fixed": {"majority vote by IoU"},
        "iou_majority": {""},
        "count_majority": {""},
    }
    assert (tables.metrics["clusters"] == 5).all()
    rows = tables.matching.query("matching.str.endswith('_majority') and seed == '0'")
    assert rows["class"].tolist() == 2 * ["ground", "cat", "dog", "dog", ""]


def test_without_a_background_there_are_no_foreground_scores() -> None:
    tables = tables_of([0, 1], background=None)
    metrics = tables.metrics
    assert list(metrics.columns) == COLUMNS
    assert set(metrics["stage"]) == {"segmentation", "random_labels", "oracle_labels"}
    assert set(metrics["matching"]) == {*MATCHINGS, "none"} - {"background_fixed"}
    assert len(metrics) == 9 * 2 * 4
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


VOTES = np.asarray([[5, 1, 0], [0, 4, 2], [1, 0, 7], [0, 0, 3]])
"""Counts of the classes that neighbours vote for; the last row is of no vote."""


def write_counts(folder: Path, images: int = 4, position: int = 0) -> tuple[Path, Path]:
    """Write counts of two shards and the seeds 0 and 1; the second shard is twice the first."""
    for shard in range(2):
        name = f"{shard:04d}.npz"
        by_class = np.repeat(BY_CLASS[None], images, axis=0)
        write_arrays(
            folder / "counts/masks" / name, by_class=by_class * (shard + 1),
            ignored=np.asarray([9, 0, 0, 0][:images]) * (shard + 1),
            background=np.asarray(position),
            boundary_f=np.full((images, len(STAGES)), 0.25 * (1 + shard)),
        )  # fmt: skip
        for seed in range(2):
            of_seed = class_counts(seed)
            arrays = {
                f"original.{array}": getattr(of_seed, array) * (shard + 1) * bool(images)
                for array in ("segmentation", "random", "oracle")
            }
            arrays["original.ignored"] = np.asarray([9, 0, 0, 0][:images]) * (shard + 1)
            arrays["image_id"] = encode_names([f"{shard} {n}" for n in range(images)])
            write_arrays(
                folder / f"counts/classes/{shard:04d}/seed-{seed}.npz", compressed=True, **arrays
            )
    write_arrays(folder / "counts/neighbors.npz", original=VOTES)
    classes = write_classes(folder / "classes.csv", dict(zip((0, 3, 7), NAMES, strict=True)))
    return folder / "counts", classes


@pytest.mark.parametrize("background", [0, 7, None])
def test_tables_are_written_from_the_counts_of_all_shards(
    tmp_path: Path, background: int | None
) -> None:
    position = {0: 0, 7: 2, None: None}[background]
    counts, classes = write_counts(tmp_path, position=-1 if position is None else position)
    evaluate(
        counts, Shards(2), [0, 1], classes, tmp_path / "tables", masks=True, background=background,
        conditions=conditions(),
    )  # fmt: skip
    tripled = {seed: ImageCounts(*(part * 3 for part in class_counts(seed))) for seed in range(2)}
    masks = {}
    for number, stage in enumerate(STAGES):
        thing = np.delete(BY_CLASS[number], position or 0, axis=1).sum(axis=1)
        iou = thing[1] / (thing.sum() + BY_CLASS[number, 1, position or 0])
        by_class, seen = 12 * BY_CLASS[number], np.full(3, 8)
        masks[stage] = MaskTotals(by_class, seen, iou, 0.375, position or 0)
    expected = make_tables(
        (masks, 27), {"original": tripled}, 8, NAMES, position, conditions(), {"original": VOTES}
    )
    of_neighbors = expected.metrics[expected.metrics["stage"] == "neighbor_labels"]
    best = of_neighbors[of_neighbors["metric"] == "miou"]
    assert best["seed"].tolist() == ["0", "1", "mean", "sd"]
    iou = [5 / (5 + 1 + 1), 4 / (4 + 1 + 2), 7 / (7 + 1 + 2 + 3)]
    assert best["value"].tolist() == pytest.approx([np.mean(iou)] * 3 + [0])
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
            counts, Shards(2), [0, 1], classes, tmp_path / "tables", masks=True, background=0,
            conditions=conditions(),
        )  # fmt: skip
    assert not (tmp_path / "tables").exists()
