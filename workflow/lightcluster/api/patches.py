"""Features of an image of one's own, by any backbone that the workflow knows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from lightcluster.api.given import Given, open_given
from lightcluster.errors import ConfigError
from lightcluster.extraction.backbones.protocol import (
    FACETS,
    Backbone,
    Facet,
    Precision,
    Rotation,
)
from lightcluster.extraction.backbones.registry import DEFAULT
from lightcluster.extraction.images import prepare_image, resize_image, target_size
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.precision import resolve_precision
from lightcluster.extraction.settings import BackboneSettings
from lightcluster.extraction.weights import fetch_weights
from lightcluster.threads import device_of


@dataclass(frozen=True)
class PatchFeatures:
    """Features of the patches of an image.

    Attributes
    ----------
    patches : float32 array, shape (rows, columns, dim)
        The facet of each patch, its heads side by side.
    cls : float32 array, shape (dim,)
        The class token after the last block; without one, the mean of the patch tokens.
    cls_attention : float32 array, shape (rows, columns)
        What the class token pays to each patch, mean over heads, in [0, 1].
    size : (int, int)
        Height and width at which the backbone saw the image.
    """

    patches: NDArray[np.float32]
    cls: NDArray[np.float32]
    cls_attention: NDArray[np.float32]
    size: tuple[int, int]


def features(
    image: Given,
    backbone: str = DEFAULT.name,
    *,
    weights: str | None = None,
    facet: Facet = "key",
    layer: int = -1,
    rotation: Rotation = "before",
    short_side: int | None = None,
    max_tokens: int = 10_000,
    precision: Precision = "auto",
    device: str = "auto",
) -> PatchFeatures:
    """Compute the features of the patches of an image.

    The backbone stays in memory for the next call.

    Parameters
    ----------
    image : path, bytes, array, tensor or PIL image
        See `given.Given`.
    backbone : str
        Name of a timm Vision Transformer, such as ``vit_small_patch16_224.dino``.
    weights : str, optional
        As the key `backbone.weights`: ``hub``, ``random``, ``embedded`` or the path of a file. By
        default ``embedded`` for the backbone that ships with the project, else ``hub``.
    facet : {"key", "query", "value", "token"}
    layer : int
        Block that it is read from; negative counts from the last.
    rotation : {"before", "after"}
        Whether keys and queries of a model with rotary positions are those before or after the
        rotation, as the key `features.rotation`.
    short_side : int, optional
        Pixels of the image's short side, rounded to patches; by default 448, or 192 for the
        backbone that ships with the project.
    max_tokens : int
        Patches of an image, at most; longer ones are squashed along their long side.
    precision : {"auto", "float32", "bfloat16", "float16"}
    device : str
        ``auto``, ``cpu`` or ``cuda``.

    Returns
    -------
    PatchFeatures

    Raises
    ------
    WeightsError
        If the weights cannot be had or are of another network.
    ConfigError
        If there is no such facet or layer.
    ImageError
        If the image cannot be read.
    """
    if facet not in FACETS:
        raise ConfigError(f"facet {facet!r} unknown; allowed are {', '.join(FACETS)}")
    own = backbone == DEFAULT.name
    source = weights or ("embedded" if own else "hub")
    opened = _open(backbone, source, device_of(device), rotation)
    given = open_given(image)
    height, width = given.size
    size = target_size(
        height, width, short_side or (192 if own else 448), opened.patch_size, max_tokens
    )
    pixels = prepare_image(resize_image(given.near(size), size), size, opened.mean, opened.std)
    batch = torch.from_numpy(pixels[None]).to(opened.device)
    found = opened.forward(batch, (facet,), layer, resolve_precision(precision, opened.device))
    grid = (size[0] // opened.patch_size, size[1] // opened.patch_size)
    return PatchFeatures(
        found.facets[facet][0].cpu().numpy().reshape(*grid, -1),
        found.cls[0].cpu().numpy(),
        found.cls_attention[0].cpu().numpy().reshape(grid),
        size,
    )


@lru_cache(maxsize=2)
def _open(model: str, weights: str, device: str, rotation: Rotation) -> Backbone:
    """Return a backbone, with its weights verified as the workflow verifies them."""
    settings = BackboneSettings(model=model, weights=weights)
    with TemporaryDirectory(prefix="lightcluster-") as folder:
        file = Path(folder, "weights.safetensors")
        fetch_weights(model, settings.source, settings.file, 0, file, settings.revision)
        return open_backbone(file, device, None, None, rotation=rotation)
