"""Reading the cached tokens of views, on which CAUSE is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightcluster.errors import StoreError
from lightcluster.extraction.backbones.protocol import Positions
from lightcluster.extraction.store import FeatureStore


class Tokens:
    """The cached tokens of all shards, read view by view.

    Parameters
    ----------
    stores : sequence of Path
        Feature stores of all shards.

    Attributes
    ----------
    count : int
        Number of views.
    dim : int
    grid : (int, int)
        Rows and columns of tokens, equal for all views.
    patch_size : int
    mean, std : tuple of float
        Normalisation of the backbone's input.
    weights : str
        SHA-256 of the backbone's weights.
    positions : {"timm", "as_released"}
        How position embeddings were resized.
    names : list of str
        ``image id#number`` of each view.
    digest : str
        Digest of the attributes of the stores and of the class token of each view.

    Raises
    ------
    StoreError
        If a store is damaged, if they have different attributes or grids, or if all are empty.
    """

    def __init__(self, stores: Sequence[Path]) -> None:
        self._stores: list[FeatureStore] = []
        digest = hashlib.sha256()
        for path in stores:
            store = FeatureStore.open(path)
            digest.update(repr(sorted(store.attributes.items())).encode())
            digest.update(store.cls.tobytes())
            store.cls = store.cls[:0]  # frees memory: gigabytes for the crops of a large dataset
            self._stores.append(store)
        filled = [store for store in self._stores if store.n_images]
        if not filled:
            raise StoreError(f"{stores[0].parent}: contains no tokens")
        first = filled[0]
        for store in filled:
            if store.attributes != first.attributes or (store.grid != first.grid[0]).any():
                raise StoreError(
                    f"{store.path} and {first.path} belong to different backbones or sizes; delete "
                    "one of them and run snakemake again"
                )
        self.dim = first.dim
        self.grid = (int(first.grid[0, 0]), int(first.grid[0, 1]))
        self.patch_size = int(first.attributes["patch_size"])
        self.mean, self.std = tuple(first.attributes["mean"]), tuple(first.attributes["std"])
        self.weights = str(first.attributes["weights_sha256"])
        self.positions: Positions = first.attributes.get("positions", "timm")
        self._starts = np.cumsum([0, *(store.n_images for store in self._stores)])
        self.count = int(self._starts[-1])
        self.names = [name for store in self._stores for name in store.image_id]
        self.digest = digest.hexdigest()

    def read(self, views: NDArray[np.intp], device: str = "cpu") -> Tensor:
        """Return the tokens of some views on a device: float32 [views, T, D]."""
        per_view = self.grid[0] * self.grid[1]
        rows = np.empty((len(views), per_view, self.dim), np.float16)
        for place, view in enumerate(views.tolist()):
            shard = int(np.searchsorted(self._starts, view, side="right")) - 1
            start = int(self._stores[shard].offset[view - self._starts[shard]])
            rows[place] = self._stores[shard].rows("token", start, start + per_view)
        return torch.from_numpy(rows).to(device).float()
