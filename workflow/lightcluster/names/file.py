"""The two files of names, which are the user's own: no step writes them.

``names.csv`` has the columns ``cluster`` and ``name``; a cluster may have none. Clusters of one
name are one class, and one that is called *background* is no class. ``names-points.csv`` has the
points by which clusters are known again (`names.matching`).

A table that the gallery lets one download has a third column, ``clustering``: the fingerprint of
the clusters that it names, so that it is not applied to others.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightcluster.errors import StoreError, reason_of
from lightcluster.files import replacing
from lightcluster.places import NAMES, POINTS

_NAME = ("cluster", "name")
_CLUSTERING = "clustering"
_POINT = ("image", "row", "column", "cluster")
_LONGEST = 200


@dataclass(frozen=True)
class Point:
    """A pixel by which a cluster is known again.

    Attributes
    ----------
    image_id : str
    row, column : int
    cluster : int
        That it was in when names were last written.
    """

    image_id: str
    row: int
    column: int
    cluster: int


@dataclass(frozen=True)
class Table:
    """A table of names.

    Attributes
    ----------
    names : dict of int to str
        By cluster; empty for a cluster that has none.
    clustering : str or None
        Fingerprint of the clusters that are meant (`fingerprint`); None if the table has none.
    """

    names: dict[int, str]
    clustering: str | None


def read_table(path: Path) -> Table:
    """Read a table of names.

    Raises
    ------
    StoreError
        If the file cannot be read, or a line is no name of a cluster.
    """
    names: dict[int, str] = {}
    clusterings: set[str] = set()
    for number, line in enumerate(_read(path, _NAME, _CLUSTERING), start=2):
        cluster, name, clustering = line
        if not cluster.strip().isdecimal():
            raise StoreError(f"{path}, line {number}: {cluster!r} is no number of a cluster")
        if int(cluster) in names:
            raise StoreError(f"{path}, line {number}: cluster {int(cluster)} is named twice")
        names[int(cluster)] = check_name(name, f"{path}, line {number}")
        clusterings.add(clustering.strip())
    if len(clusterings) > 1:
        raise StoreError(
            f"{path}: has several values in the column {_CLUSTERING!r}; download it again"
        )
    return Table(names, next(iter(clusterings), None) or None)


def read_names(path: Path) -> dict[int, str]:
    """Read names by cluster; clusters without one are left out.

    Raises
    ------
    StoreError
        As `read_table` does.
    """
    return {cluster: name for cluster, name in read_table(path).names.items() if name}


def check_name(name: str, place: str) -> str:
    """Return a name without spaces around it.

    Raises
    ------
    StoreError
        Beginning with `place`, if it cannot be one.
    """
    name = name.strip()
    if len(name) > _LONGEST or any(not character.isprintable() for character in name):
        raise StoreError(
            f"{place}: {name[:40]!r} cannot be a name; it must be of printable characters, at most "
            f"{_LONGEST}"
        )
    return name


def read_points(path: Path) -> list[Point]:
    """Read the points by which the named clusters are known again.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    try:
        return [
            Point(image, int(row), int(column), int(cluster))
            for image, row, column, cluster in _read(path, _POINT)
        ]
    except ValueError as error:
        raise StoreError(f"{path}: is damaged ({reason_of(error)})") from None


def fingerprint(points: Iterable[Point]) -> str:
    """Return a short text that differs for other clusters: a digest of their points."""
    digest = hashlib.blake2b(digest_size=8)
    for point in points:
        digest.update(f"{point.image_id}\0{point.row} {point.column} {point.cluster}\n".encode())
    return digest.hexdigest()


def write_names(folder: Path, names: Mapping[int, str], points: Iterable[Point], k: int) -> None:
    """Write both files, with a line for each of `k` values of a segmentation but 0."""
    rows = [(cluster, names.get(cluster, "")) for cluster in range(k) if cluster or 0 in names]
    _write(folder / NAMES, _NAME, rows)
    _write(
        folder / POINTS, _POINT,
        ((point.image_id, point.row, point.column, point.cluster) for point in points),
    )  # fmt: skip


def _read(path: Path, columns: tuple[str, ...], *optional: str) -> list[list[str]]:
    """Return the lines of a table, in the order of these columns; empty where one is missing."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # as Excel writes it
            reader = csv.DictReader(file)
            if missing := set(columns).difference(reader.fieldnames or ()):
                raise StoreError(f"{path}: has no column {min(missing)!r}")
            wanted = (*columns, *optional)
            return [[line.get(column) or "" for column in wanted] for line in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise StoreError(f"{path}: cannot be read ({reason_of(error)})") from None


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[Iterable[object]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
