"""Multilevel clustering consistency: the masks of the three levels are merged into one score.

We do not have the paper's Algorithm 1 in full. The rule used here, the mean of the three masks with
a majority as foreground, is this project's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import Metric, assign, normalize
from lightcluster.clustering.superclasses import superclasses_of_shard
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import read_arrays
from lightcluster.masks.patches import LevelMasks, write_level_masks
from lightcluster.progress import progress

LEVELS = ("dataset", "category", "image")
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
    ) -> NDArray[np.bool_]:
        """Return the masks of an image at both levels.

        Parameters
        ----------
        points : float32 array, shape (patches, dim)
            Features, normalized in the same way as those that the levels were fitted on.
        superclass : int
            Of the image.
        metric : Metric

        Returns
        -------
        bool array, shape (2, patches)
            Whether the nearest cluster at each level is foreground.
        """
        dataset = assign(points, self.dataset, metric)
        category = assign(points, self.category[superclass], metric)
        return np.stack(
            [self.dataset_foreground[dataset], self.category_foreground[superclass][category]]
        )


def read_upper_levels(dataset_level: Path, category_level: Path, decision: Path) -> UpperLevels:
    """Read the files of `cluster_dataset`, `cluster_category` and `decide_foreground`."""
    chosen = read_arrays(decision, "dataset", "category")
    return UpperLevels(
        read_arrays(dataset_level, "centroids")["centroids"],
        read_arrays(category_level, "centroids")["centroids"],
        chosen["dataset"],
        chosen["category"],
    )


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
    """Compute the masks of the upper levels for a shard, and merge all three; see `LevelMasks`."""
    features = FeatureStore.open(store)
    upper = read_upper_levels(dataset_level, category_level, decision)
    own = read_arrays(image_level, "label", "foreground")
    group = superclasses_of_shard(superclasses, shard)
    votes = np.empty((3, len(own["label"])), bool)
    facet = features.facets[0]
    for image in progress(features.iter_images((facet,)), "merge", features.n_images):
        span = slice(*features.offset[image.index : image.index + 2])
        points = normalize(image.arrays[facet], normalization)
        votes[:2, span] = upper.vote(points, group[image.index], metric)
        votes[2, span] = own["foreground"][image.index][own["label"][span]]
    merged = merge_votes(votes, rule)
    write_level_masks(output, LevelMasks(features.image_id, features.grid, votes, merged))
