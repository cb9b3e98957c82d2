"""Small files of each step, made by the package's own writers, and slow references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from lightcluster.datasets.entries import LabelFile
from lightcluster.datasets.manifest import Row, write_rows
from lightcluster.digests import digest_file
from lightcluster.extraction.backbones.registry import find_family
from lightcluster.extraction.store import FeatureStoreWriter, ImageFeatures
from lightcluster.files import encode_names, write_arrays
from lightcluster.masks import patches
from lightcluster.regions import maps
from lightcluster.regions.components import find_components

quick = settings(max_examples=min(50, settings.default.max_examples), deadline=None)
"""Few examples, and no time limit for each: the machine may be busy."""


def on_screens(pages: Sequence[str]) -> list[Any]:
    """Return each page with each width and colour scheme in which it is looked at.

    `make test` looks at each page once: wide and light, or narrow and dark, in turn.
    """
    return [
        pytest.param(
            page, width, scheme,
            marks=[] if (width, scheme) == [(1400, "light"), (400, "dark")][number % 2]
            else pytest.mark.thorough,
        )
        for number, page in enumerate(pages) for width in (1400, 400)
        for scheme in ("light", "dark")
    ]  # fmt: skip


class Payload:
    """Runs code when unpickled without protection."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def build_network(model: str) -> nn.Module:
    """Build the network of a model, untrained."""
    return find_family(model)[0].build(model)


def write_store(
    path: Path,
    keys: Sequence[NDArray[np.floating]],
    *,
    attention: Sequence[NDArray[np.floating]] | None = None,
    cls: NDArray[np.floating] | None = None,
    image_ids: Sequence[str] | None = None,
) -> Path:
    """Write a feature store from the keys [rows, columns, dim] of each image."""
    dim = keys[0].shape[-1]
    grids = np.asarray([key.shape[:2] for key in keys])
    ids = list(image_ids or (f"image-{number}.png" for number in range(len(keys))))
    with FeatureStoreWriter(path, grids, grids * 16, ids, ("key",), dim, {}) as writer:
        for number, (image_id, key) in enumerate(zip(ids, keys, strict=True)):
            flat = key.reshape(-1, dim).astype(np.float16)
            weights = np.zeros(len(flat)) if attention is None else attention[number].ravel()
            token = np.zeros(dim) if cls is None else cls[number]
            features = ImageFeatures(
                cls=token.astype(np.float32),
                cls_attention=weights.astype(np.float16),
                colors=np.zeros((len(flat), 4, 3), np.uint8),
                facets={"key": flat},
            )
            writer.append(image_id, features)
    return path


def write_tokens(path: Path, tokens: np.ndarray, names: list[str] | None = None) -> Path:
    """Write the store of tokens [views, side * side, dim]."""
    count, patches, dim = tokens.shape
    grid = np.full((count, 2), math.isqrt(patches), np.int32)
    names = names or [f"view#{number}" for number in range(count)]
    attributes = {"patch_size": 4, "mean": [0.5] * 3, "std": [0.5] * 3, "weights_sha256": "a"}
    with FeatureStoreWriter(path, grid, grid * 4, names, ("token",), dim, attributes) as writer:
        for name, image in zip(names, tokens, strict=True):
            writer.append(
                name,
                ImageFeatures(
                    cls=image.mean(0).astype(np.float32),
                    cls_attention=np.zeros(patches, np.float16),
                    colors=np.zeros((patches, 4, 3), np.uint8),
                    facets={"token": image.astype(np.float16)},
                ),
            )
    return path


def groups_of_tokens(views: int, seed: int = 0, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens [views, side², 16] of three directions, one in each quarter; their groups."""
    rng = np.random.default_rng(seed)
    row, column = np.indices((side, side)).reshape(2, -1) // (side // 2)
    group = rng.integers(3, size=(views, 4))[:, 2 * row + column]
    tokens = 3 * np.eye(3, 16)[group] + rng.normal(0, 0.3, (views, side * side, 16))
    return tokens, group


def write_classes(path: Path, classes: Mapping[int, str]) -> Path:
    lines = ["id,name", *(f"{number},{name}" for number, name in classes.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_png(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def indexed(label: Path) -> LabelFile:
    """Return a label map as the manifest of a dataset names it."""
    return LabelFile(label, digest=digest_file(label))


def write_manifest(
    path: Path,
    sizes: Mapping[str, tuple[int, int]],
    *,
    labels: Mapping[str, Path] | None = None,
    images: Mapping[str, Path] | None = None,
    outputs: Mapping[str, str] | None = None,
) -> Path:
    """Write the manifest of one shard from the size of each image; the files are there already."""
    places = {image_id: (images or {}).get(image_id, Path("unused")) for image_id in sizes}
    rows = [
        Row(
            image_id=image_id,
            path=places[image_id],
            label=indexed(labels[image_id]) if image_id in (labels or {}) else None,
            output=(outputs or {}).get(image_id, f"{image_id}.png"),
            height=height,
            width=width,
            digest=digest_file(places[image_id]),
        )
        for image_id, (height, width) in sizes.items()
    ]
    write_rows(path, rows, Row)
    return path


def write_level_masks(path: Path, votes: Mapping[str, NDArray[np.bool_]]) -> Path:
    """Write the masks of the levels, [3, rows, columns], of each image; merged, their mean."""
    merged = np.concatenate([vote.mean(0).ravel() for vote in votes.values()])
    patches.write_level_masks(
        path,
        patches.LevelMasks(
            list(votes),
            np.asarray([vote.shape[1:] for vote in votes.values()], np.int32),
            np.concatenate([vote.reshape(3, -1) for vote in votes.values()], axis=1),
            merged.astype(np.float16),
        ),
    )
    return path


def write_patch_scores(path: Path, scores: Mapping[str, NDArray[np.floating]]) -> Path:
    """Write the score, [rows, columns], of each image."""
    flat = np.concatenate([score.ravel() for score in scores.values()])
    grid = np.asarray([score.shape for score in scores.values()], np.int32)
    patches.write_patch_scores(
        path, patches.PatchScores(list(scores), grid, flat.astype(np.float16))
    )
    return path


def write_region_maps(
    path: Path, masks: Mapping[str, NDArray[np.bool_]], min_area: float, dim: int = 3
) -> Path:
    """Write the components of masks as regions, described by nothing in particular."""
    found = {name: find_components(mask, min_area) for name, mask in masks.items()}
    count = sum(len(each.area) for each in found.values())
    maps.write_region_maps(
        path,
        list(masks),
        np.asarray([mask.shape for mask in masks.values()], np.int32).reshape(-1, 2),
        [
            (regions.box, regions.area, maps.deflate(regions, name))
            for name, regions in found.items()
        ],
        np.ones((count, dim), np.float32),
    )
    return path


def write_pixel_masks(path: Path, masks: Mapping[str, NDArray[np.bool_]]) -> Path:
    write_arrays(
        path,
        image_id=encode_names(list(masks)),
        size=np.asarray([mask.shape for mask in masks.values()], np.int32).reshape(-1, 2),
        packed=np.concatenate([np.packbits(mask) for mask in masks.values()]),
    )
    return path
