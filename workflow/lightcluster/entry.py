"""What the command lines have in common: how they are entered and left, and common options."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from lightcluster.errors import LightClusterError

Threads = Annotated[int, typer.Option(min=1, help="Threads of torch, faiss and BLAS.")]
Device = Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")]


def call(app: typer.Typer, before: Callable[[], None] | None = None) -> None:
    """Run a command line; a mistake in the input ends it with a message, not a traceback.

    Parameters
    ----------
    app : Typer
    before : callable, optional
        Called first; its mistakes end alike.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("faiss").setLevel(logging.WARNING)
    try:
        if before is not None:
            before()
        app()
    except LightClusterError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise SystemExit(1) from None
