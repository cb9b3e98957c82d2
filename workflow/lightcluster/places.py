"""The names that the workflow gives to files and folders of its own below ``results/``.

A dataset cannot be called like one of the first, nor a run like one of the second. A test compares
them with the rules.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from lightcluster.paths import LONGEST, shortened

WEIGHTS = "weights"
OF_RESULTS = (WEIGHTS,)
"""Directly below ``results/``, beside the folders of datasets."""

OF_ALL_RUNS = (
    "census.csv", "classes.csv", "comparison", "labels", "manifest", "manifest.csv", "rejected.csv",
    "scenes",
)  # fmt: skip
"""What all runs of a configuration have together, directly below the folder of their dataset."""

OF_SEVERAL_RUNS = ("benchmarks", "logs")
"""Folders there in which things of several runs, of other configurations too, lie side by side;
methods have more of them (`methods.registry.SHARED_FOLDERS`)."""

ASIDE = "aside"
"""Folder there of what no longer belongs to the results, which is never deleted."""

NAMES, POINTS = "names.csv", "names-points.csv"
"""Files of the user's own in the folder of a run, which no rule makes; see `names`."""

RECORDS = ".provenance"
"""Folder beside results, which holds the record of what made each; see `records`."""


def record_of(path: Path) -> Path:
    """Return the record of what made a result."""
    return path.parent / RECORDS / f"{shortened(path.name, LONGEST - len('.json'))}.json"


def no_folder(folder: Path) -> str | None:
    """Return what stands where a folder, or one that it is in, is to be; None if nothing does."""
    for place in (*reversed(folder.parents), folder):
        if os.path.lexists(place) and not place.is_dir():
            broken = place.is_symlink() and not os.path.exists(place)
            what = "a link that leads to nothing" if broken else "no folder"
            return f"{place}: is {what}; move it away, for results are made there"
    return None


def unwritable(folder: Path) -> str | None:
    """Return why nothing could be written to a folder that is there or is to be made; else None."""
    if reason := no_folder(folder):
        return reason
    place = next(place for place in (folder, *folder.parents) if place.is_dir())
    if os.access(place, os.W_OK | os.X_OK):
        return None
    return f"{place.absolute()}: is read-only; make it writable, or start in another folder"


def taken(name: str, places: Collection[str]) -> str | None:
    """Return the place whose name is the same, as disks compare names that ignore case."""
    return next((place for place in places if place.casefold() == name.casefold()), None)


def twins(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of names that differ in nothing but case."""
    first: dict[str, str] = {}
    found = []
    for name in names:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            found.append((other, name))
    return found
