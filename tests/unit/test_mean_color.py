"""The baseline of mean colours, in the place of a backbone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lightcluster.config import Config
from lightcluster.errors import ConfigError, ModelError, WeightsError
from lightcluster.extraction.backbones.mean_color import MEAN_COLOR, MeanColor
from lightcluster.extraction.opening import check_weights, load_backbone, open_backbone
from lightcluster.extraction.settings import BackboneSettings
from lightcluster.extraction.weights import fetch_weights, read_record
from lightcluster.identity import features_id, weights_id


def test_the_features_of_a_patch_are_its_mean_colour():
    images = torch.rand(2, 3, 24, 40)
    features = MeanColor().forward(images, ("key", "token"))
    assert features.facets["key"].shape == (2, 3 * 5, 3)
    block = images[1, :, 8:16, 32:40].mean(dim=(1, 2))  # second row, fifth column
    for facet in features.facets.values():
        torch.testing.assert_close(facet[1, 1 * 5 + 4], block)
    torch.testing.assert_close(features.cls, images.mean(dim=(2, 3)))
    torch.testing.assert_close(features.cls_attention, torch.full((2, 15), 1 / 15))


def test_it_has_one_layer_and_the_usual_facets():
    image = torch.zeros(1, 3, 8, 8)
    MeanColor().forward(image, ("key",), layer=-1)
    with pytest.raises(ConfigError, match="allowed: -1 to 0"):
        MeanColor().forward(image, ("key",), layer=1)
    with pytest.raises(ConfigError, match="colour"):
        MeanColor().forward(image, ("colour",))


def test_its_weights_file_is_empty_and_opens_as_itself(tmp_path):
    path = tmp_path / "w.safetensors"
    record = fetch_weights(MEAN_COLOR.name, "none", None, 0, path)
    assert record == read_record(path)
    assert (record.parameters, record.source, record.patch_size, record.dim) == (0, "none", 8, 3)
    backbone = open_backbone(path, "cpu", (0.4, 0.5, 0.6), None)
    assert isinstance(backbone, MeanColor)
    image = torch.full((1, 3, 8, 8), 0.25)
    assert np.allclose(backbone.forward(image).facets["key"], 0.25)


def test_weights_in_its_place_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    fetch_weights(MEAN_COLOR.name, "none", None, 0, path)
    check_weights(MEAN_COLOR.name, path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match="weight"):
        check_weights(MEAN_COLOR.name, path)
    with pytest.raises(WeightsError, match="weight"):
        load_backbone(MEAN_COLOR.name, path)


def test_neither_weights_nor_seed_name_its_features():
    plain, other = (
        BackboneSettings(model=MEAN_COLOR.name, weights=weights, seed=seed)
        for weights, seed in (("random", 0), ("hub", 3))
    )
    assert plain.source == "none"
    assert weights_id(plain) == weights_id(other)
    assert features_id(Config(backbone=plain)) == features_id(Config(backbone=other))
