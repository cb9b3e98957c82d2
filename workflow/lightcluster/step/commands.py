"""All steps, under one command."""

from __future__ import annotations

from lightcluster.commission import end_with_the_run
from lightcluster.entry import call
from lightcluster.step import (
    cause,
    clustering,
    dataset,
    evaluation,
    features,
    masks,
    model,
    regions,
    reporting,
)
from lightcluster.step.arguments import app

__all__ = [
    "app", "cause", "clustering", "dataset", "evaluation", "features", "main", "masks", "model",
    "regions", "reporting",
]  # fmt: skip


def main() -> None:
    """Do the step that the arguments name."""
    call(app, before=end_with_the_run)
