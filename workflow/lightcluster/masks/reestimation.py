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

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import normalize
from lightcluster.clustering.sample import draw_rows
from lightcluster.datasets.manifest import read_manifest
from lightcluster.features.images import open_image
from lightcluster.features.store import FeatureStore
from lightcluster.files import encode_names, read_arrays, write_arrays
from lightcluster.masks.consistency import read_patch_masks
from lightcluster.masks.guided import Guide, Guided, guided_filter, prepare_guide, shrink
from lightcluster.masks.upsampling import upsample
from lightcluster.progress import progress

log = logging.getLogger(__name__)

GUIDE_PIXELS = 2
"""Of the guide along each side of a patch: more change nothing."""

STRIDE = 2
"""Of the patches, down and across, that a discriminant is fitted to, and of those that scores are
averaged over: four times as many change nothing."""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Scene:
    """What the re-estimation sees of an image.

    Attributes
    ----------
    features : float16 array, shape (patches, dim)
        L2-normalised.
    guide : Guide
        Of `GUIDE_PIXELS` times as many pixels as patches, down and across.
    score : float32 array, shape (rows, columns)
        Of the levels, in [0, 1].
    """

    features: NDArray[np.float16]
    guide: Guide
    score: NDArray[np.float32]


@dataclass(frozen=True)
class Discriminant:
    """A linear score of patches.

    Attributes
    ----------
    direction : float32 array, shape (dim,)
    background, foreground : float
        Mean projections of the two sides, which score 0 and 1.
    """

    direction: NDArray[np.float32]
    background: float
    foreground: float

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the score of L2-normalised features [patches, dim]: in [0, 1]."""
        projected = features @ self.direction
        scaled = (projected - self.background) / (self.foreground - self.background)
        return np.asarray(np.clip(scaled, 0, 1), np.float32)


def every_other(grid: tuple[int, ...]) -> NDArray[np.int64]:
    """Return each `STRIDE`-th patch of a grid (rows, columns), down and across."""
    return np.arange(grid[0] * grid[1]).reshape(grid)[::STRIDE, ::STRIDE].ravel()


def soft_labels(score: NDArray[np.float32], guide: Guide) -> NDArray[np.float32]:
    """Return the share of each patch that the filtered score takes for foreground.

    Parameters
    ----------
    score : float32 array, shape (rows, columns)
    guide : Guide
        See `Scene`.

    Returns
    -------
    float32 array, shape (rows * columns,)
    """
    rows, columns = score.shape
    fine = upsample(score, (rows * GUIDE_PIXELS, columns * GUIDE_PIXELS), "bilinear")
    mask = guided_filter(fine, guide) > 0.5
    shares = mask.reshape(rows, GUIDE_PIXELS, columns, GUIDE_PIXELS).mean(axis=(1, 3))
    return np.asarray(shares, np.float32).ravel()


def fit_ridge(
    features: Sequence[NDArray[np.floating]], labels: Sequence[NDArray[np.float32]], ridge: float
) -> Discriminant | None:
    """Fit the discriminant of soft labels, patches weighted by how sure their label is.

    Parameters
    ----------
    features : sequence of float array, shape (patches, dim)
        Of each image, L2-normalised.
    labels : sequence of float32 array, shape (patches,)
        Shares of foreground y; the weight of a patch is ``|2 y - 1|``.
    ridge : float
        Penalty of the squared direction, in units of the total weight.

    Returns
    -------
    Discriminant, or None
        None if either side has no patch, or if nothing tells them apart.
    """
    dim = features[0].shape[1]
    product, target = np.zeros((dim, dim)), np.zeros(dim)
    sums, weights = np.zeros((2, dim)), np.zeros(2)  # of background and foreground
    certain_foreground = 0.0
    for stored, label in zip(features, labels, strict=True):
        points, weight = stored.astype(np.float32), np.abs(2 * label - 1)
        weighted = points * weight[:, None]
        product += weighted.T @ points
        target += weighted.T @ label
        certain_foreground += float(weight @ label)
        for side, members in enumerate((label <= 0.5, label > 0.5)):
            sums[side] += members.astype(np.float32) @ weighted
            weights[side] += weight[members].sum()
    if not weights.all():
        return None
    # The constant is not penalised: both sides of the equations are centred instead.
    total = weights.sum()
    mean = sums.sum(axis=0) / total
    covariance = product / total - np.outer(mean, mean) + ridge * np.eye(dim)
    direction = np.linalg.solve(covariance, target / total - mean * certain_foreground / total)
    background, foreground = (sums / weights[:, None]) @ direction
    if not foreground > background:
        return None
    return Discriminant(direction.astype(np.float32), float(background), float(foreground))


def reestimate(
    scenes: Sequence[Scene], *, rounds: int, tolerance: float, ridge: float
) -> tuple[Discriminant | None, list[float]]:
    """Alternate between filtering scores and fitting their discriminant.

    Parameters
    ----------
    scenes : sequence of Scene
        At least one.
    rounds : int
        At most.
    tolerance : float
        The rounds end once fewer than this share of the patches changes sides.
    ridge : float

    Returns
    -------
    discriminant : Discriminant or None
        Of the last round; None if there was none.
    changed : list of float
        The share of the patches that changed sides in each round.
    """
    scores = [scene.score for scene in scenes]
    fitted_to = [every_other(scene.score.shape) for scene in scenes]
    features = [scene.features[rows] for scene, rows in zip(scenes, fitted_to, strict=True)]
    found, changed = None, list[float]()
    for _ in progress(range(rounds), "rounds", unit="round"):
        labels = [
            soft_labels(score, scene.guide)[rows]
            for score, scene, rows in zip(scores, scenes, fitted_to, strict=True)
        ]
        fitted = fit_ridge(features, labels, ridge)
        if fitted is None:
            log.warning("nothing tells foreground from background: the former score stays")
            break
        found, before = fitted, scores
        scores = [
            found.score(scene.features.astype(np.float32)).reshape(scene.score.shape)
            for scene in scenes
        ]
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
    """Average, for each patch of an image, the scores of `every_other` patch that looks like it.

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
    unit, others = normalize(features - features.mean(axis=0), "l2"), every_other(grid)
    smoothed = np.empty_like(score)
    for start in range(0, len(unit), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        cosine = np.maximum(unit[rows] @ unit[others].T, 0)
        weights = cosine
        for _ in range(affinity - 1):
            weights = weights * cosine
        total = weights.sum(axis=1)
        averaged = weights @ score[others] / np.maximum(total, np.float32(1e-12))
        smoothed[rows] = np.where(total > 0, averaged, score[rows])
    return smoothed


def fit_discriminant(
    manifests: Sequence[Path],
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
    max_pixels: int,
) -> None:
    """Re-estimate the foreground on whole images drawn evenly over the shards.

    Writes ``direction`` float32 [dim], empty if the score of the levels is to stay, ``range``
    float64 [2] (`Discriminant.background` and `foreground`) and ``changed`` float64 [rounds].
    """
    scenes: list[Scene] = []
    opened = [FeatureStore.open(store) for store in stores] if rounds else []
    tokens = sum(store.n_rows for store in opened)
    for shard, store in enumerate(opened):
        share = min(1.0, sample_tokens / tokens)
        quota = max(1, round(share * store.n_images))
        rows = {row.image_id: row for row in read_manifest(manifests[shard])}
        masks = read_patch_masks(merged[shard])
        facet = store.facets[0]
        for number in draw_rows(store.n_images, quota, seed, shard).tolist():
            score = masks.merged_of(number)
            size = GUIDE_PIXELS * score.shape[0], GUIDE_PIXELS * score.shape[1]
            image = open_image(rows[store.image_id[number]].path, max_pixels, draft_size=size)
            features = normalize(store.facet(facet, number), "l2").astype(np.float16)
            guide = prepare_guide(shrink(image, size), Guided(radius, epsilon))
            scenes.append(Scene(features, guide, score))
    found, changed = None, list[float]()
    if scenes:
        log.info("%d of %d images", len(scenes), sum(store.n_images for store in opened))
        found, changed = reestimate(scenes, rounds=rounds, tolerance=tolerance, ridge=ridge)
    write_arrays(
        output,
        direction=found.direction if found else np.empty(0, np.float32),
        range=np.array([found.background, found.foreground] if found else [0, 1], np.float64),
        changed=np.array(changed, np.float64),
    )


def score_patches(
    store: Path, merged: Path, discriminant: Path, output: Path, *, affinity: int
) -> None:
    """Score the patches of a shard and write the arrays of `consistency.PatchMasks`."""
    masks = read_patch_masks(merged)
    arrays = read_arrays(discriminant, "direction", "range")
    score = masks.score
    if arrays["direction"].size:
        found = Discriminant(arrays["direction"], *arrays["range"].tolist())
        score = np.empty_like(masks.score)
        features = FeatureStore.open(store)
        facet = features.facets[0]
        for image in progress(features.iter_images((facet,)), "score", features.n_images):
            span = slice(*features.offset[image.index : image.index + 2])
            points = normalize(image.facets[facet], "l2")
            score[span] = smooth_by_affinity(points, found.score(points), image.grid, affinity)
    write_arrays(
        output,
        image_id=encode_names(masks.image_id),
        grid=masks.grid,
        offset=masks.offset,
        votes=masks.votes,
        merged=masks.merged,
        score=score,
    )
