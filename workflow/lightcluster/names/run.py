"""Names of the clusters of a run: read, carried over to the clusters of now, and written."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.manifest import Sample, iter_manifest
from lightcluster.errors import StoreError
from lightcluster.names.file import (
    Point,
    Table,
    check_name,
    fingerprint,
    read_names,
    read_points,
    write_names,
)
from lightcluster.names.matching import NOWHERE, Carried, carry_names, draw_points
from lightcluster.places import NAMES, POINTS
from lightcluster.progress import progress
from lightcluster.regions.painted import (
    WANTED,
    find_manifest,
    painted_file,
    read_segmentation,
)
from lightcluster.regions.palette import read_palette

log = logging.getLogger(__name__)

BACKGROUND = "background"
IMAGES = 500
"""Largest number of images from which points are drawn, evenly over the manifest."""


@dataclass(frozen=True)
class Named:
    """A segmentation whose clusters may have names.

    Attributes
    ----------
    segmentation : Path
        ``segmentation/seed-N`` of a run, or ``segmentation`` that `segment` wrote.
    folder : Path
        In which the names are: that of the run, or of the output of `segment`.
    """

    segmentation: Path
    folder: Path

    @property
    def exists(self) -> bool:
        """Whether a names file exists."""
        return (self.folder / NAMES).is_file()

    @cached_property
    def values(self) -> list[str]:
        """Name of each pixel value, from 0, as given in ``classes.csv``."""
        return [value.name for value in read_palette(self.segmentation / "classes.csv")]

    @cached_property
    def samples(self) -> list[Sample]:
        """All images of the manifest."""
        return list(iter_manifest(find_manifest(self.segmentation)))

    def points(self) -> list[Point]:
        """Draw a point of each cluster in some images."""
        background = 0 if self.values[0] == BACKGROUND else None
        chosen = self.samples[:: -(-len(self.samples) // IMAGES)]
        return [
            point
            for sample in progress(chosen, "points")
            for point in draw_points(sample.row.image_id, self._read(sample), background)
        ]

    def fingerprint(self) -> str:
        """Return a short text that differs when the clusters do; see `names.file.fingerprint`."""
        return fingerprint(self.points())

    def carried(self) -> Carried:
        """Return the names of the clusters of now.

        Raises
        ------
        StoreError
            If the files of names, or segmentations, are missing or damaged.
        """
        names, points = read_names(self.folder / NAMES), read_points(self.folder / POINTS)
        now = self._clusters_at(points)
        return carry_names(names, [point.cluster for point in points], now)

    def _clusters_at(self, points: list[Point]) -> list[int]:
        """Return the cluster of each point now."""
        background = 0 if self.values[0] == BACKGROUND else NOWHERE
        samples = {sample.row.image_id: sample for sample in self.samples}
        found: list[int] = []
        for image_id, members in groupby(points, lambda point: point.image_id):
            clusters = self._read(samples[image_id]) if image_id in samples else None
            for point in members:
                inside = clusters is not None and (
                    point.row < clusters.shape[0] and point.column < clusters.shape[1]
                )
                value = int(clusters[point.row, point.column]) if inside else NOWHERE  # type: ignore[index]
                found.append(NOWHERE if value == background else value)
        return found

    def _read(self, sample: Sample) -> NDArray[np.integer[Any]]:
        """Return the cluster of each pixel of an image."""
        return read_segmentation(painted_file(self.segmentation, sample))


def open_named(place: Path, seed: int | None = None) -> Named:
    """Find the segmentation of a run whose clusters are to be named.

    Parameters
    ----------
    place : Path
        The folder of a run or of the output of `segment`, or the folder of its segmentations.
    seed : int, optional
        Labelling seed; by default that which new images are segmented with, if there is a model,
        else the lowest.

    Raises
    ------
    StoreError
        If there is no segmentation.
    """
    wanted = _seed_of_model(place) if seed is None else seed
    seeded = sorted(
        (*place.glob("segmentation/seed-*"), *place.glob("seed-*")),
        key=lambda folder: (seed_of(folder) != wanted, seed_of(folder)),
    )
    for folder in (place, place / "segmentation", *seeded):
        named = folder.name == "segmentation" or folder.name.startswith("seed-")
        other = seed is not None and folder in seeded and seed_of(folder) != seed
        if named and not other and (folder / "classes.csv").is_file():
            return Named(folder, folder.parents[folder.name.startswith("seed-")])
    runs = sorted(path.parent for path in place.glob("*/segmentation"))
    raise StoreError(
        f"{place}: has no segmentations"
        + (f" of seed {seed}" if seed is not None else "")
        + (f"; did you mean {runs[0]}?" if runs else f"; name a finished run, or {WANTED}")
    )


def seed_of(folder: Path) -> int:
    """Return the seed that the name of a folder says; -1 if it says none."""
    text = folder.name.removeprefix("seed-")
    return int(text) if text.isdecimal() else -1


def _seed_of_model(run: Path) -> int | None:
    """Return the seed that the model of a run segments new images with; None without a model."""
    try:
        return int(json.loads((run / "model" / "model.json").read_text("utf-8"))["seeds"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def given_names(segmentation: Path) -> dict[int, str]:
    """Return the names that a person gave to the clusters of now; what is not sure is logged.

    Parameters
    ----------
    segmentation : Path
        Folder of segmentations.

    Raises
    ------
    StoreError
        As `Named.carried` does.
    """
    named = open_named(segmentation)
    if not named.exists:
        return {}
    carried = named.carried()
    for remark in carried.remarks:
        log.warning("%s: %s", named.folder / NAMES, remark)
    return carried.names


@dataclass(frozen=True)
class Updated:
    """Result of `update_names`.

    Attributes
    ----------
    carried : Carried
        The names now in the files.
    changes : tuple of str
        One sentence for each name that was changed.
    """

    carried: Carried
    changes: tuple[str, ...]


def update_names(named: Named, given: Table) -> Updated:
    """Bring the files of names up to date, and change some.

    Parameters
    ----------
    named : Named
    given : Table
        An empty name takes one away; clusters that are not in it keep theirs.

    Raises
    ------
    StoreError
        If a name cannot be one, there is no such cluster, the table is of other clusters, or a
        file is damaged. Nothing is written then.
    """
    values, points = named.values, named.points()
    if given.clustering not in (None, fingerprint(points)):
        raise StoreError(
            f"these names are of other clusters than those in {named.segmentation}: the clusters "
            "have changed since, or the table is of another run or seed; open the gallery of this "
            "run again and name what it shows now"
        )
    carried = named.carried() if named.exists else Carried({}, (), False)
    names = dict(carried.names)
    for cluster, name in given.names.items():
        if not 0 <= cluster < len(values) or (cluster == 0 and values[0] == BACKGROUND):
            first = int(values[0] == BACKGROUND)
            raise StoreError(
                f"cluster {cluster}: there is none; there are {first} to {len(values) - 1}"
            )
        names[cluster] = check_name(name, f"cluster {cluster}")
    changes = tuple(
        f"cluster {cluster}: " + (f"{name!r}" if name else "no name") + f", was {before!r}"
        for cluster, name in sorted(names.items())
        if (before := carried.names.get(cluster)) not in (None, name)
    )
    names = {cluster: name for cluster, name in sorted(names.items()) if name}
    if carried.changed:
        _keep_former(named.folder)
    write_names(named.folder, names, points, len(values))
    return Updated(Carried(names, carried.remarks, carried.changed), changes)


def _keep_former(folder: Path) -> None:
    """Keep the names of former clusters under another name, which is free."""
    number = 1
    while (former := folder / f"names-former-{number}.csv").exists():
        number += 1
    (folder / NAMES).rename(former)
