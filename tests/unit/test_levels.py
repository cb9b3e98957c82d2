"""From feature stores to merged masks: three levels of a dataset whose foreground is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from builders import write_store
from numpy.typing import NDArray

from lightcluster.clustering.category_level import cluster_category, superclass_of
from lightcluster.clustering.dataset_level import cluster_dataset
from lightcluster.clustering.image_level import cluster_image
from lightcluster.clustering.kmeans import Metric
from lightcluster.clustering.sample import read_sample, sample_features
from lightcluster.clustering.superclasses import group_images
from lightcluster.files import read_arrays, write_arrays
from lightcluster.masks.consistency import ConsistencyRule, merge_levels
from lightcluster.masks.decision import decide_foreground
from lightcluster.masks.patches import read_level_masks
from lightcluster.shards import Shards

GRIDS = [(6, 8), (8, 6), (7, 7), (6, 10)]
LLOYD = {"restarts": 5, "iterations": 20, "seed": 0}
DIM = 16


@dataclass
class Planted:
    """Two shards of images whose objects, of one or two parts, are known."""

    folder: Path
    stores: list[Path]
    parts: list[list[NDArray[np.int64]]]
    """Of each image of each shard: the direction of each patch; 0 and 1 are the object's."""

    def truth(self, shard: int) -> NDArray[np.bool_]:
        return np.concatenate([part.ravel() < 2 for part in self.parts[shard]])


