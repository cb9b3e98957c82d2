"""Re-estimation of the foreground, from the share of each cluster of patches that the masks cover.

The patches of the whole dataset are clustered, and the clusters are joined into a tree. Each round
filters the score of every image with a guided filter, which aligns it with the edges of objects,
and then scores each cluster by the share of its patches that the filtered masks cover. So that
frequent clusters do not outvote rare ones, evidence is counted in images, and a cluster that occurs
in few images is shrunk towards the larger clusters that it is part of. The new score replaces the
old one, for several rounds. At the end, a cluster is foreground if its share is above that of all
patches together. The scores of several such trees are averaged. Nothing is trained by
gradient descent, and no label is used. This step is not part of the paper;
``reestimation.rounds: 0`` is the paper's method.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.special import expit, logit

from lightcluster.clustering.kmeans import assign, fit_kmeans, normalize
from lightcluster.clustering.sample import draw_rows, read_sample
from lightcluster.extraction.images import COLORS_PER_SIDE, color_map
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import read_arrays, write_arrays
from lightcluster.masks.guided import Guided, guided_filter, prepare_guide, scale_colors
from lightcluster.masks.patches import (
    LevelMasks,
    PatchScores,
    read_level_masks,
    write_patch_scores,
)
from lightcluster.masks.upsampling import upsample
from lightcluster.progress import progress

log = logging.getLogger(__name__)

Start = Literal["image", "merged"]

CLUSTERED = 65_536
"""Largest number of patches that the clusters of a tree are fitted to; more change nothing."""

ITERATIONS = 10
"""Largest number of k-means iterations; more change nothing, because the trees are averaged."""

DIMENSIONS = 64
"""Dimensions that features are projected to before they are clustered: more change nothing, and
without a limit the cost of the trees would grow with the width of the backbone."""

ENOUGH = 10
"""An image with fewer patches in a cluster counts in proportion; with more, it counts in full."""

OTHERS = 3
"""Weight, in images, of a cluster's share against the evidence of a single image."""

_LEAST = 1e-6
"""Smallest threshold, and smallest distance of one from 1."""


@dataclass(frozen=True)
class Scene:
    """The data of one image that the re-estimation needs.

    The guides of the filter are computed again in each round, because keeping them would take 27
    times the memory.

    Attributes
    ----------
    leaves : uint16 array, shape (trees, patches)
        The cluster of each patch, in each tree.
    colors : uint8 array, shape (height, width, 3)
        `COLORS_PER_SIDE` times as many pixels as patches, down and across.
    score : float32 array, shape (rows, columns)
        Initial score, in [0, 1].
    """

    leaves: NDArray[np.uint16]
    colors: NDArray[np.uint8]
    score: NDArray[np.float32]


