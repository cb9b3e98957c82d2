"""Published layouts of checkpoints, each written out here from the networks of timm."""

from __future__ import annotations

import argparse
import json
import logging
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from builders import build_network

from lightcluster.errors import WeightsError
from lightcluster.extraction.backbones.layouts import name_as_timm
from lightcluster.extraction.backbones.vision_transformer import VISION_TRANSFORMERS
from lightcluster.extraction.checkpoint_files import read_checkpoint
from lightcluster.extraction.picking import pick_network
from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators
from lightcluster.extraction.weights import convert_checkpoint, fetch_weights

ensure_torchvision_operators()

from timm.layers import SwiGLUPacked  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

State = dict[str, torch.Tensor]
DEPTH, DIM = 3, 32
PATH = Path("file.pth")


def build(seed: int = 0, **changes: Any) -> VisionTransformer:
    """A network all of whose parameters are drawn, biases, norms and scales included."""
    torch.manual_seed(seed)
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": DIM, "depth": DEPTH, "num_heads": 2}
    network = VisionTransformer(**shape, num_classes=0, dynamic_img_size=True, **changes)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


SCALED = {"init_values": 1.0}
REGISTERS = {"init_values": 1.0, "reg_tokens": 4, "no_embed_class": True}
GATED = {"init_values": 1.0, "mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}


def block(number: int, state: State) -> State:
    start = f"blocks.{number}."
    return {
        name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)
    }


def hugging_face_vit(state: State, start: str = "vit.", layers: str = "encoder.layer") -> State:
    """ViT, DeiT, DINO and MAE as Hugging Face has them, by their names of before 2026."""
    named = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    for number in range(DEPTH):
        own, place = block(number, state), f"{layers}.{number}."
        for kind in ("weight", "bias"):
            query, key, value = own[f"attn.qkv.{kind}"].split(DIM)
            named |= {
                f"{place}attention.attention.query.{kind}": query,
                f"{place}attention.attention.key.{kind}": key,
                f"{place}attention.attention.value.{kind}": value,
                f"{place}attention.output.dense.{kind}": own[f"attn.proj.{kind}"],
                f"{place}layernorm_before.{kind}": own[f"norm1.{kind}"],
                f"{place}layernorm_after.{kind}": own[f"norm2.{kind}"],
                f"{place}intermediate.dense.{kind}": own[f"mlp.fc1.{kind}"],
                f"{place}output.dense.{kind}": own[f"mlp.fc2.{kind}"],
            }
    return {f"{start}{name}": tensor for name, tensor in named.items()}


