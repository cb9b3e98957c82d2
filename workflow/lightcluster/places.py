"""The names that the workflow gives to files and folders of its own below ``results/``.

A dataset cannot be called like one of the first, nor a run like one of the second. A test compares
them with the rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

OF_RESULTS = ("weights",)
"""Directly below ``results/``, beside the folders of datasets."""

OF_DATASET = (
    "benchmarks", "census.csv", "classes.csv", "clusterbooks", "comparison", "crops", "features",
    "heads", "labels", "logs", "manifest", "manifest.csv", "rejected.csv", "scenes", "views",
)  # fmt: skip
"""Directly below the folder of a dataset, beside the folders of runs."""


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
