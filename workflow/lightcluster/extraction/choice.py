"""Choice of the facet and layer to cluster, without labels: those whose levels agree best.

For every candidate, the three levels are run on a sample of the images, with k = 2 and the default
rules. Two independent properties indicate a good candidate: the clusters of the dataset level and
the superclass level agree with those of the image level (Cohen's kappa), and the foreground is
where the class token of the last block attends. Each of them alone can be misleading, so their
product is maximised. This criterion was developed in this project.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from lightcluster.ahead import compute_ahead
from lightcluster.clustering.kmeans import assign, fit_kmeans, normalize
from lightcluster.clustering.sample import draw_images, draw_rows
from lightcluster.clustering.settings import ClusteringSettings, SuperclassSettings
from lightcluster.clustering.superclasses import merge_small, number_of_superclasses
from lightcluster.extraction.backbones.protocol import (
    FACETS,
    Backbone,
    Facet,
    Positions,
    Precision,
    Rotation,
)
from lightcluster.extraction.images import ImageRow, target_size
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.precision import resolve_precision
from lightcluster.extraction.shard import prepare_row
from lightcluster.files import replacing
from lightcluster.masks.foreground import image_foreground, overlapping_clusters
from lightcluster.masks.settings import ForegroundSettings
from lightcluster.progress import progress

log = logging.getLogger(__name__)

SEED = 0
K = 2
_CLUSTERING, _SUPERCLASSES = ClusteringSettings(), SuperclassSettings()
_RULES = ForegroundSettings().rules


@dataclass(frozen=True)
class Sampled:
    """Sampled patches of some images, with the features of one candidate.

    Attributes
    ----------
    features : float16 array, shape (n, dim)
        L2-normalised.
    image : int64 array, shape (n,)
        Image of each patch, ascending.
    foreground : bool array, shape (n,)
        Foreground of the image level.
    gaze : float32 array, shape (n,)
        Rank of the last block's class attention among the patches of the image, in (0, 1].
    """

    features: NDArray[np.float16]
    image: NDArray[np.int64]
    foreground: NDArray[np.bool_]
    gaze: NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Agreement of the levels for one candidate.

    Attributes
    ----------
    kappa : float
        Mean of Cohen's kappa between the image level and each of the upper levels; at most 1.
    gaze : float
        Pearson correlation of `Sampled.gaze` with the share of levels that vote for foreground.
    """

    kappa: float
    gaze: float

    @property
    def score(self) -> float:
        """The criterion that is maximised."""
        return self.kappa * max(self.gaze, 0.0)


