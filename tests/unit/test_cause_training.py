"""The training of CAUSE: what a step sees, resuming, mistakes, and what labels may reach."""

from __future__ import annotations

import json
import logging
import math
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from builders import groups_of_tokens, write_classes, write_manifest, write_png, write_tokens
from PIL import Image
from trainings import ABOUT, COURSE, fit_all

from lightcluster.checkpoints import read_tensors, write_tensors
from lightcluster.datasets.manifest import read_manifest
from lightcluster.errors import LightClusterError, StoreError
from lightcluster.extraction.store import FeatureStoreWriter, ImageFeatures
from lightcluster.methods.cause import course as course_module
from lightcluster.methods.cause import stages
from lightcluster.methods.cause.adoption import read_trained
from lightcluster.methods.cause.course import Course, course_of, train, views_of_step
from lightcluster.methods.cause.figure import plot_training, smooth
from lightcluster.methods.cause.heads import build_head
from lightcluster.methods.cause.settings import CauseSettings
from lightcluster.methods.cause.stages import (
    USED,
    ClusterbookStage,
    HeadStage,
    ProbeStage,
    fit_clusterbook,
    fit_probe,
    read_head,
    train_head,
)
from lightcluster.methods.cause.supervision import read_supervision, supervised_loss
from lightcluster.methods.cause.tokens import Tokens
from lightcluster.methods.cause.views import training_views

torch.set_num_threads(1)  # threads that wait for each other on a busy machine are slow

DIM, SIDE = 16, 8  # as of groups_of_tokens


@pytest.fixture
def crops(tmp_path):
    """The token stores of two shards, of ten and of seven crops."""
    tokens, _ = groups_of_tokens(17)
    return [
        write_tokens(tmp_path / "0000.zarr", tokens[:10], [f"a#{n}" for n in range(10)]),
        write_tokens(tmp_path / "0001.zarr", tokens[10:], [f"b#{n}" for n in range(7)]),
    ]


# ---- tokens -------------------------------------------------------------------------------------


def test_tokens_are_read_across_shards_in_any_order(crops):
    tokens = Tokens(crops)
    expected = torch.from_numpy(groups_of_tokens(17)[0].astype(np.float16)).float()
    chosen = np.array([12, 0, 9, 10, 16])
    torch.testing.assert_close(tokens.read(chosen), expected[chosen], rtol=0, atol=0)
    assert (tokens.count, tokens.dim, tokens.grid, tokens.patch_size) == (17, DIM, (8, 8), 4)
    assert tokens.names[9:11] == ["a#9", "b#0"]


def test_the_digest_changes_with_the_tokens(crops, tmp_path):
    tokens, _ = groups_of_tokens(7, seed=1)
    other = write_tokens(tmp_path / "x" / "0001.zarr", tokens, [f"b#{n}" for n in range(7)])
    assert Tokens(crops).digest == Tokens(crops).digest != Tokens([crops[0], other]).digest


def test_stores_of_different_grids_or_of_no_image_are_errors(crops, tmp_path):
    empty = write_tokens(tmp_path / "e" / "0000.zarr", np.zeros((0, SIDE * SIDE, DIM)))
    assert Tokens([empty, *crops]).count == 17
    with pytest.raises(StoreError, match="contains no tokens"):
        Tokens([empty])
    with FeatureStoreWriter(
        tmp_path / "o" / "0000.zarr", np.array([[2, 2]]), np.array([[8, 8]]), ["o#0"], ("token",),
        DIM, {"patch_size": 4, "mean": [0.5], "std": [0.5], "weights_sha256": "a"},
    ) as writer:  # fmt: skip
        writer.append(
            "o#0",
            ImageFeatures(
                cls=np.zeros(DIM, np.float32), cls_attention=np.zeros(4, np.float16),
                colors=np.zeros((4, 4, 3), np.uint8),
                facets={"token": np.zeros((4, DIM), np.float16)},
            ),
        )  # fmt: skip
    with pytest.raises(StoreError, match="different backbones or sizes"):
        Tokens([*crops, tmp_path / "o" / "0000.zarr"])


