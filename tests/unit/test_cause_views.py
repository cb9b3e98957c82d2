"""Crops, windows, cached tokens and the segmentation of CAUSE."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from builders import quick, write_manifest, write_png
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydensecrf import densecrf

from lightcluster.checkpoints import write_tensors
from lightcluster.errors import ConfigError, ImageError
from lightcluster.extraction.images import prepare_image
from lightcluster.extraction.opening import load_backbone
from lightcluster.extraction.weights import fetch_weights
from lightcluster.methods.cause.caching import cache_crops, cache_views
from lightcluster.methods.cause.heads import FEATURES, build_head, nearest_codes
from lightcluster.methods.cause.segmentation import (
    denormalized,
    paint_probe,
    paint_view,
    stitch,
    view_features,
)
from lightcluster.methods.cause.tokens import Tokens
from lightcluster.methods.cause.views import Resampling, View, evaluation_views, training_views

SIZES = {"wide.png": (70, 100), "a/tall.png": (96, 64)}
CACHE = {
    "resampling": "antialiased", "size": 128, "mean": None, "std": None, "max_pixels": 10**6,
    "precision": "float32", "device": "cpu", "batch_size": 2, "threads": 2,
}  # fmt: skip

# ---- boxes --------------------------------------------------------------------------------------


def test_crops_are_four_corners_and_the_centre():
    boxes = [(v.top, v.left, v.height, v.width) for v in training_views(80, 120, (0.5,), False,
                                                                        "squash")]  # fmt: skip
    assert boxes == [(0, 0, 40, 60), (0, 60, 40, 60), (40, 0, 40, 60), (40, 60, 40, 60),
                     (20, 30, 40, 60)]  # fmt: skip


def test_the_centred_square_of_a_crop_is_its_short_side():
    (first, *_) = training_views(80, 120, (0.5,), False, "crop")
    assert (first.top, first.left, first.height, first.width) == (0, 10, 40, 40)


@pytest.mark.parametrize(
    ("fractions", "mirrored", "count"),
    [((0.5,), False, 5), ((0.5, 0.8), True, 20), ((0.3, 0.4, 0.5, 0.6, 0.7), True, 50)],
)
def test_the_published_numbers_of_crops(fractions, mirrored, count):
    views = training_views(333, 500, fractions, mirrored, "squash")
    assert len(views) == len(set(views)) == count
    assert sum(view.mirrored for view in views) == (count // 2 if mirrored else 0)


@quick
@given(
    height=st.integers(1, 400), width=st.integers(1, 400),
    framing=st.sampled_from(["crop", "squash"]),
    fractions=st.lists(st.floats(0.01, 1), min_size=1, max_size=3, unique=True),
)  # fmt: skip
def test_crops_lie_within_the_image(height, width, framing, fractions):
    for view in training_views(height, width, fractions, True, framing):
        assert min(view.height, view.width) >= 1
        assert 0 <= view.top <= height - view.height
        assert 0 <= view.left <= width - view.width


@quick
@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_windows_cover_the_image_and_the_centred_one_counts(height, width):
    views = evaluation_views(height, width, "crop")
    side = min(height, width)
    last = views[-1]
    assert (last.top, last.left) == ((height - side) // 2, (width - side) // 2)
    painted = [np.full((8, 8), number + 1, np.uint16) for number in range(len(views))]
    result = stitch(painted, views, (height, width))
    assert result.all()
    centred = result[last.top : last.top + side, last.left : last.left + side]
    assert (centred == len(views)).all()
    assert len(views) <= max(height, width) / side + 3


def test_windows_of_usual_photographs():
    assert len(evaluation_views(480, 640, "crop")) == 3
    assert len(evaluation_views(480, 480, "crop")) == 1
    assert evaluation_views(480, 640, "squash") == [View(0, 0, 480, 640)]


def test_a_mirrored_view_is_the_mirror_image_and_so_are_its_centres():
    rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    plain, mirrored = View(4, 8, 20, 30), View(4, 8, 20, 30, mirrored=True)
    np.testing.assert_array_equal(plain.cut(rgb, 16)[:, ::-1], mirrored.cut(rgb, 16))
    rows, columns = plain.centers(5)
    assert rows.tolist() == [6, 10, 14, 18, 22]
    assert columns.tolist() == [11, 17, 23, 29, 35]
    assert mirrored.centers(5)[1].tolist() == columns[::-1].tolist()


def test_the_nearest_pixels_of_a_view_are_those_that_pillow_takes():
    rgb = np.random.default_rng(0).integers(0, 256, (90, 61, 3)).astype(np.uint8)
    box = View(7, 11, 50, 50)
    crop = Image.fromarray(rgb[7:57, 11:61])
    for side in (24, 50, 128):
        taken = np.asarray(crop.resize((side, side), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(box.cut(rgb, side, "nearest"), taken)
        mirrored = View(7, 11, 50, 50, mirrored=True).cut(rgb, side, "nearest")
        np.testing.assert_array_equal(mirrored, taken[:, ::-1])
    assert (box.cut(rgb, 24) != box.cut(rgb, 24, "nearest")).any()


def test_each_pixel_has_the_cluster_of_the_nearest_pixel_of_its_window():
    labels = np.arange(4, dtype=np.uint16).reshape(2, 2)
    result = stitch([labels], [View(0, 0, 4, 6)], (4, 6))
    np.testing.assert_array_equal(result, np.kron(labels, np.ones((2, 3), np.uint16)))


# ---- tokens -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A manifest of two pictures of noise, and random weights of a small backbone."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    images = {
        name: write_png(
            folder / "images" / name,
            np.kron(rng.integers(0, 256, (10, 10, 3)), np.ones((10, 10, 1)))[:height, :width]
            .astype(np.uint8),
        )
        for name, (height, width) in SIZES.items()
    }  # fmt: skip
    outputs = {name: name for name in SIZES}
    manifest = write_manifest(folder / "manifest.csv", SIZES, images=images, outputs=outputs)
    weights = folder / "weights.safetensors"
    fetch_weights("vit_tiny_patch16_224", "random", None, 0, weights)
    return manifest, weights, images


@torch.inference_mode()
def tokens_of(
    weights: Path, rgb: np.ndarray, view: View, resampling: Resampling = "antialiased"
) -> torch.Tensor:
    """The tokens of one view, by timm itself."""
    backbone = load_backbone("vit_tiny_patch16_224", weights)
    cut = view.cut(rgb, 128, resampling)
    pixels = prepare_image(cut, (128, 128), backbone.mean, backbone.std)
    return backbone.model.forward_features(torch.from_numpy(pixels)[None])[0, 1:]


def test_crops_are_stored_as_the_tokens_after_the_last_norm(photographs, tmp_path):
    manifest, weights, images = photographs
    output = tmp_path / "0000.zarr"
    cache_crops(
        manifest, weights, output, fractions=(0.5, 0.8), mirrored=True, framing="crop", **CACHE
    )
    tokens = Tokens([output])
    assert tokens.count == 40
    assert (tokens.grid, tokens.patch_size, tokens.dim) == ((8, 8), 16, 192)
    for number, (name, view) in enumerate(zip(SIZES, (3, 17), strict=True)):
        place = 20 * number + view
        assert tokens.names[place] == f"{name}#{view}"
        box = training_views(*SIZES[name], (0.5, 0.8), True, "crop")[view]
        expected = tokens_of(weights, np.asarray(Image.open(images[name])), box)
        torch.testing.assert_close(
            tokens.read(np.array([place]))[0], expected, rtol=2e-3, atol=2e-3
        )


def test_windows_are_stored_with_their_mirror_images(photographs, tmp_path):
    manifest, weights, images = photographs
    output = tmp_path / "0000.zarr"
    cache_views(manifest, weights, output, framing="crop", mirrored=True, **CACHE)
    tokens = Tokens([output])
    assert tokens.names == [
        f"{name}#{number}{mirror}" for name in SIZES for number in range(3) for mirror in ("", "m")
    ]
    box = evaluation_views(*SIZES["wide.png"], "crop")[1]
    mirrored = View(box.top, box.left, box.height, box.width, mirrored=True)
    expected = tokens_of(weights, np.asarray(Image.open(images["wide.png"])), mirrored)
    torch.testing.assert_close(tokens.read(np.array([3]))[0], expected, rtol=2e-3, atol=2e-3)


def test_tokens_may_be_those_of_the_nearest_pixels(photographs, tmp_path):
    manifest, weights, images = photographs
    settings = {**CACHE, "resampling": "nearest"}
    cache_views(
        manifest, weights, tmp_path / "v.zarr", framing="squash", mirrored=False, **settings
    )
    rgb, box = np.asarray(Image.open(images["wide.png"])), View(0, 0, *SIZES["wide.png"])
    tokens = Tokens([tmp_path / "v.zarr"]).read(np.array([0]))[0]
    expected = tokens_of(weights, rgb, box, "nearest")
    torch.testing.assert_close(tokens, expected, rtol=2e-3, atol=2e-3)
    assert (tokens - tokens_of(weights, rgb, box)).abs().max() > 0.1


def test_crops_of_too_few_patches_are_a_mistake_of_the_configuration(photographs, tmp_path):
    manifest, weights, _ = photographs
    settings = {**CACHE, "size": 112}
    with pytest.raises(
        ConfigError, match=r"cause.size: .* 112 pixels, 7.0 patches of 16; at least 8"
    ):
        cache_crops(
            manifest, weights, tmp_path / "0", fractions=(0.5,), mirrored=False, framing="crop",
            **settings,
        )  # fmt: skip


def test_an_image_that_has_changed_is_an_error_that_names_it(photographs, tmp_path):
    _, weights, images = photographs
    image = {"wide.png": Path(shutil.copy(images["wide.png"], tmp_path))}
    manifest = write_manifest(tmp_path / "m.csv", {"wide.png": (70, 100)}, images=image)
    write_png(image["wide.png"], np.zeros((70, 100, 3), np.uint8))
    with pytest.raises(ImageError, match=r"wide.png: has changed since"):
        cache_views(manifest, weights, tmp_path / "0", framing="crop", mirrored=False, **CACHE)


# ---- segmentation -------------------------------------------------------------------------------


def test_features_are_averaged_with_those_of_the_mirror_image():
    torch.manual_seed(0)
    head, codes = build_head("mlp", 6, 0).eval(), torch.randn(4, 6)
    tokens, mirrored = torch.randn(2, 6, 6)
    one = head(tokens, codes[nearest_codes(tokens, codes)]).T.reshape(FEATURES, 2, 3)
    two = head(mirrored, codes[nearest_codes(mirrored, codes)]).T.reshape(FEATURES, 2, 3)
    torch.testing.assert_close(view_features(head, codes, tokens, None, (2, 3)), one)
    averaged = (one + two[:, :, [2, 1, 0]]) / 2
    torch.testing.assert_close(view_features(head, codes, tokens, mirrored, (2, 3)), averaged)


def test_without_crf_each_pixel_has_the_probe_of_the_largest_cosine():
    torch.manual_seed(0)
    features, probe = torch.randn(FEATURES, 3, 3), torch.randn(5, FEATURES)
    painted = paint_view(features, probe, np.zeros((12, 12, 3), np.uint8), crf=False)
    assert painted.dtype == np.uint16
    pixels = functional.interpolate(features[None], (12, 12), mode="bilinear")[0]
    for row, column in np.ndindex(12, 12):
        cosines = functional.cosine_similarity(probe, pixels[:, row, column][None])
        assert painted[row, column] == int(cosines.argmax())


def test_the_crf_has_the_published_parameters():
    torch.manual_seed(0)
    features, probe = torch.randn(FEATURES, 4, 4), torch.randn(3, FEATURES)
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    pixels = functional.interpolate(features[None], (16, 16), mode="bilinear")[0].flatten(1)
    cosines = functional.normalize(probe, dim=1) @ functional.normalize(pixels, dim=0)
    likely = (3 * cosines).softmax(0).numpy()
    model = densecrf.DenseCRF2D(16, 16, 3)
    model.setUnaryEnergy(np.ascontiguousarray(-np.log(likely)))
    model.addPairwiseGaussian(sxy=1, compat=3)
    model.addPairwiseBilateral(sxy=67, srgb=3, rgbim=rgb, compat=4)
    expected = np.asarray(model.inference(10)).argmax(0).reshape(16, 16)
    np.testing.assert_array_equal(paint_view(features, probe, rgb, crf=True), expected)


@pytest.mark.parametrize("head", ["mlp", "tr"])
@pytest.mark.parametrize("crf", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_segmentations_have_the_size_of_their_images(photographs, tmp_path, head, crf):
    manifest, weights, _ = photographs
    torch.manual_seed(0)
    store, probe, output = tmp_path / "0000.zarr", tmp_path / "p.safetensors", tmp_path / "0000"
    cache_views(manifest, weights, store, framing="crop", mirrored=crf, **CACHE)
    state = {f"head.{name}": t for name, t in build_head(head, 192, 64).state_dict().items()}
    state |= {"codes": torch.randn(12, 192), "probe": torch.randn(300, FEATURES)}
    write_tensors(probe, state, {})
    paint_probe(
        manifest, store, probe, output, framing="crop", resampling="antialiased", crf=crf,
        crf_image="rgb", max_pixels=10**6,
    )  # fmt: skip
    for name, size in SIZES.items():
        painted = np.asarray(Image.open(output / name))
        assert painted.shape == size
        assert painted.max() < 300


def test_the_released_image_of_the_crf_is_bgr_and_rounded_down():
    """Each value through the operations of the released program, one at a time."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    rgb = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    found = denormalized(rgb, mean, std)
    lower = 0
    for channel in range(3):
        m, s = np.float32(mean[channel]), np.float32(std[channel])
        for value in range(256):
            x = (np.float32(value) / np.float32(255) - m) / s
            byte = int(np.float32(x * s + m) * np.float32(255))
            assert found[value // 16, value % 16, 2 - channel] == byte
            assert byte in (value - 1, value)
            lower += byte < value
    assert lower > 0


def test_a_shard_without_images_has_an_empty_folder(photographs, tmp_path):
    _, weights, _ = photographs
    manifest = write_manifest(tmp_path / "m.csv", {})
    store, probe = tmp_path / "0.zarr", tmp_path / "p.safetensors"
    cache_views(manifest, weights, store, framing="crop", mirrored=True, **CACHE)
    state = {f"head.{name}": t for name, t in build_head("mlp", 192, 0).state_dict().items()}
    tensors = {**state, "codes": torch.randn(2, 192), "probe": torch.randn(2, FEATURES)}
    write_tensors(probe, tensors, {})
    paint_probe(
        manifest, store, probe, tmp_path / "o", framing="crop", resampling="nearest", crf=True,
        crf_image="bgr", max_pixels=9,
    )  # fmt: skip
    assert not list((tmp_path / "o").iterdir())
