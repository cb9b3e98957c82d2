"""Which clusters of now are those that were named.

A clustering numbers its clusters as it likes, and another one may cut the dataset otherwise. What a
person has named is what the cluster holds. So names are kept with *points*: of each image and each
cluster in it, one pixel. Where these pixels are now says which cluster has the objects of which
name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightcluster.names.file import Point

MAJORITY = 0.5
"""Share of a cluster's points that must be of one name for the cluster to have it."""

SURE = 0.8
"""A match with a lower share than this is reported as uncertain."""

NOWHERE = -1
"""Stands for "no cluster": the point is background, or no longer in any segmentation."""


@dataclass(frozen=True)
class Carried:
    """Names of the clusters of now.

    Attributes
    ----------
    names : dict of int to str
        By cluster; those without a name are left out.
    remarks : tuple of str
        What a person should look at, a sentence each.
    changed : bool
        Whether clusters are no longer numbered as they were.
    """

    names: dict[int, str]
    remarks: tuple[str, ...]
    changed: bool


def draw_points(
    image_id: str, clusters: NDArray[np.integer], background: int | None
) -> list[Point]:
    """Draw a pixel of each cluster in an image, the same for the same segmentation.

    Parameters
    ----------
    image_id : str
    clusters : int array, shape (height, width)
    background : int or None
        The value of which none is drawn.

    Returns
    -------
    list of Point
        In the order of the clusters.
    """
    flat = clusters.ravel()
    order = np.argsort(flat, kind="stable")
    values, starts, counts = np.unique(flat[order], return_index=True, return_counts=True)
    rng = np.random.default_rng([int(flat.sum(dtype=np.int64)), flat.size])
    picks = order[starts + rng.integers(0, counts)]
    rows, columns = np.unravel_index(picks, clusters.shape)
    return [
        Point(image_id, int(row), int(column), int(value))
        for value, row, column in zip(values, rows, columns, strict=True)
        if value != background
    ]


def carry_names(named: Mapping[int, str], before: Sequence[int], now: Sequence[int]) -> Carried:
    """Give the clusters of now the names of those that hold the same objects.

    Parameters
    ----------
    named : mapping of int to str
        Names of the former clusters, by number.
    before, now : sequence of int
        The cluster of each point, formerly and now; `NOWHERE` for one that is in none now.

    Returns
    -------
    Carried
        A cluster has the name of more than half of its points, if there is such a name. Several
        clusters may have the same one.
    """
    pairs = [(old, new) for old, new in zip(before, now, strict=True) if new != NOWHERE]
    labels = ["", *dict.fromkeys(named.values())]
    number = {name: index for index, name in enumerate(labels)}
    names: dict[int, str] = {}
    remarks: list[str] = []
    counts = {new: np.zeros(len(labels), np.int64) for new in sorted({new for _, new in pairs})}
    for old, new in pairs:
        counts[new][number[named.get(old, "")]] += 1
    for new, votes in counts.items():
        best, share = int(votes.argmax()), votes.max() / votes.sum()
        if best and share > MAJORITY:
            names[new] = labels[best]
            if share < SURE:
                remarks.append(
                    f"cluster {new} is called {labels[best]!r}, as {share:.0%} of its points were: "
                    "look at it"
                )
    remarks += _lost(labels, counts, names)
    return Carried(names, tuple(remarks), any(old != new for old, new in pairs))


def _lost(
    labels: Sequence[str], counts: Mapping[int, NDArray[np.int64]], names: Mapping[int, str]
) -> Iterator[str]:
    """Yield a sentence on each name that no cluster has now."""
    for index, name in enumerate(labels):
        if not name or name in names.values():
            continue
        votes = {new: int(found[index]) for new, found in counts.items() if found[index]}
        total = sum(votes.values())
        most = sorted(votes, key=lambda new: -votes[new])[:3]
        where = ", ".join(f"cluster {new} ({votes[new] / total:.0%})" for new in most)
        yield f"no cluster is called {name!r} now: its points are in {where or 'none'}"
