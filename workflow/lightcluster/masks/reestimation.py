"""Re-estimation of the foreground: one linear discriminant of the patch features, in closed form.

The score of the levels is filtered by the image, which moves it to the edges of objects; a ridge
regression from the features of all patches to the filtered mask finds what the foreground of the
whole dataset has in common; its score takes the place of the former; and so on for some rounds.
Nothing is trained by gradients and no label is seen. This goes beyond the paper and is this
project's own; ``reestimation.rounds: 0`` is the paper's method.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import normalize
from lightcluster.clustering.sample import draw_rows
from lightcluster.features.images import COLORS_PER_SIDE, color_map
from lightcluster.features.store import FeatureStore
from lightcluster.files import encode_names, read_arrays, write_arrays
from lightcluster.masks.consistency import read_patch_masks
from lightcluster.masks.guided import Guide, Guided, guided_filter, prepare_guide, scale_colors
from lightcluster.masks.upsampling import upsample
from lightcluster.progress import progress

log = logging.getLogger(__name__)

Value = TypeVar("Value", bound=np.generic)

STRIDE = 2
"""Of the patches, down and across, that a discriminant is fitted to: all of them change nothing."""

AFFINITY_STRIDE = 3
"""Of the patches, down and across, that scores are averaged over: all of them change nothing."""

MOMENTUM = 0.5
"""Without it the rounds are a quarter more; with 0.7 no fewer."""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Scene:
    """What the re-estimation sees of an image.

    Attributes
    ----------
    features : float32 array, shape (patches, dim)
        L2-normalised.
    guide : Guide
        Of `COLORS_PER_SIDE` times as many pixels as patches, down and across.
    score : float32 array, shape (rows, columns)
        Of the levels, in [0, 1].
    """

    features: NDArray[np.float32]
    guide: Guide
    score: NDArray[np.float32]


@dataclass(frozen=True)
class Discriminant:
    """A linear score of patches: 0 at the mean of the background, 1 at that of the foreground.

    Attributes
    ----------
    direction : float32 array, shape (dim,)
    constant : float
    """

    direction: NDArray[np.float32]
    constant: float

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the score of L2-normalised features [patches, dim]: in [0, 1]."""
        projected = features @ self.direction + np.float32(self.constant)
        return np.asarray(np.clip(projected, 0, 1), np.float32)

    def beyond(self, former: Discriminant, momentum: float) -> Discriminant:
        """Go further on the way from another discriminant to this one, by a share of it."""
        return Discriminant(
            self.direction + np.float32(momentum) * (self.direction - former.direction),
            self.constant + momentum * (self.constant - former.constant),
        )


def thin(patches: NDArray[Value], grid: tuple[int, ...], stride: int) -> NDArray[Value]:
    """Return each `stride`-th patch, down and across, of [rows * columns, …]."""
    thinned = patches.reshape(*grid, *patches.shape[1:])[::stride, ::stride]
    return thinned.reshape(-1, *patches.shape[1:])


def soft_labels(score: NDArray[np.float32], guide: Guide) -> NDArray[np.float32]:
    """Return the share of each `STRIDE`-th patch that the filtered score takes for foreground.

    Parameters
    ----------
    score : float32 array, shape (rows, columns)
    guide : Guide
        See `Scene`.

    Returns
    -------
    float32 array, shape (ceil(rows / STRIDE) * ceil(columns / STRIDE),)
    """
    rows, columns = score.shape
    fine = upsample(score, (rows * COLORS_PER_SIDE, columns * COLORS_PER_SIDE), "bilinear")
    mask = guided_filter(fine, guide) > 0.5
    blocks = mask.reshape(rows, COLORS_PER_SIDE, columns, COLORS_PER_SIDE)[::STRIDE, :, ::STRIDE]
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32).ravel()


