"""``lightcluster pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightcluster.entry import Device, Threads
from lightcluster.threads import device_of, use_threads


def pretrain(
    output: Annotated[Path, typer.Argument(help="Folder of pictures, checkpoint and weights.")],
    recipe: Annotated[
        Path | None, typer.Option(help="YAML with the keys of the recipe that differ.")
    ] = None,
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Train the small backbone on generated scenes; the same command resumes it."""
    use_threads(threads)
    from lightcluster.pretraining.recipe import read_recipe
    from lightcluster.pretraining.training import pretrain as train

    typer.echo(train(output, read_recipe(recipe), device=device_of(device), threads=threads))
