"""From the images of one shard to their feature store.

Threads decode and resize ahead of the backbone (Pillow releases the interpreter lock), so that
the matrix products rarely wait. Images are put in the order of (grid, image id): batches then
hold one shape each and need no padding.

What a stored image depends on: its file, the backbone, the image policy and the precision. The
batch an image happens to share changes its features by rounding alone (matrix libraries choose
their blocking by the size of the operands); with the same batch size, threads and device the
bytes of the store are the same.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lightcluster.errors import ImageError, LightClusterError
from lightcluster.features.backbone import Backbone, Facet, Features
from lightcluster.features.images import image_size, open_image, prepare_image, target_size
from lightcluster.features.store import FeatureStoreWriter, ImageFeatures

_SECONDS_BETWEEN_LOG_LINES = 5.0


class ImageRow(NamedTuple):
    """One image of a manifest; height and width are those of the upright image."""

    image_id: str
    path: Path
    height: int
    width: int


class _Plan(NamedTuple):
    """An image and the size it is resized to."""

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
    workers: int,
    attributes: Mapping[str, Any],
    progress: bool = True,
) -> None:
    """Write the feature store of one shard.

    Parameters
    ----------
    rows : sequence of ImageRow
        At least one, in any order.
    backbone : Backbone
    output : Path
        The store; it appears only when complete.
    facets : sequence of "key", "query", "value", "token"
    layer : int
        Block the facets come from; negative counts from the last.
    short_side, max_tokens : int
        Image policy, see :func:`.images.target_size`.
    max_pixels : int
        Larger images are refused.
    precision : torch.dtype
        See :func:`.backbone.resolve_precision`.
    batch_size : int
        Images in one forward pass, at most.
    workers : int
        Threads that decode images; bounds the images held in memory as well.
    attributes : mapping
        Recorded in the store: all that decides the features, in JSON types.
    progress : bool
        Whether to draw a progress bar on standard error.

    Raises
    ------
    ImageError
        If an image cannot be read or has changed since it was indexed; nothing is written.
    LightClusterError
        If features are not finite.
    """
    patch = backbone.patch_size
    plans = [
        _Plan(row, target_size(row.height, row.width, short_side, patch, max_tokens))
        for row in rows
    ]
    plans.sort(key=lambda plan: (plan.size, plan.row.image_id))
    writer = FeatureStoreWriter(
        output,
        grids=np.array([plan.size for plan in plans], np.int32).reshape(-1, 2) // patch,
        sizes=np.array([(row.height, row.width) for row, _ in plans], np.int32).reshape(-1, 2),
        image_ids=[plan.row.image_id for plan in plans],
        facets=facets,
        dim=backbone.dim,
        attributes=attributes,
    )
    bar = tqdm(
        total=len(plans),
        unit="image",
        desc=output.name,
        file=sys.stderr,
        disable=not progress,
        mininterval=0.5 if sys.stderr.isatty() else _SECONDS_BETWEEN_LOG_LINES,
    )
    with writer, bar:
        for batch, images in _prepared_batches(plans, backbone, max_pixels, batch_size, workers):
            on_device = torch.from_numpy(images).to(backbone.device)
            features = backbone.forward(on_device, facets, layer, precision)
            for plan, image in zip(batch, _per_image(features, batch), strict=True):
                writer.append(plan.row.image_id, image)
            bar.update(len(batch))


def _prepared_batches(
    plans: Sequence[_Plan], backbone: Backbone, max_pixels: int, batch_size: int, workers: int
) -> Iterator[tuple[list[_Plan], NDArray[np.float32]]]:
    """Batches of one shape, in the order of ``plans``, prepared ahead by threads.

    Yields
    ------
    plans : list of _Plan [B]
    images : float32 [B, 3, H, W]
    """
    batches = [
        group[start : start + batch_size]
        for _, group in ((size, list(same)) for size, same in groupby(plans, lambda p: p.size))
        for start in range(0, len(group), batch_size)
    ]
    waiting = iter(plans)
    ahead: deque[Future[NDArray[np.float32]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:

        def refill() -> None:
            while len(ahead) < 2 * batch_size + workers and (plan := next(waiting, None)):
                ahead.append(pool.submit(_prepare, plan, backbone, max_pixels))

        try:
            for batch in batches:
                refill()
                images = np.stack([ahead.popleft().result() for _ in batch])
                refill()
                yield batch, images
        finally:
            for future in ahead:
                future.cancel()


def _prepare(plan: _Plan, backbone: Backbone, max_pixels: int) -> NDArray[np.float32]:
    """Decode, resize and normalise one image: float32 [3, H, W].

    Raises
    ------
    ImageError
        Naming the file.
    """
    row = plan.row
    try:
        found = image_size(row.path, max_pixels)
        if found != (row.height, row.width):
            raise ImageError(
                f"is {found[0]} × {found[1]} pixels (height × width) but was {row.height} × "
                f"{row.width} when the dataset was indexed; index it again "
                "(snakemake --forcerun index_dataset)"
            )
        rgb = open_image(row.path, max_pixels, draft_size=plan.size)
    except ImageError as error:
        raise ImageError(f"{row.path}: {error}") from error
    return prepare_image(rgb, plan.size, backbone.mean, backbone.std)


def _per_image(features: Features, batch: Sequence[_Plan]) -> Iterator[ImageFeatures]:
    """The features of each image of a batch as the store keeps them.

    Raises
    ------
    LightClusterError
        If the float16 of the store cannot hold them.
    """
    halves = {name: facet.half().cpu().numpy() for name, facet in features.facets.items()}
    cls = features.cls.cpu().numpy()
    attention = features.cls_attention.half().cpu().numpy()
    for index, plan in enumerate(batch):
        image = ImageFeatures(
            cls=cls[index],
            cls_attention=attention[index],
            facets={name: facet[index] for name, facet in halves.items()},
        )
        arrays: list[NDArray[Any]] = [image.cls, image.cls_attention, *image.facets.values()]
        if not all(np.isfinite(array).all() for array in arrays):
            raise LightClusterError(
                f"{plan.row.path}: features that are not finite numbers of float16; "
                "set `precision: float32`, and check the weights if that does not help"
            )
        yield image
