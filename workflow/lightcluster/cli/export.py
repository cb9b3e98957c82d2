"""``lightcluster export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lightcluster.exports.protocol import Options
from lightcluster.exports.registry import DEFAULT, EXPORTERS
from lightcluster.exports.registry import export as write

if TYPE_CHECKING:
    Target = str
else:
    Target = Literal[tuple(EXPORTERS)]

_TARGETS = "; ".join(f"{name}: {exporter.summary}" for name, exporter in EXPORTERS.items())


def export(
    run: Annotated[Path, typer.Argument(help="`results/<dataset>/<run>`, or `OUT` of `segment`.")],
    out: Annotated[Path, typer.Option(help="File or folder to write; see --to.")],
    to: Annotated[Target, typer.Option("--to", "--format", help=f"{_TARGETS}.")] = DEFAULT,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Maximum deviation of polygons in pixels; 0: exact.")
    ] = 1.0,
    images: Annotated[
        str | None,
        typer.Option(help="Folder or URL to put in front of the image paths in what is written."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Labelling seed; by default the first.")
    ] = None,
) -> None:
    """Export segmentations to a format that other tools can read."""
    count = write(run, out, to, Options(tolerance=tolerance, images=images), seed)
    typer.echo(f"{count} objects: {out}")
