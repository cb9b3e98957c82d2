"""Labels of training crops, for the linear probe that may be trained beside the cluster probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightcluster.cause.tokens import Tokens
from lightcluster.cause.views import View, training_views
from lightcluster.datasets.labels import IGNORED, Classes, read_classes, read_label, to_indices
from lightcluster.datasets.manifest import read_manifest


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
        self._views = views
        self._tokens = tokens

    def labels_of(self, views: NDArray[np.intp]) -> Tensor:
        """Return the class, from 0, at the centre of each patch; -1 where there is none.

        Parameters
        ----------
        views : int array, shape (B,)

        Returns
        -------
        Tensor int64 [B, T]
        """
        side = self._tokens.grid[0]
        found = np.full((len(views), side, side), -1, np.int64)
        for place, number in enumerate(views.tolist()):
            image_id, _, view = self._tokens.names[number].rpartition("#")
            row = self._rows[image_id]
            if row.label is not None:
                rows, columns = self._views(row.height, row.width)[int(view)].centers(side)
                label = read_label(row.label, (row.height, row.width))
                found[place] = to_indices(label, self._known, self._ignore)[np.ix_(rows, columns)]
        found[found == IGNORED] = -1
        return torch.from_numpy(found.reshape(len(views), -1))


def read_supervision(
    settings: Mapping[str, Any], manifests: Sequence[Path], classes_file: Path | None
) -> Callable[[Tokens], Supervision] | None:
    """Return the labels that a step's settings ask for, as a function of the tokens; None: none."""
    if settings["cause.linear_probe"] == "none" or classes_file is None:
        return None

    def views(height: int, width: int) -> list[View]:
        return training_views(
            height, width, settings["cause.fractions"], settings["cause.mirrored"],
            settings["cause.framing"],
        )  # fmt: skip

    classes, leaks = read_classes(classes_file), settings["cause.linear_probe"] == "as_released"
    return lambda tokens: Supervision(
        manifests, classes, settings["dataset.ignore"], tokens, views, leaks=leaks
    )
