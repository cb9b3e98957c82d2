"""Extracting the features of one shard of images into a feature store.

Threads decode and resize images ahead of the backbone (Pillow releases the GIL), so that it rarely
waits. Images are sorted by (grid, image id), so that all images of a batch have the same shape and
no padding is needed.

The features of an image depend on its file, the backbone, the target size and the precision. The
other images in its batch change them only by rounding errors (matrix libraries choose their
blocking by the size of the operands). With the same batch size and device, the store has the same
bytes for any number of threads, and also if the job was interrupted: the next one continues with
the same batches.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lightcluster.ahead import compute_ahead
from lightcluster.datasets.manifest import read_manifest
from lightcluster.errors import LightClusterError
from lightcluster.extraction.backbones.protocol import (
    Backbone,
    Facet,
    Positions,
    Precision,
    Rotation,
)
from lightcluster.extraction.images import (
    ImageRow,
    open_row,
    patch_colors,
    prepare_image,
    resize_image,
    target_size,
)
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.passes import compute_features, images_in_pass
from lightcluster.extraction.precision import resolve_precision
from lightcluster.extraction.settings import VERSION
from lightcluster.extraction.store import FeatureStoreWriter, ImageFeatures
from lightcluster.extraction.weights import read_record
from lightcluster.locations import Location
from lightcluster.progress import progress

log = logging.getLogger(__name__)

Item = TypeVar("Item")


class PreparedImage(NamedTuple):
    """An image prepared for the backbone, and its patch colours for the store.

    Attributes
    ----------
    pixels : float32 array, shape (3, height, width)
        See :func:`.images.prepare_image`.
    colors : uint8 array, shape (patches, 4, 3)
        See :func:`.images.patch_colors`.
    """

    pixels: NDArray[np.float32]
    colors: NDArray[np.uint8]


class _Plan(NamedTuple):
    """An image and the size to which it is resized."""

    row: ImageRow
    size: tuple[int, int]


def extract_shard(
    rows: Sequence[ImageRow],
    backbone: Backbone,
    output: Path,
    *,
    facets: Sequence[Facet],
    layer: int,
    short_side: int,
    max_tokens: int,
    max_pixels: int,
    precision: torch.dtype,
    batch_size: int,
    threads: int,
    attributes: Mapping[str, Any],
) -> None:
    """Write the feature store of one shard.

    Parameters
    ----------
    rows : sequence of ImageRow
        At least one, in any order.
    backbone : Backbone
    output : Path
        Path of the store, which appears only when it is complete.
    facets : sequence of "key", "query", "value", "token"
    layer : int
        Block from which the facets are taken; negative numbers count from the last.
    short_side, max_tokens : int
        Size to which images are resized, see :func:`.images.target_size`.
    max_pixels : int
        Images with more pixels are rejected.
    precision : torch.dtype
        See :func:`.precision.resolve_precision`.
    batch_size : int
        Largest number of images per pass; see :func:`.passes.images_in_pass`.
    threads : int
        Number of computing threads on a CPU, and of decoding threads (at least two).
    attributes : mapping
        Everything that determines the features, in JSON types; recorded in the store.

    Raises
    ------
    ImageError
        If an image cannot be read or has changed since it was indexed; nothing is written.
    LightClusterError
        If features are not finite in float16.
    """
    patch = backbone.patch_size
    plans = [
        _Plan(row, target_size(row.height, row.width, short_side, patch, max_tokens))
        for row in rows
    ]
    plans.sort(key=lambda plan: (plan.size, plan.row.image_id))
    batches = batches_of_one_shape(
        plans, lambda plan: plan.size, images_in_pass(batch_size, backbone.device)
    )
    decoders = max(2, threads)
    with FeatureStoreWriter(
        output,
        grids=np.array([plan.size for plan in plans], np.int32).reshape(-1, 2) // patch,
        sizes=np.array([(row.height, row.width) for row, _ in plans], np.int32).reshape(-1, 2),
        image_ids=[plan.row.image_id for plan in plans],
        facets=facets,
        dim=backbone.dim,
        attributes=attributes,
        origin=origin_of([plan.row for plan in plans], batch_size, backbone),
    ) as writer:
        batches, again = unfinished(batches, writer.appended)
        prepared = compute_ahead(
            lambda plan: prepare_row(*plan, backbone, max_pixels),
            [plan for batch in batches for plan in batch],
            workers=decoders,
            most=2 * batch_size + decoders,
        )
        computed = compute_images(
            backbone,
            [[(plan.row.image_id, plan.row.path) for plan in batch] for batch in batches],
            prepared,
            facets,
            layer,
            precision=precision,
            threads=threads,
        )
        write_images(writer, islice(computed, again, None), len(plans))


def extract_features(
    manifest: Path,
    weights: Path,
    output: Path,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    positions: Positions = "timm",
    rotation: Rotation = "before",
    facet: Facet,
    layer: int,
    short_side: int,
    max_tokens: int,
    max_pixels: int,
    precision: Precision,
    device: str,
    batch_size: int,
    threads: int,
) -> None:
    """Run the backbone over the images of a manifest and write their feature store."""
    backbone = open_backbone(weights, device, mean, std, positions, rotation)
    record = read_record(weights)
    rows = [row.image for row in read_manifest(manifest)]
    dtype = resolve_precision(precision, device)
    log.info("%d images, %s on %s in %s", len(rows), record.model, device, dtype)
    extract_shard(
        rows, backbone, output, facets=(facet,), layer=layer, short_side=short_side,
        max_tokens=max_tokens, max_pixels=max_pixels, precision=dtype, batch_size=batch_size,
        threads=threads,
        attributes={
            "model": record.model,
            "weights_sha256": record.sha256,
            "layer": backbone.resolve_layer(layer),
            "short_side": short_side,
            "max_tokens": max_tokens,
            "patch_size": backbone.patch_size,
            "mean": list(backbone.mean),
            "std": list(backbone.std),
            "positions": backbone.positions,
            **({"rotation": backbone.rotation} if backbone.rotary else {}),
            "precision": str(dtype).removeprefix("torch."),
        },
    )  # fmt: skip


def compute_images(
    backbone: Backbone,
    batches: Sequence[Sequence[tuple[str, Location]]],
    prepared: Iterator[PreparedImage],
    facets: Sequence[Facet],
    layer: int = -1,
    *,
    precision: torch.dtype,
    threads: int,
) -> Iterator[tuple[str, ImageFeatures]]:
    """Yield images (or views of images) with their features, in order, computed in batches.

    Parameters
    ----------
    backbone : Backbone
    batches : sequence of sequences of (str, Location)
        Name and file of each image; all images of a batch have the same shape.
    prepared : iterator of PreparedImage
        In the order of the batches.
    facets, layer, precision
        See :meth:`.protocol.Backbone.forward`.
    threads : int
        See :func:`.passes.compute_features`.

    Yields
    ------
    name : str
    features : ImageFeatures

    Raises
    ------
    LightClusterError
        If features are not finite in float16, the type of the store.
    """
    colors: deque[NDArray[np.uint8]] = deque()  # of images that are in the backbone

    def stack(batch: Sequence[tuple[str, Location]]) -> NDArray[np.float32]:
        ready = [next(prepared) for _ in batch]
        colors.extend(image.colors for image in ready)
        return np.stack([image.pixels for image in ready])

    computed = compute_features(
        backbone, map(stack, batches), facets, layer, precision=precision, threads=threads
    )
    for batch, features in zip(batches, computed, strict=True):
        halves = {name: facet.half().cpu().numpy() for name, facet in features.facets.items()}
        cls = features.cls.cpu().numpy()
        attention = features.cls_attention.half().cpu().numpy()
        for index, (name, path) in enumerate(batch):
            image = ImageFeatures(
                cls=cls[index],
                cls_attention=attention[index],
                colors=colors.popleft(),
                facets={facet: values[index] for facet, values in halves.items()},
            )
            arrays: list[NDArray[Any]] = [image.cls, image.cls_attention, *image.facets.values()]
            if not all(map(are_finite, arrays)):
                raise LightClusterError(
                    f"{path}: its features are not finite in float16; set `precision: float32` in "
                    "`features`, and check the weights if that does not help"
                )
            yield name, image


def origin_of(rows: Sequence[ImageRow], batch_size: int, backbone: Backbone) -> list[object]:
    """Return what determines the features of images beside the attributes of their store.

    Parameters
    ----------
    rows : sequence of ImageRow
    batch_size : int
        As configured.
    backbone : Backbone

    Returns
    -------
    list
        JSON types; see `origin` of :class:`.store.FeatureStoreWriter`.
    """
    images = [(row.image_id, row.digest, row.levels) for row in rows]
    most = images_in_pass(batch_size, backbone.device)
    return [images, most, backbone.device.type, VERSION, torch.__version__]


def unfinished(batches: Sequence[list[Item]], done: int) -> tuple[list[list[Item]], int]:
    """Return the batches that remain if an interrupted job has finished some images.

    Parameters
    ----------
    batches : sequence of list
    done : int
        Number of finished images.

    Returns
    -------
    batches : list of list
        Without those that are finished. One that is finished in part is computed again as a whole,
        because its images would be rounded differently in another batch.
    again : int
        Number of finished images in the first of these batches.
    """
    remaining = deque(batches)
    while remaining and len(remaining[0]) <= done:
        done -= len(remaining.popleft())
    return list(remaining), done


def write_images(
    writer: FeatureStoreWriter,
    computed: Iterable[tuple[str, ImageFeatures]],
    total: int,
    unit: str = "image",
) -> None:
    """Write the remaining images (or views of images) of a store of `total`, in order."""
    if writer.appended:
        log.info("continues an interrupted job: %d of %d are done", writer.appended, total)
    for name, image in progress(computed, "features", total, unit, writer.appended):
        writer.append(name, image)


def are_finite(values: NDArray[np.floating]) -> bool:
    """Return whether all values are finite; of float16 by their bits, which takes a tenth."""
    if values.dtype == np.float16:
        return bool(((values.view(np.uint16) & 0x7FFF) < 0x7C00).all())
    return bool(np.isfinite(values).all())


def batches_of_one_shape(
    items: Sequence[Item], size_of: Callable[[Item], tuple[int, int]], most: int
) -> list[list[Item]]:
    """Split items into batches of one image size and of at most `most` items, keeping the order.

    Parameters
    ----------
    items : sequence
        Sorted by size.
    size_of : callable
        Returns the image size of an item.
    most : int
        Largest size of a batch.

    Returns
    -------
    list of list
    """
    same = [list(group) for _, group in groupby(items, size_of)]
    return [group[start : start + most] for group in same for start in range(0, len(group), most)]


def prepare_row(
    row: ImageRow, size: tuple[int, int], backbone: Backbone, max_pixels: int
) -> PreparedImage:
    """Decode, resize to (height, width) and normalise one image.

    Raises
    ------
    ImageError
        If the file cannot be read or has changed since it was indexed; the message names it.
    """
    return prepare_rgb(open_row(row, max_pixels, draft_size=size), size, backbone)


def prepare_rgb(rgb: NDArray[np.uint8], size: tuple[int, int], backbone: Backbone) -> PreparedImage:
    """Resize an RGB image of any size, uint8 [H, W, 3], to (height, width), and normalise it."""
    rgb = resize_image(rgb, size)
    grid = (size[0] // backbone.patch_size, size[1] // backbone.patch_size)
    pixels = prepare_image(rgb, size, backbone.mean, backbone.std)
    return PreparedImage(pixels, patch_colors(rgb, grid))