def cohen_kappa(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return Cohen's kappa of two masks, their agreement beyond chance; 0 if both are constant.

    Parameters
    ----------
    one, other : bool array, shape (n,)

    Returns
    -------
    float
        At most 1.
    """
    agreed = float((one == other).mean())
    by_chance = float(one.mean() * other.mean() + (~one).mean() * (~other).mean())
    return (agreed - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0


def measure_agreement(sampled: Sampled, superclass: NDArray[np.integer]) -> Agreement:
    """Run the upper levels on sampled patches and compare them with the image level.

    Parameters
    ----------
    sampled : Sampled
    superclass : int array, shape (images,)
        Superclass of each image.

    Returns
    -------
    Agreement
    """
    points = sampled.features.astype(np.float32)
    groups = superclass[sampled.image]
    votes = [_level(points, sampled.foreground), np.empty(len(points), bool), sampled.foreground]
    for group in np.unique(groups):
        members = groups == group
        votes[1][members] = _level(points[members], sampled.foreground[members])
    kappas = [cohen_kappa(vote, sampled.foreground) for vote in votes[:2]]
    share = np.mean(votes, axis=0)
    constant = share.std() == 0 or sampled.gaze.std() == 0
    gaze = 0.0 if constant else float(np.corrcoef(share, sampled.gaze)[0, 1])
    return Agreement(float(np.mean(kappas)), gaze)


def _level(points: NDArray[np.float32], foreground: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the foreground of an upper level that is fitted on these patches."""
    clustering = _CLUSTERING
    fitted = fit_kmeans(
        points, K, restarts=clustering.restarts, iterations=clustering.iterations, seed=SEED
    )
    return overlapping_clusters(fitted.labels, foreground, K)[0][fitted.labels]


def image_level(
    features: NDArray[np.float32], attention: NDArray[np.float32], grid: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the image-level mask of an image.

    Parameters
    ----------
    features : float32 array, shape (patches, dim)
        L2-normalised.
    attention : float32 array, shape (patches,)
        Class attention.
    grid : (int, int)
        Rows and columns of patches.

    Returns
    -------
    bool array, shape (patches,)
    """
    clustering = _CLUSTERING
    labels = fit_kmeans(
        features, K, restarts=clustering.restarts_image, iterations=clustering.iterations, seed=SEED
    ).labels
    return image_foreground(labels, K, attention, grid, _RULES)[labels]


def sample_candidates(
    images: Iterator[NDArray[np.float32]],
    count: int,
    backbone: Backbone,
    facets: Sequence[Facet],
    layers: Sequence[int],
    *,
    precision: torch.dtype,
) -> tuple[dict[tuple[Facet, int], Sampled], NDArray[np.float32]]:
    """Run the image level of every candidate and sample patches of each image.

    Parameters
    ----------
    images : iterator of float32 array, shape (3, height, width)
        As returned by `prepare_image`.
    count : int
        Number of images; as many patches of each are kept as fit into `clustering.sample_tokens`.
    backbone : Backbone
    facets, layers : sequence
        All pairs of a facet and a layer are candidates.
    precision : torch.dtype

    Returns
    -------
    sampled : dict of (facet, layer) to Sampled
    cls : float32 array, shape (images, dim)
        L2-normalised CLS tokens.
    """
    quota = max(1, _CLUSTERING.sample_tokens // count)
    parts: dict[tuple[Facet, int], list[Sampled]] = {
        (facet, layer): [] for facet in facets for layer in layers
    }
    tokens = []
    for number, image in enumerate(progress(images, "choose features", count)):
        on_device = torch.from_numpy(image[None]).to(backbone.device)
        found = backbone.forward_layers(on_device, facets, precision)
        tokens.append(found[-1].cls[0].cpu().numpy())
        grid = (image.shape[1] // backbone.patch_size, image.shape[2] // backbone.patch_size)
        gaze = rankdata(found[-1].cls_attention[0].cpu().numpy()) / (grid[0] * grid[1])
        rows = draw_rows(grid[0] * grid[1], quota, SEED, number)
        for (facet, layer), kept in parts.items():
            features = normalize(found[layer].facets[facet][0].cpu().numpy(), "l2")
            attention = found[layer].cls_attention[0].cpu().numpy()
            mask = image_level(features, attention, grid)
            kept.append(
                Sampled(
                    features[rows].astype(np.float16),
                    np.full(len(rows), number),
                    mask[rows],
                    gaze[rows].astype(np.float32),
                )
            )
    fields = ("features", "image", "foreground", "gaze")
    sampled = {
        candidate: Sampled(*(np.concatenate([getattr(part, name) for part in kept])
                             for name in fields))
        for candidate, kept in parts.items()
    }  # fmt: skip
    return sampled, normalize(np.stack(tokens), "l2")


def group(cls: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the superclass of each image, int64 [images], from L2-normalised CLS tokens."""
    settings, clustering = _SUPERCLASSES, _CLUSTERING
    fitted = fit_kmeans(
        cls, number_of_superclasses("auto", len(cls)),
        restarts=clustering.restarts, iterations=clustering.iterations, seed=SEED,
    )  # fmt: skip
    return assign(cls, merge_small(cls, fitted.centroids, settings.min_images)[0])


def choose_features(
    manifests: Sequence[Path],
    weights: Path,
    output: Path,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    positions: Positions = "timm",
    rotation: Rotation = "before",
    facet: Facet | Literal["auto"],
    layer: int | Literal["auto"],
    short_side: int,
    max_tokens: int,
    auto_images: int,
    precision: Precision,
    max_pixels: int,
    device: str,
    threads: int,
) -> None:
    """Rate all candidates on a sample of the images, and write a table of them, best first.

    The images are drawn evenly from all shards. Columns: ``facet``, ``layer``, ``score``,
    ``kappa`` and ``gaze`` (see `Agreement`); `layout.read_choice` reads the table.

    Raises
    ------
    ImageError
        If an image cannot be read or has changed since it was indexed.
    """
    backbone = open_backbone(weights, device, mean, std, positions, rotation)
    torch.set_num_threads(threads)
    facets = FACETS if facet == "auto" else (facet,)
    layers = range(backbone.depth) if layer == "auto" else [backbone.resolve_layer(layer)]
    drawn = [row.image for rows in draw_images(manifests, auto_images, SEED) for row in rows]

    def prepare(row: ImageRow) -> NDArray[np.float32]:
        size = target_size(row.height, row.width, short_side, backbone.patch_size, max_tokens)
        return prepare_row(row, size, backbone, max_pixels).pixels

    sampled, cls = sample_candidates(
        compute_ahead(prepare, drawn, workers=2, most=4), len(drawn), backbone, facets, layers,
        precision=resolve_precision(precision, device),
    )  # fmt: skip
    superclass = group(cls)
    agreements = {
        candidate: measure_agreement(patches, superclass) for candidate, patches in sampled.items()
    }
    ranked = sorted(agreements.items(), key=lambda item: -item[1].score)
    for (name, block), found in ranked[:3]:
        log.info("%s of layer %d: %.3f", name, block, found.score)
    with replacing(output) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["facet", "layer", "score", "kappa", "gaze"])
        for (name, block), found in ranked:
            figures = (found.score, found.kappa, found.gaze)
            writer.writerow([name, block, *(f"{figure:.4f}" for figure in figures)])
