"""Passes of the backbone at the same time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import build_network

from lightcluster.extraction.backbones.protocol import Backbone
from lightcluster.extraction.backbones.vision_transformer import VisionTransformerBackbone
from lightcluster.extraction.passes import compute_features, images_in_pass


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return VisionTransformerBackbone(build_network("test_vit"), (0.5,) * 3, (0.2,) * 3)


@pytest.mark.parametrize("threads", [1, 3])
def test_each_pass_gives_what_the_backbone_gives_alone(backbone, threads):
    random = np.random.default_rng(0)
    shapes = [(2, 3, 32, 48), (1, 3, 48, 32), (4, 3, 32, 32), (3, 3, 32, 48), (1, 3, 16, 16)]
    batches = [random.standard_normal(shape, np.float32) for shape in shapes]
    computed = list(
        compute_features(backbone, batches, ("key",), precision=torch.float32, threads=threads)
    )
    assert len(computed) == len(batches)
    for batch, features in zip(batches, computed, strict=True):
        alone = backbone.forward(torch.from_numpy(batch), ("key",))
        assert torch.allclose(features.facets["key"], alone.facets["key"], atol=1e-5)
        assert torch.allclose(features.cls, alone.cls, atol=1e-5)


def test_operations_are_not_divided_among_threads_meanwhile(backbone):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        batches = [np.zeros((1, 3, 32, 32), np.float32)] * 3
        computed = compute_features(backbone, batches, precision=torch.float32, threads=2)
        next(computed)
        assert torch.get_num_threads() == 1
        computed.close()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_images_in_a_pass():
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert [images_in_pass(size, cpu) for size in (1, 4, 64)] == [1, 4, 4]
    assert [images_in_pass(size, gpu) for size in (1, 4, 64)] == [1, 4, 64]
