"""The section `report` of the configuration."""

from __future__ import annotations

from pydantic import Field

from lightcluster.sections import (
    Section,
    Seed,
)


class ReportSettings(Section):
    """The report of a run and its gallery."""

    samples: int = Field(
        16, ge=1, le=200, description="Number of images shown that are chosen at random."
    )
    seed: Seed = Field(0, description="Seed for choosing these images.")
    failures: int = Field(
        8,
        ge=0,
        le=100,
        description="Number of likely failures shown of each kind: images with an empty mask, "
        "images on which the levels agree least and, with labels, images with the worst masks or "
        "classes.",
    )
    parts: int = Field(
        4,
        ge=0,
        le=64,
        description="Number of clusters into which the report divides the foreground patches "
        "of 64 images, by tokens and by keys; 0: none.",
    )
    gallery: bool = Field(
        True,
        description="Whether there is a [gallery](../docs/reference/results.md#gallery) of all "
        "images.",
    )
