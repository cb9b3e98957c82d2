"""The colours of PASCAL VOC, in which label maps are painted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def voc_palette() -> NDArray[np.uint8]:
    """Return the 256 colours of PASCAL VOC: uint8, shape (256, 3); 0 is black.

    The bits of an index, three at a time, are dealt to red, green and blue from the highest bit
    of the colour downwards.
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = (index >> (3 * level + channel)) & 1
            palette[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return palette


VOC_PALETTE = voc_palette()
