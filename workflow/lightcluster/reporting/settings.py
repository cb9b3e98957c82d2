"""The section `report` of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lightcluster.sections import (
    Section,
    Seed,
)


class ReportSettings(Section):
    """The report of a run, its gallery, and which segmentations are written."""

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
        "of eight images, by tokens and by keys; 0: none.",
    )
    gallery: int = Field(
        5000,
        ge=0,
        le=1_000_000,
        description="Number of images in the [gallery](../docs/reference/results.md#gallery), "
        "which shows a sample of a larger dataset; 0: no gallery.",
    )
    segmentations: Literal["first", "all"] = Field(
        "first",
        description="Labelling seeds whose segmentations are written as PNGs: the first of "
        "`labelling.seeds`, which the report, the gallery and models use, or all. Scores are of "
        "all seeds in either case. Other methods than `lightcluster` always write all.",
    )