# ---- the course ---------------------------------------------------------------------------------


def test_each_view_is_seen_once_in_an_epoch_and_in_another_order_in_the_next():
    course = Course(epochs=2, least_steps=1, batch_size=4, learning_rate=1)
    assert course.steps(17) == 8
    epochs = [
        np.concatenate([views_of_step(17, course, "head", 4 * epoch + n) for n in range(4)])
        for epoch in range(2)
    ]
    for seen in epochs:
        assert len(set(seen.tolist())) == 16
    assert epochs[0].tolist() != epochs[1].tolist()
    again = views_of_step(17, course, "head", 0)
    assert again.tolist() == epochs[0][:4].tolist()
    assert again.tolist() != views_of_step(17, course, "probe", 0).tolist()


def test_few_views_are_one_batch_and_have_more_epochs():
    course = Course(epochs=1, least_steps=7, batch_size=16, learning_rate=1)
    assert course.steps(5) == 7
    assert sorted(views_of_step(5, course, "head", 6).tolist()) == list(range(5))


@pytest.mark.parametrize(
    ("stage", "head", "rates"),
    [
        ("clusterbook", "tr", [1, 1, 1, 1, 1]),
        ("head", "tr", [1, 1, 1, 1, 1]),
        ("probe", "mlp", [1, 1, 1, 1, 1]),
        ("probe", "tr", [1, 1, 0.5, 0.5, 0.25]),  # after two epochs of five, and after four
    ],
)
@pytest.mark.parametrize("least", [1, 200])
def test_rates_fall_as_published_also_where_there_are_more_epochs(stage, head, rates, least):
    settings = CauseSettings(
        head=head, least_steps=least, batch_size=16, learning_rate=1, weight_decay=1e-4, clip=2,
        probe_weight_decay=1e-5, probe_clip=None,
    )  # fmt: skip
    course = course_of(stage, settings, 0)
    steps = course.steps(160)
    assert steps == max(10 * course.epochs, least)
    found = [course.rate(int((part + 0.5) * steps / 5), steps) for part in range(5)]
    assert found == pytest.approx(rates)
    gradient = {"clusterbook": (0, math.inf), "head": (1e-4, 2.0), "probe": (1e-5, math.inf)}
    assert (course.weight_decay, course.clip) == gradient[stage]


def test_published_epochs():
    for head, epochs in (("mlp", 1), ("tr", 5)):
        settings = CauseSettings(head=head, least_steps=1, probe_clip=0.1)
        assert course_of("clusterbook", settings, 0).epochs == 1
        course = course_of("probe", settings, 0)
        assert (course.epochs, course.clip) == (epochs, 0.1)
        assert course_of("head", settings, 0).epochs == 2


