"""Parts of objects: the same numbers for like clusters, and each patch where it belongs."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import quick, write_manifest, write_patch_scores, write_png
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightcluster.datasets.manifest import Row
from lightcluster.errors import StoreError
from lightcluster.extraction.backbones.mean_color import MeanColor
from lightcluster.extraction.weights import fetch_weights
from lightcluster.reporting.contact_sheet import GAP, MARGIN
from lightcluster.reporting.lettering import fit_text, font
from lightcluster.reporting.overlays import CELL
from lightcluster.reporting.parts import (
    FACETS,
    Masked,
    describe_parts,
    discover_parts,
    draw_masked,
    find_parts,
    part_maps,
    read_foreground,
)

SETTINGS = {
    "parts": 3, "seed": 0, "mean": None, "std": None, "layer": -1, "short_side": 32,
    "max_tokens": 1000, "max_pixels": 10**6, "precision": "float32", "device": "cpu", "threads": 1,
}  # fmt: skip


@quick
@given(seed=st.integers(0, 50), k=st.integers(2, 4))
def test_like_parts_have_the_same_number_and_the_largest_is_the_first(seed, k):
    generator = np.random.default_rng(seed)
    sizes = sorted(generator.choice(np.arange(10, 60), k, replace=False).tolist(), reverse=True)
    truth = generator.permutation(np.repeat(np.arange(k), sizes))
    shuffled = generator.permutation(k)
    features = {
        "token": np.eye(k, 8, dtype=np.float32)[truth],
        "key": np.eye(k, 8, dtype=np.float32)[shuffled[truth]],
    }
    parts = find_parts(features, k, seed=0)
    np.testing.assert_array_equal(parts["token"], truth)
    np.testing.assert_array_equal(parts["key"], truth)


def test_numbers_are_those_under_which_most_patches_agree():
    generator = np.random.default_rng(3)
    features = {
        facet: generator.normal(size=(200, 6)).astype(np.float32) for facet in ("token", "key")
    }
    features["key"] += features["token"]
    parts = find_parts(features, 4, seed=1)
    best = max(
        int((np.array(order)[parts["key"]] == parts["token"]).sum())
        for order in itertools.permutations(range(4))
    )
    assert int((parts["key"] == parts["token"]).sum()) == best > 50


def test_fewer_patches_than_parts_are_no_trouble():
    features = {facet: np.eye(2, 5, dtype=np.float32) for facet in FACETS}
    parts = find_parts(features, 4, seed=0)
    assert parts["token"][0] != parts["token"][1]
    np.testing.assert_array_equal(parts["token"], parts["key"])


@pytest.mark.parametrize(
    ("patches", "same", "expected"),
    [
        (0, True, "No patch of 9 images is foreground: there are no parts."),
        (1, False, "Only 1 foreground patch of 9 images for 4 parts, layer 5; "
         "like parts have like colours."),
        (4, False, "4 clusters of 4 foreground patches of 9 images, layer 5; "
         "like parts have like colours."),
        (4, True, "4 clusters of 4 foreground patches of 9 images, layer 5; "
         "tokens and keys are the same."),
    ],
)  # fmt: skip
def test_the_caption_says_what_there_is_and_why_there_is_little(patches, same, expected):
    token = np.eye(patches, 5, dtype=np.float32)
    features = {"token": token, "key": token if same else -token}
    assert describe_parts(features, 4, 9, 5) == expected


@pytest.mark.parametrize("patches", [63, 200_000])
def test_the_caption_is_not_cut_off(patches):
    one = np.zeros((patches, 1), np.float32)
    for other in (one, one + 1):
        caption = describe_parts({"token": one, "key": other}, 64, 64, 11)
        assert fit_text(caption, 3 * CELL[1] + 2 * GAP, font(11)) == caption


def test_each_patch_is_where_it_was():
    masks = [np.array([[0, 1], [1, 0]], bool), np.zeros((1, 2), bool), np.ones((2, 1), bool)]
    drawn = [Masked(Row("a", Path("a"), None, "a.png", 9, 9), mask) for mask in masks]
    maps = [found["key"].tolist() for found in part_maps(drawn, {"key": np.array([4, 2, 0, 1])})]
    assert maps == [[[0, 5], [3, 0]], [[0, 0]], [[1], [2]]]


@pytest.fixture
def shards(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Two shards of images of four patches of 8 pixels a side, the left half of each an object."""
    manifests, files = [], []
    for shard in range(2):
        names = [f"{shard}-{number}.png" for number in range(5)]
        images = {}
        for name in names:
            pixels = np.zeros((32, 32, 3), np.uint8)
            pixels[:16, :16], pixels[16:, :16], pixels[:, 16:] = (250, 0, 0), (0, 0, 250), 90
            images[name] = write_png(tmp_path / "images" / name, pixels)
        scores = {name: np.repeat([[1.0, 1, 0, 0]], 4, axis=0) for name in names}
        manifest = tmp_path / f"{shard}.csv"
        manifests.append(write_manifest(manifest, dict.fromkeys(names, (32, 32)), images=images))
        files.append(write_patch_scores(tmp_path / f"{shard}.npz", scores))
    return manifests, files


def test_images_are_drawn_from_all_shards_and_alone_their_foreground_is_read(shards):
    drawn = draw_masked(*shards, 6, seed=0)
    assert [one.row.image_id[0] for one in drawn] == ["0"] * 3 + ["1"] * 3
    assert len(draw_masked(*shards, 100, seed=0)) == 10
    features = read_foreground(
        drawn, MeanColor(), layer=-1, short_side=32, max_tokens=1000, max_pixels=10**6,
        precision=torch.float32, threads=1,
    )  # fmt: skip
    expected = np.tile(np.repeat([[1.0, 0, 0], [0, 0, 1]], 4, axis=0), (6, 1))
    for facet in FACETS:
        np.testing.assert_allclose(features[facet], expected, atol=1e-6)


def test_masks_of_other_patches_or_images_are_refused(shards, tmp_path):
    manifests, scores = shards
    drawn = draw_masked(manifests, scores, 2, seed=0)
    with pytest.raises(StoreError, match=r"are of \(4, 4\) patches, its features of others"):
        read_foreground(
            drawn, MeanColor(), layer=-1, short_side=64, max_tokens=1000, max_pixels=10**6,
            precision=torch.float32, threads=1,
        )  # fmt: skip
    with pytest.raises(StoreError, match="no scores of '0-"):
        draw_masked(manifests, [scores[1], scores[0]], 2, seed=0)


def test_the_figure_shows_images_beside_their_parts(shards, tmp_path, caplog):
    weights = tmp_path / "w.safetensors"
    fetch_weights("mean_color", "none", None, 0, weights)
    discover_parts(*shards, weights, tmp_path / "parts.png", **SETTINGS)
    with Image.open(tmp_path / "parts.png") as image:
        assert image.width == 2 * MARGIN + 3 * CELL[1] + 2 * GAP
        first = image.tobytes()
    discover_parts(*shards, weights, tmp_path / "parts.png", **SETTINGS)
    with Image.open(tmp_path / "parts.png") as image:
        assert image.tobytes() == first
    names = [f"{shard}-{number}.png" for shard in range(2) for number in range(5)]
    empty = write_patch_scores(tmp_path / "none.npz", {name: np.zeros((4, 4)) for name in names})
    with caplog.at_level(logging.INFO):
        discover_parts(shards[0], [empty, empty], weights, tmp_path / "none.png", **SETTINGS)
    assert "No patch of 8 images is foreground" in caplog.text
    assert (tmp_path / "none.png").exists()
