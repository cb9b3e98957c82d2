"""The two files of names, which are the user's own: no step writes them.

``names.csv`` has the columns ``cluster`` and ``name``; a cluster may have none. Clusters of one
name are one class, and one that is called *background* is no class. ``names-points.csv`` has the
points by which clusters are known again (`names.matching`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightcluster.errors import StoreError
from lightcluster.files import replacing
from lightcluster.places import NAMES, POINTS

_NAME = ("cluster", "name")
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


def read_names(path: Path) -> dict[int, str]:
    """Read names by cluster; clusters without one are left out.

    Raises
    ------
    StoreError
        If the file cannot be read, or a line is no name of a cluster.
    """
    names: dict[int, str] = {}
    seen: set[int] = set()
    for number, line in enumerate(_read(path, _NAME), start=2):
        cluster, name = line
        if not cluster.strip().isdecimal():
            raise StoreError(f"{path}, line {number}: {cluster!r} is no number of a cluster")
        if int(cluster) in seen:
            raise StoreError(f"{path}, line {number}: cluster {int(cluster)} is named twice")
        seen.add(int(cluster))
        if checked := check_name(name, f"{path}, line {number}"):
            names[int(cluster)] = checked
    return names


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
        raise StoreError(f"{path}: is damaged ({error})") from None


def write_names(folder: Path, names: Mapping[int, str], points: Iterable[Point], k: int) -> None:
    """Write both files, with a line for each of `k` values of a segmentation but 0."""
    rows = [(cluster, names.get(cluster, "")) for cluster in range(k) if cluster or 0 in names]
    _write(folder / NAMES, _NAME, rows)
    _write(
        folder / POINTS, _POINT,
        ((point.image_id, point.row, point.column, point.cluster) for point in points),
    )  # fmt: skip


def _read(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """Return the lines of a table, in the order of its columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # as Excel writes it
            reader = csv.DictReader(file)
            if missing := set(columns).difference(reader.fieldnames or ()):
                raise StoreError(f"{path}: has no column {min(missing)!r}")
            return [[line[column] or "" for column in columns] for line in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from None


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[Iterable[object]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
