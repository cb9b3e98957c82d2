"""Estimate the duration of a run from a short measurement on this machine.

Two things are timed: a pass of the backbone over one image of the dataset, with random weights, and
the refinement of one mask of fixed size. The first is most of what a run of many images takes. The
second compares this machine with the one on which all other steps were measured.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightcluster.config import Config
from lightcluster.extraction.backbones.registry import find_family
from lightcluster.extraction.passes import compute_features, images_in_pass
from lightcluster.extraction.precision import resolve_precision
from lightcluster.masks.pixels import refine_mask
from lightcluster.masks.refinement.registry import RefinementSettings
from lightcluster.threads import device_of

_SIZE = (375, 500)
"""Height and width of the refined mask: a typical VOC photograph."""

_REFINED = 0.019
"""Seconds that its refinement takes on the reference machine: two cores, 2026-11-30."""

_START, EACH = 40.0, 0.15
"""Seconds on the reference machine: a run of few images on two cores, which mostly starts
processes, and the CPU time of each image without the backbone (`benchmarks/README.md`)."""

_BATCH = 8

REGIONS = 2
"""Approximate number of region crops per image."""


@dataclass(frozen=True)
class Speed:
    """Speed of this machine.

    Attributes
    ----------
    device : str
    cores : int
    token : float
        Seconds that a pass of the backbone takes for each patch.
    slowness : float
        Time that other work takes, relative to the reference machine.
    """

    device: str
    cores: int
    token: float
    slowness: float

    def of_features(self, tokens: int) -> float:
        """Return about how many seconds the features of so many patches take."""
        return self.token * tokens

    def of_run(self, images: int, crop: int, *, shards: int, masks: bool) -> float:
        """Return about how many seconds the other steps of a run take.

        Parameters
        ----------
        images : int
        crop : int
            Patches of the crop of a region.
        shards : int
            Each is worked on by one core at a time.
        masks : bool
            Whether the method makes masks and regions.
        """
        crops = images * REGIONS * crop if masks else 0
        rest = images * EACH * (1 if masks else 0.5) / min(self.cores, shards)
        return self.token * crops + self.slowness * (_START + rest)


def measure_speed(config: Config, tokens: int, cores: int) -> Speed:
    """Measure how fast this machine is; takes a few seconds, more with a large backbone.

    Parameters
    ----------
    config : Config
        Of the backbone and its precision.
    tokens : int
        Patches of an image.
    cores : int
    """
    device = device_of("auto")
    return Speed(
        device, cores, _time_passes(config, tokens, device, cores), _time_refinement() / _REFINED
    )


def _time_passes(config: Config, tokens: int, device: str, cores: int) -> float:
    """Return how many seconds a patch takes while all cores, or the device, are at work."""
    family, network = find_family(config.backbone.model)
    if config.backbone.source != "none":
        network = family.build(config.backbone.model)
    backbone = family.open(network, device, None, None, config.backbone.positions)
    precision = resolve_precision(config.features.precision, device)
    side = max(1, round(tokens**0.5)) * backbone.patch_size
    rng = np.random.default_rng(0)
    count = 1 if device == "cpu" else images_in_pass(_BATCH, backbone.device)
    shape = (count, 3, side, side)
    batches = [rng.standard_normal(shape, np.float32) for _ in range(max(2, cores))]

    def passes(given: list[NDArray[np.float32]]) -> float:
        began = time.perf_counter()
        for found in compute_features(
            backbone, given, ("key",), -1, precision=precision, threads=cores
        ):
            found.cls.cpu()
        return time.perf_counter() - began

    passes([batches[0][:, :, : backbone.patch_size, : backbone.patch_size]])  # a first one is slow
    patches: int = len(batches) * count * (side // backbone.patch_size) ** 2
    return passes(batches) / patches


def _time_refinement() -> float:
    """Return how many seconds the refinement of a mask takes, the best of three."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*_SIZE, 3), np.uint8)
    score = rng.random((28, 37), np.float32)
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        refine_mask(
            score, image, upsampling="bilinear", threshold=0.5, refinement=RefinementSettings()
        )
        spent.append(time.perf_counter() - began)
    return min(spent)
