"""The header of an image: what is known before its pixels are decoded."""

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
    """An image whose header has been read.

    Attributes
    ----------
    format : str
        Name of the file format, such as ``PNG``.
    height, width : int
        Size as stored, before rotation.
    decode : callable
        Returns the pixels as stored: `Samples`, or RGB, uint8 [height, width, 3]. May be called
        once, while the file is open.
    orientation : int
        EXIF orientation, 1 to 8: how the stored image must be rotated and mirrored.
    frames : callable
        Returns the number of frames or pages; may read the whole file.
    draft : callable or None
        Lets the decoder scale the image down to about (width, height) while decoding; None if the
        format does not support this.
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
        """Height and width after applying the orientation."""
        turned = self.orientation in (5, 6, 7, 8)
        return (self.width, self.height) if turned else (self.height, self.width)


def turn(stored: NDArray[Kind], orientation: int) -> NDArray[Kind]:
    """Apply an EXIF orientation to a stored image.

    Parameters
    ----------
    stored : array, shape (height, width, …)
    orientation : int
        1 to 8.

    Returns
    -------
    array, shape (height, width, …) or (width, height, …)
        The upright image, contiguous.
    """
    if orientation in (5, 6, 7, 8):
        stored = stored.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    return np.ascontiguousarray(stored)
