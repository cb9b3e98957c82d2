"""Labels of training crops, for an optional linear probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lightcluster.datasets.labels import IGNORED, Classes, open_label, read_classes, to_indices
from lightcluster.datasets.manifest import read_manifest
from lightcluster.digests import combine
from lightcluster.methods.cause.settings import CauseSettings
from lightcluster.methods.cause.tokens import Tokens
from lightcluster.methods.cause.views import View, training_views


class Supervision:
    """The labels of training crops, for the linear probe.

    Parameters
    ----------
    manifests : sequence of Path
        Manifests of all shards, in the order of the token stores.
    classes : Classes
    ignore : int
        Label value of pixels without a class.
    tokens : Tokens
    views : callable
        Returns the training views of an image, given its height and width.
    leaks : bool
        Whether the loss may change the head, as in the released code.

    Attributes
    ----------
    classes : int
        Number of classes.
    leaks : bool
    digest : str
        Digest of the label files and of the meaning of their values.
    """

    def __init__(
        self,
        manifests: Sequence[Path],
        classes: Classes,
        ignore: int,
        tokens: Tokens,
        views: Callable[[int, int], list[View]],
        *,
        leaks: bool,
    ) -> None:
        self.classes = len(classes.ids)
        self.leaks = leaks
        self._known, self._ignore = classes, ignore
        self._rows = {row.image_id: row for path in manifests for row in read_manifest(path)}
        labels = {row.image_id: row.label for row in self._rows.values() if row.label is not None}
        self.digest = combine(
            [
                repr((classes, ignore)),
                *(f"{name} {label.taxonomy} {label.digest}" for name, label in labels.items()),
            ]
        )
        self._views = views
        self._tokens = tokens

    def labels_of(self, views: NDArray[np.intp]) -> Tensor:
        """Return the class of each pixel of some views, from 0; -1 for pixels without a class.

        Parameters
        ----------
        views : int array, shape (B,)

        Returns
        -------
        Tensor int64 [B, side, side]
            At the size of the backbone's input, by nearest-neighbour sampling.
        """
        side = self._tokens.grid[0] * self._tokens.patch_size
        found = np.full((len(views), side, side), -1, np.int64)
        for place, number in enumerate(views.tolist()):
            image_id, _, view = self._tokens.names[number].rpartition("#")
            row = self._rows[image_id]
            if row.label is not None:
                rows, columns = self._views(row.height, row.width)[int(view)].centers(side)
                label = open_label(row.label, (row.height, row.width))
                found[place] = to_indices(label, self._known, self._ignore)[np.ix_(rows, columns)]
        found[found == IGNORED] = -1
        return torch.from_numpy(found)


def read_supervision(
    settings: CauseSettings,
    manifests: Sequence[Path],
    classes_file: Path,
    *,
    ignore: int,
    leaks: bool,
) -> Callable[[Tokens], Supervision]:
    """Return a function that returns the labels for a linear probe, given the tokens.

    Parameters
    ----------
    settings : CauseSettings
    manifests : sequence of Path
        Manifests of all shards.
    classes_file : Path
    ignore : int
        Label value of pixels without a class.
    leaks : bool
        See `Supervision`.

    Returns
    -------
    callable
    """

    def views(height: int, width: int) -> list[View]:
        return training_views(
            height, width, settings.fractions, settings.mirrored, settings.framing
        )

    classes = read_classes(classes_file)
    return lambda tokens: Supervision(manifests, classes, ignore, tokens, views, leaks=leaks)


def supervised_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of upsampled scores and labels.

    Parameters
    ----------
    scores : Tensor float [B, classes, rows, columns]
        Scores of patches. They are upsampled bilinearly to the size of the labels, one image at a
        time, in the backward pass too.
    labels : Tensor int64 [B, height, width]
        Class of each pixel; -1 for pixels without a class.

    Returns
    -------
    Tensor, scalar
        Mean over all labelled pixels of the batch; 0 if there are none.
    """
    total = scores.new_zeros(())
    for own, truth in zip(scores, labels, strict=True):
        total = total + checkpoint(
            _summed_loss, own, truth, use_reentrant=False, preserve_rng_state=False
        )
    return total / (labels >= 0).sum().clamp(min=1)


def _summed_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the cross-entropy over the labelled pixels of one image."""
    pixels = functional.interpolate(scores[None], labels.shape, mode="bilinear")
    return functional.cross_entropy(pixels, labels[None], ignore_index=-1, reduction="sum")
