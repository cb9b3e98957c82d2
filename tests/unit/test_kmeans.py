"""k-means against slow references, and at its edges."""

from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
from builders import quick
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import Metric, assign, fit_kmeans, normalize

METRICS: tuple[Metric, ...] = get_args(Metric)
Points = NDArray[np.float32]


def normal(n: int, dim: int, seed: int) -> Points:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def loss(points: Points, centroids: Points, metric: Metric) -> float:
    """Sum over points of the squared distance, or of 1 - cosine, to the nearest centroid."""
    p, c = points.astype(np.float64), centroids.astype(np.float64)
    if metric == "spherical":
        c = c / np.linalg.norm(c, axis=1, keepdims=True)
        return float((1 - p @ c.T).min(axis=1).sum())
    return float(np.square(p[:, None] - c[None]).sum(axis=2).min(axis=1).sum())


def centroids_of(points: Points, labels: NDArray[np.integer], k: int) -> Points:
    return np.stack([points[labels == number].mean(axis=0) for number in range(k)])


def best_of_all_partitions(points: Points, k: int, metric: Metric) -> float:
    partitions = (np.asarray(p) for p in product(range(k), repeat=len(points)))
    return min(
        loss(points, centroids_of(points, labels, k), metric)
        for labels in partitions
        if len(set(labels.tolist())) == k
    )


def best_of_naive_starts(points: Points, k: int, metric: Metric, starts: int) -> float:
    generator = np.random.default_rng(1)
    losses = []
    for _ in range(starts):
        centroids = points[generator.choice(len(points), k, replace=False)].astype(np.float64)
        for _ in range(50):
            if metric == "spherical":
                centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
                labels = (points @ centroids.T).argmax(axis=1)
            else:
                distance = np.square(points[:, None] - centroids[None]).sum(axis=2)
                labels = distance.argmin(axis=1)
            for number in set(labels.tolist()):
                centroids[number] = points[labels == number].mean(axis=0)
        losses.append(loss(points, centroids, metric))
    return min(losses)


@pytest.mark.parametrize("metric", METRICS)
def test_well_separated_clusters_are_found_exactly(metric: Metric) -> None:
    truth = np.repeat([0, 1, 2, 3], [5, 50, 20, 200])
    centers = 10 * np.eye(4, 8, dtype=np.float32)
    points = normalize(centers[truth] + 0.1 * normal(len(truth), 8, 0), "l2")
    fitted = fit_kmeans(points, 4, metric=metric, restarts=4)
    labels = assign(points, fitted.centroids, metric)
    assert len(set(zip(truth.tolist(), labels.tolist(), strict=True))) == 4
    assert sorted(fitted.sizes.tolist()) == [5, 20, 50, 200]
    assert fitted.sizes.tolist() == np.bincount(labels).tolist()
    expected = centroids_of(points, labels, 4)
    if metric == "spherical":
        expected = normalize(expected, "l2")
    np.testing.assert_allclose(fitted.centroids, expected, atol=1e-5)


def test_euclidean_clusters_need_not_differ_in_direction() -> None:
    points = np.asarray([[1, 0], [1.1, 0], [9, 0], [9.1, 0]], np.float32)
    fitted = fit_kmeans(points, 2, metric="euclidean", restarts=4)
    assert sorted(fitted.centroids[:, 0].tolist()) == pytest.approx([1.05, 9.05])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_tiny_sets_are_clustered_as_well_as_by_the_best_of_all_partitions(
    metric: Metric, seed: int
) -> None:
    points = normalize(normal(7, 3, seed), "l2" if metric == "spherical" else "none")
    for k in (2, 3):
        found = fit_kmeans(points, k, metric=metric, restarts=40, seed=seed)
        best = best_of_all_partitions(points, k, metric)
        assert best - 1e-5 <= loss(points, found.centroids, metric) <= best * 1.0001 + 1e-5


@pytest.mark.parametrize("metric", METRICS)
def test_loss_is_no_worse_than_that_of_naive_lloyd_from_many_starts(metric: Metric) -> None:
    points = normalize(normal(150, 5, 3), "l2" if metric == "spherical" else "none")
    found = fit_kmeans(points, 5, metric=metric, restarts=30)
    naive = best_of_naive_starts(points, 5, metric, starts=30)
    assert loss(points, found.centroids, metric) <= naive * 1.005


@pytest.mark.parametrize("metric", METRICS)
def test_objective_is_that_of_the_clustering_and_improves_with_restarts(metric: Metric) -> None:
    points = normalize(normal(300, 4, 5), "l2" if metric == "spherical" else "none")
    one, many = (fit_kmeans(points, 8, metric=metric, restarts=r) for r in (1, 20))
    value = loss(points, many.centroids, metric)
    if metric == "spherical":
        assert many.objective == pytest.approx(len(points) - value, rel=1e-3)
        assert many.objective >= one.objective
    else:
        assert many.objective == pytest.approx(value, rel=1e-2)
        assert many.objective <= one.objective


@pytest.mark.parametrize("metric", METRICS)
def test_same_seed_gives_same_bytes_and_another_seed_another_start(metric: Metric) -> None:
    points = normalize(normal(400, 6, 7), "l2")
    first, again, other = (
        fit_kmeans(points, 12, metric=metric, iterations=3, seed=seed) for seed in (4, 4, 5)
    )
    assert first.centroids.tobytes() == again.centroids.tobytes()
    assert first.sizes.tobytes() == again.sizes.tobytes()
    assert first.objective == again.objective
    assert first.centroids.tobytes() != other.centroids.tobytes()


