"""The table of the clusters: what each contains, and its typical regions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.labels import IGNORED
from lightcluster.datasets.manifest import Row, Sample, iter_manifest
from lightcluster.errors import StoreError
from lightcluster.evaluation.confusion import iou_matrix
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.regions.painting import LabelledRegion, read_regions_by_image
from lightcluster.regions.palette import hex_color, read_palette
from lightcluster.reporting.contact_sheet import ColourKey
from lightcluster.reporting.lettering import printable
from lightcluster.reporting.overlays import HATCH, class_colours
from lightcluster.reporting.page import embed_picture
from lightcluster.reporting.tables import Score
from lightcluster.reporting.tiles import Nearest, Tile, cut_tile

TILES = 4
"""Typical regions shown of a cluster, each of another image."""

MOST_WITH_TILES = 40
"""Clusters, the largest ones, of which regions are shown."""

MARGIN = 0.1
"""Margin added to the box of a region, as a fraction of its sides."""

QUALITY = 75


@dataclass
class Size:
    """Totals over the regions of a cluster."""

    regions: int = 0
    pixels: int = 0
    confidence: float = 0.0


@dataclass
class Found:
    """The regions of a run.

    Attributes
    ----------
    sizes : dict of int to Size
        By cluster.
    typical : Nearest
        The regions of highest confidence by cluster, one for each image that contains it.
    empty : int
        Images without a region.
    shown_empty : list of Sample
        Some of them.
    pixels : int
        Of all images.
    """

    typical: Nearest
    sizes: dict[int, Size] = field(default_factory=dict)
    empty: int = 0
    shown_empty: list[Sample] = field(default_factory=list)
    pixels: int = 0

    @property
    def regions(self) -> int:
        """Regions in all."""
        return sum(size.regions for size in self.sizes.values())


def read_found(manifest: Path, regions: Path, shown_empty: int) -> Found:
    """Read the regions of all images, one shard at a time.

    Parameters
    ----------
    manifest : Path
        Of the whole dataset, with the column ``shard``.
    regions : Path
        Folder of the tables ``<shard>.csv`` of `paint_segmentation`.
    shown_empty : int
        How many images without a region are kept.

    Raises
    ------
    StoreError
        If a table is missing, damaged, or of other images.
    """
    found = Found(Nearest(TILES))
    for shard, members in groupby(iter_manifest(manifest), key=lambda sample: sample.shard):
        of_image = read_regions_by_image(regions / f"{shard}.csv")
        for sample in members:
            found.pixels += sample.row.height * sample.row.width
            own = of_image.pop(sample.row.image_id, [])
            _add_image(found, shard, own)
            if not own:
                found.empty += 1
                if len(found.shown_empty) < shown_empty:
                    found.shown_empty.append(sample)
        if of_image:
            raise StoreError(
                f"{regions / f'{shard}.csv'}: contains images that are not in {manifest}; run "
                "snakemake again"
            )
    return found


def _add_image(found: Found, shard: str, regions: Sequence[LabelledRegion]) -> None:
    """Count the regions of an image, and keep its best region of each cluster."""
    best: dict[int, LabelledRegion] = {}
    for region in regions:
        size = found.sizes.setdefault(region.cluster, Size())
        size.regions += 1
        size.pixels += region.area
        size.confidence += region.confidence
        if region.cluster not in best or best[region.cluster].confidence < region.confidence:
            best[region.cluster] = region
    for cluster, one in best.items():
        box = (one.top, one.left, one.bottom, one.right)
        tile = Tile(one.confidence, shard, one.image_id, box)
        found.typical.add(cluster, tile, one.region)


@dataclass(frozen=True)
class Crop:
    """A typical region: the data URI of its picture, and its image."""

    source: str
    image_id: str


@dataclass(frozen=True)
class ClusterLine:
    """One line of the table of clusters.

    Attributes
    ----------
    number : int
    name, color : str
    regions, images : int or None
        None for a method without masks.
    area, confidence : Score or None
        Share of all pixels, and mean over the regions.
    matched : str or None
        The true class; empty if the cluster is matched to none; None without labels.
    iou : Score or None
        With that class, over the dataset.
    crops : list of Crop
    """

    number: int
    name: str
    color: str
    regions: int | None
    images: int | None
    area: Score | None
    confidence: Score | None
    matched: str | None
    iou: Score | None
    crops: list[Crop]


def read_names(palette: Path, called: Mapping[int, str]) -> list[str]:
    """Return the name of each value in the segmentations: a user's, or that of ``classes.csv``.

    Raises
    ------
    StoreError
        If the table is missing or damaged.
    """
    values = read_palette(palette)
    return [called.get(number, value.name) for number, value in enumerate(values)]


def cluster_lines(
    names: Sequence[str],
    key: ColourKey,
    found: Found | None,
    counts: NDArray[np.int64] | None,
    manifest: Path,
    max_pixels: int,
) -> list[ClusterLine]:
    """Return the table of the clusters, the largest first if their regions are known.

    Parameters
    ----------
    names : sequence of str
        Of each value in the segmentations.
    key : ColourKey
        The matched classes if there are labels.
    found : Found or None
        None for a method without masks; with masks, cluster 0 is the background and left out.
    counts : int64 array, shape (clusters, classes), or None
        Pixels by cluster and true class.
    manifest : Path
        Of the whole dataset.
    max_pixels : int
        Larger images are refused.
    """
    numbers = list(range(0 if found is None else 1, len(names)))
    crops: dict[int, list[Crop]] = {}
    if found is not None:
        sizes = found.sizes
        numbers.sort(key=lambda number: -sizes[number].regions if number in sizes else 0)
        crops = _cut_crops(found.typical, numbers[:MOST_WITH_TILES], manifest, max_pixels)
    iou = None if counts is None else iou_matrix(counts)
    return [
        _line_of(number, names[number], key, found, iou, crops.get(number, []))
        for number in numbers
    ]


def _line_of(
    number: int,
    name: str,
    key: ColourKey,
    found: Found | None,
    iou: NDArray[np.float64] | None,
    crops: list[Crop],
) -> ClusterLine:
    inside = number < len(key.cluster_to_class)
    position = int(key.cluster_to_class[number]) if inside else UNMATCHED
    size = None if found is None else found.sizes.get(number, Size())
    matched, overlap = None, None
    if key.names is not None:
        matched = "" if position == UNMATCHED else printable(key.names[position])
        if matched and iou is not None:
            overlap = Score(float(np.nan_to_num(iou[number, position])))
    return ClusterLine(
        number=number,
        name=printable(name),
        color=color_of(number),
        regions=None if size is None else size.regions,
        images=None if found is None else found.typical.sizes.get(number, 0),
        area=None if size is None or found is None else Score(size.pixels / found.pixels),
        confidence=Score(size.confidence / size.regions) if size and size.regions else None,
        matched=matched,
        iou=overlap,
        crops=crops,
    )


def _cut_crops(
    typical: Nearest, numbers: Sequence[int], manifest: Path, max_pixels: int
) -> dict[int, list[Crop]]:
    """Return the pictures of the typical regions of some clusters."""
    tiles = {number: typical.of(number) for number in numbers}
    rows = _rows_of(manifest, {(t.shard, t.image_id) for of in tiles.values() for t in of})
    return {
        number: [
            Crop(
                embed_picture(
                    cut_tile(tile, rows[tile.shard, tile.image_id], max_pixels, MARGIN),
                    QUALITY,
                ),
                printable(tile.image_id),
            )
            for tile in of
        ]
        for number, of in tiles.items()
    }


def _rows_of(manifest: Path, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], Row]:
    return {
        place: sample.row
        for sample in iter_manifest(manifest)
        if (place := (sample.shard, sample.row.image_id)) in wanted
    }


def color_of(value: int) -> str:
    """Return the colour of a value, `matching.UNMATCHED` or `labels.IGNORED`, for HTML."""
    return hex_color(HATCH if value == IGNORED else class_colours(np.array([value]))[0])


def legend_of(classes: Iterable[int], key: ColourKey) -> list[tuple[str, str]]:
    """Return colour and text of each class that some pictures contain, as a legend lists them."""
    return [
        (color_of(value), key.describe(value))
        for value in sorted(classes, key=lambda value: (value == UNMATCHED, value))
    ]
