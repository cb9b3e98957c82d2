"""What ``import lightcluster as lc`` offers: images of every kind, features, masks and scores."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import lightcluster as lc
from lightcluster.api.given import open_given
from lightcluster.api.model import FoundRegions, Prediction
from lightcluster.errors import ConfigError, ImageError
from lightcluster.evaluation.protocols import PROTOCOLS
from lightcluster.extraction.images import open_image
from lightcluster.masks.refinement.registry import REFINEMENTS


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40, 60, 3), np.uint8)


def test_all_that_is_offered_is_there():
    assert {"features", "load", "miou", "refine"} <= set(dir(lc))
    assert all(callable(getattr(lc, name)) for name in lc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'segments'"):
        _ = lc.segments


def test_importing_the_package_imports_no_torch():
    program = "import sys, lightcluster; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "array", "float", "pil", "tensor"])
def test_the_same_pixels_whatever_an_image_comes_as(rgb, tmp_path, kind):
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    given = {
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "array": rgb,
        "float": rgb / 255,
        "pil": Image.fromarray(rgb),
        "tensor": torch.from_numpy(rgb).permute(2, 0, 1),
    }[kind]
    assert np.array_equal(open_given(given).rgb, rgb)


def test_grey_and_opacity(rgb):
    grey = rgb[..., 0]
    assert np.array_equal(open_given(grey).rgb, np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(open_given(grey[..., None]).rgb, open_given(grey).rgb)
    opacity = np.zeros((*grey.shape, 1), np.uint8)
    opacity[:20] = 255
    seen = open_given(np.concatenate([rgb, opacity], axis=2)).rgb
    assert np.array_equal(seen[:20], rgb[:20])
    assert (seen[20:] == 255).all()
    assert np.array_equal(
        open_given(Image.fromarray(np.concatenate([rgb, opacity], axis=2))).rgb, seen
    )


def test_a_pil_image_is_turned_as_its_file_is(rgb, tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(path, exif=exif, quality=95)
    seen = open_given(Image.open(path)).rgb
    assert seen.shape == (60, 40, 3)
    assert np.array_equal(seen, open_image(path, 10**6))


def test_deep_samples_are_scaled_as_those_of_files(tmp_path):
    deep = np.linspace(0, 4000, 40 * 60).astype(np.uint16).reshape(40, 60)
    path = tmp_path / "deep.png"
    Image.fromarray(deep).save(path)
    assert np.array_equal(open_given(Image.open(path)).rgb, open_image(path, 10**6))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((3, 40, 60), np.uint8), "channels are the last axis"),
        (np.zeros((40, 60, 3), np.uint16), "type uint16"),
        (np.full((40, 60), 1.5), r"must lie in \[0, 1\]"),
        (np.full((40, 60), np.nan), r"must lie in \[0, 1\]"),
        (np.zeros((0, 60, 3), np.uint8), "shape"),
        ([[1, 2], [3, 4]], "a list is no image"),
        (None, "a NoneType is no image"),
        (Image.new("F", (60, 40)), "mode 'F'"),
        (b"no image", "the bytes given: "),
        ("nowhere.png", "nowhere.png: the file does not exist"),
    ],
)
def test_what_is_no_image_is_refused_by_name(image, words):
    with pytest.raises(ImageError, match=words):
        open_given(image)


def test_too_large_an_image_is_refused(rgb):
    with pytest.raises(ImageError, match="at most 2,399"):
        open_given(rgb, 40 * 60 - 1)


def test_features_are_those_of_the_backbone(rgb):
    found = lc.features(rgb, short_side=64)
    rows, columns = (side // 8 for side in found.size)
    assert (rows, columns) == (8, 12)
    assert found.patches.shape[:2] == found.cls_attention.shape == (rows, columns)
    assert found.patches.shape[2] == len(found.cls)
    assert 0 <= found.cls_attention.min() <= found.cls_attention.sum() <= 1.001
    again = lc.features(Image.fromarray(rgb), short_side=64, facet="key", layer=-1)
    assert np.array_equal(again.patches, found.patches)
    assert not np.array_equal(lc.features(rgb, short_side=64, layer=0).patches, found.patches)
    assert lc.features(rgb, "mean_color", short_side=64).patches.shape == (8, 12, 3)
    rotary = [
        lc.features(rgb, "vit_tiny_patch16_dinov3_qkvb", weights="random", short_side=64,
                    rotation=rotation).patches
        for rotation in ("before", "after")
    ]  # fmt: skip
    assert not np.array_equal(*rotary)
    with pytest.raises(ConfigError, match="facet 'keys' unknown"):
        lc.features(rgb, facet="keys")


@pytest.mark.parametrize("method", REFINEMENTS)
def test_a_score_is_refined_to_the_edges_of_its_image(method):
    rgb = np.full((96, 96, 3), 30, np.uint8)
    rgb[30:70, 21:61] = 220  # not on the borders of patches
    truth = rgb[..., 0] > 100
    score = truth.reshape(12, 8, 12, 8).mean(axis=(1, 3))
    parameters = {} if method == "none" else {"min_area": 0.01}
    mask = lc.refine(score, rgb, method=method, **parameters)
    assert mask.shape == truth.shape
    assert mask.dtype == bool
    assert (mask == truth).mean() > (0.95 if method == "none" else 0.99)


def test_a_score_may_be_a_tensor_and_must_be_one():
    rgb = np.zeros((32, 32, 3), np.uint8)
    score = torch.zeros(4, 4)
    assert not lc.refine(score, rgb).any()
    for wrong in (np.zeros(4), np.full((4, 4), 2.0), np.full((4, 4), np.nan)):
        with pytest.raises(ConfigError, match="score of shape"):
            lc.refine(wrong, rgb)
    with pytest.raises(ConfigError, match=r"refinement\.method"):
        lc.refine(score, rgb, method="magic")
    with pytest.raises(ConfigError, match=r"refinement\.radius"):
        lc.refine(score, rgb, radius=3)
    with pytest.raises(ConfigError, match="threshold"):
        lc.refine(score, rgb, threshold=1.0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_segmentation_that_is_right_but_for_its_numbers_has_one(protocol):
    rng = np.random.default_rng(1)
    truths = [rng.integers(0, 4, size) for size in ((40, 60), (330, 400))]
    numbers = np.array([2, 0, 3, 1])
    found = lc.miou(
        [numbers[truth] for truth in truths], truths, protocol=protocol, classes=list("abcd")
    )
    assert found.miou == found.accuracy == 1
    assert found.iou == dict.fromkeys("abcd", 1.0)
    assert np.array_equal(found.cluster_to_class[numbers], range(4))
    assert (found.images, found.protocol, found.fallback) == (2, protocol, None)


def test_scores_by_hand():
    truth = np.array([[0, 0, 0, 1], [1, 1, 255, 255]])
    prediction = np.array([[0, 0, 1, 1], [1, 0, 0, 1]])
    found = lc.miou([torch.from_numpy(prediction)], [truth], classes=2)
    assert found.iou == {"0": 2 / 4, "1": 2 / 4}
    assert found.accuracy == 4 / 6
    more = lc.miou([prediction + 1], [truth], classes=2, clusters=3)
    assert more.fallback
    assert more.cluster_to_class.tolist()[1:] == [0, 1]


@pytest.mark.parametrize(
    ("predictions", "truths", "words"),
    [
        ([], [], "no image to score"),
        ([np.zeros((2, 2), int)], [], "not as many predictions as truths"),
        ([np.zeros((2, 2), int)], [np.zeros((2, 3), int)], "image 0: the prediction has shape"),
        ([np.zeros((2, 2))], [np.zeros((2, 2), int)], "image 0: label maps are"),
        ([np.full((2, 2), 7)], [np.zeros((2, 2), int)], "image 0: prediction holds cluster id 7"),
        ([np.zeros((2, 2), int)], [np.full((2, 2), 7)], "image 0: ground truth holds class id 7"),
    ],
)
def test_what_cannot_be_scored_is_refused(predictions, truths, words):
    with pytest.raises(ImageError, match=words):
        lc.miou(predictions, truths, classes=2)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ConfigError, match="protocol 'mine' unknown"):
        lc.miou([], [], protocol="mine", classes=2)


def test_what_was_found_is_shown_in_a_line():
    regions = FoundRegions(
        label=np.zeros((40, 60), np.int32), box=np.zeros((3, 4), np.int64),
        area=np.ones(3, np.int64), cluster=np.array([2, 2, 5]),
    )  # fmt: skip
    mask = np.zeros((40, 60), np.bool_)
    mask[:10] = True
    found = Prediction(
        mask, mask.astype(np.uint16), np.zeros((4, 6), np.float32), np.zeros((3, 4, 6), np.bool_),
        regions,
    )  # fmt: skip
    assert repr(found) == (
        "<segmentation of 40 x 60 pixels: 25% foreground, 3 regions of 2 classes>"
    )
    assert repr(regions) == "<3 regions of 2 classes>"
