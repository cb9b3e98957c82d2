"""Superclasses: groups of images by their CLS tokens."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from builders import write_store
from numpy.typing import NDArray

from lightcluster.clustering.superclasses import (
    group_images,
    merge_small,
    number_of_superclasses,
    superclasses_of_shard,
)
from lightcluster.files import read_arrays


@pytest.mark.parametrize(
    ("count", "images", "expected"),
    [
        ("auto", 1, 1),
        ("auto", 39, 1),
        ("auto", 40, 2),
        ("auto", 100, 5),
        ("auto", 400, 20),
        ("auto", 100_000, 20),
        (7, 100, 7),
        (7, 3, 3),
        (1, 100, 1),
        (50, 100_000, 50),
    ],
)
def test_number_of_superclasses(count: int, images: int, expected: int) -> None:
    assert number_of_superclasses(count, images) == expected  # type: ignore[arg-type]


def at_angles(*degrees: float) -> NDArray[np.float32]:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_small_groups_are_merged_smallest_first_and_counted_anew() -> None:
    # Groups of 6, 3, 2 and 4 at 0, 20, 40 and 90 degrees. The one of 2 falls to its neighbour
    # at 20 degrees, which then has 5 and stays; the one of 4 is then the smallest.
    centroids = at_angles(0, 20, 40, 90)
    images = at_angles(*[0] * 6, *[20] * 3, *[40] * 2, *[90] * 4)
    left, removed = merge_small(images, centroids, 4)
    np.testing.assert_array_equal(left, centroids[[0, 1, 3]])
    assert removed == [2]
    left, removed = merge_small(images, centroids, 5)
    np.testing.assert_array_equal(left, centroids[[0, 1]])
    assert removed == [2, 4]
    left, removed = merge_small(images, centroids, 7)
    np.testing.assert_array_equal(left, centroids[[1]])
    assert removed == [2, 4, 6]


def test_groups_of_the_allowed_size_stay() -> None:
    centroids = at_angles(0, 90)
    images = at_angles(0, 0, 0, 90, 90)
    left, removed = merge_small(images, centroids, 2)
    assert len(left) == 2
    assert removed == []


def test_one_group_is_always_left() -> None:
    left, removed = merge_small(at_angles(0, 1, 90), at_angles(0, 90), 100)
    assert left.shape == (1, 2)
    assert removed == [1]
    assert len(merge_small(at_angles(0), at_angles(45), 100)[0]) == 1


def test_empty_groups_are_removed() -> None:
    left, removed = merge_small(at_angles(0, 0, 90), at_angles(0, 45, 90), 1)
    np.testing.assert_array_equal(left, at_angles(0, 90))
    assert removed == [0]


def cls_stores(folder: Path, angles: list[list[float]]) -> list[Path]:
    """Write one store a shard; the length of a CLS token, which is to be ignored, varies."""
    stores = []
    for shard, degrees in enumerate(angles):
        cls = at_angles(*degrees) * (1 + np.arange(len(degrees)))[:, None]
        keys = [np.zeros((1, 2, 2))] * len(degrees)
        stores.append(write_store(folder / f"{shard:04d}.zarr", keys, cls=cls))
    return stores


SETTINGS = {"sample_images": 1000, "restarts": 5, "iterations": 20, "seed": 0}


def test_images_are_grouped_by_direction_over_all_shards(tmp_path: Path) -> None:
    angles = [[0, 90, 1, 180], [89], [181, 0, 2]]
    output = tmp_path / "groups.npz"
    group_images(cls_stores(tmp_path, angles), output, count=3, min_images=1, **SETTINGS)
    arrays = read_arrays(output)
    assert arrays["offset"].tolist() == [0, 4, 5, 8]
    assert arrays["centroids"].shape == (3, 2)
    a, b, c = arrays["superclass"][[0, 1, 3]].tolist()
    assert sorted((a, b, c)) == [0, 1, 2]
    of_shards = [superclasses_of_shard(output, shard).tolist() for shard in range(3)]
    assert of_shards == [[a, b, a, c], [b], [c, a, a]]


def test_long_tokens_have_no_more_weight_than_short_ones(tmp_path: Path) -> None:
    cls = at_angles(0, 60) * [[100], [1]]
    store = write_store(tmp_path / "0000.zarr", [np.zeros((1, 2, 2))] * 2, cls=cls)
    group_images([store], tmp_path / "groups.npz", count=1, min_images=1, **SETTINGS)
    centroids = read_arrays(tmp_path / "groups.npz")["centroids"]
    np.testing.assert_allclose(centroids, at_angles(30), atol=1e-5)


def test_small_groups_are_merged_and_said_so_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stores = cls_stores(tmp_path, [[0, 1, 2, 3], [60, 61], [0, 90]])
    with caplog.at_level(logging.WARNING):
        group_images(stores, tmp_path / "groups.npz", count=3, min_images=3, **SETTINGS)
    arrays = read_arrays(tmp_path / "groups.npz")
    assert arrays["superclass"].tolist() == [0, 0, 0, 0, 1, 1, 0, 1] or (
        arrays["superclass"].tolist() == [1, 1, 1, 1, 0, 0, 1, 0]
    )
    (message,) = (record.getMessage() for record in caplog.records)
    assert message == "a superclass of 1 images, below min_images, is merged into the others"


def test_nothing_is_said_when_no_group_is_small(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stores = cls_stores(tmp_path, [[0, 1, 90, 91]])
    with caplog.at_level(logging.WARNING):
        group_images(stores, tmp_path / "groups.npz", count=2, min_images=2, **SETTINGS)
    assert not caplog.records


def test_a_sample_of_the_images_is_enough_and_the_allowed_size_shrinks_with_it(
    tmp_path: Path,
) -> None:
    stores = cls_stores(tmp_path, [[0, 1] * 10, [90, 91] * 10])
    settings = SETTINGS | {"sample_images": 8}
    group_images(stores, tmp_path / "groups.npz", count=2, min_images=15, **settings)
    superclass = read_arrays(tmp_path / "groups.npz")["superclass"]
    assert np.bincount(superclass).tolist() == [20, 20]
    assert len(set(superclass[:20].tolist())) == 1


def test_the_groups_are_fitted_on_at_most_the_images_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightcluster.clustering import superclasses

    fitted = []
    fit = superclasses.fit_kmeans

    def spy(points: NDArray[np.float32], *args: object, **settings: object) -> object:
        fitted.append(len(points))
        return fit(points, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(superclasses, "fit_kmeans", spy)
    stores = cls_stores(tmp_path, [[0, 90], [0, 90], [0, 90]])
    settings = SETTINGS | {"sample_images": 4}
    group_images(stores, tmp_path / "groups.npz", count=2, min_images=1, **settings)
    assert fitted == [4]


def test_more_groups_than_images_are_not_made(tmp_path: Path) -> None:
    stores = cls_stores(tmp_path, [[0], [90]])
    group_images(stores, tmp_path / "groups.npz", count=10, min_images=1, **SETTINGS)
    assert sorted(read_arrays(tmp_path / "groups.npz")["superclass"].tolist()) == [0, 1]


def test_a_single_image_is_its_own_group(tmp_path: Path) -> None:
    stores = cls_stores(tmp_path, [[30]])
    group_images(stores, tmp_path / "groups.npz", count="auto", min_images=10, **SETTINGS)
    assert superclasses_of_shard(tmp_path / "groups.npz", 0).tolist() == [0]
