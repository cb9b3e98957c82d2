"""Passes of the backbone: on a CPU several at a time, each in a thread of its own.

Threads that share each matrix product of a small ViT wait for one another a hundred times in a
pass; threads with a pass each do not. And what a pass computes then depends on the images in it
alone: a job with one thread and a job with eight leave the same bytes.
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
    """Return how many images a pass takes: `batch_size`, or four where more gain nothing."""
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
        Read some batches ahead.
    facets, layer, precision
        See :meth:`.protocol.Backbone.forward`.
    threads : int
        Passes at a time, on a CPU; another device computes one after the other. Until the last
        batch, torch divides no operation among threads.
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
