"""Votes of neighbours, against votes counted one by one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lightcluster.evaluation import neighbors
from lightcluster.evaluation.neighbors import Voters, count_votes, regions_of, vote, vote_neighbors
from lightcluster.evaluation.region_counts import RegionCounts, read_region_counts
from lightcluster.files import encode_names, read_arrays, write_arrays


def unit(angles: list[float]) -> NDArray[np.float32]:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_a_region_is_labelled_by_most_of_the_nearest_of_other_images() -> None:
    voters = Voters(
        unit([0.0, 0.1, 0.2, 0.3, 0.9]), np.asarray([0, 1, 2, 3, 4]), np.asarray([7, 5, 5, 7, 9])
    )
    points, image = unit([0.0, 0.0, 1.0]), np.asarray([0, 9, 9])
    # Of itself it has no vote; at a tie the nearest wins.
    assert vote(points, image, voters, 3).tolist() == [5, 5, 9]
    assert vote(points, image, voters, 1).tolist() == [5, 7, 9]
    assert vote(points, image, voters, 4).tolist() == [5, 7, 5]


def test_without_another_image_there_is_no_vote() -> None:
    alone = Voters(unit([0.0, 0.1]), np.asarray([3, 3]), np.asarray([1, 2]))
    assert vote(unit([0.0, 0.0]), np.asarray([3, 4]), alone).tolist() == [-1, 1]
    nobody = Voters(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert vote(unit([0.0]), np.asarray([0]), nobody).tolist() == [-1]


@pytest.mark.parametrize("at_once", [7, 20, 1_000])
def test_votes_are_those_counted_one_by_one(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "_AT_ONCE", at_once)
    generator = np.random.default_rng(0)
    points = generator.normal(size=(60, 4)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    image, label = generator.integers(0, 20, 60), generator.integers(0, 3, 60)
    found = vote(points, image, Voters(points, image, label), 5)
    for number, point in enumerate(points):
        others = [other for other in range(60) if image[other] != image[number]]
        nearest = sorted(others, key=lambda other: -float(point @ points[other]))[:5]
        votes = Counter(label[nearest].tolist())
        best = next(one for one in label[nearest] if votes[one] == max(votes.values()))
        assert found[number] == best


def counts_of(pixels: list[list[int]], regions: list[int], ground: int | None = 0) -> RegionCounts:
    """Counts of images with so many regions each; their rows are those of `pixels`, in order."""
    first = np.cumsum([0, *regions[:-1]])
    offset = np.cumsum([0, *(number + 1 for number in regions)])
    names = [f"{number}.jpg" for number in range(len(regions))]
    return RegionCounts(
        names, first, offset, np.asarray(pixels), np.zeros(len(regions), np.int64), ground
    )


TWO_IMAGES = [[50, 1, 2], [0, 9, 1], [3, 3, 3], [40, 0, 7], [0, 2, 8], [0, 0, 0]]
"""Two images of two regions: outside, and each region, by class."""


def test_regions_know_their_image_and_their_best_class() -> None:
    points = unit([0.0, 1.0, 2.0, 3.0])
    own = regions_of(counts_of(TWO_IMAGES, [2, 2]), points, first_image=10)
    assert own.image.tolist() == [10, 10, 11, 11]
    assert own.label.tolist() == [1, 0, 2, -1]  # the last one has no pixel with truth
    np.testing.assert_array_equal(own.points, points)


@pytest.mark.parametrize(("ground", "outside"), [(0, 0), (None, 3)])
def test_pixels_are_counted_by_the_class_that_won(ground: int | None, outside: int) -> None:
    counts = counts_of(TWO_IMAGES, [2, 2], ground)
    own = regions_of(counts, unit([0.0, 1.0, 0.0, 1.0]), 0)
    voters = Voters(unit([0.0, 1.0]), np.asarray([8, 9]), np.asarray([1, 2]))
    expected = np.zeros((4, 3), np.int64)
    expected[outside] += [90, 1, 9]
    expected[1] += [0, 11, 9]
    expected[2] += [3, 3, 3]
    np.testing.assert_array_equal(count_votes(counts, own, voters, 1), expected)


def write_shard(folder: Path, shard: int, pixels: list[list[int]], angles: list[float]) -> None:
    """Write a shard of images of one region each."""
    images = len(angles)
    write_arrays(
        folder / f"counts-{shard}.npz", image_id=encode_names([f"{n}.jpg" for n in range(images)]),
        first=np.arange(images), offset=2 * np.arange(images + 1), ground=np.asarray(0),
        frames=encode_names(["original"]),
        **{"original.pixels": np.asarray(pixels, np.int64).reshape(-1, 3),
           "original.ignored": np.zeros(images, np.int64)},
    )  # fmt: skip
    write_arrays(folder / f"regions-{shard}.npz", cls=unit(angles).reshape(-1, 2))


def test_neighbours_are_of_all_shards_and_never_the_image_itself(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [[9, 0, 0], [0, 5, 0], [9, 0, 0], [0, 0, 5]], [0.0, 1.5])
    write_shard(tmp_path, 1, [[8, 0, 0], [0, 7, 0], [8, 0, 0], [0, 0, 7]], [0.01, 1.51])
    write_shard(tmp_path, 2, [], [])
    directions = np.eye(2, dtype=np.float32)
    write_arrays(
        tmp_path / "labelling.npz", features=encode_names(["cls"]),
        centers=np.zeros((1, 2), np.float32), components=directions, centroids=directions,
    )  # fmt: skip
    paths = [[tmp_path / f"{name}-{n}.npz" for n in range(3)] for name in ("counts", "regions")]
    assert read_region_counts(paths[0][2])["original"].image_id == []
    vote_neighbors(*paths, tmp_path / "labelling.npz", tmp_path / "votes.npz")
    # Of the three others, two are of the other class: an image that voted for itself would tie.
    votes = read_arrays(tmp_path / "votes.npz")["original"]
    assert votes.tolist() == [[34, 0, 0], [0, 0, 12], [0, 12, 0], [0, 0, 0]]
