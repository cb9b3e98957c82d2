"""Which parts of an image CAUSE sees: crops to train on, and windows to segment it by.

A view is a box of the image, squashed to a square of R × R pixels. What the published programs do
in two steps, short side to R and centre crop of R × R, is here the centred square of the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightcluster.extraction.images import resize_image

Framing = Literal["crop", "squash"]
Resampling = Literal["antialiased", "nearest"]


@dataclass(frozen=True)
class View:
    """A box of an image, in pixels, perhaps mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False

    def cut(
        self, pixels: NDArray[np.uint8], side: int, resampling: Resampling = "antialiased"
    ) -> NDArray[np.uint8]:
        """Return the view of an image [H, W, 3] as uint8 [side, side, 3]."""
        if resampling == "nearest":
            return pixels[np.ix_(*self.centers(side))]
        rows, columns = (slice(self.top, self.top + self.height),
                         slice(self.left, self.left + self.width))  # fmt: skip
        cut = resize_image(np.ascontiguousarray(pixels[rows, columns]), (side, side))
        return np.ascontiguousarray(cut[:, ::-1]) if self.mirrored else cut

    def centers(self, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows and columns of the image at the centres of a grid [count, count]."""
        steps = (np.arange(count) + 0.5) / count
        rows = self.top + (steps * self.height).astype(np.intp)
        columns = self.left + (steps * self.width).astype(np.intp)
        return rows, columns[::-1] if self.mirrored else columns


def training_views(
    height: int, width: int, fractions: Sequence[float], mirrored: bool, framing: Framing
) -> list[View]:
    """Return the four corners and the centre of an image, for each size of crop.

    Parameters
    ----------
    height, width : int
    fractions : sequence of float
        Sides of a crop, as shares of those of the image.
    mirrored : bool
        Whether each crop is there mirrored as well.
    framing : {"crop", "squash"}
        Whether the centred square of a crop is taken, or all of it.
    """
    views = []
    for fraction in fractions:
        rows, columns = (max(1, int(side * fraction)) for side in (height, width))
        bottom, right = height - rows, width - columns
        corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
        views += [_framed(View(top, left, rows, columns), framing) for top, left in corners]
    if mirrored:
        views += [View(v.top, v.left, v.height, v.width, mirrored=True) for v in views]
    return views


def _framed(view: View, framing: Framing) -> View:
    """Return the whole box, or its centred square."""
    if framing == "squash":
        return view
    side = min(view.height, view.width)
    top, left = view.top + (view.height - side) // 2, view.left + (view.width - side) // 2
    return View(top, left, side, side)


def evaluation_views(height: int, width: int, framing: Framing) -> list[View]:
    """Return windows that cover an image.

    Parameters
    ----------
    height, width : int
    framing : {"crop", "squash"}

    Returns
    -------
    list of View
        ``squash``: the whole image. ``crop``: squares of the short side along the long one, the
        centred one, which alone is what the protocol `stego` scores, last: where windows overlap,
        the later one counts.
    """
    if framing == "squash":
        return [View(0, 0, height, width)]
    side, long = min(height, width), max(height, width)
    middle, end = (long - side) // 2, long - side
    half = ceil((end - middle) / side)  # windows at each side of the centred one
    before = [middle * step // half for step in range(half)]
    after = [middle + (end - middle) * step // half for step in range(half, 0, -1)]
    starts = [*before, *after, middle]
    upright = height > width
    return [View(start if upright else 0, 0 if upright else start, side, side) for start in starts]


def side_in_patches(pixels: int, patch: int) -> int:
    """Return how many patches a side of so many pixels has, to the nearest; at least 1."""
    return max(1, round(pixels / patch))
