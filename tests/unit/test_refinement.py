"""From patch scores to pixel masks at the edges of the image."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import iou, quick, write_manifest, write_patch_scores, write_pixel_masks, write_png
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydantic import ValidationError

from lightcluster.masks.pixels import (
    PixelMasks,
    read_pixel_masks,
    refine_mask,
    refine_masks,
    remove_specks,
    working_size,
)
from lightcluster.masks.refinement.crf import CRF
from lightcluster.masks.refinement.registry import REFINEMENTS, RefinementSettings
from lightcluster.masks.upsampling import upsample


def refinement(method: str = "crf", min_area: float = 0, **parameters: float) -> RefinementSettings:
    """Return settings of the CRF, or of another method, that leave specks where they are."""
    return RefinementSettings(method=method, min_area=min_area, **parameters)


def refine_crf(
    score: NDArray[np.float32], image: NDArray[np.uint8], settings: RefinementSettings
) -> NDArray[np.float32]:
    assert CRF.refine is not None
    return CRF.refine(score, image, settings)


def test_without_pydensecrf_the_crf_says_how_to_get_it(tmp_path: Path) -> None:
    """As with Python 3.13, for which pip cannot build it; everything else can be imported."""
    write_manifest(tmp_path / "manifest.csv", {"a.png": (8, 8)}, images={"a.png": write_png(
        tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8)
    )})  # fmt: skip
    write_patch_scores(tmp_path / "scores.npz", {"a.png": np.full((2, 2), 0.7)})
    code = (
        "import sys; sys.modules['pydensecrf'] = None\n"
        "from pathlib import Path\n"
        "from lightcluster.masks.pixels import refine_masks\n"
        "from lightcluster.masks.refinement.registry import RefinementSettings\n"
        "folder = Path(sys.argv[1])\n"
        "refine_masks(folder / 'manifest.csv', folder / 'scores.npz', folder / 'out.npz', "
        "upsampling='bilinear', threshold=0.5, max_pixels=10**6, "
        "refinement=RefinementSettings(method='crf'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert "LightClusterError: the CRF needs pydensecrf2" in done.stderr, done.stderr
    assert not (tmp_path / "out.npz").exists()


PLAIN = {"upsampling": "bilinear", "threshold": 0.5, "refinement": refinement()}


def disc(height: int, width: int) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[:height, :width]
    radius = 0.3 * min(height, width)
    return (rows - height / 2 + 0.5) ** 2 + (columns - width / 2 + 0.5) ** 2 < radius**2


def photograph(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A clean image of two colours."""
    return np.where(mask[..., None], [200, 60, 40], [40, 90, 160]).astype(np.uint8)


def patch_score(mask: NDArray[np.bool_], patch: int = 8) -> NDArray[np.float32]:
    """Share of each patch that the object covers."""
    height, width = mask.shape
    blocks = mask.reshape(height // patch, patch, width // patch, patch)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def test_the_crf_snaps_a_blurry_disc_to_its_edge() -> None:
    truth = disc(64, 80)
    score, image = patch_score(truth), photograph(truth)
    coarse = refine_mask(score, image, **PLAIN | {"refinement": refinement("none")})
    refined = refine_mask(score, image, **PLAIN)
    assert iou(coarse, truth) < 0.94
    assert iou(refined, truth) > 0.99


def test_the_guided_filter_moves_the_mask_towards_the_edge() -> None:
    truth = disc(96, 120)
    image, score = photograph(truth), patch_score(truth)
    coarse = refine_mask(score, image, **PLAIN | {"refinement": refinement("none")})
    finer = refine_mask(
        score, image, **PLAIN | {"refinement": refinement("guided", guided_radius=0.1)}
    )
    assert iou(finer, truth) > max(0.9, iou(coarse, truth))


def test_there_is_one_method_for_each_value_of_the_key() -> None:
    assert {name: item.name for name, item in REFINEMENTS.items()} == {
        "guided": "guided", "crf": "crf", "none": "none"
    }  # fmt: skip
    assert RefinementSettings().method == "guided"
    with pytest.raises(ValidationError, match="'guided', 'crf' or 'none'"):
        RefinementSettings(method="median")


def test_the_crf_returns_probabilities_near_the_colours() -> None:
    truth = disc(40, 40)
    soft = upsample(patch_score(truth), truth.shape, "bilinear")
    refined = refine_crf(soft, photograph(truth), refinement())
    assert refined.dtype == np.float32
    assert refined.shape == truth.shape
    assert 0 <= refined.min() < 0.05
    assert 0.95 < refined.max() <= 1
    np.testing.assert_array_equal(refined, refine_crf(soft, photograph(truth), refinement()))


def test_the_colour_kernel_is_what_finds_the_edge() -> None:
    truth = disc(64, 64)
    score, image = patch_score(truth), photograph(truth)
    blind = refine_mask(score, image, **PLAIN | {"refinement": refinement(bilateral_weight=0)})
    assert iou(blind, truth) < iou(refine_mask(score, image, **PLAIN), truth)


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_without_refinement_the_upsampled_score_is_thresholded(
    upsampling: str, threshold: float
) -> None:
    score = np.random.default_rng(0).random((3, 4), np.float32)
    image = np.zeros((30, 44, 3), np.uint8)
    mask = refine_mask(
        score, image, upsampling=upsampling, threshold=threshold, refinement=refinement("none")
    )
    np.testing.assert_array_equal(mask, upsample(score, (30, 44), upsampling) > threshold)
    assert mask.dtype == bool


@pytest.mark.parametrize("method", REFINEMENTS)
@pytest.mark.parametrize("threshold", [0.15, 0.5, 0.7])
def test_the_threshold_decides_a_constant_score(method: str, threshold: float) -> None:
    image = np.full((12, 12, 3), 128, np.uint8)
    for score, expected in ((threshold + 0.1, True), (threshold - 0.1, False)):
        mask = refine_mask(
            np.full((3, 3), score, np.float32), image,
            **PLAIN | {"threshold": threshold, "refinement": refinement(method)},
        )  # fmt: skip
        assert (mask == expected).all()


def test_another_threshold_still_snaps_to_the_edge() -> None:
    """The score of the object is 0.35 and so below a half, but above the threshold."""
    truth = disc(64, 64)
    score = 0.4 * patch_score(truth)
    mask = refine_mask(score, photograph(truth), **PLAIN | {"threshold": 0.2})
    assert iou(mask, truth) > 0.97
    assert not refine_mask(score, photograph(truth), **PLAIN).any()


def test_without_kernels_the_crf_returns_the_clipped_score() -> None:
    score = np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10)
    image = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)
    plain = refinement(clip=0.2, gaussian_weight=0, bilateral_weight=0)
    np.testing.assert_allclose(refine_crf(score, image, plain), score.clip(0.2, 0.8), atol=1e-6)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7])