class RidgeSums:
    """The normal equations of the discriminant of soft labels, summed image by image.

    The weight of a patch of which the share y is foreground is ``|2 y - 1|``.

    Parameters
    ----------
    dim : int
        Of the features.
    """

    def __init__(self, dim: int) -> None:
        self._product = np.zeros((dim, dim))
        self._sides = np.zeros((2, dim))  # of background and foreground
        self._weights = np.zeros(2)
        self._target = np.zeros(dim)
        self._label = 0.0

    def add(self, points: NDArray[np.float32], label: NDArray[np.float32]) -> None:
        """Add patches: L2-normalised features [patches, dim] and shares of foreground [patches]."""
        weight = np.abs(2 * label - 1)
        scaled = points * np.sqrt(weight)[:, None]
        self._product += scaled.T @ scaled
        foreground = np.where(label > 0.5, weight, 0)
        sums = np.stack([weight - foreground, foreground, weight * label]) @ points
        self._sides += sums[:2]
        self._target += sums[2]
        self._weights += [(weight - foreground).sum(), foreground.sum()]
        self._label += float(weight @ label)

    def solve(self, ridge: float) -> Discriminant | None:
        """Solve them.

        Parameters
        ----------
        ridge : float
            Penalty of the squared direction, in units of the total weight.

        Returns
        -------
        Discriminant, or None
            None if either side has no patch, or if nothing tells them apart.
        """
        if not self._weights.all():
            return None
        # The constant is not penalised: both sides of the equations are centred instead.
        total = self._weights.sum()
        mean = self._sides.sum(axis=0) / total
        covariance = self._product / total - np.outer(mean, mean) + ridge * np.eye(len(mean))
        direction = np.linalg.solve(covariance, (self._target - mean * self._label) / total)
        background, foreground = (self._sides / self._weights[:, None]) @ direction
        apart = foreground - background
        if not apart > 0:
            return None
        return Discriminant((direction / apart).astype(np.float32), float(-background / apart))


def reestimate(
    scenes: Sequence[Scene], *, rounds: int, tolerance: float, ridge: float
) -> tuple[Discriminant | None, list[float]]:
    """Alternate between filtering scores and fitting their discriminant.

    From the second round on, the discriminant goes on by `MOMENTUM` from the last fitted one:
    what the rounds converge to is the same, and they need fewer.

    Parameters
    ----------
    scenes : sequence of Scene
        At least one.
    rounds : int
        At most.
    tolerance : float
        The rounds end once fewer than this share of the patches changes sides.
    ridge : float
        See `RidgeSums.solve`.

    Returns
    -------
    discriminant : Discriminant or None
        Of the last round; None if there was none.
    changed : list of float
        The share of the patches that changed sides in each round.
    """
    scores = [scene.score for scene in scenes]
    found, last, changed = None, None, list[float]()
    for _ in progress(range(rounds), "rounds", unit="round"):
        sums = RidgeSums(scenes[0].features.shape[1])
        for scene, score in zip(scenes, scores, strict=True):
            sums.add(thin(scene.features, score.shape, STRIDE), soft_labels(score, scene.guide))
        fitted = sums.solve(ridge)
        if fitted is None:
            log.warning("nothing tells foreground from background: the former score stays")
            break
        found = fitted.beyond(last, MOMENTUM) if last else fitted
        last, before = fitted, scores
        scores = [found.score(scene.features).reshape(scene.score.shape) for scene in scenes]
        sides = [(new > 0.5) != (old > 0.5) for new, old in zip(scores, before, strict=True)]
        changed.append(float(np.mean(np.concatenate([side.ravel() for side in sides]))))
        log.info("round %d: %.2f %% of the patches changed sides", len(changed), 100 * changed[-1])
        if changed[-1] < tolerance:
            break
    return found, changed


