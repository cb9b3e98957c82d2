"""The sections `clustering` and `superclasses` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lightcluster.sections import (
    Section,
    Seed,
)


class ClusteringSettings(Section):
    """k-means of the patch features at the three levels."""

    normalize: Literal["l2", "none"] = Field("l2", description="Scaling of each patch feature.")
    metric: Literal["spherical", "euclidean"] = Field(
        "spherical", description="Cosine or Euclidean distance."
    )
    k_dataset: int = Field(2, ge=2, le=64, description="Clusters of the whole dataset.")
    k_category: int = Field(2, ge=2, le=64, description="Clusters of each superclass.")
    k_image: int = Field(2, ge=2, le=64, description="Clusters of each image.")
    sample_tokens: int = Field(
        16_384,
        ge=256,
        description="Patches, drawn evenly over shards, that the dataset and "
        "category levels are fitted on, at most.",
    )
    restarts: int = Field(
        4,
        ge=1,
        le=100,
        description="k-means++ starts of the dataset and category levels and of the superclasses; "
        "the best one is kept.",
    )
    restarts_image: int = Field(
        5,
        ge=1,
        le=100,
        description="The same at the image level, where they cost most; with more of them the "
        "result depends less on the seed.",
    )
    iterations: int = Field(25, ge=1, le=1000, description="Lloyd iterations of each start.")
    seed: Seed = Field(0, description="Seed of the sample and of every k-means but labelling.")


class SuperclassSettings(Section):
    """Groups of similar images, by k-means on their L2-normalised CLS tokens."""

    count: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field(
        "auto", description="Number of groups; `auto`: one for every 20 images, from 1 to 20."
    )
    min_images: int = Field(
        10, ge=1, description="Smaller groups are merged into the nearest one (said in the log)."
    )
    sample_images: int = Field(
        2_048, ge=16, description="Images that the groups are fitted on at most."
    )
