"""Every family against timm's own forward pass, after loading its weights from a file.

The queries, keys, values and biases that timm's attention computes with are recorded where timm
hands them to torch, and the norms of queries and keys are hooked, so that nothing of the code
under test is used.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import safetensors.torch
import torch
from torch import nn

from lightcluster.errors import WeightsError
from lightcluster.extraction.backbones.capi_network import Capi
from lightcluster.extraction.backbones.protocol import FACETS, Backbone, Rotation
from lightcluster.extraction.opening import load_backbone
from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators
from lightcluster.extraction.weights import fetch_weights

ensure_torchvision_operators()

import timm  # noqa: E402
from timm.layers import RmsNorm, SwiGLU  # noqa: E402
from timm.models import build_model_with_cfg, register_model  # noqa: E402
from timm.models.beit import Beit  # noqa: E402
from timm.models.eva import Eva  # noqa: E402
from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg  # noqa: E402
from timm.models.vision_transformer import (  # noqa: E402
    ParallelScalingBlock,
    ResPostBlock,
    VisionTransformer,
)
from timm.models.vision_transformer_relpos import (  # noqa: E402
    ResPostRelPosBlock,
    VisionTransformerRelPos,
)

SHAPE = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}
ROTARY = {"use_rot_pos_emb": True, "qkv_bias": True}
DINOV3 = ROTARY | {
    "use_abs_pos_emb": False, "rope_type": "dinov3", "rope_temperature": 100,
    "rope_rotate_half": True, "num_reg_tokens": 4, "init_values": 0.7, "use_fc_norm": False,
}  # fmt: skip
CASES: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "norm after": (VisionTransformer, {"block_fn": ResPostBlock}),
    "parallel": (VisionTransformer, {"block_fn": ParallelScalingBlock, "qk_norm": True}),
    "parallel, without biases": (
        VisionTransformer,
        {
            "block_fn": partial(ParallelScalingBlock, fuse_out_proj=True),
            "qkv_bias": False, "init_values": 0.7,
        },
    ),
    "siglip": (VisionTransformer, {"class_token": False, "global_pool": "map"}),
    "aimv2": (
        VisionTransformer,
        {
            "class_token": False, "global_pool": "avg", "fc_norm": False, "qkv_bias": False,
            "proj_bias": False, "norm_layer": RmsNorm, "embed_norm_layer": RmsNorm,
            "mlp_layer": SwiGLU,
        },
    ),
    "eva": (Eva, {"global_pool": "token"}),
    "eva02": (
        Eva,
        ROTARY | {
            "qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "ref_feat_shape": (2, 2),
            "mlp_ratio": 8 / 3,
        },
    ),
    "eva02, norm in the attention": (
        Eva, ROTARY | {"scale_attn_inner": True, "swiglu_mlp": True, "global_pool": "token"},
    ),
    "norm after, rotary": (Eva, ROTARY | {"use_post_norm": True}),
    "rotary, angles by block": (
        Eva, ROTARY | {"rope_type": "mixed", "rope_grid_indexing": "xy", "class_token": False},
    ),
    "dinov3": (Eva, DINOV3 | {"qkv_bias": False}),
    "dinov3, biases": (Eva, DINOV3 | {"swiglu_mlp": True, "swiglu_align_to": 8}),
    "perception encoder": (
        Eva,
        ROTARY | {
            "attn_type": "rope", "use_pre_transformer_norm": True, "rope_grid_offset": 1.0,
            "rope_grid_indexing": "xy", "use_fc_norm": False, "ref_feat_shape": (4, 4),
            "global_pool": "map", "init_values": 0.7,
        },
    ),
    "sapiens2": (
        Eva,
        DINOV3 | {
            "attn_type": "rope", "qkv_fused": False, "num_kv_heads": (2, 4, 2), "qk_norm": True,
            "num_heads": 4, "embed_dim": 64,
            "attn_only_layer_scale": True, "norm_layer": RmsNorm, "swiglu_mlp": True,
            "swiglu_align_to": 8,
        },
    ),
    "mrope": (
        Eva, ROTARY | {"rope_type": "mrope", "rope_mrope_section": (2, 3, 3), "attn_type": "rope"},
    ),
    "capi": (Capi, {"num_reg_tokens": 8}),
    "beit": (Beit, {"use_rel_pos_bias": True, "use_abs_pos_emb": False, "init_values": 0.7}),
    "beit, one table and positions": (
        Beit, {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": True, "global_pool": "token"},
    ),
    "beit without tables": (Beit, {"qkv_bias": False, "swiglu_mlp": True}),
    "relative": (VisionTransformerRelPos, {"rel_pos_type": "bias", "init_values": 0.7}),
    "relative, class token": (
        VisionTransformerRelPos,
        {
            "rel_pos_type": "bias", "class_token": True, "global_pool": "token", "qk_norm": True,
            "block_fn": ResPostRelPosBlock, "init_values": None,
        },
    ),
    "relative, by a network": (VisionTransformerRelPos, {"rel_pos_type": "mlp"}),
    "relative, by one network as in Swin": (
        VisionTransformerRelPos,
        {"rel_pos_type": "mlp-swin", "shared_rel_pos": True, "class_token": True,
         "global_pool": "token", "rel_pos_dim": 16},
    ),
    "naflex": (NaFlexVit, {"pos_embed_grid_size": (4, 4)}),
    "naflex, class token": (
        NaFlexVit,
        {"class_token": True, "reg_tokens": 2, "global_pool": "token", "init_values": 0.7,
         "pos_embed": "factorized", "pos_embed_grid_size": (4, 4), "embed_proj_type": "conv"},
    ),
    "naflex, rotary": (
        NaFlexVit,
        {"rope_type": "axial", "attn_gated": True, "pos_embed": "none", "swiglu_mlp": True},
    ),
    "naflex, angles by block": (
        NaFlexVit, {"rope_type": "mixed", "pos_embed": "none", "reg_tokens": 1},
    ),
}  # fmt: skip
RESIZED_BY_TIMM = (Beit, VisionTransformerRelPos)
ROTATED = ("query", "key")
GRID = (3, 5)


def register(name: str, kind: type[nn.Module], arguments: dict[str, Any]) -> str:
    """Give timm a small architecture under a name, as it has those of the hub."""

    def build(pretrained: bool = False, **given: Any) -> nn.Module:
        settings = SHAPE | {"num_classes": 0} | arguments | given
        if kind is NaFlexVit:
            size, classes = settings.pop("img_size"), settings.pop("num_classes")
            for option in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
                settings.pop(option, None)
            network: nn.Module = NaFlexVit(NaFlexVitCfg(**settings), num_classes=classes,
                                           img_size=size)  # fmt: skip
            network.pretrained_cfg = PUBLISHED
            return network
        settings["pretrained_cfg"] = PUBLISHED
        return build_model_with_cfg(kind, name, pretrained, **settings)

    build.__name__, build.__module__ = name, __name__
    register_model(build)
    return name


PUBLISHED = {
    "input_size": (3, 32, 32), "num_classes": 0, "interpolation": "bilinear", "pool_size": None,
    "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "classifier": "head",
    "first_conv": "patch_embed.proj",
}  # fmt: skip
__all__: list[str] = []  # timm adds the names of what it registers
NAMES = {
    case: register(f"small_{number}", *about) for number, (case, about) in enumerate(CASES.items())
}


def network_of(case: str) -> nn.Module:
    """Build timm's own network for images of any size, with all parameters drawn."""
    sized = issubclass(CASES[case][0], (VisionTransformer, Eva))
    options = {"dynamic_img_size": True} if sized else {}
    torch.manual_seed(1)
    network: nn.Module = timm.create_model(NAMES[case], **options)
    with torch.no_grad():  # timm starts some at nothing, which would hide mistakes
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return network.eval()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads only wait for each other in matrices this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def load(case: str, network: nn.Module, folder: Path, rotation: Rotation = "before") -> Backbone:
    """Load the network's weights by way of the files that a run makes."""
    file, weights = folder / "given.safetensors", folder / "weights.safetensors"
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file
    )
    record = fetch_weights(NAMES[case], "file", file, 0, weights)
    assert (record.mean, record.std) == (PUBLISHED["mean"], PUBLISHED["std"])
    return load_backbone(NAMES[case], weights, rotation=rotation)


