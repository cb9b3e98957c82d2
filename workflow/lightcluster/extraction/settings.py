"""The configuration sections `backbone` and `features`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from lightcluster.extraction.backbones.protocol import Declaration, Positions, Rotation
from lightcluster.extraction.backbones.registry import DECLARED, DEFAULT, declaration_of
from lightcluster.sections import Section, Seed, Share, Spread, Word

VERSION = 3
"""Version of the extraction: of the step, and of the stores that an interrupted job leaves."""

Source = Literal["embedded", "hub", "file", "random", "none"]
"""Source of the weights; `none` for a model that is not a network."""


class BackboneSettings(Section):
    """The frozen Vision Transformer."""

    model: Word = Field(
        DEFAULT.name,
        description="Name of a [Vision Transformer of timm](../docs/reference/models.md)"
        + "".join(f", or `{own.name}`: {own.summary}" for own in DECLARED.values() if own.summary)
        + ".",
    )
    weights: Word = Field(
        "embedded",
        description="`embedded` (weights of the default model, in `resources/`, for the demo "
        "and tests), `hub` (those that timm publishes; `hub@REVISION`: as of a commit or tag of "
        "their repository), `random` (untrained), or the path of a safetensors file or torch "
        "checkpoint.",
    )
    seed: Seed = Field(0, description="Seed of `random` weights.")
    mean: tuple[Share, Share, Share] | None = Field(
        None,
        description="Mean of the RGB values, in [0, 1], for input normalisation; none: the "
        "value given by timm for the model.",
    )
    std: tuple[Spread, Spread, Spread] | None = Field(
        None, description="Standard deviation of the RGB values, likewise."
    )
    positions: Positions = Field(
        "timm",
        description="How position embeddings are resized to the patch grid of an image. "
        "`timm`: to the size of the grid, antialiased; `as_released`: as in the code of DINO, "
        "iBOT and DINOv2, by a scale factor with an offset, without antialiasing (models with "
        "registers, and those with rotary or relative positions: as `timm`).",
    )

    @property
    def declaration(self) -> Declaration:
        """Facts about the model that are known without building it."""
        return declaration_of(self.model)

    @property
    def source(self) -> Source:
        """Source of the weights."""
        if not self.declaration.network:
            return "none"
        match self.weights.partition("@"):
            case ("embedded" | "random" | "hub") as source, "", _:
                return source
            case "hub", "@", _:
                return "hub"
        return "file"

    @property
    def revision(self) -> str | None:
        """Commit, tag or branch of the hub's repository; None: the newest commit."""
        return self.weights.partition("@")[2] or None if self.source == "hub" else None

    @property
    def file(self) -> Path | None:
        """The file from which the weights are read; None for other sources."""
        files = {"embedded": self.declaration.weights, "file": Path(self.weights)}
        return files.get(self.source)


class FeatureSettings(Section):
    """The features taken from the backbone, and their resolution."""

    facet: Literal["key", "query", "value", "token", "auto"] = Field(
        "key",
        description="The vector of each patch that is clustered: keys (as in the paper), "
        "queries or values of the attention, or tokens; `auto`: the facet whose levels agree "
        "best, chosen without labels.",
    )
    layer: int | Literal["auto"] = Field(
        -1,
        description="Block that the facet is taken from; negative numbers count from the last "
        "block; `auto`: the block whose levels agree best, chosen without labels.",
    )
    rotation: Rotation = Field(
        "before",
        description="For models with rotary positions, such as DINOv3: whether keys and queries "
        "are taken `before` the rotation that adds the position of their patch, so that alike "
        "patches at different places have alike keys, or `after` it, as the attention compares "
        "them. Other models and facets do not depend on it.",
    )
    auto_images: int = Field(128, ge=8, description="Maximum number of images used by `auto`.")
    short_side: int = Field(
        448,
        ge=16,
        le=4096,
        description="Short side to which images are resized, in pixels, rounded to a multiple "
        f"of the patch size. If not set, {DEFAULT.defaults['features']['short_side']} with the "
        "embedded backbone, which was trained on small images only.",
    )
    max_tokens: int = Field(
        10_000,
        ge=16,
        description="Maximum number of patches per image; longer images are squashed along "
        "their long side.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Floating-point precision of the backbone; `auto`: bfloat16 if the device "
        "supports it.",
    )

    @property
    def automatic(self) -> bool:
        """Whether the facet or the layer is chosen automatically."""
        return "auto" in (self.facet, self.layer)
