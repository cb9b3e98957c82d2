"""Scores of segmentations of one's own, by the protocols of the field."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcluster.api.given import as_array
from lightcluster.errors import ConfigError, ImageError
from lightcluster.evaluation.confusion import Confusion, count_confusion
from lightcluster.evaluation.protocols import PROTOCOLS, frame_of, to_frame
from lightcluster.evaluation.scores import score_classes


@dataclass(frozen=True, eq=False)
class Miou:
    """Scores of a set of segmentations under one protocol, all in [0, 1].

    Attributes
    ----------
    miou : float
        Mean IoU over the classes, pooled over all images.
    accuracy : float
        Share of the counted pixels whose class is right.
    iou : dict of str to float
        Of each class; NaN if it is neither predicted nor true anywhere.
    cluster_to_class : int64 array, shape (clusters,)
        The class that each cluster was matched with; -1 for none.
    protocol, matching : str
        By which it was done.
    fallback : str or None
        What was done because clusters and classes differ in number, to be said beside the figure.
    images : int
    """

    miou: float
    accuracy: float
    iou: dict[str, float]
    cluster_to_class: NDArray[np.int64]
    protocol: str
    matching: str
    fallback: str | None
    images: int


def miou(
    predictions: Iterable[ArrayLike],
    truths: Iterable[ArrayLike],
    *,
    protocol: str = "maskcontrast",
    classes: int | Sequence[str],
    clusters: int | None = None,
    ignore: int = 255,
    squash: bool = False,
) -> Miou:
    """Score label maps against the truth by a protocol of the field.

    Scores of different protocols do not compare; see `evaluation.protocols`.

    Parameters
    ----------
    predictions : iterable of int array, shape (height, width)
        Cluster of each pixel, from 0; of each image, at the size of its truth.
    truths : iterable of int array, shape (height, width)
        Class of each pixel, from 0, or `ignore`.
    protocol : {"maskcontrast", "stego", "coco_things"}
    classes : int or sequence of str
        Number of classes, or their names.
    clusters : int, optional
        Number of clusters; by default that of the classes.
    ignore : int
        Value of a truth that is not counted.
    squash : bool
        Protocol ``stego``: squash to 320 x 320, as CAUSE does with VOC, instead of cropping.

    Returns
    -------
    Miou

    Raises
    ------
    ConfigError
        If the protocol is unknown.
    ImageError
        If the two differ in number or size, a value is no cluster or no class, or there is none.

    Examples
    --------
    >>> import numpy as np
    >>> import lightcluster as lc
    >>> truth = np.array([[0, 0, 1], [0, 1, 255]])
    >>> found = lc.miou([1 - truth % 2], [truth], classes=2)
    >>> found.miou, found.cluster_to_class.tolist()
    (1.0, [1, 0])
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol {protocol!r} unknown; allowed are {', '.join(PROTOCOLS)}")
    names = [str(number) for number in range(classes)] if isinstance(classes, int) else classes
    count = len(names) if clusters is None else clusters
    frame = frame_of(protocol, squash)
    total, images = Confusion(np.zeros((count, len(names)), np.int64), 0), 0
    for images, (prediction, truth) in enumerate(_pairs(predictions, truths), start=1):
        if prediction.shape != truth.shape:
            raise ImageError(
                f"image {images - 1}: the prediction has shape {prediction.shape} and its truth "
                f"{truth.shape}; resize the prediction first"
            )
        try:
            total += count_confusion(
                to_frame(prediction, frame), to_frame(truth, frame), count, len(names), ignore
            )
        except Exception as error:
            raise ImageError(f"image {images - 1}: {error}") from None
    if not images:
        raise ImageError("there is no image to score")
    rules = PROTOCOLS[protocol]
    scores = score_classes(total.counts, names, rules.matchings[0], rules.absent)
    return Miou(
        scores.mean_iou, scores.pixel_accuracy,
        dict(zip(names, scores.iou.tolist(), strict=True)), scores.matching.cluster_to_class,
        protocol, scores.matching.name, scores.matching.fallback, images,
    )  # fmt: skip


def _pairs(
    predictions: Iterable[ArrayLike], truths: Iterable[ArrayLike]
) -> Iterable[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield each prediction with its truth, as arrays of integers."""
    try:
        for number, pair in enumerate(zip(predictions, truths, strict=True)):
            arrays = [_labels(values, number) for values in pair]
            yield arrays[0], arrays[1]
    except ValueError as error:
        if "zip()" not in str(error):
            raise
        raise ImageError("there are not as many predictions as truths") from None


def _labels(values: ArrayLike, number: int) -> NDArray[Any]:
    """Return a label map as an array."""
    array = as_array(values)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise ImageError(
            f"image {number}: label maps are (height, width) of integers, not {array.dtype} of "
            f"shape {array.shape}"
        )
    return array
