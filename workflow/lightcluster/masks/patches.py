"""The files of a shard that hold masks and scores of patches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lightcluster.files import decode_names, encode_names, read_arrays, write_arrays

Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Patches:
    """The patches of the images of a shard, one image after another.

    Attributes
    ----------
    image_id : list of str
    grid : int32 array, shape (images, 2)
        Rows and columns of patches.
    """

    image_id: list[str]
    grid: NDArray[np.int32]

    @cached_property
    def offset(self) -> NDArray[np.int64]:
        """Index of the first patch of each image; int64, shape (images + 1,)."""
        return np.concatenate([[0], np.cumsum(self.grid.astype(np.int64).prod(axis=1))])

    def _of(self, image: int, values: NDArray[Value]) -> NDArray[Value]:
        """Return the part of an image of an array [..., patches], in the shape of its grid."""
        span = slice(*self.offset[image : image + 2])
        return values[..., span].reshape(*values.shape[:-1], *self.grid[image])


@dataclass(frozen=True)
class LevelMasks(Patches):
    """The masks of the three levels.

    Attributes
    ----------
    votes : bool array, shape (3, patches)
        Of `consistency.LEVELS`.
    merged : float16 array, shape (patches,)
        The score that they are merged into, in [0, 1].
    """

    votes: NDArray[np.bool_]
    merged: NDArray[np.float16]

    def votes_of(self, image: int) -> NDArray[np.bool_]:
        """Return the masks of the three levels of an image, bool, shape (3, rows, columns)."""
        return self._of(image, self.votes)

    def merged_of(self, image: int) -> NDArray[np.float32]:
        """Return the merged score of an image, float32, shape (rows, columns)."""
        return self._of(image, self.merged).astype(np.float32)


@dataclass(frozen=True)
class PatchScores(Patches):
    """The scores that pixel masks are made from.

    Attributes
    ----------
    score : float16 array, shape (patches,)
        In [0, 1]: the merged score of the levels, or what `reestimation` made of it.
    """

    score: NDArray[np.float16]

    def score_of(self, image: int) -> NDArray[np.float32]:
        """Return the score of an image, float32, shape (rows, columns)."""
        return self._of(image, self.score).astype(np.float32)


def write_level_masks(path: Path, masks: LevelMasks) -> None:
    """Write a file for `read_level_masks`."""
    write_arrays(
        path, image_id=encode_names(masks.image_id), grid=masks.grid, votes=masks.votes,
        merged=masks.merged,
    )  # fmt: skip


def read_level_masks(path: Path) -> LevelMasks:
    """Read the file of `consistency.merge_levels`."""
    arrays = read_arrays(path, "image_id", "grid", "votes", "merged")
    return LevelMasks(
        decode_names(arrays["image_id"]), arrays["grid"], arrays["votes"], arrays["merged"]
    )


def write_patch_scores(path: Path, scores: PatchScores) -> None:
    """Write a file for `read_patch_scores`."""
    write_arrays(
        path, compressed=False, image_id=encode_names(scores.image_id), grid=scores.grid,
        score=scores.score,
    )  # fmt: skip


def read_patch_scores(path: Path) -> PatchScores:
    """Read the file of `reestimation.score_patches`."""
    arrays = read_arrays(path, "image_id", "grid", "score")
    return PatchScores(decode_names(arrays["image_id"]), arrays["grid"], arrays["score"])
