"""Forward passes of the backbone; on a CPU, several run at once, each in a single thread.

If threads share the matrix products of a small ViT, they wait for each other a hundred times per
pass; threads with separate passes do not. Also, the result of a pass then depends only on its
images: jobs with one thread and with eight write the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lightcluster.ahead import compute_ahead
from lightcluster.extraction.backbones.protocol import Backbone, Facet, Features

_ENOUGH_FOR_CPU = 4


def images_in_pass(batch_size: int, device: torch.device) -> int:
    """Return the number of images per pass: `batch_size`, but at most 4 on a CPU.

    Larger batches are no faster on a CPU.
    """
    return min(batch_size, _ENOUGH_FOR_CPU) if device.type == "cpu" else batch_size


def compute_features(
    backbone: Backbone,
    batches: Iterable[NDArray[np.float32]],
    facets: Sequence[Facet] = (),
    layer: int = -1,
    *,
    precision: torch.dtype,
    threads: int,
) -> Iterator[Features]:
    """Yield the features of each batch of images, in order.

    Parameters
    ----------
    backbone : Backbone
    batches : iterable of float32 array, shape (images, 3, height, width)
        Some batches are read ahead.
    facets, layer, precision
        See :meth:`.protocol.Backbone.forward`.
    threads : int
        Number of simultaneous passes on a CPU; other devices run one at a time. Until the last
        batch is done, torch's own threading is switched off.

    Yields
    ------
    Features
    """
    at_once = threads if backbone.device.type == "cpu" else 1

    def compute(images: NDArray[np.float32]) -> Features:
        on_device = torch.from_numpy(images).to(backbone.device)
        return backbone.forward(on_device, facets, layer, precision)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from compute_ahead(compute, batches, workers=at_once, most=2 * at_once)
    finally:
        torch.set_num_threads(before)
