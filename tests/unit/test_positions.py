"""Position embeddings at other sizes, against cubic interpolation written out in loops."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import write_manifest, write_patch_scores, write_png, write_region_maps
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightcluster.checkpoints import write_tensors
from lightcluster.config import parse_config
from lightcluster.errors import ConfigError
from lightcluster.extraction.backbones.positions import embed_positions, resize_as_released
from lightcluster.extraction.backbones.protocol import FACETS, Positions
from lightcluster.extraction.backbones.vision_transformer import VisionTransformerBackbone
from lightcluster.extraction.choice import choose_features
from lightcluster.extraction.shard import extract_features
from lightcluster.extraction.store import FeatureStore
from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators
from lightcluster.extraction.weights import fetch_weights
from lightcluster.files import read_arrays
from lightcluster.methods.cause.adoption import ABOUT, Trained, probe_of
from lightcluster.methods.cause.caching import cache_views
from lightcluster.regions.embedding import embed_regions
from lightcluster.reporting.parts import discover_parts

ensure_torchvision_operators()

from timm.models.vision_transformer import VisionTransformer  # noqa: E402

Weights = list[dict[int, float]]
"""For each place of a side, how much of each old place it takes."""


def keys_cubic(distance: float, a: float) -> float:
    """Keys' cubic convolution kernel (1981), whose slope at 1 is `a`."""
    x = abs(distance)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * (x**3 - 5 * x**2 + 8 * x - 4)
    return 0.0


def weights_as_released(old: int, new: int) -> Weights:
    """By a factor of (new + 0.1) / old: four places, those beyond the border being the border."""
    factor = (new + 0.1) / old
    sides = []
    for place in range(new):
        centre = (place + 0.5) / factor - 0.5
        taken: dict[int, float] = {}
        for near in range(floor(centre) - 1, floor(centre) + 3):
            inside = min(max(near, 0), old - 1)
            taken[inside] = taken.get(inside, 0.0) + keys_cubic(centre - near, -0.75)
        sides.append(taken)
    return sides


def weights_of_timm(old: int, new: int) -> Weights:
    """To a size, antialiased: the kernel is widened by what the side shrinks, and cut off."""
    step = old / new
    wide = max(step, 1.0)
    sides = []
    for place in range(new):
        centre = (place + 0.5) * step
        first, last = max(0, ceil(centre - 2 * wide - 1)), min(old, floor(centre + 2 * wide + 1))
        taken = {
            near: keys_cubic((near + 0.5 - centre) / wide, -0.5) for near in range(first, last)
        }
        total = sum(taken.values())
        sides.append({near: weight / total for near, weight in taken.items()})
    return sides


def resize_slowly(
    cells: Tensor, old: tuple[int, int], new: tuple[int, int], side: Callable[[int, int], Weights]
) -> Tensor:
    """Sum the old cells [R * C, D] for each new one, in double precision."""
    rows, columns = side(old[0], new[0]), side(old[1], new[1])
    grid = cells.double().reshape(*old, -1)
    found = [
        sum(
            (down * across * grid[r, c] for r, down in row.items() for c, across in column.items()),
            torch.zeros(grid.shape[-1], dtype=torch.float64),
        )
        for row in rows
        for column in columns
    ]
    return torch.stack(found)


WAYS: dict[Positions, Callable[[int, int], Weights]] = {
    "timm": weights_of_timm,
    "as_released": weights_as_released,
}
SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, st.integers(0, 9))
def test_released_resizing_is_that_of_the_loops(
    old: tuple[int, int], new: tuple[int, int], seed: int
) -> None:
    cells = torch.randn(1, old[0] * old[1], 2, generator=torch.Generator().manual_seed(seed))
    found = resize_as_released(cells, old, new)
    assert found.shape == (1, new[0] * new[1], 2)
    expected = resize_slowly(cells[0], old, new, weights_as_released)
    torch.testing.assert_close(found[0].double(), expected, atol=2e-5, rtol=2e-5)


