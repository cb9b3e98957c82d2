"""Readable names for files that runs share: backbone weights and features.

Runs whose settings lead to the same files compute the same name, and therefore share the files.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

from lightcluster.extraction.settings import BackboneSettings
from lightcluster.methods.sections import CommonSections

Settings = TypeVar("Settings", bound=CommonSections)


def weights_id(backbone: BackboneSettings) -> str:
    """Return a file name for the weights, e.g. ``vit_small_patch8_224.dino-hub-1f0c2a3b``."""
    source = backbone.source
    tag = {"random": f"random{backbone.seed}", "file": _plain(Path(backbone.weights).stem)}
    weights = backbone.weights if source != "none" else None
    content = [backbone.model, weights, backbone.seed if source == "random" else None]
    return f"{_plain(backbone.model)}-{tag.get(source, source)}-{digest(content)}"


def features_id(config: CommonSections) -> str:
    """Return a folder name for the features: model, weights, facet, layer, size and a digest."""
    features = config.features
    layer = {-1: "last", "auto": "auto"}.get(features.layer, f"layer{features.layer}")
    unused = set() if features.automatic else {"auto_images"}
    if features.rotation == "before":  # features of earlier versions keep their names
        unused.add("rotation")
    content = [
        weights_id(config.backbone),
        config.backbone.mean,
        config.backbone.std,
        config.backbone.positions,
        features.model_dump(mode="json", exclude=unused),
    ]
    weights = weights_id(config.backbone).rpartition("-")[0]
    return f"{weights}-{features.facet}-{layer}-{features.short_side}-{digest(content)}"


def as_shared(config: Settings, wildcard: str) -> Settings:
    """Return a run's settings, with fixed values where runs that share its weights may differ.

    For other shared files, the name covers everything that their steps read.
    """
    if wildcard != "weights":
        return config
    source = config.backbone.source
    fixed: dict[str, object] = {"seed": 0} if source != "random" else {}
    fixed |= {"weights": "random"} if source == "none" else {}
    return config.model_copy(update={"backbone": config.backbone.model_copy(update=fixed)})


def with_split(images: str, split: str | None) -> str:
    """Return a description of images with their split, if they have one."""
    return f"{images} (split {split})" if split else images


def digest(content: Any) -> str:
    """Return a short digest of values of JSON types, for use in names."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=4).hexdigest()


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)[:60] or "unnamed"
