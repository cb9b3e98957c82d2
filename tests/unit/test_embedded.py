"""The weights that ship with the project are those of their model card."""

from __future__ import annotations

import hashlib
import re

import torch
from builders import build_network
from safetensors.torch import load_file

from lightcluster.extraction.backbones.embedded import EMBEDDED
from lightcluster.extraction.weights import fetch_weights

WEIGHTS = EMBEDDED.weights
CARD = WEIGHTS.with_name("README.md").read_text(encoding="utf-8")


def test_the_file_is_the_one_of_the_model_card_and_small():
    contents = WEIGHTS.read_bytes()
    assert f"`{hashlib.sha256(contents).hexdigest()}`" in CARD
    assert len(contents) <= 6_000_000


def test_it_is_all_of_the_model_and_nothing_else():
    state, network = load_file(WEIGHTS), build_network(EMBEDDED.name)
    network.load_state_dict(state, strict=True)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    parameters = sum(tensor.numel() for tensor in network.parameters())
    assert f"{parameters:,} parameters" in CARD
    assert parameters <= 3_000_000
    assert network.patch_embed.patch_size == (8, 8)


def test_it_is_blind_to_colour_as_its_card_says():
    weight = load_file(WEIGHTS)["patch_embed.proj.weight"].float()
    grey = weight.mean(dim=1, keepdim=True).expand_as(weight)
    torch.testing.assert_close(weight, grey, rtol=0, atol=1e-3)


def test_it_is_fetched_like_any_other(tmp_path):
    output = tmp_path / "weights.safetensors"
    record = fetch_weights(EMBEDDED.name, "embedded", WEIGHTS, 0, output)
    assert (record.source, record.patch_size, record.dim) == ("embedded", 8, 128)
    for name, tensor in load_file(output).items():
        assert torch.equal(tensor, load_file(WEIGHTS)[name].float()), name


def test_the_log_of_its_losses_is_there():
    rows = (WEIGHTS.parent / "losses.csv").read_text().splitlines()
    steps = re.search(r"([\d,]+) steps of", CARD)
    assert rows[-1].split(",")[0] == steps[1].replace(",", "")
