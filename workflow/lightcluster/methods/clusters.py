"""How many clusters a segmentation without masks has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lightcluster.datasets.labels import Classes


def one_a_class(
    setting: int | Literal["auto", "silhouette"], classes: Classes | None, background: int | None
) -> int:
    """Return `regions.number.number_of_clusters`: one for each class, the background's included."""
    from lightcluster.regions.number import number_of_clusters  # faiss with it

    return number_of_clusters(setting, classes, background)
