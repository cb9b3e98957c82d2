"""The regions of each image, stored once for embedding, painting and counting."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import normalize
from lightcluster.errors import LightClusterError
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import decode_names, encode_names, read_arrays, write_arrays
from lightcluster.masks.pixels import read_pixel_masks
from lightcluster.progress import progress
from lightcluster.regions.components import Regions, find_components
from lightcluster.regions.splitting import shares_of_patches, split_regions

_PIXEL = np.dtype("<u2")


@dataclass(frozen=True)
class RegionMaps:
    """The regions of a shard.

    Attributes
    ----------
    image_id : list of str
    size : int32 array, shape (images, 2)
        Height and width.
    image : int32 array, shape (regions,)
        Position in `image_id` of the image of each region; the regions of an image are consecutive.
    box : int64 array, shape (regions, 4)
        Top, left, bottom, right; bottom and right are exclusive.
    area : int64 array, shape (regions,)
        In pixels.
    patch : float32 array, shape (regions, dim)
        Mean feature of the patches that a region covers. Features have unit length and are weighted
        by the covered share of the patch.
    offset : int64 array, shape (images + 1,)
    deflated : uint8 array
        Compressed maps, image after image: the region of each pixel, from 1; 0 outside of all.
    """

    image_id: list[str]
    size: NDArray[np.int32]
    image: NDArray[np.int32]
    box: NDArray[np.int64]
    area: NDArray[np.int64]
    patch: NDArray[np.float32]
    offset: NDArray[np.int64]
    deflated: NDArray[np.uint8]

    def label_of(self, image: int) -> NDArray[np.int32]:
        """Return the region of each pixel of an image: int32 [height, width], from 1."""
        height, width = (int(side) for side in self.size[image])
        packed = self.deflated[slice(*self.offset[image : image + 2])]
        pixels = np.frombuffer(zlib.decompress(packed.tobytes()), _PIXEL)
        return pixels.reshape(height, width).astype(np.int32)

    def rows_of(self, image: int) -> slice:
        """Return which regions are those of an image."""
        return slice(*np.searchsorted(self.image, (image, image + 1)))


def regions_of_image(
    mask: NDArray[np.bool_],
    points: NDArray[np.float32],
    grid: tuple[int, int],
    *,
    min_area: float,
    distance: float,
) -> tuple[Regions, NDArray[np.float32]]:
    """Find the regions of one image and the mean features of their patches.

    Parameters
    ----------
    mask : bool array, shape (height, width)
    points : float32 array, shape (rows * columns, dim)
        Features of the patches, of unit length.
    grid : (int, int)
        Rows and columns of patches.
    min_area : float
        See `components.find_components` and `splitting.split_regions`.
    distance : float
        See `splitting.split_regions`.

    Returns
    -------
    regions : Regions
    patch : float32 array, shape (regions, dim)
        See `RegionMaps`.
    """
    regions = split_regions(
        find_components(mask, min_area), points, grid, distance=distance, min_area=min_area
    )
    means = []
    for number in range(1, len(regions.area) + 1):
        share = shares_of_patches(regions.label == number, grid)
        means.append(share @ points / share.sum())
    return regions, np.asarray(means, np.float32).reshape(len(means), points.shape[1])


def find_regions(
    store: Path,
    pixel_masks: Path,
    dataset_level: Path,
    output: Path,
    *,
    min_area: float,
    split: float,
) -> None:
    """Find the regions of the images of a shard and write the arrays of `RegionMaps`.

    Parameters
    ----------
    store : Path
        Of the shard's features.
    pixel_masks, dataset_level, output : Path
    min_area : float
        See `components.find_components` and `splitting.split_regions`.
    split : float
        Distance at which regions are split, as a multiple of the mean distance of two patches of
        the dataset; 0: regions are the connected components.

    Raises
    ------
    LightClusterError
        If features and masks are of different images, or an image has more regions than a map can
        hold.
    """
    features, masks = FeatureStore.open(store), read_pixel_masks(pixel_masks)
    if features.image_id != masks.image_id:
        raise LightClusterError(
            f"{pixel_masks}: holds other images than {store}; delete it and run snakemake again"
        )
    distance = split * float(read_arrays(dataset_level, "distance")["distance"][0])
    facet = features.facets[0]
    found, means = [], []
    for image in progress(features.iter_images((facet,)), "regions", features.n_images):
        points = normalize(image.arrays[facet], "l2")
        rows, columns = (int(side) for side in image.grid)
        regions, patch = regions_of_image(
            masks.mask_of(image.index), points, (rows, columns),
            min_area=min_area, distance=distance,
        )  # fmt: skip
        found.append((regions.box, regions.area, deflate(regions, masks.image_id[image.index])))
        means.append(patch)
    write_region_maps(
        output, masks.image_id, masks.size, found,
        np.concatenate([np.empty((0, features.dim), np.float32), *means]),
    )  # fmt: skip


def deflate(regions: Regions, image_id: str) -> bytes:
    """Return the compressed map of the regions of an image; see `RegionMaps`."""
    if len(regions.area) > np.iinfo(_PIXEL).max:
        raise LightClusterError(
            f"{image_id}: {len(regions.area):,} regions are more than a map can hold; raise "
            "regions.min_area or refinement.min_area"
        )
    return zlib.compress(regions.label.astype(_PIXEL).tobytes(), 1)


def write_region_maps(
    path: Path,
    image_id: list[str],
    size: NDArray[np.int32],
    regions: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], bytes]],
    patch: NDArray[np.float32],
) -> None:
    """Write the arrays of `RegionMaps` from the boxes, the areas and the map of each image."""
    boxes, areas, maps = zip(*regions, strict=True) if regions else ((), (), ())
    counts = [len(area) for area in areas]
    write_arrays(
        path,
        compressed=False,
        image_id=encode_names(image_id),
        size=size,
        image=np.repeat(np.arange(len(counts)), counts).astype(np.int32),
        box=np.concatenate([np.empty((0, 4), np.int64), *boxes]),
        area=np.concatenate([np.empty(0, np.int64), *areas]),
        patch=patch,
        offset=np.cumsum([0, *map(len, maps)], dtype=np.int64),
        deflated=np.frombuffer(b"".join(maps), np.uint8),
    )


def read_region_maps(path: Path) -> RegionMaps:
    """Read the file of `find_regions`."""
    arrays = read_arrays(path)
    return RegionMaps(image_id=decode_names(arrays.pop("image_id")), **arrays)
