"""Every number that decides the weights, in one place."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from lightcluster.configfiles import read_file
from lightcluster.errors import ConfigError
from lightcluster.extraction.backbones.registry import DEFAULT
from lightcluster.sections import Section, find_mistakes


class Recipe(Section):
    """How the backbone is trained; the same recipe, threads and device give the same weights.

    The shares of the image area (`global_area`, `local_area`) are pairs in (0, 1].
    """

    model: str = Field(DEFAULT.name, description="Name of a timm Vision Transformer.")
    seed: int = Field(0, ge=0, description="Of initialisation, order, views and masks.")
    objects: int = Field(4_000, ge=2, description="Of the corpus, with four pictures of each.")
    scenes_seed: int = Field(
        1_000, ge=1_000, description="Of the pictures; demos have smaller ones: none is seen."
    )
    scene_side: int = Field(128, ge=32, description="Side of a picture in pixels.")
    object_share: tuple[float, float] = Field(
        (0.3, 0.6), description="Share of a picture that its object is drawn at."
    )
    defocus: tuple[float, float] = Field(
        (2.5, 6.5), description="Blur of what lies behind it, pixels: more than in demos."
    )
    noise: tuple[float, float] = Field(
        (0.004, 0.02), description="Of the sensor, as a share of white; demos have less."
    )
    steps: int = Field(6_000, ge=1, description="Optimiser steps.")
    batch: int = Field(24, ge=2, description="Objects of a step.")
    learning_rate: float = Field(2e-3, gt=0, description="Highest; cosine to 2 % of it.")
    warmup: float = Field(0.04, ge=0, lt=1, description="Share of the steps with a rising rate.")
    weight_decay: float = Field(0.05, ge=0, description="Of matrices, not of vectors.")
    clip: float = Field(3.0, gt=0, description="Greatest norm of a gradient.")
    momentum: float = Field(0.98, gt=0, lt=1, description="Of the teacher; rises to 1 by cosine.")
    global_side: int = Field(80, ge=16, description="Pixels of the teacher's views.")
    global_area: tuple[float, float] = (0.4, 1.0)
    local_views: int = Field(
        8, ge=1, description="Small views of each object, for the student alone."
    )
    local_side: int = Field(32, ge=16, description="Pixels of the small views.")
    local_area: tuple[float, float] = (0.15, 0.5)
    jitter: float = Field(0.8, ge=0, le=1, description="Strength of the change of light.")
    inverted: float = Field(0.5, ge=0, le=1, description="Probability that it is a negative.")
    masked: float = Field(
        0.7, ge=0, le=1, description="Share of the student's views that are masked."
    )
    masked_patches: tuple[float, float] = Field(
        (0.1, 0.5), description="Share of the patches hidden in these."
    )
    bottleneck: int = Field(64, ge=2, description="Width of the space of the prototypes.")
    bases: int = Field(2, ge=1, description="Bases of that space; their vectors are prototypes.")
    sharpness: float = Field(2.5, gt=0, description="Standard deviation of the teacher's logits.")
    temperature: float = Field(0.1, gt=0, description="Of the student's cosine similarities.")
    patch_weight: float = Field(0.5, ge=0, description="Weight of the loss of masked patches.")

    @property
    def prototypes(self) -> int:
        """Number of prototypes of class tokens; patches have as many."""
        return self.bases * self.bottleneck


def read_recipe(path: Path | None) -> Recipe:
    """Return the recipe with the keys that a YAML file changes; the default one without a file.

    Raises
    ------
    ConfigError
        If the file cannot be read; lists all keys that are unknown or out of range.
    """
    if path is None:
        return Recipe()
    changes = read_file(path)
    if problems := find_mistakes(changes, Recipe):
        raise ConfigError("\n".join([f"{path}: not a recipe:", *(f"  - {x}" for x in problems)]))
    return Recipe.model_validate(changes)
