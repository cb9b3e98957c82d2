"""k-means of patches as a segmentation, against the nearest centroid pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import quick, write_classes, write_manifest, write_store
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightcluster.clustering.kmeans import assign, closeness, normalize
from lightcluster.clustering.sample import sample_features
from lightcluster.datasets.labels import Classes, read_classes
from lightcluster.files import read_arrays
from lightcluster.masks.upsampling import upsample
from lightcluster.methods.kmeans.patch_clusters import fit_clusters, paint_clusters, paint_nearest
from lightcluster.regions.number import number_of_clusters

SIZES = {"a.png": (30, 41), "b/c.png": (17, 8)}


@quick
@given(
    seed=st.integers(0, 99),
    clusters=st.integers(1, 6),
    method=st.sampled_from(["bilinear", "nearest"]),
)
def test_each_pixel_has_the_cluster_of_the_largest_interpolated_score(seed, clusters, method):
    scores = np.random.default_rng(seed).normal(size=(3, 5, clusters)).astype(np.float32)
    maps = np.stack([upsample(scores[..., k], (19, 23), method) for k in range(clusters)])
    np.testing.assert_array_equal(paint_nearest(scores, (19, 23), method), maps.argmax(axis=0))


def test_ties_go_to_the_lowest_cluster():
    assert not paint_nearest(np.ones((2, 2, 3), np.float32), (5, 5), "bilinear").any()


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
def test_the_closest_centroid_is_the_nearest(metric):
    generator = np.random.default_rng(0)
    points, centroids = generator.normal(size=(50, 4)), generator.normal(size=(7, 4))
    if metric == "spherical":
        nearest = (points @ centroids.T).argmax(axis=1)
    else:
        nearest = ((points[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    centroids = centroids.astype(np.float32)
    np.testing.assert_array_equal(closeness(points, centroids, metric).argmax(axis=1), nearest)
    np.testing.assert_array_equal(assign(points, centroids, metric), nearest)


KNOWN = Classes((0, 3, 9), ("ground", "cat", "dog"))


@pytest.mark.parametrize(
    ("setting", "classes", "background", "clusters"),
    [
        ("auto", KNOWN, 0, 3),  # a cluster for each class
        ("auto", KNOWN, None, 3),
        ("auto", None, 0, 11),
        (5, KNOWN, 0, 6),
        (5, KNOWN, None, 5),
    ],
)
def test_there_is_a_cluster_for_the_background_where_there_may_be_one(
    setting, classes, background, clusters
):
    assert number_of_clusters(setting, classes, background) == clusters


def test_separate_groups_of_patches_become_the_clusters(tmp_path: Path, read_rows):
    """Three directions far apart; without interpolation the patches are those of the truth."""
    directions = np.eye(3, 8)
    generator = np.random.default_rng(0)
    truth = [generator.integers(0, 3, grid) for grid in ((6, 8), (4, 2))]
    keys = [directions[own] * 3 + generator.normal(0, 0.05, (*own.shape, 8)) for own in truth]
    store = write_store(tmp_path / "0000.zarr", keys, image_ids=list(SIZES))
    sample_features(
        store, tmp_path / "sample" / "0000.npz", shard=0, shards=1, tokens=1000,
        normalization="l2", seed=0,
    )  # fmt: skip
    classes = write_classes(tmp_path / "classes.csv", {0: "ground", 1: "cat", 2: "dog"})
    assert len(read_classes(classes).ids) == 3
    fit_clusters(
        [tmp_path / "sample/0000.npz"], classes, tmp_path / "seed-4.npz", tmp_path / "palette.csv",
        metric="spherical", classes="auto", background=0, restarts=3, iterations=10, seed=4,
    )  # fmt: skip
    manifest = write_manifest(tmp_path / "manifest.csv", SIZES)
    paint_clusters(
        manifest, store, tmp_path / "seed-4.npz", tmp_path / "out", normalization="l2",
        metric="spherical", upsampling="nearest",
    )  # fmt: skip
    centroids = read_arrays(tmp_path / "seed-4.npz", "centroids")["centroids"]
    cluster_of = assign(normalize(directions, "l2"), centroids)
    assert sorted(cluster_of) == [0, 1, 2]
    for (name, size), own in zip(SIZES.items(), truth, strict=True):
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            expected = upsample(cluster_of[own], size, "nearest")
            np.testing.assert_array_equal(np.asarray(image), expected)
    rows = read_rows(tmp_path / "palette.csv")
    assert [row["name"] for row in rows] == ["cluster 0", "cluster 1", "cluster 2"]
    sizes = np.bincount(np.concatenate([cluster_of[own].ravel() for own in truth]))
    assert [int(row["patches"]) for row in rows] == sizes.tolist()