def test_points_are_left_as_they_are() -> None:
    points = normal(50, 4, 0)
    before = points.copy()
    fit_kmeans(points, 3, metric="euclidean", restarts=2)
    np.testing.assert_array_equal(points, before)


def test_spherical_centroids_have_unit_length() -> None:
    centroids = fit_kmeans(normalize(normal(100, 6, 2), "l2"), 5).centroids
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_fewer_points_than_clusters(metric: Metric, n: int) -> None:
    points = np.eye(n, 6, dtype=np.float32)
    fitted = fit_kmeans(points, 5, metric=metric, restarts=3)
    assert fitted.centroids.shape == (5, 6)
    assert np.isfinite(fitted.centroids).all()
    assert sorted(fitted.sizes.tolist()) == [0] * (5 - n) + [1] * n
    assert loss(points, fitted.centroids, metric) < 1e-4


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_identical_points_make_one_cluster(metric: Metric, value: float) -> None:
    points = np.full((30, 4), value, np.float32)
    fitted = fit_kmeans(points, 3, metric=metric, restarts=2)
    assert np.isfinite(fitted.centroids).all()
    assert np.isfinite(fitted.objective)
    assert sorted(fitted.sizes.tolist()) == [0, 0, 30]


@pytest.mark.parametrize("metric", METRICS)
def test_clusters_that_become_empty_are_refilled(metric: Metric) -> None:
    """Nine in ten points are equal; the others still get clusters of their own."""
    points = np.concatenate([np.tile([[1, 0, 0]], (90, 1)), np.eye(3).repeat(5, axis=0)])
    fitted = fit_kmeans(points.astype(np.float32), 3, metric=metric, restarts=5)
    assert sorted(fitted.sizes.tolist()) == [5, 5, 95]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    points = np.ones((10, 3), np.float32)
    points[7, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        fit_kmeans(points, 2)


@pytest.mark.parametrize("shape", [(0, 3), (3,), (2, 2, 2)])
def test_points_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"non-empty \[n, dim\]"):
        fit_kmeans(np.ones(shape, np.float32), 2)


def test_half_precision_and_strided_points_are_accepted() -> None:
    wide = normalize(normal(60, 8, 9), "l2").astype(np.float16)
    fitted = fit_kmeans(wide[:, ::2], 3)  # type: ignore[arg-type]
    expected = fit_kmeans(wide[:, ::2].astype(np.float32), 3)
    assert fitted.centroids.tobytes() == expected.centroids.tobytes()


SMALL = st.floats(-4, 4, width=16)


@quick
@given(
    points=hnp.arrays(np.float32, (6, 3), elements=SMALL),
    centroids=hnp.arrays(np.float32, (4, 3), elements=SMALL),
)
def test_assign_finds_the_nearest_centroid(points: Points, centroids: Points) -> None:
    p, c = points.astype(np.float64), centroids.astype(np.float64)
    distance = np.square(p[:, None] - c[None]).sum(axis=2)
    chosen = assign(points, centroids, "euclidean")
    np.testing.assert_allclose(distance[range(6), chosen], distance.min(axis=1), atol=1e-4)

    unit = normalize(centroids, "l2")
    closeness = p @ unit.T.astype(np.float64)
    chosen = assign(points, unit, "spherical")
    np.testing.assert_allclose(closeness[range(6), chosen], closeness.max(axis=1), atol=1e-4)


def test_the_metric_decides_between_a_near_and_a_long_centroid() -> None:
    points = np.asarray([[1, 0.5]], np.float32)
    centroids = np.asarray([[1, 0], [20, 10]], np.float32)
    assert assign(points, centroids, "euclidean").tolist() == [0]
    assert assign(points, normalize(centroids, "l2"), "spherical").tolist() == [1]


@pytest.mark.parametrize("metric", METRICS)
def test_ties_go_to_the_lowest_index(metric: Metric) -> None:
    centroids = np.asarray([[0, 1], [1, 0], [1, 0]], np.float32)
    assert assign(np.asarray([[1, 0], [0.5, 0.5]]), centroids, metric).tolist() == [1, 0]


def test_normalize_gives_unit_rows_and_leaves_zero_rows() -> None:
    rows = np.asarray([[3, 4], [0, 0], [-300, 400]], np.float32)
    with np.errstate(all="raise"):
        unit = normalize(rows, "l2")
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0], [-0.6, 0.8]], atol=1e-6)
    assert unit.dtype == np.float32


def test_normalize_of_half_precision_does_not_overflow() -> None:
    rows = np.full((2, 400), 60_000, np.float16)
    np.testing.assert_allclose(normalize(rows, "l2"), 0.05, rtol=1e-3)


def test_no_normalisation_only_changes_the_type() -> None:
    rows = np.asarray([[3, 4], [0, 0]], np.float16)
    raw = normalize(rows, "none")
    np.testing.assert_array_equal(raw, rows)
    assert raw.dtype == np.float32


def test_every_seed_of_the_configuration_is_one_of_its_own():
    """faiss takes seeds of 31 bits; the configuration, of 32."""
    points = normal(400, 8, 0)
    seeds = (0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1)
    fits = [fit_kmeans(points, 9, restarts=1, iterations=2, seed=seed) for seed in seeds]
    assert len({fit.centroids.tobytes() for fit in fits}) == len(seeds)
