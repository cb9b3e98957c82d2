"""The foreground estimated anew: planted directions are found, by the equations of the slow way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import write_patch_masks
from numpy.typing import NDArray

from lightcluster.features.images import patch_colors
from lightcluster.features.store import FeatureStore, FeatureStoreWriter, ImageFeatures
from lightcluster.files import read_arrays
from lightcluster.masks.consistency import read_patch_masks
from lightcluster.masks.guided import Guided, prepare_guide
from lightcluster.masks.reestimation import (
    Discriminant,
    RidgeSums,
    Scene,
    fit_discriminant,
    reestimate,
    score_patches,
    smooth_by_affinity,
    soft_labels,
    thin,
)

GUIDED = Guided(0.2, 1e-3)
SETTINGS = {
    "rounds": 4, "tolerance": 0.0, "radius": 0.2, "epsilon": 1e-3, "ridge": 1e-3,
    "sample_tokens": 10**6, "seed": 0,
}  # fmt: skip


def unit(values: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)


def planted(
    seed: int, grid: tuple[int, int] = (12, 16), dim: int = 8
) -> tuple[Scene, NDArray[np.bool_], NDArray[np.uint8]]:
    """A rectangle that features and colours tell apart, of which the score knows but a part."""
    random, (rows, columns) = np.random.default_rng(seed), grid
    truth = np.zeros(grid, bool)
    top, left = random.integers(1, 4, 2)
    truth[top : top + 6, left : left + 8] = True
    features = random.normal(0, 0.35, (rows * columns, dim))
    features[:, 0] += np.where(truth.ravel(), 1, -1)
    features[:, 1] += 1
    score = np.clip(truth + random.normal(0, 0.45, grid), 0, 1).astype(np.float32)
    score[top : top + 2] = 0  # the levels miss a part of every object
    fine = truth.repeat(2, axis=0).repeat(2, axis=1)
    image = np.where(fine[..., None], (200, 80, 60), (60, 90, 160)).astype(np.uint8)
    guide = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return (
        Scene(unit(features), prepare_guide(guide, GUIDED), score),
        truth,
        image,
    )


def accuracy(scores: list[NDArray[np.floating]], truths: list[NDArray[np.bool_]]) -> float:
    return float(np.mean([((s > 0.5) == t).mean() for s, t in zip(scores, truths, strict=True)]))


def test_ridge_regression_is_that_of_the_normal_equations():
    random = np.random.default_rng(0)
    scenes = [planted(seed)[0] for seed in range(3)]
    labels = [random.random(12 * 16, np.float32) for _ in scenes]
    sums = RidgeSums(8)
    for scene, shares in zip(scenes, labels, strict=True):
        sums.add(scene.features, shares)
    found = sums.solve(0.01)
    features = np.concatenate([scene.features for scene in scenes]).astype(np.float64)
    label = np.concatenate(labels).astype(np.float64)
    weight = np.abs(2 * label - 1)
    # The constant, which is not penalised, is one more column.
    design = np.c_[features, np.ones(len(features))]
    penalty = 0.01 * weight.sum() * np.diag([1.0] * 8 + [0.0])
    beta = np.linalg.solve(
        design.T @ (design * weight[:, None]) + penalty, design.T @ (weight * label)
    )
    assert found is not None
    projected = features @ beta[:-1]
    background, foreground = (
        np.average(projected[side], weights=weight[side]) for side in (label <= 0.5, label > 0.5)
    )
    apart = foreground - background
    np.testing.assert_allclose(found.direction, beta[:-1] / apart, rtol=1e-3, atol=1e-4)
    assert found.constant == pytest.approx(-background / apart, abs=1e-4)


def test_a_score_is_linear_and_clipped():
    found = Discriminant(np.array([1.0, 0.0], np.float32), -0.5)
    features = np.array([[0.5, 9], [1, 9], [1.5, 9], [9, 9], [-9, 9]], np.float32)
    np.testing.assert_allclose(found.score(features), [0, 0.5, 1, 1, 0])


def test_momentum_goes_on_beyond_the_fitted_discriminant():
    former = Discriminant(np.array([1.0, 0.0], np.float32), 0.5)
    fitted = Discriminant(np.array([2.0, -1.0], np.float32), 0.25)
    found = fitted.beyond(former, 0.5)
    np.testing.assert_allclose(found.direction, [2.5, -1.5])
    assert found.constant == pytest.approx(0.125)


def test_momentum_ends_at_the_same_point(monkeypatch):
    scenes = [planted(seed)[0] for seed in range(6)]
    found, changed = reestimate(scenes, rounds=50, tolerance=1e-6, ridge=1e-3)
    monkeypatch.setattr("lightcluster.masks.reestimation.MOMENTUM", 0)
    plain, longer = reestimate(scenes, rounds=50, tolerance=1e-6, ridge=1e-3)
    assert found is not None
    assert plain is not None
    assert max(len(changed), len(longer)) < 50
    sides = [[d.score(scene.features) > 0.5 for scene in scenes] for d in (found, plain)]
    assert np.mean(np.concatenate(sides[0]) != np.concatenate(sides[1])) < 0.005


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_without_two_sides_there_is_nothing_to_fit(label):
    sums = RidgeSums(8)
    sums.add(planted(0)[0].features, np.full(12 * 16, label, np.float32))
    assert sums.solve(1e-3) is None


def test_labels_are_shares_of_each_patch_and_follow_the_image():
    scene, truth, _ = planted(0)
    labels = soft_labels(truth.astype(np.float32), scene.guide)
    assert set(np.unique(labels)) <= {0, 0.25, 0.5, 0.75, 1}
    assert ((labels > 0.5) == truth[::2, ::2].ravel()).mean() > 0.97


def test_rounds_find_what_the_levels_missed():
    scenes, truths, _ = zip(*(planted(seed) for seed in range(6)), strict=True)
    before = accuracy([scene.score for scene in scenes], list(truths))
    found, changed = reestimate(scenes, rounds=5, tolerance=0, ridge=1e-3)
    assert found is not None
    after = [found.score(s.features).reshape(s.score.shape) for s in scenes]
    assert accuracy(after, list(truths)) > max(0.98, before + 0.05)
    assert len(changed) == 5
    assert changed[0] > 0.05 > changed[-1]


def test_rounds_end_when_little_changes():
    scenes = [planted(seed)[0] for seed in range(6)]
    changed = reestimate(scenes, rounds=50, tolerance=0.01, ridge=1e-3)[1]
    assert changed[-1] < 0.01
    assert all(share >= 0.01 for share in changed[:-1])


def test_an_empty_score_stays(caplog):
    scene = planted(0)[0]
    empty = Scene(scene.features, scene.guide, np.zeros_like(scene.score))
    assert reestimate([empty], rounds=3, tolerance=0, ridge=1e-3) == (None, [])
    assert "the former score stays" in caplog.text


def test_patches_are_thinned_down_and_across():
    assert thin(np.arange(15), (3, 5), 2).tolist() == [0, 2, 4, 10, 12, 14]
    assert thin(np.arange(1), (1, 1), 3).tolist() == [0]
    assert thin(np.arange(16).reshape(8, 2), (2, 4), 3).tolist() == [[0, 1], [6, 7]]


@pytest.mark.parametrize("affinity", [1, 2, 3])
def test_the_affinity_weighs_a_ninth_of_the_patches_by_their_cosine(affinity):
    random = np.random.default_rng(1)
    features, score = unit(random.normal(size=(70, 3))), random.random(70, np.float32)
    others = [row * 10 + column for row in (0, 3, 6) for column in (0, 3, 6, 9)]
    centred = unit(features - features.mean(axis=0))
    weights = [[max(0.0, float(a @ centred[b])) ** affinity for b in others] for a in centred]
    expected = [np.average(score[others], weights=row) for row in weights]
    found = smooth_by_affinity(features, score, (7, 10), affinity)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_affinity_may_be_off_and_patches_alike():
    score = np.array([0.2, 0.9, 0.4], np.float32)
    assert smooth_by_affinity(np.eye(3, dtype=np.float32), score, (1, 3), 0) is score
    alike = np.ones((3, 4), np.float32) / 2
    np.testing.assert_array_equal(smooth_by_affinity(alike, score, (1, 3), 3), score)


def test_the_affinity_of_many_patches_is_computed_in_blocks(monkeypatch):
    random = np.random.default_rng(1)
    features, score = unit(random.normal(size=(50, 5))), random.random(50, np.float32)
    whole = smooth_by_affinity(features, score, (5, 10), 3)
    monkeypatch.setattr("lightcluster.masks.reestimation._ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(smooth_by_affinity(features, score, (5, 10), 3), whole, rtol=1e-5)


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, list[NDArray[np.bool_]]]:
    """Two shards of three planted images each, as files."""
    truths = []
    for shard in range(2):
        name, ids, scores = f"{shard:04d}", [], {}
        features, colors = [], []
        for number in range(3):
            scene, truth, image = planted(10 * shard + number)
            image_id = f"{shard}-{number}"
            ids.append(image_id)
            scores[image_id] = scene.score
            features.append(scene.features.astype(np.float16) * np.float16(3))  # of any length
            colors.append(patch_colors(image.repeat(4, 0).repeat(4, 1), scene.score.shape))
            truths.append(truth)
        sizes = np.array([(96, 128)] * 3)
        with FeatureStoreWriter(
            tmp_path / "features" / f"{name}.zarr", sizes // 8, sizes, ids, ["key"], 8, {}
        ) as writer:
            for image_id, keys, quarters in zip(ids, features, colors, strict=True):
                cls, attention = np.zeros(8, np.float32), np.zeros(192, np.float16)
                writer.append(image_id, ImageFeatures(cls, attention, quarters, {"key": keys}))
        votes = {image_id: np.stack([score > 0.5] * 3) for image_id, score in scores.items()}
        (tmp_path / "merged").mkdir(exist_ok=True)
        write_patch_masks(tmp_path / "merged" / f"{name}.npz", votes, scores)
    return tmp_path, truths


def run(folder: Path, *, affinity: int = 3, **changes: object) -> list[NDArray[np.float32]]:
    """Run both steps on the files of `shards`; the scores of all images."""
    names = ["0000", "0001"]
    fit_discriminant(
        [folder / "features" / f"{name}.zarr" for name in names],
        [folder / "merged" / f"{name}.npz" for name in names],
        folder / "discriminant.npz",
        **SETTINGS | changes,
    )
    scores = []
    for name in names:
        output = folder / "patch" / f"{name}.npz"
        score_patches(
            folder / "features" / f"{name}.zarr", folder / "merged" / f"{name}.npz",
            folder / "discriminant.npz", output, affinity=affinity,
        )  # fmt: skip
        scores += [read_patch_masks(output).score_of(number) for number in range(3)]
    return scores


def test_from_files_to_files(shards):
    folder, truths = shards
    scores = run(folder)
    merged = [read_patch_masks(folder / "merged" / f"{n:04d}.npz").merged_of(i)
              for n in range(2) for i in range(3)]  # fmt: skip
    assert accuracy(scores, truths) > max(0.97, accuracy(merged, truths) + 0.05)
    assert len(read_arrays(folder / "discriminant.npz", "changed")["changed"]) == 4
    masks = read_patch_masks(folder / "patch" / "0001.npz")
    assert masks.image_id == FeatureStore.open(folder / "features" / "0001.zarr").image_id
    np.testing.assert_array_equal(masks.merged_of(2), merged[5])
    assert all((score >= 0).all() and (score <= 1).all() for score in scores)


def test_without_rounds_the_score_of_the_levels_stays(shards):
    folder, _ = shards
    scores = run(folder, rounds=0)
    for shard in range(2):
        merged = read_patch_masks(folder / "merged" / f"{shard:04d}.npz")
        for number in range(3):
            np.testing.assert_array_equal(scores[3 * shard + number], merged.score_of(number))


def test_a_sample_takes_whole_images_of_every_shard(shards, caplog):
    folder, truths = shards
    caplog.set_level("INFO")
    assert accuracy(run(folder, sample_tokens=400), truths) > 0.9
    assert "2 of 6 images" in caplog.text