Seen = dict[str, list[Any]]


@contextmanager
def recorded(network: Any) -> Iterator[Seen]:
    """Record what timm's blocks compute, in order."""
    seen: Seen = {"query": [], "key": [], "attention": [], "block": []}
    attend = torch.nn.functional.scaled_dot_product_attention

    def record(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **more: Any) -> Any:
        seen["attention"].append((query, key, value, more.get("attn_mask")))
        return attend(query, key, value, **more)

    hooks = []
    for block in network.blocks:
        hooks.append(block.register_forward_hook(lambda *call: seen["block"].append(call[2])))
        attention = getattr(block, "attn", block)
        for name, norm in (("query", "q_norm"), ("key", "k_norm")):
            if hasattr(attention, norm):
                hooks.append(getattr(attention, norm).register_forward_hook(
                    lambda *call, name=name: seen[name].append(call[2])
                ))  # fmt: skip
    with mock.patch("torch.nn.functional.scaled_dot_product_attention", record), torch.no_grad():
        yield seen
    for hook in hooks:
        hook.remove()


def by_hand(
    network: Any, images: torch.Tensor, layer: int, rotation: Rotation = "before"
) -> dict[str, torch.Tensor]:
    """Facets, class token and class attention, from what timm's forward pass computes with."""
    if isinstance(network, RESIZED_BY_TIMM):
        network = copy.deepcopy(network)
        network.set_input_size(tuple(images.shape[2:]))
    with recorded(network) as seen:
        final = network.fc_norm(network.forward_features(images))

    prefix, depth = network.num_prefix_tokens, len(network.blocks)
    queries, keys, value, bias = seen["attention"][layer % depth]
    scores = torch.einsum("bhqd,bhkd->bhqk", queries, keys) * queries.shape[-1] ** -0.5
    weights = (scores if bias is None else scores + bias).softmax(-1).mean(1)
    heads = {"query": queries, "key": keys, "value": value}
    if rotation == "before" and getattr(network, "rope", None) is not None:
        shared = queries.shape[1] // seen["key"][layer % depth].shape[1]
        heads["query"] = seen["query"][layer % depth]
        heads["key"] = seen["key"][layer % depth].repeat_interleave(shared, dim=1)
    facets = {name: part[:, :, prefix:].transpose(1, 2).flatten(2) for name, part in heads.items()}
    tokens = final if layer % depth == depth - 1 else seen["block"][layer % depth]
    first = getattr(network, "embeds", network).cls_token is not None
    return facets | {
        "token": tokens[:, prefix:],
        "cls": final[:, 0] if first else final[:, prefix:].mean(1),
        "cls_attention": (weights[:, 0] if first else weights.mean(1))[:, prefix:],
    }