def hugging_face_vit_of_2026(state: State) -> State:
    """The same, by the names that the networks in memory have since transformers 5."""
    renamed = {}
    for name, tensor in hugging_face_vit(state, "", "layers").items():
        for old, new in (
            ("attention.attention.query", "attention.q_proj"),
            ("attention.attention.key", "attention.k_proj"),
            ("attention.attention.value", "attention.v_proj"),
            ("attention.output.dense", "attention.o_proj"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
        ):
            name = name.replace(old, new)
        renamed[name] = tensor
    return renamed


def hugging_face_dinov2(state: State) -> State:
    named = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.mask_token": torch.zeros(1, DIM),
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    if "reg_token" in state:
        named |= with_position(state)
        named["embeddings.cls_token"] = named.pop("cls_token")
        named["embeddings.position_embeddings"] = named.pop("pos_embed")
        named["embeddings.register_tokens"] = state["reg_token"]
    for number in range(DEPTH):
        own, place = block(number, state), f"encoder.layer.{number}."
        named[f"{place}layer_scale1.lambda1"] = own["ls1.gamma"]
        named[f"{place}layer_scale2.lambda1"] = own["ls2.gamma"]
        first, second = ("mlp.fc1", "mlp.fc2")
        if isinstance_gated(own):
            first, second = ("mlp.weights_in", "mlp.weights_out")
        for kind in ("weight", "bias"):
            query, key, value = own[f"attn.qkv.{kind}"].split(DIM)
            named |= {
                f"{place}attention.attention.query.{kind}": query,
                f"{place}attention.attention.key.{kind}": key,
                f"{place}attention.attention.value.{kind}": value,
                f"{place}attention.output.dense.{kind}": own[f"attn.proj.{kind}"],
                f"{place}norm1.{kind}": own[f"norm1.{kind}"],
                f"{place}norm2.{kind}": own[f"norm2.{kind}"],
                f"{place}{first}.{kind}": own[f"mlp.fc1.{kind}"],
                f"{place}{second}.{kind}": own[f"mlp.fc2.{kind}"],
            }
    return named


def isinstance_gated(own: State) -> bool:
    return own["mlp.fc1.weight"].shape[0] != own["mlp.fc2.weight"].shape[1]


def hugging_face_dinov2_of_2026(state: State) -> State:
    renamed = {}
    for name, tensor in hugging_face_dinov2(state).items():
        for old, new in (
            ("attention.attention.query", "attention.q_proj"),
            ("attention.attention.key", "attention.k_proj"),
            ("attention.attention.value", "attention.v_proj"),
            ("attention.output.dense", "attention.o_proj"),
            ("weights_out", "down_proj"),
        ):
            name = name.replace(old, new)
        if "weights_in" in name:
            gate, up = tensor.chunk(2)
            renamed[name.replace("weights_in", "gate_proj")] = gate
            renamed[name.replace("weights_in", "up_proj")] = up
        else:
            renamed[name] = tensor
    return renamed


def with_position(state: State) -> State:
    """Class token and position embedding where the class token has a position of its own."""
    start = torch.randn(1, 1, DIM)
    return {
        "cls_token": state["cls_token"] - start,
        "pos_embed": torch.cat([start, state["pos_embed"]], dim=1),
    }


def dinov2(state: State) -> State:
    """DINOv2 as Meta released it: registers, gated perceptrons, a token for masked patches."""
    named = {**state, "mask_token": torch.zeros(1, DIM)}
    if "reg_token" in state:
        named["register_tokens"] = named.pop("reg_token")
        named |= with_position(state)
    if isinstance_gated(block(0, state)):
        named = {
            name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): tensor
            for name, tensor in named.items()
        }
    return named


def chunked(state: State, place: Callable[[int], tuple[int, int]]) -> State:
    named = {}
    for name, tensor in state.items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            chunk, inner = place(int(number))
            name = f"blocks.{chunk}.{inner}.{rest}"
        named[name] = tensor
    return named


