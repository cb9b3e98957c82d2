"""The option ``--configfile``, as snakemake has it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Configs = Annotated[
    list[Path] | None,
    typer.Option(
        "--configfile",
        "--configfiles",
        metavar="FILE...",
        help="As for snakemake: one or more files that override config/config.yaml, in order.",
    ),
]


class TakesConfigfiles(TyperCommand):
    """A command that takes several files after ``--configfile``, as snakemake does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option for each file that follows it."""
        return super().parse_args(ctx, _repeat_configfile(args))


def _repeat_configfile(args: list[str]) -> list[str]:
    """Return ``--configfile A B`` as ``--configfile A --configfile B``."""
    repeated: list[str] = []
    place, options = 0, 0  # where the files of an option begin, while it takes files
    for arg in args:
        name, sign, _ = arg.partition("=")
        if name in ("--configfile", "--configfiles"):
            options += 1
            repeated.append(arg)
            place = 0 if sign else len(repeated)
        elif arg.startswith("-"):
            repeated.append(arg)
            place = 0
        else:
            repeated += [repeated[place - 1]] if 0 < place < len(repeated) else []
            repeated.append(arg)
    if options > 1:
        raise typer.BadParameter(
            "give all files after one --configfile: of several, snakemake reads the last alone"
        )
    return repeated
