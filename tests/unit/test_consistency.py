"""One mask from the masks of three levels."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from builders import write_level_masks, write_patch_scores

from lightcluster.masks.consistency import ConsistencyRule, merge_votes
from lightcluster.masks.patches import read_level_masks, read_patch_scores

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
    drawn = {name: generator.random(grid) for name, grid in grids.items()}
    masks = read_level_masks(write_level_masks(tmp_path / "masks.npz", votes))
    scores = read_patch_scores(write_patch_scores(tmp_path / "scores.npz", drawn))
    assert masks.image_id == scores.image_id == list(grids)
    for number, name in enumerate(grids):
        np.testing.assert_array_equal(masks.votes_of(number), votes[name])
        np.testing.assert_allclose(masks.merged_of(number), votes[name].mean(axis=0), atol=1e-3)
        np.testing.assert_allclose(scores.score_of(number), drawn[name], atol=1e-3)
        assert masks.merged_of(number).dtype == scores.score_of(number).dtype == np.float32