# ---- resuming -----------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_training_that_is_killed_goes_on_from_its_last_epoch(crops, tmp_path):
    """The very process, by SIGKILL, at a moment of its own."""
    settings = {
        "cause.codes": 12, "cause.batch_size": 4, "cause.learning_rate": 1e-3,
        "cause.least_steps": 200,
    }  # fmt: skip

    def start(name: str) -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "lightcluster.step", "fit-clusterbook", json.dumps(settings),
            "--shards", "2", "--seed", "0", "--crops", crops[0].parent,
            "--output", tmp_path / f"{name}.safetensors",
            "--losses", tmp_path / f"{name}.csv", "--device", "cpu", "--threads", "1",
        ]  # fmt: skip
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    undisturbed, killed = start("one"), start("two")
    checkpoint = tmp_path / "two.checkpoint.safetensors"
    while killed.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "two.safetensors").exists()
    resumed = start("two")
    assert "resuming after step" in resumed.communicate()[1]
    undisturbed.communicate()
    assert (undisturbed.returncode, resumed.returncode) == (0, 0)
    for name in ("safetensors", "csv"):
        one, two = (tmp_path / f"{which}.{name}" for which in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert not checkpoint.exists()


class Kill(Exception):  # noqa: N818
    """What stands for a kill: nothing is done in the moment it is raised."""


@pytest.fixture
def kill(monkeypatch):
    """``kill(stage, step)``: from now on the loss of this stage raises in this step."""
    original = course_module.views_of_step

    def arm(stage: str | None, step: int = 0) -> None:
        def views(count, course, name, number):
            if (name, number) == (stage, step):
                raise Kill
            return original(count, course, name, number)

        monkeypatch.setattr(course_module, "views_of_step", views)

    return arm


@pytest.mark.parametrize(
    ("stage", "head"),
    [
        ("clusterbook", "mlp"),
        ("head", "mlp"),
        ("probe", "tr"),
        pytest.param("head", "tr", marks=pytest.mark.thorough),
        pytest.param("probe", "mlp", marks=pytest.mark.thorough),
    ],
)
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    crops, tmp_path, kill, caplog, stage, head
):
    undisturbed = fit_all(crops, tmp_path / "one", head)
    kill(stage, 10)  # in the third of three epochs
    with pytest.raises(Kill):
        fit_all(crops, tmp_path / "two", head)
    folder = tmp_path / "two"
    assert (folder / f"{stage}.checkpoint.safetensors").exists()
    assert not (folder / f"{stage}.safetensors").exists()
    kill(None)
    with caplog.at_level(logging.INFO):
        resumed = fit_all(crops, folder, head)
    assert f"{stage}.checkpoint.safetensors: resuming after step 8" in caplog.text
    for name, path in undisturbed.items():
        assert path.read_bytes() == resumed[name].read_bytes()
        assert (folder / f"{name}.csv").read_bytes() == path.with_suffix(".csv").read_bytes()
    assert not list(folder.glob("*.checkpoint.*"))
    assert len(pd.read_csv(folder / f"{stage}.csv")) == 12


@pytest.mark.parametrize("how", ["damaged", "other settings", "other data"])
def test_a_checkpoint_that_does_not_fit_is_not_used(crops, tmp_path, kill, caplog, how):
    kill("clusterbook", 10)
    output, losses = tmp_path / "c.safetensors", tmp_path / "c.csv"
    with pytest.raises(Kill):
        fit_clusterbook(crops, output, losses, codes=12, course=COURSE, device="cpu")
    kill(None)
    codes = 12
    if how == "damaged":
        path = tmp_path / "c.checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
    elif how == "other settings":
        codes = 13
    else:
        tokens, _ = groups_of_tokens(7, seed=5)
        write_tokens(crops[1], tokens, [f"b#{n}" for n in range(7)])
    fit_clusterbook(crops, output, losses, codes=codes, course=COURSE, device="cpu")
    assert "the training restarts" in caplog.text
    fresh = tmp_path / "fresh.safetensors"
    fit_clusterbook(crops, fresh, tmp_path / "f.csv", codes=codes, course=COURSE, device="cpu")
    assert output.read_bytes() == fresh.read_bytes()


def test_long_epochs_have_checkpoints_within(crops, tmp_path, kill, monkeypatch, caplog):
    monkeypatch.setattr(course_module, "CHECKPOINT_EVERY", 3)
    kill("clusterbook", 7)
    arguments = {"codes": 12, "course": COURSE, "device": "cpu"}
    with pytest.raises(Kill):
        fit_clusterbook(crops, tmp_path / "c.safetensors", tmp_path / "c.csv", **arguments)
    kill(None)
    with caplog.at_level(logging.INFO):
        fit_clusterbook(crops, tmp_path / "c.safetensors", tmp_path / "c.csv", **arguments)
    assert "resuming after step 6" in caplog.text


def test_checkpoints_take_no_more_than_their_share_of_the_time(crops, tmp_path, kill, monkeypatch):
    monkeypatch.setattr(course_module, "CHECKPOINT_SLACK", 0.0)
    monkeypatch.setattr(course_module, "CHECKPOINT_SHARE", 0.0)
    kill("clusterbook", 10)
    with pytest.raises(Kill):
        fit_clusterbook(
            crops, tmp_path / "c.safetensors", tmp_path / "c.csv", codes=12, course=COURSE,
            device="cpu",
        )  # fmt: skip
    assert not list(tmp_path.glob("*.checkpoint.*"))


