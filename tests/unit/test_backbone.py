"""The facets against timm's own forward pass, taken apart by hooks."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from builders import build_network

from lightcluster.errors import WeightsError
from lightcluster.extraction.backbones import attention
from lightcluster.extraction.backbones.protocol import FACETS, Declaration, Facet
from lightcluster.extraction.backbones.registry import DECLARED, find_family, size_of
from lightcluster.extraction.backbones.vision_transformer import VisionTransformerBackbone
from lightcluster.extraction.opening import outline
from lightcluster.extraction.precision import resolve_precision
from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

ensure_torchvision_operators()

import timm  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

SMALL = {"embed_dim": 48, "depth": 4, "num_heads": 3, "num_classes": 0, "dynamic_img_size": True}
MODELS: dict[str, dict[str, object]] = {
    "patch 8": {"img_size": 32, "patch_size": 8},
    "patch 14, registers": {
        "img_size": 42,
        "patch_size": 14,
        "reg_tokens": 4,
        "no_embed_class": True,
        "init_values": 0.5,
    },
    "patch 16": {"img_size": 64},
    "normalised queries and keys": {"img_size": 64, "qk_norm": True, "pre_norm": True},
    "no class token": {"img_size": 64, "class_token": False, "global_pool": "avg"},
    "registers alone": {
        "img_size": 64,
        "class_token": False,
        "reg_tokens": 2,
        "global_pool": "avg",
    },
    "scaled attention norm": {"img_size": 64, "scale_attn_norm": True},
}


def small_model(**arguments: object) -> VisionTransformer:
    torch.manual_seed(1)
    model = VisionTransformer(**(SMALL | arguments))
    with torch.no_grad():  # timm starts biases and registers at nothing, which would hide mistakes
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model.eval()


def small_backbone(**arguments: object) -> VisionTransformerBackbone:
    return VisionTransformerBackbone(small_model(**arguments), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def by_hand(model: VisionTransformer, images: torch.Tensor, layer: int) -> dict[str, torch.Tensor]:
    """Facets, class token and class attention, from what hooks see in timm's forward pass."""
    seen: dict[str, torch.Tensor] = {}
    block = model.blocks[layer]
    hooks = [
        block.attn.qkv.register_forward_hook(lambda *call: seen.update(qkv=call[2])),
        block.register_forward_hook(lambda *call: seen.update(block=call[2])),
    ]
    with torch.no_grad():
        final = model.fc_norm(model.forward_features(images))
    for hook in hooks:
        hook.remove()

    prefix, attention = model.num_prefix_tokens, block.attn
    batch, count, _ = seen["qkv"].shape
    with torch.no_grad():
        q, k, v = (
            part.reshape(batch, count, attention.num_heads, attention.head_dim).transpose(1, 2)
            for part in seen["qkv"].chunk(3, dim=-1)
        )
        q, k = attention.q_norm(q), attention.k_norm(k)
        weights = torch.einsum("bhqd,bhkd->bhqk", q, k).mul(attention.scale).softmax(-1).mean(1)
    last = layer % len(model.blocks) == len(model.blocks) - 1
    facets = {
        name: heads[:, :, prefix:].permute(0, 2, 1, 3).reshape(batch, count - prefix, -1)
        for name, heads in (("query", q), ("key", k), ("value", v))
    }
    return facets | {
        "token": (final if last else seen["block"])[:, prefix:],
        "cls": final[:, 0] if model.has_class_token else final[:, prefix:].mean(1),
        "cls_attention": (weights[:, 0] if model.has_class_token else weights.mean(1))[:, prefix:],
    }


@pytest.mark.parametrize("layer", [0, 2, -1])
@pytest.mark.parametrize("arguments", MODELS.values(), ids=MODELS)
def test_features_equal_those_computed_by_hand(arguments: dict[str, object], layer: int) -> None:
    backbone = small_backbone(**arguments)
    patch = backbone.patch_size
    images = torch.randn(2, 3, 3 * patch, 5 * patch)
    expected = by_hand(backbone.model, images, layer)
    for facets in (FACETS, ("key",), ("value", "query")):
        found = backbone.forward(images, facets, layer)
        assert tuple(found.facets) == facets
        for name in facets:
            assert found.facets[name].shape == (2, 15, backbone.dim)
            assert torch.allclose(found.facets[name], expected[name], atol=1e-5)
        assert torch.allclose(found.cls, expected["cls"], atol=1e-5)
        assert torch.allclose(found.cls_attention, expected["cls_attention"], atol=1e-6)


