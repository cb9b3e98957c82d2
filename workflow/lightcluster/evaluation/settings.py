"""The sections `evaluation` and `comparison` of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from lightcluster.sections import (
    Section,
    Seed,
)

ProtocolName = Literal["maskcontrast", "stego", "coco_things", "per_image"]
"""The protocols of `evaluation.protocols`; what each does is in `evaluation.protocols`."""


PER_IMAGE = "per_image"
"""The protocol that is no score of a dataset, and so has tables of its own."""


class EvaluationSettings(Section):
    """Evaluation protocols. Scores of different protocols are not comparable."""

    protocols: tuple[ProtocolName, ...] = Field(
        ("maskcontrast",),
        min_length=1,
        description="`maskcontrast`: original size, IoU-Hungarian and its variants, absent "
        "classes count 0; `stego`: 320 x 320, count-Hungarian, mean over the classes that occur "
        "or are predicted; `coco_things`: original size, IoU-Hungarian, absent classes count 0; "
        "`per_image`: each image matched separately, a diagnostic with its own tables. The "
        "figures show the first protocol.",
    )
    stego_squash: bool = Field(
        False,
        description="For `stego`: squash images to 320 x 320, as CAUSE does for VOC, instead "
        "of resizing the short side to 320 and taking the centre crop.",
    )

    @field_validator("protocols")
    @classmethod
    def _one_is_of_the_dataset(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse `per_image` by itself."""
        if set(names) == {PER_IMAGE}:
            raise PydanticCustomError(
                "diagnostic", "per_image is a diagnostic; at least one other protocol is needed"
            )
        return names


BenchmarkName = Literal["none", "voc2012", "coco_stuff_27", "coco_81", "coco_171", "cityscapes"]


class ComparisonSettings(Section):
    """Comparison of the runs with each other and with published results."""

    published: BenchmarkName = Field(
        "none",
        description="The benchmark that the dataset is; its published scores "
        "(`resources/published.csv`) are listed below the measured ones.",
    )
    resamples: int = Field(
        1000,
        ge=100,
        le=100_000,
        description="Number of bootstrap resamples of the images, for the confidence intervals "
        "of the differences between runs.",
    )
    seed: Seed = Field(0, description="Seed of the bootstrap.")
