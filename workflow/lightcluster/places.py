"""Names of the workflow's own files and folders below ``results/``.

Datasets and runs cannot have these names. A test compares them with the rules.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from lightcluster.paths import LONGEST, shortened

CACHE = Path(".snakemake/lightcluster")
"""Folder of what is cached of the files of datasets, which are not results."""

WEIGHTS = "weights"
OF_RESULTS = (WEIGHTS,)
"""Names in ``results/``, next to the folders of datasets."""

OF_ALL_RUNS = (
    "census.csv", "classes.csv", "comparison", "labels", "manifest", "manifest.csv", "rejected.csv",
    "scenes",
)  # fmt: skip
"""Names in the folder of a dataset that all runs of a configuration share."""

OF_SEVERAL_RUNS = ("benchmarks", "logs")
"""Folders of a dataset with files of several runs, also of other configurations. Methods add more
of them (`methods.registry.SHARED_FOLDERS`)."""

ASIDE = "aside"
"""Folder of a dataset for outdated results, which are never deleted."""

NAMES, POINTS = "names.csv", "names-points.csv"
"""The user's own files in the folder of a run, which no rule writes; see `names`."""

RECORDS = ".provenance"
"""Folder next to results with a provenance record of each; see `records`."""


def record_of(path: Path) -> Path:
    """Return the path of a result's provenance record."""
    return path.parent / RECORDS / f"{shortened(path.name, LONGEST - len('.json'))}.json"


def no_folder(folder: Path) -> str | None:
    """Return a message if a file is where a folder or one of its parents should be; else None."""
    for place in (*reversed(folder.parents), folder):
        if os.path.lexists(place) and not place.is_dir():
            broken = place.is_symlink() and not os.path.exists(place)
            what = "a broken link" if broken else "not a folder"
            return f"{place}: is {what}; move it away, because results are written there"
    return None


def unwritable(folder: Path) -> str | None:
    """Return why a folder cannot be created or written to; None if it can."""
    if reason := no_folder(folder):
        return reason
    place = next(place for place in (folder, *folder.parents) if place.is_dir())
    if os.access(place, os.W_OK | os.X_OK):
        return None
    return f"{place.absolute()}: is read-only; make it writable, or start in another folder"


def taken(name: str, places: Collection[str]) -> str | None:
    """Return the reserved name that equals `name` when case is ignored; None if there is none."""
    return next((place for place in places if place.casefold() == name.casefold()), None)


def twins(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of names that differ only in case."""
    first: dict[str, str] = {}
    found = []
    for name in names:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            found.append((other, name))
    return found
