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
    """Object regions: parts of the refined mask, which are cropped and embedded."""

    min_area: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Components smaller than this fraction of the image are dropped, except "
        "the largest one. A component is never cut into parts smaller than this.",
    )
    split: float = Field(
        1.0,
        ge=0,
        le=4,
        description="A component is cut into parts that are further apart than this multiple of "
        "the mean distance between two patches of the dataset (average linkage); 0: each component "
        "is one region, as in the paper.",
    )
    margin: float = Field(
        0.15,
        ge=0,
        le=2,
        description="Padding of the bounding box on each side, as a fraction of its side.",
    )
    crop_size: int = Field(
        224,
        ge=16,
        le=2048,
        description="Side of the square crop in pixels, rounded to a multiple of the patch size. "
        f"If not set, {DEFAULT.defaults['regions']['crop_size']} with the embedded backbone.",
    )
    masked: bool = Field(False, description="Paint the pixels outside the object mean grey.")


class LabellingSettings(Section):
    """Classes: a clustering of the descriptors of all regions.

    The other methods have no regions and read only `classes` and `seeds`.
    """

    classes: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto", "silhouette"] = Field(
        "auto",
        description="Number of object classes K. `auto`: the number of foreground classes in "
        "`classes.csv`, or 10 without that file; `silhouette`: chosen without labels, as the K "
        "with the highest mean silhouette of k-means, up to the square root of the number of "
        "regions (`method: lightcluster`). Scores for different K are not comparable.",
    )
    features: tuple[Literal["cls", "key", "patch"], ...] = Field(
        ("cls", "key"),
        min_length=1,
        description="Descriptor of a region. `cls`: the CLS token of its crop (the paper); "
        "`key`: the mean key of the crop's patches that it covers; `patch`: the mean feature of "
        "the image's patches that it covers. Each is centred and scaled to unit length.",
    )
    method: Literal["consensus", "kmeans"] = Field(
        "consensus",
        description="`consensus`: average linkage on how often the k-means starts put two "
        "regions together; `kmeans`: the best of all starts.",
    )
    pca: int = Field(
        32,
        ge=0,
        le=4096,
        description="Number of principal components kept before L2 normalisation; 0: no "
        "projection.",
    )
    restarts: int = Field(50, ge=1, le=1000, description="Number of k-means++ starts.")
    iterations: int = Field(50, ge=1, le=1000, description="Lloyd iterations per start.")
    seeds: tuple[Seed, ...] = Field(
        (0, 1, 2, 3, 4),
        min_length=1,
        description="Labelling seeds: the labelling is repeated with each of them; scores are "
        "mean ± sd. If not set, 0 alone with `format: folder` without `labels`, where there are no "
        "scores.",
    )
    sample_regions: int = Field(
        4_096,
        ge=16,
        le=16_384,
        description="Maximum number of regions that the classes are fitted on; the memory of "
        "the consensus grows with the square of this number (0.2 GB for the default).",
    )
