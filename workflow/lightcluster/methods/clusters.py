"""Number of clusters of methods without masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lightcluster.datasets.labels import Classes


def one_a_class(
    setting: int | Literal["auto", "silhouette"], classes: Classes | None, background: int | None
) -> int:
    """Return `regions.number.number_of_clusters`: one per class, including the background."""
    from lightcluster.regions.number import number_of_clusters  # imports faiss

    return number_of_clusters(setting, classes, background)
