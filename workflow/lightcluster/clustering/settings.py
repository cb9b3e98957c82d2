"""The sections `clustering` and `superclasses` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lightcluster.sections import (
    Section,
    Seed,
)


class ClusteringSettings(Section):
    """k-means on the patch features at the three levels."""

    normalize: Literal["l2", "none"] = Field(
        "l2", description="Normalisation of each patch feature."
    )
    metric: Literal["spherical", "euclidean"] = Field(
        "spherical", description="`spherical`: cosine distance; `euclidean`: Euclidean distance."
    )
    k_dataset: int = Field(2, ge=2, le=64, description="Number of clusters at the dataset level.")
    k_category: int = Field(
        2, ge=2, le=64, description="Number of clusters per superclass at the category level."
    )
    k_image: int = Field(
        2, ge=2, le=64, description="Number of clusters per image at the image level."
    )
    sample_tokens: int = Field(
        16_384,
        ge=256,
        description="Maximum number of patches that the dataset and category levels are fitted "
        "on, sampled evenly over the shards.",
    )
    restarts: int = Field(
        4,
        ge=1,
        le=100,
        description="Number of k-means++ starts for the dataset and category levels and the "
        "superclasses; the best one is kept.",
    )
    restarts_image: int = Field(
        5,
        ge=1,
        le=100,
        description="Number of k-means++ starts at the image level, where they cost most; more "
        "starts make the result depend less on the seed.",
    )
    iterations: int = Field(25, ge=1, le=1000, description="Lloyd iterations per start.")
    seed: Seed = Field(
        0,
        description="Clustering seed: for the samples and all k-means starts, except those of "
        "the labelling.",
    )


class SuperclassSettings(Section):
    """Groups of similar images, found by k-means on their L2-normalised CLS tokens."""

    count: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field(
        "auto", description="Number of superclasses; `auto`: one per 20 images, from 1 to 20."
    )
    min_images: int = Field(
        10,
        ge=1,
        description="Superclasses with fewer images are merged into the nearest one (noted in "
        "the log).",
    )
    sample_images: int = Field(
        2_048, ge=16, description="Maximum number of images that the superclasses are fitted on."
    )
