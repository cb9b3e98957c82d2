"""The step that fills the feature store of a shard."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lightcluster.datasets.manifest import read_manifest
from lightcluster.extraction.backbone import (
    Backbone,
    Facet,
    Precision,
    load_backbone,
    resolve_precision,
)
from lightcluster.extraction.mean_color import MeanColor
from lightcluster.extraction.settings import Positions
from lightcluster.extraction.shard import extract_shard
from lightcluster.extraction.weights import read_record

log = logging.getLogger(__name__)


def open_backbone(
    weights: Path,
    device: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    positions: Positions = "timm",
) -> Backbone:
    """Load the backbone that a weights file and its record describe.

    `mean` and `std` of the RGB channels, in [0, 1], replace those of the record if they are given;
    the mean colour knows none, nor `positions` (see `extraction.positions`).
    """
    record = read_record(weights)
    if record.source == "none":
        return MeanColor(device)
    backbone = load_backbone(record.model, weights, device)
    backbone.mean, backbone.std = record.normalization(mean, std)
    backbone.positions = positions
    return backbone


def extract_features(
    manifest: Path,
    weights: Path,
    output: Path,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    positions: Positions = "timm",
    facet: Facet,
    layer: int,
    short_side: int,
    max_tokens: int,
    max_pixels: int,
    precision: Precision,
    device: str,
    batch_size: int,
    threads: int,
) -> None:
    """Run the backbone over the images of a manifest and write their feature store."""
    backbone = open_backbone(weights, device, mean, std, positions)
    record = read_record(weights)
    rows = [row.image for row in read_manifest(manifest)]
    dtype = resolve_precision(precision, device)
    log.info("%d images, %s on %s in %s", len(rows), record.model, device, dtype)
    extract_shard(
        rows, backbone, output, facets=(facet,), layer=layer, short_side=short_side,
        max_tokens=max_tokens, max_pixels=max_pixels, precision=dtype, batch_size=batch_size,
        threads=threads,
        attributes={
            "model": record.model,
            "weights_sha256": record.sha256,
            "layer": backbone.resolve_layer(layer),
            "short_side": short_side,
            "max_tokens": max_tokens,
            "patch_size": backbone.patch_size,
            "mean": list(backbone.mean),
            "std": list(backbone.std),
            "positions": backbone.positions,
            "precision": str(dtype).removeprefix("torch."),
        },
    )  # fmt: skip
