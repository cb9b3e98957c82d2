"""The sections `regions` and `labelling` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lightcluster.extraction.backbones.registry import DEFAULT
from lightcluster.sections import (
    Section,
    Seed,
)


class RegionSettings(Section):
    """Objects: parts of the refined mask, cropped and embedded."""

    min_area: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Share of the image below which a component is dropped; "
        "the largest one is always kept. The parts that a component is cut into are no smaller.",
    )
    split: float = Field(
        1.0,
        ge=0,
        le=4,
        description="A component is cut into parts whose patches lie further apart than this "
        "multiple of the mean distance of two patches of the dataset (average linkage); 0: a "
        "component is one region (the paper).",
    )
    margin: float = Field(
        0.15, ge=0, le=2, description="Growth of the box at each side, as a share of its side."
    )
    crop_size: int = Field(
        224,
        ge=16,
        le=2048,
        description="Side of the square crop in pixels, rounded to multiples of the patch. Where "
        f"it is not set, {DEFAULT.defaults['regions']['crop_size']} with the embedded backbone.",
    )
    masked: bool = Field(False, description="Paint the pixels outside of the object mean grey.")


class LabellingSettings(Section):
    """Classes: k-means on what describes all regions.

    The other methods have no regions and read `classes` and `seeds` alone.
    """

    classes: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto", "silhouette"] = Field(
        "auto",
        description="Number of object classes K; `auto`: the foreground classes of `classes.csv`, "
        "or 10 without one; `silhouette`: chosen without labels, the number up to the square root "
        "of the regions' whose k-means has the highest mean silhouette (`method: lightcluster`). "
        "Scores of different K cannot be compared.",
    )
    features: tuple[Literal["cls", "key", "patch"], ...] = Field(
        ("cls", "key"),
        min_length=1,
        description="What describes a region: `cls`, the CLS token of its crop (the paper); `key`, "
        "the mean key of the crop's patches that it covers; `patch`, the mean feature of the "
        "image's patches that it covers. Each is centred and of unit length.",
    )
    method: Literal["consensus", "kmeans"] = Field(
        "consensus",
        description="`kmeans`: the best of all starts; `consensus`: average linkage on how often "
        "they put two regions together.",
    )
    pca: int = Field(
        32, ge=0, le=4096, description="Principal components kept before L2; 0: no projection."
    )
    restarts: int = Field(50, ge=1, le=1000, description="k-means++ starts.")
    iterations: int = Field(50, ge=1, le=1000, description="Lloyd iterations of each start.")
    seeds: tuple[Seed, ...] = Field(
        (0, 1, 2, 3, 4),
        min_length=1,
        description="The labelling is repeated with each of these; scores are mean ± sd.",
    )
    sample_regions: int = Field(
        4_096,
        ge=16,
        le=16_384,
        description="Regions that the classes are fitted on at most; a consensus takes memory that "
        "grows with their square, 0.2 GB for the default.",
    )
