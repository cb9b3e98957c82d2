"""Figures of what was clustered: the right images, regions and colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import indexed, write_patch_scores, write_png, write_store
from PIL import Image

from lightcluster.clustering.kmeans import normalize
from lightcluster.datasets.labels import Classes
from lightcluster.datasets.manifest import Row
from lightcluster.digests import digest_file
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.files import encode_names, write_arrays
from lightcluster.masks.patches import read_patch_scores
from lightcluster.regions.labelling import fit_labelling
from lightcluster.reporting.analysis import (
    GAP,
    TYPICAL,
    draw_montage,
    patch_classes,
    plot_patches,
    typical_images,
    typical_regions,
)
from lightcluster.reporting.figures import plot_confusion
from lightcluster.reporting.tiles import TILE, Nearest, Tile, cut_tile


def test_the_nearest_of_each_group_are_kept_in_any_order():
    draw = np.random.default_rng(0)
    tiles = [Tile(float(s), "0000", f"{n}", None) for n, s in enumerate(draw.random(60))]
    for order in (np.arange(60), draw.permutation(60)):
        nearest = Nearest(TYPICAL)
        for number in order.tolist():
            nearest.add(number % 3, tiles[number], number)
        for group in range(3):
            best = sorted(tiles[group::3], key=lambda tile: -tile.similarity)[:TYPICAL]
            assert nearest.of(group) == best
            assert nearest.sizes[group] == 20
    assert nearest.of(7) == []


def test_images_near_their_superclass(tmp_path: Path):
    draw = np.random.default_rng(1)
    centroids = normalize(draw.normal(size=(2, 5)), "l2")
    stores, groups, cls = {}, [], []
    for number in range(2):
        shard = f"{number:04d}"
        tokens = draw.normal(size=(6, 5)).astype(np.float32) * 3
        names = [f"{shard}-{index}" for index in range(6)]
        stores[shard] = write_store(
            tmp_path / f"{shard}.zarr", [np.zeros((1, 1, 5))] * 6, cls=tokens, image_ids=names
        )
        cls.append(normalize(tokens, "l2"))
        groups.append((cls[-1] @ centroids.T).argmax(axis=1))
    write_arrays(
        tmp_path / "superclasses.npz", centroids=centroids,
        superclass=np.concatenate(groups).astype(np.int32), offset=np.array([0, 6, 12]),
    )  # fmt: skip
    nearest = typical_images(stores, tmp_path / "superclasses.npz")
    for group in range(2):
        expected = {
            f"{number:04d}-{index}": float(cls[number][index] @ centroids[group])
            for number in range(2) for index in range(6) if groups[number][index] == group
        }  # fmt: skip
        found = nearest.of(group)
        assert nearest.sizes[group] == len(expected)
        assert [tile.image_id for tile in found] == sorted(
            expected, key=lambda name: -expected[name]
        )[:TYPICAL]
        assert all(tile.similarity == pytest.approx(expected[tile.image_id]) for tile in found)


def test_regions_near_their_class(tmp_path: Path):
    draw = np.random.default_rng(2)
    features = {name: draw.normal(size=(20, 6)).astype(np.float32) for name in ("cls", "key")}
    fitted = fit_labelling(
        features, 3, method="kmeans", pca=4, restarts=3, iterations=20, seed=0
    )  # fmt: skip
    write_arrays(
        tmp_path / "labelling.npz", features=encode_names(["cls", "key"]), centers=fitted.centers,
        components=fitted.components, centroids=fitted.centroids,
    )  # fmt: skip
    boxes = draw.integers(0, 50, (20, 4))
    write_arrays(
        tmp_path / "0000.npz", image_id=encode_names(["a", "b"]), box=boxes,
        image=np.repeat([0, 1], 10), **features,
    )  # fmt: skip
    nearest = typical_regions({"0000": tmp_path / "0000.npz"}, tmp_path / "labelling.npz")
    classes = fitted.classes_of(features)
    for group in (1, 2, 3):
        members = np.flatnonzero(classes == group)
        cosine = fitted.project(features)[members] @ fitted.centroids[group - 1]
        best = members[np.argsort(-cosine)][:TYPICAL]
        assert [tile.box for tile in nearest.of(group)] == [tuple(boxes[n]) for n in best]
        assert [tile.image_id for tile in nearest.of(group)] == ["ab"[n // 10] for n in best]


def test_tiles_show_the_region_and_fit_into_the_montage(tmp_path: Path):
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[40:160, 40:280] = (255, 0, 0)
    path = write_png(tmp_path / "a.png", pixels)
    row = Row("a", path, None, "a.png", 200, 300, digest_file(path))
    region = cut_tile(Tile(1.0, "0000", "a", (40, 40, 160, 280)), row, 10**6, 0.0)
    assert region.size == (TILE, TILE // 2)
    assert (np.asarray(region) == (255, 0, 0)).all()
    whole = cut_tile(Tile(1.0, "0000", "a", None), row, 10**6, 0.0)
    assert whole.size == (TILE, round(TILE * 2 / 3))
    page = draw_montage([("one\nline", [region] * TYPICAL), ("nothing", [])])
    right = page.crop((page.width - GAP - TILE, 0, page.width - GAP, page.height // 2))
    assert (np.asarray(right) == (255, 0, 0)).all(axis=2).sum() == TILE * (TILE // 2)


def test_patches_have_the_class_at_their_centre(tmp_path: Path):
    truth = np.zeros((40, 60), np.uint8)
    truth[:20, 30:] = 7
    truth[20:, :20] = 255
    drawn = {name: np.zeros((2, 3)) for name in ("a", "b")}
    scores = read_patch_scores(write_patch_scores(tmp_path / "0000.npz", drawn))
    label = indexed(write_png(tmp_path / "a.png", truth))
    row = Row("a", Path("a.jpg"), label, "a.png", 40, 60)
    found = patch_classes(scores, 0, row, Classes((0, 7), ("ground", "cat")), 255)
    assert found.tolist() == [0, 1, 1, -1, 0, 0]
    unlabelled = Row("b", Path("b.jpg"), None, "b.png", 40, 60)
    found = patch_classes(scores, 1, unlabelled, Classes((0,), ("ground",)), 255)
    assert found.tolist() == [-1] * 6


@pytest.mark.parametrize("labelled", [True, False])
def test_the_figure_of_patches_has_a_panel_for_each_colouring(labelled: bool, tmp_path: Path):
    draw = np.random.default_rng(3)
    truth = draw.integers(-1, 2, 300)
    features = normalize(draw.normal(size=(300, 8)) + 4 * truth[:, None], "l2")
    figure = plot_patches(
        features, truth > 0, truth if labelled else None, ("sky", "cat"),
        metric="spherical", seed=0,
    )  # fmt: skip
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["ground truth"] * labelled + [
        "mask of the patches", "k-means, k = 2", "k-means, k = 3", "k-means, k = 4"
    ]  # fmt: skip
    dots = [sum(len(dot.get_offsets()) for dot in panel.collections) for panel in figure.axes]
    assert dots == [300] * len(titles)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == (["no truth", "sky", "cat"] if labelled else ["background", "object"])
    figure.savefig(tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").width > 1000


def test_the_confusion_shows_where_the_pixels_of_each_class_go():
    counts = np.array([[90, 5, 0], [10, 15, 0], [0, 20, 30], [0, 10, 70]], np.int64)
    figure = plot_confusion(counts, np.array([0, 2, 1, UNMATCHED]), ("sky", "cat", "dog"), "of it")
    shares = np.asarray(figure.axes[0].images[0].get_array())
    expected = [[90, 0, 10, 0], [10, 40, 30, 20], [0, 30, 0, 70]]
    np.testing.assert_allclose(shares, expected)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["sky", "cat", "dog", "no class"]
    assert {text.get_text() for text in figure.axes[0].texts} == {
        "90", "10", "40", "30", "20", "70"
    }  # fmt: skip


def test_a_confusion_of_many_classes_shows_the_largest():
    counts = np.diag(np.arange(100, dtype=np.int64))
    figure = plot_confusion(counts, np.arange(100), tuple(f"c{n}" for n in range(100)), "")
    assert len(figure.axes[0].get_yticklabels()) == 80
    assert figure.axes[0].get_yticklabels()[0].get_text() == "c20"
    assert not figure.axes[0].texts
