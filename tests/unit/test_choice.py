"""The facet and the layer that `auto` chooses: by signs that planted structure alone shows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import quick, write_manifest, write_png, write_store
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lightcluster.clustering.image_level import cluster_image
from lightcluster.clustering.kmeans import normalize
from lightcluster.config import Config
from lightcluster.datasets.scenes import SceneStyle, render_scene
from lightcluster.errors import ImageError
from lightcluster.extraction.choice import (
    Agreement,
    Sampled,
    choose_features,
    cohen_kappa,
    image_level,
    measure_agreement,
    sample_candidates,
)
from lightcluster.extraction.opening import open_backbone
from lightcluster.extraction.weights import fetch_weights
from lightcluster.files import read_arrays
from lightcluster.layout import read_choice

IMAGES, PATCHES, DIM = 12, 60, 8
SETTINGS: dict[str, Any] = {
    "mean": None, "std": None, "facet": "auto", "layer": "auto", "short_side": 48,
    "max_tokens": 100, "auto_images": 128, "precision": "float32", "max_pixels": 10**6,
    "device": "cpu", "threads": 1,
}  # fmt: skip


# ---- the signs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("1100", "1100", 1.0),
        ("1100", "0011", -1.0),
        ("1100", "1010", 0.0),
        ("1110", "1100", 0.5),
        ("1111", "1111", 0.0),
        ("0000", "1111", 0.0),
        ("1111", "1100", 0.0),
    ],
)
def test_kappa_of_small_masks(one: str, other: str, expected: float) -> None:
    masks = (np.asarray([bit == "1" for bit in bits]) for bits in (one, other))
    assert cohen_kappa(*masks) == pytest.approx(expected)


@quick
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_kappa_is_symmetric_and_turns_with_both_masks(pairs: list[tuple[bool, bool]]) -> None:
    one, other = (np.asarray(column, bool) for column in zip(*pairs, strict=True))
    kappa = cohen_kappa(one, other)
    assert -1 - 1e-9 <= kappa <= 1 + 1e-9
    assert cohen_kappa(other, one) == pytest.approx(kappa)
    assert cohen_kappa(~one, ~other) == pytest.approx(kappa)


def planted(
    seed: int, *, features: bool = True, level: bool = True, gaze: bool = True
) -> tuple[Sampled, NDArray[np.int64]]:
    """Patches of which a third is foreground, as far as each of the three knows of it."""
    random = np.random.default_rng(seed)
    truth = random.random(IMAGES * PATCHES) < 0.3

    def known(knows: bool) -> NDArray[np.bool_]:
        return truth if knows else random.permutation(truth)

    points = random.normal(0, 0.4, (len(truth), DIM))
    points[:, 0] += np.where(known(features), 1.0, -1.0)
    sampled = Sampled(
        normalize(points, "l2").astype(np.float16),
        np.repeat(np.arange(IMAGES), PATCHES),
        known(level) ^ (random.random(len(truth)) < 0.05),
        (known(gaze) + random.random(len(truth))).astype(np.float32) / 2,
    )
    return sampled, np.arange(IMAGES) % 2


def test_levels_of_planted_foreground_agree_and_look_where_the_class_token_looks() -> None:
    found = measure_agreement(*planted(0))
    assert 0.8 < found.kappa <= 1
    assert 0.7 < found.gaze <= 1
    assert found.score == pytest.approx(found.kappa * found.gaze)


@pytest.mark.parametrize("wrong", ["features", "level", "gaze"])
def test_either_sign_alone_gives_a_wrong_candidate_away(wrong: str) -> None:
    right, worse = (measure_agreement(*planted(1, **flags)) for flags in ({}, {wrong: False}))
    assert worse.score < 0.3 * right.score


def test_levels_that_look_away_from_the_class_token_score_nothing() -> None:
    sampled, superclass = planted(2)
    turned = Sampled(sampled.features, sampled.image, sampled.foreground, 1 - sampled.gaze)
    found = measure_agreement(turned, superclass)
    assert found.gaze < 0
    assert found.score == 0


def test_attention_that_is_the_same_everywhere_is_no_sign() -> None:
    sampled, superclass = planted(3)
    flat = Sampled(
        sampled.features, sampled.image, sampled.foreground, np.full_like(sampled.gaze, 0.5)
    )
    assert measure_agreement(flat, superclass).gaze == 0
    assert Agreement(kappa=0.9, gaze=0.0).score == 0


def test_the_image_level_is_that_of_the_workflow(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    keys, attention = random.normal(size=(9, 7, DIM)), random.random((9, 7)).astype(np.float32)
    keys[2:6, 2:5, 0] += 3
    store = write_store(tmp_path / "s.zarr", [keys], attention=[attention])
    clustering, rules = Config().clustering, Config().foreground.rules
    cluster_image(
        store, tmp_path / "image.npz", k=2, normalization="l2", metric="spherical",
        restarts=clustering.restarts_image, iterations=clustering.iterations, seed=0, rules=rules,
    )  # fmt: skip
    level = read_arrays(tmp_path / "image.npz", "label", "foreground")
    expected = level["foreground"][0, level["label"]]
    features = normalize(keys.reshape(-1, DIM).astype(np.float16), "l2")
    found = image_level(features, attention.astype(np.float16).ravel(), (9, 7))
    np.testing.assert_array_equal(found, expected)


# ---- the step --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Manifests of two shards of three scenes each, and random weights."""
    folder = tmp_path_factory.mktemp("choice")
    fetch_weights("test_vit", "random", None, 0, folder / "weights.safetensors")
    manifests = []
    for shard in range(2):
        paths, sizes = {}, {}
        for index in range(3):
            image, _ = render_scene(shard, index, SceneStyle(height=60, width=80))
            paths[f"{index}.png"] = write_png(folder / f"{shard}-{index}.png", image)
            sizes[f"{index}.png"] = image.shape[:2]
        manifests.append(write_manifest(folder / f"{shard}.csv", sizes, images=paths))
    return manifests, folder / "weights.safetensors"


