"""CLS tokens and mean keys of regions, against the backbone run on each crop by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import write_manifest, write_png, write_region_maps
from numpy.typing import NDArray

from lightcluster.extraction.backbones.protocol import Backbone
from lightcluster.extraction.images import prepare_image
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.weights import fetch_weights
from lightcluster.files import read_arrays
from lightcluster.regions.components import find_components, grow_box
from lightcluster.regions.embedding import GREY, crop_regions, embed_regions
from lightcluster.regions.splitting import shares_of_patches

MARGIN, MIN_AREA, SIDE = 0.2, 0.02, 48
SETTINGS: dict[str, Any] = {
    "mean": None, "std": None, "margin": MARGIN, "crop_size": SIDE,
    "masked": False, "precision": "float32", "max_pixels": 10**6, "device": "cpu",
    "batch_size": 3, "threads": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    fetch_weights("test_vit", "random", None, 0, path)
    return path


@pytest.fixture(scope="module")
def backbone(weights: Path) -> Backbone:
    return open_backbone(weights, "cpu", None, None)


def blobs() -> dict[str, NDArray[np.bool_]]:
    """Masks of two regions, of none, and of one that fills the image."""
    two = np.zeros((60, 90), bool)
    two[5:25, 10:70] = two[40:58, 30:44] = True
    two[40:45, 30:37] = False  # not a rectangle
    return {"two": two, "none": np.zeros((40, 40), bool), "all": np.ones((33, 50), bool)}


def pictures() -> dict[str, NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return {name: random.integers(0, 256, (*mask.shape, 3), np.uint8)
            for name, mask in blobs().items()}  # fmt: skip


def embed(folder: Path, weights: Path, **changes: Any) -> dict[str, NDArray[Any]]:
    masks, images = blobs(), pictures()
    paths = {name: write_png(folder / f"{name}.png", image) for name, image in images.items()}
    manifest = write_manifest(
        folder / "manifest.csv", {name: mask.shape for name, mask in masks.items()}, images=paths
    )
    maps = write_region_maps(folder / "maps.npz", masks, MIN_AREA)
    embed_regions(manifest, maps, weights, folder / "regions.npz", **SETTINGS | changes)
    return read_arrays(folder / "regions.npz")


@pytest.mark.parametrize("masked", [False, True])
def test_regions_have_the_class_token_and_the_mean_key_of_their_crop(
    tmp_path: Path, weights: Path, backbone: Backbone, masked: bool
) -> None:
    found = embed(tmp_path, weights, masked=masked)
    assert found["image"].tolist() == [0, 0, 2]
    number = 0
    for name, mask in blobs().items():
        regions = find_components(mask, MIN_AREA)
        for region, box in enumerate(regions.box, start=1):
            top, left, bottom, right = grow_box(box, MARGIN, mask.shape)
            inside = regions.label[top:bottom, left:right] == region
            crop = pictures()[name][top:bottom, left:right].copy()
            if masked:
                crop[~inside] = GREY
            image = prepare_image(crop, (SIDE, SIDE), backbone.mean, backbone.std)
            features = backbone.forward(torch.from_numpy(image[None]))
            key = features.facets["key"][0].numpy().astype(np.float64)
            key /= np.linalg.norm(key, axis=1, keepdims=True)
            share = shares_of_patches(inside, (SIDE // backbone.patch_size,) * 2)
            expected = (share[:, None] * key).sum(axis=0) / share.sum()
            np.testing.assert_allclose(found["key"][number], expected, atol=1e-5)
            np.testing.assert_allclose(found["cls"][number], features.cls[0], atol=1e-5)
            assert found["box"][number].tolist() == box.tolist()
            assert found["area"][number] == (regions.label == region).sum()
            number += 1
    assert number == len(found["cls"]) == len(found["key"])


def test_patches_count_by_the_share_of_them_that_is_inside() -> None:
    inside = np.zeros((8, 12), bool)
    inside[:4, :3] = True
    inside[6:, 9:] = True
    assert shares_of_patches(inside, (2, 2)).tolist() == [0.5, 0, 0, 0.25]
    speck = np.zeros((1000, 900), bool)
    speck[3, 5] = True
    assert shares_of_patches(speck, (3, 3)).sum() > 0


def test_a_crop_is_the_grown_box_and_grey_around_the_region_if_asked() -> None:
    image, regions = pictures()["two"], find_components(blobs()["two"], MIN_AREA)
    plain, painted = (
        list(crop_regions(image, regions.label, regions.box, margin=MARGIN, masked=masked))
        for masked in (False, True)
    )
    assert [crop.image.shape[:2] for crop in plain] == [
        (4 + 20 + 4, 10 + 60 + 12),
        (4 + 18 + 2, 3 + 14 + 3),
    ]
    assert [crop.inside.sum() for crop in plain] == regions.area.tolist()
    for before, after in zip(plain, painted, strict=True):
        np.testing.assert_array_equal(after.image[after.inside], before.image[before.inside])
        assert (after.image[~after.inside] == GREY).all()


@pytest.mark.parametrize("crop_size", [16, 55, 57])
def test_the_side_of_a_crop_is_rounded_to_patches(
    tmp_path: Path, weights: Path, backbone: Backbone, crop_size: int
) -> None:
    side = round(crop_size / backbone.patch_size) * backbone.patch_size
    rounded = embed(tmp_path / "a", weights, crop_size=crop_size)
    exact = embed(tmp_path / "b", weights, crop_size=side)
    np.testing.assert_array_equal(rounded["cls"], exact["cls"])
    np.testing.assert_array_equal(rounded["key"], exact["key"])


def test_batches_and_threads_change_rounding_at_most(tmp_path: Path, weights: Path) -> None:
    one = embed(tmp_path / "a", weights, batch_size=1, threads=1)
    many = embed(tmp_path / "b", weights, batch_size=8, threads=3)
    for name in ("cls", "key"):
        np.testing.assert_allclose(one[name], many[name], atol=1e-5)


def test_a_shard_without_regions_is_empty(tmp_path: Path, weights: Path) -> None:
    path = write_png(tmp_path / "none.png", pictures()["none"])
    manifest = write_manifest(tmp_path / "m.csv", {"none": (40, 40)}, images={"none": path})
    maps = write_region_maps(tmp_path / "maps.npz", {"none": blobs()["none"]}, MIN_AREA)
    embed_regions(manifest, maps, weights, tmp_path / "out.npz", **SETTINGS)
    found = read_arrays(tmp_path / "out.npz")
    dim = open_backbone(weights, "cpu", None, None).dim
    assert found["cls"].shape == found["key"].shape == (0, dim)
