"""Regions that hold several kinds of patches are cut, others are not."""

from __future__ import annotations

import numpy as np
import pytest
from builders import quick
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lightcluster.clustering.dataset_level import mean_distance
from lightcluster.clustering.kmeans import normalize
from lightcluster.regions import splitting
from lightcluster.regions.components import Regions, find_components
from lightcluster.regions.splitting import shares_of_patches, split_regions

GRID, SIDE = (6, 8), 4
DIM = 5


def features_of(kinds: NDArray[np.integer], noise: float = 0.05) -> NDArray[np.float32]:
    """Directions at right angles, one for each kind, with some noise."""
    random = np.random.default_rng(0)
    clean = np.eye(DIM)[kinds.ravel()]
    return normalize(clean + random.normal(0, noise, clean.shape), "l2")


def pixels(patches: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.kron(patches, np.ones((SIDE, SIDE), patches.dtype))


def split(mask: NDArray[np.bool_], features: NDArray[np.float32], **changes: float) -> Regions:
    settings = {"distance": 0.5, "min_area": 0.05} | changes
    return split_regions(find_components(mask, 0), features, GRID, **settings)


def halves() -> NDArray[np.int64]:
    """Kind 1 on the left, kind 2 on the right, kind 0 above and below."""
    kinds = np.zeros(GRID, np.int64)
    kinds[1:5, 1:4], kinds[1:5, 4:7] = 1, 2
    return kinds


def test_what_touches_is_told_apart_where_its_patches_meet() -> None:
    kinds = halves()
    regions = split(pixels(kinds > 0), features_of(kinds))
    expected = pixels(kinds)
    assert sorted(np.unique(regions.label)) == [0, 1, 2]
    for number in (1, 2):
        assert len(np.unique(expected[regions.label == number])) == 1
    assert regions.area.tolist() == [4 * 3 * SIDE**2] * 2
    assert sorted(regions.box.tolist()) == [[4, 4, 20, 16], [4, 16, 20, 28]]


@pytest.mark.parametrize("distance", [0, 1.5])
def test_what_is_near_enough_stays_whole(distance: float) -> None:
    kinds = halves()
    whole = find_components(pixels(kinds > 0), 0)
    regions = split(pixels(kinds > 0), features_of(kinds), distance=distance)
    np.testing.assert_array_equal(regions.label, whole.label)
    np.testing.assert_array_equal(regions.box, whole.box)


def test_parts_that_are_too_small_join_the_nearest(monkeypatch) -> None:
    kinds = halves()
    kinds[2, 2] = 3  # one patch of 48
    features = features_of(kinds)
    features[2 * GRID[1] + 2] = normalize(np.asarray([[0, 0.1, 0.4, 1, 0]]), "l2")[0]
    regions = split(pixels(kinds > 0), features)
    assert len(regions.area) == 2
    assert regions.label[2 * SIDE + 1, 2 * SIDE + 1] == regions.label[5, 5 * SIDE]
    assert len(split(pixels(kinds > 0), features, min_area=0.01).area) == 2
    monkeypatch.setattr(splitting, "LEAST", 0.01)  # of the region
    assert len(split(pixels(kinds > 0), features, min_area=0.01).area) == 3


def test_parts_of_other_regions_are_numbered_with_them_by_area() -> None:
    kinds = np.zeros(GRID, np.int64)
    kinds[0:2, 0:3], kinds[0:2, 3:5], kinds[4:6] = 1, 2, 3
    regions = split(pixels(kinds > 0), features_of(kinds), min_area=0.02)
    assert [area // SIDE**2 for area in regions.area] == [16, 6, 4]


def test_a_region_thinner_than_half_a_patch_stays_whole() -> None:
    mask = np.zeros((GRID[0] * SIDE, GRID[1] * SIDE), bool)
    mask[9, 3:30] = True
    regions = split(mask, features_of(np.arange(48).reshape(GRID) % DIM))
    assert regions.area.tolist() == [27]


def test_an_image_without_regions_has_none() -> None:
    regions = split(np.zeros((24, 32), bool), features_of(np.zeros(GRID, np.int64)))
    assert len(regions.area) == 0


@quick
@given(seed=st.integers(0, 10**6), distance=st.floats(0.05, 1.2), min_area=st.floats(0, 0.3))
def test_parts_make_up_the_regions(seed: int, distance: float, min_area: float) -> None:
    random = np.random.default_rng(seed)
    mask = pixels(random.random(GRID) < 0.6)[: 6 * SIDE - seed % 3, : 8 * SIDE - seed % 2]
    features = features_of(random.integers(0, DIM, GRID), noise=0.3)
    whole = find_components(mask, 0)
    regions = split(mask, features, distance=distance, min_area=min_area)
    np.testing.assert_array_equal(regions.label > 0, whole.label > 0)
    assert regions.area.tolist() == sorted(np.bincount(regions.label.ravel())[1:], reverse=True)
    for number in range(1, len(regions.area) + 1):
        assert len(np.unique(whole.label[regions.label == number])) == 1


def average_linkage(points: NDArray[np.float32], distance: float) -> list[set[int]]:
    """Join the two clusters whose members are nearest on average, until none is near enough."""
    clusters = [{number} for number in range(len(points))]
    between = 1 - points.astype(np.float64) @ points.T
    while len(clusters) > 1:
        means = {
            (a, b): np.mean([between[i, j] for i in clusters[a] for j in clusters[b]])
            for b in range(len(clusters)) for a in range(b)
        }  # fmt: skip
        nearest = min(means, key=means.__getitem__)
        if means[nearest] > distance:
            break
        joined = clusters[nearest[0]] | clusters[nearest[1]]
        clusters = [one for n, one in enumerate(clusters) if n not in nearest] + [joined]
    return clusters


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_those_of_average_linkage(seed: int, monkeypatch) -> None:
    monkeypatch.setattr(splitting, "LEAST", 0)
    random = np.random.default_rng(seed)
    features = normalize(random.normal(size=(48, DIM)), "l2")
    members = np.sort(random.choice(48, 20, replace=False))
    parts = splitting._parts_of_patches(features, members, GRID, 0.7, 0.0)
    found = {frozenset(np.flatnonzero(parts == part).tolist()) for part in np.unique(parts)}
    expected = {frozenset(cluster) for cluster in average_linkage(features[members], 0.7)}
    assert found == expected


def test_of_many_patches_some_are_clustered_and_the_others_join_them(monkeypatch) -> None:
    kinds = halves()
    features = features_of(kinds)
    all_of_them = split(pixels(kinds > 0), features)
    monkeypatch.setattr(splitting, "CLUSTERED", 10)
    some = split(pixels(kinds > 0), features)
    np.testing.assert_array_equal(some.label, all_of_them.label)


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_the_mean_distance_is_that_of_all_pairs(scale: float) -> None:
    points = np.random.default_rng(0).normal(0.3, 1, (40, DIM))
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    pairs = [1 - unit[i] @ unit[j] for i in range(40) for j in range(40)]
    assert mean_distance(points * scale) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_shares_of_patches_are_what_a_region_covers() -> None:
    inside = np.zeros((24, 32), bool)
    inside[2:6, :] = True
    shares = shares_of_patches(inside, GRID).reshape(GRID)
    assert shares[:, 3].tolist() == [0.5, 0.5, 0, 0, 0, 0]