def test_the_offset_never_makes_one_patch_more_or_less() -> None:
    for old in (10, 14, 28, 37):
        for side in range(1, 250):
            found = resize_as_released(torch.zeros(1, old, 1), (1, old), (1, side))
            assert found.shape[1] == side


MODELS: dict[str, dict[str, object]] = {
    "class token": {},
    "class token without a position": {"no_embed_class": True},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "registers": {"reg_tokens": 4},
    "registers without positions": {"reg_tokens": 4, "no_embed_class": True},
}


def small_model(**arguments: object) -> VisionTransformer:
    torch.manual_seed(2)
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0,
        dynamic_img_size=True, **arguments,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model.eval()


@pytest.mark.parametrize("positions", WAYS)
@pytest.mark.parametrize("grid", [(4, 4), (2, 8), (6, 6), (3, 7), (9, 2), (2, 2)])
@pytest.mark.parametrize("arguments", MODELS.values(), ids=MODELS)
def test_tokens_are_patches_and_resized_positions(
    arguments: dict[str, object], grid: tuple[int, int], positions: Positions
) -> None:
    """Models with registers are resized as by timm in both ways, as DINOv2's program does."""
    model = small_model(**arguments)
    patches = torch.randn(2, *grid, 24)
    registers = model.reg_token is not None
    embedding = model.pos_embed[0]
    count = len(embedding) - 16
    of_prefix, cells = embedding[:count].double(), embedding[count:]
    if grid != (4, 4):  # at the trained size nothing is resized
        side = weights_of_timm if registers else WAYS[positions]
        cells = resize_slowly(cells, (4, 4), grid, side)
    prefix = [t[0].double() for t in (model.cls_token, model.reg_token) if t is not None]
    expected = patches.flatten(1, 2).double() + cells
    if prefix:
        first = torch.cat(prefix)
        first = first + of_prefix if count else first
        expected = torch.cat([first.expand(2, -1, -1), expected], dim=1)
    with torch.no_grad():
        found = embed_positions(model, patches, positions)
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("positions", WAYS)
def test_a_pass_is_that_of_a_model_trained_at_the_size(positions: Positions) -> None:
    """Its position embedding is that of the loops, and needs no resizing."""
    model = small_model()
    cells = resize_slowly(model.pos_embed[0, 1:], (4, 4), (6, 3), WAYS[positions])
    larger = VisionTransformer(
        img_size=(48, 24), patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0,
        dynamic_img_size=True,
    )  # fmt: skip
    embedding = torch.cat([model.pos_embed[:, :1], cells[None].float()], dim=1)
    larger.load_state_dict({**model.state_dict(), "pos_embed": embedding})
    images = torch.randn(2, 3, 48, 24)
    means = ((0.5,) * 3, (0.5,) * 3)
    found = VisionTransformerBackbone(model, *means, positions).forward(images, FACETS)
    expected = VisionTransformerBackbone(larger, *means).forward(images, FACETS)
    for facet in FACETS:
        torch.testing.assert_close(found.facets[facet], expected.facets[facet], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.cls, expected.cls, atol=1e-4, rtol=0)
    other = VisionTransformerBackbone(
        model, *means, "timm" if positions == "as_released" else "as_released"
    )
    assert not torch.allclose(other.forward(images).cls, found.cls, atol=1e-4)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, Path]:
    """A manifest of two images, scores of patches, regions and random weights."""
    folder, random = tmp_path_factory.mktemp("shard"), np.random.default_rng(0)
    sizes = {"a.png": (64, 96), "b.png": (80, 64)}
    images = {
        name: write_png(folder / name, random.integers(0, 256, (*size, 3), np.uint8))
        for name, size in sizes.items()
    }
    manifest = write_manifest(folder / "manifest.csv", sizes, images=images)
    grids = {name: (height // 16, width // 16) for name, (height, width) in sizes.items()}
    scores = write_patch_scores(
        folder / "scores.npz", {name: np.ones(grid) for name, grid in grids.items()}
    )
    maps = write_region_maps(
        folder / "maps.npz", {name: np.ones(size, bool) for name, size in sizes.items()}, 0.1
    )
    weights = folder / "weights.safetensors"
    fetch_weights("test_vit", "random", None, 0, weights)
    return manifest, scores, maps, weights


ON: dict[str, Any] = {
    "mean": None, "std": None, "max_pixels": 10**6, "precision": "float32", "device": "cpu",
    "threads": 1,
}  # fmt: skip
SIZE: dict[str, Any] = {"short_side": 64, "max_tokens": 100}


def run_extraction(shard: tuple[Path, ...], output: Path, positions: Positions) -> Any:
    extract_features(
        shard[0], shard[3], output, **ON, **SIZE, positions=positions, facet="key", layer=-1,
        batch_size=2,
    )  # fmt: skip
    return FeatureStore.open(output, {"positions": positions}).cls.tolist()


def run_choice(shard: tuple[Path, ...], output: Path, positions: Positions) -> Any:
    choose_features(
        [shard[0]], shard[3], output, **ON, **SIZE, positions=positions, facet="auto",
        layer="auto", auto_images=8,
    )  # fmt: skip
    return output.read_text()


def run_regions(shard: tuple[Path, ...], output: Path, positions: Positions) -> Any:
    embed_regions(
        shard[0], shard[2], shard[3], output, **ON, positions=positions, margin=0.1,
        crop_size=64, masked=False, batch_size=2,
    )  # fmt: skip
    return read_arrays(output, "cls")["cls"].tolist()


def run_views(shard: tuple[Path, ...], output: Path, positions: Positions) -> Any:
    cache_views(
        shard[0], shard[3], output, **ON, positions=positions, framing="squash", mirrored=False,
        size=64, batch_size=2,
    )  # fmt: skip
    return FeatureStore.open(output, {"positions": positions}).cls.tolist()


def run_parts(shard: tuple[Path, ...], output: Path, positions: Positions) -> Any:
    discover_parts(
        [shard[0]], [shard[1]], shard[3], output.with_suffix(".png"), **ON, **SIZE,
        positions=positions, parts=4, seed=0, layer=-1,
    )  # fmt: skip
    return output.with_suffix(".png").read_bytes()


@pytest.mark.parametrize("run", [run_extraction, run_choice, run_regions, run_views, run_parts])
def test_every_step_that_runs_the_backbone_heeds_the_setting(
    run: Callable[..., Any], shard: tuple[Path, ...], tmp_path: Path
) -> None:
    first, again = (run(shard, tmp_path / name, "timm") for name in "ab")
    assert first == again
    assert run(shard, tmp_path / "c", "as_released") != first


def test_a_trained_head_is_applied_to_tokens_of_its_own_positions_only(tmp_path: Path) -> None:
    for seed, positions in enumerate(WAYS):
        trained = Trained(
            head="mlp", framing="crop", size=320, weights="a", mean=(0, 0, 0), std=(1, 1, 1),
            positions=positions, images="some", supervised=False,
        )  # fmt: skip
        write_tensors(
            probe_of(tmp_path, seed), {"a": torch.zeros(1)}, {ABOUT: trained.model_dump_json()}
        )
    config = {
        "method": "cause",
        "dataset": {"format": "folder", "images": "a"},
        "backbone": {"model": "vit_tiny_patch16_224", "weights": "random"},
        "cause": {"head": "mlp", "framing": "crop", "size": 320},
        "fit": {"model": str(tmp_path)},
        "labelling": {"seeds": [0, 1]},
    }
    with pytest.raises(ConfigError) as caught:
        parse_config(config)
    assert "backbone.positions = 'timm': the head of seed 1 was trained with 'as_released'" in str(
        caught.value
    )
    assert "seed 0" not in str(caught.value)
