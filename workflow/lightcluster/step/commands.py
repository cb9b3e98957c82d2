"""All steps, under one command."""

from __future__ import annotations

from importlib import import_module

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


def main() -> None:
    """Do the step that the arguments name."""
    call(app, before=end_with_the_run)