def test_another_seed_ends_with_other_weights(crops, tmp_path):
    files = []
    for seed in (0, 1):
        course = Course(1, 5, 4, 1e-3, seed=seed)
        files.append(tmp_path / f"{seed}.safetensors")
        fit_clusterbook(crops, files[-1], tmp_path / "l.csv", codes=12, course=course, device="cpu")
    assert files[0].read_bytes() != files[1].read_bytes()


# ---- mistakes -----------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_with_stage_step_and_views(crops, tmp_path, monkeypatch):
    tokens = Tokens(crops)
    stage = ClusterbookStage(12, tokens, 0, "cpu")
    original, calls = stage.losses, []

    def losses(*arguments):
        calls.append(1)
        factor = math.nan if len(calls) == 6 else 1.0
        return {name: factor * loss for name, loss in original(*arguments).items()}

    monkeypatch.setattr(stage, "losses", losses)
    checkpoint = tmp_path / "c.safetensors"
    with pytest.raises(LightClusterError) as raised:
        train(stage, tokens, COURSE, checkpoint, about={}, device="cpu", progress=False)
    message = str(raised.value)
    assert message.startswith(
        "clusterbook, step 6: a loss or the gradient is not finite (losses: {"
    )
    for view in views_of_step(17, COURSE, "clusterbook", 5).tolist():
        assert repr(tokens.names[view]) in message
    assert message.endswith(f"the last checkpoint is {checkpoint}")
    assert checkpoint.exists()


def test_a_gradient_that_is_no_number_stops_as_well(crops, tmp_path, monkeypatch):
    tokens = Tokens(crops)
    stage = ClusterbookStage(12, tokens, 0, "cpu")
    rows = stage.codes.rows
    zero = {"modularity": lambda: (rows.sum() * 0).sqrt() * 1.0}  # sqrt has no slope at 0
    monkeypatch.setattr(stage, "losses", lambda *_: {k: loss() for k, loss in zero.items()})
    with pytest.raises(LightClusterError, match=r"step 1: .*gradient is not finite"):
        train(stage, tokens, COURSE, tmp_path / "c", about={}, device="cpu", progress=False)


# ---- mixed precision ----------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["mlp", "tr"])
def test_heads_in_bfloat16_have_losses_in_single_precision_and_about_the_same(
    crops, monkeypatch, head
):
    """As on a GPU, by the autocast of the CPU."""
    tokens, losses = Tokens(crops), []
    views = np.arange(8)
    for half in (False, True):
        monkeypatch.setattr(
            stages, "arithmetic", lambda device, on=half: torch.autocast("cpu", torch.bfloat16, on)
        )
        codes = torch.randn(12, DIM, generator=torch.Generator().manual_seed(0))
        stage = HeadStage(head, codes, 5, tokens, 0, "cpu")
        torch.manual_seed(0)
        found = stage.losses(tokens.read(views), views, torch.Generator().manual_seed(0))
        (loss,) = found.values()
        loss.backward()
        assert loss.dtype == torch.float32
        assert all(p.grad.dtype == torch.float32 for p in stage.trained if p.grad is not None)
        losses.append(loss.item())
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


# ---- what is learnt -----------------------------------------------------------------------------


