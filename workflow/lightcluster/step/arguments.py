"""What the commands of steps have in common: their arguments, and what they make of settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Settings = Annotated[
    dict[str, Any], typer.Argument(parser=json.loads, metavar="JSON", help="`steps.settings_of`.")
]
Shards = Annotated[int, typer.Argument(min=1, help="Number of shards.")]
Shard = Annotated[int, typer.Argument(min=0, help="Number of this shard.")]
OptionalPath = Annotated[Path | None, typer.Option()]


def section(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the settings of a section by their own keys."""
    given = ((key.partition("."), value) for key, value in settings.items())
    return {key: value for (section, _, key), value in given if section == name}


def backbone_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that all steps that run the backbone have in common."""
    return {name: settings[f"backbone.{name}"] for name in ("mean", "std", "positions")}


def chosen(facet: str, layer: Any, choice: Path | None) -> tuple[Any, Any]:
    """Return the facet and the layer: those of the table of a choice, if there is one."""
    if choice is None:
        return facet, layer
    from lightcluster.layout import read_choice

    return read_choice(choice)
