"""Reading the segmentations of a run, or those that `segment` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.manifest import Sample
from lightcluster.errors import StoreError
from lightcluster.images.recognition import open_plain

WANTED = "`segmentation/seed-N` of a run, or a folder `segmentation` that `segment` wrote"


def is_written(segmentation: Path) -> bool:
    """Tell whether there are segmentations beside a ``classes.csv``, which each seed has."""
    return next(segmentation.rglob("*.png"), None) is not None


def find_manifest(segmentation: Path) -> Path:
    """Return the manifest of a folder of segmentations: the nearest one in the folders above.

    Raises
    ------
    StoreError
        If the segmentations of its seed were not written, or if there is no manifest.
    """
    if not is_written(segmentation):
        raise StoreError(
            f"{segmentation}: no segmentation of this seed is written; either the run is not "
            "finished, or it needs `report.segmentations: all`, which writes those of all seeds"
        )
    for folder in segmentation.resolve().parents[:3]:
        if (folder / "manifest.csv").is_file():
            return folder / "manifest.csv"
    raise StoreError(
        f"{segmentation}: no manifest.csv in the folders above; name {WANTED}, where it was made"
    )


def painted_file(segmentation: Path, sample: Sample) -> Path:
    """Return the PNG of an image; runs have a folder for each shard, and `segment` has none."""
    sharded = segmentation / sample.shard / sample.row.output
    return sharded if sharded.is_file() else segmentation / sample.row.output


def read_segmentation(path: Path) -> NDArray[np.integer[Any]]:
    """Return the value of each pixel of a segmentation: uint8 or uint16, shape (height, width).

    Parameters
    ----------
    path : Path
        A PNG of `painting.save_indexed`.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    try:
        with open_plain(path) as image:
            return np.asarray(image)
    except Exception as error:  # decoders raise all kinds of errors for damaged files
        raise StoreError(f"{path}: cannot be read ({error}); make it again") from None
