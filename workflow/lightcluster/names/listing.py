"""What a person sees of clusters before naming them: their sizes, and what they match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lightcluster.datasets.labels import read_classes
from lightcluster.evaluation.counting import files_of_seed, first_frame, read_class_counts
from lightcluster.evaluation.matching import Match, best_matches
from lightcluster.names.run import BACKGROUND, Named, Updated, seed_of
from lightcluster.places import NAMES
from lightcluster.regions.painting import read_labelled_regions


@dataclass(frozen=True)
class Clusters:
    """The clusters of a segmentation.

    Attributes
    ----------
    regions, images : mapping of int to int, or None
        By cluster: its regions, and the images with one. None for a method without regions.
    matches : list of Match or None
        The true class that each cluster overlaps most; empty without labels.
    """

    regions: Counter[int] | None
    images: Counter[int] | None
    matches: list[Match | None]


def read_clusters(named: Named) -> Clusters:
    """Read the sizes of clusters, and their matches.

    Raises
    ------
    StoreError
        If a table of regions or the counts are damaged.
    """
    folder = named.segmentation
    tables = sorted(path for path in folder.glob("*.csv") if path.name != "classes.csv")
    regions, images = Counter[int](), Counter[int]()
    for table in tables:
        within = set()
        for region in read_labelled_regions(table):
            regions[region.cluster] += 1
            within.add((region.image_id, region.cluster))
        images.update(cluster for _, cluster in within)
    return Clusters(regions if tables else None, images if tables else None, _matches(named))


def _matches(named: Named) -> list[Match | None]:
    counts, classes = named.folder / "counts", named.folder.parent / "classes.csv"
    shards = sorted({sample.shard for sample in named.samples})
    files = files_of_seed(counts, shards, seed_of(named.segmentation))
    if not files or not classes.is_file() or not all(path.is_file() for path in files):
        return []
    counted, _ = read_class_counts(files, first_frame(files[0]))
    return best_matches(counted.segmentation, read_classes(classes).names)


def list_clusters(named: Named, names: dict[int, str]) -> Iterator[str]:
    """Yield a table of the clusters, with the names that they have.

    Raises
    ------
    StoreError
        As `read_clusters` does.
    """
    found = read_clusters(named)
    width = max([len("name"), *map(len, names.values())])
    head = f"cluster  {'name':<{width}}"
    if found.regions is not None:
        head += "  regions  images"
    if found.matches:
        head += "  best match"
    yield f"  {head}".rstrip()
    for cluster, value in enumerate(named.values):
        if cluster == 0 and value == BACKGROUND:
            continue
        line = f"  {cluster:7d}  {names.get(cluster, '-'):<{width}}"
        if found.regions is not None and found.images is not None:
            line += f"  {found.regions[cluster]:7,}  {found.images[cluster]:6,}"
        match = found.matches[cluster] if cluster < len(found.matches) else None
        if match is not None:
            line += f"  {match.name}, IoU {match.iou:.2f}"
        yield line.rstrip()


def describe(named: Named, updated: Updated) -> Iterator[str]:
    """Yield the lines that say which names there are, and which were changed."""
    carried = updated.carried
    if carried.changed:
        yield "The clusters have changed; names were carried over, the former file is kept."
    yield from (f"  {remark}" for remark in (*carried.remarks, *updated.changes))
    yield from list_clusters(named, carried.names)
    yield f"names: {named.folder / NAMES}"
    if updated.changes or carried.names:
        yield "Exports use them now; the next run puts them into the model, the report and gallery"


def describe_carried(named: Named) -> Iterator[str]:
    """Yield the lines at the end of a run on the names that the clusters of now have.

    Raises
    ------
    StoreError
        If a file of names, or a segmentation, is missing or damaged.
    """
    if not named.exists:
        yield f"names          none yet: lightcluster names {named.folder}"
        return
    carried = named.carried()
    place = named.folder / NAMES
    if not carried.changed:
        yield f"names          {len(carried.names)} clusters are named: {place}"
        return
    listed = ", ".join(f"{cluster} {name!r}" for cluster, name in sorted(carried.names.items()))
    yield f"names          carried over, because the clusters have changed: {listed or 'none'}"
    yield from (f"  WARNING: {remark}" for remark in carried.remarks)
    yield f"  see them: lightcluster names {named.folder}, which puts them into"
    yield f"            {place}"
