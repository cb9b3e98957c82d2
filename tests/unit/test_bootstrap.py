"""Resampling, against summing the drawn images one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import quick
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lightcluster.evaluation import bootstrap
from lightcluster.evaluation.bootstrap import (
    bootstrap_classes,
    bootstrap_masks,
    draw_images,
    interval,
    resample,
    sparse_counts,
)
from lightcluster.evaluation.counting import files_of_seed
from lightcluster.evaluation.mask_counts import STAGES
from lightcluster.evaluation.scores import score_classes
from lightcluster.files import encode_names, write_arrays
from lightcluster.shards import Shards

IMAGES, CLUSTERS, CLASSES = 7, 4, 3


def random_counts(seed: int = 0) -> NDArray[np.int64]:
    """Sparse counts [images, clusters, classes]."""
    generator = np.random.default_rng(seed)
    shape = (IMAGES, CLUSTERS, CLASSES)
    return generator.integers(0, 100, shape) * (generator.random(shape) < 0.4)


def drawn_indices(resamples: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(IMAGES, size=(resamples, IMAGES))


@pytest.mark.parametrize("at_once", [1, 3, 11, 1000])
def test_the_draws_do_not_depend_on_how_many_are_made_at_once(at_once: int) -> None:
    times = np.concatenate(list(draw_images(IMAGES, 11, 5, at_once)))
    assert times[0].tolist() == [1] * IMAGES
    for row, indices in zip(times[1:], drawn_indices(11, 5), strict=True):
        assert row.tolist() == [int((indices == image).sum()) for image in range(IMAGES)]


def test_few_resamples_are_made_at_once_where_there_are_many_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sparse = csr_array(random_counts().reshape(IMAGES, -1))
    whole = list(resample(sparse, (CLUSTERS, CLASSES), 10, 0))
    for batch in (1, 2 * CLUSTERS * CLASSES):
        monkeypatch.setattr(bootstrap, "BATCH", batch)
        np.testing.assert_array_equal(list(resample(sparse, (CLUSTERS, CLASSES), 10, 0)), whole)


@quick
@given(st.integers(0, 50), st.integers(1, 9))
def test_resampled_counts_are_those_of_the_drawn_images(seed: int, resamples: int) -> None:
    counts = random_counts(seed)
    sparse = csr_array(counts.reshape(IMAGES, -1))
    first, *others = resample(sparse, (CLUSTERS, CLASSES), resamples, seed)
    np.testing.assert_array_equal(first, counts.sum(axis=0))
    assert first.dtype == np.int64
    for found, indices in zip(others, drawn_indices(resamples, seed), strict=True):
        np.testing.assert_array_equal(found, sum(counts[index] for index in indices))


def test_an_interval_is_of_the_difference() -> None:
    own = np.asarray([0.5, *np.linspace(0.4, 0.6, 101)])
    result = interval(own, np.full(102, 0.45))
    assert result == pytest.approx((0.05, -0.045, 0.145))
    assert interval(own, own) == (0, 0, 0)
    assert np.isnan(interval(own, own * np.nan)).all()


def write_run(folder: Path, seed: int, counts: NDArray[np.int64]) -> Shards:
    """Write counts of two shards of 3 and 4 images, and one shard without any."""
    parts = {"0000": slice(0, 3), "0001": slice(3, 3), "0002": slice(3, IMAGES)}
    for name, part in parts.items():
        own = counts[part]
        number, cluster, true = np.nonzero(own)
        cells = np.stack([number, cluster, true, own[number, cluster, true]], axis=1)
        write_arrays(
            folder / "classes" / name / f"seed-{seed}.npz", compressed=True,
            image_id=encode_names([f"{number}" for number in range(len(own))]),
            **{
                "original.segmentation": own.sum(axis=0),
                "original.cells": cells,
                "original.ignored": np.zeros(len(own), np.int64),
            },
        )  # fmt: skip
    return Shards(len(parts))


def test_counts_of_all_shards_are_put_together(tmp_path: Path) -> None:
    counts = random_counts()
    shards = write_run(tmp_path, 0, counts)
    sparse, shape = sparse_counts(files_of_seed(tmp_path, shards, 0), "original")
    assert shape == (CLUSTERS, CLASSES)
    np.testing.assert_array_equal(sparse.toarray().reshape(counts.shape), counts)


@quick
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=40), st.integers(0, 9))
def test_an_interval_leaves_out_a_fortieth_at_either_end(values: list[int], of_all: int) -> None:
    """Written out: sorted differences, and the value between two by the share of the way."""
    own = np.asarray([of_all, *values], np.float64)
    ordered = sorted(values)

    def at(share: float) -> float:
        below = int(share * (len(ordered) - 1))
        above = min(below + 1, len(ordered) - 1)
        way = share * (len(ordered) - 1) - below
        return ordered[below] + way * (ordered[above] - ordered[below])

    found = interval(own + 3, np.full(len(own), 3.0))
    assert found == pytest.approx((of_all, at(0.025), at(0.975)))


def test_both_runs_of_a_difference_are_scored_on_the_same_images(tmp_path: Path) -> None:
    """A run that differs in one image differs in the resamples that drew it, and in no other."""
    counts = random_counts(4)
    changed = counts.copy()
    changed[2] = np.eye(CLUSTERS, CLASSES, dtype=np.int64) * 500
    scores = []
    for run, of_run in (("a", counts), ("b", changed)):
        shards = write_run(tmp_path / run, 0, of_run)
        scores.append(
            bootstrap_classes(tmp_path / run, shards, [0], "coco_things", "original", 40, 6)[0]
        )
    drew = [2 in indices for indices in drawn_indices(40, 6)]
    assert 0 < sum(drew) < 40
    same = scores[0] == scores[1]
    assert same.tolist() == [False, *(not one for one in drew)]


@pytest.mark.parametrize("seed", range(6))
def test_stego_leaves_out_what_a_resample_neither_has_nor_predicts(
    tmp_path: Path, seed: int
) -> None:
    """Clusters are classes here, and class 3 is only predicted, in image 0."""
    counts = np.zeros((IMAGES, 4, 4), np.int64)
    for image in range(IMAGES):
        counts[image, image % 3, image % 3] = 100 + image
    counts[0, 3, 0] = 1
    shards = write_run(tmp_path, 0, counts)
    found = bootstrap_classes(tmp_path, shards, [0], "stego", "original", 9, seed)[0]
    for score, indices in zip(found[1:], drawn_indices(9, seed), strict=True):
        ious = []
        for number in range(4):
            predicted = counts[indices, number].sum()
            true = counts[indices, :, number].sum()
            both = counts[indices, number, number].sum()
            if predicted + true:
                ious.append(both / (predicted + true - both))
        assert score == pytest.approx(sum(ious) / len(ious))


def test_classes_are_matched_anew_in_each_resample_and_averaged_over_seeds(tmp_path: Path) -> None:
    by_seed = {seed: random_counts(seed) for seed in (2, 9)}
    for seed, counts in by_seed.items():
        shards = write_run(tmp_path, seed, counts)
    found = bootstrap_classes(tmp_path, shards, [2, 9], "coco_things", "original", 5, 3)
    assert found.shape == (2, 6)
    draws = [np.arange(IMAGES), *drawn_indices(5, 3)]
    for column, indices in enumerate(draws):
        scores = [
            score_classes(counts[indices].sum(axis=0), "abc", "iou_hungarian", "zero")
            for counts in by_seed.values()
        ]
        for row, name in enumerate(("mean_iou", "pixel_accuracy")):
            expected = np.mean([getattr(score, name) for score in scores])
            assert found[row, column] == pytest.approx(expected)
    assert len(set(found[0].tolist())) > 3


def test_masks_are_scored_by_stage(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    counts = generator.integers(1, 50, (IMAGES, len(STAGES), 2, 4))
    outlines = generator.random((IMAGES, len(STAGES)))
    counts[2, ..., [0, 2, 3]] = 0  # holds nothing but background, which is the second class
    counts[2:, ..., 3] = 0  # two images hold the last class, too few for a recall
    parts = {"0000": slice(0, 5), "0001": slice(5, 5), "0002": slice(5, IMAGES)}
    for name, part in parts.items():
        write_arrays(
            tmp_path / "masks" / f"{name}.npz", by_class=counts[part], boundary_f=outlines[part],
            ignored=np.zeros(len(counts[part]), np.int64), background=np.asarray(1),
        )  # fmt: skip
    found = bootstrap_masks(tmp_path, Shards(len(parts)), 4, 8)
    assert {stage for stage, _ in found} == {"reestimated", "refined"}
    draws = [np.arange(IMAGES), *drawn_indices(4, 8)]
    for stage in ("reestimated", "refined"):
        for number, indices in enumerate(draws):
            drawn = counts[indices, STAGES.index(stage)]
            (a, b), (c, d) = [[side[1], side[[0, 2, 3]].sum()] for side in drawn.sum(axis=0)]
            held = drawn[:, :, [0, 2, 3]].sum(axis=(1, 2)) > 0
            true = drawn[held][:, :, [0, 2, 3]].sum(axis=2)
            iou = true[:, 1] / (true.sum(axis=1) + drawn[held][:, 1, 1])
            seen = [cls for cls in (0, 2) if drawn[:, :, cls].any()]
            expected = {
                "fgbg_miou": (a / (a + b + c) + d / (d + b + c)) / 2,
                "image_foreground_iou": iou.mean(),
                "boundary_f": outlines[indices, STAGES.index(stage)][held].mean(),
                "class_recall": np.mean(
                    [drawn[:, 1, cls].sum() / drawn[:, :, cls].sum() for cls in seen]
                ),
            }
            for metric, value in expected.items():
                assert found[stage, metric][number] == pytest.approx(value)


def test_resamples_without_a_score_are_left_out_of_its_interval() -> None:
    own = np.array([0.5, np.nan, 0.6, 0.4, np.nan])
    assert interval(own, np.full(5, 0.1)) == pytest.approx((0.4, 0.305, 0.495))
    assert np.isnan(interval(np.array([0.5, np.nan]), np.zeros(2)).low)


def test_without_a_background_there_are_no_masks_to_score(tmp_path: Path) -> None:
    write_arrays(
        tmp_path / "masks/0000.npz", by_class=np.zeros((0, len(STAGES), 2, 3), np.int64),
        boundary_f=np.zeros((0, len(STAGES))), ignored=np.zeros(0, np.int64),
        background=np.asarray(-1),
    )  # fmt: skip
    assert bootstrap_masks(tmp_path, Shards(1), 4, 0) == {}
