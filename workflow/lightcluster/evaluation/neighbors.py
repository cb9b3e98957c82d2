"""k-NN classification of regions with true labels, which measures how good their features are.

Oracle labels show what is possible with the outlines of the regions. A vote of the most similar
regions of *other* images, each with its best class, shows what is possible with their features as
well (Caron et al. 2021, arXiv 2104.14294, section 4.1, do the same with whole images). Clustering
without labels can hardly do better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.sample import draw_rows, quota_of_shard
from lightcluster.evaluation.counting import best_classes, relabel
from lightcluster.evaluation.protocols import FrameName
from lightcluster.evaluation.region_counts import RegionCounts, read_region_counts
from lightcluster.files import read_arrays, write_arrays
from lightcluster.regions.labelling import read_labelling

NEIGHBORS = 5
"""Regions that vote."""

VOTERS = 4_096
"""Largest number of regions that vote, drawn evenly over the shards."""

_AT_ONCE = 1_024
"""Regions that are compared with the voters at once: 50 MB."""


class Voters(NamedTuple):
    """Regions that vote, and what they vote for.

    Attributes
    ----------
    points : float32 array, shape (regions, dim)
        Of unit length, for cosine similarity.
    image, label : int64 array, shape (regions,)
        Image and class of each region; the class is -1 if no pixel of the region has one.
    """

    points: NDArray[np.float32]
    image: NDArray[np.int64]
    label: NDArray[np.int64]

    def take(self, rows: NDArray[np.integer]) -> Voters:
        """Return some of them."""
        return Voters(self.points[rows], self.image[rows], self.label[rows])


def vote(
    points: NDArray[np.float32],
    image: NDArray[np.int64],
    voters: Voters,
    neighbors: int = NEIGHBORS,
) -> NDArray[np.int64]:
    """Return the class of most of the nearest voters of other images; in a tie, the nearest one's.

    Regions are compared with the voters in blocks, so that the memory does not grow with a shard.

    Parameters
    ----------
    points : float32 array, shape (regions, dim)
        Of unit length.
    image : int64 array, shape (regions,)
        The image of each.
    voters : Voters
    neighbors : int

    Returns
    -------
    int64 array, shape (regions,)
        -1 where no voter is of another image.
    """
    if not len(voters.points):
        return np.full(len(points), -1, np.int64)
    blocks = [slice(start, start + _AT_ONCE) for start in range(0, len(points), _AT_ONCE)]
    found = [_vote(points[block], image[block], voters, neighbors) for block in blocks]
    return np.concatenate([np.empty(0, np.int64), *found])


def _vote(
    points: NDArray[np.float32], image: NDArray[np.int64], voters: Voters, neighbors: int
) -> NDArray[np.int64]:
    """Return `vote` of a block of regions."""
    similarity = points @ voters.points.T
    similarity[image[:, None] == voters.image] = -np.inf
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbors]
    allowed = np.isfinite(np.take_along_axis(similarity, nearest, axis=1))
    label = np.where(allowed, voters.label[nearest], -1)
    votes = ((label[:, :, None] == label[:, None, :]) & allowed[:, None, :]).sum(axis=2)
    first = np.where(allowed, votes, 0).argmax(axis=1)
    found: NDArray[np.int64] = np.take_along_axis(label, first[:, None], axis=1)[:, 0]
    return found


def regions_of(counts: RegionCounts, points: NDArray[np.float32], first_image: int) -> Voters:
    """Return the regions of a shard's images with a label, in the order of their counts.

    Parameters
    ----------
    counts : RegionCounts
    points : float32 array, shape (regions, dim)
        Of all regions of the shard.
    first_image : int
        Number of the first image.
    """
    rows, image, label = [np.zeros(0, np.intp)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number in range(len(counts.image_id)):
        own, pixels = counts.regions_of(number), counts.counts_of(number).counts
        rows.append(np.arange(own.start, own.stop))
        image.append(np.full(own.stop - own.start, first_image + number))
        known = pixels[1:].any(axis=1)
        label.append(np.where(known, best_classes(pixels, counts.ground)[1:], -1))
    return Voters(points[np.concatenate(rows)], np.concatenate(image), np.concatenate(label))


def count_votes(
    counts: RegionCounts, regions: Voters, voters: Voters, neighbors: int = NEIGHBORS
) -> NDArray[np.int64]:
    """Count the classes that the regions of a shard get by the vote against true classes.

    Parameters
    ----------
    counts : RegionCounts
    regions : Voters
        Of `regions_of`.
    voters : Voters
    neighbors : int

    Returns
    -------
    int64 array, shape (classes + 1, classes)
        The last row is for regions without a vote and, if there is no background class, for the
        pixels outside of all regions.
    """
    no_class = counts.pixels.shape[1]
    labels = np.full(len(counts.pixels), no_class if counts.ground is None else counts.ground)
    inside = np.ones(len(labels), bool)
    inside[counts.offset[:-1]] = False
    found = vote(regions.points, regions.image, voters, neighbors)
    labels[inside] = np.where(found < 0, no_class, found)
    return relabel(counts.pixels, labels, no_class + 1)


def vote_neighbors(
    region_counts: Sequence[Path], regions: Sequence[Path], labelling: Path, output: Path
) -> None:
    """Write `count_votes` of all shards, summed, for each frame, such as ``original``.

    Parameters
    ----------
    region_counts, regions : sequence of Path
        Files of each shard, of `region_counts.count_regions` and `embedding.embed_regions`.
    labelling : Path
        The features are compared after its projection.
    output : Path
    """
    fitted = read_labelling(labelling)

    def iter_shards() -> Iterator[dict[FrameName, tuple[RegionCounts, Voters]]]:
        images = 0
        for path, described in zip(region_counts, regions, strict=True):
            points = fitted.project(read_arrays(described, *fitted.features))
            frames = read_region_counts(path)
            yield {
                frame: (counts, regions_of(counts, points, images))
                for frame, counts in frames.items()
            }
            images += len(next(iter(frames.values())).image_id)

    # Shards are read twice, because the regions of all of them may not fit into memory.
    drawn: dict[FrameName, list[Voters]] = {}
    for shard, frames in enumerate(iter_shards()):
        quota = quota_of_shard(VOTERS, shard, len(region_counts))
        for frame, (_, own) in frames.items():
            known = np.flatnonzero(own.label >= 0)
            chosen = known[draw_rows(len(known), quota, 0, shard)]
            drawn.setdefault(frame, []).append(own.take(chosen))
    voters = {
        frame: Voters(*map(np.concatenate, zip(*parts, strict=True)))
        for frame, parts in drawn.items()
    }
    totals: dict[str, NDArray[np.int64]] = {}
    for frames in iter_shards():
        for frame, (counts, own) in frames.items():
            totals[frame] = totals.get(frame, 0) + count_votes(counts, own, voters[frame])
    write_arrays(output, compressed=True, **totals)