def test_without_kernels_the_mask_is_the_thresholded_score(threshold: float) -> None:
    score = np.random.default_rng(0).random((4, 5), np.float32)
    mask = refine_mask(
        score, np.zeros((12, 15, 3), np.uint8), upsampling="bilinear", threshold=threshold,
        refinement=refinement(gaussian_weight=0, bilateral_weight=0),
    )  # fmt: skip
    np.testing.assert_array_equal(mask, upsample(score, (12, 15), "bilinear") > threshold)


def test_the_smoothness_kernel_removes_specks_up_to_its_width() -> None:
    score = np.full((20, 20), 0.2, np.float32)
    score[9:11, 9:11] = 0.9
    image = np.zeros((20, 20, 3), np.uint8)

    def left(width: float, weight: float) -> bool:
        kernel = refinement(gaussian_sxy=width, gaussian_weight=weight, bilateral_weight=0)
        return bool((refine_crf(score, image, kernel) > 0.5).any())

    assert not left(3, 3)
    assert left(3, 0)
    assert left(0.3, 3)


def test_the_colour_kernel_joins_like_colours_up_to_its_widths() -> None:
    """Two squares alike, of which the score knows one: the other is found if it is near enough."""
    truth = np.zeros((24, 48), bool)
    truth[6:18, 4:16] = truth[6:18, 32:44] = True
    score = np.where(truth, 0.35, 0.1).astype(np.float32)
    score[6:18, 4:16] = 0.9

    def found(space: float, colour: float) -> bool:
        kernel = refinement(bilateral_sxy=space, bilateral_srgb=colour)
        return iou(refine_crf(score, photograph(truth), kernel) > 0.5, truth) > 0.95

    assert found(40, 13)
    assert not found(3, 13)
    assert not found(40, 1000)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 1), (2, 2)])
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_tiny_images(size: tuple[int, int], score: float) -> None:
    image = np.full((*size, 3), 200, np.uint8)
    mask = refine_mask(np.full((3, 3), score, np.float32), image, **PLAIN)
    assert mask.shape == size
    assert (mask == bool(score)).all()


def test_read_only_and_strided_images_are_accepted_and_left_alone() -> None:
    truth = disc(48, 48)
    score = upsample(patch_score(truth), truth.shape, "bilinear")
    image = photograph(truth)
    expected = refine_crf(score, image, refinement())
    frozen = image.copy()
    frozen.flags.writeable = False
    strided = np.repeat(image, 2, axis=1)[:, ::2]
    reversed_twice = image[:, :, ::-1].copy()[:, :, ::-1]
    for same in (frozen, strided, reversed_twice, np.asfortranarray(image)):
        np.testing.assert_array_equal(refine_crf(score, same, refinement()), expected)
    np.testing.assert_array_equal(frozen, image)


