"""The protocols: their frames, and their scores against trying all matchings, pixel by pixel."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from builders import quick
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from lightcluster.datasets.labels import IGNORED
from lightcluster.evaluation.confusion import count_confusion
from lightcluster.evaluation.per_image import score_image
from lightcluster.evaluation.protocols import PROTOCOLS, FrameName, frame_of, frames_of, to_frame
from lightcluster.evaluation.scores import ClassScores, score_classes
from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

ensure_torchvision_operators()
from torchvision.transforms import CenterCrop, InterpolationMode, Resize  # noqa: E402

# ---- frames --------------------------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, 700), st.integers(1, 700)).filter(
    lambda size: max(size) <= 6 * min(size)
)


@quick
@given(SIZES, st.sampled_from([np.uint8, np.uint16, np.int32]), st.integers(0, 9))
def test_the_centre_is_that_of_torchvision(size: tuple[int, int], dtype: Any, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 200, size, np.uint8)
    image = Resize(320, InterpolationMode.NEAREST)(Image.fromarray(labels))
    expected = np.asarray(CenterCrop(320)(image))
    found = to_frame(labels.astype(dtype), "centre")
    assert found.shape == (320, 320)
    np.testing.assert_array_equal(found, expected)


@quick
@given(SIZES, st.sampled_from(["centre", "squashed"]))
def test_all_maps_of_an_image_are_sampled_at_the_same_places(
    size: tuple[int, int], frame: FrameName
) -> None:
    labels = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    of_bytes, of_words, of_regions = (
        to_frame(labels.astype(dtype), frame) for dtype in (np.uint8, np.uint16, np.int32)
    )
    np.testing.assert_array_equal(of_words, of_bytes)
    np.testing.assert_array_equal(of_regions, of_bytes)


@pytest.mark.parametrize("size", [(1, 1), (320, 320), (100, 640), (641, 333)])
def test_squashing_keeps_all_sides_and_the_original_keeps_all(size: tuple[int, int]) -> None:
    labels = np.arange(size[0] * size[1]).reshape(size).astype(np.int32)
    squashed = to_frame(labels, "squashed")
    assert squashed.shape == (320, 320)
    for y, x in ((0, 0), (319, 0), (17, 201), (319, 319)):
        at = (int((y + 0.5) * size[0] / 320), int((x + 0.5) * size[1] / 320))
        assert squashed[y, x] == labels[at]
    assert to_frame(labels, "original") is labels


def test_the_value_of_ignored_pixels_survives() -> None:
    labels = np.full((50, 90), IGNORED, np.uint16)
    frames: tuple[FrameName, ...] = ("original", "centre", "squashed")
    for frame in frames:
        assert (to_frame(labels, frame) == IGNORED).all()


def test_protocols_share_frames() -> None:
    assert frame_of("maskcontrast", True) == frame_of("coco_things", True) == "original"
    assert frame_of("per_image", False) == "original"
    assert frames_of(["coco_things", "stego", "maskcontrast"], True) == ["original", "squashed"]
    assert frames_of(["stego"], False) == ["centre"]


# ---- scores, by brute force ----------------------------------------------------------------------

Pixels = list[tuple[int, int]]
"""Cluster and class of each counted pixel."""


def pair_iou(pixels: Pixels, cluster: int, true: int) -> float:
    both = sum(1 for c, t in pixels if (c, t) == (cluster, true))
    either = sum(1 for c, t in pixels if c == cluster or t == true)
    return both / either if either else 0.0


def vote(pixels: Pixels, cluster: int, n_classes: int) -> int:
    votes = [sum(1 for p in pixels if p == (cluster, true)) for true in range(n_classes)]
    return votes.index(max(votes)) if any(votes) else -1


def vote_by_iou(pixels: Pixels, cluster: int, n_classes: int) -> int:
    votes = [pair_iou(pixels, cluster, true) for true in range(n_classes)]
    return votes.index(max(votes)) if any(votes) else -1


def scores_of(pixels: Pixels, classes: list[int], n_classes: int, absent: str) -> tuple[float, Any]:
    """The mean IoU and the accuracy of clusters that have these classes."""
    ious = []
    for true in range(n_classes):
        predicted = {i for i, (c, _) in enumerate(pixels) if classes[c] == true}
        actual = {i for i, (_, t) in enumerate(pixels) if t == true}
        if predicted | actual:
            ious.append(len(predicted & actual) / len(predicted | actual))
        elif absent == "zero":
            ious.append(0.0)
    right = sum(1 for c, t in pixels if classes[c] == t)
    return sum(ious) / len(ious), right / len(pixels)


def one_to_one(n_clusters: int, n_classes: int) -> list[list[int]]:
    """Every one-to-one matching of as many as can be matched; -1 is none."""
    if n_clusters <= n_classes:
        return [list(chosen) for chosen in permutations(range(n_classes), n_clusters)]
    return [
        [chosen.index(c) if c in chosen else -1 for c in range(n_clusters)]
        for chosen in permutations(range(n_clusters), n_classes)
    ]


@st.composite
def segmentations(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any], int, int]:
    """Draw predictions, truths with ignored pixels, and the numbers of clusters and classes."""
    n_clusters, n_classes = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    size = draw(st.integers(1, 40))
    predicted = draw(hnp.arrays(np.uint8, size, elements=st.integers(0, n_clusters - 1)))
    ids = st.one_of(st.integers(0, n_classes - 1), st.just(255))
    return predicted, draw(hnp.arrays(np.uint8, size, elements=ids)), n_clusters, n_classes


def pixels_of(predicted: NDArray[Any], truth: NDArray[Any]) -> Pixels:
    return [(int(c), int(t)) for c, t in zip(predicted, truth, strict=True) if t != 255]


def score(case: tuple[NDArray[Any], NDArray[Any], int, int], protocol: str) -> ClassScores:
    predicted, truth, n_clusters, n_classes = case
    counts = count_confusion(predicted, truth, n_clusters, n_classes).counts
    own = PROTOCOLS[protocol]
    names = [str(number) for number in range(n_classes)]
    return score_classes(counts, names, own.matchings[0], own.absent)


@quick
@given(segmentations(), st.sampled_from(["maskcontrast", "coco_things"]))
def test_iou_protocols(case: tuple[NDArray[Any], NDArray[Any], int, int], protocol: str) -> None:
    predicted, truth, n_clusters, n_classes = case
    pixels, result = pixels_of(predicted, truth), score(case, protocol)
    if not pixels:
        assert np.isnan([result.mean_iou, result.pixel_accuracy]).all()
        return
    classes = result.matching.cluster_to_class.tolist()
    if n_clusters == n_classes:
        gains = [
            sum(pair_iou(pixels, c, true) for c, true in enumerate(matched))
            for matched in one_to_one(n_clusters, n_classes)
        ]
        gain = sum(pair_iou(pixels, c, true) for c, true in enumerate(classes))
        assert gain == pytest.approx(max(gains))
        assert result.mean_iou == pytest.approx(max(gains) / n_classes)
        assert result.matching.fallback is None
    else:
        assert classes == [vote_by_iou(pixels, c, n_classes) for c in range(n_clusters)]
        assert result.matching.fallback == "majority vote by IoU"
    expected = scores_of(pixels, classes, n_classes, "zero")
    assert (result.mean_iou, result.pixel_accuracy) == pytest.approx(expected)


@quick
@given(segmentations())
def test_stego(case: tuple[NDArray[Any], NDArray[Any], int, int]) -> None:
    predicted, truth, n_clusters, n_classes = case
    pixels, result = pixels_of(predicted, truth), score(case, "stego")
    if not pixels:
        assert np.isnan([result.mean_iou, result.pixel_accuracy]).all()
        return

    def matched_pixels(matched: list[int]) -> int:
        return sum(1 for c, t in pixels if matched[c] == t)

    best = max(map(matched_pixels, one_to_one(n_clusters, n_classes)))
    classes = result.matching.cluster_to_class.tolist()
    if n_clusters <= n_classes:
        assert matched_pixels(classes) == best
        assert len(set(classes)) == n_clusters
        assert result.matching.fallback is None
    else:  # some best matching, and the others to the class of most of their pixels
        votes = [vote(pixels, c, n_classes) for c in range(n_clusters)]
        assert any(
            matched_pixels(matched) == best
            and classes == [v if m == -1 else m for m, v in zip(matched, votes, strict=True)]
            for matched in one_to_one(n_clusters, n_classes)
        )
        assert result.matching.fallback == "extra clusters by majority of pixels"
    expected = scores_of(pixels, classes, n_classes, "skip")
    assert (result.mean_iou, result.pixel_accuracy) == pytest.approx(expected)


@quick
@given(segmentations())
def test_per_image(case: tuple[NDArray[Any], NDArray[Any], int, int]) -> None:
    predicted, truth, n_clusters, n_classes = case
    pixels = pixels_of(predicted, truth)
    result = score_image(count_confusion(predicted, truth, n_clusters, n_classes).counts)
    clusters = sorted({c for c, _ in pixels})
    present = sorted({t for _, t in pixels})
    assert (result.clusters, result.classes) == (len(clusters), len(present))
    if not pixels:
        assert np.isnan(result.mean_iou)
        return
    best = max(
        sum(pair_iou(pixels, clusters[c], present[t]) for c, t in enumerate(matched) if t >= 0)
        for matched in one_to_one(len(clusters), len(present))
    )
    assert result.mean_iou == pytest.approx(best / len(present))


# ---- scores, by hand -----------------------------------------------------------------------------


def by_protocol(counts: list[list[int]]) -> dict[str, ClassScores]:
    table = np.asarray(counts, np.int64)
    names = [str(number) for number in range(table.shape[1])]
    return {
        name: score_classes(table, names, protocol.matchings[0], protocol.absent)
        for name, protocol in PROTOCOLS.items()
    }


def test_an_absent_class_that_is_predicted_counts_zero_everywhere() -> None:
    """Class 2 is nowhere true; cluster 2 has 5 pixels of class 1, and no other class is free."""
    scores = by_protocol([[10, 0, 0], [0, 5, 0], [0, 5, 0]])
    assert {one.mean_iou for one in scores.values()} == {(1 + 0.5 + 0) / 3}
    assert {one.pixel_accuracy for one in scores.values()} == {15 / 20}


def test_a_class_that_is_nowhere_counts_zero_or_is_left_out() -> None:
    scores = by_protocol([[10, 0, 0], [5, 5, 0], [0, 0, 0]])
    assert scores["maskcontrast"].mean_iou == pytest.approx((10 / 15 + 5 / 10) / 3)
    assert scores["coco_things"].mean_iou == scores["maskcontrast"].mean_iou
    assert scores["stego"].mean_iou == pytest.approx((10 / 15 + 5 / 10) / 2)


def test_ties_score_the_same_whichever_is_taken() -> None:
    """Both matchings have 10 right pixels of 20, and IoUs of 1/3."""
    scores = by_protocol([[5, 5], [5, 5]])
    for one in scores.values():
        assert one.mean_iou == pytest.approx(1 / 3)
        assert one.pixel_accuracy == 0.5
        assert sorted(one.matching.cluster_to_class) == [0, 1]


def test_extra_clusters() -> None:
    """Cluster 2 has 3 pixels of class 0 and 1 of class 1, its IoUs are 3/10 and 1/8."""
    scores = by_protocol([[6, 0], [0, 4], [3, 1]])
    for name in ("maskcontrast", "stego"):
        assert scores[name].matching.cluster_to_class.tolist() == [0, 1, 0]
        assert scores[name].mean_iou == pytest.approx((9 / 10 + 4 / 5) / 2)
    assert scores["maskcontrast"].matching.fallback == "majority vote by IoU"
    assert scores["stego"].matching.fallback == "extra clusters by majority of pixels"
    image = score_image(np.asarray([[6, 0], [0, 4], [3, 1]]))
    assert image.mean_iou == pytest.approx((6 / 9 + 4 / 5) / 2)


def test_fewer_clusters() -> None:
    """A class without a cluster has IoU 0. Cluster 1 has IoUs of 4/12 and 2/6: a tie."""
    counts = [[6, 0, 0], [4, 0, 2]]
    scores = by_protocol(counts)
    assert scores["maskcontrast"].matching.cluster_to_class.tolist() == [0, 0]
    assert scores["maskcontrast"].mean_iou == pytest.approx(10 / 12 / 3)
    assert scores["stego"].matching.cluster_to_class.tolist() == [0, 2]
    assert scores["stego"].mean_iou == pytest.approx((6 / 10 + 2 / 6) / 2)
    assert score_image(np.asarray(counts)).mean_iou == pytest.approx((6 / 10 + 2 / 6) / 2)
    assert score_image(np.asarray([[6, 2]])).mean_iou == pytest.approx(6 / 8 / 2)


def test_everything_ignored_has_no_score() -> None:
    with np.errstate(all="raise"):
        scores = by_protocol([[0, 0], [0, 0]])
        image = score_image(np.zeros((2, 2), np.int64))
    for one in scores.values():
        assert np.isnan([one.mean_iou, one.pixel_accuracy, *one.iou]).all()
    assert np.isnan(image.mean_iou)
    assert (image.classes, image.clusters) == (0, 0)