@pytest.mark.thorough
def test_separate_groups_of_tokens_become_the_clusters(tmp_path):
    """With a probe that starts from k-means: from the published start it may stay far from them."""
    tokens, group = groups_of_tokens(40, side=16)
    crops = [write_tokens(tmp_path / "0000.zarr", tokens)]
    course = Course(epochs=1, least_steps=60, batch_size=8, learning_rate=3e-3, clip=1.0)
    book, head, probe = (tmp_path / f"{name}.safetensors" for name in ("c", "h", "p"))
    fit_clusterbook(crops, book, tmp_path / "c.csv", codes=32, course=course, device="cpu")
    assert 3 <= int(read_tensors(book)[1][USED]) <= 32
    train_head(
        crops, book, head, tmp_path / "h.csv", head="mlp", bank=10, course=course, device="cpu"
    )
    fit_probe(
        crops, head, None, probe, tmp_path / "p.csv", tmp_path / "classes.csv", classes=2,
        background=0, about=ABOUT, start="kmeans", restarts=2, iterations=10, course=course,
        device="cpu",
    )  # fmt: skip
    for name in "chp":
        losses = pd.read_csv(tmp_path / f"{name}.csv").iloc[:, 2]
        assert losses.tail(10).mean() < losses.head(10).mean()
    network, codes, kind, vectors, linear = read_head(probe, "cpu")
    assert (kind, linear) == ("mlp", None)
    found = Tokens(crops).read(np.arange(40))
    features = network(found, codes[stages.nearest_codes(found, codes)])
    clusters = stages.nearest_codes(features, vectors).numpy()
    for number in range(3):
        share = np.bincount(clusters[group == number], minlength=3) / (group == number).sum()
        assert share.max() > 0.99
    sizes = pd.read_csv(tmp_path / "classes.csv")["tokens"]
    assert sizes.sum() == group.size
    assert (sizes > 0).all()


# ---- labels -------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path):
    """A manifest of two images with labels, one without, the classes and stores of their crops."""
    rng = np.random.default_rng(0)
    sizes = {"a.png": (40, 60), "b.png": (50, 30), "c.png": (20, 20)}
    labels = {
        name: write_png(tmp_path / "labels" / name, rng.choice([0, 7, 255], size).astype(np.uint8))
        for name, size in sizes.items()
        if name != "c.png"
    }
    manifest = write_manifest(tmp_path / "manifest.csv", sizes, labels=labels)
    classes = write_classes(tmp_path / "classes.csv", {0: "ground", 7: "cat"})
    names = [f"{name}#{number}" for name in sizes for number in range(5)]
    tokens, _ = groups_of_tokens(15)
    crops = [write_tokens(tmp_path / "0000.zarr", tokens, names)]
    return manifest, classes, labels, crops


def supervision_of(labelled, leaks: bool):
    manifest, classes, _, crops = labelled
    settings = CauseSettings(framing="squash")
    read = read_supervision(settings, [manifest], classes, ignore=255, leaks=leaks)
    return read(Tokens(crops))


def test_a_training_on_other_labels_is_another_training(labelled):
    before = supervision_of(labelled, True).digest
    assert supervision_of(labelled, False).digest == before
    manifest, classes, _, _ = labelled
    row = next(row for row in read_manifest(manifest) if row.label is not None)
    text = manifest.read_text()
    assert row.label.digest in text
    manifest.write_text(text.replace(row.label.digest, "0" * 32))
    assert supervision_of(labelled, True).digest != before
    manifest.write_text(text)
    assert supervision_of(labelled, True).digest == before
    write_classes(classes, {0: "ground", 255: "cat"})
    assert supervision_of(labelled, True).digest != before


def test_labels_are_those_of_the_pixels_that_the_backbone_saw(labelled):
    labels, side = supervision_of(labelled, False).labels_of(np.arange(15)), 4 * SIDE
    assert labels.shape == (15, side, side)
    for image, (name, (height, width)) in enumerate({"a.png": (40, 60), "b.png": (50, 30)}.items()):
        truth = np.asarray(Image.open(labelled[2][name]))
        for crop, view in enumerate(training_views(height, width, (0.5,), False, "squash")):
            box = truth[view.top : view.top + view.height, view.left : view.left + view.width]
            seen = Image.fromarray(box).resize((side, side), Image.Resampling.NEAREST)
            expected = np.vectorize({0: 0, 7: 1, 255: -1}.get)(np.asarray(seen))
            np.testing.assert_array_equal(labels[5 * image + crop].numpy(), expected)
    assert (labels[10:] == -1).all()  # the image without a label


