"""The declaration of the k-means baseline."""

from __future__ import annotations

from lightcluster.methods.clusters import one_a_class
from lightcluster.methods.features import FEATURES, whole_image
from lightcluster.methods.protocol import Method
from lightcluster.methods.sections import HOW, CommonSections


def _peak_bytes(views: int, tokens: int, dim: int, config: CommonSections) -> int:
    """Return the memory of the sample in half and single precision, and of faiss's copy."""
    return 400 * 2**20 + min(config.clustering.sample_tokens, tokens) * dim * (2 + 4 + 4)


KMEANS: Method[CommonSections] = Method(
    name="kmeans",
    summary="a baseline, k-means on the patch features of the whole dataset, where each cluster is "
    "a class",
    drawings={
        "kmeans": (
            "k-means",
            "`method: kmeans`, [a baseline](../howto/compare.md#baselines): the patches of the "
            "dataset are clustered, and each cluster is a class.",
        )
    },
    steps=("lightcluster.methods.kmeans.steps",),
    segments="paint_clusters",
    clusters=one_a_class,
    shared=(FEATURES,),
    shown=HOW,
    progress={"features": (FEATURES, ".zarr")},
    views=whole_image,
    peak_bytes=_peak_bytes,
)
