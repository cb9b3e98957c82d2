"""The foreground estimated anew: what is planted is found, by the counts of the slow way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import write_level_masks
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lightcluster.extraction.images import patch_colors
from lightcluster.extraction.store import FeatureStore, FeatureStoreWriter, ImageFeatures
from lightcluster.files import read_arrays, write_arrays
from lightcluster.masks.guided import Guided
from lightcluster.masks.patches import read_level_masks, read_patch_scores
from lightcluster.masks.reestimation import (
    ENOUGH,
    OTHERS,
    Scene,
    Shares,
    TreeSums,
    fit_trees,
    join_clusters,
    leaves_of,
    main_directions,
    memberships,
    reestimate,
    score_patches,
    shrink_to_parents,
    soft_labels,
)

GUIDED = Guided(0.2, 1e-3)
GRID = (12, 16)
SETTINGS = {
    "rounds": 3, "start": "image", "trees": 2, "clusters": 8, "prior": 2.0, "radius": 0.2,
    "epsilon": 1e-3, "sample_tokens": 10**6, "seed": 0,
}  # fmt: skip


def unit(values: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)


def planted(
    seed: int, dim: int = 8, axis: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]]:
    """Features, score, truth and picture of a rectangle that features and colours tell apart, of
    which the score knows but a part; `axis` is the kind of its features."""
    random, (rows, columns) = np.random.default_rng(seed), GRID
    truth = np.zeros(GRID, bool)
    top, left = random.integers(1, 4, 2)
    truth[top : top + 6, left : left + 8] = True
    features = random.normal(0, 0.2, (rows * columns, dim))
    features[truth.ravel(), axis] += 1
    features[~truth.ravel(), -1] += 1
    score = np.clip(truth + random.normal(0, 0.45, GRID), 0, 1).astype(np.float32)
    score[top : top + 2] = 0  # the levels miss a part of every object
    fine = truth.repeat(2, axis=0).repeat(2, axis=1)
    image = np.where(fine[..., None], (200, 80, 60), (60, 90, 160)).astype(np.uint8)
    return unit(features), score, truth, image


def accuracy(scores: list[NDArray[np.floating]], truths: list[NDArray[np.bool_]]) -> float:
    return float(np.mean([((s > 0.5) == t).mean() for s, t in zip(scores, truths, strict=True)]))


def scenes_of(
    planted_ones: list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray]],
    centroids: NDArray[np.float32],
) -> list[Scene]:
    return [
        Scene(leaves_of(features, WHOLE, centroids), image, score)
        for features, score, _, image in planted_ones
    ]


CENTROIDS = unit(
    np.stack([np.eye(8), np.eye(8)[::-1] + 0.01 * np.random.default_rng(0).normal(size=(8, 8))])
)
WHOLE = np.eye(8, dtype=np.float32)


# ---- the tree ------------------------------------------------------------------------------------


def test_clusters_are_joined_as_ward_joins_them():
    centroids = np.random.default_rng(3).normal(size=(12, 4)).astype(np.float32)
    parent = join_clusters(centroids)
    # The slow way: the two groups whose union adds least to the sum of squares, again and again.
    groups = {number: [number] for number in range(12)}
    for new in range(12, 23):

        def added(a: int, b: int) -> float:
            one, two = centroids[groups[a]], centroids[groups[b]]
            apart = np.square(one.mean(axis=0) - two.mean(axis=0)).sum()
            return float(len(one) * len(two) / (len(one) + len(two)) * apart)

        pairs = [(a, b) for a in groups for b in groups if a < b]
        a, b = min(pairs, key=lambda pair: added(*pair))
        assert parent[a] == parent[b] == new
        groups[new] = groups.pop(a) + groups.pop(b)
    assert parent[-1] == 22


def test_a_node_holds_the_clusters_below_it():
    parent = np.array([4, 4, 5, 5, 6, 6, 6])
    inside = memberships(parent)
    assert inside.T.tolist() == [
        [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1],
        [1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1],
    ]  # fmt: skip


def test_a_node_leans_on_its_parent_as_the_images_weigh():
    parent = np.array([3, 3, 4, 4, 4])
    share = np.array([1.0, 0.0, 0.5, 0.6, 0.4])
    images = np.array([3.0, 0.0, 2.0, 3.0, 5.0])
    found = shrink_to_parents(share, images, parent, prior=1)
    root = 0.4
    inner = (3 * 0.6 + root) / 4
    assert found == pytest.approx([(3 * 1 + inner) / 4, inner, (2 * 0.5 + root) / 3, inner, root])
    np.testing.assert_allclose(shrink_to_parents(share, images + 1e12, parent, 1), share, atol=1e-9)


def test_the_evidence_is_counted_in_images_and_not_in_patches():
    parent = join_clusters(CENTROIDS[0][:3])
    random, images = np.random.default_rng(1), []
    for patches in (200, 3, 40):
        images.append((random.integers(0, 2, patches).astype(np.uint16), random.random(patches)))
    sums = TreeSums(parent)
    for leaf, label in images:
        sums.add(leaf, label.astype(np.float32))
    found, middle, mean = sums.solve(prior=2.0)
    # The slow way, node by node.
    inside = memberships(parent)
    share, weight = np.zeros(5), np.zeros(5)
    for node in range(5):
        for leaf, label in images:
            here = inside[leaf, node] > 0
            if here.any():
                part = min(here.sum() / ENOUGH, 1)
                weight[node] += part
                share[node] += part * label[here].mean()
        share[node] /= max(weight[node], 1e-300)
    expected = shrink_to_parents(share, weight, parent, 2.0)[:3]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    leaf, label = (np.concatenate(both) for both in zip(*images, strict=True))
    sides = [np.average(expected[leaf], weights=side) for side in (1 - label, label)]
    odds = np.prod([side / (1 - side) for side in sides]) ** 0.5
    assert middle == pytest.approx(odds / (1 + odds), rel=1e-5)
    assert mean == pytest.approx(expected[leaf].mean(), rel=1e-5)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_without_two_sides_there_is_nothing_to_tell_apart(label):
    sums = TreeSums(join_clusters(CENTROIDS[0]))
    sums.add(np.arange(8, dtype=np.uint16), np.full(8, label, np.float32))
    assert sums.solve(1.0) is None


def test_where_all_clusters_are_alike_nothing_is_told_apart():
    sums = TreeSums(join_clusters(CENTROIDS[0]))
    sums.add(np.zeros(4, np.uint16), np.array([0, 1, 0, 1], np.float32))
    assert sums.solve(1.0) is None


# ---- scores --------------------------------------------------------------------------------------


def test_a_score_is_a_half_at_the_threshold_and_the_mean_of_the_trees():
    shares = Shares(np.array([[0.0, 0.2, 0.6, 1.0], [0.5, 0.5, 0.5, 0.75]]), np.array([0.2, 0.5]))
    leaves = np.array([[0, 1, 2, 3], [0, 1, 2, 3]], np.uint16)
    np.testing.assert_allclose(shares.score(leaves), [0.25, 0.5, 0.625, 0.875])


def test_what_an_image_says_of_its_own_patches_counts_beside_the_others():
    shares = Shares(np.array([[0.3, 0.9]]), np.array([0.5]))
    leaf = np.array([[0] * 2 * ENOUGH + [1] * (ENOUGH // 2)], np.uint16)
    label = np.array([1.0] * 2 * ENOUGH + [0.0] * (ENOUGH // 2), np.float32)
    found = shares.score_own(leaf, label)
    many, few = (1 + OTHERS * 0.3) / (1 + OTHERS), OTHERS * 0.9 / (0.5 + OTHERS)
    np.testing.assert_allclose(found[[0, -1]], [many, few], rtol=1e-6)


def test_labels_are_shares_of_each_patch_and_follow_the_image():
    _, _, truth, image = planted(0)
    labels = soft_labels(truth.astype(np.float32), image, GUIDED)
    assert set(np.unique(labels)) <= {0, 0.25, 0.5, 0.75, 1}
    assert ((labels > 0.5) == truth.ravel()).mean() > 0.97


def test_leaves_are_the_nearest_clusters_of_each_tree():
    features = np.random.default_rng(0).normal(size=(30, 8)) * 7
    found = leaves_of(features, WHOLE, CENTROIDS)
    for leaf, tree in zip(found, CENTROIDS, strict=True):
        np.testing.assert_array_equal(leaf, cdist(features, tree, "cosine").argmin(axis=1))


def test_the_main_directions_are_those_of_the_singular_value_decomposition():
    random = np.random.default_rng(0)
    points = np.float32(random.normal(size=(200, 12)) * np.linspace(3, 0.1, 12))
    found = main_directions(points, 5)
    _, _, expected = np.linalg.svd(points, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.T @ expected[:5].T), np.eye(5), atol=1e-3)
    assert main_directions(points, 64).shape == (12, 12)


def test_leaves_in_a_subspace_that_holds_the_features_are_those_of_the_whole_space():
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(20, 6)))[0].astype(np.float32)
    features = np.float32(random.normal(size=(300, 6))) @ axes.T
    projection = main_directions(features, 6)
    centroids = unit(random.normal(size=(2, 9, 6))) @ axes.T
    found = leaves_of(features, projection, centroids @ projection)
    np.testing.assert_array_equal(found, leaves_of(features, np.eye(20, dtype="f4"), centroids))


# ---- rounds --------------------------------------------------------------------------------------


def test_rounds_find_what_the_levels_missed():
    ones = [planted(seed) for seed in range(6)]
    scenes, truths = scenes_of(ones, CENTROIDS), [one[2] for one in ones]
    before = accuracy([scene.score for scene in scenes], truths)
    parents = [join_clusters(tree) for tree in CENTROIDS]
    found = reestimate(scenes, parents, rounds=3, prior=1, guided=GUIDED)
    assert len(found) == 3
    after = [found[-1].score(scene.leaves).reshape(GRID) for scene in scenes]
    assert accuracy(after, truths) > max(0.97, before + 0.05)


def test_at_the_end_foreground_is_what_is_more_frequent_there_than_elsewhere():
    scenes = scenes_of([planted(seed) for seed in range(6)], CENTROIDS)
    parents = [join_clusters(tree) for tree in CENTROIDS]
    *_, before, last = reestimate(scenes, parents, rounds=3, prior=1, guided=GUIDED)
    leaves = np.concatenate([scene.leaves for scene in scenes], axis=1)
    means = [share[leaf].mean() for share, leaf in zip(last.share, leaves, strict=True)]
    np.testing.assert_allclose(last.threshold, means)
    labels = np.concatenate([
        soft_labels(before.score(scene.leaves).reshape(GRID), scene.colors, GUIDED)
        for scene in scenes
    ])  # fmt: skip
    for share, threshold, leaf in zip(last.share, last.threshold, leaves, strict=True):
        fore = np.bincount(leaf, labels, len(share)) / labels.sum()
        back = np.bincount(leaf, 1 - labels, len(share)) / (1 - labels).sum()
        clear = (np.abs(share - threshold) > 0.2) & (fore + back > 0)  # not decided by shrinkage
        assert clear.sum() >= 2
        np.testing.assert_array_equal((share > threshold)[clear], (fore > back)[clear])


def test_what_is_rare_is_kept_beside_what_is_common():
    """Two images of another kind of object among forty: their masks stay."""
    ones = [planted(seed) for seed in range(40)] + [planted(seed, axis=3) for seed in (50, 51)]
    scenes = scenes_of(ones, CENTROIDS)
    parents = [join_clusters(tree) for tree in CENTROIDS]
    found = reestimate(scenes, parents, rounds=6, prior=1, guided=GUIDED)
    rare = [found[-1].score(scene.leaves).reshape(GRID) for scene in scenes[-2:]]
    recall = [(score > 0.5)[one[2]].mean() for score, one in zip(rare, ones[-2:], strict=True)]
    assert min(recall) > 0.9


def test_an_empty_score_stays(caplog):
    _, score, _, image = planted(0)
    scene = Scene(leaves_of(planted(0)[0], WHOLE, CENTROIDS), image, np.zeros_like(score))
    parents = [join_clusters(tree) for tree in CENTROIDS]
    assert reestimate([scene], parents, rounds=3, prior=1, guided=GUIDED) == []
    assert "the previous score stays" in caplog.text


# ---- files ---------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, list[NDArray[np.bool_]]]:
    """Two shards of three planted images each, as files."""
    truths = []
    for shard in range(2):
        name, ids, scores = f"{shard:04d}", [], {}
        features, colors = [], []
        for number in range(3):
            keys, score, truth, image = planted(10 * shard + number)
            image_id = f"{shard}-{number}"
            ids.append(image_id)
            scores[image_id] = score
            features.append(keys.astype(np.float16) * np.float16(3))  # of any length
            colors.append(patch_colors(image.repeat(4, 0).repeat(4, 1), score.shape))
            truths.append(truth)
        sizes = np.array([(96, 128)] * 3)
        with FeatureStoreWriter(
            tmp_path / "features" / f"{name}.zarr", sizes // 8, sizes, ids, ["key"], 8, {}
        ) as writer:
            for image_id, keys, quarters in zip(ids, features, colors, strict=True):
                cls, attention = np.zeros(8, np.float32), np.zeros(192, np.float16)
                writer.append(image_id, ImageFeatures(cls, attention, quarters, {"key": keys}))
        votes = {image_id: np.stack([score > 0.5] * 3) for image_id, score in scores.items()}
        for place in ("merged", "sample"):
            (tmp_path / place).mkdir(exist_ok=True)
        write_level_masks(tmp_path / "merged" / f"{name}.npz", votes)
        drawn = np.concatenate(features)
        write_arrays(
            tmp_path / "sample" / f"{name}.npz", features=drawn,
            image=np.repeat(np.arange(3, dtype=np.int32), 192), row=np.arange(len(drawn)),
        )  # fmt: skip
    return tmp_path, truths


def run(folder: Path, **changes: object) -> list[NDArray[np.float32]]:
    """Run both steps on the files of `shards`; the scores of all images."""
    names, settings = ["0000", "0001"], SETTINGS | changes
    fit_trees(
        [folder / "features" / f"{name}.zarr" for name in names],
        [folder / "merged" / f"{name}.npz" for name in names],
        [folder / "sample" / f"{name}.npz" for name in names],
        folder / "trees.npz",
        **settings,
    )
    scores = []
    for name in names:
        output = folder / "scores" / f"{name}.npz"
        score_patches(
            folder / "features" / f"{name}.zarr", folder / "merged" / f"{name}.npz",
            folder / "trees.npz", output,
            **{key: settings[key] for key in ("start", "radius", "epsilon")},
        )  # fmt: skip
        scores += [read_patch_scores(output).score_of(number) for number in range(3)]
    return scores


@pytest.mark.parametrize("start", ["image", "merged"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_from_files_to_files(shards, start, rounds):
    folder, truths = shards
    scores = run(folder, start=start, rounds=rounds)
    merged = [read_level_masks(folder / "merged" / f"{n:04d}.npz").merged_of(i)
              for n in range(2) for i in range(3)]  # fmt: skip
    assert accuracy(scores, truths) > max(0.96, accuracy(merged, truths) + 0.05)
    arrays = read_arrays(folder / "trees.npz")
    assert arrays["share"].shape == (rounds, 2, 8)
    assert arrays["threshold"].shape == (rounds, 2)
    found = read_patch_scores(folder / "scores" / "0001.npz")
    assert found.image_id == FeatureStore.open(folder / "features" / "0001.zarr").image_id
    assert all((score >= 0).all() and (score <= 1).all() for score in scores)


def test_more_clusters_than_patches_do_no_harm(shards):
    folder, truths = shards
    assert accuracy(run(folder, clusters=1300), truths) > 0.9


def test_without_rounds_the_score_of_the_levels_stays(shards):
    folder, _ = shards
    scores = run(folder, rounds=0)
    for shard in range(2):
        merged = read_level_masks(folder / "merged" / f"{shard:04d}.npz")
        for number in range(3):
            np.testing.assert_array_equal(scores[3 * shard + number], merged.merged_of(number))


def test_a_sample_takes_whole_images_of_every_shard(shards, caplog):
    folder, truths = shards
    caplog.set_level("INFO")
    assert accuracy(run(folder, sample_tokens=400), truths) > 0.9
    assert "2 of 6 images" in caplog.text
