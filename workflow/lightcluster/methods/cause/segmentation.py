"""Segmenting images with a trained head and cluster probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from lightcluster.datasets.manifest import read_manifest
from lightcluster.errors import StoreError
from lightcluster.extraction.images import open_row
from lightcluster.files import replacing
from lightcluster.masks.crf import Crf, infer_crf
from lightcluster.methods.cause.heads import nearest_codes
from lightcluster.methods.cause.stages import read_head
from lightcluster.methods.cause.tokens import Tokens
from lightcluster.methods.cause.views import Framing, Resampling, View, evaluation_views
from lightcluster.progress import progress
from lightcluster.regions.painting import save_indexed

CRF = Crf(
    gaussian_sxy=1, gaussian_weight=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_weight=4,
    iterations=10,
)  # fmt: skip
"""The published parameters of the CRF."""

SHARPNESS = 3
"""Factor that turns cosines into logits."""


@torch.inference_mode()
def view_features(
    head: nn.Module, codes: Tensor, tokens: Tensor, mirrored: Tensor | None, grid: tuple[int, int]
) -> Tensor:
    """Return the features of one view, averaged with those of its mirror image.

    Parameters
    ----------
    head : nn.Module
    codes : Tensor [K, D]
    tokens : Tensor [T, D]
    mirrored : Tensor [T, D], optional
        Tokens of the mirrored view.
    grid : (int, int)
        Rows and columns of tokens.

    Returns
    -------
    Tensor [90, rows, columns]
    """
    views = torch.stack([tokens] if mirrored is None else [tokens, mirrored])
    features = head(views, codes[nearest_codes(views, codes)])
    maps: Tensor = features.transpose(1, 2).unflatten(2, grid)
    return maps[0] if mirrored is None else (maps[0] + maps[1].flip(-1)) / 2


@torch.inference_mode()
def paint_view(
    features: Tensor, probe: Tensor, rgb: NDArray[np.uint8], crf: bool
) -> NDArray[np.uint16]:
    """Return the cluster of each pixel of a view.

    Parameters
    ----------
    features : Tensor [90, rows, columns]
    probe : Tensor [n, 90]
    rgb : uint8 array, shape (side, side, 3)
    crf : bool
        Whether a CRF refines the softmax of 3 times the cosines.

    Returns
    -------
    uint16 array, shape (side, side)
    """
    pixels = functional.interpolate(features[None], rgb.shape[:2], mode="bilinear")[0]
    cosine = torch.einsum(
        "nc,chw->nhw", functional.normalize(probe, dim=1), functional.normalize(pixels, dim=0)
    )
    if crf:
        likely = (SHARPNESS * cosine).softmax(0).cpu().numpy()
        refined: NDArray[np.uint16] = infer_crf(likely, rgb, CRF).argmax(0).astype(np.uint16)
        return refined
    return cosine.argmax(0).to(torch.int32).cpu().numpy().astype(np.uint16)


def denormalized(
    rgb: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.uint8]:
    """Return an image as the released code passes it to the CRF.

    The normalised input of the backbone is converted back by ``x * std + mean`` in single precision
    and rounded down, so some values are lower by one.

    Parameters
    ----------
    rgb : uint8 array, shape (height, width, 3)
    mean, std : sequence of float [3]
        Normalisation of the backbone's input.

    Returns
    -------
    uint8 array, shape (height, width, 3)
        BGR.
    """
    shift, scale = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    normalized = (rgb.astype(np.float32) / np.float32(255) - shift) / scale
    restored = (normalized * scale + shift) * np.float32(255)
    return np.ascontiguousarray(restored.astype(np.uint8)[..., ::-1])


def stitch(
    painted: Sequence[NDArray[np.uint16]], views: Sequence[View], size: tuple[int, int]
) -> NDArray[np.uint16]:
    """Combine the clusters of windows to those of the image; later windows overwrite earlier ones.

    Each pixel gets the cluster of the nearest pixel of the window.

    Parameters
    ----------
    painted : sequence of uint16 array, shape (side, side)
        Clusters of each window.
    views : sequence of View
        The windows.
    size : (int, int)
        Height and width of the image.

    Returns
    -------
    uint16 array, shape (height, width)
    """
    result = np.zeros(size, np.uint16)
    for labels, view in zip(painted, views, strict=True):
        rows, columns = (
            ((np.arange(count) + 0.5) * side / count).astype(np.intp)
            for count, side in zip((view.height, view.width), labels.shape, strict=True)
        )
        across = slice(view.left, view.left + view.width)
        result[view.top : view.top + view.height, across] = labels[np.ix_(rows, columns)]
    return result


def paint_probe(
    manifest: Path,
    store: Path,
    probe: Path,
    output: Path,
    *,
    framing: Framing,
    resampling: Resampling,
    crf: bool,
    crf_image: Literal["rgb", "bgr"],
    max_pixels: int,
) -> None:
    """Write the segmentation of each image of a shard below the folder `output`.

    Parameters
    ----------
    manifest : Path
    store : Path
        Written by `caching.cache_views` with the same framing, and with mirror images if `crf`.
    probe : Path
        Written by `stages.fit_probe`.
    output : Path
    framing : {"crop", "squash"}
    resampling : {"antialiased", "nearest"}
        How windows are resized.
    crf : bool
        Whether to average with the mirror image and refine with a CRF.
    crf_image : {"rgb", "bgr"}
        Whether the CRF uses the pixels of a window, or `denormalized`.
    max_pixels : int
        Images with more pixels are rejected.

    Raises
    ------
    StoreError
        If the file contains no probe.
    """
    rows = read_manifest(manifest)
    trained = read_head(probe, "cpu")
    if trained.probe is None:
        raise StoreError(f"{probe}: contains a head but no probe")
    with replacing(output) as folder:
        folder.mkdir()
        if not rows:
            return
        tokens = Tokens([store])
        side = tokens.grid[0] * tokens.patch_size
        number = 0
        for row in progress(rows, "paint"):
            rgb = open_row(row.image, max_pixels)
            views = evaluation_views(row.height, row.width, framing)
            painted = []
            for view in views:
                count = 1 + crf
                batch = tokens.read(np.arange(number, number + count))
                number += count
                features = view_features(
                    trained.network, trained.codes, batch[0], batch[1] if crf else None,
                    tokens.grid,
                )  # fmt: skip
                pixels = view.cut(rgb, side, resampling)
                if crf_image == "bgr":
                    pixels = denormalized(pixels, tokens.mean, tokens.std)
                painted.append(paint_view(features, trained.probe, pixels, crf))
            save_indexed(stitch(painted, views, (row.height, row.width)), folder / row.output)
