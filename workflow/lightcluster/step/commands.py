"""All steps, under one command."""

from __future__ import annotations

from importlib import import_module

from lightcluster.commission import end_with_the_run
from lightcluster.entry import call
from lightcluster.step.declaration import app

for module in ("dataset", "features", "clustering", "masks", "regions", "model", "cause",
             "evaluation", "reporting"):  # fmt: skip
    import_module(f"lightcluster.step.{module}")  # its steps declare themselves


def main() -> None:
    """Do the step that the arguments name."""
    call(app, before=end_with_the_run)
