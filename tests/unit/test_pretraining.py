"""The training of the embedded backbone: views, start, objective, and the loop that resumes."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import build_network, quick
from hypothesis import given
from hypothesis import strategies as st

from lightcluster.datasets.scenes import SceneStyle, draw_object, render_scene
from lightcluster.errors import ConfigError, LightClusterError, StoreError
from lightcluster.extraction.weights import fetch_weights
from lightcluster.pretraining import training
from lightcluster.pretraining.corpus import PICTURES, load_corpus
from lightcluster.pretraining.initialization import (
    initialize,
    position_waves,
    sample_patches,
    whitening,
)
from lightcluster.pretraining.objective import PrototypeHead, balanced_assignments, cross_entropy
from lightcluster.pretraining.recipe import Recipe, read_recipe
from lightcluster.pretraining.training import (
    SHOWN,
    learning_rate,
    make_views,
    objects_of,
    pretrain,
    teacher_momentum,
)
from lightcluster.pretraining.views import crop_views, random_boxes, random_masks, relight

TINY = Recipe(
    objects=12, scene_side=48, steps=6, batch=6, global_side=32, local_side=16, local_views=2,
    bottleneck=4, bases=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.npy"
    load_corpus(TINY, path, processes=1)
    return path


@pytest.fixture
def often(monkeypatch):
    """Log every step and write a checkpoint after every second one."""
    monkeypatch.setattr(training, "LOG_EVERY", 1)
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 2)


def folder_with(corpus: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "corpus.npy").hardlink_to(corpus)
    return folder


def run(folder: Path, recipe: Recipe = TINY) -> bytes:
    return pretrain(folder, recipe, threads=1, progress=False).read_bytes()


# ---- pictures ------------------------------------------------------------------------------------


def test_the_corpus_holds_grey_pictures_of_one_object_each_and_is_drawn_once(corpus, tmp_path):
    stored = load_corpus(TINY, corpus, processes=1)
    assert stored.shape == (12, PICTURES, 48, 48)
    style = SceneStyle(
        48, 48, (1, 1), (0.3, 0.6), mixed_formats=False, defocus=TINY.defocus, noise=TINY.noise
    )
    for index in (0, 11):
        cast = [draw_object(np.random.default_rng([1000, index, 1]))]
        for number in range(PICTURES):
            scene, labels = render_scene(1000, PICTURES * index + number, style, cast)
            assert np.abs(stored[index, number] - scene.mean(axis=-1)).max() <= 0.5
            assert set(np.unique(labels)) == {0, cast[0][0]}
    with pytest.raises(StoreError, match="delete it"):
        load_corpus(TINY.model_copy(update={"objects": 13}), corpus, processes=1)
    (tmp_path / "broken.npy").write_bytes(corpus.read_bytes()[:1000])
    with pytest.raises(StoreError, match="delete it"):
        load_corpus(TINY, tmp_path / "broken.npy", processes=1)


def test_no_demo_can_share_a_seed_with_the_corpus():
    with pytest.raises(ValueError, match="scenes_seed"):
        Recipe(scenes_seed=0)


def test_a_recipe_file_changes_the_keys_it_names_and_all_its_mistakes_are_listed(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("steps: 7\nlocal_area: [0.2, 0.3]\n")
    assert read_recipe(path) == Recipe(steps=7, local_area=(0.2, 0.3))
    assert read_recipe(None) == Recipe()
    path.write_text("step: 7\nbatch: 0\n")
    with pytest.raises(ConfigError, match=r"(?s)batch = 0.*step: unknown key; did you mean steps"):
        read_recipe(path)
    for text in ("just words", "a: [", None):
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises(ConfigError, match=r"recipe\.yaml"):
            read_recipe(path)


def test_every_object_is_shown_once_in_an_epoch():
    recipe = TINY.model_copy(update={"objects": 10, "batch": 4})
    shown = np.concatenate([objects_of(recipe, step) for step in range(5)])
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10))
    assert list(shown[:10]) != list(shown[10:])


# ---- views ---------------------------------------------------------------------------------------


@quick
@given(st.integers(0, 2**32), st.floats(0.05, 0.9))
def test_boxes_lie_in_the_image_and_have_the_area_asked_for(seed, least):
    boxes = random_boxes(np.random.default_rng(seed), 20, 100, (least, 1.0))
    top, left, height, width = boxes.T
    assert (boxes[:, :2] >= 0).all()
    assert (top + height).max() <= 100
    assert (left + width).max() <= 100
    # a long box that would leave the image is cut, by at most the root of 4 / 3
    assert (height * width / 100**2).min() > least * math.sqrt(3 / 4) - 0.02


def test_a_whole_box_is_the_image_itself_and_mirroring_turns_it_around():
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 16), dtype=np.uint8)
    views = crop_views(image, np.array([[0, 0, 16, 16]] * 2), np.array([False, True]), 16)
    plain = torch.from_numpy(image)[:, None] / 255
    torch.testing.assert_close(views[0], plain[0])
    torch.testing.assert_close(views[1], plain[1].flip(-1))


def test_other_light_of_no_strength_changes_nothing():
    views = torch.rand(4, 1, 8, 8)
    rng = np.random.default_rng(0)
    torch.testing.assert_close(relight(views, rng, 0, 0), views)
    changed = relight(views, rng, 1, 0)
    assert (changed - views).abs().mean() > 0.05
    assert 0 <= changed.min() <= changed.max() <= 1


def test_a_negative_has_light_and_dark_changed_about_the_mean():
    views = 0.4 + 0.2 * torch.rand(4, 1, 8, 8)
    negative = relight(views, np.random.default_rng(0), 0, 1)
    mean = views.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(negative - mean, mean - views)


def test_masks_hide_the_share_asked_for():
    masks = random_masks(np.random.default_rng(0), 400, 10, 0.7, (0.1, 0.5))
    assert masks.shape == (400, 100)
    share = masks.mean(axis=1)
    assert (share > 0).mean() == pytest.approx(0.7, abs=0.07)
    assert share[share > 0].min() >= 0.1
    assert share.max() <= 0.5 + 0.25


def test_views_depend_on_the_step_alone(corpus):
    pictures = load_corpus(TINY, corpus, processes=1)
    one, same, other = (
        make_views(pictures, TINY, step, 8, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)) for step in (3, 3, 4)
    )
    assert one.whole.shape == (PICTURES * 6, 3, 32, 32)
    assert one.local.shape == (12, 3, 16, 16)
    assert one.hidden.shape == (SHOWN * 6, 16)
    for name in ("whole", "local", "hidden"):
        assert torch.equal(getattr(one, name), getattr(same, name))
    assert not torch.equal(one.whole, other.whole)
    assert one.whole[:, 0].max() <= (1 - 0.4) / 0.2 + 1e-5


# ---- start ---------------------------------------------------------------------------------------


def test_the_patch_embedding_is_centred_scaled_and_sees_detail_better_than_brightness(corpus):
    images = load_corpus(TINY, corpus, processes=1).reshape(-1, 48, 48)
    patches = sample_patches(images, 8, np.random.default_rng(0))
    weight, bias = whitening(patches, 64, torch.Generator().manual_seed(0))
    embedded = patches @ weight.T + bias
    assert embedded.mean(dim=0).abs().max() < 1e-3
    assert embedded.var(dim=0).mean() == pytest.approx(1, abs=0.01)
    # brightness of a patch explains most of its pixels, and little of its embedding
    brightness = patches.mean(dim=1) - patches.mean()

    def explained(features: torch.Tensor) -> float:
        centred = features - features.mean(dim=0)
        slope = brightness @ centred / (brightness @ brightness)
        return float((brightness[:, None] * slope).var(dim=0).sum() / centred.var(dim=0).sum())

    assert explained(patches) > 0.4
    assert explained(embedded) < 0.1


def test_the_start_is_blind_to_colour(corpus):
    network = build_network(TINY.model)
    images = load_corpus(TINY, corpus, processes=1).reshape(-1, 48, 48)
    initialize(network, images, (0.45,) * 3, (0.25,) * 3, 0)
    colours = torch.rand(2, 3, 80, 80)
    grey = colours.mean(dim=1, keepdim=True).expand_as(colours)
    torch.testing.assert_close(network.patch_embed(colours), network.patch_embed(grey))


def test_near_positions_are_alike():
    waves = position_waves(6, 7, 32).view(6, 7, 32)
    assert waves.abs().max() <= 1
    here = waves[2, 3]
    assert (waves[2, 4] - here).norm() < (waves[2, 6] - here).norm()
    assert torch.equal(waves[0, 5][:16], waves[4, 5][:16])  # the first half knows the column


def test_the_start_depends_on_the_seed_and_keeps_the_scale_of_tokens(corpus):
    pictures = load_corpus(TINY, corpus, processes=1)
    networks = [build_network(TINY.model) for _ in range(3)]
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        initialize(network, pictures.reshape(-1, 48, 48), (0.45,) * 3, (0.25,) * 3, seed)
    first, same, other = (
        torch.cat([p.flatten() for p in network.parameters()]) for network in networks
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    views = make_views(pictures, TINY, 0, 8, (0.45,) * 3, (0.25,) * 3).whole
    with torch.no_grad():
        tokens = networks[0].blocks(networks[0]._pos_embed(networks[0].patch_embed(views)))
    assert 0.5 < tokens.std() < 5


# ---- objective -----------------------------------------------------------------------------------


def test_assignments_are_balanced_whatever_the_scale_of_the_similarities():
    similarities = torch.rand(64, 8, generator=torch.Generator().manual_seed(0))
    similarities[:, 0] += 2  # a prototype that would take all
    shares = balanced_assignments(similarities, 2.5)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(64))
    assert shares.sum(dim=0).min() > 0.7 * 64 / 8
    assert shares.sum(dim=0).max() < 1.3 * 64 / 8
    small = balanced_assignments(1e-3 * similarities, 2.5)
    torch.testing.assert_close(small, shares, atol=0.02, rtol=0)


def test_cross_entropy_equals_a_loop_over_the_views():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(3, 5, generator=generator)
    target /= target.sum(dim=-1, keepdim=True)
    similarities = torch.rand(4, 3, 5, generator=generator)
    total = 0.0
    for view in similarities / 0.1:
        for assigned, logits in zip(target, view, strict=True):
            total -= float((assigned * (logits - logits.logsumexp(0))).sum())
    assert float(cross_entropy(target, similarities, 0.1)) == pytest.approx(total / 12, rel=1e-5)


def test_prototypes_span_their_space_and_are_not_learnt():
    head = PrototypeHead(16, 4, 2)
    frame = head.prototypes.T @ head.prototypes
    torch.testing.assert_close(frame, torch.eye(4) * 2, atol=1e-5, rtol=0)
    assert "prototypes" not in dict(head.named_parameters())
    similarities = head(torch.randn(32, 16))
    # so no token is unlike all prototypes at once
    torch.testing.assert_close(similarities.square().sum(dim=1), torch.full((32,), 2.0))


# ---- the loop ------------------------------------------------------------------------------------


def test_rate_and_momentum_follow_their_schedules():
    recipe = Recipe(steps=100, warmup=0.1, learning_rate=1.0, momentum=0.9)
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates.index(max(rates)) == 10
    assert 0 < rates[0] < 0.2
    assert rates[-1] == pytest.approx(0.02, abs=0.01)
    assert teacher_momentum(recipe, 0) == pytest.approx(0.9)
    assert teacher_momentum(recipe, 99) == pytest.approx(1, abs=1e-4)


def test_a_killed_and_resumed_training_gives_the_same_weights(corpus, tmp_path, often, monkeypatch):
    whole = run(folder_with(corpus, tmp_path / "whole"))

    folder, real = folder_with(corpus, tmp_path / "killed"), training._Log.add

    def killed(log, step, losses, rate):
        if step == 4:  # after the checkpoint of the fourth step, in the middle of the fifth
            raise KeyboardInterrupt
        real(log, step, losses, rate)

    monkeypatch.setattr(training._Log, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert not (folder / "weights.safetensors").exists()
    steps = []
    monkeypatch.setattr(
        training._Log, "add", lambda *arguments: (steps.append(arguments[1]), real(*arguments))
    )
    assert run(folder) == whole
    assert steps == [4, 5]
    with (folder / "losses.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 2, 3, 4, 5, 6]
    assert "masked patches" in (folder / "losses.svg").read_text()


def test_finished_training_is_not_repeated_and_another_recipe_is_refused(corpus, tmp_path, often):
    folder = folder_with(corpus, tmp_path / "run")
    assert run(folder) == run(folder)
    with pytest.raises(ConfigError, match="learning_rate"):
        run(folder, TINY.model_copy(update={"learning_rate": 0.1}))
    checkpoint = folder / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"checkpoint\.safetensors"):
        run(folder)


def test_losses_that_are_no_numbers_end_the_training(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_step", lambda *_: (math.nan, 0.0))
    with pytest.raises(LightClusterError, match="step 0"):
        run(folder_with(corpus, tmp_path / "run"))


@pytest.mark.thorough
def test_the_student_learns_to_tell_objects_apart(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "LOG_EVERY", 10)
    easy = {
        "jitter": 0.0,
        "inverted": 0.0,
        "global_area": (0.8, 1.0),
        "local_area": (0.5, 1.0),
        "masked": 0.0,
    }
    recipe = TINY.model_copy(update={"steps": 120, "batch": 12, "bottleneck": 16, **easy})
    folder = folder_with(corpus, tmp_path / "run")
    run(folder, recipe)
    with (folder / "losses.csv").open() as file:
        losses = [float(row["class_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0] - 0.3
    assert losses[-1] < math.log(recipe.prototypes) - 0.1  # below saying nothing at all


def test_the_weights_are_a_backbone_like_any_other(corpus, tmp_path, often):
    folder = folder_with(corpus, tmp_path / "run")
    run(folder)
    record = fetch_weights(
        "vit_mini_patch8_80", "file", folder / "weights.safetensors", 0, tmp_path / "w.safetensors"
    )
    assert record.patch_size == 8
    assert record.parameters == sum(
        p.numel() for p in build_network("vit_mini_patch8_80").parameters()
    )
    assert record.parameters <= 3_000_000
