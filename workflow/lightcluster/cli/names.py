"""``lightcluster names``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def names(
    run: Annotated[Path, typer.Argument(help="`results/<dataset>/<run>`, or `OUT` of `segment`.")],
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="CLUSTER=NAME", help="Name a cluster; may be repeated."),
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A table of names that you downloaded from the gallery, or one with the columns "
            "cluster and name. An empty name takes one away.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Labelling seed; by default the first.")
    ] = None,
) -> None:
    """Name the clusters of a run; names stay when the clusters change.

    They are kept in `names.csv` in the folder of the run, which is yours to edit and which no step
    overwrites. Clusters of one name are one class; one that is called `background` is no class.
    """
    from lightcluster.errors import ConfigError
    from lightcluster.names.file import Table, read_table
    from lightcluster.names.listing import describe
    from lightcluster.names.run import open_named, update_names

    table = read_table(apply) if apply else Table({}, None)
    for item in given or []:
        cluster, sign, name = item.partition("=")
        if not sign or not cluster.strip().isdecimal():
            raise ConfigError(f"--set {item}: must be a cluster and a name, such as 3=dog")
        table.names[int(cluster)] = name
    named = open_named(run, seed)
    for line in describe(named, update_names(named, table)):
        typer.echo(line)
