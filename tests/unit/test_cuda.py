"""The same on a GPU as on a CPU, within rounding; skipped where there is no GPU."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from builders import groups_of_tokens, write_tokens
from torch import nn
from trainings import COURSE, fit_all

from lightcluster.checkpoints import read_tensors
from lightcluster.extraction.opening import load_backbone
from lightcluster.extraction.weights import fetch_weights
from lightcluster.methods.cause import course as course_module
from lightcluster.methods.cause import modularity, stages
from lightcluster.methods.cause.contrastive import Bank, concept_relations, contrastive_loss
from lightcluster.methods.cause.course import Stage, train
from lightcluster.methods.cause.heads import build_head
from lightcluster.methods.cause.modularity import modularity_loss
from lightcluster.methods.cause.segmentation import paint_view, view_features
from lightcluster.methods.cause.stages import (
    ClusterbookStage,
    HeadStage,
    ProbeStage,
    read_head,
)
from lightcluster.methods.cause.tokens import Tokens

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DEVICES = ("cpu", "cuda")
STAGES = ("clusterbook", "mlp", "tr", "probe")


@pytest.fixture
def crops(tmp_path: Path) -> list[Path]:
    """A store of seventeen crops."""
    return [write_tokens(tmp_path / "0000.zarr", groups_of_tokens(17)[0])]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The distance of two tensors, as a share of the length of the second."""
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / expected.norm())


# ---- the backbone -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["vit_tiny_patch16_224", "vit_tiny_patch16_dinov3_qkvb", "test_vit_relpos"]
)
@pytest.mark.parametrize(
    ("precision", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)]
)
def test_features_of_the_backbone(tmp_path, model, precision, tolerance):
    weights = tmp_path / "weights.safetensors"
    fetch_weights(model, "random", None, 0, weights)
    pixels = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    expected, found = (
        load_backbone(model, weights, device).forward(
            pixels.to(device), ("key", "token"), precision=dtype
        )
        for device, dtype in zip(DEVICES, (torch.float32, precision), strict=True)
    )
    assert relative(found.cls, expected.cls) < tolerance
    for facet in ("key", "token"):
        assert relative(found.facets[facet], expected.facets[facet]) < tolerance


# ---- the losses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3 * 40 * 50, 2**26])
def test_modularity_and_its_gradient(monkeypatch, chunk):
    monkeypatch.setitem(modularity._CHUNK_NUMBERS, "cuda", chunk)
    generator = torch.Generator().manual_seed(0)
    tokens, codes = (torch.randn(*s, generator=generator) for s in ((3, 40, 8), (50, 8)))
    results = []
    for device in DEVICES:
        rows = codes.clone().to(device).requires_grad_()
        loss = modularity_loss(tokens.to(device), rows)
        loss.backward()
        results.append((loss.detach(), rows.grad))
    for found, expected in zip(results[1], results[0], strict=True):
        assert relative(found, expected) < 1e-4


def test_contrast_its_gradient_and_the_bank():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(30, 8, generator=generator)
    features = torch.randn(4, 20, 90, generator=generator)
    seen = nn.functional.normalize(torch.randn(3, 4, 20, 2048, generator=generator), dim=-1)
    concepts = torch.randint(30, (3, 4, 20), generator=generator)
    projection = nn.Linear(90, 2048)
    results = []
    for device in DEVICES:
        bank, draws = Bank(30, 2048, 3, torch.device(device)), torch.Generator().manual_seed(1)
        for step in range(2):
            of_step = seen[step].flatten(0, 1).to(device)
            bank.append(of_step, concepts[step].flatten().to(device), draws)
        anchors = features.clone().to(device).requires_grad_()
        loss = contrastive_loss(
            anchors, concepts[2].to(device), seen[2].to(device), projection.to(device),
            concept_relations(codes).to(device), bank,
        )  # fmt: skip
        loss.backward()
        results.append((loss.detach(), anchors.grad, *bank.contents()))
    (loss, gradient, kept, of), expected = results[1], results[0]
    assert torch.equal(kept.cpu(), expected[2])
    assert torch.equal(of.cpu(), expected[3])
    assert relative(loss, expected[0]) < 1e-4
    assert relative(gradient, expected[1]) < 1e-3


# ---- the training -------------------------------------------------------------------------------


def build(name: str, tokens: Tokens, device: str) -> Stage:
    """A stage without dropout, whose numbers are drawn by the device."""
    codes = torch.randn(12, tokens.dim, generator=torch.Generator().manual_seed(0))
    if name == "clusterbook":
        return ClusterbookStage(12, tokens, 3, device)
    if name == "probe":
        torch.manual_seed(0)
        head = build_head("tr", tokens.dim, 64)
        return ProbeStage(head, codes, 3, tokens, 3, device)
    stage = HeadStage(name, codes, 5, tokens, 3, device)
    for module in (*stage.student.modules(), *stage.teacher.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return stage


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(("half", "tolerance"), [(False, 2e-3), (True, 0.05)])
def test_the_losses_of_a_training(crops, tmp_path, monkeypatch, name, half, tolerance):
    if not half:
        monkeypatch.setattr(
            stages, "arithmetic", lambda device: torch.autocast(device.type, enabled=False)
        )
    tokens, curves = Tokens(crops), []
    for device in DEVICES:
        stage = build(name, tokens, device)
        table = train(
            stage, tokens, COURSE, tmp_path / "checkpoint", about={}, device=device, progress=False
        )
        curves.append(table.iloc[:, 2].to_numpy())
    assert len(curves[0]) == 12
    assert np.abs(curves[1] / curves[0] - 1).max() < tolerance


@pytest.mark.parametrize("stage", ["clusterbook", "head", "probe"])
def test_a_killed_training_ends_about_as_an_undisturbed_one(
    crops, tmp_path, monkeypatch, caplog, stage
):
    """About: a GPU adds in an order of its own."""
    undisturbed = fit_all(crops, tmp_path / "one", "tr", "kmeans", "cuda")
    original = course_module.views_of_step

    def killed(count, course, name, number):
        if (name, number) == (stage, 10):
            raise KeyboardInterrupt
        return original(count, course, name, number)

    monkeypatch.setattr(course_module, "views_of_step", killed)
    with pytest.raises(KeyboardInterrupt):
        fit_all(crops, tmp_path / "two", "tr", "kmeans", "cuda")
    monkeypatch.setattr(course_module, "views_of_step", original)
    with caplog.at_level(logging.INFO):
        resumed = fit_all(crops, tmp_path / "two", "tr", "kmeans", "cuda")
    assert f"{stage}.checkpoint.safetensors: resuming after step 8" in caplog.text
    curves = [pd.read_csv(path.parent / f"{stage}.csv") for path in (undisturbed[stage],
              resumed[stage])]  # fmt: skip
    np.testing.assert_allclose(curves[1], curves[0], rtol=0.02)
    one, two = (read_tensors(files[stage])[0] for files in (undisturbed, resumed))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert relative(two[name], tensor) < 0.02, name


def test_what_a_gpu_trained_segments_alike_on_a_cpu(crops, tmp_path):
    files, tokens = fit_all(crops, tmp_path, "tr", "kmeans", "cuda"), Tokens(crops)
    rgb, painted = np.zeros((32, 32, 3), np.uint8), []
    for device in DEVICES:
        head, codes, _, vectors, _ = read_head(files["probe"], device)
        assert vectors is not None
        one, other = tokens.read(np.arange(2), device)
        features = view_features(head, codes, one, other, tokens.grid)
        painted.append(paint_view(features, vectors, rgb, crf=False))
    assert (painted[0] == painted[1]).mean() > 0.99
