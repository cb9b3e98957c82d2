"""Running a command line, and options that several command lines share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from lightcluster.errors import LightClusterError

Threads = Annotated[int, typer.Option(min=1, help="Threads of torch, faiss and BLAS.")]
Device = Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")]


def call(
    app: Callable[[], object],
    before: Callable[[], None] | None = None,
    *,
    level: int = logging.INFO,
) -> None:
    """Run a command line; errors in the input are reported by a message without traceback.

    Parameters
    ----------
    app : callable
        A Typer, or the command made of one.
    before : callable, optional
        Called first; its errors are reported in the same way.
    level : int
        Messages below it are not shown.
    """
    logging.basicConfig(level=level, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("faiss").setLevel(logging.WARNING)
    try:
        if before is not None:
            before()
        app()
    except LightClusterError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise SystemExit(1) from None
