"""The regions of a shard, as they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import write_pixel_masks, write_region_maps, write_store
from numpy.typing import NDArray

from lightcluster.errors import LightClusterError
from lightcluster.extraction.store import FeatureStore
from lightcluster.files import write_arrays
from lightcluster.regions.components import Regions, find_components
from lightcluster.regions.maps import deflate, find_regions, read_region_maps
from lightcluster.regions.splitting import split_regions

NAMES = ["a.jpg", "b.jpg", "none.jpg", "c.jpg"]
GRIDS = [(3, 5), (4, 4), (2, 2), (6, 3)]
MIN_AREA, DISTANCE = 0.03, 0.8


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Path, dict[str, NDArray[np.bool_]]]:
    """A folder with features, masks and the dataset level of four images."""
    random = np.random.default_rng(0)
    keys = [random.normal(size=(*grid, 4)) for grid in GRIDS]
    write_store(tmp_path / "store.zarr", keys, image_ids=NAMES)
    masks = {
        name: np.kron(random.random(grid) < 0.6, np.ones((7, 7))).astype(bool)
        for name, grid in zip(NAMES, GRIDS, strict=True)
    }
    masks["none.jpg"][:] = False
    write_pixel_masks(tmp_path / "pixels.npz", masks)
    write_arrays(tmp_path / "dataset.npz", distance=np.array([DISTANCE]))
    return tmp_path, masks


def find(folder: Path, split: float) -> Path:
    find_regions(
        folder / "store.zarr", folder / "pixels.npz", folder / "dataset.npz", folder / "maps.npz",
        min_area=MIN_AREA, split=split,
    )  # fmt: skip
    return folder / "maps.npz"


@pytest.mark.parametrize("split", [0, 1, 1.3])
def test_regions_are_kept_as_they_are_found(shard, split: float) -> None:
    folder, masks = shard
    maps = read_region_maps(find(folder, split))
    assert maps.image_id == NAMES
    store = FeatureStore.open(folder / "store.zarr")
    cut = 0
    for image in store.iter_images(("key",)):
        name, grid = NAMES[image.index], GRIDS[image.index]
        points = image.arrays["key"].astype(np.float64)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        whole = find_components(masks[name], MIN_AREA)
        regions = split_regions(
            whole, points.astype(np.float32), grid, distance=split * DISTANCE, min_area=MIN_AREA
        )
        rows = maps.rows_of(image.index)
        np.testing.assert_array_equal(maps.label_of(image.index), regions.label)
        np.testing.assert_array_equal(maps.box[rows], regions.box)
        np.testing.assert_array_equal(maps.area[rows], regions.area)
        assert (maps.image[rows] == image.index).all()
        for number, patch in enumerate(maps.patch[rows], start=1):
            y, x = np.nonzero(regions.label == number)
            covered = points[y // 7 * grid[1] + x // 7]  # pixel by pixel
            np.testing.assert_allclose(patch, covered.mean(axis=0), atol=1e-3)
        cut += len(regions.area) - len(whole.area)
    assert (cut > 0) == (split > 0)


def test_features_of_other_images_are_refused(shard) -> None:
    folder, masks = shard
    write_pixel_masks(folder / "pixels.npz", dict(reversed(masks.items())))
    with pytest.raises(LightClusterError, match=r"pixels\.npz: holds other images than"):
        find(folder, 1)


def test_a_shard_of_nothing(tmp_path: Path) -> None:
    path = write_region_maps(tmp_path / "maps.npz", {"a.jpg": np.zeros((3, 4), bool)}, 0)
    maps = read_region_maps(path)
    assert (maps.box.shape, maps.area.shape, maps.image.shape) == ((0, 4), (0,), (0,))
    assert maps.label_of(0).tolist() == [[0] * 4] * 3


def test_more_regions_than_a_map_can_hold() -> None:
    many = Regions(np.zeros((1, 1), np.int32), np.empty((0, 4), np.int64), np.ones(70_000, int))
    with pytest.raises(LightClusterError, match=r"a\.jpg: 70,000 regions are more than"):
        deflate(many, "a.jpg")
