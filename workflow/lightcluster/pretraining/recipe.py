"""All hyperparameters of the pretraining."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from lightcluster.configfiles import read_file
from lightcluster.errors import ConfigError
from lightcluster.extraction.backbones.registry import DEFAULT
from lightcluster.sections import Section, find_mistakes


class Recipe(Section):
    """Hyperparameters; the same recipe, number of threads and device give the same weights.

    `global_area` and `local_area` are the smallest and largest share of the image area, in (0, 1].
    """

    model: str = Field(DEFAULT.name, description="Name of a timm Vision Transformer.")
    seed: int = Field(0, ge=0, description="Seed of initialisation, order, views and masks.")
    objects: int = Field(4_000, ge=2, description="Number of objects, each with four pictures.")
    scenes_seed: int = Field(
        1_000,
        ge=1_000,
        description="Seed of the pictures; demos use smaller ones, so their scenes are not seen.",
    )
    scene_side: int = Field(128, ge=32, description="Side of a picture in pixels.")
    object_share: tuple[float, float] = Field(
        (0.3, 0.6), description="Smallest and largest share of a picture that its object covers."
    )
    defocus: tuple[float, float] = Field(
        (2.5, 6.5),
        description="Smallest and largest blur of the background: standard deviation in pixels.",
    )
    noise: tuple[float, float] = Field(
        (0.004, 0.02),
        description="Smallest and largest sensor noise, as a share of white; demos have less.",
    )
    steps: int = Field(6_000, ge=1, description="Number of optimiser steps.")
    batch: int = Field(24, ge=2, description="Objects per step.")
    learning_rate: float = Field(
        2e-3, gt=0, description="Highest learning rate; decays to 2 % of it by a cosine."
    )
    warmup: float = Field(
        0.04, ge=0, lt=1, description="Share of the steps with a rising learning rate."
    )
    weight_decay: float = Field(0.05, ge=0, description="Weight decay of matrices, not of vectors.")
    clip: float = Field(3.0, gt=0, description="Maximum gradient norm.")
    momentum: float = Field(
        0.98, gt=0, lt=1, description="Momentum of the teacher; rises to 1 by a cosine."
    )
    global_side: int = Field(80, ge=16, description="Side of the teacher's views in pixels.")
    global_area: tuple[float, float] = (0.4, 1.0)
    local_views: int = Field(
        8, ge=1, description="Small views of each object, which only the student sees."
    )
    local_side: int = Field(32, ge=16, description="Side of the small views in pixels.")
    local_area: tuple[float, float] = (0.15, 0.5)
    jitter: float = Field(
        0.8, ge=0, le=1, description="Strength of random contrast and brightness changes."
    )
    inverted: float = Field(0.5, ge=0, le=1, description="Probability of inverting a view.")
    masked: float = Field(
        0.7, ge=0, le=1, description="Share of the student's global views with masked patches."
    )
    masked_patches: tuple[float, float] = Field(
        (0.1, 0.5), description="Smallest and largest share of masked patches in these."
    )
    bottleneck: int = Field(64, ge=2, description="Dimension of the prototypes.")
    bases: int = Field(
        2, ge=1, description="Number of orthonormal bases whose vectors are the prototypes."
    )
    sharpness: float = Field(2.5, gt=0, description="Standard deviation of the teacher's logits.")
    temperature: float = Field(
        0.1, gt=0, description="Temperature of the student's cosine similarities."
    )
    patch_weight: float = Field(0.5, ge=0, description="Weight of the loss of masked patches.")

    @property
    def prototypes(self) -> int:
        """Number of prototypes, equal for class tokens and patches."""
        return self.bases * self.bottleneck


def read_recipe(path: Path | None) -> Recipe:
    """Return the default recipe with the changes in a YAML file, if one is given.

    Raises
    ------
    ConfigError
        If the file cannot be read, or has unknown keys or invalid values; all are listed.
    """
    if path is None:
        return Recipe()
    changes = read_file(path)
    if problems := find_mistakes(changes, Recipe):
        raise ConfigError(
            "\n".join([f"{path}: not a valid recipe:", *(f"  - {x}" for x in problems)])
        )
    return Recipe.model_validate(changes)