def smooth_by_affinity(
    features: NDArray[np.float32],
    score: NDArray[np.float32],
    grid: tuple[int, int],
    affinity: int,
) -> NDArray[np.float32]:
    """Average, for each patch of an image, the scores of those that look like it.

    They are sought among each `AFFINITY_STRIDE`-th one.

    Parameters
    ----------
    features : float32 array, shape (patches, dim)
        L2-normalised.
    score : float32 array, shape (patches,)
    grid : (int, int)
        Rows and columns of patches.
    affinity : int
        Weights are cosines of the features, less the image's mean feature, to this power; negative
        ones are 0. With 0 the score stays as it is.

    Returns
    -------
    float32 array, shape (patches,)
    """
    if not affinity:
        return score
    centred, scores = features - features.mean(axis=0), thin(score, grid, AFFINITY_STRIDE)
    others = normalize(thin(centred, grid, AFFINITY_STRIDE), "l2")
    smoothed = np.empty_like(score)
    for start in range(0, len(centred), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        # The length of the patch's own feature is in each of its weights, and so in none.
        cosine = centred[rows] @ others.T
        np.maximum(cosine, 0, out=cosine)
        weights = cosine.copy()
        for _ in range(affinity - 1):
            weights *= cosine
        total = weights.sum(axis=1)
        averaged = weights @ scores / np.maximum(total, np.float32(1e-12))
        smoothed[rows] = np.where(total > 0, averaged, score[rows])
    return smoothed


def fit_discriminant(
    stores: Sequence[Path],
    merged: Sequence[Path],
    output: Path,
    *,
    rounds: int,
    tolerance: float,
    radius: float,
    epsilon: float,
    ridge: float,
    sample_tokens: int,
    seed: int,
) -> None:
    """Re-estimate the foreground on whole images drawn evenly over the shards.

    Writes ``direction`` float32 [dim], empty if the score of the levels is to stay, ``constant``
    float64 [1] and ``changed`` float64 [rounds].
    """
    scenes: list[Scene] = []
    opened = [FeatureStore.open(store) for store in stores] if rounds else []
    tokens = sum(store.n_rows for store in opened)
    for shard, store in enumerate(opened):
        share = min(1.0, sample_tokens / tokens)
        quota = max(1, round(share * store.n_images))
        masks, facet = read_patch_masks(merged[shard]), store.facets[0]
        drawn = draw_rows(store.n_images, quota, seed, shard)
        for image in store.iter_images((facet, "colors"), drawn):
            colors = np.ascontiguousarray(
                scale_colors(color_map(image.arrays["colors"], image.grid))
            )
            guide = prepare_guide(colors, Guided(radius, epsilon))
            features = normalize(image.arrays[facet], "l2")
            scenes.append(Scene(features, guide, masks.merged_of(image.index)))
    found, changed = None, list[float]()
    if scenes:
        log.info("%d of %d images", len(scenes), sum(store.n_images for store in opened))
        found, changed = reestimate(scenes, rounds=rounds, tolerance=tolerance, ridge=ridge)
    write_arrays(
        output,
        direction=found.direction if found else np.empty(0, np.float32),
        constant=np.array([found.constant if found else 0], np.float64),
        changed=np.array(changed, np.float64),
    )


def score_patches(
    store: Path, merged: Path, discriminant: Path, output: Path, *, affinity: int
) -> None:
    """Score the patches of a shard and write the arrays of `consistency.PatchMasks`."""
    masks = read_patch_masks(merged)
    arrays = read_arrays(discriminant, "direction", "constant")
    score = masks.score
    if arrays["direction"].size:
        found = Discriminant(arrays["direction"], *arrays["constant"].tolist())
        score = np.empty_like(masks.score)
        features = FeatureStore.open(store)
        facet = features.facets[0]
        for image in progress(features.iter_images((facet,)), "score", features.n_images):
            span = slice(*features.offset[image.index : image.index + 2])
            points = normalize(image.arrays[facet], "l2")
            score[span] = smooth_by_affinity(points, found.score(points), image.grid, affinity)
    write_arrays(
        output,
        compressed=False,
        image_id=encode_names(masks.image_id),
        grid=masks.grid,
        offset=masks.offset,
        votes=masks.votes,
        merged=masks.merged,
        score=score,
    )
