"""All steps, under one command."""

from __future__ import annotations

from importlib import import_module

import typer

from lightcluster.commission import end_with_the_run
from lightcluster.entry import call
from lightcluster.methods.registry import METHODS
from lightcluster.step.declaration import app

MODULES = (
    "lightcluster.step.dataset",
    "lightcluster.step.features",
    *(module for method in METHODS.values() for module in method.steps),
    "lightcluster.step.evaluation",
    "lightcluster.step.reporting",
)

for module in MODULES:
    import_module(module)  # its steps declare themselves


COMMAND = typer.main.get_command(app)
"""Built once, before the fork server forks: this takes longer than many steps."""


def main() -> None:
    """Run the step named by the command-line arguments."""
    call(COMMAND, before=end_with_the_run)