def probe_gradients(labelled, leaks: bool):
    """The gradient of the supervised loss in all parameters of the evaluated head."""
    torch.manual_seed(0)
    head = build_head("mlp", DIM, SIDE * SIDE)
    tokens = Tokens(labelled[3])
    codes = torch.randn(12, DIM)
    labels = supervision_of(labelled, leaks)
    stage = ProbeStage(head, codes, 3, tokens, 0, "cpu", labels)
    head.requires_grad_()  # so that nothing but the loss itself can keep it out
    views = np.arange(6)
    losses = stage.losses(tokens.read(views), views, torch.Generator())
    losses["linear_probe"].backward()
    assert stage.linear.weight.grad.any()  # it does reach the linear probe
    return [parameter.grad for parameter in head.parameters()], stage


def test_the_supervised_loss_has_no_gradient_in_the_evaluated_head(labelled):
    gradients, stage = probe_gradients(labelled, leaks=False)
    assert len(gradients) == 6
    assert all(gradient is None or not gradient.any() for gradient in gradients)
    assert not {id(p) for p in stage.trained} & {id(p) for p in stage.head.parameters()}


def test_as_released_it_has_one(labelled):
    gradients, stage = probe_gradients(labelled, leaks=True)
    assert all(gradient is not None and gradient.any() for gradient in gradients)
    assert {id(p) for p in stage.head.parameters()} <= {id(p) for p in stage.trained}


def test_a_detached_linear_probe_changes_nothing_that_is_evaluated(labelled, tmp_path):
    crops, results = labelled[3], {}
    torch.manual_seed(0)
    state = {f"head.{k}": v for k, v in build_head("mlp", DIM, 64).state_dict().items()}
    head = tmp_path / "head.safetensors"
    write_tensors(head, {**state, "codes": torch.randn(12, DIM)}, {})
    for how, leaks in {"none": None, "detached": False, "as_released": True}.items():
        probe = tmp_path / how / "probe.safetensors"
        made = (
            None if leaks is None else partial(lambda own, _: supervision_of(labelled, own), leaks)
        )
        fit_probe(
            crops, head, None, probe, tmp_path / f"{how}.csv", tmp_path / "palette.csv", classes=3,
            background=None, about=ABOUT, start="uniform", restarts=1, iterations=1, course=COURSE,
            device="cpu",
            supervision=made,
        )  # fmt: skip
        results[how] = read_tensors(probe)[0]
    assert results["none"].keys() == results["detached"].keys() == results["as_released"].keys()
    for name, tensor in results["none"].items():
        torch.testing.assert_close(results["detached"][name], tensor, rtol=0, atol=0)
    moved = [name for name in state if not torch.equal(results["as_released"][name], state[name])]
    assert moved == list(state)
    columns = [pd.read_csv(tmp_path / f"{how}.csv").columns.tolist() for how in results]
    assert columns[0] == ["step", "epoch", "modularity"]
    assert columns[1] == columns[2] == ["step", "epoch", "modularity", "linear_probe"]


def test_the_supervised_loss_is_the_mean_over_labelled_pixels_of_upsampled_scores():
    """Each pixel's scores by the four patches around it, in plain arithmetic; and the gradient."""
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 2, 3).double().requires_grad_()
    labels = torch.randint(-1, 3, (2, 5, 7))
    terms = []
    for image, row, column in np.ndindex(2, 5, 7):
        y, x = (row + 0.5) * 2 / 5 - 0.5, (column + 0.5) * 3 / 7 - 0.5  # in patches, by centres
        mixed = 0
        y, x = min(max(y, 0), 1), min(max(x, 0), 2)  # the outermost patches reach to the edge
        for i, j in np.ndindex(2, 3):
            share = max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j))
            mixed = mixed + share * scores[image, :, i, j]
        label = int(labels[image, row, column])
        if label >= 0:
            terms.append(mixed.exp().sum().log() - mixed[label])
    slow, found = torch.stack(terms).mean(), supervised_loss(scores, labels)
    torch.testing.assert_close(found, slow)
    (expected,), (gradient,) = (torch.autograd.grad(loss, scores) for loss in (slow, found))
    torch.testing.assert_close(gradient, expected)
    assert float(supervised_loss(scores, torch.full((2, 5, 7), -1)).detach()) == 0


