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
        description="`attention`: higher mean CLS attention; `border`: fewer border patches; "
        "`center`: nearer the centre.",
    )


class ConsistencySettings(Section):
    """How the three levels agree on one patch mask (Algorithm 1 of the paper; the rule is ours)."""

    rule: Literal["majority", "any", "all", "dataset", "category", "image"] = Field(
        "majority", description="Vote of the three levels, or one level alone."
    )


class ReestimationSettings(Section):
    """The foreground estimated anew, from what masks take of each cluster (beyond the paper)."""

    rounds: int = Field(
        3,
        ge=0,
        le=100,
        description="Rounds; in each, clusters of patches are scored by the share of them that the "
        "filtered masks take. 0: the score of the levels is kept, as in the paper.",
    )
    start: Literal["image", "merged"] = Field(
        "image",
        description="Masks that the rounds begin with: those of the image level, which treats all "
        "images alike, or the merged ones.",
    )
    trees: int = Field(16, ge=1, le=64, description="Number of trees, whose scores are averaged.")
    clusters: int = Field(
        128,
        ge=2,
        le=1024,
        description="Clusters of patches in each tree.",
    )
    prior: float = Field(
        30,
        gt=0,
        description="Weight, in images, of the wider cluster that a cluster is a part of: a "
        "cluster of this many images is scored halfway between the two.",
    )
    radius: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Radius of the guided filter between rounds, as a share of the image's short "
        "side.",
    )
    epsilon: float = Field(
        1e-3,
        gt=0,
        description="Epsilon of that filter: a variance of colours (in [0, 1]) below this is no "
        "edge.",
    )
    sample_tokens: int = Field(
        1_048_576,
        ge=256,
        description="Patches that the shares are counted on, at most: whole images, drawn evenly "
        "over shards, at least one of each.",
    )


class UpsamplingSettings(Section):
    """From the patch grid to pixels."""

    method: Literal["bilinear", "nearest"] = Field(
        "bilinear", description="Interpolation of the patch score."
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="Foreground above this score.")
