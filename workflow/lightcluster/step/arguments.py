"""What the functions of steps are given, and as which options of their commands.

All but the settings are options, and each has the name of its parameter. So a rule need not say how
its step is called: the command follows from the names of its inputs and outputs (`rules`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lightcluster import shards
from lightcluster.config import Config

Settings = Annotated[
    Config, typer.Argument(parser=json.loads, metavar="JSON", help="`steps.settings_of`.")
]
"""Typer parses them as JSON; `declaration.Step` makes of it what the step's function is given."""


def _count(text: str) -> shards.Shards:
    return shards.Shards(int(text))


Shards = Annotated[
    shards.Shards, typer.Option(parser=_count, metavar="INTEGER", help="Number of shards.")
]
Shard = Annotated[int, typer.Option(min=0, help="Number of this shard.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the labelling.")]
BatchSize = Annotated[int, typer.Option(min=1)]
Text = Annotated[str, typer.Option()]
File = Annotated[Path, typer.Option()]
"""Or a folder."""

OptionalFile = Annotated[Path | None, typer.Option()]
Files = Annotated[list[Path], typer.Option(help="Given once for each.")]
OptionalFiles = Annotated[list[Path] | None, typer.Option(help="Given once for each.")]
FilesOfShards = Annotated[Path, typer.Option(help="Folder of a file of each shard.")]
"""As a folder, for there may be more shards than a command line has room for."""

OptionalFilesOfShards = Annotated[Path | None, typer.Option(help="Folder of a file of each shard.")]


def chosen(facet: str, layer: Any, choice: Path | None) -> tuple[Any, Any]:
    """Return the facet and the layer: those of the table of a choice, if there is one."""
    if choice is None:
        return facet, layer
    from lightcluster.layout import read_choice

    return read_choice(choice)