@pytest.mark.parametrize("writeable", [True, False])
def test_a_large_image_is_refined_smaller_and_returned_at_its_size(
    writeable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = disc(120, 160)
    image = photograph(truth)
    image.flags.writeable = writeable
    seen = []

    def spy(
        score: NDArray[np.float32], small: NDArray[np.uint8], settings: RefinementSettings
    ) -> NDArray[np.float32]:
        seen.append((score.shape, small.shape[:2]))
        return refine_crf(score, small, settings)

    monkeypatch.setitem(REFINEMENTS, "crf", replace(CRF, refine=spy))
    score = patch_score(truth)
    refined = refine_mask(score, image, **PLAIN | {"refinement": refinement(max_pixels=4800)})
    assert seen == [((60, 80), (60, 80))]
    assert refined.shape == truth.shape
    assert iou(refined, truth) > 0.95
    assert iou(refined, truth) > iou(upsample(score, truth.shape, "bilinear") > 0.5, truth)


def test_images_within_the_bound_keep_their_size() -> None:
    assert working_size(1000, 1000, 1_000_000) == (1000, 1000)
    assert working_size(3, 5, 1024) == (3, 5)
    assert working_size(2000, 1000, 500_000) == (1000, 500)


@quick
@given(st.integers(1, 60_000), st.integers(1, 60_000), st.integers(1024, 2_000_000))
def test_the_working_size_is_within_the_bound_and_of_the_same_shape(
    height: int, width: int, most: int
) -> None:
    rows, columns = working_size(height, width, most)
    assert 1 <= rows <= height
    assert 1 <= columns <= width
    assert rows * columns <= most
    if height * width <= most:
        assert (rows, columns) == (height, width)
    else:
        scale = (most / (height * width)) ** 0.5
        if min(height, width) * scale >= 1:
            assert abs(rows - height * scale) <= 1
            assert abs(columns - width * scale) <= 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 90_000), (1, 1024)), ((90_000, 1), (1024, 1)), ((40_000, 2), (1024, 1))],
)
def test_not_even_a_line_of_pixels_exceeds_the_bound(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert working_size(*size, 1024) == expected


shapes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5)


@quick
@given(data=st.data(), sizes=shapes)
def test_masks_survive_packing(
    data: st.DataObject, sizes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    masks = {f"image {n}": data.draw(hnp.arrays(bool, size)) for n, size in enumerate(sizes)}
    path = tmp_path_factory.mktemp("packed") / "masks.npz"
    packed = read_pixel_masks(write_pixel_masks(path, masks))
    assert packed.image_id == list(masks)
    for number, mask in enumerate(masks.values()):
        found = packed.mask_of(number)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, mask)


def test_a_shard_without_images() -> None:
    empty = PixelMasks([], np.empty((0, 2), np.int32), np.empty(0, np.uint8))
    assert empty.image_id == []


def test_a_shard_is_refined_image_by_image(tmp_path: Path) -> None:
    sizes = {"wide.png": (48, 72), "folder/tall.png": (64, 40), "tiny.png": (1, 1)}
    truths = {name: disc(*size) for name, size in sizes.items()}
    pictures = {
        name: write_png(tmp_path / f"{number}.png", photograph(truth))
        for number, (name, truth) in enumerate(truths.items())
    }
    scores = {
        name: patch_score(truth) if truth.size > 1 else np.ones((2, 2), np.float32)
        for name, truth in truths.items()
    }
    manifest = write_manifest(
        tmp_path / "manifest.csv", dict(reversed(sizes.items())), images=pictures
    )
    patches = write_patch_scores(tmp_path / "patches.npz", scores)
    refine_masks(
        manifest, patches, tmp_path / "pixels.npz", upsampling="bilinear", threshold=0.5,
        refinement=refinement(max_pixels=3000), max_pixels=10_000,
    )  # fmt: skip
    masks = read_pixel_masks(tmp_path / "pixels.npz")
    assert masks.image_id == list(sizes)
    for number, (name, truth) in enumerate(truths.items()):
        half = scores[name].astype(np.float16).astype(np.float32)
        expected = refine_mask(
            half, photograph(truth), **PLAIN | {"refinement": refinement(max_pixels=3000)}
        )
        np.testing.assert_array_equal(masks.mask_of(number), expected)
        assert iou(masks.mask_of(number), truth | (truth.size == 1)) > 0.94


# ---- specks and holes ----------------------------------------------------------------------------


def test_specks_and_holes_go_and_what_is_larger_stays() -> None:
    mask = np.zeros((20, 50), bool)  # a thousandth is a pixel
    mask[2:12, 5:25] = True
    mask[4:6, 8:10] = False  # a hole of four
    mask[8:9, 10:15] = False  # and one of five
    mask[15, 40:44] = True  # a speck of four
    mask[16, 44] = True  # which touches another one at a corner only
    mask[18, 10:15] = True  # five
    found = remove_specks(mask, 0.004)
    expected = mask.copy()
    expected[4:6, 8:10] = True
    expected[15, 40:44] = expected[16, 44] = False
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(remove_specks(mask, 0), mask)


def test_the_largest_part_stays_however_small_it_is() -> None:
    mask = np.zeros((30, 30), bool)
    mask[3, 3:6] = mask[20, 20] = True
    expected = np.zeros_like(mask)
    expected[3, 3:6] = True
    np.testing.assert_array_equal(remove_specks(mask, 0.01), expected)
    for empty in (np.zeros((4, 5), bool), np.ones((4, 5), bool)):
        np.testing.assert_array_equal(remove_specks(empty, 0.1), empty)
