"""The configuration: typed sections, defaults, and every mistake reported at once.

`config/README.md` and `workflow/schemas/config.schema.json` are generated from these models
(``make docs``); a test fails when they drift apart.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lightcluster import places
from lightcluster.cause.recipe import TRAINING, released
from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.datasets.settings import DatasetSettings, contradictions
from lightcluster.errors import ConfigError, LightClusterError
from lightcluster.kinds import METHOD
from lightcluster.masks.refinement.registry import RefinementSettings
from lightcluster.sections import (
    A_NAME,
    QUOTED,
    Section,
    Seed,
    find_mistakes,
    is_name,
    show,
    show_yaml,
    suggest,
    tidy,
    walk,
)

Share = Annotated[float, Field(ge=0, le=1)]

Spread = Annotated[float, Field(ge=0.001, le=1)]
"""A standard deviation of values in [0, 1], which they are divided by."""

Word = Annotated[str, StringConstraints(min_length=1, max_length=1000)]

Positions = Literal["timm", "as_released"]
"""How position embeddings are resized; see `features.positions`."""

EMBEDDED = "vit_mini_patch8_80"
"""The `backbone.model` that this project trained itself; its weights are in ``resources/``."""

MEAN_COLOR = "mean_color"
"""The `backbone.model` that is no network, but the mean colour of each patch: a baseline."""


EMBEDDED_SIZES = {
    "features": {"short_side": 192},
    "regions": {"crop_size": 96},
    "cause": {"size": 192},
}
"""Defaults in pixels that go with the embedded backbone, in the place of those for DINO."""


class FitSettings(Section):
    """What a run is fitted on."""

    model: Path | None = Field(
        None,
        description="Folder `model` of another run, say of the training split: it is applied as it "
        "is, nothing is fitted on these images, and the tables say so. All settings of the method "
        "are those of the model. With `method: cause`: the folder `cause` of another run, whose "
        "trained heads are applied. None: the run is fitted on the images it segments.",
    )


class BackboneSettings(Section):
    """The frozen Vision Transformer."""

    model: Word = Field(
        EMBEDDED,
        description="Name of a timm Vision Transformer; "
        f"or `{MEAN_COLOR}`, a baseline: the mean colour of each patch.",
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
        f"{EMBEDDED_SIZES['features']['short_side']} with the embedded backbone, which has seen "
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


class ClusteringSettings(Section):
    """k-means of the patch features at the three levels."""

    normalize: Literal["l2", "none"] = Field("l2", description="Scaling of each patch feature.")
    metric: Literal["spherical", "euclidean"] = Field(
        "spherical", description="Cosine or Euclidean distance."
    )
    k_dataset: int = Field(2, ge=2, le=64, description="Clusters of the whole dataset.")
    k_category: int = Field(2, ge=2, le=64, description="Clusters of each superclass.")
    k_image: int = Field(2, ge=2, le=64, description="Clusters of each image.")
    sample_tokens: int = Field(
        16_384,
        ge=256,
        description="Patches, drawn evenly over shards, that the dataset and "
        "category levels are fitted on, at most.",
    )
    restarts: int = Field(
        4,
        ge=1,
        le=100,
        description="k-means++ starts of the dataset and category levels and of the superclasses; "
        "the best one is kept.",
    )
    restarts_image: int = Field(
        5,
        ge=1,
        le=100,
        description="The same at the image level, where they cost most; with more of them the "
        "result depends less on the seed.",
    )
    iterations: int = Field(25, ge=1, le=1000, description="Lloyd iterations of each start.")
    seed: Seed = Field(0, description="Seed of the sample and of every k-means but labelling.")


class SuperclassSettings(Section):
    """Groups of similar images, by k-means on their L2-normalised CLS tokens."""

    count: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field(
        "auto", description="Number of groups; `auto`: one for every 20 images, from 1 to 20."
    )
    min_images: int = Field(
        10, ge=1, description="Smaller groups are merged into the nearest one (said in the log)."
    )
    sample_images: int = Field(
        2_048, ge=16, description="Images that the groups are fitted on at most."
    )


class ForegroundSettings(Section):
    """Which clusters of an image are foreground: a vote of rules, one vote each."""

    rules: tuple[Literal["attention", "border", "center"], ...] = Field(
        ("attention", "border", "center"),
        min_length=1,
        description="`attention`: higher mean CLS attention; `border`: fewer border patches; "
        "`center`: nearer the centre.",
    )


class ConsistencySettings(Section):
    """How the three levels agree on one patch mask (Algorithm 1 of the paper; the rule is ours)."""

    rule: Literal["majority", "any", "all", "dataset", "category", "image"] = Field(
        "majority", description="Vote of the three levels, or one level alone."
    )


class ReestimationSettings(Section):
    """The foreground estimated anew, from what masks take of each cluster (beyond the paper)."""

    rounds: int = Field(
        3,
        ge=0,
        le=100,
        description="Rounds; in each, clusters of patches are scored by the share of them that the "
        "filtered masks take. 0: the score of the levels is kept, as in the paper.",
    )
    start: Literal["image", "merged"] = Field(
        "image",
        description="Masks that the rounds begin with: those of the image level, which treats all "
        "images alike, or the merged ones.",
    )
    trees: int = Field(16, ge=1, le=64, description="Number of trees, whose scores are averaged.")
    clusters: int = Field(
        128,
        ge=2,
        le=1024,
        description="Clusters of patches in each tree.",
    )
    prior: float = Field(
        30,
        gt=0,
        description="Weight, in images, of the wider cluster that a cluster is a part of: a "
        "cluster of this many images is scored halfway between the two.",
    )
    radius: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Radius of the guided filter between rounds, as a share of the image's short "
        "side.",
    )
    epsilon: float = Field(
        1e-3,
        gt=0,
        description="Epsilon of that filter: a variance of colours (in [0, 1]) below this is no "
        "edge.",
    )
    sample_tokens: int = Field(
        1_048_576,
        ge=256,
        description="Patches that the shares are counted on, at most: whole images, drawn evenly "
        "over shards, at least one of each.",
    )


class UpsamplingSettings(Section):
    """From the patch grid to pixels."""

    method: Literal["bilinear", "nearest"] = Field(
        "bilinear", description="Interpolation of the patch score."
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="Foreground above this score.")


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
        f"it is not set, {EMBEDDED_SIZES['regions']['crop_size']} with the embedded backbone.",
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
        f"{EMBEDDED_SIZES['cause']['size']} with the embedded backbone.",
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


ProtocolName = Literal["maskcontrast", "stego", "coco_things", "per_image"]
"""The protocols of `evaluation.protocols`; what each does is in `evaluation.protocols`."""

PER_IMAGE = "per_image"
"""The protocol that is no score of a dataset, and so has tables of its own."""


class EvaluationSettings(Section):
    """Protocols by which segmentations are scored. Scores of different protocols do not compare."""

    protocols: tuple[ProtocolName, ...] = Field(
        ("maskcontrast",),
        min_length=1,
        description="`maskcontrast`: original size, IoU-Hungarian and its variants, absent classes "
        "count 0; `stego`: 320 x 320, count-Hungarian, mean over the classes that occur or are "
        "predicted; `coco_things`: original size, IoU-Hungarian, absent classes count 0; "
        "`per_image`: each image matched by itself, a diagnostic with tables of its own. The first "
        "is the one that figures show.",
    )
    stego_squash: bool = Field(
        False,
        description="`stego`: squash to 320 x 320, as CAUSE does with VOC, in place of a short "
        "side of 320 and the centre crop.",
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
    """Comparison of the runs with each other and with published figures."""

    published: BenchmarkName = Field(
        "none",
        description="Which benchmark the dataset is; its published figures "
        "(`resources/published.csv`) are put below those measured here.",
    )
    resamples: int = Field(
        1000,
        ge=100,
        le=100_000,
        description="Resamples of the images, for the intervals of the differences between runs.",
    )
    seed: Seed = Field(0, description="Seed of the resamples.")


class ReportSettings(Section):
    """Contact sheets and figures."""

    samples: int = Field(16, ge=1, le=200, description="Images of the contact sheet.")
    seed: Seed = Field(0, description="Seed of their choice.")
    failures: int = Field(
        8,
        ge=0,
        le=100,
        description="Likely failures that are shown as well, of each kind: images on which the "
        "levels agree least and, with labels, those whose masks fit worst.",
    )
    parts: int = Field(
        4,
        ge=0,
        le=64,
        description="Clusters into which the report divides the foreground patches of 64 images, "
        "by tokens and by keys; 0: none.",
    )


class Config(Section):
    """One run: every setting of the workflow."""

    dataset: DatasetSettings = DatasetSettings()
    method: Literal["lightcluster", "kmeans", "cause"] = Field(
        "lightcluster",
        description="`lightcluster`: the method of this project; `kmeans`: a baseline, k-means of "
        "the patch features of the whole dataset, each cluster a class; `cause`: a published "
        "system that trains a head on the backbone's tokens.",
    )
    fit: FitSettings = FitSettings()
    backbone: BackboneSettings = BackboneSettings()
    features: FeatureSettings = FeatureSettings()
    clustering: ClusteringSettings = ClusteringSettings()
    superclasses: SuperclassSettings = SuperclassSettings()
    foreground: ForegroundSettings = ForegroundSettings()
    consistency: ConsistencySettings = ConsistencySettings()
    reestimation: ReestimationSettings = ReestimationSettings()
    upsampling: UpsamplingSettings = UpsamplingSettings()
    refinement: RefinementSettings = RefinementSettings()
    regions: RegionSettings = RegionSettings()
    labelling: LabellingSettings = LabellingSettings()
    cause: CauseSettings = CauseSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    comparison: ComparisonSettings = ComparisonSettings()
    report: ReportSettings = ReportSettings()

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow_choices(cls, raw: Any) -> Any:
        """Put below what is set the defaults of a recipe and the sizes of the embedded backbone."""
        if not isinstance(raw, Mapping):
            return raw
        backbone = raw.get("backbone", {})
        model = backbone.get("model", EMBEDDED) if isinstance(backbone, Mapping) else None
        raw = put_over({"cause": _recipe_defaults(raw)}, raw)
        return put_over(EMBEDDED_SIZES, raw) if model == EMBEDDED else raw


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


SHARED_SECTIONS = ("dataset", "comparison")
"""Sections in which runs cannot differ."""

DEFAULT_RUN = "lightcluster"


def parse_config(raw: Mapping[str, Any]) -> dict[str, Config]:
    """Validate a raw configuration and return one complete `Config` for each run.

    Parameters
    ----------
    raw : mapping
        As read from YAML: the sections of `Config` and, optionally, ``runs``, a mapping from the
        name of a run to the settings in which it differs (any key but those of
        `SHARED_SECTIONS`), and ``grid``, a mapping from dotted keys to lists of values, which
        makes a run of every combination.

    Returns
    -------
    dict of str to Config
        In the order of ``runs`` and then of ``grid``; a single run named ``lightcluster`` when
        there are none.

    Raises
    ------
    ConfigError
        Lists all mistakes, each with its key, the value found and what is allowed.
    """
    rest = dict(raw)
    problems: list[str] = []
    runs = _named_runs(rest.pop("runs", None), problems)
    grid = _sound_grid(rest.pop("grid", None), problems)
    expanded = expand_grid(grid)
    problems += [
        f"runs.{name}: is also the name of a run of `grid`" for name in runs if name in expanded
    ]
    runs = {**runs, **expanded} or {DEFAULT_RUN: {}}
    problems += _name_problems(runs)
    rest = tidy(rest, Config)
    invalid = find_mistakes(rest, Config)
    problems += invalid
    of_dataset = {key: value for key, value in rest.items() if key == "dataset"}
    if not find_mistakes(of_dataset, Config):
        problems += contradictions(Config.model_validate(of_dataset).dataset)
    configs: dict[str, Config] = {}
    for name, overrides in runs.items():
        found = _run_problems(overrides, f"runs.{name}.")
        problems += found
        if not invalid and not found:
            merged = put_over(rest, tidy(overrides, Config))
            config = Config.model_validate(merged)
            if config.fit.model is not None:
                config, found = _adopt_fit(config, merged, f"runs.{name}.")
                problems += found
            configs[name] = config
    problems += dict.fromkeys(
        problem
        for config in configs.values()
        for find in (_foreign_weights, _number_contradictions, _cause_contradictions)
        for problem in find(config)
    )
    if problems:
        raise ConfigError(
            f"The configuration has {len(problems)} mistake{'s' * (len(problems) > 1)}:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )
    return configs


def _named_runs(runs: object, problems: list[str]) -> dict[str, Mapping[Any, Any]]:
    """Return the runs that have a name and settings; add a line to `problems` for all others."""
    if runs is None:
        return {}
    if not isinstance(runs, Mapping):
        problems.append(
            f"runs = {show(runs)}: must be names of runs with their settings, such as "
            "`runs: {mine: {features: {layer: -2}}}`"
        )
        return {}
    sound: dict[str, Mapping[Any, Any]] = {}
    for name, overrides in runs.items():
        if not is_name(name):
            quoted = "" if isinstance(name, str) else QUOTED
            problems.append(f"runs: {show(name)} is no name of a run; it must be {A_NAME}{quoted}")
        elif overrides is not None and not isinstance(overrides, Mapping):
            problems.append(
                f"runs.{name} = {show(overrides)}: must be the settings in which the run differs, "
                "or {} if there are none"
            )
        else:
            sound[name] = overrides or {}
    return sound


def _name_problems(runs: Iterable[str]) -> Iterator[str]:
    """Yield the mistake of each name that no run can have here."""
    for name in runs:
        if place := places.taken(name, places.OF_DATASET):
            yield (
                f"runs.{name}: {place!r} in the folder of a dataset is the workflow's own; choose "
                "another name for the run"
            )
    for one, other in places.twins(runs):
        yield f"runs.{other}: differs from {one!r} in case alone, which many disks do not see"


def _run_problems(overrides: Mapping[Any, Any], prefix: str) -> list[str]:
    """Return the mistakes in the settings of one entry of ``runs``."""
    shared = [
        f"{prefix}{section}: {_SHARED}" for section in SHARED_SECTIONS if section in overrides
    ]
    own = {key: value for key, value in overrides.items() if key not in SHARED_SECTIONS}
    return shared + find_mistakes(own, Config, prefix)


def _adopt_fit(config: Config, raw: Mapping[str, Any], prefix: str) -> tuple[Config, list[str]]:
    """Return a run with the settings of its model, and what contradicts them.

    Weights are not compared here: whether they are the model's is seen when they are there.
    """
    from lightcluster.model.folder import read_model  # which describes a configuration itself

    assert config.fit.model is not None
    key = f"{prefix}fit.model = {str(config.fit.model)!r}"
    if config.method == "cause":
        return config, list(_untrained(config, prefix))
    if config.method != "lightcluster":
        return config, [f"{key}: `method: {config.method}` is always fitted on its images"]
    try:
        model = read_model(config.fit.model)
    except LightClusterError as error:
        return config, [f"{key}: {error}"]
    problems = []
    for name, _ in walk_keys():
        section, _, last = name.partition(".")
        given = raw.get(section)
        if section in METHOD and name != "backbone.weights" and given and last in given:
            own, fitted = lookup(config, name), lookup(model.config, name)
            if own != fitted:
                problems.append(
                    f"{prefix}{name} = {own!r}: its model was fitted with {fitted!r}; leave the "
                    "key out, or fit another model"
                )
    method = nest(model.method_settings(config.fit.model))
    if "weights" in raw.get("backbone", {}):
        method["backbone"]["weights"] = config.backbone.weights
    return Config.model_validate({**config.model_dump(), **method}), problems


def _untrained(config: Config, prefix: str) -> Iterator[str]:
    """Yield what is wrong with the trained heads that a run applies, and what contradicts them."""
    from lightcluster.cause.adoption import probe_of, read_trained  # safetensors, and numpy with it

    assert config.fit.model is not None
    for seed in config.labelling.seeds:
        try:
            trained = read_trained(probe_of(config.fit.model, seed))
        except LightClusterError as error:
            yield f"{prefix}fit.model = {str(config.fit.model)!r}: {error}"
            continue
        keys = ("head", "size", "framing", "resampling")
        for key in (*(f"cause.{name}" for name in keys), "backbone.positions"):
            own, fitted = lookup(config, key), getattr(trained, key.rpartition(".")[2])
            if own != fitted:
                yield (
                    f"{prefix}{key} = {own!r}: the head of seed {seed} was trained with {fitted!r}"
                )


_SHARED = "all runs of a configuration share one dataset, and are compared in one way"


def _sound_grid(grid: object, problems: list[str]) -> dict[str, list[Any]]:
    """Return ``grid`` if nothing is wrong with it; else no grid, and a line for each mistake."""
    if grid is None:
        return {}
    if not isinstance(grid, Mapping):
        problems.append(
            f"grid = {show(grid)}: must be keys with lists of values, such as "
            "`grid: {features.layer: [-1, -3]}`"
        )
        return {}
    mistakes = [mistake for key, values in grid.items() for mistake in _grid_mistakes(key, values)]
    if not mistakes and (runs := math.prod(len(values) for values in grid.values())) > _MOST_RUNS:
        mistakes = [f"grid: makes {runs:,} runs; at most {_MOST_RUNS:,} are allowed"]
    problems += mistakes
    return {} if mistakes else {str(key): list(values) for key, values in grid.items()}


_MOST_RUNS = 10_000


def _grid_mistakes(key: object, values: object) -> Iterator[str]:
    """Yield the mistakes of one key of ``grid``."""
    known = {name for name, _ in walk_keys()}
    if not isinstance(key, str) or key not in known:
        name = key if isinstance(key, str) else show(key)
        inner = values if isinstance(values, Mapping) else {}
        dotted = next((f"{key}.{last}" for last in inner if f"{key}.{last}" in known), None)
        meant = f"; write `{dotted}: [...]`" if dotted else suggest(name, values, Config)
        yield f"grid.{name}: unknown key{meant}"
    elif key.partition(".")[0] in SHARED_SECTIONS:
        yield f"grid.{key}: {_SHARED}"
    elif not isinstance(values, list) or not values:
        plain = values is not None and not isinstance(values, list | Mapping)
        example = f", such as [{show_yaml(values)}]" if plain else ""
        yield f"grid.{key} = {show(values)}: must be a list of at least one value{example}"
    else:
        choices = [nest({key: value}) for value in values]
        mistakes = [line for raw in choices for line in find_mistakes(raw, Config, "grid.")]
        yield from mistakes
        if not mistakes:
            taken = [lookup(Config.model_validate(raw), key) for raw in choices]
            if len({json.dumps(value) for value in taken}) < len(taken):
                yield f"grid.{key} = {show(values)}: each value may stand there once"


def expand_grid(grid: Mapping[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """Return a run for every combination of values, the last key varying fastest.

    A run is named by its values, as in ``layer--1_k_image-2``; where that is too long, or not
    unique, by its beginning and a digest of them.

    Parameters
    ----------
    grid : mapping of str to list
        Values by dotted key; none for no runs.

    Returns
    -------
    dict of str to dict
        The settings in which each run differs, by its name.
    """
    if not grid:
        return {}
    choices = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    names = [_describe_choice(choice) for choice in choices]
    count = Counter(names)
    runs: dict[str, dict[str, Any]] = {}
    for name, choice in zip(names, choices, strict=True):
        if len(name) > _LONGEST_NAME or count[name] > 1:
            text = json.dumps(choice, default=str).encode()
            digest = hashlib.blake2b(text, digest_size=4).hexdigest()
            name = f"{name[: _LONGEST_NAME - len(digest) - 1]}-{digest}"
        runs[name] = nest(choice)
    return runs


_LONGEST_NAME = 80
"""As in `Name`."""


def _describe_choice(choice: Mapping[str, Any]) -> str:
    """Return keys and values as a name; a key without its section where that is enough."""
    short = Counter(key.rpartition(".")[2] for key in choice)
    parts = []
    for key, value in choice.items():
        last = key.rpartition(".")[2]
        text = ".".join(map(str, value)) if isinstance(value, list) else str(value)
        part = f"{last if short[last] == 1 else key}-{text}"
        parts.append(re.sub(r"[^A-Za-z0-9_.-]+", "-", part))
    return "_".join(parts)


def _foreign_weights(config: Config) -> Iterator[str]:
    """Yield the mistake of a run whose model is not that of the embedded weights."""
    backbone = config.backbone
    if backbone.weights == "embedded" and backbone.model not in (EMBEDDED, MEAN_COLOR):
        yield (
            f"backbone.weights = 'embedded': these are of {EMBEDDED}; for {backbone.model} use "
            "`hub`, `random` or the path of a file"
        )


def _number_contradictions(config: Config) -> Iterator[str]:
    """Yield the mistake of a method without regions whose number of classes they are to tell."""
    if config.labelling.classes == "silhouette" and config.method != "lightcluster":
        yield (
            f"labelling.classes = 'silhouette': is of regions, which `method: {config.method}` "
            "does not have; give a number, or `auto`"
        )


def _cause_contradictions(config: Config) -> Iterator[str]:
    """Yield what `method: cause` cannot be trained with."""
    if config.method != "cause":
        return
    dataset, cause = config.dataset, config.cause
    labelled = FORMATS[dataset.format].labelled(dataset)
    if cause.linear_probe != "none" and not labelled:
        yield (
            f"cause.linear_probe = {cause.linear_probe!r}: needs labels, and dataset.labels is none"
        )
    if config.backbone.model == MEAN_COLOR:
        yield f"method = 'cause': needs the tokens of a network, and {MEAN_COLOR} is none"


def put_over(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the nested values of `overrides` put over it.

    None in the place of nested values, as of a section whose lines are all comments, changes
    nothing.
    """
    result = dict(base)
    for key, value in overrides.items():
        old = result.get(key)
        if not isinstance(old, Mapping):
            result[key] = value
        elif value is not None:
            result[key] = put_over(old, value) if isinstance(value, Mapping) else value
    return result


def walk_keys(
    model: type[BaseModel] = Config, prefix: str = ""
) -> Iterator[tuple[str, typing.Any]]:
    """Yield every key of the configuration as a dotted name with its pydantic field."""
    return walk(model, prefix)


def describe_type(annotation: object) -> str:
    """Return the type of a field in the words of `config/README.md`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if origin is Annotated:
        return describe_type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " \\| ".join(describe_type(part) for part in arguments)
    if origin is tuple:
        return f"list of {describe_type(arguments[0])}"
    names = {int: "integer", float: "number", str: "text", bool: "true/false", Path: "path"}
    return "none" if annotation is type(None) else names[annotation]  # type: ignore[index]


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted key as nested sections."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return nested


def lookup(config: Config, key: str) -> Any:
    """Return the value of a dotted key, in JSON types."""
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value