# ---- as released --------------------------------------------------------------------------------


def head_stage(crops, supervision=None, start="own", head="mlp"):
    codes = torch.randn(12, DIM, generator=torch.Generator().manual_seed(0))
    return HeadStage(head, codes, 5, Tokens(crops), 0, "cpu", start, supervision)


def step_of(stage, tokens, optimizer, number, course=COURSE):
    """One step of `course.train`, by hand."""
    views = np.arange(4 * number, 4 * number + 4)
    generator = torch.Generator().manual_seed(number)
    optimizer.zero_grad()
    sum(stage.losses(tokens.read(views), views, generator).values()).backward()
    torch.nn.utils.clip_grad_norm_(stage.trained, course.clip)
    optimizer.step()
    stage.after_step(generator)


@pytest.mark.parametrize("start", ["own", "shared"])
def test_a_teacher_in_the_students_storage_is_equal_to_it_after_the_first_step(crops, start):
    stage, tokens = head_stage(crops, start=start), Tokens(crops)
    optimizer = torch.optim.Adam(stage.trained, lr=1e-2)
    begin = [p.clone() for p in stage.teacher.parameters()]
    step_of(stage, tokens, optimizer, 0)
    one = [p.clone() for p in stage.teacher.parameters()]
    for teacher, first, student in zip(one, begin, stage.student.parameters(), strict=True):
        wanted = student if start == "shared" else 0.99 * first + 0.01 * student
        torch.testing.assert_close(teacher, wanted)
        assert (student != first).any()
    step_of(stage, tokens, optimizer, 1)
    pairs = zip(stage.teacher.parameters(), one, stage.student.parameters(), strict=True)
    for teacher, first, student in pairs:
        torch.testing.assert_close(teacher, 0.99 * first + 0.01 * student)


def test_a_resumed_training_has_its_first_step_behind_it(crops):
    stage, tokens = head_stage(crops, start="shared"), Tokens(crops)
    step_of(stage, tokens, torch.optim.Adam(stage.trained, lr=1e-2), 0)
    resumed = head_stage(crops, start="shared")
    resumed.restore_extra(stage.extra_state())
    before = [p.clone() for p in resumed.teacher.parameters()]
    step_of(resumed, tokens, torch.optim.Adam(resumed.trained, lr=1e-2), 1)
    pairs = zip(resumed.teacher.parameters(), before, resumed.student.parameters(), strict=True)
    for teacher, first, student in pairs:
        torch.testing.assert_close(teacher, 0.99 * first + 0.01 * student)


@pytest.mark.parametrize("head", ["mlp", "tr"])
def test_the_linear_probe_of_the_heads_training_reaches_the_head_by_the_clipped_norm_alone(
    labelled, head
):
    tokens, views = Tokens(labelled[3]), np.arange(6)
    stage = head_stage(labelled[3], supervision_of(labelled, True), head=head)
    losses = stage.losses(tokens.read(views), views, torch.Generator())
    assert list(losses) == ["contrast", "linear_probe"]
    losses["linear_probe"].backward(retain_graph=True)
    assert stage.linear.weight.grad.any()
    for module in (stage.student, stage.teacher):
        assert all(p.grad is None or not p.grad.any() for p in module.parameters())
    losses["contrast"].backward()
    assert {id(p) for p in stage.linear.parameters()} <= {id(p) for p in stage.trained}
    own = torch.cat([p.grad.flatten() for p in stage.student.parameters() if p.grad is not None])
    norm = torch.nn.utils.clip_grad_norm_(stage.trained, 1e-3)
    assert float(norm) > float(own.norm())
    clipped = [p.grad.flatten() for p in stage.student.parameters() if p.grad is not None]
    torch.testing.assert_close(torch.cat(clipped), own * 1e-3 / norm, rtol=1e-3, atol=0)


