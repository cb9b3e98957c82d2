"""What the commands of steps have in common: their arguments."""

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
    shards.Shards, typer.Argument(parser=_count, metavar="INTEGER", help="Number of shards.")
]
Shard = Annotated[int, typer.Argument(min=0, help="Number of this shard.")]
OptionalPath = Annotated[Path | None, typer.Option()]


def chosen(facet: str, layer: Any, choice: Path | None) -> tuple[Any, Any]:
    """Return the facet and the layer: those of the table of a choice, if there is one."""
    if choice is None:
        return facet, layer
    from lightcluster.layout import read_choice

    return read_choice(choice)
