"""The sections `backbone` and `features` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from lightcluster.extraction.backbones.protocol import Declaration, Positions
from lightcluster.extraction.backbones.registry import DECLARED, DEFAULT, declaration_of
from lightcluster.sections import Section, Seed, Share, Spread, Word

Source = Literal["embedded", "hub", "file", "random", "none"]
"""Where weights come from: `none` where there is no network."""


class BackboneSettings(Section):
    """The frozen Vision Transformer."""

    model: Word = Field(
        DEFAULT.name,
        description="Name of a timm Vision Transformer"
        + "".join(f"; or `{own.name}`, {own.summary}" for own in DECLARED.values() if own.summary)
        + ".",
    )
    weights: Word = Field(
        "embedded",
        description="`embedded` (of the model above, in `resources/`: for the demo and tests), "
        "`hub` (timm downloads them), `random` (untrained), or the path of a safetensors file or "
        "torch checkpoint.",
    )
    seed: Seed = Field(0, description="Seed of `random` weights.")
    mean: tuple[Share, Share, Share] | None = Field(
        None, description="Mean of the RGB values in [0, 1]; none: as timm states for the model."
    )
    std: tuple[Spread, Spread, Spread] | None = Field(
        None, description="Standard deviation, likewise."
    )
    positions: Positions = Field(
        "timm",
        description="How position embeddings are resized to the grid of an image: `timm`: to its "
        "size, antialiased; `as_released`: as the programs of DINO, iBOT and DINOv2 do, by a "
        "factor with an offset, without antialiasing (models with registers: as `timm`).",
    )

    @property
    def declaration(self) -> Declaration:
        """What is known of the model without building it."""
        return declaration_of(self.model)

    @property
    def source(self) -> Source:
        """Where the weights come from."""
        if not self.declaration.network:
            return "none"
        match self.weights:
            case "embedded" | "random" | "hub":
                return self.weights
        return "file"

    @property
    def file(self) -> Path | None:
        """The file that the weights are read from; None where they come from elsewhere."""
        files = {"embedded": self.declaration.weights, "file": Path(self.weights)}
        return files.get(self.source)


class FeatureSettings(Section):
    """What is read from the backbone, and at which resolution."""

    facet: Literal["key", "query", "value", "token", "auto"] = Field(
        "key",
        description="What is clustered: keys (as in the paper), queries or values of the "
        "attention, or tokens; `auto`: the facet whose levels agree best, without labels.",
    )
    layer: int | Literal["auto"] = Field(
        -1,
        description="Block that the facet is read from; negative numbers count from the last; "
        "`auto`: the block whose levels agree best, without labels.",
    )
    auto_images: int = Field(
        128, ge=8, description="Number of images that `auto` looks at, at most."
    )
    short_side: int = Field(
        448,
        ge=16,
        le=4096,
        description="Short side in pixels, rounded to multiples of the patch. Where it is not set, "
        f"{DEFAULT.defaults['features']['short_side']} with the embedded backbone, which has seen "
        "small images only.",
    )
    max_tokens: int = Field(
        10_000,
        ge=16,
        description="Largest number of patches of one image; longer images are squashed along "
        "their long side.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Arithmetic of the backbone; `auto`: bfloat16 where the device has it."
    )

    @property
    def automatic(self) -> bool:
        """Whether the facet or the layer is to be chosen."""
        return "auto" in (self.facet, self.layer)
