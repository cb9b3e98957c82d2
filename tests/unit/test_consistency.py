"""One mask from the masks of three levels."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from builders import write_patch_masks

from lightcluster.masks.consistency import ConsistencyRule, merge_votes, read_patch_masks

VOTES = np.asarray(list(product([False, True], repeat=3))).T  # all eight, as columns


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("majority", [0, 1 / 3, 1 / 3, 2 / 3, 1 / 3, 2 / 3, 2 / 3, 1]),
        ("any", [0, 1, 1, 1, 1, 1, 1, 1]),
        ("all", [0, 0, 0, 0, 0, 0, 0, 1]),
        ("dataset", [0, 0, 0, 0, 1, 1, 1, 1]),
        ("category", [0, 0, 1, 1, 0, 0, 1, 1]),
        ("image", [0, 1, 0, 1, 0, 1, 0, 1]),
    ],
)
def test_each_rule(rule: ConsistencyRule, expected: list[float]) -> None:
    score = merge_votes(VOTES, rule)
    assert score.dtype == np.float16
    np.testing.assert_allclose(score, expected, atol=1e-3)


def test_majority_is_above_a_half_just_where_two_of_three_agree() -> None:
    assert (merge_votes(VOTES, "majority") > 0.5).tolist() == (VOTES.sum(axis=0) >= 2).tolist()


def test_masks_of_each_image_are_read_in_their_own_shape(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    grids = {"a/b, c.jpg": (2, 3), "ünïcode\n.png": (1, 1), "z": (4, 2)}
    votes = {name: generator.random((3, *grid)) < 0.5 for name, grid in grids.items()}
    scores = {name: vote.mean(axis=0) for name, vote in votes.items()}
    masks = read_patch_masks(write_patch_masks(tmp_path / "masks.npz", votes, scores))
    assert masks.image_id == list(grids)
    for number, name in enumerate(grids):
        np.testing.assert_array_equal(masks.votes_of(number), votes[name])
        np.testing.assert_allclose(masks.score_of(number), scores[name], atol=1e-3)
        assert masks.score_of(number).dtype == np.float32
