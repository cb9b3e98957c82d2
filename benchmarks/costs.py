"""The cost of large datasets: time, disk, files and jobs for a number of images and a backbone.

Nothing is run. The figures follow from constants that were measured elsewhere, and from the
arithmetic of a Vision Transformer; what is measured and what is assumed is said beside the table
that is printed, which `docs/howto/clusters.md` shows.
"""

from __future__ import annotations

from typing import Annotated

import typer

from lightcluster.config import Config
from lightcluster.datasets.listing import count_shards
from lightcluster.estimate import EACH, REGIONS
from lightcluster.extraction.images import target_size
from lightcluster.extraction.opening import outline
from lightcluster.extraction.settings import BackboneSettings
from lightcluster.preview import Size

MODELS = (
    "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "vit_small_patch8_224"
)  # fmt: skip
HEIGHT, WIDTH = 480, 640

GPU, CORE = 50e12, 40e9
"""Operations per second: assumed of a GPU (a sixth of what an A100 has in bfloat16), and measured
of a core (ViT-Tiny/16, passes of `whole.py` on a busy machine without bfloat16)."""

REST_BYTES = 24e3
"""Bytes of an image in all results but the features, gallery and report: 1,200 VOC photographs."""

FILES, FILE_BYTES = 2, 64 * 2**20
"""Files of an image (PNGs of its mask and of its segmentation), and bytes of a file of a store."""

JOBS, JOBS_OF_A_SHARD = 15, 12
"""Of a run without labels; `planning.py`."""


def operations(tokens: int, dim: int, depth: int) -> float:
    """Return the operations of a forward pass: products with the weights, and attention."""
    return depth * (2 * 12 * tokens * dim**2 + 4 * tokens**2 * dim)


def row(images: int, model: str) -> list[str]:
    """Return the cells of the table for a number of images and a model."""
    config = Config(backbone=BackboneSettings(model=model, weights="random"))
    backbone, features = outline(model), config.features
    height, width = target_size(
        HEIGHT, WIDTH, features.short_side, backbone.patch_size, features.max_tokens
    )
    tokens = height * width // backbone.patch_size**2
    crop = (config.regions.crop_size // backbone.patch_size) ** 2
    passes = sum(
        count * operations(1 + seen, backbone.dim, backbone.depth)
        for count, seen in ((1, tokens), (REGIONS, crop))
    )
    size = Size(images, images * tokens, backbone.dim)
    shards = count_shards(images, config.dataset.shard_size)
    files = FILES * images + size.cache_bytes / FILE_BYTES
    return [
        f"{images:,}",
        model.removesuffix("_224"),
        hours(images * passes / GPU),
        hours(images * passes / CORE),
        hours(images * EACH),
        f"{readable(size.cache_bytes)} + {readable(images * REST_BYTES)}",
        f"{files / 1e6:.1f} M",
        f"{JOBS + JOBS_OF_A_SHARD * shards:,} ({shards})",
    ]


def hours(seconds: float) -> str:
    """Return hours with two digits."""
    count = seconds / 3600
    return f"{float(f'{count:.2g}'):,.0f}" if count >= 10 else f"{count:.2g}"


def readable(count: float) -> str:
    """Return bytes in GB or TB."""
    return f"{count / 1e12:.1f} TB" if count >= 1e12 else f"{count / 1e9:.0f} GB"


def main(
    images: Annotated[list[int] | None, typer.Option(help="Numbers of images.")] = None,
) -> None:
    """Print the table in Markdown."""
    head = ["images", "backbone", "GPU h", "or CPU core h", "other steps, core h",
            "disk: features + rest", "files", "jobs (shards)"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    lines += [row(count, model) for count in images or (10**5, 10**6, 10**7) for model in MODELS]
    for line in lines:
        typer.echo(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    typer.run(main)
