"""``lightcluster check``."""

from __future__ import annotations

import typer

from lightcluster.cli.configfile import Configs


def check(configfile: Configs = None) -> None:
    """Check a configuration, its dataset and its weights, and print a summary."""
    from lightcluster.preview import check_all

    raise typer.Exit(check_all(configfile or []))
