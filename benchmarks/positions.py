"""Position embeddings resized as in the released code and as in timm.

Compares `backbone.positions: as_released` with `timm`, on the same images with the same weights:
the difference of the resized embeddings (RMS, relative to timm's) on the grids of the images, and
the effect on the features: the cosine between the keys of each patch in the first and last block,
and between the class tokens. Nothing is timed.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import torch
import torch.nn.functional as functional
import typer
from harness import Report
from inputs import (
    DEFAULT_MODEL,
    SETTINGS,
    CountOption,
    ImagesOption,
    ModelOption,
    WeightsOption,
    prepare_input,
)
from numpy.typing import NDArray

from lightcluster.extraction.backbones.positions import embed_positions
from lightcluster.extraction.backbones.vision_transformer import VisionTransformerBackbone
from lightcluster.extraction.images import target_size
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.shard import prepare_row

SIDES = (7, 20, 28, 40)
"""Square grids that embeddings are compared at, beside those of the images."""


def apart(
    timm: VisionTransformerBackbone, released: VisionTransformerBackbone, grid: tuple[int, int]
) -> float:
    """Return the RMS of the difference of two embeddings, in per cent of that of timm's."""
    nothing = torch.zeros(1, *grid, timm.dim)
    first, second = (
        embed_positions(one.model, nothing, one.positions)[:, one.prefix_tokens :]
        for one in (timm, released)
    )
    return 100 * float((second - first).norm() / first.norm())


def main(
    images: ImagesOption = None,
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    count: CountOption = 100,
) -> None:
    """Compare embeddings, keys and class tokens."""
    features = SETTINGS.features
    keys: dict[str, list[NDArray[np.float32]]] = {"first": [], "last": []}
    tokens, embeddings = [], []
    with TemporaryDirectory() as name, torch.inference_mode():
        source = prepare_input(Path(name), count, images=images, model=model, weights=weights)
        timm = source.backbone()
        released = open_backbone(source.weights, "cpu", None, None, "as_released")
        for row in source.rows:
            image = row.image
            size = target_size(
                image.height, image.width, features.short_side, timm.patch_size, features.max_tokens
            )
            pixels = prepare_row(image, size, timm, SETTINGS.dataset.max_pixels).pixels
            batch = torch.from_numpy(pixels)[None]
            blocks = [one.forward_layers(batch, ("key",)) for one in (timm, released)]
            for block, found in keys.items():
                one, other = (of[0 if block == "first" else -1] for of in blocks)
                found.append(
                    functional.cosine_similarity(
                        one.facets["key"][0], other.facets["key"][0], dim=-1
                    ).numpy()
                )
            tokens.append(float(functional.cosine_similarity(one.cls, other.cls)[0]))
            grid = cast("tuple[int, int]", tuple(side // timm.patch_size for side in size))
            embeddings.append(apart(timm, released, grid))
    report = Report("positions", source.subject)
    for side in SIDES:
        grid = (side, side)
        report.add(f"embedding of {side} x {side} patches", "% RMS", apart(timm, released, grid))
    report.add("embedding, at the images' grids", "% RMS", embeddings)
    for block, found in keys.items():
        cosines = np.concatenate(found)
        for name, share in (("median", 0.5), ("1 in 100 is lower", 0.01), ("1 in 1,000", 0.001)):
            report.add(f"keys of the {block} block, {name}", "cosine",
                       float(np.quantile(cosines, share)))  # fmt: skip
    report.add("class tokens", "cosine", tokens)
    report.finish()


if __name__ == "__main__":
    typer.run(main)
