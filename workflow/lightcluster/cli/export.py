"""``lightcluster export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    segmentation: Annotated[
        Path, typer.Argument(help="`segmentation/seed-N` of a run, or `OUT/segmentation`.")
    ],
    out: Annotated[Path, typer.Option(help="coco: a JSON file; panoptic: a folder.")],
    form: Annotated[
        Literal["coco", "panoptic"],
        typer.Option("--format", help="COCO objects or COCO panoptic."),
    ] = "coco",
) -> None:
    """Write segmentations in a format that other tools read."""
    from lightcluster.reporting import exports

    step = {"coco": exports.export_coco, "panoptic": exports.export_panoptic}[form]
    typer.echo(f"{step(segmentation, out)} objects: {out}")
