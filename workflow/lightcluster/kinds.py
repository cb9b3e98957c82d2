"""The kinds of runs, by their method, and the sections that say how images are segmented."""

from __future__ import annotations

from typing import Literal, get_args

METHOD = (
    "backbone", "features", "clustering", "superclasses", "foreground", "consistency",
    "reestimation", "upsampling", "refinement", "regions", "labelling",
)  # fmt: skip
"""Sections that say how images are segmented, but not which images."""

Kind = Literal["lightcluster", "applied", "kmeans", "cause", "cause-applied"]
"""What a run does: its `method`; ``applied`` and ``cause-applied`` fit nothing (`fit.model`)."""

KINDS: tuple[Kind, ...] = get_args(Kind)

OURS: tuple[Kind, ...] = ("lightcluster", "applied")
FITTED: tuple[Kind, ...] = ("lightcluster",)
APPLIED: tuple[Kind, ...] = ("applied",)
CAUSE: tuple[Kind, ...] = ("cause", "cause-applied")
TRAINED: tuple[Kind, ...] = ("cause",)
WITHOUT_TRAINING: tuple[Kind, ...] = (*OURS, "kmeans")
