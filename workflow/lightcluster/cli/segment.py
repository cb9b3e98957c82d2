"""``lightcluster segment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightcluster.entry import Device, Threads
from lightcluster.threads import use_threads


def segment(
    paths: Annotated[list[Path], typer.Argument(help="Image files and folders of images.")],
    model: Annotated[Path, typer.Option(help="`results/<dataset>/<run>/model`, or a copy of it.")],
    out: Annotated[Path, typer.Option(help="Output folder: new, or that of an earlier call.")],
    device: Device = "auto",
    threads: Threads = 2,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 8,
) -> None:
    """Segment new images with a fitted model, without refitting."""
    use_threads(1)
    from lightcluster.model import segment as apply
    from lightcluster.model.segmentation import describe

    folder = apply(paths, model, out, device=device, threads=threads, batch_size=batch_size)
    for line in describe(folder.parent):
        typer.echo(line)