def dinov2_trained(state: State) -> dict[str, Any]:
    """A checkpoint of DINOv2's training: student and teacher in one, blocks in chunks of two."""
    blocks = chunked(dinov2(state), lambda number: (number // 2, number))
    other = build(9, **SCALED).state_dict()
    student = chunked(dinov2(other), lambda number: (number // 2, number))
    return {
        "model": {f"student.backbone.{name}": tensor for name, tensor in student.items()}
        | {f"teacher.backbone.{name}": tensor for name, tensor in blocks.items()}
        | {"teacher.dino_head.mlp.0.weight": torch.zeros(3, 3)},
        "iteration": 7,
    }


def franca(state: State, prefix: str = "backbone.") -> dict[str, Any]:
    """Franca's teacher, with the head that predicts positions."""
    teacher = chunked(dinov2(state), lambda number: (number, number))
    teacher |= {"rasa_head.pre_pos_layers.0.weight": torch.zeros(2, DIM)}
    return {"teacher": {f"{prefix}{name}": tensor for name, tensor in teacher.items()}}


def moco(state: State) -> dict[str, Any]:
    other = build(9).state_dict()
    return {
        "epoch": 300,
        "arch": "vit_small",
        "state_dict": {f"module.base_encoder.{name}": tensor for name, tensor in state.items()}
        | {"module.base_encoder.head.0.weight": torch.zeros(4, DIM)}
        | {f"module.momentum_encoder.{name}": tensor for name, tensor in other.items()}
        | {"module.predictor.0.weight": torch.zeros(4, 4)},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
    }


def mae(state: State) -> dict[str, Any]:
    decoder = {
        "mask_token": torch.zeros(1, 1, 16),
        "decoder_pos_embed": torch.zeros(1, 17, 16),
        "decoder_embed.weight": torch.zeros(16, DIM),
        "decoder_blocks.0.norm1.weight": torch.ones(16),
        "decoder_norm.weight": torch.ones(16),
        "decoder_pred.bias": torch.zeros(192),
    }
    return {"model": state | decoder, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=1)}


def hugging_face_mae(state: State) -> State:
    return hugging_face_vit(state) | {
        "decoder.mask_token": torch.zeros(1, 1, 16),
        "decoder.decoder_pos_embed": torch.zeros(1, 17, 16),
        "decoder.decoder_layers.0.layernorm_before.weight": torch.ones(16),
    }


def dino(state: State) -> dict[str, Any]:
    teacher = {f"backbone.{name}": tensor for name, tensor in state.items()}
    other = {f"module.backbone.{n}": tensor for n, tensor in build(9).state_dict().items()}
    heads = {"head.mlp.0.weight": torch.zeros(4, DIM), "head.last_layer.weight_g": torch.ones(4)}
    return {
        "student": other | {f"module.{name}": tensor for name, tensor in heads.items()},
        "teacher": teacher | heads,
        "optimizer": {},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small"),
        "dino_loss": {"center": torch.zeros(1, 4)},
    }


def torchvision(state: State) -> State:
    named = {
        "class_token": state["cls_token"],
        "conv_proj.weight": state["patch_embed.proj.weight"],
        "conv_proj.bias": state["patch_embed.proj.bias"],
        "encoder.pos_embedding": state["pos_embed"],
        "encoder.ln.weight": state["norm.weight"],
        "encoder.ln.bias": state["norm.bias"],
        "heads.head.weight": torch.zeros(5, DIM),
        "heads.head.bias": torch.zeros(5),
    }
    for number in range(DEPTH):
        own, place = block(number, state), f"encoder.layers.encoder_layer_{number}."
        for kind in ("weight", "bias"):
            named |= {
                f"{place}ln_1.{kind}": own[f"norm1.{kind}"],
                f"{place}ln_2.{kind}": own[f"norm2.{kind}"],
                f"{place}self_attention.in_proj_{kind}": own[f"attn.qkv.{kind}"],
                f"{place}self_attention.out_proj.{kind}": own[f"attn.proj.{kind}"],
                f"{place}mlp.0.{kind}": own[f"mlp.fc1.{kind}"],
                f"{place}mlp.3.{kind}": own[f"mlp.fc2.{kind}"],
            }
    return named


def mmpretrain(state: State) -> dict[str, Any]:
    named = {
        "cls_token": state["cls_token"],
        "pos_embed": state["pos_embed"],
        "patch_embed.projection.weight": state["patch_embed.proj.weight"],
        "patch_embed.projection.bias": state["patch_embed.proj.bias"],
        "ln1.weight": state["norm.weight"],
        "ln1.bias": state["norm.bias"],
    }
    for number in range(DEPTH):
        own, place = block(number, state), f"layers.{number}."
        for kind in ("weight", "bias"):
            named |= {
                f"{place}ln1.{kind}": own[f"norm1.{kind}"],
                f"{place}ln2.{kind}": own[f"norm2.{kind}"],
                f"{place}attn.qkv.{kind}": own[f"attn.qkv.{kind}"],
                f"{place}attn.proj.{kind}": own[f"attn.proj.{kind}"],
                f"{place}ffn.layers.0.0.{kind}": own[f"mlp.fc1.{kind}"],
                f"{place}ffn.layers.1.{kind}": own[f"mlp.fc2.{kind}"],
            }
    head = {"head.fc.weight": torch.zeros(5, DIM)}
    return {"meta": {}, "state_dict": {f"backbone.{k}": v for k, v in named.items()} | head}


def ibot_student(state: State) -> dict[str, Any]:
    return {"state_dict": state | {"masked_embed": torch.zeros(1, DIM)}}


LAYOUTS: dict[str, tuple[Callable[[State], Any], dict[str, Any]]] = {
    "timm": (dict, {}),
    "timm, a classifier": (lambda s: s | {"head.weight": torch.zeros(5, DIM)}, {}),
    "wrapped": (lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()}, {}),
    "lightning": (lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}}, {}),
    "dino": (dino, {}),
    "ibot, the student": (ibot_student, {}),
    "mae": (mae, {}),
    "moco v3": (moco, {}),
    "dinov2": (dinov2, SCALED),
    "dinov2, registers": (dinov2, REGISTERS),
    "dinov2, gated": (dinov2, GATED),
    "dinov2, one chunk": (lambda s: chunked(dinov2(s), lambda n: (0, n)), SCALED),
    "dinov2, chunks": (lambda s: chunked(dinov2(s), lambda n: (n // 2, n)), REGISTERS),
    "dinov2, gated chunks": (lambda s: chunked(dinov2(s), lambda n: (n, n)), GATED),
    "chunks that count anew": (lambda s: chunked(dinov2(s), lambda n: (n // 2, n % 2)), SCALED),
    "dinov2, training": (dinov2_trained, SCALED),
    "franca": (franca, GATED),
    "franca in a module": (lambda s: franca(s, "module.backbone."), GATED),
    "franca without prefix": (lambda s: franca(s, ""), GATED),
    "hugging face, vit": (hugging_face_vit, {}),
    "hugging face, vit alone": (lambda s: hugging_face_vit(s, ""), {}),
    "hugging face, vit of 2026": (hugging_face_vit_of_2026, {}),
    "hugging face, no bias": (hugging_face_vit, {}),
    "hugging face, mae": (hugging_face_mae, {}),
    "hugging face, dinov2": (hugging_face_dinov2, SCALED),
    "hugging face, dinov2 classifier": (
        lambda s: (
            {f"dinov2.{k}": v for k, v in hugging_face_dinov2(s).items()}
            | {"classifier.weight": torch.zeros(5, DIM)}
        ),
        SCALED,
    ),
    "hugging face, registers": (hugging_face_dinov2, REGISTERS),
    "hugging face, gated": (hugging_face_dinov2, GATED),
    "hugging face, dinov2 of 2026": (hugging_face_dinov2_of_2026, GATED),
    "deit iii": (
        lambda s: {
            k.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): v
            for k, v in s.items()
        },
        SCALED,
    ),
    "torchvision": (torchvision, {}),
    "mmpretrain": (mmpretrain, {}),
}


def saved(contents: Any, folder: Path, name: str = "file.pth") -> Path:
    torch.save(contents, folder / name)
    return folder / name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_published_layout_gives_the_tensors_and_the_outputs_of_the_network(
    layout: str, tmp_path: Path
) -> None:
    publish, architecture = LAYOUTS[layout]
    network = build(1, **architecture)
    path = saved(publish(dict(network.state_dict())), tmp_path)
    other = build(2, **architecture)
    converted = convert_checkpoint(read_checkpoint(path).tensors, VISION_TRANSFORMERS, other, path)
    assert converted.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(converted[name], tensor, rtol=0, atol=1e-6, msg=name)
    other.load_state_dict(converted)
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(other(image), network(image), rtol=1e-4, atol=1e-4)


# ---- which of several ------------------------------------------------------------------------

A, B = build(1).state_dict(), build(2).state_dict()


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("contents", "choice"),
    [
        ({"state_dict": B, "state_dict_ema": A}, "state_dict_ema, not state_dict"),
        ({"state_dict_ema": A, "state_dict": B, "optimizer": {}}, "state_dict_ema, not state_dict"),
        ({"model": B, "model_ema": A}, "model_ema, not model"),
        ({"model": B, "ema": {"module": A}}, "ema.module, not model"),
        ({"model": prefixed("module.", B), "model_ema": A}, "model_ema, not model.module"),
        ({"state_dict": prefixed("model.", B) | prefixed("ema_model.", A)},
         "state_dict.ema_model, not state_dict.model"),
        ({"state_dict": A, "model": B}, "state_dict, not model"),
        ({"student": B, "teacher": A}, "teacher, not student"),
        ({"teacher": prefixed("backbone.", A), "student": prefixed("module.backbone.", B)},
         "teacher.backbone, not student.module.backbone"),
        ({"encoder": prefixed("module.", A), "target_encoder": prefixed("module.", B)},
         "encoder.module, not target_encoder.module"),
        (prefixed("module.base_encoder.", A) | prefixed("module.momentum_encoder.", B),
         "module.base_encoder, not module.momentum_encoder"),
        ({"model": A, "model_ema": None}, ""),
        ({"state_dict": A, "state_dict_ema": {}}, ""),
        ({"student": A}, ""),
        (prefixed("module.", A) | {"n_averaged": torch.tensor(3)}, ""),
    ],
)  # fmt: skip
def test_averages_and_teachers_are_preferred_and_the_choice_is_said(contents: Any, choice: str):
    picked = pick_network(contents, PATH)
    assert picked.choice == choice
    named = name_as_timm(picked.tensors, PATH)
    assert all(torch.equal(named[name], tensor) for name, tensor in A.items())


@pytest.mark.parametrize(
    "contents",
    [
        {"one": A, "two": B},
        A | prefixed("module.", B),
        {"student_1": A, "student_2": B},
        {"state_dict_ema": A, "model_ema": B},
    ],
)
def test_where_nothing_tells_which_is_meant_both_are_named(contents: Any) -> None:
    with pytest.raises(WeightsError, match=r"contains several networks, '.*' and '.*', and noth"):
        pick_network(contents, PATH)


def test_the_choice_is_recorded_and_logged(tmp_path: Path, caplog) -> None:
    first, second = (build_network("test_vit").state_dict() for _ in range(2))
    path = saved({"state_dict": first, "state_dict_ema": second}, tmp_path)
    output = tmp_path / "out.safetensors"
    with caplog.at_level(logging.INFO):
        record = fetch_weights("test_vit", "file", path, 0, output)
    assert record.taken == "state_dict_ema, not state_dict"
    assert json.loads(output.with_suffix(".json").read_text())["taken"] == record.taken
    assert "contains several networks; using state_dict_ema, not state_dict" in caplog.text
    found = safetensors.torch.load_file(output)
    assert all(torch.equal(found[name], tensor) for name, tensor in second.items())


# ---- what is refused, each with its cause ----------------------------------------------------


def refusal(contents: Any, folder: Path, network: VisionTransformer | None = None) -> str:
    path = saved(contents, folder)
    with pytest.raises(WeightsError) as error:
        convert_checkpoint(
            read_checkpoint(path).tensors, VISION_TRANSFORMERS, network or build(), path
        )
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 400
    return message.removeprefix(f"{path}: ")


LORA = "base_model.model.vit.encoder.layer.0.attention.attention.query.lora_A.default.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({LORA: torch.zeros(4, DIM)}, "contains LoRA adapters without their base"),
        ({"blocks.0.attn.qkv.lora_B.weight": torch.zeros(4, DIM)}, "contains LoRA adapters"),
        ({"blocks.0.adapter.down.weight": torch.zeros(4, DIM)}, "contains adapters (PEFT)"),
        ({"base_model.model.head.weight": torch.zeros(4)}, "contains adapters (PEFT)"),
        ({"blocks.0.attn.qkv.base_layer.weight": torch.zeros(4)}, "(PEFT), such as LoRA"),
        ({"blocks.0.mlp.fc1.qweight": torch.zeros(4, dtype=torch.int32)}, "contains quantised"),
        ({"blocks.0.mlp.fc1.weight.SCB": torch.zeros(4)}, "contains quantised weights"),
        ({"blocks.0.mlp.fc1.weight": torch.zeros(128, DIM, dtype=torch.int8)},
         "blocks.0.mlp.fc1.weight is int8, so the weights are quantised"),
        ({"norm.bias": torch.zeros(DIM).to(torch.float8_e4m3fn)}, "norm.bias is float8"),
        ({"norm.bias": torch.zeros(DIM, dtype=torch.complex64)}, "norm.bias is complex64"),
        ({"norm.bias": torch.zeros(DIM, dtype=torch.bool)}, "norm.bias is bool"),
        ({"norm.bias": torch.zeros(DIM).to_sparse()}, "norm.bias is sparse"),
        ({"norm.bias": torch.zeros(1).expand(2**40)}, "has more elements than the file"),
        ({"norm.bias": torch.full((DIM,), torch.nan)}, "not finite: norm.bias"),
        ({"norm.bias": torch.full((DIM,), torch.inf)}, "not finite: norm.bias"),
        ({"norm.bias": torch.zeros(DIM + 1)}, "of another shape: norm.bias [33] instead of [32]"),
        ({"surprise": torch.zeros(1)}, "unexpected: surprise"),
        ({"blocks.0.attn.q_bias": torch.zeros(DIM)}, "unexpected: blocks.0.attn.q_bias"),
        ({"dist_token": torch.zeros(1, 1, DIM)}, "unexpected: dist_token"),
    ],
)  # fmt: skip
def test_what_is_no_plain_network_is_refused_with_its_cause(
    changes: State, message: str, tmp_path: Path
) -> None:
    assert message in refusal(A | changes, tmp_path)


def test_another_architecture_is_named_with_its_size(tmp_path: Path) -> None:
    wanted = "backbone.model has 3 blocks of 32 features with patches of 8 x 8"

    def of(**shape: Any) -> str:
        network = VisionTransformer(num_classes=0, **{"img_size": 32, "num_heads": 2, **shape})
        message = refusal(network.state_dict(), tmp_path)
        assert wanted in message
        return message

    small = {"patch_size": 8, "embed_dim": DIM, "depth": DEPTH}
    assert "contains 3 blocks of 32 features with patches of 16 x 16" in of(
        **{**small, "patch_size": 16}
    )
    assert "contains 5 blocks of 32 features" in of(**{**small, "depth": 5})
    assert "contains 3 blocks of 64 features" in of(**{**small, "embed_dim": 64})
    assert "1 input channels" in of(**small, in_chans=1)
    assert "4 register tokens" in of(**small, reg_tokens=4)


def test_blocks_that_are_not_all_there_are_named(tmp_path: Path) -> None:
    gaps = chunked(dinov2(build(1, **SCALED).state_dict()), lambda n: (n // 2, n))
    gaps = {name: tensor for name, tensor in gaps.items() if not name.startswith("blocks.0.1.")}
    assert "some blocks are missing" in refusal(gaps, tmp_path, build(**SCALED))
    published = hugging_face_vit(A)
    del published["vit.encoder.layer.1.attention.attention.key.weight"]
    assert "blocks.1.attn.key.weight, blocks.1.attn.value.weight are missing" in refusal(
        published, tmp_path
    )
    del published["vit.encoder.layer.1.attention.attention.query.weight"]
    assert "missing: blocks.1.attn.qkv.weight" in refusal(published, tmp_path)


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    endless: dict[str, Any] = {"a": 1}
    endless["model"] = endless
    assert "nested more than 16 levels deep" in refusal(endless, tmp_path)
    deep: Any = A
    for _ in range(200):
        deep = {"model": deep}
    assert "nested more than 16 levels deep" in refusal(deep, tmp_path)


@pytest.mark.parametrize(
    "contents", [{}, {"epoch": 1}, [torch.zeros(3)], torch.zeros(3), 3, None, {"model": {}}]
)
def test_files_without_tensors_say_so(contents: Any, tmp_path: Path) -> None:
    assert "no dictionary of named tensors" in refusal(contents, tmp_path)


def test_other_kinds_of_files_are_told_by_their_content(tmp_path: Path) -> None:
    def cause(path: Path) -> str:
        with pytest.raises(WeightsError) as error:
            read_checkpoint(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
        return str(error.value).removeprefix(f"{path}: ")

    np.savez(tmp_path / "jax.npz", a=np.zeros(3))
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    safetensors.torch.save_file(A, tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "empty.pth").touch()
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")  # type: ignore[no-untyped-call]
    assert "is a NumPy archive (JAX)" in cause(tmp_path / "jax.npz")
    assert "is an HDF5 file" in cause(tmp_path / "a.h5")
    assert "is a quantised GGUF file" in cause(tmp_path / "a.gguf")
    assert "is a JSON file" in cause(tmp_path / "config.json")
    assert "Git LFS pointer" in cause(tmp_path / "lfs.safetensors")
    assert "is the index of a sharded checkpoint" in cause(
        tmp_path / "model.safetensors.index.json"
    )
    assert "is one shard of a sharded checkpoint" in cause(
        tmp_path / "model-00001-of-00002.safetensors"
    )
    assert "is a folder; give the file in it" in cause(tmp_path)
    assert "cannot be read" in cause(tmp_path / "empty.pth")
    assert "cannot be read (No such file" in cause(tmp_path / "none.pth")
    assert "is a TorchScript program" in cause(tmp_path / "script.pt")


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    safetensors.torch.save_file(A, tmp_path / "a.pth")
    safetensors.torch.save_file(A, tmp_path / "model-00001-of-00001.safetensors")
    saved(A, tmp_path, "a.bin")
    for name in ("a.pth", "model-00001-of-00001.safetensors", "a.bin"):
        assert read_checkpoint(tmp_path / name).tensors.keys() == A.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pos_embed": torch.zeros(1, 14, DIM)}, "without those of 1 other token must form a"),
        ({"pos_embed": torch.zeros(1, 16, DIM)}, r"pos_embed is \[1, 16, 32\]; its positions"),
        ({"pos_embed": torch.zeros(1, 1, DIM)}, "must form a square"),
        ({"pos_embed": torch.zeros(17, DIM)}, r"\[17, 32\]; it must be \[1, positions, features"),
        ({"pos_embed": torch.tensor(1.0)}, r"pos_embed is \[\]"),
        (
            {"norm.weight": torch.full((DIM,), 1e300, dtype=torch.float64)},
            "not finite: norm.weight",
        ),
    ],
)
def test_positions_without_a_grid_and_numbers_beyond_single_precision_are_named(
    changes: State, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        convert_checkpoint(dict(A) | changes, VISION_TRANSFORMERS, build(), PATH)


@pytest.mark.parametrize(
    "names",
    [
        ("visual.conv1.weight", "visual.transformer.resblocks.0.attn.in_proj_weight"),
        ("embeddings.patch_embeddings.weight", "layer.0.attention.k_proj.weight"),
        ("patch_embed.proj.weight", "layers.0.blocks.0.norm1.weight"),
        ("conv1.weight", "layer1.0.conv1.weight"),
    ],
    ids=["CLIP", "DINOv3", "Swin", "ResNet"],
)
def test_networks_of_another_kind_are_called_so(names: tuple[str, ...]) -> None:
    with pytest.raises(WeightsError, match="of another kind or in an unknown layout; i"):
        convert_checkpoint(
            dict.fromkeys(names, torch.zeros(2, 3, 4, 4)), VISION_TRANSFORMERS, build(), PATH
        )


def test_a_head_alone_is_named(tmp_path: Path) -> None:
    assert "its tensors are head.weight" in refusal({"head.weight": torch.zeros(5, DIM)}, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", r"neither a safetensors file nor a torch checkpoint \(\w+\)$"),
        (b"", "neither a safetensors file nor a torch checkpoint"),
        (b"\x1f\x8b\x08\x00\x00", "is an archive or compressed; unpack it"),
        (b"\0" * 257 + b"ustar\x0000" + b"\0" * 248, "is an archive or compressed; unpack it"),
    ],
)
def test_what_no_reader_knows_is_called_so_in_plain_words(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_checkpoint(path)
    assert "weights_only" not in str(caught.value)


def test_an_archive_of_tar_is_to_be_unpacked(tmp_path: Path) -> None:
    inner = saved(dict(A), tmp_path)
    with tarfile.open(tmp_path / "file.tar", "w") as archive:
        archive.add(inner, "file.pth")
    with pytest.raises(WeightsError, match="is an archive or compressed; unpack it"):
        read_checkpoint(tmp_path / "file.tar")
