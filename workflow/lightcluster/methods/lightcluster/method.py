"""The declaration of this project's method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightcluster.methods.features import FEATURES, whole_image
from lightcluster.methods.protocol import Figure, Method
from lightcluster.methods.sections import HOW, CommonSections

FITTED: tuple[str, ...] = ("lightcluster",)
APPLIED: tuple[str, ...] = ("applied",)
OURS = (*FITTED, *APPLIED)
"""Kinds of its runs."""

_SCENE_BYTES = 3 * 4 + 3 * 4 + 4
"""Bytes per patch: the colours of 2 × 2 pixels, the previous and new scores, and the labels."""


def _peak_bytes(views: int, tokens: int, dim: int, config: CommonSections) -> int:
    """Return the approximate memory of the largest job that processes all shards.

    The levels keep a sample of patches in half and single precision, and faiss makes a copy. The
    re-estimation keeps this sample, and the colours and clusters of a larger one. The consensus of
    the classes keeps all distances between sampled regions, and scipy makes a copy. None of these
    grows with the number of images.
    """
    clustering, reestimation = config.clustering, config.reestimation
    distances = config.labelling.sample_regions**2 // 2 * 8
    sampled = min(clustering.sample_tokens, tokens) * dim
    scenes = min(reestimation.sample_tokens, tokens) * (2 * reestimation.trees + _SCENE_BYTES)
    return 400 * 2**20 + max(
        sampled * (2 + 4 + 4),
        sampled * (2 + 4) + scenes if reestimation.rounds else 0,
        2 * distances if config.labelling.method == "consensus" else 0,
    )


def _results(run: Path, fitted: bool) -> Iterator[str]:
    yield f"binary masks   {run / 'masks' / 'png'}/"
    if fitted:
        yield f"new images     lightcluster segment FOLDER --model {run / 'model'} --out OUT"


LIGHTCLUSTER: Method[CommonSections] = Method(
    name="lightcluster",
    summary="this project's method",
    drawings={
        "lightcluster": (
            "LightCluster",
            "`method: lightcluster`, the default; see [the method](method.md).",
        ),
        "applied": (
            "A fitted model",
            "`fit.model`: the model of another run is applied, and nothing is fitted. "
            "`lightcluster segment` does the same outside the workflow.",
        ),
    },
    steps=(
        *(f"lightcluster.step.{room}" for room in ("clustering", "masks", "regions", "model")),
        "lightcluster.methods.lightcluster.steps",
    ),
    segments="paint_segmentation",
    masks=True,
    shared=(FEATURES,),
    shown=HOW,
    reported=("merge_levels", "score_patches", "refine_masks", "analyse"),
    figures=(
        Figure(
            "discover_parts",
            "parts.png",
            "Parts",
            "Foreground patches of images drawn at random, clustered over all of them: by tokens, "
            "and by keys of the same block.",
        ),
    ),
    conditions=("refinement.method",),
    refined_by=lambda config: str(config.refinement.method),
    progress={
        "features": (FEATURES, ".zarr"),
        "image level": ("clusters/image", ".npz"),
        "merged masks": ("masks/merged", ".npz"),
        "patch scores": ("masks/scores", ".npz"),
        "refined masks": ("masks/pixel", ".npz"),
        "regions": ("regions", ".npz"),
    },
    results=_results,
    views=whole_image,
    peak_bytes=_peak_bytes,
    fit="Folder `model` of another run, for example one fitted on the training split. It is "
    "applied as it is: nothing is fitted on these images, the tables say so, and all settings of "
    "the method are those of the model.",
    adopted="applied",
    adoption="lightcluster.methods.lightcluster.fit",
    preloaded={
        "plain": (
            "lightcluster.clustering.image_level",
            "lightcluster.clustering.superclasses",
            "lightcluster.masks.reestimation",
            "lightcluster.masks.pixels",
            "lightcluster.regions.labelling",
            "lightcluster.regions.painting",
        ),
        "torch": ("lightcluster.regions.embedding",),
    },
)