def plant(
    folder: Path, *, object_parts: int = 1, background_parts: int = 1, misled: Sequence[int] = (),
    contrasts: tuple[float, float] = (1, 1),
) -> Planted:  # fmt: skip
    """Write two shards of eight images each.

    The object is a rectangle in the middle of each image with more attention of the CLS token,
    but less in the images `misled` (counted over both shards), where it also fills the border.
    Images alternate between two superclasses, beginning with the other one in the second shard;
    the length of their keys is `contrasts`.
    """
    generator = np.random.default_rng(0)
    stores: list[Path] = []
    parts: list[list[NDArray[np.int64]]] = []
    for shard in range(2):
        keys, attention, cls, of_shard = [], [], [], []
        for image in range(8):
            rows, columns = GRIDS[image % len(GRIDS)]
            part = np.full((rows, columns), 2)
            if background_parts == 2:
                part[:, : columns // 2] = 3
            part[2:-2, 2:-2] = 0
            if object_parts == 2:
                part[2:-2, 2 : columns // 2] = 1
            if 8 * shard + image in misled:
                part = np.where(part >= 2, 0, 2)
            key = np.eye(DIM)[part] + 0.05 * generator.normal(size=(rows, columns, DIM))
            lit = (part < 2) != (8 * shard + image in misled)
            keys.append(key * contrasts[(image + shard) % 2])
            attention.append(np.where(lit, 0.02, 0.01))
            cls.append(np.eye(DIM)[(image + shard) % 2] + 0.05 * generator.normal(size=DIM))
            of_shard.append(part)
        name = folder / f"{shard:04d}.zarr"
        ids = [f"{shard}/{image}.jpg" for image in range(8)]
        stores.append(
            write_store(name, keys, attention=attention, cls=np.asarray(cls), image_ids=ids)
        )
        parts.append(of_shard)
    return Planted(folder, stores, parts)


def run_levels(
    planted: Planted, *, k: int = 2, tokens: int = 500, count: int = 2,
    metric: Metric = "spherical", rule: ConsistencyRule = "majority",
) -> Planted:  # fmt: skip
    """Run all steps from the sample to the merged masks."""
    folder, shards = planted.folder, len(planted.stores)
    for shard, store in enumerate(planted.stores):
        sample_features(
            store, folder / f"sample/{shard:04d}.npz", shard=shard, shards=shards, tokens=tokens,
            normalization="l2", seed=0,
        )  # fmt: skip
        cluster_image(
            store, folder / f"image/{shard:04d}.npz", k=k, normalization="l2", metric=metric,
            rules=("attention", "border", "center"), **LLOYD,
        )  # fmt: skip
    sample = Shards(shards).paths(folder / "sample", ".npz")
    files = {name: folder / f"{name}.npz" for name in ("dataset", "groups", "category", "decision")}
    cluster_dataset(sample, files["dataset"], k=k, metric=metric, **LLOYD)
    group_images(
        planted.stores, files["groups"], count=count, min_images=1, sample_images=100, **LLOYD
    )
    cluster_category(sample, files["groups"], files["category"], k=k, metric=metric, **LLOYD)
    decide_foreground(
        sample, Shards(shards).paths(folder / "image", ".npz"), files["dataset"], files["groups"],
        files["category"], files["decision"], metric=metric,
    )  # fmt: skip
    for shard, store in enumerate(planted.stores):
        merge_levels(
            store, shard, folder / f"image/{shard:04d}.npz", files["groups"], files["dataset"],
            files["category"], files["decision"], folder / f"masks/{shard:04d}.npz",
            normalization="l2", metric=metric, rule=rule,
        )  # fmt: skip
    return planted


def assert_all_levels_are_right(planted: Planted) -> None:
    for shard in range(2):
        masks = read_level_masks(planted.folder / f"masks/{shard:04d}.npz")
        for votes in masks.votes:
            np.testing.assert_array_equal(votes, planted.truth(shard))
        np.testing.assert_array_equal(masks.merged, planted.truth(shard))


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
def test_all_levels_and_the_merged_mask_are_the_planted_one(tmp_path: Path, metric: Metric) -> None:
    planted = run_levels(plant(tmp_path, contrasts=(1, 3)), metric=metric)
    assert_all_levels_are_right(planted)
    masks = read_level_masks(tmp_path / "masks/0001.npz")
    assert masks.image_id == [f"1/{image}.jpg" for image in range(8)]
    for image, part in enumerate(planted.parts[1]):
        np.testing.assert_array_equal(masks.merged_of(image), part < 2)
        np.testing.assert_array_equal(masks.votes_of(image), np.stack([part < 2] * 3))


@pytest.mark.parametrize(
    ("k", "object_parts", "background_parts"), [(3, 2, 1), (3, 1, 2), (4, 2, 2)]
)
def test_all_clusters_above_the_average_share_are_foreground(
    tmp_path: Path, k: int, object_parts: int, background_parts: int
) -> None:
    planted = plant(tmp_path, object_parts=object_parts, background_parts=background_parts)
    run_levels(planted, k=k, tokens=2000)
    assert_all_levels_are_right(planted)
    chosen = read_arrays(tmp_path / "decision.npz")
    assert chosen["dataset"].sum() == object_parts
    assert chosen["category"].sum(axis=1).tolist() == [object_parts] * 2


def test_labels_are_the_clusters_of_each_image(tmp_path: Path) -> None:
    planted = run_levels(plant(tmp_path, object_parts=2, background_parts=2), k=4, tokens=2000)
    for shard in range(2):
        label = read_arrays(tmp_path / f"image/{shard:04d}.npz", "label")["label"]
        part = np.concatenate([p.ravel() for p in planted.parts[shard]])
        image = np.repeat(np.arange(8), [p.size for p in planted.parts[shard]])
        pairs = set(zip(image.tolist(), part.tolist(), label.tolist(), strict=True))
        assert len(pairs) == 4 * 8


def test_shares_and_sizes_are_those_of_the_sample(tmp_path: Path) -> None:
    planted = run_levels(plant(tmp_path), tokens=300)
    sample = read_sample(Shards(2).paths(tmp_path / "sample", ".npz"))
    truth = np.concatenate([planted.truth(s)[sample.row[sample.shard == s]] for s in range(2)])
    sizes = read_arrays(tmp_path / "dataset.npz")["sizes"]
    assert sorted(sizes.tolist()) == sorted([truth.sum(), (~truth).sum()])
    decision = read_arrays(tmp_path / "decision.npz")
    np.testing.assert_array_equal(decision["dataset_share"], decision["dataset"])
    np.testing.assert_array_equal(decision["category_share"], decision["category"])
    group = superclass_of(sample.shard, sample.image, tmp_path / "groups.npz")
    kind = (sample.image + sample.shard) % 2
    np.testing.assert_array_equal(group == group[0], kind == kind[0])
    for number, of_group in enumerate(read_arrays(tmp_path / "category.npz")["sizes"]):
        inside = truth[group == number]
        assert sorted(of_group.tolist()) == sorted([inside.sum(), (~inside).sum()])


def test_the_upper_levels_correct_images_whose_own_foreground_is_wrong(tmp_path: Path) -> None:
    planted = run_levels(plant(tmp_path, misled=[3, 9]))
    for shard, wrong in ((0, 3), (1, 1)):
        masks = read_level_masks(tmp_path / f"masks/{shard:04d}.npz")
        for image, part in enumerate(planted.parts[shard]):
            dataset, category, own = masks.votes_of(image)
            np.testing.assert_array_equal(own, (part < 2) != (image == wrong))
            np.testing.assert_array_equal(dataset, part < 2)
            np.testing.assert_array_equal(category, part < 2)
            np.testing.assert_array_equal(masks.merged_of(image) > 0.5, part < 2)


@pytest.mark.parametrize(
    ("rule", "level"), [("dataset", 0), ("category", 1), ("image", 2), ("all", None)]
)
def test_the_score_follows_the_rule(
    tmp_path: Path, rule: ConsistencyRule, level: int | None
) -> None:
    run_levels(plant(tmp_path, misled=[3]), rule=rule)
    masks = read_level_masks(tmp_path / "masks/0000.npz")
    expected = masks.votes.all(axis=0) if level is None else masks.votes[level]
    np.testing.assert_array_equal(masks.merged, expected)
    assert (masks.votes[0] != masks.votes[2]).any()


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "again"):
        run_levels(plant(tmp_path / name), tokens=200)
    files = [p.relative_to(tmp_path / "first") for p in (tmp_path / "first").rglob("*.npz")]
    assert len(files) == 10
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


@pytest.mark.parametrize("last", [False, True])
def test_a_superclass_without_a_sampled_patch_falls_back_to_the_whole_sample(
    tmp_path: Path, last: bool
) -> None:
    planted = run_levels(plant(tmp_path))
    groups = read_arrays(tmp_path / "groups.npz")
    sample = read_sample(Shards(2).paths(tmp_path / "sample", ".npz"))
    kept = groups["superclass"] == last
    for shard in range(2):  # only patches of the other superclass are sampled
        part = read_arrays(tmp_path / f"sample/{shard:04d}.npz")
        keep = ~kept[groups["offset"][shard] + part["image"]]
        write_arrays(tmp_path / f"sample/{shard:04d}.npz", **{n: a[keep] for n, a in part.items()})
    assert len(read_sample(Shards(2).paths(tmp_path / "sample", ".npz")).row) < len(sample.row)
    category, decision = tmp_path / "category.npz", tmp_path / "decision.npz"
    cluster_category(
        Shards(2).paths(tmp_path / "sample", ".npz"), tmp_path / "groups.npz", category,
        k=2, metric="spherical", **LLOYD,
    )  # fmt: skip
    decide_foreground(
        Shards(2).paths(tmp_path / "sample", ".npz"), Shards(2).paths(tmp_path / "image", ".npz"),
        tmp_path / "dataset.npz", tmp_path / "groups.npz", category, decision, metric="spherical",
    )  # fmt: skip
    for shard, store in enumerate(planted.stores):
        merge_levels(
            store, shard, tmp_path / f"image/{shard:04d}.npz", tmp_path / "groups.npz",
            tmp_path / "dataset.npz", category, decision, tmp_path / f"masks/{shard:04d}.npz",
            normalization="l2", metric="spherical", rule="majority",
        )  # fmt: skip
    assert_all_levels_are_right(planted)


@pytest.mark.parametrize("rules", [("attention",), ("border",), ("center",)])
def test_each_rule_finds_the_object_in_the_middle(tmp_path: Path, rules: tuple[str, ...]) -> None:
    planted = plant(tmp_path)
    cluster_image(
        planted.stores[0], tmp_path / "image.npz", k=2, normalization="l2", metric="spherical",
        rules=rules, **LLOYD,
    )  # fmt: skip
    arrays = read_arrays(tmp_path / "image.npz")
    image = np.repeat(np.arange(8), [part.size for part in planted.parts[0]])
    found = arrays["foreground"][image, arrays["label"]]
    np.testing.assert_array_equal(found, planted.truth(0))
    assert arrays["label"].dtype == np.uint8


def test_an_image_of_fewer_patches_than_clusters(tmp_path: Path) -> None:
    keys = [np.eye(4)[:2].reshape(1, 2, 4), np.ones((1, 1, 4)), np.zeros((2, 2, 4))]
    store = write_store(tmp_path / "tiny.zarr", keys)
    cluster_image(
        store, tmp_path / "image.npz", k=4, normalization="l2", metric="spherical",
        rules=("center",), **LLOYD,
    )  # fmt: skip
    arrays = read_arrays(tmp_path / "image.npz")
    assert arrays["label"].shape == (7,)
    assert arrays["label"][0] != arrays["label"][1]
    assert arrays["foreground"].shape == (3, 4)
    image = np.repeat([0, 1, 2], [2, 1, 4])
    assert arrays["foreground"][image, arrays["label"]].all()
