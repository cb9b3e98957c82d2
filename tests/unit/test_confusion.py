"""Counts of cluster against class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightcluster.errors import ImageError, StoreError
from lightcluster.evaluation import confusion
from lightcluster.evaluation.confusion import (
    Confusion,
    count_confusion,
    iou_matrix,
    require_counts,
)

Labels = npt.NDArray[np.uint8]


def labels(*values: int) -> Labels:
    return np.array(values, dtype=np.uint8)


@st.composite
def label_pairs(draw: st.DrawFn) -> tuple[Labels, Labels, int, int]:
    """Draw a prediction, a truth with ignored pixels, n_clusters and n_classes."""
    n_clusters, n_classes = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=12))
    prediction = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, n_clusters - 1)))
    truth_ids = st.one_of(st.integers(0, n_classes - 1), st.just(255))
    return prediction, draw(hnp.arrays(np.uint8, shape, elements=truth_ids)), n_clusters, n_classes


def test_hand_worked_counts() -> None:
    prediction = labels(0, 0, 1, 2, 2, 2).reshape(2, 3)
    truth = labels(0, 1, 1, 1, 1, 255).reshape(2, 3)
    result = count_confusion(prediction, truth, n_clusters=4, n_classes=2)
    assert result.counts.tolist() == [[1, 1], [0, 1], [0, 2], [0, 0]]
    assert result.counts.dtype == np.int64
    assert result.ignored == 1


@given(label_pairs())
def test_counts_equal_direct_counting(case: tuple[Labels, Labels, int, int]) -> None:
    prediction, truth, n_clusters, n_classes = case
    result = count_confusion(prediction, truth, n_clusters, n_classes)
    for cluster in range(n_clusters):
        for true in range(n_classes):
            together = (prediction == cluster) & (truth == true)
            assert result.counts[cluster, true] == together.sum()
    assert result.ignored == (truth == 255).sum()
    assert result.counts.sum() + result.ignored == truth.size


@given(label_pairs(), st.data())
def test_counts_add_up_over_any_split(
    case: tuple[Labels, Labels, int, int], data: st.DataObject
) -> None:
    prediction, truth, n_clusters, n_classes = case
    first = data.draw(hnp.arrays(np.bool_, truth.shape))
    whole = count_confusion(prediction, truth, n_clusters, n_classes)
    parts = [
        count_confusion(prediction[part], truth[part], n_clusters, n_classes)
        for part in (first, ~first)
    ]
    total = parts[0] + parts[1]
    assert np.array_equal(total.counts, whole.counts)
    assert total.ignored == whole.ignored


@pytest.mark.parametrize("size", [1, 6, 7, 8, 14, 15, 50])
def test_chunks_change_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(size)
    prediction, truth = rng.integers(0, 3, size), rng.integers(0, 4, size)
    whole = count_confusion(prediction, truth, 3, 3, ignore=3)
    monkeypatch.setattr(confusion, "CHUNK_PIXELS", 7)
    chunked = count_confusion(prediction, truth, 3, 3, ignore=3)
    assert np.array_equal(whole.counts, chunked.counts)
    assert whole.ignored == chunked.ignored == (truth == 3).sum()


def test_a_wrong_id_is_found_in_the_last_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion, "CHUNK_PIXELS", 2)
    with pytest.raises(ImageError, match="class id 7"):
        count_confusion(labels(0, 0, 0, 0, 0), labels(0, 0, 0, 0, 7), 1, 1)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_every_integer_type_and_memory_order(dtype: npt.DTypeLike) -> None:
    prediction = np.array([[0, 100], [100, 1]], dtype=dtype)
    truth = np.array([[0, 0], [120, 1]], dtype=dtype)
    result = count_confusion(prediction.T, truth.T, 101, 121)
    assert result.counts.sum() == 4
    assert result.counts[0, 0] == result.counts[100, 0] == result.counts[100, 120] == 1
    assert result.counts[1, 1] == 1


def test_more_cells_than_the_label_type_can_hold() -> None:
    result = count_confusion(labels(254), labels(170), n_clusters=255, n_classes=171)
    assert result.counts[254, 170] == 1


def test_a_negative_ignore_value() -> None:
    result = count_confusion(np.array([0, 1]), np.array([-1, 0]), 2, 1, ignore=-1)
    assert result.counts.tolist() == [[0], [1]]
    assert result.ignored == 1


def test_everything_ignored() -> None:
    result = count_confusion(labels(0, 1), labels(255, 255), 2, 3)
    assert result.counts.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert result.ignored == 2


def test_no_pixels() -> None:
    empty = np.zeros((0, 5), dtype=np.uint8)
    result = count_confusion(empty, empty, 2, 2)
    assert result.counts.tolist() == [[0, 0], [0, 0]]
    assert result.ignored == 0


def test_inputs_are_left_as_they_were() -> None:
    prediction, truth = labels(0, 1, 1), labels(0, 255, 1)
    count_confusion(prediction, truth, 2, 2)
    assert prediction.tolist() == [0, 1, 1]
    assert truth.tolist() == [0, 255, 1]


def test_different_shapes_are_named() -> None:
    with pytest.raises(ImageError, match=r"\(2, 3\).*\(3, 2\)"):
        count_confusion(np.zeros((2, 3), int), np.zeros((3, 2), int), 1, 1)


@pytest.mark.parametrize("stray", [-2, 3, 254])
def test_a_truth_id_outside_the_classes_is_named(stray: int) -> None:
    with pytest.raises(ImageError, match=rf"class id {stray}; allowed are 0\.\.2 and 255"):
        count_confusion(np.array([0, 0]), np.array([1, stray]), 1, 3)


@pytest.mark.parametrize("stray", [-1, 3, 255])
def test_a_prediction_outside_the_clusters_is_named(stray: int) -> None:
    with pytest.raises(StoreError, match=rf"cluster id {stray}; allowed are 0\.\.2"):
        count_confusion(np.array([0, stray]), np.array([0, 255]), 3, 1)


def test_misuse_is_a_value_error() -> None:
    ints = labels(0)
    with pytest.raises(ValueError, match="prediction has dtype float64"):
        count_confusion(np.zeros(1), ints, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="truth has dtype bool"):
        count_confusion(ints, np.zeros(1, bool), 1, 1)
    with pytest.raises(ValueError, match="ignore value 1 is one of the classes"):
        count_confusion(ints, ints, 1, 2, ignore=1)
    with pytest.raises(ValueError, match="0 clusters"):
        count_confusion(ints, ints, 0, 2)
    with pytest.raises(ValueError, match=r"\(2, 1\) and \(1, 1\)"):
        count_confusion(ints, ints, 2, 1) + count_confusion(ints, ints, 1, 1)


def test_addition_makes_a_new_confusion() -> None:
    one = Confusion(np.array([[1, 2]]), 3)
    total = one + one
    assert total.counts.tolist() == [[2, 4]]
    assert total.ignored == 6
    assert one.counts.tolist() == [[1, 2]]


@given(label_pairs())
def test_iou_equals_that_of_the_pixel_sets(case: tuple[Labels, Labels, int, int]) -> None:
    prediction, truth, n_clusters, n_classes = case
    iou = iou_matrix(count_confusion(prediction, truth, n_clusters, n_classes).counts)
    counted = truth != 255
    for cluster in range(n_clusters):
        for true in range(n_classes):
            predicted_set = set(np.flatnonzero((prediction == cluster) & counted))
            true_set = set(np.flatnonzero(truth == true))
            union = predicted_set | true_set
            if union:
                assert iou[cluster, true] == len(predicted_set & true_set) / len(union)
            else:
                assert np.isnan(iou[cluster, true])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(3, np.int64),
        np.zeros((0, 3), np.int64),
        np.zeros((3, 0), np.int64),
        np.zeros((2, 2), np.int32),
        np.zeros((2, 2)),
        np.array([[1, -1]]),
    ],
)
def test_wrong_counts_are_refused(wrong: npt.NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="matrix"):
        require_counts(wrong)
