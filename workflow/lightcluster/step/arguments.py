"""Types of the parameters of step functions, and the command-line options made of them.

Everything but the settings is an option with the name of its parameter, so a rule need not state
its command line: it follows from the names of the rule's inputs and outputs (`rules`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lightcluster import shards
from lightcluster.config import Config

Settings = Annotated[
    Config, typer.Argument(parser=json.loads, metavar="JSON", help="See `steps.settings_of`.")
]
"""Typer parses the JSON; `declaration.Step` turns it into the settings object of the step."""


def _count(text: str) -> shards.Shards:
    return shards.Shards(int(text))


Shards = Annotated[
    shards.Shards, typer.Option(parser=_count, metavar="INTEGER", help="Number of shards.")
]
Shard = Annotated[int, typer.Option(min=0, help="Number of this shard.")]
Seed = Annotated[int, typer.Option(min=0, help="Labelling seed.")]
BatchSize = Annotated[int, typer.Option(min=1)]
Text = Annotated[str, typer.Option()]
File = Annotated[Path, typer.Option()]
"""A file or a folder."""

OptionalFile = Annotated[Path | None, typer.Option()]
Files = Annotated[list[Path], typer.Option(help="Repeat for each file.")]
OptionalFiles = Annotated[list[Path] | None, typer.Option(help="Repeat for each file.")]
FilesOfShards = Annotated[Path, typer.Option(help="Folder with one file per shard.")]
"""A folder, because a command line may be too short for the files of all shards."""

OptionalFilesOfShards = Annotated[Path | None, typer.Option(help="Folder with one file per shard.")]


def chosen(facet: str, layer: Any, choice: Path | None) -> tuple[Any, Any]:
    """Return the facet and layer from the table of the automatic choice, or those given."""
    if choice is None:
        return facet, layer
    from lightcluster.layout import read_choice

    return read_choice(choice)
