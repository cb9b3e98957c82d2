"""The evaluation protocols of datasets: where pixels are counted, and how clusters are matched.

Three different scores are called "unsupervised mIoU"; they are comparable only within a protocol.

================  ===================  ======================  ==================================
protocol          counted at           matched by              classes without a true pixel
================  ===================  ======================  ==================================
``maskcontrast``  the label's size     IoU-Hungarian           count 0
``stego``         320 x 320            count-Hungarian         count 0 if predicted, else left out
``coco_things``   the label's size     IoU-Hungarian           count 0
================  ===================  ======================  ==================================

Where clusters and classes differ in number, the first and the last vote by IoU, and ``stego`` gives
extra clusters to the class of most of their pixels; see `matching`.
(MaskContrast, arXiv 2102.06191; STEGO, arXiv 2203.08414.) ``per_image`` matches each image by
itself and is in `per_image`. All are computed from the same stored segmentations: for ``stego``
the segmentation, which has the size of its image, and the label are brought to 320 x 320 by the
same nearest-neighbour resampling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightcluster.errors import StoreError
from lightcluster.evaluation.matching import How
from lightcluster.evaluation.scores import Absent
from lightcluster.evaluation.settings import PER_IMAGE

FrameName = Literal["original", "centre", "squashed"]
SIDE = 320
"""Pixels of each side of what protocol ``stego`` counts."""


class Frame(NamedTuple):
    """Description of how an image is resized and cropped before its pixels are counted."""

    resolution: str
    crop: str


FRAMES: dict[FrameName, Frame] = {
    "original": Frame("original", "none"),
    "centre": Frame(f"short side {SIDE}, nearest", f"centre {SIDE}"),
    "squashed": Frame(f"squashed to {SIDE} x {SIDE}, nearest", "none"),
}


@dataclass(frozen=True)
class Protocol:
    """A protocol of dataset-level scores.

    Attributes
    ----------
    matchings : tuple of How
        That of the protocol first, then variants that are reported as well.
    absent : Absent
        How a class that neither occurs nor is predicted counts in the mean IoU.
    """

    matchings: tuple[How, ...]
    absent: Absent


PROTOCOLS: dict[str, Protocol] = {
    "maskcontrast": Protocol(
        ("iou_hungarian", "count_hungarian", "background_fixed", "iou_majority", "count_majority"),
        "zero",
    ),
    "stego": Protocol(("count_hungarian",), "skip"),
    "coco_things": Protocol(("iou_hungarian",), "zero"),
}


def dataset_level(protocols: Iterable[str]) -> list[str]:
    """Return the protocols that score the whole dataset."""
    return [name for name in protocols if name != PER_IMAGE]


def frame_of(protocol: str, stego_squash: bool) -> FrameName:
    """Return the frame whose pixels a protocol counts."""
    if protocol != "stego":
        return "original"
    return "squashed" if stego_squash else "centre"


def frames_of(protocols: Iterable[str], stego_squash: bool) -> list[FrameName]:
    """Return the frames of several protocols, each once."""
    return list(dict.fromkeys(frame_of(protocol, stego_squash) for protocol in protocols))


def frame_called(resolution: str, crop: str) -> FrameName:
    """Return the frame that a table describes with these words.

    Raises
    ------
    StoreError
        If there is none.
    """
    for name, frame in FRAMES.items():
        if frame == Frame(resolution, crop):
            return name
    raise StoreError(f"resolution {resolution!r} with crop {crop!r}: no protocol counts pixels so")


def to_frame(labels: NDArray[np.integer[Any]], frame: FrameName) -> NDArray[np.integer[Any]]:
    """Bring a map of labels to the size at which its pixels are counted.

    The same as torchvision's ``Resize(320, NEAREST)`` and ``CenterCrop(320)``, with which STEGO
    prepares its labels. If the centre of a pixel falls between two others, Pillow chooses
    differently for 16-bit images. Therefore all maps are resized as int32, so that they are sampled
    at the same positions.

    Parameters
    ----------
    labels : uint8, uint16 or int32 array, shape (height, width)
    frame : {"original", "centre", "squashed"}

    Returns
    -------
    int array
        The array itself, or int32 of shape (320, 320).
    """
    if frame == "original":
        return labels
    image = Image.fromarray(labels.astype(np.int32))
    if frame == "squashed":
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.NEAREST))
    short = min(image.size)
    width, height = (SIDE if side == short else int(SIDE * side / short) for side in image.size)
    left, top = (round((side - SIDE) / 2) for side in (width, height))
    resized = image.resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized)[top : top + SIDE, left : left + SIDE]
