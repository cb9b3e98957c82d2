"""The views of an image in CAUSE: training crops, and windows for segmentation.

A view is a box of the image, resized to a square of R × R pixels. The released code resizes the
short side to R and then takes the centre crop of R × R; here, the centred square of the box is
resized.
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
    """A box of an image in pixels, optionally mirrored horizontally."""

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
        """Return rows and columns of the image at the cell centres of a grid [count, count]."""
        steps = (np.arange(count) + 0.5) / count
        rows = self.top + (steps * self.height).astype(np.intp)
        columns = self.left + (steps * self.width).astype(np.intp)
        return rows, columns[::-1] if self.mirrored else columns


def training_views(
    height: int, width: int, fractions: Sequence[float], mirrored: bool, framing: Framing
) -> list[View]:
    """Return the training crops of an image: four corners and the centre, for each size.

    Parameters
    ----------
    height, width : int
        Size of the image.
    fractions : sequence of float
        Side lengths of the crops, as fractions of the image.
    mirrored : bool
        Whether the mirror image of each crop is added.
    framing : {"crop", "squash"}
        Whether the centred square of a crop is used, or the whole crop.

    Returns
    -------
    list of View
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
    """Return the whole box or its centred square."""
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
        Size of the image.
    framing : {"crop", "squash"}

    Returns
    -------
    list of View
        ``squash``: the whole image. ``crop``: squares along the long side, as large as the short
        side. Where windows overlap, the later one counts, so the centred one, the only one that
        the protocol `stego` scores, is last.
    """
    if framing == "squash":
        return [View(0, 0, height, width)]
    side, long = min(height, width), max(height, width)
    middle, end = (long - side) // 2, long - side
    half = ceil((end - middle) / side)  # windows on each side of the centred one
    before = [middle * step // half for step in range(half)]
    after = [middle + (end - middle) * step // half for step in range(half, 0, -1)]
    starts = [*before, *after, middle]
    upright = height > width
    return [View(start if upright else 0, 0 if upright else start, side, side) for start in starts]


def side_in_patches(pixels: int, patch: int) -> int:
    """Return the number of patches along a side of `pixels` pixels, rounded, at least 1."""
    return max(1, round(pixels / patch))
