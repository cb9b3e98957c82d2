"""``lightcluster pretrain``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from lightcluster.entry import Device, Threads
from lightcluster.threads import device_of, use_threads


def pretrain(
    output: Annotated[
        Path, typer.Argument(help="Folder for the images, the checkpoint and the weights.")
    ],
    recipe: Annotated[
        Path | None, typer.Option(help="YAML file with the hyperparameters to override.")
    ] = None,
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Train the small backbone on generated scenes; run it again to resume."""
    logging.getLogger("lightcluster.pretraining").setLevel(logging.INFO)  # its losses
    use_threads(threads)
    from lightcluster.pretraining.recipe import read_recipe
    from lightcluster.pretraining.training import pretrain as train

    typer.echo(train(output, read_recipe(recipe), device=device_of(device), threads=threads))
