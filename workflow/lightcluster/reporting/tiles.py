"""Small pictures of images and regions that stand for a group."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lightcluster.datasets.manifest import Row
from lightcluster.extraction.images import open_row
from lightcluster.regions.components import grow_box

TILE = 104
"""Longest side in pixels."""


@dataclass(frozen=True)
class Tile:
    """An image, or a region of it, and how typical it is of its group.

    Attributes
    ----------
    similarity : float
        Cosine to the centroid, or the confidence of a region; the higher, the more typical.
    shard : str
    image_id : str
    box : tuple of int, or None
        Top, left, bottom, right of a region; None for a whole image.
    """

    similarity: float
    shard: str
    image_id: str
    box: tuple[int, int, int, int] | None


class Nearest:
    """The most typical tiles of each group, found in one pass.

    Parameters
    ----------
    kept : int
        How many of each group.
    """

    def __init__(self, kept: int) -> None:
        self.sizes: dict[int, int] = {}
        self._kept = kept
        self._heaps: dict[int, list[tuple[float, tuple[str, str, int], Tile]]] = {}

    def add(self, group: int, tile: Tile, number: int) -> None:
        """Count a member and keep it if it is among the nearest; `number` breaks ties."""
        self.sizes[group] = self.sizes.get(group, 0) + 1
        heap = self._heaps.setdefault(group, [])
        entry = (tile.similarity, (tile.shard, tile.image_id, number), tile)
        (heapq.heappush if len(heap) < self._kept else heapq.heappushpop)(heap, entry)

    def of(self, group: int) -> list[Tile]:
        """Return the tiles of a group, the nearest first."""
        return [tile for *_, tile in sorted(self._heaps.get(group, []), reverse=True)]


def cut_tile(tile: Tile, row: Row, max_pixels: int, margin: float) -> Image.Image:
    """Return the picture of a tile: the image, or the box of a region, shrunk to fit."""
    pixels = open_row(row.image, max_pixels)
    if tile.box is not None:
        top, left, bottom, right = grow_box(np.asarray(tile.box), margin, pixels.shape[:2])
        pixels = pixels[top:bottom, left:right]
    picture = Image.fromarray(pixels)
    picture.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    return picture
