"""Classes of regions from their CLS tokens and keys."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import write_classes
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import normalize
from lightcluster.datasets.labels import Classes
from lightcluster.errors import DatasetError
from lightcluster.files import write_arrays
from lightcluster.regions.labelling import (
    Labelling,
    consensus_labels,
    describe_regions,
    fit_labelling,
    label_regions,
    principal_components,
    read_labelling,
    simplified_silhouette,
)
from lightcluster.regions.palette import hex_color, palette

LLOYD = {"restarts": 10, "iterations": 30}
METHODS = ["consensus", "kmeans"]
FOUR = Classes((0, 3, 7, 9), ("background", "cat", "dog", "sheep"))


def groups(sizes: list[int], dim: int = 24, noise: float = 0.05) -> NDArray[np.float32]:
    """CLS tokens of any length in groups of a direction each, one group after another."""
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    tokens = np.eye(dim)[truth] + 0.5 + noise * generator.normal(size=(len(truth), dim))
    return (tokens * generator.uniform(0.5, 20, (len(truth), 1))).astype(np.float32)


def assert_separated(classes: NDArray[np.int64], sizes: list[int]) -> None:
    parts = np.split(classes, np.cumsum(sizes)[:-1])
    assert all(len(set(part.tolist())) == 1 for part in parts)
    assert len({int(part[0]) for part in parts}) == len(sizes)


def fit(cls: NDArray[np.float32], classes: int, **changes: Any) -> Labelling:
    settings = {"method": "consensus", "pca": 0, "seed": 0, **LLOYD} | changes
    return fit_labelling({"cls": cls}, classes, **settings)


def classes_of(fitted: Labelling, cls: NDArray[np.float32]) -> NDArray[np.int64]:
    return fitted.classes_of({"cls": cls})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pca", [0, 2, 3, 16, 1000])
def test_planted_groups_are_separated_with_and_without_projection(method: str, pca: int) -> None:
    sizes = [30, 8, 15]
    tokens = groups(sizes)
    fitted = fit(tokens, 3, pca=pca, method=method)
    classes = classes_of(fitted, tokens)
    assert_separated(classes, sizes)
    assert sorted(set(classes.tolist())) == [1, 2, 3]
    kept = pca if 0 < pca < 24 else 24
    assert fitted.components.shape == (24, kept)
    assert fitted.centroids.shape == (3, kept)
    np.testing.assert_allclose(np.linalg.norm(fitted.centroids, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_new_regions_go_to_the_nearest_class_whatever_their_length(method: str) -> None:
    tokens = groups([30, 10])
    fitted = fit(tokens, 2, pca=1, method=method)
    new = np.eye(24, dtype=np.float32)[:2] + 0.5
    for length in (1e-3, 1e3):
        np.testing.assert_array_equal(
            classes_of(fitted, new * length), classes_of(fitted, tokens[[0, 30]])
        )


def test_features_stand_side_by_side_centred_and_of_unit_length() -> None:
    random = np.random.default_rng(0)
    cls, key = random.normal(3, 1, (2, 9, 4)).astype(np.float32) * [[[100]], [[0.01]]]
    centers = np.stack([normalize(feature, "l2").mean(axis=0) for feature in (cls, key)])
    described = describe_regions([cls, key], centers)
    for feature, part in ((cls, described[:, :4]), (key, described[:, 4:])):
        unit = feature / np.linalg.norm(feature, axis=1, keepdims=True)
        centred = unit - unit.mean(axis=0)
        expected = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        np.testing.assert_allclose(part, expected, atol=1e-4)


def test_the_principal_components_are_the_directions_of_largest_variance() -> None:
    random = np.random.default_rng(1)
    spread = np.asarray([0.02, 1, 0.05, 0.5, 0.01])
    points = (random.normal(size=(400, 5)) * spread + 100).astype(np.float32)
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    overlap = np.abs(right[:2] @ principal_components(points, 2))
    np.testing.assert_allclose(overlap, np.eye(2), atol=1e-2)
    for pca in (0, 5, 6, 1000):
        np.testing.assert_array_equal(principal_components(points, pca), np.eye(5))


def test_either_feature_can_tell_the_classes_apart() -> None:
    sizes = [12, 12, 12, 12]
    told = groups(sizes)  # four directions; each feature sees two pairs of them as one
    cls, key = told.copy(), told.copy()
    cls[12:24] = groups([12, 12])[:12]
    key[36:] = groups([1, 1, 24])[2:14]
    fitted = fit_labelling({"cls": cls, "key": key}, 4, method="consensus", pca=8, seed=0, **LLOYD)
    assert fitted.features == ("cls", "key")
    assert_separated(fitted.classes_of({"key": key, "cls": cls}), sizes)
    with pytest.raises(AssertionError):
        assert_separated(classes_of(fit(cls, 4, pca=8), cls), sizes)


def test_a_consensus_is_average_linkage_on_how_often_points_are_together() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [9, 4, 2])
    runs = np.stack(
        [np.where(random.random(15) < 0.15, random.integers(0, 3, 15), truth) for _ in range(25)],
        axis=1,
    )
    apart = (runs[:, None] != runs[None]).mean(axis=2)
    clusters = [[point] for point in range(15)]
    while len(clusters) > 3:  # the slow way: merge the two clusters that are nearest on average
        pairs = [(i, j) for i in range(len(clusters)) for j in range(i)]
        i, j = min(pairs, key=lambda ij: apart[np.ix_(clusters[ij[0]], clusters[ij[1]])].mean())
        clusters[j] += clusters.pop(i)
    found = consensus_labels(runs, 3)
    assert sorted(sorted(np.flatnonzero(found == label).tolist()) for label in range(3)) == sorted(
        sorted(cluster) for cluster in clusters
    )


@pytest.mark.parametrize(("points", "classes"), [(1, 1), (1, 5), (2, 5), (7, 3), (7, 7), (7, 20)])
def test_a_consensus_has_as_many_clusters_as_wanted_or_points(points: int, classes: int) -> None:
    for runs in (np.zeros((points, 4), int), np.arange(points)[:, None].repeat(4, axis=1)):
        found = consensus_labels(runs, classes)
        assert sorted(set(found.tolist())) == list(range(min(points, classes)))


def test_a_consensus_is_right_where_every_single_start_is_wrong() -> None:
    sizes = [20, 4, 12, 4, 16, 8, 4, 10]
    tokens = groups(sizes, noise=0.2)
    for start in range(10):
        single = fit(tokens, 8, method="kmeans", restarts=1, seed=start)
        with pytest.raises(AssertionError):
            assert_separated(classes_of(single, tokens), sizes)
    for seed in range(3):
        assert_separated(classes_of(fit(tokens, 8, restarts=30, seed=seed), tokens), sizes)


@pytest.mark.parametrize("method", METHODS)
def test_labelling_is_decided_by_the_seed(method: str) -> None:
    tokens = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    first, again, other = (
        fit(
            tokens, 6, pca=4, restarts=2, iterations=3, seed=seed, method=method
        ).centroids.tobytes()
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pca", [0, 16])
@pytest.mark.parametrize("regions", [1, 2, 3])
def test_fewer_regions_than_classes(regions: int, pca: int, method: str) -> None:
    tokens = groups([1] * regions)
    fitted = fit(tokens, 5, pca=pca, method=method)
    classes = classes_of(fitted, tokens)
    assert np.isfinite(fitted.centroids).all()
    assert fitted.centroids.shape[0] == 5
    assert len(set(classes.tolist())) == regions
    assert ((classes >= 1) & (classes <= 5)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pca", [0, 2])
def test_regions_that_are_all_alike_share_a_class(pca: int, method: str) -> None:
    tokens = np.random.default_rng(0).random(4, np.float32)[None].repeat(10, axis=0)
    fitted = fit(tokens, 3, pca=pca, method=method)
    assert np.isfinite(fitted.centroids).all()
    assert len(set(classes_of(fitted, tokens).tolist())) == 1


def test_no_regions_to_label_have_no_classes() -> None:
    assert classes_of(fit(groups([5, 5]), 2), np.empty((0, 24), np.float32)).shape == (0,)


def write_regions(folder: Path, shards: list[NDArray[np.float32]]) -> list[Path]:
    paths = [folder / f"{shard:04d}.npz" for shard in range(len(shards))]
    for path, cls in zip(paths, shards, strict=True):
        write_arrays(path, cls=cls, key=cls[:, ::-1])
    return paths


def label(folder: Path, shards: list[NDArray[np.float32]], **changes: Any) -> list[dict[str, str]]:
    """Label regions, with the classes of `FOUR`, and return the rows of the palette."""
    settings = {
        "classes": "auto", "background": 0, "features": ["cls", "key"], "method": "consensus",
        "pca": 0, "sample_regions": 1000, "seed": 0, **LLOYD,
    }  # fmt: skip
    classes_file = write_classes(
        folder / "classes.csv", dict(zip(FOUR.ids, FOUR.names, strict=True))
    )
    label_regions(
        write_regions(folder, shards), classes_file, folder / "labelling.npz",
        folder / "palette.csv", **settings | changes,
    )  # fmt: skip
    with (folder / "palette.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_classes_are_fitted_on_all_shards_and_listed_with_their_colours(tmp_path: Path) -> None:
    tokens = groups([10, 6, 3])
    empty = np.empty((0, 24), np.float32)
    rows = label(tmp_path, [tokens[::2], empty, tokens[1::2]])
    labelling = read_labelling(tmp_path / "labelling.npz")
    assert labelling.features == ("cls", "key")
    classes = labelling.classes_of({"cls": tokens, "key": tokens[:, ::-1]})
    assert_separated(classes, [10, 6, 3])
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["name"] for row in rows] == ["background", "cluster 1", "cluster 2", "cluster 3"]
    assert [row["color"] for row in rows] == [hex_color(color) for color in palette()[:4]]
    assert rows[0]["regions"] == ""
    assert [int(row["regions"]) for row in rows[1:]] == np.bincount(classes)[1:].tolist()


def test_without_a_background_class_all_classes_are_objects(tmp_path: Path) -> None:
    assert len(label(tmp_path, [groups([5, 5])], background=None)) == 1 + 4


def test_a_number_of_classes_can_be_set(tmp_path: Path) -> None:
    assert len(label(tmp_path, [groups([5, 5])], classes=300)) == 1 + 300


def test_the_number_of_classes_is_chosen_from_the_regions(tmp_path: Path) -> None:
    """Six groups, four classes known: what is chosen does not depend on the seed."""
    shards = [groups([9, 8, 7, 6, 9, 8], noise=0.02)[part::2] for part in range(2)]
    for seed in range(3):
        assert len(label(tmp_path, shards, classes="silhouette", seed=seed)) == 1 + 6
        few = label(tmp_path, shards, classes="silhouette", seed=seed, sample_regions=30)
        assert len(few) == len(label(tmp_path, shards, classes="silhouette", sample_regions=30))


def test_regions_are_sampled_evenly_over_shards(tmp_path: Path) -> None:
    shards = [groups([5, 5, 5])] * 4
    rows = label(tmp_path, shards, sample_regions=18)
    assert sum(int(row["regions"]) for row in rows[1:]) == 18


@pytest.mark.parametrize("shards", [1, 3])
def test_no_region_at_all_is_an_error(tmp_path: Path, shards: int) -> None:
    with pytest.raises(DatasetError, match="no image has a foreground region"):
        label(tmp_path, [np.empty((0, 24), np.float32)] * shards)
    assert not (tmp_path / "labelling.npz").exists()
    assert not (tmp_path / "palette.csv").exists()


def test_too_few_regions_are_said_so_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        rows = label(tmp_path, [groups([1, 1])])
    assert caplog.messages == ["only 2 regions for 3 classes: some stay empty"]
    assert sorted(row["regions"] for row in rows[1:]) == ["0", "1", "1"]


def test_the_confidence_compares_the_two_nearest_centroids() -> None:
    centroids = np.eye(3, dtype=np.float32)
    half_way, nearer = normalize(np.array([[1, 1, 0], [2, 1, 0]], np.float32), "l2")
    points = np.stack([centroids[0], half_way, nearer])
    own, other = 1 - 2 / np.sqrt(5), 1 - 1 / np.sqrt(5)
    expected = [1, 0, (other - own) / other]
    np.testing.assert_allclose(simplified_silhouette(points, centroids), expected, atol=1e-6)
    twice = np.concatenate([centroids, centroids])
    np.testing.assert_allclose(simplified_silhouette(points, twice), expected, atol=1e-6)
    assert simplified_silhouette(points, centroids[:1]).tolist() == [1, 1, 1]
    assert simplified_silhouette(points[:0], centroids).shape == (0,)


def test_the_confidence_is_a_share_and_that_of_the_class_that_is_given() -> None:
    fitted = fit(groups([30, 8, 15], noise=0.5), 3)
    regions = {"cls": groups([20, 20, 20], noise=1.0)}
    _, confidence = fitted.label(regions)
    assert confidence.dtype == np.float32
    assert ((confidence >= 0) & (confidence <= 1)).all()
    distance = np.sort(1 - fitted.project(regions) @ fitted.centroids.T, axis=1)
    slow = [(b - a) / max(a, b) for a, b in distance[:, :2]]
    np.testing.assert_allclose(confidence, slow, atol=1e-5)
