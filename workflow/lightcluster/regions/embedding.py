"""Descriptors of regions: the CLS token of a crop, and the mean key of its covered patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray

from lightcluster.ahead import compute_ahead
from lightcluster.datasets.manifest import read_manifest
from lightcluster.extraction.backbones.protocol import Backbone, Positions, Rotation
from lightcluster.extraction.images import open_row, prepare_image
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.passes import compute_features, images_in_pass
from lightcluster.extraction.precision import resolve_precision
from lightcluster.files import encode_names, write_arrays
from lightcluster.progress import progress
from lightcluster.regions.components import grow_box
from lightcluster.regions.maps import read_region_maps
from lightcluster.regions.splitting import shares_of_patches

GREY = 124
"""Value of the pixels around a masked object: the mean of ImageNet, nearly the same in R, G, B."""


@dataclass(frozen=True)
class Crop:
    """One region of an image.

    Attributes
    ----------
    image : uint8 array, shape (height, width, 3)
        Its bounding box, enlarged by the margin.
    inside : bool array, shape (height, width)
        Which of those pixels belong to the region.
    """

    image: NDArray[np.uint8]
    inside: NDArray[np.bool_]


def crop_regions(
    image: NDArray[np.uint8],
    label: NDArray[np.int32],
    boxes: NDArray[np.int64],
    *,
    margin: float,
    masked: bool,
) -> Iterator[Crop]:
    """Yield the crop of each region of an image.

    Parameters
    ----------
    image : uint8 array, shape (height, width, 3)
    label : int32 array, shape (height, width)
        Region of each pixel, from 1.
    boxes : int64 array, shape (regions, 4)
    margin : float
        See `components.grow_box`.
    masked : bool
        Paint the pixels outside of the region grey.
    """
    for number, box in enumerate(boxes, start=1):
        top, left, bottom, right = grow_box(box, margin, label.shape)
        inside = label[top:bottom, left:right] == number
        crop = image[top:bottom, left:right]
        if masked:
            crop = np.where(inside[..., None], crop, np.uint8(GREY))
        yield Crop(crop, inside)


def embed_crops(
    crops: Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]],
    backbone: Backbone,
    *,
    precision: torch.dtype,
    batch_size: int,
    threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the CLS tokens and the mean keys of crops.

    Parameters
    ----------
    crops : iterator of (float32 array, float32 array)
        Each an image of shape (3, side, side), as `prepare_image` returns it, and the weights of
        its patches, shape (patches,).
    backbone : Backbone
    precision : torch.dtype
    batch_size, threads : int
        See `extraction.passes`.

    Returns
    -------
    cls : float32 array, shape (crops, dim)
    key : float32 array, shape (crops, dim)
        The weighted mean of the L2-normalised keys of the last block.
    """
    size = images_in_pass(batch_size, backbone.device)
    weights: list[NDArray[np.float32]] = []  # of crops that are not yet through the backbone

    def images() -> Iterator[NDArray[np.float32]]:
        for batch in iter(lambda: list(islice(crops, size)), []):
            weights.append(np.stack([weight for _, weight in batch]))
            yield np.stack([image for image, _ in batch])

    cls, key = [np.empty((0, backbone.dim), np.float32)], [np.empty((0, backbone.dim), np.float32)]
    for features in compute_features(
        backbone, images(), ("key",), precision=precision, threads=threads
    ):
        cls.append(features.cls.cpu().numpy())
        weight = torch.from_numpy(weights.pop(0)).to(backbone.device)
        mean = torch.einsum(
            "bt,btd->bd", weight, functional.normalize(features.facets["key"], dim=-1)
        )
        key.append((mean / weight.sum(dim=1, keepdim=True)).cpu().numpy())
    return np.concatenate(cls), np.concatenate(key)


def embed_regions(
    manifest: Path,
    region_maps: Path,
    weights: Path,
    output: Path,
    *,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    positions: Positions = "timm",
    rotation: Rotation = "before",
    margin: float,
    crop_size: int,
    masked: bool,
    precision: Literal["auto", "float32", "bfloat16", "float16"],
    max_pixels: int,
    device: str,
    batch_size: int,
    threads: int,
) -> None:
    """Embed the regions of a shard.

    Writes ``image_id``, and for each region, in the order of its shard's `RegionMaps`, ``image``
    int32 (its position in `image_id`), ``box`` int64 [4], ``area`` int64, ``cls`` and ``key``
    float32 [dim] (`embed_crops`), and ``patch`` float32 [dim], as it is there.
    """
    backbone = open_backbone(weights, device, mean, std, positions, rotation)
    rows = {row.image_id: row for row in read_manifest(manifest)}
    maps = read_region_maps(region_maps)
    grid = max(1, round(crop_size / backbone.patch_size))
    size = (grid * backbone.patch_size, grid * backbone.patch_size)

    def prepare(number: int) -> list[tuple[Crop, NDArray[np.float32]]]:
        image = open_row(rows[maps.image_id[number]].image, max_pixels)
        boxes = maps.box[maps.rows_of(number)]
        found = crop_regions(image, maps.label_of(number), boxes, margin=margin, masked=masked)
        return [
            (crop, prepare_image(crop.image, size, backbone.mean, backbone.std)) for crop in found
        ]

    def crops() -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        count = len(maps.image_id)
        prepared = compute_ahead(
            prepare, range(count), workers=max(2, threads), most=2 * batch_size + threads
        )
        for regions in progress(prepared, "embed", total=count):
            for crop, pixels in regions:
                yield pixels, shares_of_patches(crop.inside, (grid, grid))

    cls, key = embed_crops(
        crops(),
        backbone,
        precision=resolve_precision(precision, device),
        batch_size=batch_size,
        threads=threads,
    )
    write_arrays(
        output,
        compressed=False,
        image_id=encode_names(maps.image_id),
        image=maps.image,
        box=maps.box,
        area=maps.area,
        patch=maps.patch,
        cls=cls,
        key=key,
    )
