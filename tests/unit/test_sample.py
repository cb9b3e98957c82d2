"""The bounded sample of patches that the upper levels are fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import quick, write_store
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import normalize
from lightcluster.clustering.sample import draw_rows, read_sample, sample_features
from lightcluster.files import write_arrays
from lightcluster.shards import Shards

GRIDS = [(3, 4), (1, 1), (5, 2), (4, 4)]


def telling_keys(shard: int) -> list[NDArray[np.float32]]:
    """Keys that say where they come from: shard, image and patch, all but the patch from 1."""
    keys = []
    for image, (rows, columns) in enumerate(GRIDS):
        patch = np.arange(rows * columns)
        key = np.stack([np.full_like(patch, shard + 1), np.full_like(patch, image + 1), patch])
        keys.append(key.T.reshape(rows, columns, 3).astype(np.float32))
    return keys


def take_sample(
    folder: Path, shards: int, tokens: int, how: str = "none", seed: int = 0
) -> list[Path]:
    for shard in range(shards):
        store = write_store(folder / f"{shard}.zarr", telling_keys(shard))
        sample_features(
            store, folder / f"{shard:04d}.npz", shard=shard, shards=shards, tokens=tokens,
            normalization=how, seed=seed,
        )  # fmt: skip
    return [folder / f"{shard:04d}.npz" for shard in range(shards)]


@quick
@given(tokens=st.integers(0, 200), quota=st.integers(0, 200), seed=st.integers(0, 9))
def test_rows_are_different_ascending_and_as_many_as_asked(
    tokens: int, quota: int, seed: int
) -> None:
    rows = draw_rows(tokens, quota, seed, 3)
    assert rows.dtype == np.int64
    assert len(rows) == min(quota, tokens)
    assert (np.diff(rows) > 0).all()
    assert ((rows >= 0) & (rows < tokens)).all()
    np.testing.assert_array_equal(rows, draw_rows(tokens, quota, seed, 3))


def test_all_rows_are_drawn_when_they_are_few() -> None:
    for quota in (7, 8):
        assert draw_rows(7, quota, 0, 0).tolist() == list(range(7))


def test_shards_and_seeds_draw_differently() -> None:
    draws = {draw_rows(10_000, 50, seed, shard).tobytes() for seed in (0, 1) for shard in (0, 1)}
    assert len(draws) == 4


def test_every_row_is_as_likely_as_any_other() -> None:
    drawn = np.bincount(
        np.concatenate([draw_rows(20, 5, seed, 0) for seed in range(2000)]), minlength=20
    )
    assert abs(drawn - 500).max() < 100  # 5 sd


def test_sampled_features_come_from_the_rows_they_name(tmp_path: Path) -> None:
    take_sample(tmp_path, shards=3, tokens=60)
    sample = read_sample(Shards(3).paths(tmp_path, ".npz"))
    offset = np.concatenate([[0], np.cumsum([rows * columns for rows, columns in GRIDS])])
    assert len(sample.row) == 60
    assert sample.features.dtype == np.float32
    assert np.bincount(sample.shard).tolist() == [20, 20, 20]
    np.testing.assert_array_equal(sample.features[:, 0], sample.shard + 1)
    np.testing.assert_array_equal(sample.features[:, 1], sample.image + 1)
    np.testing.assert_array_equal(sample.features[:, 2], sample.row - offset[sample.image])


def test_a_small_dataset_is_sampled_whole(tmp_path: Path) -> None:
    take_sample(tmp_path, shards=2, tokens=1000)
    sample = read_sample(Shards(2).paths(tmp_path, ".npz"))
    assert sample.row.tolist() == 2 * list(range(39))
    assert sample.image.tolist() == 2 * (12 * [0] + [1] + 10 * [2] + 16 * [3])


def test_sampled_features_are_normalised(tmp_path: Path) -> None:
    raw_file, unit_file = tmp_path / "raw", tmp_path / "unit"
    take_sample(raw_file, 1, 30, "none", seed=4)
    take_sample(unit_file, 1, 30, "l2", seed=4)
    raw, unit = (read_sample([file / "0000.npz"]) for file in (raw_file, unit_file))
    np.testing.assert_array_equal(raw.row, unit.row)
    np.testing.assert_allclose(unit.features, normalize(raw.features, "l2"), atol=1e-3)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first, again, other = (
        take_sample(tmp_path / name, 1, 20, seed=seed)[0].read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(("shards", "tokens"), [(7, 20), (8, 3), (5, 5), (3, 100), (1, 1)])
def test_the_sample_is_of_the_size_asked_for_however_many_the_shards(
    tmp_path: Path, shards: int, tokens: int
) -> None:
    take_sample(tmp_path, shards, tokens)
    sample = read_sample(Shards(shards).paths(tmp_path, ".npz"))
    assert sample.features.shape == (tokens, 3)
    drawn = np.bincount(sample.shard, minlength=shards)
    assert drawn.max() - drawn.min() <= 1


def test_a_sample_sorted_by_group_holds_the_same_patches_in_their_order(tmp_path):
    draw = np.random.default_rng(0)
    for shard, count in enumerate((7, 0, 5)):
        write_arrays(
            tmp_path / f"{shard:04d}.npz",
            features=draw.random((count, 3)).astype(np.float16),
            image=draw.integers(0, 3, count).astype(np.int32),
            row=np.arange(count),
        )
    paths = Shards(3).paths(tmp_path, ".npz")
    plain = read_sample(paths)
    groups = (plain.shard + plain.image) % 3
    grouped = read_sample(
        Shards(3).paths(tmp_path, ".npz"), lambda shard, image: (shard + image) % 3
    )
    for number in range(3):
        own = (grouped.shard + grouped.image) % 3 == number
        for name in ("features", "shard", "image", "row"):
            expected = getattr(plain, name)[groups == number]
            assert np.array_equal(getattr(grouped, name)[own], expected)
    assert (np.diff((grouped.shard + grouped.image) % 3) >= 0).all()
