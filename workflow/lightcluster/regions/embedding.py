"""The CLS token of each region's crop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lightcluster.ahead import compute_ahead
from lightcluster.datasets.manifest import read_manifest
from lightcluster.features.backbone import Backbone, resolve_precision
from lightcluster.features.images import open_image, prepare_image
from lightcluster.features.passes import compute_features, images_in_pass
from lightcluster.features.step import open_backbone
from lightcluster.files import encode_names, write_arrays
from lightcluster.masks.refinement import read_pixel_masks
from lightcluster.progress import progress
from lightcluster.regions.components import find_regions, grow_box

GREY = 124
"""Value of the pixels around a masked object: the mean of ImageNet, nearly the same in R, G, B."""


def crop_regions(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    *,
    min_area: float,
    margin: float,
    masked: bool,
) -> Iterator[tuple[NDArray[np.int64], int, NDArray[np.uint8]]]:
    """Yield the box, the area in pixels and the crop of each region of an image.

    Parameters
    ----------
    image : uint8 array, shape (height, width, 3)
    mask : bool array, shape (height, width)
    min_area, margin : float
        See `components.find_regions` and `components.grow_box`.
    masked : bool
        Paint the pixels outside of the region grey.
    """
    regions = find_regions(mask, min_area)
    for number, (box, area) in enumerate(zip(regions.box, regions.area, strict=True), start=1):
        top, left, bottom, right = grow_box(box, margin, mask.shape)
        crop = image[top:bottom, left:right]
        if masked:
            inside = regions.label[top:bottom, left:right, None] == number
            crop = np.where(inside, crop, np.uint8(GREY))
        yield box, int(area), crop


def embed_crops(
    crops: Iterator[NDArray[np.float32]],
    backbone: Backbone,
    *,
    precision: torch.dtype,
    batch_size: int,
    threads: int,
) -> NDArray[np.float32]:
    """Return the CLS tokens of crops.

    Parameters
    ----------
    crops : iterator of float32 array, shape (3, side, side)
        As `prepare_image` returns them.
    backbone : Backbone
    precision : torch.dtype
    batch_size, threads : int
        See `features.passes`.

    Returns
    -------
    float32 array, shape (crops, dim)
    """
    size = images_in_pass(batch_size, backbone.device)
    batches = iter(lambda: list(islice(crops, size)), [])
    computed = compute_features(
        backbone, map(np.stack, batches), precision=precision, threads=threads
    )
    tokens = [features.cls.float().cpu().numpy() for features in computed]
    return np.concatenate([np.empty((0, backbone.dim), np.float32), *tokens])


def embed_regions(
    manifest: Path,
    pixel_masks: Path,
    weights: Path,
    output: Path,
    *,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    min_area: float,
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

    Writes ``image_id``, and for each region ``image`` int32 (its position in `image_id`), ``box``
    int64 [4], ``area`` int64 and ``cls`` float32 [dim]. Regions of an image follow each other in
    the order of `components.find_regions`.
    """
    backbone = open_backbone(weights, device, mean, std)
    rows = {row.image_id: row for row in read_manifest(manifest)}
    masks = read_pixel_masks(pixel_masks)
    image_of, boxes, areas = [], [], []

    def prepare(number: int) -> list[tuple[NDArray[np.int64], int, NDArray[np.float32]]]:
        image = open_image(rows[masks.image_id[number]].path, max_pixels)
        mask = masks.mask_of(number)
        return [
            (box, area, prepare_image(crop, (crop_size, crop_size), backbone.mean, backbone.std))
            for box, area, crop in crop_regions(
                image, mask, min_area=min_area, margin=margin, masked=masked
            )
        ]

    def crops() -> Iterator[NDArray[np.float32]]:
        count = len(masks.image_id)
        prepared = compute_ahead(
            prepare, range(count), workers=max(2, threads), most=2 * batch_size + threads
        )
        for number, regions in enumerate(progress(prepared, "embed", total=count)):
            for box, area, crop in regions:
                image_of.append(number)
                boxes.append(box)
                areas.append(area)
                yield crop

    cls = embed_crops(
        crops(),
        backbone,
        precision=resolve_precision(precision, device),
        batch_size=batch_size,
        threads=threads,
    )
    write_arrays(
        output,
        compressed=False,
        image_id=encode_names(masks.image_id),
        image=np.asarray(image_of, np.int32),
        box=np.asarray(boxes, np.int64).reshape(-1, 4),
        area=np.asarray(areas, np.int64),
        cls=cls,
    )
