"""The number of classes: known, or by the silhouette, against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import normalize
from lightcluster.datasets.labels import Classes
from lightcluster.regions.number import choose_number, number_of_classes, silhouette

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


def slow_silhouette(points: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    widths = []
    for i, own in enumerate(labels):
        distance = [1 - float(points[i] @ point) for point in points]
        if (labels == own).sum() == 1:
            widths.append(0.0)
            continue
        within = np.mean([d for j, d in enumerate(distance) if labels[j] == own and j != i])
        others = [
            np.mean([d for j, d in enumerate(distance) if labels[j] == other])
            for other in set(labels.tolist()) - {own}
        ]
        widths.append((min(others) - within) / max(within, min(others)))
    return float(np.mean(widths))


@pytest.mark.parametrize("clusters", [2, 5, 11])
def test_the_silhouette_is_that_of_its_definition(clusters: int) -> None:
    generator = np.random.default_rng(clusters)
    points = normalize(generator.normal(size=(40, 6)), "l2")
    labels = generator.integers(0, clusters, 40)
    labels[0], labels[labels == clusters - 1] = 0, 0
    labels[1] = clusters - 1  # a point alone
    assert silhouette(points, labels) == pytest.approx(slow_silhouette(points, labels), abs=1e-5)


def test_points_in_tight_groups_have_a_silhouette_of_one() -> None:
    points = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    labels = np.repeat(np.arange(4), 3)
    assert silhouette(points, labels) == pytest.approx(1)
    assert silhouette(points, labels[::-1].copy() // 2 * 2) < 1  # a label that no point has


@pytest.mark.parametrize("groups", [2, 3, 7])
def test_the_number_of_clear_groups_is_found(groups: int) -> None:
    generator = np.random.default_rng(groups)
    centres = np.repeat(np.eye(groups, 12), 9, axis=0)
    points = normalize(centres + 0.1 * generator.normal(size=centres.shape), "l2")
    assert choose_number(points, iterations=20) == groups


def test_of_few_points_nothing_is_chosen() -> None:
    assert choose_number(np.eye(3, dtype=np.float32), iterations=5) == 1
    assert choose_number(np.eye(4, dtype=np.float32), iterations=5) == 2
