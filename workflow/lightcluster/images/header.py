"""What is known of an image before its pixels are decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lightcluster.images.depth import Samples

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True)
class Header:
    """An image whose header is read.

    Attributes
    ----------
    format : str
    height, width : int
        As stored.
    decode : callable
        Returns the pixels as stored: `Samples`, or RGB, uint8 [height, width, 3]. May be called
        once, while the file is open.
    orientation : int
        1 to 8 as in EXIF: how the stored image is to be turned.
    frames : callable
        Returns the number of frames or pages; may read through the file.
    draft : callable or None
        Asks the decoder for no more than (width, height), where it can.
    """

    format: str
    height: int
    width: int
    decode: Callable[[], Samples | NDArray[np.uint8]]
    orientation: int = 1
    frames: Callable[[], int] = lambda: 1
    draft: Callable[[tuple[int, int]], object] | None = None

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        turned = self.orientation in (5, 6, 7, 8)
        return (self.width, self.height) if turned else (self.height, self.width)


def turn(stored: NDArray[Kind], orientation: int) -> NDArray[Kind]:
    """Return the upright image [height, width, …] of a stored one."""
    if orientation in (5, 6, 7, 8):
        stored = stored.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    return np.ascontiguousarray(stored)
