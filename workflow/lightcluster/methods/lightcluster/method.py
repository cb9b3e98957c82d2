"""The declaration of the method of this project."""

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
"""Of a patch: colours of 2 × 2 pixels, and the former score, the new one and the labels."""


def _peak_bytes(views: int, tokens: int, dim: int, config: CommonSections) -> int:
    """Return about how much memory the largest job that gathers all shards takes.

    The levels hold a sample of patches in half and in single precision, and once more while faiss
    works on it; the re-estimation holds that sample, and colours and clusters of the patches of a
    larger one; the consensus of the classes holds all distances between a sample of regions, and
    scipy a copy of them. None grows with the number of images.
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
    summary="the method of this project",
    drawings={
        "lightcluster": (
            "LightCluster",
            "`method: lightcluster`, the default. [The method](method.md) explains it.",
        ),
        "applied": (
            "A fitted model",
            "`fit.model`: the model of another run is adopted, and nothing is fitted. "
            "`lightcluster segment` does the same without the workflow.",
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
    reported=("score_patches", "refine_masks", "analyse"),
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
        "patch masks": ("masks/patch", ".npz"),
        "refined masks": ("masks/pixel", ".npz"),
        "regions": ("regions", ".npz"),
    },
    results=_results,
    views=whole_image,
    peak_bytes=_peak_bytes,
    fit="Folder `model` of another run, say of the training split: it is applied as it is, nothing "
    "is fitted on these images, and the tables say so. All settings of the method are those of the "
    "model.",
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
        )
    },
)
