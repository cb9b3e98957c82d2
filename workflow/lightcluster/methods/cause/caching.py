"""Caching the tokens of views: the only steps of CAUSE that run the backbone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.ahead import compute_ahead
from lightcluster.datasets.manifest import read_manifest
from lightcluster.errors import ConfigError
from lightcluster.extraction.backbones.protocol import Backbone, Positions, Precision
from lightcluster.extraction.images import ImageRow, open_row, patch_colors, prepare_image
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.passes import images_in_pass
from lightcluster.extraction.precision import resolve_precision
from lightcluster.extraction.shard import (
    PreparedImage,
    compute_images,
    origin_of,
    unfinished,
    write_images,
)
from lightcluster.extraction.store import FeatureStoreWriter
from lightcluster.extraction.weights import read_record
from lightcluster.methods.cause.modularity import BLOCK
from lightcluster.methods.cause.settings import CACHE_VERSION
from lightcluster.methods.cause.views import (
    Framing,
    Resampling,
    View,
    evaluation_views,
    side_in_patches,
    training_views,
)

log = logging.getLogger(__name__)


LEAST_SIDE = 2 * BLOCK
"""Smallest side of a training crop in patches, so that at least four of its tokens are sampled."""


class _Seen(NamedTuple):
    """A view of an image in the manifest."""

    row: ImageRow
    view: View
    name: str


def cache_crops(
    manifest: Path,
    weights: Path,
    output: Path,
    *,
    fractions: Sequence[float],
    mirrored: bool,
    framing: Framing,
    **settings: Any,
) -> None:
    """Write the tokens of the training crops of a shard to a feature store.

    Parameters
    ----------
    manifest, weights, output : Path
    fractions, mirrored, framing
        See `views.training_views`.
    **settings
        As for `cache_views`.

    Raises
    ------
    ConfigError
        If a side of the views has fewer than `LEAST_SIDE` patches.
    """
    seen = [
        _Seen(row, view, f"{row.image_id}#{number}")
        for row in _rows(manifest)
        for number, view in enumerate(
            training_views(row.height, row.width, fractions, mirrored, framing)
        )
    ]
    _write(seen, weights, output, trained=True, **settings)


def cache_views(
    manifest: Path,
    weights: Path,
    output: Path,
    *,
    framing: Framing,
    mirrored: bool,
    **settings: Any,
) -> None:
    """Write the tokens of the evaluation windows of a shard to a feature store.

    Parameters
    ----------
    manifest, weights, output : Path
    framing : {"crop", "squash"}
        See `views.evaluation_views`.
    mirrored : bool
        Whether each window is followed by its mirror image.

    Other Parameters
    ----------------
    resampling : {"antialiased", "nearest"}
        How a view is resized.
    size : int
        Side of a view in pixels, rounded to whole patches.
    mean, std : sequence of float or None
        Normalisation of the RGB channels; None: as in the record of the weights.
    positions : {"timm", "as_released"}
        See `backbones.positions`.
    max_pixels : int
        Images with more pixels are rejected.
    precision : {"auto", "float32", "bfloat16", "float16"}
        Precision of the backbone.
    device : str
    batch_size : int
        Views per pass.
    threads : int
    """
    seen = [
        _Seen(row, View(v.top, v.left, v.height, v.width, mirror), f"{row.image_id}#{number}"
              + "m" * mirror)
        for row in _rows(manifest)
        for number, v in enumerate(evaluation_views(row.height, row.width, framing))
        for mirror in (False, True)[: 1 + mirrored]
    ]  # fmt: skip
    _write(seen, weights, output, **settings)


def _rows(manifest: Path) -> list[ImageRow]:
    return [row.image for row in read_manifest(manifest)]


def _write(
    seen: Sequence[_Seen],
    weights: Path,
    output: Path,
    *,
    trained: bool = False,
    resampling: Resampling = "antialiased",
    size: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    positions: Positions = "timm",
    max_pixels: int,
    precision: Precision,
    device: str,
    batch_size: int,
    threads: int,
) -> None:
    """Compute and store the tokens of views in order; `trained`: they are training crops."""
    backbone = open_backbone(weights, device, mean, std, positions)
    if trained and side_in_patches(size, backbone.patch_size) < LEAST_SIDE:
        raise ConfigError(
            f"cause.size: training crops have a side of {size} pixels, "
            f"{size / backbone.patch_size:.1f} patches of {backbone.patch_size}; at least "
            f"{LEAST_SIDE} patches are needed"
        )
    record, dtype = read_record(weights), resolve_precision(precision, device)
    side = side_in_patches(size, backbone.patch_size)
    log.info("%d views of %d patches, %s on %s in %s", len(seen), side**2, record.model, device,
             dtype)  # fmt: skip
    shape = np.full((len(seen), 2), side, np.int32)
    rows, views = [item.row for item in seen], [astuple(item.view) for item in seen]
    most = images_in_pass(batch_size, backbone.device)
    batches = [list(seen[start : start + most]) for start in range(0, len(seen), most)]
    with FeatureStoreWriter(
        output, grids=shape, sizes=shape * backbone.patch_size,
        image_ids=[item.name for item in seen], facets=("token",), dim=backbone.dim,
        attributes={
            "model": record.model, "weights_sha256": record.sha256, "size": size,
            "resampling": resampling,
            "patch_size": backbone.patch_size, "mean": list(backbone.mean),
            "std": list(backbone.std), "positions": backbone.positions,
            "precision": str(dtype).removeprefix("torch."),
        },
        chunk_rows=side**2,
        origin=[CACHE_VERSION, views, *origin_of(rows, batch_size, backbone)],
    ) as writer:  # fmt: skip
        batches, again = unfinished(batches, writer.appended)
        computed = compute_images(
            backbone, [[(item.name, item.row.path) for item in batch] for batch in batches],
            _prepare(list(chain(*batches)), side, resampling, backbone, max_pixels, threads),
            ("token",), precision=dtype, threads=threads,
        )  # fmt: skip
        write_images(writer, islice(computed, again, None), len(seen), "view")


def _prepare(
    seen: Sequence[_Seen],
    side: int,
    resampling: Resampling,
    backbone: Backbone,
    max_pixels: int,
    threads: int,
) -> Iterator[PreparedImage]:
    """Yield the prepared views; threads decode each image once, ahead of the backbone."""
    of_image: dict[ImageRow, list[View]] = {}
    for item in seen:
        of_image.setdefault(item.row, []).append(item.view)
    pixels = side * backbone.patch_size

    def cut(row: ImageRow) -> list[NDArray[np.uint8]]:
        rgb = open_row(row, max_pixels)
        return [view.cut(rgb, pixels, resampling) for view in of_image[row]]

    workers = max(2, threads)
    for views in compute_ahead(cut, of_image, workers=workers, most=2 * workers):
        for rgb in views:
            normalized = prepare_image(rgb, (pixels, pixels), backbone.mean, backbone.std)
            yield PreparedImage(normalized, patch_colors(rgb, (side, side)))