def images_of(rows: int, columns: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(count, 3, 8 * rows, 8 * columns, generator=generator)


def is_rotary(case: str) -> bool:
    arguments = CASES[case][1]
    return "use_rot_pos_emb" in arguments or "rope_type" in arguments or case == "capi"


@pytest.mark.parametrize(
    ("case", "rotation"),
    [
        # `make test` tries every third network.
        pytest.param(case, rotation, marks=[pytest.mark.thorough] if number % 3 else [])
        for rotation in ("before", "after")
        for number, case in enumerate(CASES)
        if rotation == "before" or is_rotary(case)
    ],
)
def test_features_equal_those_that_timm_computes_with(
    case: str, rotation: Rotation, tmp_path: Path
) -> None:
    network = network_of(case)
    backbone = load(case, network, tmp_path, rotation)
    for grid in (GRID, (4, 4), (6, 2)):
        images = images_of(*grid)
        for layer in (0, -1):
            expected = by_hand(network, images, layer, rotation)
            for facets in (FACETS, ("key",), ("value", "query")):
                found = backbone.forward(images, facets, layer)
                assert tuple(found.facets) == facets
                for name in facets:
                    assert found.facets[name].shape == (2, grid[0] * grid[1], backbone.dim)
                    assert torch.allclose(found.facets[name], expected[name], atol=2e-5), name
                assert torch.allclose(found.cls, expected["cls"], atol=2e-5)
                assert torch.allclose(
                    found.cls_attention, expected["cls_attention"], atol=1e-6
                )  # fmt: skip


@pytest.mark.thorough
def test_rotation_changes_queries_and_keys_of_rotary_models_only(case: str, tmp_path: Path) -> None:
    network = network_of(case)
    before, after = (load(case, network, tmp_path, rotation) for rotation in ("before", "after"))
    images = images_of(*GRID)
    found, rotated = before.forward(images, FACETS, 0), after.forward(images, FACETS, 0)
    for name in FACETS:
        same = torch.equal(found.facets[name], rotated.facets[name])
        assert same == (name not in ROTATED or not before.rotary), name
    assert before.rotary == is_rotary(case) == (getattr(network, "rope", None) is not None)
    assert torch.equal(found.cls_attention, rotated.cls_attention)
    assert torch.equal(found.cls, rotated.cls)


@pytest.mark.thorough
def test_batches_layers_and_precisions(case: str, tmp_path: Path) -> None:
    backbone = load(case, network_of(case), tmp_path)
    images = images_of(*GRID, count=3)
    together = backbone.forward_layers(images, FACETS)
    low = backbone.forward(images, FACETS, -1, torch.bfloat16)
    for layer, found in enumerate(together):
        alone = [backbone.forward(image[None], FACETS, layer) for image in images]
        for name in FACETS:
            joined = torch.cat([one.facets[name] for one in alone])
            assert torch.allclose(found.facets[name], joined, atol=2e-5)
        assert torch.allclose(found.cls, torch.cat([one.cls for one in alone]), atol=2e-5)
    for name in FACETS:
        similar = torch.cosine_similarity(low.facets[name], together[-1].facets[name], dim=-1)
        assert similar.min() > 0.98, name
        assert low.facets[name].dtype == torch.float32


def test_nothing_is_left_without_values(case: str, tmp_path: Path) -> None:
    network = network_of(case)
    loaded: Any = load(case, network, tmp_path)
    expected = dict(network.named_buffers())
    for name, buffer in loaded.model.named_buffers():
        assert torch.equal(buffer, expected[name]), name
    assert not any(parameter.is_meta for parameter in loaded.model.parameters())


# ---- published layouts ------------------------------------------------------------------------

State = dict[str, torch.Tensor]


def dinov3(state: State) -> State:
    """The names of DINOv3's own code, with its masked biases and its stored periods."""
    named: State = {"mask_token": torch.ones(1, 48), "rope_embed.periods": torch.ones(4)}
    for name, tensor in state.items():
        name = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        name = name.replace("mlp.fc1_g", "mlp.w1").replace("mlp.fc1_x", "mlp.w2")
        name = name.replace("mlp.fc2", "mlp.w3") if "blocks.0.mlp.fc1_g.weight" in state else name
        if name.endswith("attn.q_bias"):
            value = state[name.replace("q_bias", "v_bias")]
            whole = name.replace("q_bias", "qkv.bias")
            named[whole] = torch.cat([tensor, torch.full_like(tensor, 9.0), value])
            named[f"{whole}_mask"] = torch.cat([torch.ones(48), torch.zeros(48), torch.ones(48)])
        elif not name.endswith("attn.v_bias"):
            named[name.replace("reg_token", "storage_tokens")] = tensor
    return named


def hugging_face_dinov3(state: State) -> State:
    named: State = {"embeddings.mask_token": torch.ones(1, 1, 48)}
    for name, tensor in state.items():
        name = re.sub(r"^blocks\.", "layer.", name)
        name = name.replace("patch_embed.proj.", "embeddings.patch_embeddings.")
        name = name.replace("reg_token", "embeddings.register_tokens")
        name = name.replace("cls_token", "embeddings.cls_token")
        name = re.sub(r"gamma_(\d)", r"layer_scale\1.lambda1", name)
        name = name.replace("attn.proj", "attention.o_proj")
        name = name.replace("mlp.fc1_g", "mlp.gate_proj").replace("mlp.fc1_x", "mlp.up_proj")
        name = name.replace("mlp.fc1", "mlp.up_proj").replace("mlp.fc2", "mlp.down_proj")
        if name.endswith("attn.qkv.weight"):
            for part, matrix in zip("qkv", tensor.chunk(3), strict=True):
                named[name.replace("attn.qkv", f"attention.{part}_proj")] = matrix
        else:
            named[re.sub(r"attn\.([qv])_bias", r"attention.\1_proj.bias", name)] = tensor
    return named


def beit(state: State) -> dict[str, Any]:
    """BEiT's own names, as after its pretraining."""
    stored: State = {"mask_token": torch.ones(1, 1, 48), "lm_head.weight": torch.ones(9, 48)}
    index = {f"blocks.{number}.attn.relative_position_index": torch.ones(17, 17, dtype=torch.long)
             for number in range(3)}  # fmt: skip
    return {"model": stored | index | state}


def eva02(state: State) -> State:
    """EVA-02's names, with the tables of its rotations."""
    named: State = {
        "rope.freqs_cos": torch.ones(4, 4),
        "blocks.0.attn.rope.freqs_sin": torch.ones(4),
    }
    for name, tensor in state.items():
        name = name.replace("mlp.fc1_g", "mlp.w1").replace("mlp.fc1_x", "mlp.w2")
        name = name.replace("mlp.fc2", "mlp.w3").replace("mlp.norm", "mlp.ffn_ln")
        named[re.sub(r"attn\.([qv])_proj\.bias", r"attn.\1_bias", name)] = tensor
    return named


def perception_encoder(state: State) -> State:
    """The names of the Perception Encoder's own code, which are those of CLIP."""
    named: State = {"visual.proj": torch.ones(48, 9), "logit_scale": torch.ones(())}
    for name, tensor in state.items():
        if name.startswith("attn_pool."):
            continue
        name = name.replace("patch_embed.proj", "conv1").replace("norm_pre", "ln_pre")
        name = re.sub(r"^norm\.", "ln_post.", name)
        name = re.sub(r"\.norm(\d)\.", r".ln_\1.", re.sub(r"gamma_(\d)", r"ls_\1.gamma", name))
        name = name.replace("attn.qkv.", "attn.in_proj_").replace("attn.proj", "attn.out_proj")
        name = name.replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")
        name = re.sub(r"^blocks", "transformer.resblocks", name)
        tensor = tensor.flatten(0, -2) if name in ("cls_token", "pos_embed") else tensor
        tensor = tensor[0] if name == "cls_token" else tensor
        name = name.replace("cls_token", "class_embedding")
        named[f"visual.{name.replace('pos_embed', 'positional_embedding')}"] = tensor
    parts = {kind: torch.cat([state[f"attn_pool.{part}.{kind}"] for part in ("q", "kv")])
             for kind in ("weight", "bias")}  # fmt: skip
    for kind, tensor in parts.items():
        named[f"visual.attn_pool.attn.in_proj_{kind}"] = tensor
        named[f"visual.attn_pool.attn.out_proj.{kind}"] = state[f"attn_pool.proj.{kind}"]
        named[f"visual.attn_pool.layernorm.{kind}"] = state[f"attn_pool.norm.{kind}"]
        for layer, other in (("fc1", "c_fc"), ("fc2", "c_proj")):
            named[f"visual.attn_pool.mlp.{other}.{kind}"] = state[f"attn_pool.mlp.{layer}.{kind}"]
    named["visual.attn_pool.probe"] = state["attn_pool.latent"]
    return named


def sapiens2(state: State) -> State:
    named: State = {}
    for name, tensor in state.items():
        name = name.replace("gamma_1", "attn.gamma.weight").replace("reg_token", "storage_tokens")
        name = re.sub(r"attn\.([qkv])_proj", r"attn.w\1", name)
        name = name.replace("mlp.fc1_g", "ffn.w1").replace("mlp.fc1_x", "ffn.w2")
        name = re.sub(r"^norm\.", "ln1.", re.sub(r"\.norm(\d)\.", r".ln\1.", name))
        named[name.replace("mlp.fc2", "ffn.w3").replace("patch_embed.proj", PROJECTION)] = tensor
    for number in range(3):
        for kind in ("weight", "bias"):
            parts = [named.pop(f"blocks.{number}.ffn.{part}.{kind}") for part in ("w1", "w2")]
            named[f"blocks.{number}.ffn.w12.{kind}"] = torch.cat(parts)
    return named


PROJECTION = "patch_embed.projection"


def aimv2(state: State) -> State:
    named: State = {}
    for name, tensor in state.items():
        name = re.sub(r"^blocks", "trunk.blocks", name)
        name = name.replace("norm1", "norm_1").replace("norm2", "norm_2")
        name = re.sub(r"^norm\.", "trunk.post_trunk_norm.", name)
        name = name.replace("mlp.fc1_g", "mlp.fc1").replace("mlp.fc1_x", "mlp.fc3")
        name = re.sub(r"^patch_embed\.", "preprocessor.patchifier.", name)
        named[re.sub(r"^pos_embed", "preprocessor.pos_embed", name)] = tensor
    return named


def capi(state: State) -> State:
    """CAPI's names, beside a part of its decoder."""
    named: State = {"decoder.blocks.0.residual2.fn.fc1.weight": torch.ones(4, 4)}
    for number, of_block in enumerate(state["rope.freqs"]):
        named[f"encoder.blocks.{number}.residual1.fn.rope.freqs"] = of_block
    for name, tensor in state.items():
        name = re.sub(r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.blocks.\1.residual\2.norm.", name)
        name = re.sub(r"^blocks\.(\d+)\.attn\.", r"encoder.blocks.\1.residual1.fn.", name)
        name = re.sub(r"^blocks\.(\d+)\.mlp\.", r"encoder.blocks.\1.residual2.fn.", name)
        name = name.replace("patch_embed.proj", "patch_embed").replace("reg_token", "registers")
        if name != "rope.freqs":
            named[name] = tensor
    named["mask_token"] = torch.ones(1, 48)
    return {f"backbone.{name}": tensor for name, tensor in named.items()} | {
        "head.layer.weight": torch.ones(9, 48)
    }


def capi_by_hand(state: State, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The last tokens, and the keys of each block, from the parameters in CAPI's own names."""
    state = {name.removeprefix("backbone.encoder."): tensor for name, tensor in state.items()}
    weight, bias = (state[f"backbone.patch_embed.{kind}"] for kind in ("weight", "bias"))
    x = torch.nn.functional.conv2d(images, weight, bias, stride=weight.shape[-1])
    places = [(row / (x.shape[2] - 1), column / (x.shape[3] - 1))
              for row in range(x.shape[2]) for column in range(x.shape[3])]  # fmt: skip
    border = [(0, 0), (0.5, 0), (1, 0), (1, 0.5), (1, 1), (0.5, 1), (0, 1), (0, 0.5)]
    x = torch.cat([state["backbone.registers"].expand(len(x), -1, -1),
                   x.flatten(2).transpose(1, 2)], dim=1)  # fmt: skip
    keys = []
    for number in range(SHAPE["depth"]):
        block = {name.removeprefix(f"blocks.{number}."): tensor for name, tensor in state.items()}
        normal = norm_by_hand(x) * block["residual1.norm.weight"]
        parts = {}
        for part in "qkv":
            heads = normal @ block[f"residual1.fn.{part}_proj.weight"].T
            parts[part] = heads.reshape(len(x), -1, 3, 16).transpose(1, 2)
        keys.append(parts["k"])
        angles = torch.tensor(border + places) @ block["residual1.fn.rope.freqs"]
        for part in "qk":
            one, other = parts[part].chunk(2, dim=-1)
            turned = torch.cat([-other, one], dim=-1)
            parts[part] = parts[part] * angles.cos() + turned * angles.sin()
        weights = (parts["q"] @ parts["k"].transpose(-1, -2) / 4).softmax(-1)
        mixed = (weights @ parts["v"]).transpose(1, 2).flatten(2)
        x = x + mixed @ block["residual1.fn.proj.weight"].T
        hidden = norm_by_hand(x) * block["residual2.norm.weight"]
        hidden = torch.nn.functional.gelu(hidden @ block["residual2.fn.fc1.weight"].T)
        x = x + hidden @ block["residual2.fn.fc2.weight"].T
    return norm_by_hand(x), keys


def norm_by_hand(x: torch.Tensor) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


def test_capi_equals_its_definition(tmp_path: Path) -> None:
    state = capi(network_of("capi").state_dict())
    torch.save(state, tmp_path / "given.pth")
    fetch_weights(NAMES["capi"], "file", tmp_path / "given.pth", 0, tmp_path / "out.safetensors")
    backbone = load_backbone(NAMES["capi"], tmp_path / "out.safetensors")
    images = images_of(*GRID)
    tokens, keys = capi_by_hand(state, images)
    for layer, of_layer in enumerate(keys):
        found = backbone.forward(images, ("key", "token"), layer)
        expected = of_layer.transpose(1, 2).flatten(2)[:, 8:]
        assert torch.allclose(found.facets["key"], expected, atol=1e-4)
        assert torch.allclose(found.cls, tokens[:, 8:].mean(1), atol=1e-4)
    assert torch.allclose(found.facets["token"], tokens[:, 8:], atol=1e-4)


@pytest.mark.parametrize(
    ("case", "layout"),
    [
        ("capi", capi),
        ("dinov3", dinov3),
        ("dinov3, biases", dinov3),
        ("dinov3", hugging_face_dinov3),
        ("dinov3, biases", hugging_face_dinov3),
        ("beit", beit),
        ("eva02", eva02),
        ("perception encoder", perception_encoder),
        ("sapiens2", sapiens2),
        ("aimv2", aimv2),
        ("relative, by a network", dict),
        ("naflex, class token", dict),
    ],
)
def test_published_layouts_give_the_parameters_of_the_network(
    case: str, layout: Any, tmp_path: Path
) -> None:
    state = network_of(case).state_dict()
    torch.save(layout(state), tmp_path / "given.pth")
    fetch_weights(NAMES[case], "file", tmp_path / "given.pth", 0, tmp_path / "out.safetensors")
    found = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor), name


def test_biases_that_the_model_does_not_have_are_named(tmp_path: Path) -> None:
    torch.save(dinov3(network_of("dinov3, biases").state_dict()), tmp_path / "given.pth")
    register("small_without_biases", Eva, CASES["dinov3, biases"][1] | {"qkv_bias": False})
    with pytest.raises(WeightsError, match=r"has a bias, .*`_qkvb` in its name"):
        fetch_weights("small_without_biases", "file", tmp_path / "given.pth", 0, tmp_path / "out")
