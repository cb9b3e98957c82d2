"""The confidence of objects, from the table of the regions that they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.manifest import Sample
from lightcluster.regions.painting import LabelledRegion, read_regions_by_image


class RegionTables:
    """The tables of regions beside segmentations: one of each shard, or one of all images.

    Parameters
    ----------
    segmentation : Path
        Folder of segmentations; methods without regions have no tables there.
    """

    def __init__(self, segmentation: Path) -> None:
        self._folder = segmentation
        self._table: Path | None = None
        self._regions: dict[str, list[LabelledRegion]] = {}

    def regions_of(self, sample: Sample) -> list[LabelledRegion]:
        """Return the regions of an image; none where there is no table.

        Raises
        ------
        StoreError
            If the table is damaged.
        """
        tables = (self._folder / f"{sample.shard}.csv", self._folder / "regions.csv")
        table = next((path for path in tables if path.is_file()), None)
        if table is None:
            return []
        if table != self._table:
            self._table, self._regions = table, read_regions_by_image(table)
        return self._regions.get(sample.row.image_id, [])


def object_confidence(
    label: NDArray[np.integer],
    category: NDArray[np.integer],
    regions: Sequence[LabelledRegion],
    id_of: Mapping[int, int],
) -> list[float | None]:
    """Return the mean confidence of the regions in each object, weighted by their areas.

    An object consists of several regions where regions of one class touch. The table has their
    boxes, not their pixels: a region belongs to the object of its class that has the most pixels in
    its box. An object that is nobody's first choice is a separate piece of a region, and has the
    confidence of the region whose box has most of it.

    Parameters
    ----------
    label : int array, shape (height, width)
        Object of each pixel, from 1; 0 outside of all.
    category : int array, shape (objects,)
    regions : sequence of LabelledRegion
    id_of : mapping of int to int
        The category of each cluster.

    Returns
    -------
    list of float or None
        In [0, 1], rounded to four digits; None where no region of the class reaches an object.
    """
    inside = np.zeros((len(regions), len(category)), np.int64)
    for number, region in enumerate(regions):
        box = label[region.top : region.bottom, region.left : region.right]
        counts = np.bincount(box.ravel(), minlength=len(category) + 1)[1:]
        inside[number] = counts * (category == id_of.get(region.cluster, 0))
    chosen = inside.argmax(axis=1) if len(category) else np.empty(0, np.int64)
    found: list[float | None] = []
    for number in range(len(category)):
        own = np.flatnonzero((chosen == number) & (inside[:, number] > 0))
        if not len(own):
            own = np.flatnonzero(inside[:, number])
            own = own[inside[own, number].argsort(kind="stable")[-1:]]
        parts = [regions[one] for one in own.tolist()]
        weights, values = [part.area for part in parts], [part.confidence for part in parts]
        found.append(round(float(np.average(values, weights=weights)), 4) if values else None)
    return found
