"""The configuration section `cause`, and the defaults that its recipe sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from lightcluster.methods.cause.recipe import TRAINING, released
from lightcluster.methods.sections import CommonSections
from lightcluster.sections import Section

CACHE_VERSION = 1
"""Version of the steps that cache tokens, and of the stores that an interrupted job leaves."""

EMBEDDED_SIZE = 192
"""Default of `size` with the embedded backbone."""


class CauseSettings(Section):
    """CAUSE (arXiv 2310.07379), for `method: cause`: trained once for each of `labelling.seeds`.

    It reads `backbone` and `features.precision`, and always uses the tokens after the last block.
    """

    recipe: Literal["ours", "released"] = Field(
        "ours",
        description="`ours`: the defaults in this table; `released`: those in the table below, "
        "which reproduce the released code except for the deviations listed in "
        "`docs/concepts/cause.md`. The recipe only sets defaults: a key that you set takes "
        "precedence, so each difference can be tested separately.",
    )
    head: Literal["mlp", "tr"] = Field(
        "mlp",
        description="`mlp` processes each token separately; `tr`, a decoder layer, attends to "
        "all tokens of an image.",
    )
    size: int = Field(
        320,
        ge=64,
        le=2048,
        description="Side of the square input in pixels, rounded to a multiple of the patch "
        f"size; `mlp` is trained at 0.7 of it. If not set, {EMBEDDED_SIZE} with the embedded "
        "backbone.",
    )
    framing: Literal["crop", "squash"] = Field(
        "crop",
        description="How an image becomes a square. `crop`: a training crop is reduced to its "
        "centred square, and images are segmented in overlapping square windows, of which the "
        "centred one takes precedence (COCO-Stuff, Cityscapes); `squash`: the aspect ratio is "
        "changed (VOC).",
    )
    resampling: Literal["antialiased", "nearest"] = Field(
        "antialiased",
        description="How a view is resized to `size` pixels: `antialiased`: bicubic, as "
        "everywhere in this project; `nearest`: nearest neighbour, as in the released code.",
    )
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.5,),
        min_length=1,
        description="Side lengths of the training crops, as fractions of the image; each gives "
        "five crops: the four corners and the centre.",
    )
    mirrored: bool = Field(False, description="Also train on the mirror image of each crop.")
    clusterbook_crops: Literal["head", "full"] = Field(
        "head",
        description="Size of the crops that the clusterbook is trained on. `head`: the size "
        "for the head, whose tokens are cached anyway; `full`: `size` for both heads, as in the "
        "released code (for `mlp`, crops are then cached at two sizes).",
    )
    codes: int = Field(2048, ge=2, le=65_536, description="Number of concepts in the clusterbook.")
    bank: int = Field(
        100, ge=0, le=10_000, description="Number of projections per concept in the memory bank."
    )
    batch_size: int = Field(16, ge=1, le=4096, description="Crops per training step.")
    learning_rate: float = Field(
        1e-3, gt=0, description="Learning rate of Adam, in all three stages."
    )
    weight_decay: float = Field(
        1e-4, ge=0, description="L2 regularisation of the head during its training."
    )
    clip: float = Field(1.0, gt=0, description="Maximum norm of the head's gradient.")
    teacher_start: Literal["own", "shared"] = Field(
        "own",
        description="`own`: the teacher starts as a copy of the student; `shared`: it starts "
        "in the same storage as the student, as in the released code, so both are still equal "
        "after the first step.",
    )
    least_steps: int = Field(
        300,
        ge=1,
        description="Minimum number of steps per stage: the three stages go over the crops 1, "
        "2 and 1 (`tr`: 5) times, and more often if there are few crops.",
    )
    probe_start: Literal["kmeans", "uniform"] = Field(
        "kmeans",
        description="Initialisation of the cluster probe. `uniform`: as published, which "
        "leaves many clusters empty; `kmeans`: centroids of the head's features, from which the "
        "same loss falls further (ours).",
    )
    probe_dropout: bool = Field(
        False,
        description="Whether the head applies dropout while the probe is trained, as in the "
        "released code, which keeps it in training mode.",
    )
    probe_weight_decay: float = Field(
        0.0,
        ge=0,
        description="L2 regularisation during the training of the probe, on all parameters "
        "that are trained with it.",
    )
    probe_clip: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Maximum gradient norm during the training of the probe; none: no clipping.",
    )
    linear_probe: Literal["none", "detached", "as_released"] = Field(
        "none",
        description="`detached`: a linear probe is also trained on labels, as a diagnostic that "
        "affects nothing else; `as_released`: it is trained from the head's training on, where its "
        "loss counts towards the clipped norm, and during the training of the cluster probe its "
        "loss changes the head that is evaluated. This includes the released defaults of "
        + ", ".join(f"`{key}`" for key in TRAINING)
        + ". Such scores depend on labels, and are marked accordingly.",
    )
    crf: bool = Field(
        True, description="Average with the mirror image and refine with a CRF; false: do neither."
    )
    crf_image: Literal["rgb", "bgr"] = Field(
        "rgb",
        description="Image given to the CRF. `rgb`: the pixels of the view; `bgr`: as in the "
        "released code, the pixels recovered from the normalised image, rounded down, with "
        "channels in BGR order.",
    )


class CauseSections(CommonSections):
    """The sections that CAUSE reads."""

    cause: CauseSettings = CauseSettings()


def defaults(raw: Mapping[str, Any], embedded: bool) -> dict[str, Any]:
    """Return the defaults that depend on other keys and on the backbone.

    Parameters
    ----------
    raw : mapping
        The configuration without defaults.
    embedded : bool
        Whether the backbone is the embedded one.

    Returns
    -------
    dict
    """
    size = {"size": EMBEDDED_SIZE} if embedded else {}
    return {"cause": {**size, **_recipe_defaults(raw)}}


def _recipe_defaults(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults that follow from `cause.recipe` and `cause.linear_probe`."""
    dataset, cause = raw.get("dataset", {}), raw.get("cause", {})
    if not isinstance(dataset, Mapping) or not isinstance(cause, Mapping):
        return {}
    defaults = released(str(dataset.get("format", "demo")), str(cause.get("head", "mlp")))
    if cause.get("recipe") == "released":
        return defaults
    as_released = cause.get("linear_probe") == "as_released"
    return {key: defaults[key] for key in TRAINING} if as_released else {}
