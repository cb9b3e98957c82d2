"""Weights from every source and layout, and everything that must not pass for them."""

from __future__ import annotations

import argparse
import json
import socket
import time
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import safetensors.torch
import torch
from builders import Payload, build_network

from lightcluster.errors import WeightsError
from lightcluster.extraction.backbones.registry import find_family
from lightcluster.extraction.opening import load_backbone
from lightcluster.extraction.weights import fetch_weights, read_record

State = dict[str, torch.Tensor]
MODEL = "test_vit"  # patch 16, 6 blocks of 64 features


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(3)
    return build_network(MODEL).state_dict()


def load(output: Path) -> State:
    return safetensors.torch.load_file(output)


def fetch(path: Path, folder: Path, model: str = MODEL) -> State:
    output = folder / "out" / "weights.safetensors"
    fetch_weights(model, "file", path, 0, output)
    return load(output)


def saved(contents: Any, folder: Path) -> Path:
    path = folder / "checkpoint.pth"
    torch.save(contents, path)
    return path


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_random_weights_follow_the_seed(tmp_path: Path) -> None:
    outputs = [tmp_path / f"{index}.safetensors" for index in range(3)]
    for seed, output in zip((1, 1, 2), outputs, strict=True):
        fetch_weights(MODEL, "random", None, seed, output)
    assert outputs[0].read_bytes() == outputs[1].read_bytes() != outputs[2].read_bytes()
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_record_and_backbone(tmp_path: Path) -> None:
    output = tmp_path / "w.safetensors"
    record = fetch_weights("vit_tiny_patch16_224", "random", None, 1, output)
    assert record == read_record(output)
    assert (record.patch_size, record.dim, record.heads, record.depth) == (16, 192, 3, 12)
    assert (record.prefix_tokens, record.mean, record.std) == (1, (0.5,) * 3, (0.5,) * 3)
    assert record.parameters == sum(tensor.numel() for tensor in load(output).values())
    backbone = load_backbone(record.model, output)
    assert (backbone.dim, backbone.depth, backbone.mean) == (192, 12, record.mean)
    assert_same(backbone.model.state_dict(), load(output))


def test_safetensors_with_classifier(state: State, tmp_path: Path) -> None:
    path = tmp_path / "in.safetensors"
    head = {"head.weight": torch.zeros(7, 64), "fc_norm.weight": torch.ones(64)}
    safetensors.torch.save_file(state | head, path)
    assert_same(fetch(path, tmp_path), state)


@pytest.mark.parametrize("nesting", ["state_dict", "model", "teacher"])
def test_nested_checkpoints_with_training_options(
    nesting: str, state: State, tmp_path: Path
) -> None:
    contents = {nesting: state, "epoch": 3, "args": argparse.Namespace(lr=0.1, name="run")}
    assert_same(fetch(saved(contents, tmp_path), tmp_path), state)


def test_dino_training_checkpoint(state: State, tmp_path: Path) -> None:
    teacher = {f"backbone.{name}": tensor for name, tensor in state.items()}
    teacher |= {"head.mlp.0.weight": torch.zeros(4, 64), "head.last_layer.weight_g": torch.ones(4)}
    student = {f"module.{name}": tensor for name, tensor in teacher.items()}
    contents = {"student": student, "teacher": teacher, "epoch": 99}
    assert_same(fetch(saved(contents, tmp_path), tmp_path), state)
    assert_same(fetch(saved(student, tmp_path), tmp_path), state)


def test_mae_pretraining_checkpoint(state: State, tmp_path: Path) -> None:
    decoder = {
        "mask_token": torch.zeros(1, 1, 32),
        "decoder_pos_embed": torch.zeros(1, 101, 32),
        "decoder_blocks.0.norm1.weight": torch.ones(32),
        "decoder_pred.weight": torch.zeros(768, 32),
    }
    assert_same(fetch(saved({"model": state | decoder}, tmp_path), tmp_path), state)


def test_dinov2_checkpoint_with_registers(tmp_path: Path) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    torch.manual_seed(0)
    state = build_network(name).state_dict()
    start = torch.randn(1, 1, 384)
    original = {key: value for key, value in state.items() if key not in ("reg_token", "cls_token")}
    original |= {
        "mask_token": torch.zeros(1, 384),
        "register_tokens": state["reg_token"],
        "cls_token": state["cls_token"] - start,
        "pos_embed": torch.cat([start, state["pos_embed"]], dim=1),
    }
    found = fetch(saved(original, tmp_path), tmp_path, name)
    assert torch.allclose(found.pop("cls_token"), state.pop("cls_token"), atol=1e-6)
    assert_same(found, state)