@pytest.mark.parametrize("arguments", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("facets", [FACETS, ("key",)], ids=len)
def test_all_layers_in_one_pass_are_those_of_passes_of_their_own(
    arguments: dict[str, object], facets: tuple[Facet, ...]
) -> None:
    backbone = small_backbone(**arguments)
    images = torch.randn(2, 3, 2 * backbone.patch_size, 3 * backbone.patch_size)
    together = backbone.forward_layers(images, facets)
    assert len(together) == backbone.depth
    for layer, found in enumerate(together):
        alone = backbone.forward(images, facets, layer)
        assert tuple(found.facets) == facets
        for name in facets:
            assert torch.allclose(found.facets[name], alone.facets[name], atol=1e-5)
        assert torch.allclose(found.cls, alone.cls, atol=1e-5)
        assert torch.allclose(found.cls_attention, alone.cls_attention, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["vit_small_patch8_224", "vit_small_patch14_reg4_dinov2", "vit_tiny_patch16_224"]
)
def test_keys_of_registered_models(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, depth=2, dynamic_img_size=True)
    backbone = VisionTransformerBackbone(model.eval(), (0.5,) * 3, (0.5,) * 3)
    images = torch.randn(1, 3, 5 * backbone.patch_size, 7 * backbone.patch_size)
    found, expected = backbone.forward(images), by_hand(model, images, -1)
    assert torch.allclose(found.facets["key"], expected["key"], atol=1e-5)
    assert torch.allclose(found.cls, expected["cls"], atol=1e-5)


def test_the_class_token_does_not_depend_on_the_layer_of_the_facets() -> None:
    backbone = small_backbone(img_size=64, patch_size=16)
    images = torch.randn(1, 3, 64, 48)
    first, last = backbone.forward(images, layer=0), backbone.forward(images, layer=-1)
    assert torch.allclose(first.cls, last.cls, atol=1e-6)


def test_batching_changes_nothing() -> None:
    backbone = small_backbone(img_size=42, patch_size=14, reg_tokens=4)
    images = torch.randn(5, 3, 56, 42)
    together = backbone.forward(images, FACETS)
    for size in (1, 2, 3):
        parts = [backbone.forward(part, FACETS) for part in images.split(size)]
        for name in FACETS:
            joined = torch.cat([part.facets[name] for part in parts])
            assert torch.allclose(together.facets[name], joined, atol=1e-5)
        assert torch.allclose(together.cls, torch.cat([p.cls for p in parts]), atol=1e-5)


def test_patches_are_in_row_major_order() -> None:
    backbone = small_backbone(img_size=64, patch_size=16)
    image = torch.zeros(1, 3, 48, 80)
    changed = image.clone()
    changed[:, :, 16:32, 48:64] = 1  # row 1, column 3 of 3 x 5
    before, after = (backbone.forward(i, ("key",), 0).facets["key"] for i in (image, changed))
    assert (before - after).abs().sum(-1).nonzero()[:, 1].tolist() == [1 * 5 + 3]


@pytest.mark.parametrize("scores_in_cache", [2**21, 50])
def test_bfloat16_attention_in_slices(
    scores_in_cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_SCORES_IN_CACHE", scores_in_cache)
    query, key, value = torch.randn(3, 2, 3, 17, 16)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    found = attention.attend(query.bfloat16(), key.bfloat16(), value.bfloat16())
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), expected, atol=0.03)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_low_precision_stays_near_and_returns_float32(precision: torch.dtype) -> None:
    backbone = small_backbone(img_size=64, patch_size=16)
    images = torch.randn(2, 3, 64, 96)
    exact, low = (backbone.forward(images, FACETS, -1, p) for p in (torch.float32, precision))
    for name in FACETS:
        assert low.facets[name].dtype == torch.float32
        similarity = torch.cosine_similarity(low.facets[name], exact.facets[name], dim=-1)
        assert similarity.min() > 0.99
    assert low.cls.dtype == low.cls_attention.dtype == torch.float32


def test_mistakes_name_what_is_allowed() -> None:
    backbone = small_backbone(img_size=64, patch_size=16)
    images = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match="-4 to 3"):
        backbone.forward(images, layer=4)
    with pytest.raises(ValueError, match=r"'keys'.*allowed"):
        backbone.forward(images, ("keys",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="auto"):
        resolve_precision("double", "cpu")  # type: ignore[arg-type]


def test_the_model_is_frozen() -> None:
    backbone = small_backbone(img_size=64, patch_size=16)
    assert not backbone.model.training
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18", "strides of 2, 4, 8, 16, 32 pixels"),
        ("swin_tiny_patch4_window7_224", "strides of 4, 8, 16, 32 pixels, so that there is no"),
        ("hiera_tiny_224", "no single grid of patches"),
        ("vit_small_patch16_18x2_224", "several attentions side by side"),
        ("vit_base_r50_s16_224", "the output of a HybridEmbed"),
        ("xcit_nano_12_p16_224", "from channel to channel"),
    ],
)
def test_other_architectures_are_refused_with_the_reason(name: str, reason: str) -> None:
    with torch.device("meta"), pytest.raises(WeightsError, match=reason) as refusal:
        build_network(name)
    assert f"{name!r} is not supported, because" in str(refusal.value)
    assert "supported: Vision Transformers of timm" in str(refusal.value)


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(WeightsError, match=r"did you mean .*vit_small_patch8_224"):
        build_network("vit_smal_patch8_224")
    with pytest.raises(WeightsError, match=r"allowed: .*vit_small_patch8_224\.dino"):
        build_network("vit_small_patch8_224.dine")


@pytest.mark.parametrize("declared", DECLARED.values(), ids=DECLARED)
def test_what_is_declared_of_a_model_is_so(declared: Declaration) -> None:
    backbone = outline(declared.name)
    assert {key: getattr(backbone, key) for key in declared.size} == declared.size
    parameters = list(find_family(declared.name)[1].parameters())
    assert bool(parameters) == declared.network != bool(declared.size)
    assert all(parameter.is_meta for parameter in parameters)


@pytest.mark.parametrize(
    "name", ["test_vit", "vit_small_patch14_reg4_dinov2.lvd142m", "mean_color"]
)
def test_the_size_of_a_model_is_seen_in_its_parameters(name: str) -> None:
    network, backbone = find_family(name)[1], outline(name)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    sizes = {key: getattr(backbone, key) for key in ("dim", "depth", "patch_size")}
    assert size_of(name, shapes) == sizes
    assert size_of(name, {**shapes, "head.weight": (2, 2)}) == (sizes if shapes else None)
    assert size_of("test_vit", {"head.weight": (2, 2)}) is None


def test_the_configuration_is_read_without_networks() -> None:
    program = (
        "import sys, lightcluster.extraction.settings as settings\n"
        "settings.BackboneSettings().source\n"
        "print({'torch', 'timm', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_auto_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, expected in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("float16", "cpu") == torch.float16
