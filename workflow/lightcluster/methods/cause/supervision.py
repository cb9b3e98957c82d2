"""Labels of training crops, for the linear probe that may be trained beside CAUSE."""

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
        Of all shards, in the order of the tokens' stores.
    classes : Classes
    ignore : int
        Label value of pixels without a class.
    tokens : Tokens
    views : callable
        The training views of an image of (height, width).
    leaks : bool
        Whether the loss may change the head, as in the published program.

    Attributes
    ----------
    classes : int
    leaks : bool
    digest : str
        Of all that the labels depend on: their files, and what the values in them stand for.
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
        """Return the class of each pixel of a view, from 0; -1 where there is none.

        Parameters
        ----------
        views : int array, shape (B,)

        Returns
        -------
        Tensor int64 [B, side, side]
            By the nearest pixel of the label, at the size at which the backbone saw the view.
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
    """Return the labels that a linear probe is trained on, as a function of the tokens."""

    def views(height: int, width: int) -> list[View]:
        return training_views(
            height, width, settings.fractions, settings.mirrored, settings.framing
        )

    classes = read_classes(classes_file)
    return lambda tokens: Supervision(manifests, classes, ignore, tokens, views, leaks=leaks)


def supervised_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of scores, brought to the size of the labels, against them.

    Parameters
    ----------
    scores : Tensor float [B, classes, rows, columns]
        Of patches. They are upsampled bilinearly, one image at a time, also on the way back.
    labels : Tensor int64 [B, height, width]
        -1: none.

    Returns
    -------
    Tensor, scalar
        Mean over all pixels of the batch that have a label; 0 without any.
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
