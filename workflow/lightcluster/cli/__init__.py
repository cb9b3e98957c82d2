"""The command line for people: commands to use before a run, and on its results.

The steps, which Snakemake calls, are in `lightcluster.step`. A command parses its arguments,
imports what it needs and calls one function.
"""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from lightcluster import __version__
from lightcluster.cli.check import check
from lightcluster.cli.configfile import TakesConfigfiles
from lightcluster.cli.export import export
from lightcluster.cli.names import names
from lightcluster.cli.plan import plan
from lightcluster.cli.pretrain import pretrain
from lightcluster.cli.run import run
from lightcluster.cli.segment import segment
from lightcluster.entry import call

app = typer.Typer(
    name="lightcluster",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Unsupervised semantic segmentation without training. Start the workflow with `run`, or "
    "with `snakemake --cores N`; use `check` and `plan` to check a configuration first.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lightcluster {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    del version  # its callback has ended the program


app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[CONFIG …] [OPTIONS]",
    epilog="Example: lightcluster run config/photos.yaml --cores 8",
)(run)
app.command(
    cls=TakesConfigfiles, epilog="Example: lightcluster check --configfile config/photos.yaml"
)(check)
app.command(cls=TakesConfigfiles, epilog="Example: lightcluster plan --configfile config/voc.yaml")(
    plan
)
app.command(
    epilog="Example: lightcluster segment new/ --model results/photos/lightcluster/model --out out"
)(segment)
app.command(epilog="Example: lightcluster names results/photos/lightcluster --set 3=dog")(names)
app.command(epilog="Example: lightcluster export results/demo/lightcluster --out objects.json")(
    export
)
app.command(epilog="Example: lightcluster pretrain pretrained --threads 4")(pretrain)


def main() -> None:
    """Run the command line; what the steps note in their logs is not shown to people."""
    call(app, level=logging.WARNING)
