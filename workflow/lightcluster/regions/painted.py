"""Segmentations where they are on disk: a run's, or those that `segment` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.manifest import Sample
from lightcluster.errors import StoreError
from lightcluster.images.recognition import open_plain

WANTED = "`segmentation/seed-N` of a run, or a folder `segmentation` that `segment` wrote"


def find_manifest(segmentation: Path) -> Path:
    """Return the manifest of a folder of segmentations: the nearest one above it.

    Raises
    ------
    StoreError
        If the folder is none of segmentations, which have a ``classes.csv``, or there is no
        manifest; says which is meant if it is one inside.
    """
    if not (segmentation / "classes.csv").is_file():
        inside = [
            path.parent
            for pattern in ("segmentation/", "seed-*/", "segmentation/seed-*/")
            for path in sorted(segmentation.glob(f"{pattern}classes.csv"))
        ]
        hint = f"did you mean {inside[0]}?" if inside else f"name {WANTED}"
        raise StoreError(f"{segmentation}: no folder of segmentations (no classes.csv); {hint}")
    for folder in segmentation.resolve().parents[:3]:
        if (folder / "manifest.csv").is_file():
            return folder / "manifest.csv"
    raise StoreError(
        f"{segmentation}: no manifest.csv in the folders above; name {WANTED}, where it was made"
    )


def painted_file(segmentation: Path, sample: Sample) -> Path:
    """Return the PNG of an image: a run has them by shard."""
    sharded = segmentation / sample.shard / sample.row.output
    return sharded if sharded.is_file() else segmentation / sample.row.output


def read_painted(segmentation: Path, sample: Sample) -> NDArray[np.integer[Any]]:
    """Return the value of each pixel of an image: uint8 or uint16, shape (height, width).

    Raises
    ------
    StoreError
        If the segmentation is missing or damaged.
    """
    path = painted_file(segmentation, sample)
    try:
        with open_plain(path) as image:
            return np.asarray(image)
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise StoreError(f"{path}: cannot be read ({error}); make it again") from None