@dataclass(frozen=True)
class Shares:
    """The share of foreground in each cluster, after a round.

    Attributes
    ----------
    share : float64 array, shape (trees, clusters)
        In [0, 1].
    threshold : float64 array, shape (trees,)
        The share above which a patch is foreground; see `TreeSums.solve`.
    """

    share: NDArray[np.float64]
    threshold: NDArray[np.float64]

    def score(self, leaves: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return the score of patches by their clusters [trees, patches]: float32, in [0, 1].

        The mean over trees of scores that are 0.5 at the threshold, 0 at 0 and 1 at 1.
        """
        scores = [
            np.interp(share, (0, middle, 1), (0, 0.5, 1))[leaf]
            for share, middle, leaf in zip(self.share, self.threshold, leaves, strict=True)
        ]
        return np.asarray(np.mean(scores, axis=0), np.float32)

    def score_own(
        self, leaves: NDArray[np.uint16], label: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the score of an image's patches, with the evidence of the image itself.

        The part of a cluster that lies in one image is treated as another branch of the tree: its
        share is shrunk towards that of the cluster, which has the weight of `OTHERS` images.

        Parameters
        ----------
        leaves : uint16 array, shape (trees, patches)
        label : float32 array, shape (patches,)
            Of `soft_labels`.

        Returns
        -------
        float32 array, shape (patches,)
        """
        own = np.empty_like(self.share)
        for number, (share, leaf) in enumerate(zip(self.share, leaves, strict=True)):
            weight, mean = _evidence(*_counts(leaf, label, len(share)))
            own[number] = (weight * mean + OTHERS * share) / (weight + OTHERS)
        return Shares(own, self.threshold).score(leaves)


def _counts(
    leaf: NDArray[np.uint16], label: NDArray[np.float32], clusters: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the patches of an image in each cluster, and how many of them are foreground."""
    patches = np.bincount(leaf, minlength=clusters).astype(np.float64)
    foreground: NDArray[np.float64] = np.bincount(leaf, label, clusters).astype(np.float64)
    return patches, foreground


def _evidence(
    patches: NDArray[np.float64], foreground: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weight of an image in each cluster or node, and its share of foreground there."""
    return np.minimum(patches / ENOUGH, 1), foreground / np.maximum(patches, 1)


def join_clusters(centroids: NDArray[np.float32]) -> NDArray[np.intp]:
    """Join clusters into a tree by Ward's method.

    Parameters
    ----------
    centroids : float32 array, shape (clusters, dim)
        At least two.

    Returns
    -------
    intp array, shape (2 * clusters - 1,)
        The parent of each node, which has a higher number than the node. The first nodes are the
        clusters; the last one is the root, whose parent is itself.
    """
    clusters = len(centroids)
    joined = linkage(centroids.astype(np.float64), "ward")[:, :2].astype(np.intp)
    parent = np.empty(2 * clusters - 1, np.intp)
    parent[-1] = len(parent) - 1
    for number, pair in enumerate(joined):
        parent[pair] = clusters + number
    return parent


def memberships(parent: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return 1 where a cluster lies in a node of `join_clusters`, else 0: [clusters, nodes]."""
    nodes = len(parent)
    inside = np.eye((nodes + 1) // 2, nodes)
    for node in range(nodes - 1):
        inside[:, parent[node]] += inside[:, node]
    return inside


def shrink_to_parents(
    share: NDArray[np.float64], images: NDArray[np.float64], parent: NDArray[np.intp], prior: float
) -> NDArray[np.float64]:
    """Shrink the share of each node towards that of its parent, from the root down.

    Parameters
    ----------
    share : float64 array, shape (nodes,)
        Share of foreground in each node.
    images : float64 array, shape (nodes,)
        Number of images that it is based on.
    parent : intp array, shape (nodes,)
        See `join_clusters`.
    prior : float
        Weight of the parent, in images.

    Returns
    -------
    float64 array, shape (nodes,)
    """
    leaning = share.copy()
    for node in range(len(parent) - 2, -1, -1):
        leaning[node] = images[node] * share[node] + prior * leaning[parent[node]]
        leaning[node] /= images[node] + prior
    return leaning


class TreeSums:
    """Sums over images of the evidence for the nodes of one tree.

    Parameters
    ----------
    parent : intp array, shape (nodes,)
        See `join_clusters`.
    """

    def __init__(self, parent: NDArray[np.intp]) -> None:
        self._parent, self._inside = parent, memberships(parent)
        self._images = np.zeros(len(parent))
        self._share = np.zeros(len(parent))
        self._by_leaf = np.zeros((2, len(self._inside)))  # patches, and those of foreground

    def add(self, leaf: NDArray[np.uint16], label: NDArray[np.float32]) -> None:
        """Add an image: the cluster and the share of foreground of its patches, [patches] each."""
        counts = np.stack(_counts(leaf, label, len(self._inside)))
        self._by_leaf += counts
        weight, share = _evidence(*(counts @ self._inside))
        self._images += weight
        self._share += weight * share

    def solve(self, prior: float) -> tuple[NDArray[np.float64], float, float] | None:
        """Return the share of each cluster, and two thresholds between foreground and background.

        Returns
        -------
        share : float64 array, shape (clusters,)
        middle : float
            Its log-odds are half way between those of the mean share of the clusters of foreground
            patches and that of background patches. For the rounds: with `mean`, masks would grow
            from round to round where little is foreground.
        mean : float
            Mean share of the clusters of all patches. For the result: above it, a cluster is more
            frequent among foreground patches than among background patches.

        None if there is no foreground or no background patch, or if their shares do not differ.
        """
        patches, foreground = self._by_leaf
        sides = np.stack([patches - foreground, foreground])
        if not (sides.sum(axis=1) > 0).all():
            return None
        share = self._share / np.maximum(self._images, np.finfo(float).tiny)
        leaning = shrink_to_parents(share, self._images, self._parent, prior)[: len(patches)]
        means = np.average(np.broadcast_to(leaning, sides.shape), axis=1, weights=sides)
        if not means[1] > means[0]:
            return None
        means = np.clip(means, _LEAST, 1 - _LEAST)
        mean = np.clip(np.average(leaning, weights=patches), _LEAST, 1 - _LEAST)
        return leaning, float(expit(logit(means).mean())), float(mean)


def soft_labels(
    score: NDArray[np.float32], colors: NDArray[np.uint8], guided: Guided
) -> NDArray[np.float32]:
    """Return the share of each patch that is foreground by the filtered score.

    Parameters
    ----------
    score : float32 array, shape (rows, columns)
    colors : uint8 array, shape (height, width, 3)
        See `Scene`.
    guided : Guided

    Returns
    -------
    float32 array, shape (rows * columns,)
    """
    rows, columns = score.shape
    guide = prepare_guide(np.ascontiguousarray(scale_colors(colors)), guided)
    fine = upsample(score, (rows * COLORS_PER_SIDE, columns * COLORS_PER_SIDE), "bilinear")
    mask = guided_filter(fine, guide) > 0.5
    blocks = mask.reshape(rows, COLORS_PER_SIDE, columns, COLORS_PER_SIDE)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32).ravel()


def reestimate(
    scenes: Sequence[Scene],
    parents: Sequence[NDArray[np.intp]],
    *,
    rounds: int,
    prior: float,
    guided: Guided,
) -> list[Shares]:
    """Alternate between filtering the scores and measuring what the masks cover of each cluster.

    Parameters
    ----------
    scenes : sequence of Scene
        At least one.
    parents : sequence of intp array
        Of each tree; see `join_clusters`.
    rounds : int
    prior : float
        See `shrink_to_parents`.
    guided : Guided

    Returns
    -------
    list of Shares
        One per round; fewer than `rounds` if foreground and background cannot be told apart. See
        `TreeSums.solve` for the thresholds, of which the last one is another than before it.
    """
    scores = [scene.score for scene in scenes]
    found: list[Shares] = []
    for _ in progress(range(rounds), "rounds", unit="round"):
        sums = [TreeSums(parent) for parent in parents]
        for scene, score in zip(scenes, scores, strict=True):
            label = soft_labels(score, scene.colors, guided)
            for tree, leaf in zip(sums, scene.leaves, strict=True):
                tree.add(leaf, label)
        solved = [tree.solve(prior) for tree in sums]
        if any(tree is None for tree in solved):
            log.warning("foreground and background cannot be told apart: the previous score stays")
            break
        share, middle, mean = zip(*(tree for tree in solved if tree), strict=True)
        found.append(Shares(np.stack(share), np.array(middle)))
        before = scores
        scores = [found[-1].score(scene.leaves).reshape(scene.score.shape) for scene in scenes]
        sides = [(new > 0.5) != (old > 0.5) for new, old in zip(scores, before, strict=True)]
        changed = np.mean(np.concatenate([side.ravel() for side in sides]))
        log.info("round %d: %.2f %% of the patches changed sides", len(found), 100 * changed)
    if found:
        found[-1] = replace(found[-1], threshold=np.array(mean))
    return found


def main_directions(points: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Return the directions along which points are longest, by a singular value decomposition.

    Points are not centred, so that the inner product of two points is about that of their
    projections.

    Parameters
    ----------
    points : float32 array, shape (points, dim)
    dimensions : int
        Number of directions; all, if `dim` is smaller.

    Returns
    -------
    float32 array, shape (dim, min(dim, dimensions))
        Orthonormal columns, the longest direction first.
    """
    _, vectors = np.linalg.eigh((points.T @ points).astype(np.float64))
    return np.ascontiguousarray(vectors[:, : -dimensions - 1 : -1], np.float32)


def leaves_of(
    features: NDArray[np.floating],
    projection: NDArray[np.float32],
    centroids: NDArray[np.float32],
) -> NDArray[np.uint16]:
    """Return the cluster of each patch whose centroid is closest in angle.

    Parameters
    ----------
    features : float array, shape (patches, dim)
        Of any length.
    projection : float32 array, shape (dim, dimensions)
        Of `main_directions`.
    centroids : float32 array, shape (trees, clusters, dimensions)
        Of unit length.

    Returns
    -------
    uint16 array, shape (trees, patches)
    """
    points = np.asarray(features, np.float32) @ projection
    return np.stack([assign(points, tree) for tree in centroids]).astype(np.uint16)


def _first_score(masks: LevelMasks, image: int, start: Start) -> NDArray[np.float32]:
    """Return the initial score of an image; see `first_score`."""
    return first_score(masks.merged_of(image), masks.votes_of(image)[2], start)


def first_score(
    merged: NDArray[np.floating], image_level: NDArray[np.bool_], start: Start
) -> NDArray[np.float32]:
    """Return the initial score of an image.

    Parameters
    ----------
    merged : float array, shape (rows, columns)
        Merged score of the levels.
    image_level : bool array, shape (rows, columns)
        Mask of the image level.
    start : Start
        Which of the two.

    Returns
    -------
    float32 array, shape (rows, columns)
    """
    return np.asarray(merged if start == "merged" else image_level, np.float32)


def _draw_scenes(
    stores: Sequence[FeatureStore], merged: Sequence[Path], projection: NDArray[np.float32],
    centroids: NDArray[np.float32], *, start: Start, sample_tokens: int, seed: int,
) -> Iterator[Scene]:  # fmt: skip
    """Yield whole images, drawn evenly over the shards."""
    tokens = sum(store.n_rows for store in stores)
    share = min(1.0, sample_tokens / tokens)
    for shard, store in enumerate(stores):
        quota = max(1, round(share * store.n_images))
        masks, facet = read_level_masks(merged[shard]), store.facets[0]
        drawn = draw_rows(store.n_images, quota, seed, shard)
        for image in store.iter_images((facet, "colors"), drawn):
            yield Scene(
                leaves_of(image.arrays[facet], projection, centroids),
                color_map(image.arrays["colors"], image.grid),
                _first_score(masks, image.index, start),
            )


def fit_trees(
    stores: Sequence[Path],
    merged: Sequence[Path],
    sample: Sequence[Path],
    output: Path,
    *,
    rounds: int,
    start: Start,
    trees: int,
    clusters: int,
    prior: float,
    radius: float,
    epsilon: float,
    sample_tokens: int,
    seed: int,
) -> None:
    """Re-estimate the foreground on whole images drawn evenly over the shards.

    Writes ``projection`` float32 [dim, dimensions], ``centroids`` float32 [trees, clusters,
    dimensions], ``share`` float64 [rounds, trees, clusters] and ``threshold`` float64 [rounds,
    trees]. No rounds: the score of the levels is used as it is.

    Parameters
    ----------
    stores, merged : sequence of Path
        Features, and masks of the levels, of each shard.
    sample : sequence of Path
        Files of `clustering.sample.sample_features`, of each shard; the clusters are fitted to
        these patches.
    output : Path
    rounds, start, trees, clusters, prior, radius, epsilon, sample_tokens
        See `config.ReestimationSettings`.
    seed : int
        Seed of the first tree; each following tree has the next one.
    """
    opened = [FeatureStore.open(store) for store in stores]
    dim = opened[0].dim
    projection = np.eye(dim, min(dim, DIMENSIONS), dtype=np.float32)
    centroids = np.zeros((trees, clusters, projection.shape[1]), np.float32)
    found: list[Shares] = []
    if rounds:
        features = read_sample(sample).features
        chosen = draw_rows(len(features), CLUSTERED, seed, 0)
        points = normalize(features[chosen], "l2")
        del features
        projection = main_directions(points, DIMENSIONS)
        points = normalize(points @ projection, "l2")
        for tree in progress(range(trees), "trees", unit="tree"):
            fitted = fit_kmeans(points, clusters, iterations=ITERATIONS, seed=seed + tree)
            centroids[tree] = fitted.centroids
        scenes = list(
            _draw_scenes(
                opened,
                merged,
                projection,
                centroids,
                start=start,
                sample_tokens=sample_tokens,
                seed=seed,
            )
        )
        log.info("%d of %d images", len(scenes), sum(store.n_images for store in opened))
        if scenes:
            found = reestimate(
                scenes,
                [join_clusters(tree) for tree in centroids],
                rounds=rounds,
                prior=prior,
                guided=Guided(radius, epsilon),
            )
    write_arrays(
        output,
        projection=projection,
        centroids=centroids,
        share=np.array([one.share for one in found]).reshape(-1, trees, clusters),
        threshold=np.array([one.threshold for one in found]).reshape(-1, trees),
    )


@dataclass(frozen=True)
class Trees:
    """The result of `fit_trees`.

    Attributes
    ----------
    projection : float32 array, shape (dim, dimensions)
    centroids : float32 array, shape (trees, clusters, dimensions)
    rounds : list of Shares
        Empty: the score of the levels is used as it is.
    """

    projection: NDArray[np.float32]
    centroids: NDArray[np.float32]
    rounds: list[Shares]

    def score(
        self,
        features: NDArray[np.floating],
        colors: NDArray[np.uint8],
        first: NDArray[np.float32],
        guided: Guided,
    ) -> NDArray[np.float32]:
        """Score the patches of an image; there must be at least one round.

        Parameters
        ----------
        features : float array, shape (patches, dim)
        colors : uint8 array, shape (2 * rows, 2 * columns, 3)
            See `Scene`.
        first : float32 array, shape (rows, columns)
            From `first_score`; used only if there was a single round.
        guided : Guided

        Returns
        -------
        float32 array, shape (patches,)
            In [0, 1]; foreground is above 0.5.
        """
        leaves = leaves_of(features, self.projection, self.centroids)
        if len(self.rounds) > 1:
            first = self.rounds[-2].score(leaves).reshape(first.shape)
        return self.rounds[-1].score_own(leaves, soft_labels(first, colors, guided))


def read_trees(path: Path) -> Trees:
    """Read the file of `fit_trees`."""
    arrays = read_arrays(path, "projection", "centroids", "share", "threshold")
    rounds = list(map(Shares, arrays["share"], arrays["threshold"]))
    return Trees(arrays["projection"], arrays["centroids"], rounds)


def score_patches(
    store: Path,
    merged: Path,
    trees: Path,
    output: Path,
    *,
    start: Start,
    radius: float,
    epsilon: float,
) -> None:
    """Score the patches of a shard and write `patches.PatchScores`.

    Parameters
    ----------
    store, merged : Path
        Features, and masks of the levels, of the shard.
    trees : Path
        Of `fit_trees`.
    output : Path
    start, radius, epsilon
        See `config.ReestimationSettings`.
    """
    masks, fitted = read_level_masks(merged), read_trees(trees)
    score, guided = masks.merged, Guided(radius, epsilon)
    if fitted.rounds:
        score = np.empty_like(masks.merged)
        features = FeatureStore.open(store)
        facet = features.facets[0]
        images = features.iter_images((facet, "colors"))
        for image in progress(images, "score", features.n_images):
            span = slice(*features.offset[image.index : image.index + 2])
            score[span] = fitted.score(
                image.arrays[facet],
                color_map(image.arrays["colors"], image.grid),
                _first_score(masks, image.index, start),
                guided,
            )
    write_patch_scores(output, PatchScores(masks.image_id, masks.grid, score))
