"""Classes of regions from their CLS tokens."""

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
    fit_labelling,
    label_regions,
    number_of_classes,
    read_labelling,
)

LLOYD = {"restarts": 10, "iterations": 30}
FOUR = Classes((0, 3, 7, 9), ("background", "cat", "dog", "sheep"))


@pytest.mark.parametrize(
    ("setting", "classes", "background", "expected"),
    [
        ("auto", FOUR, 0, 3),
        ("auto", FOUR, 7, 3),
        ("auto", FOUR, None, 4),
        ("auto", FOUR, 5, 4),
        ("auto", None, 0, 10),
        ("auto", Classes((0,), ("background",)), 0, 1),
        (27, FOUR, 0, 27),
        (5, None, None, 5),
    ],
)
def test_number_of_classes(
    setting: Any, classes: Classes | None, background: int | None, expected: int
) -> None:
    assert number_of_classes(setting, classes, background) == expected


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


@pytest.mark.parametrize("pca", [0, 2, 3, 16, 1000])
def test_planted_groups_are_separated_with_and_without_projection(pca: int) -> None:
    sizes = [30, 8, 15]
    tokens = groups(sizes)
    fitted = fit_labelling(lambda: [tokens], 3, pca=pca, seed=0, **LLOYD)
    classes = fitted.classes_of(tokens)
    assert_separated(classes, sizes)
    assert sorted(set(classes.tolist())) == [1, 2, 3]
    kept = pca if 0 < pca < 24 else 24
    assert fitted.components.shape == (24, kept)
    assert fitted.centroids.shape == (3, kept)


def test_new_regions_go_to_the_nearest_class_whatever_their_length() -> None:
    tokens = groups([30, 10])
    fitted = fit_labelling(lambda: [tokens], 2, pca=1, seed=0, **LLOYD)
    new = np.eye(24, dtype=np.float32)[:2] + 0.5
    for length in (1e-3, 1e3):
        np.testing.assert_array_equal(
            fitted.classes_of(new * length), fitted.classes_of(tokens[[0, 30]])
        )


def test_without_a_projection_tokens_are_only_scaled() -> None:
    fitted = fit_labelling(lambda: [groups([30, 10])], 2, pca=0, seed=0, **LLOYD)
    np.testing.assert_array_equal(fitted.mean, np.zeros(24))
    np.testing.assert_array_equal(fitted.components, np.eye(24))


def test_the_projection_keeps_the_directions_of_largest_variance() -> None:
    generator = np.random.default_rng(1)
    spread = np.asarray([0.02, 1, 0.05, 0.5, 0.01])
    tokens = normalize(100 * np.ones(5) + generator.normal(size=(400, 5)) * 20 * spread, "l2")
    fitted = fit_labelling(lambda: [tokens], 2, pca=2, seed=0, **LLOYD)
    centred = tokens - tokens.mean(axis=0)
    _, _, right = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(fitted.mean, tokens.mean(axis=0), atol=1e-6)
    overlap = np.abs(right[:2] @ fitted.components)
    np.testing.assert_allclose(overlap, np.eye(2), atol=1e-2)


def test_labelling_is_decided_by_the_seed() -> None:
    tokens = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    first, again, other = (
        fit_labelling(
            lambda: [tokens], 6, pca=4, restarts=1, iterations=3, seed=seed
        ).centroids.tobytes()
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("pca", [0, 16])
@pytest.mark.parametrize("regions", [1, 2, 3])
def test_fewer_regions_than_classes(regions: int, pca: int) -> None:
    tokens = groups([1] * regions)
    fitted = fit_labelling(lambda: [tokens], 5, pca=pca, seed=0, **LLOYD)
    classes = fitted.classes_of(tokens)
    assert np.isfinite(fitted.centroids).all()
    assert len(set(classes.tolist())) == regions
    assert ((classes >= 1) & (classes <= 5)).all()


@pytest.mark.parametrize("pca", [0, 2])
def test_regions_that_are_all_alike_share_a_class(pca: int) -> None:
    tokens = np.ones((10, 4), np.float32)
    fitted = fit_labelling(lambda: [tokens], 3, pca=pca, seed=0, **LLOYD)
    assert np.isfinite(fitted.centroids).all()
    assert len(set(fitted.classes_of(tokens).tolist())) == 1


def test_no_regions_to_label_have_no_classes() -> None:
    fitted = fit_labelling(lambda: [groups([5, 5])], 2, pca=0, seed=0, **LLOYD)
    assert fitted.classes_of(np.empty((0, 24), np.float32)).shape == (0,)


def write_regions(folder: Path, shards: list[NDArray[np.float32]]) -> list[Path]:
    paths = [folder / f"{shard:04d}.npz" for shard in range(len(shards))]
    for path, cls in zip(paths, shards, strict=True):
        write_arrays(path, cls=cls)
    return paths


def label(folder: Path, shards: list[NDArray[np.float32]], **changes: Any) -> list[dict[str, str]]:
    """Label regions, with the classes of `FOUR`, and return the rows of the palette."""
    settings = {
        "classes": "auto", "background": 0, "pca": 0, "sample_regions": 1000, "seed": 0, **LLOYD,
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
    classes = labelling.classes_of(tokens)
    assert_separated(classes, [10, 6, 3])
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["name"] for row in rows] == ["background", "cluster 1", "cluster 2", "cluster 3"]
    assert [row["color"] for row in rows] == ["#000000", "#800000", "#008000", "#808000"]
    assert rows[0]["regions"] == ""
    assert [int(row["regions"]) for row in rows[1:]] == np.bincount(classes)[1:].tolist()


def test_without_a_background_class_all_classes_are_objects(tmp_path: Path) -> None:
    assert len(label(tmp_path, [groups([5, 5])], background=None)) == 1 + 4


def test_a_number_of_classes_can_be_set(tmp_path: Path) -> None:
    assert len(label(tmp_path, [groups([5, 5])], classes=300)) == 1 + 300


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
