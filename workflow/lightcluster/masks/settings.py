"""The sections of the configuration from the levels to the patch score."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lightcluster.sections import (
    Section,
)


class ForegroundSettings(Section):
    """Which clusters of an image are foreground: a vote of rules, one vote each."""

    rules: tuple[Literal["attention", "border", "center"], ...] = Field(
        ("attention", "border", "center"),
        min_length=1,
        description="`attention`: higher mean CLS attention; `border`: fewer patches at the "
        "border; `center`: closer to the centre.",
    )


class ConsistencySettings(Section):
    """How the levels are merged into a patch mask (Algorithm 1 of the paper; the rule is ours)."""

    rule: Literal["majority", "any", "all", "dataset", "category", "image"] = Field(
        "majority", description="Vote of the three levels, or a single level."
    )


class ReestimationSettings(Section):
    """Re-estimated foreground: how much of each cluster the masks cover (beyond the paper)."""

    rounds: int = Field(
        3,
        ge=0,
        le=100,
        description="Number of rounds; in each, clusters of patches are scored by the fraction "
        "of their patches that the filtered masks cover. 0: the score of the levels is kept, as "
        "in the paper.",
    )
    start: Literal["image", "merged"] = Field(
        "image",
        description="Masks that the first round starts from: those of the image level, which "
        "treats all images alike, or the merged ones.",
    )
    trees: int = Field(16, ge=1, le=64, description="Number of trees, whose scores are averaged.")
    clusters: int = Field(
        128,
        ge=2,
        le=1024,
        description="Number of patch clusters in each tree.",
    )
    prior: float = Field(
        30,
        gt=0,
        description="Weight of a cluster's parent in the tree, as a number of images: the "
        "score of a cluster that occurs in this many images is halfway between its own and that "
        "of its parent.",
    )
    radius: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Radius of the guided filter between rounds, as a fraction of the image's "
        "short side.",
    )
    epsilon: float = Field(
        1e-3,
        gt=0,
        description="Epsilon of the guided filter between rounds: colour variance (for colours "
        "in [0, 1]) below which there is no edge.",
    )
    sample_tokens: int = Field(
        1_048_576,
        ge=256,
        description="Maximum number of patches on which the fractions are measured: whole "
        "images, sampled evenly over the shards, at least one per shard.",
    )


class UpsamplingSettings(Section):
    """Upsampling from the patch grid to pixels."""

    method: Literal["bilinear", "nearest"] = Field(
        "bilinear", description="Interpolation of the patch scores."
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="Scores above this value are foreground.")
