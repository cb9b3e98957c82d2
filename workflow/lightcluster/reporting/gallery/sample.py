"""Which images the gallery shows of a dataset that is too large to show all of it.

What is shown is drawn shard by shard, for the shard of an image depends on nothing but its name.
Labels play no part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightcluster.reporting.choice import draw_lot

DOUBTFUL = 0.1
"""Share of the images that counts as of low confidence."""


@dataclass(frozen=True)
class Candidate:
    """An image that the gallery may show.

    Attributes
    ----------
    image_id : str
    clusters : frozenset of int
        To which its regions belong; none of an image in which nothing was found.
    confidence : float or None
        The lowest of its regions; None if they have none.
    """

    image_id: str
    clusters: frozenset[int]
    confidence: float | None


def draw_sample(candidates: Sequence[Candidate], count: int) -> list[int]:
    """Choose images, the same ones for the same candidates in any order.

    One half is drawn by lot. For the other half, there are several kinds of images: one for each
    cluster, those in which nothing was found, and the tenth of lowest confidence. An image is added
    from the kind of which this half has the fewest, until there are enough.

    Parameters
    ----------
    candidates : sequence of Candidate
    count : int
        Number wanted; all if there are fewer.

    Returns
    -------
    list of int
        Their places among the candidates, ascending.
    """
    if count >= len(candidates):
        return list(range(len(candidates)))
    if not count:
        return []
    by_lot = sorted(range(len(candidates)), key=lambda n: draw_lot(candidates[n].image_id))
    kinds = _kinds(candidates, by_lot)
    chosen = set(by_lot[: count - count // 2])
    numbers = [0] * len(kinds)
    queues = [iter(kind) for kind in kinds]
    left = set(range(len(kinds)))
    while len(chosen) < count:
        fewest = min(left, key=lambda kind: (numbers[kind], kind))
        place = next((n for n in queues[fewest] if n not in chosen), None)
        if place is None:
            left.remove(fewest)
            continue
        chosen.add(place)
        for kind, members in enumerate(kinds):
            numbers[kind] += place in members
    return sorted(chosen)


def _kinds(candidates: Sequence[Candidate], by_lot: Sequence[int]) -> list[dict[int, None]]:
    """Return the images of each kind, in the order in which they are taken.

    The kinds that are no clusters come first. Clusters follow in an order that is another one for
    other images: a shard may show fewer images than there are clusters.
    """
    nothing = [n for n in by_lot if not candidates[n].clusters]
    confidence = {n: value for n in by_lot if (value := candidates[n].confidence) is not None}
    doubtful = sorted(confidence, key=lambda n: confidence[n])
    of_cluster: dict[int, list[int]] = {}
    for n in by_lot:
        for cluster in sorted(candidates[n].clusters):
            of_cluster.setdefault(cluster, []).append(n)
    first = candidates[by_lot[0]].image_id
    clusters = sorted(of_cluster, key=lambda cluster: draw_lot(f"{cluster} {first}"))
    kinds = [nothing, doubtful[: math.ceil(DOUBTFUL * len(doubtful))]]
    return [
        dict.fromkeys(kind) for kind in (*kinds, *(of_cluster[one] for one in clusters)) if kind
    ]
