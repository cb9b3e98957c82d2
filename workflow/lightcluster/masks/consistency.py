"""Multilevel clustering consistency: the three levels agree on one patch mask.

The paper's Algorithm 1 is not available to us in full; the rule here, a majority of the three
levels whose soft vote is kept as a score, is this project's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import Metric, assign, normalize
from lightcluster.clustering.superclasses import superclasses_of_shard
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import decode_names, encode_names, read_arrays, write_arrays
from lightcluster.progress import progress

LEVELS = ("dataset", "category", "image")
Value = TypeVar("Value", bound=np.generic)
ConsistencyRule = Literal["majority", "any", "all", "dataset", "category", "image"]


def merge_votes(votes: NDArray[np.bool_], rule: ConsistencyRule) -> NDArray[np.float16]:
    """Merge the masks of the three levels into one score.

    Parameters
    ----------
    votes : bool array, shape (3, patches)
        Masks of the dataset, category and image level.
    rule : str
        ``majority``: the mean of the votes; ``any``, ``all``: their union or intersection; the
        name of a level: that level alone.

    Returns
    -------
    float16 array, shape (patches,)
        In [0, 1]; foreground is above 0.5.
    """
    if rule == "majority":
        score = np.mean(votes, axis=0, dtype=np.float32)
    elif rule == "any":
        score = np.max(votes, axis=0)
    elif rule == "all":
        score = np.min(votes, axis=0)
    else:
        score = votes[LEVELS.index(rule)]
    return np.asarray(score, np.float16)


@dataclass(frozen=True)
class UpperLevels:
    """The fitted levels of the dataset and of the categories.

    Attributes
    ----------
    dataset : float32 array, shape (k, dim)
        Centroids of the dataset level.
    category : float32 array, shape (groups, k, dim)
        Centroids of each superclass.
    dataset_foreground : bool array, shape (k,)
        Which clusters are foreground.
    category_foreground : bool array, shape (groups, k)
    """

    dataset: NDArray[np.float32]
    category: NDArray[np.float32]
    dataset_foreground: NDArray[np.bool_]
    category_foreground: NDArray[np.bool_]

    def vote(
        self, points: NDArray[np.float32], superclass: int, metric: Metric
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Assign the patches of an image to the clusters of both levels.

        Parameters
        ----------
        points : float32 array, shape (patches, dim)
            Features, scaled as those that the levels were fitted on.
        superclass : int
            Of the image.
        metric : Metric

        Returns
        -------
        label : int64 array, shape (2, patches)
            The cluster of each patch at each level.
        votes : bool array, shape (2, patches)
            Whether that cluster is foreground.
        """
        label = np.stack(
            [
                assign(points, self.dataset, metric),
                assign(points, self.category[superclass], metric),
            ]
        )
        votes = [
            self.dataset_foreground[label[0]],
            self.category_foreground[superclass][label[1]],
        ]
        return label, np.stack(votes)


def read_upper_levels(dataset_level: Path, category_level: Path, decision: Path) -> UpperLevels:
    """Read the files of `cluster_dataset`, `cluster_category` and `decide_foreground`."""
    chosen = read_arrays(decision, "dataset", "category")
    return UpperLevels(
        read_arrays(dataset_level, "centroids")["centroids"],
        read_arrays(category_level, "centroids")["centroids"],
        chosen["dataset"],
        chosen["category"],
    )


@dataclass(frozen=True)
class PatchMasks:
    """The masks of a shard on the patch grid.

    Attributes
    ----------
    image_id : list of str
    grid : int32 array, shape (images, 2)
        Rows and columns of patches.
    offset : int64 array, shape (images + 1,)
        Where the patches of each image begin.
    votes : bool array, shape (3, patches)
        Masks of the three `LEVELS`.
    merged : float16 array, shape (patches,)
        Their merged score, in [0, 1].
    score : float16 array, shape (patches,)
        The score to refine, in [0, 1]: the merged one, or what `reestimation` made of it.
    """

    image_id: list[str]
    grid: NDArray[np.int32]
    offset: NDArray[np.int64]
    votes: NDArray[np.bool_]
    merged: NDArray[np.float16]
    score: NDArray[np.float16]

    def merged_of(self, image: int) -> NDArray[np.float32]:
        """Return the merged score of an image, float32, shape (rows, columns)."""
        return self._of(image, self.merged).astype(np.float32)

    def score_of(self, image: int) -> NDArray[np.float32]:
        """Return the score to refine of an image, float32, shape (rows, columns)."""
        return self._of(image, self.score).astype(np.float32)

    def votes_of(self, image: int) -> NDArray[np.bool_]:
        """Return the masks of the three levels of an image, bool, shape (3, rows, columns)."""
        return self._of(image, self.votes)

    def _of(self, image: int, values: NDArray[Value]) -> NDArray[Value]:
        """Return the part of an image of an array [..., patches], in the shape of its grid."""
        span = slice(*self.offset[image : image + 2])
        return values[..., span].reshape(*values.shape[:-1], *self.grid[image])


def merge_levels(
    store: Path,
    shard: int,
    image_level: Path,
    superclasses: Path,
    dataset_level: Path,
    category_level: Path,
    decision: Path,
    output: Path,
    *,
    normalization: Literal["l2", "none"],
    metric: Metric,
    rule: ConsistencyRule,
) -> None:
    """Assign the patches of a shard to the clusters of the upper levels and merge the three masks.

    Writes the arrays of `PatchMasks`, and ``label`` uint8 [3, patches], the cluster at each level.
    """
    features = FeatureStore.open(store)
    upper = read_upper_levels(dataset_level, category_level, decision)
    own = read_arrays(image_level, "label", "foreground")
    group = superclasses_of_shard(superclasses, shard)
    label = np.empty((3, len(own["label"])), np.uint8)
    votes = np.empty(label.shape, bool)
    label[2], votes[2] = own["label"], own["foreground"]
    facet = features.facets[0]
    for image in progress(features.iter_images((facet,)), "merge", features.n_images):
        span = slice(*features.offset[image.index : image.index + 2])
        points = normalize(image.arrays[facet], normalization)
        label[:2, span], votes[:2, span] = upper.vote(points, group[image.index], metric)
    merged = merge_votes(votes, rule)
    write_arrays(
        output,
        image_id=encode_names(features.image_id),
        grid=features.grid,
        offset=features.offset,
        label=label,
        votes=votes,
        merged=merged,
        score=merged,
    )


def read_patch_masks(path: Path) -> PatchMasks:
    """Read the file of `merge_levels`, whose score is the merged one, or of `score_patches`."""
    arrays = read_arrays(path, "image_id", "grid", "offset", "votes", "merged", "score")
    return PatchMasks(
        image_id=decode_names(arrays["image_id"]),
        grid=arrays["grid"],
        offset=arrays["offset"],
        votes=arrays["votes"],
        merged=arrays["merged"],
        score=arrays["score"],
    )
