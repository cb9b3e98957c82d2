"""``lightcluster run``."""

from __future__ import annotations

import os
import signal
import sys
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer

PLAIN = ("-n", "--dry-run", "--dryrun", "--lint", "--report", "--unlock", "--dag", "--rulegraph")
"""Options of Snakemake with which nothing is run that one could watch."""

OWN = Path(__file__).resolve().parents[2] / "Snakefile"
"""The workflow beside this package, in a checkout."""

_START = OWN.parent / "snakemake_logger_plugin_lightcluster" / "starting.py"


def run(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show the messages of Snakemake instead.")
    ] = False,
) -> None:
    """Run the workflow, and show how far it is.

    Takes configuration files, put over config/config.yaml, and then any options of Snakemake, which
    are passed on. Without --cores, all cores are used.
    """
    from lightcluster.configfiles import read_file

    for file in map(Path, given_files(context.args)):
        if file.is_file() or not file.exists():  # a pipe can be read only once
            read_file(file)
    command = snakemake_command(context.args, verbose=verbose)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until it is started
    os.execv(command[0], command)


def configfiles_of(arguments: list[str]) -> list[str]:
    """Return the configuration files: the arguments up to the first option."""
    return list(takewhile(lambda text: not text.startswith("-"), arguments))


def given_files(arguments: list[str]) -> list[str]:
    """Return all configuration files, also those after ``--configfile``."""
    files = configfiles_of(arguments)
    takes = False
    for argument in arguments[len(files) :]:
        name, sign, value = argument.partition("=")
        if argument.startswith("-"):
            takes = name in ("--configfile", "--configfiles")
            files += [value] * (takes and bool(sign))
        elif takes:
            files.append(argument)
    return files


def snakemake_command(arguments: list[str], *, verbose: bool) -> list[str]:
    """Return the command that does a run.

    Parameters
    ----------
    arguments : list of str
        Configuration files up to the first option, and options of Snakemake.
    verbose : bool
        Whether Snakemake shows its own messages.

    Returns
    -------
    list of str
    """
    files = configfiles_of(arguments)
    options = arguments[len(files) :]
    command = [sys.executable, "-P", str(_START)]
    if not _given(options, "--cores", "-c", "--jobs", "-j", "--profile", "--executor", "-e"):
        command += ["--cores", str(len(os.sched_getaffinity(0)))]
    if not _given(options, "--snakefile", "-s") and not any(
        Path(place).is_file() for place in ("Snakefile", "workflow/Snakefile")
    ):
        command += ["--snakefile", str(OWN)]
    if not verbose and not _given(options, *PLAIN):
        command += ["--logger", "lightcluster"]
    command += options
    return [*command, "--configfile", *files] if files else command


def _given(options: list[str], *names: str) -> bool:
    """Tell whether one of some options is given, also as --name=value or -jN."""
    return any(
        option == name
        or (name.startswith("--") and option.startswith(f"{name}="))
        or (not name.startswith("--") and option.startswith(name) and option[2:].isdigit())
        for option in options
        for name in names
    )
