"""Parts of objects: foreground patches of many images in K clusters, by tokens and by keys.

Clustered over several images, the patches of objects fall into parts that recur from one image to
the next (Amir et al., "Deep ViT features as dense visual descriptors", arXiv 2112.05814). Keys and
tokens of one block see different ones, which is why both are shown.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from lightcluster.ahead import compute_ahead
from lightcluster.clustering.kmeans import fit_kmeans, normalize
from lightcluster.clustering.sample import draw_images
from lightcluster.datasets.manifest import Row
from lightcluster.errors import StoreError
from lightcluster.extraction.backbones.protocol import (
    Backbone,
    Facet,
    Positions,
    Precision,
    Rotation,
)
from lightcluster.extraction.images import open_row, target_size
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.passes import compute_features
from lightcluster.extraction.precision import resolve_precision
from lightcluster.extraction.shard import prepare_row
from lightcluster.files import replacing
from lightcluster.masks.patches import read_patch_scores
from lightcluster.progress import progress
from lightcluster.reporting.contact_sheet import (
    ROWS_PER_PAGE,
    ColourKey,
    Strip,
    draw_contact_sheet,
    make_strip,
)
from lightcluster.reporting.overlays import CELL

log = logging.getLogger(__name__)

FACETS: tuple[Facet, Facet] = ("token", "key")
RESTARTS, ITERATIONS = 4, 25


@dataclass(frozen=True)
class Masked:
    """An image and the patches of it that are foreground: bool, shape (rows, columns)."""

    row: Row
    foreground: NDArray[np.bool_]


def find_parts(
    features: Mapping[Facet, NDArray[np.float32]], k: int, seed: int
) -> dict[Facet, NDArray[np.int64]]:
    """Cluster the same patches by each facet, and give like clusters the same number.

    Parameters
    ----------
    features : mapping of facet to float32 array, shape (n, dim)
        L2-normalised; n >= 1.
    k : int
        Parts.
    seed : int

    Returns
    -------
    dict of facet to int64 array, shape (n,)
        From 0. The first facet's parts are numbered from the largest; those of the others so that
        as many patches as can be have the same number (an assignment problem).
    """
    parts: dict[Facet, NDArray[np.int64]] = {}
    reference: NDArray[np.int64] | None = None
    for facet, points in features.items():
        fitted = fit_kmeans(points, k, restarts=RESTARTS, iterations=ITERATIONS, seed=seed)
        if reference is None:
            number = np.empty(k, np.int64)
            number[np.argsort(-fitted.sizes, kind="stable")] = np.arange(k)
            reference = number[fitted.labels]
        else:
            number = _number_alike(reference, fitted.labels, k)
        parts[facet] = number[fitted.labels]
    return parts


def _number_alike(
    reference: NDArray[np.int64], labels: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """Return the number, int64 [k], under which each label agrees best with the reference."""
    joint = np.bincount(labels * k + reference, minlength=k * k).reshape(k, k)
    number: NDArray[np.int64] = linear_sum_assignment(joint, maximize=True)[1].astype(np.int64)
    return number


def draw_masked(
    manifests: Sequence[Path], scores: Sequence[Path], images: int, seed: int
) -> list[Masked]:
    """Draw images evenly over shards, with the foreground of each.

    Raises
    ------
    StoreError
        If a shard holds no scores of an image.
    """
    drawn = []
    for path, rows in zip(scores, draw_images(manifests, images, seed), strict=True):
        patches = read_patch_scores(path)
        places = {image_id: number for number, image_id in enumerate(patches.image_id)}
        for row in rows:
            if row.image_id not in places:
                raise StoreError(f"{path}: no scores of {row.image_id!r}; run snakemake again")
            drawn.append(Masked(row, patches.score_of(places[row.image_id]) > 0.5))
    return drawn


def read_foreground(
    drawn: Sequence[Masked],
    backbone: Backbone,
    *,
    layer: int,
    short_side: int,
    max_tokens: int,
    max_pixels: int,
    precision: torch.dtype,
    threads: int,
) -> dict[Facet, NDArray[np.float32]]:
    """Run the backbone over images and keep both facets of their foreground patches.

    For the arguments see `discover_parts`.

    Returns
    -------
    dict of facet to float32 array, shape (n, dim)
        L2-normalised; image by image, each row by row.

    Raises
    ------
    ImageError
        If an image cannot be read, or has changed.
    StoreError
        If masks are of other patches.
    """

    def prepare(one: Masked) -> NDArray[np.float32]:
        row = one.row.image
        size = target_size(row.height, row.width, short_side, backbone.patch_size, max_tokens)
        if (size[0] // backbone.patch_size, size[1] // backbone.patch_size) != one.foreground.shape:
            raise StoreError(
                f"masks of {row.image_id!r} are of {one.foreground.shape} patches, its features of "
                "others; run snakemake again"
            )
        return prepare_row(row, size, backbone, max_pixels).pixels

    kept: dict[Facet, list[NDArray[np.float32]]] = {facet: [] for facet in FACETS}
    images = compute_ahead(prepare, drawn, workers=max(2, threads), most=2 * threads + 2)
    computed = compute_features(
        backbone, (pixels[None] for pixels in images), FACETS, layer,
        precision=precision, threads=threads,
    )  # fmt: skip
    for one, found in zip(drawn, progress(computed, "parts", len(drawn)), strict=True):
        for facet, parts in kept.items():
            features = found.facets[facet][0].float().cpu().numpy()
            parts.append(normalize(features[one.foreground.ravel()], "l2"))
    return {facet: np.concatenate(parts) for facet, parts in kept.items()}


def part_maps(
    drawn: Sequence[Masked], parts: Mapping[Facet, NDArray[np.int64]]
) -> Iterator[dict[Facet, NDArray[np.int64]]]:
    """Yield the parts of the patches of each image, from 1, by facet; 0 is background."""
    start = 0
    for one in drawn:
        stop = start + int(one.foreground.sum())
        maps = {}
        for facet, numbers in parts.items():
            maps[facet] = np.zeros(one.foreground.shape, np.int64)
            maps[facet][one.foreground] = numbers[start:stop] + 1
        yield maps
        start = stop


def discover_parts(
    manifests: Sequence[Path],
    masks: Sequence[Path],
    weights: Path,
    output: Path,
    *,
    parts: int,
    seed: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    positions: Positions = "timm",
    rotation: Rotation = "before",
    layer: int,
    short_side: int,
    max_tokens: int,
    max_pixels: int,
    precision: Precision,
    device: str,
    threads: int,
) -> None:
    """Draw the parts of `ROWS_PER_PAGE` images, by tokens beside keys, as PNG.

    The backbone runs on these images again, because the features of a run have no tokens.

    Parameters
    ----------
    manifests, masks : sequence of Path
        Of each shard; the masks are those of `reestimation.score_patches`.
    weights, output : Path
    parts : int
        Clusters.
    seed : int
        Of the choice of the images and of k-means.
    mean, std, positions, rotation, layer, short_side, max_tokens, max_pixels, precision, device
        As in `extraction.shard.extract_features`.
    threads : int
        Of decoding, and of the passes on a CPU; see `extraction.passes`.
    """
    backbone = open_backbone(weights, device, mean, std, positions, rotation)
    drawn = draw_masked(manifests, masks, ROWS_PER_PAGE, seed)
    features = read_foreground(
        drawn, backbone, layer=layer, short_side=short_side, max_tokens=max_tokens,
        max_pixels=max_pixels, precision=resolve_precision(precision, device), threads=threads,
    )  # fmt: skip
    caption = describe_parts(features, parts, len(drawn), backbone.resolve_layer(layer))
    log.info(caption)
    if len(features[FACETS[0]]):
        found = find_parts(features, parts, seed)
    else:
        found = {facet: np.empty(0, np.int64) for facet in FACETS}
    strips = [
        draw_parts(one, maps, max_pixels)
        for one, maps in zip(drawn, part_maps(drawn, found), strict=True)
    ]
    key = ColourKey(
        ("background", *(f"part {number}" for number in range(1, parts + 1))), np.empty(0, int),
        caption,
    )  # fmt: skip
    with replacing(output) as temporary:
        draw_contact_sheet(strips, key).save(temporary, format="PNG", optimize=True)


def describe_parts(
    features: Mapping[Facet, NDArray[np.float32]], k: int, images: int, layer: int
) -> str:
    """Return what was clustered, and why there is little to see where that is so.

    Parameters
    ----------
    features : mapping of facet to float32 array, shape (n, dim)
        Of the foreground patches.
    k, images, layer : int
        Parts asked for, images drawn, and the block counted from 0.
    """
    one, other = (features[facet] for facet in FACETS)
    patches = len(one)
    if not patches:
        return f"No patch of {images} images is foreground: there are no parts."
    some = f"foreground patch{'es' * (patches != 1)} of {images} images"
    few = patches < k
    what = f"Only {patches} {some} for {k} parts" if few else f"{k} clusters of {patches:,} {some}"
    same = np.array_equal(one, other)
    how = "tokens and keys are the same" if same else "like parts have like colours"
    return f"{what}, layer {layer}; {how}."


def draw_parts(one: Masked, maps: Mapping[Facet, NDArray[np.int64]], max_pixels: int) -> Strip:
    """Return an image beside its parts."""
    segmentations = {f"parts by {facet}": found for facet, found in maps.items()}
    image = open_row(one.row.image, max_pixels, draft_size=CELL)
    return make_strip(one.row, image, {}, segmentations, None)
