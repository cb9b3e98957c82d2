"""The section `cause` of the configuration, and the defaults that its recipe sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from lightcluster.methods.cause.recipe import TRAINING, released
from lightcluster.methods.sections import CommonSections
from lightcluster.sections import Section

EMBEDDED_SIZE = 192
"""Default of `size` that goes with the embedded backbone."""


class CauseSettings(Section):
    """CAUSE (arXiv 2310.07379), for `method: cause`: trained anew with each of `labelling.seeds`.

    It reads `backbone` and `features.precision`, and always the tokens after the last block.
    """

    recipe: Literal["ours", "released"] = Field(
        "ours",
        description="`ours`: the defaults of this table; `released`: those of the table below it, "
        "with which all is done as in the released program, but for the deviations listed in "
        "`docs/concepts/cause.md`. It only sets defaults: a key that is given counts, so that each "
        "departure can be tried by itself.",
    )
    head: Literal["mlp", "tr"] = Field(
        "mlp",
        description="`mlp` sees each token by itself; `tr`, a decoder layer, all of an image.",
    )
    size: int = Field(
        320,
        ge=64,
        le=2048,
        description="Side of the square that images are seen at, in pixels, rounded to multiples "
        "of the patch; `mlp` is trained at 0.7 of it. Where it is not set, "
        f"{EMBEDDED_SIZE} with the embedded backbone.",
    )
    framing: Literal["crop", "squash"] = Field(
        "crop",
        description="How an image becomes a square: `crop`: of a training crop the centred square "
        "(COCO-Stuff, Cityscapes), and images are segmented in overlapping square windows, the "
        "centred one before the others; `squash`: with another aspect ratio (VOC).",
    )
    resampling: Literal["antialiased", "nearest"] = Field(
        "antialiased",
        description="How a view becomes a square of `size` pixels: bicubic and antialiased, as "
        "everywhere in this project, or by the nearest pixel, as in the released program.",
    )
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.5,),
        min_length=1,
        description="Sides of the training crops, as shares of the image's: four corners and the "
        "centre of each.",
    )
    mirrored: bool = Field(False, description="Train on the mirror image of each crop as well.")
    clusterbook_crops: Literal["head", "full"] = Field(
        "head",
        description="Size of the crops that the clusterbook is trained on: that of the head's, "
        "whose tokens are there anyway, or `size` for both heads, as in the released program (for "
        "`mlp` crops are then cached at two sizes).",
    )
    codes: int = Field(2048, ge=2, le=65_536, description="Concepts of the clusterbook.")
    bank: int = Field(
        100, ge=0, le=10_000, description="Projections of each concept that the bank keeps."
    )
    batch_size: int = Field(16, ge=1, le=4096, description="Crops in a step.")
    learning_rate: float = Field(1e-3, gt=0, description="Of Adam, in all three stages.")
    weight_decay: float = Field(1e-4, ge=0, description="L2 on the head while it is trained.")
    clip: float = Field(1.0, gt=0, description="Norm to which the head's gradient is clipped.")
    teacher_start: Literal["own", "shared"] = Field(
        "own",
        description="`own`: the teacher starts as a copy of the student; `shared`: in its very "
        "storage, as in the released program, so that both are equal after the first step as well.",
    )
    least_steps: int = Field(
        300,
        ge=1,
        description="Steps of each stage at least: a stage goes over the crops 1, 2 and 1 (`tr`: "
        "5) times, and more often where they are few.",
    )
    probe_start: Literal["kmeans", "uniform"] = Field(
        "kmeans",
        description="Start of the cluster probe: `uniform`, as published, from where many clusters "
        "stay empty; `kmeans`: centroids of the head's features, from where the same loss falls "
        "further (ours).",
    )
    probe_dropout: bool = Field(
        False,
        description="Whether the head has dropout while the probe is trained on it, as in the "
        "released program, where it is in training mode then.",
    )
    probe_weight_decay: float = Field(
        0.0, ge=0, description="L2 while the probe is trained, on all that is trained with it."
    )
    probe_clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Norm to which the gradient is clipped then; none: it is not clipped."
    )
    linear_probe: Literal["none", "detached", "as_released"] = Field(
        "none",
        description="`detached`: a linear probe is trained on labels beside the cluster probe, a "
        "diagnostic that nothing else sees; `as_released`: it is trained from the head's training "
        "on, where its loss enters the clipped norm, and with the cluster probe its loss changes "
        "the head that is evaluated. The released defaults of "
        + ", ".join(f"`{key}`" for key in TRAINING)
        + " belong to it. Such figures owe something to labels, and say so.",
    )
    crf: bool = Field(
        True, description="Average with the mirror image and refine by a CRF, or do neither."
    )
    crf_image: Literal["rgb", "bgr"] = Field(
        "rgb",
        description="What the CRF sees: the view's pixels; or, as in the released program, those "
        "that come back from normalisation, rounded down, with their channels in BGR order.",
    )


class CauseSections(CommonSections):
    """What this method reads."""

    cause: CauseSettings = CauseSettings()


def defaults(raw: Mapping[str, Any], embedded: bool) -> dict[str, Any]:
    """Return the defaults that depend on other keys and on the backbone."""
    size = {"size": EMBEDDED_SIZE} if embedded else {}
    return {"cause": {**size, **_recipe_defaults(raw)}}


def _recipe_defaults(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `cause.recipe` and `cause.linear_probe` make the defaults of other keys."""
    dataset, cause = raw.get("dataset", {}), raw.get("cause", {})
    if not isinstance(dataset, Mapping) or not isinstance(cause, Mapping):
        return {}
    defaults = released(str(dataset.get("format", "demo")), str(cause.get("head", "mlp")))
    if cause.get("recipe") == "released":
        return defaults
    as_released = cause.get("linear_probe") == "as_released"
    return {key: defaults[key] for key in TRAINING} if as_released else {}