def choose(source: tuple[list[Path], Path], output: Path, **changes: Any) -> list[dict[str, str]]:
    manifests, weights = source
    choose_features(manifests, weights, output, **SETTINGS | changes)
    with output.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_candidates_are_listed_and_the_best_is_read(source, tmp_path):
    rows = choose(source, tmp_path / "choice.csv")
    depth = open_backbone(source[1], "cpu", None, None).depth
    candidates = {(row["facet"], int(row["layer"])) for row in rows}
    facets = ("key", "query", "value", "token")
    assert candidates == {(facet, layer) for facet in facets for layer in range(depth)}
    assert len(rows) == len(candidates)
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row in rows:
        product = float(row["kappa"]) * max(float(row["gaze"]), 0)
        assert float(row["score"]) == pytest.approx(product, abs=2e-4)
    best = (rows[0]["facet"], int(rows[0]["layer"]))
    assert read_choice(tmp_path / "choice.csv") == best
    again = choose(source, tmp_path / "again.csv")
    assert again == rows


@pytest.mark.parametrize(
    ("changes", "count"), [({"facet": "value"}, 6), ({"layer": -2}, 4), ({"auto_images": 2}, 24)]
)
def test_only_what_is_auto_is_chosen(source, tmp_path, changes, count):
    depth = open_backbone(source[1], "cpu", None, None).depth
    assert depth == 6
    rows = choose(source, tmp_path / "choice.csv", **changes)
    assert len(rows) == count
    if "facet" in changes:
        assert {row["facet"] for row in rows} == {"value"}
    if "layer" in changes:
        assert {row["layer"] for row in rows} == {str(depth - 2)}


def test_candidates_see_the_features_of_the_backbone(source):
    backbone = open_backbone(source[1], "cpu", None, None)
    side = 3 * backbone.patch_size
    images = [np.random.default_rng(n).normal(size=(3, side, side)).astype(np.float32)
              for n in range(2)]  # fmt: skip
    sampled, cls = sample_candidates(
        iter(images), 2, backbone, ("key", "token"), (1, 3), precision=torch.float32
    )
    assert set(sampled) == {(facet, layer) for facet in ("key", "token") for layer in (1, 3)}
    for number, image in enumerate(images):
        for facet, layer in sampled:
            expected = backbone.forward(torch.from_numpy(image[None]), (facet,), layer)
            rows = sampled[facet, layer].image == number
            assert rows.sum() == 9
            unit = normalize(expected.facets[facet][0].numpy(), "l2")
            np.testing.assert_allclose(sampled[facet, layer].features[rows], unit, atol=1e-3)
            last = backbone.forward(torch.from_numpy(image[None]), (facet,), -1)
            order = np.argsort(last.cls_attention[0].numpy())
            assert np.argsort(sampled[facet, layer].gaze[rows]).tolist() == order.tolist()
        np.testing.assert_allclose(cls[number], normalize(expected.cls.numpy(), "l2")[0], atol=1e-5)


def test_an_image_that_has_changed_is_named(source, tmp_path):
    manifests, weights = source
    path = write_png(tmp_path / "changed.png", np.zeros((40, 50, 3), np.uint8))
    manifest = write_manifest(tmp_path / "0.csv", {"x": (40, 50)}, images={"x": path})
    write_png(path, np.ones((40, 50, 3), np.uint8))
    with pytest.raises(ImageError, match=r"changed\.png: has changed since"):
        choose(([manifest, manifests[0]], weights), tmp_path / "choice.csv")
    assert not (tmp_path / "choice.csv").exists()