def test_the_linear_probe_goes_on_where_the_heads_training_left_it(labelled, tmp_path):
    crops = labelled[3]
    labels = partial(lambda _: supervision_of(labelled, True))
    book, head = tmp_path / "book.safetensors", tmp_path / "head.safetensors"
    fit_clusterbook(crops, book, tmp_path / "b.csv", codes=12, course=COURSE, device="cpu")
    train_head(
        crops, book, head, tmp_path / "h.csv", head="mlp", bank=5, course=COURSE, device="cpu",
        supervision=labels,
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "h.csv")
    assert table.columns.tolist() == ["step", "epoch", "contrast", "linear_probe"]
    assert table["linear_probe"].iloc[-1] < table["linear_probe"].iloc[0]
    trained = read_head(head, "cpu")
    stage = ProbeStage(
        trained.network, trained.codes, 3, Tokens(crops), 0, "cpu", labels(None), dropout=True,
        linear=trained.linear,
    )  # fmt: skip
    tensors, _ = read_tensors(head)
    torch.testing.assert_close(stage.linear.weight.detach(), tensors["linear.weight"])
    fit_probe(
        crops, head, None, tmp_path / "p.safetensors", tmp_path / "p.csv", tmp_path / "c.csv",
        classes=3, background=None, about=ABOUT, start="uniform", restarts=1, iterations=1,
        course=COURSE, device="cpu", dropout=True, supervision=labels,
    )  # fmt: skip
    assert pd.read_csv(tmp_path / "p.csv")["linear_probe"].iloc[0] < table["linear_probe"].iloc[0]
    assert read_trained(tmp_path / "p.safetensors").supervised


@pytest.mark.parametrize("dropout", [False, True])
def test_the_head_has_dropout_under_the_probe_only_where_it_is_asked_for(crops, dropout):
    torch.manual_seed(0)
    head, tokens, views = build_head("mlp", DIM, SIDE * SIDE), Tokens(crops), np.arange(4)
    stage = ProbeStage(head, torch.randn(12, DIM), 3, tokens, 0, "cpu", dropout=dropout)
    losses = [
        float(stage.losses(tokens.read(views), views, torch.Generator())["modularity"].detach())
        for _ in range(2)
    ]
    assert (losses[0] != losses[1]) == dropout
    assert not stage.head.training  # what is painted by it has none


# ---- the figure ---------------------------------------------------------------------------------


def test_losses_are_averaged_over_stretches_of_steps():
    steps = pd.Series(range(1, 101))
    ends, means = smooth(steps, steps.astype(float))
    assert ends == [float(step) for step in range(2, 101, 2)]
    assert means == [step - 0.5 for step in ends]
    assert smooth(steps.head(3), steps.head(3))[1] == [1, 2, 3]


def test_the_figure_of_a_training_is_drawn_for_every_seed(crops, tmp_path):
    clusterbooks, heads = tmp_path / "clusterbooks", tmp_path / "heads"
    for seed in (0, 3):
        folder = tmp_path / "cause" / f"seed-{seed}"
        fit_all(crops, folder)
        for name, place in (
            ("clusterbook.csv", clusterbooks / f"seed-{seed}.csv"),
            ("clusterbook.safetensors", clusterbooks / f"seed-{seed}.safetensors"),
            ("head.csv", heads / f"seed-{seed}.csv"),
            ("classes.csv", tmp_path / "segmentation" / f"seed-{seed}" / "classes.csv"),
        ):
            place.parent.mkdir(parents=True, exist_ok=True)
            (folder / name).rename(place)
    folders = tmp_path, clusterbooks, heads
    plot_training(*folders, [0, 3], tmp_path / "both.png")
    plot_training(*folders, [0], tmp_path / "one.png")
    with Image.open(tmp_path / "both.png") as both, Image.open(tmp_path / "one.png") as one:
        assert both.width > 1000
        assert both.tobytes() != one.tobytes()