def test_position_embedding_of_another_grid(state: State, tmp_path: Path) -> None:
    bigger = torch.full((1, 1 + 12 * 12, 64), 0.25)
    found = fetch(saved(state | {"pos_embed": bigger}, tmp_path), tmp_path)
    assert found["pos_embed"].shape == state["pos_embed"].shape == (1, 101, 64)
    assert torch.allclose(found["pos_embed"], torch.tensor(0.25))


def test_half_precision_is_widened(state: State, tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in state.items()}
    found = fetch(saved(halves, tmp_path), tmp_path)
    assert_same(found, {name: tensor.float() for name, tensor in halves.items()})


def test_every_disagreement_is_an_error(state: State, tmp_path: Path) -> None:
    def message(changed: State) -> str:
        path = saved(changed, tmp_path)
        with pytest.raises(WeightsError) as error:
            fetch(path, tmp_path)
        assert str(path) in str(error.value)
        return str(error.value)

    without = {name: tensor for name, tensor in state.items() if name != "norm.bias"}
    assert "missing: norm.bias" in message(without)
    assert "unexpected: surprise" in message(state | {"surprise": torch.zeros(1)})
    assert "norm.bias [65] instead of [64]" in message(state | {"norm.bias": torch.zeros(65)})
    assert "not finite: norm.bias" in message(state | {"norm.bias": torch.full((64,), torch.nan)})
    without_norms = {name: tensor for name, tensor in state.items() if "norm1" not in name}
    assert "missing: blocks.0.norm1.bias" in message(without_norms)
    assert "and 9 more" in message(without_norms)
    no_block = {name: tensor for name, tensor in state.items() if "blocks.5" not in name}
    assert "patches of 16 x 16, but backbone.model has 6" in message(no_block)
    patches = {"patch_embed.proj.weight": torch.zeros(64, 3, 8, 8)}
    assert "patches of 8 x 8" in message(state | patches)
    twice = state | {f"module.{name}": tensor for name, tensor in state.items()}
    assert "several networks" in message(twice)
    assert not (tmp_path / "out").exists()


def test_pickled_code_is_refused_and_not_run(state: State, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    path = saved(state | {"extra": Payload(mark)}, tmp_path)
    with pytest.raises(WeightsError, match="not loaded"):
        fetch(path, tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_files_that_hold_no_weights(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(WeightsError, match=name):
        fetch(path, tmp_path)
    path.write_bytes(b"these are not the weights you are looking for")
    with pytest.raises(WeightsError, match=name):
        fetch(path, tmp_path)
    with pytest.raises(WeightsError, match="no dictionary of named tensors"):
        fetch(saved({"epoch": 1}, tmp_path), tmp_path)


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match=r"timm/vit_tiny.*backbone\.weights: path/to/file"):
        fetch_weights("vit_tiny_patch16_224", "hub", None, 0, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="publishes no weights"):
        fetch_weights("vit_base_patch16_plus_240", "hub", None, 0, tmp_path / "w.safetensors")
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.fixture
def dead_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty cache, and a hub at a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    return endpoint


def test_without_a_network_it_is_said_within_seconds(dead_hub: str, tmp_path: Path) -> None:
    """The hub's own client would try for a minute."""
    began = time.monotonic()
    said = rf"no connection: .*Download the file from {dead_hub}/timm/vit_tiny"
    with pytest.raises(WeightsError, match=said):
        fetch_weights("vit_tiny_patch16_224", "hub", None, 0, tmp_path / "w.safetensors")
    assert time.monotonic() - began < 30  # 3 s on a machine at rest


def test_weights_in_the_cache_need_no_network(dead_hub: str, tmp_path: Path) -> None:
    family, network = find_family("vit_tiny_patch16_224")
    published = network.pretrained_cfg["hf_hub_id"]
    assert published.startswith("timm/")
    snapshot = tmp_path / "cache" / f"models--{published.replace('/', '--')}" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("1")
    torch.manual_seed(5)
    state = family.build("vit_tiny_patch16_224").state_dict()
    safetensors.torch.save_file(state, snapshot / "model.safetensors")
    assert family.locate("vit_tiny_patch16_224") == "in the cache"
    began = time.monotonic()
    fetch_weights("vit_tiny_patch16_224", "hub", None, 0, tmp_path / "w.safetensors")
    assert time.monotonic() - began < 30
    found = safetensors.torch.load_file(tmp_path / "w.safetensors")
    assert torch.equal(found["blocks.0.attn.qkv.weight"], state["blocks.0.attn.qkv.weight"])
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_sources_are_checked(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="allowed"):
        fetch_weights(MODEL, "web", None, 0, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="needs a path"):
        fetch_weights(MODEL, "file", None, 0, tmp_path / "w.safetensors")


def test_damaged_records(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match=r"w\.json"):
        read_record(weights)
    weights.with_suffix(".json").write_text(json.dumps({"model": MODEL}))
    with pytest.raises(WeightsError, match=r"w\.json"):
        read_record(weights)
