"""Readable names of what runs share: backbone weights, features, and trained heads.

Two runs whose settings lead to the same files have the same name for them, and so share them.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from lightcluster.config import Config, lookup
from lightcluster.extraction.settings import EMBEDDED, MEAN_COLOR, BackboneSettings
from lightcluster.steps import STEPS

EMBEDDED_WEIGHTS = Path(__file__).resolve().parents[2] / "resources" / f"{EMBEDDED}.safetensors"
"""The weights that ship with the project; ``resources/README.md`` is their model card."""


def weights_source(backbone: BackboneSettings) -> str:
    """Return ``embedded``, ``random``, ``hub``, ``file``, or ``none`` without a network."""
    if backbone.model == MEAN_COLOR:
        return "none"
    return backbone.weights if backbone.weights in ("embedded", "random", "hub") else "file"


def local_weights(backbone: BackboneSettings) -> Path | None:
    """Return the file that the weights are read from, None where they come from elsewhere."""
    files = {"embedded": EMBEDDED_WEIGHTS, "file": Path(backbone.weights)}
    return files.get(weights_source(backbone))


def weights_id(backbone: BackboneSettings) -> str:
    """Return a file name for the weights, e.g. ``vit_small_patch8_224.dino-hub-1f0c2a3b``."""
    source = weights_source(backbone)
    tag = {"random": f"random{backbone.seed}", "file": _plain(Path(backbone.weights).stem)}
    weights = backbone.weights if source != "none" else None
    content = [backbone.model, weights, backbone.seed if source == "random" else None]
    return f"{_plain(backbone.model)}-{tag.get(source, source)}-{_digest(content)}"


def features_id(config: Config) -> str:
    """Return a folder name for the features: model, weights, facet, layer, size and a digest."""
    features = config.features
    layer = {-1: "last", "auto": "auto"}.get(features.layer, f"layer{features.layer}")
    content = [
        weights_id(config.backbone),
        config.backbone.mean,
        config.backbone.std,
        config.backbone.positions,
        features.model_dump(mode="json", exclude=set() if features.automatic else {"auto_images"}),
    ]
    weights = weights_id(config.backbone).rpartition("-")[0]
    return f"{weights}-{features.facet}-{layer}-{features.short_side}-{_digest(content)}"


def crops_id(config: Config) -> str:
    """Return a folder name for the tokens of training crops, as `features_id`."""
    return _crops_id(config, training_size(config.cause.head, config.cause.size))


def clusterbook_crops_id(config: Config) -> str:
    """Return a folder name for those that the clusterbook is trained on; see `crops_id`."""
    full = config.cause.clusterbook_crops == "full"
    return _crops_id(config, config.cause.size) if full else crops_id(config)


def _crops_id(config: Config, size: int) -> str:
    cause = config.cause
    own = [size, cause.framing, cause.fractions, cause.mirrored, cause.resampling]
    return _tokens_id(config, size, own)


def views_id(config: Config) -> str:
    """Return a folder name for the tokens that images are segmented by, likewise."""
    cause = config.cause
    own = [cause.size, cause.framing, cause.crf, cause.resampling]
    return _tokens_id(config, cause.size, own)


def clusterbook_id(config: Config) -> str:
    """Return a folder name for the clusterbooks, one of each seed, likewise."""
    content = [clusterbook_crops_id(config), *_read_by("fit_clusterbook", config)]
    return f"{config.cause.codes}-{_digest(content)}"


def head_id(config: Config) -> str:
    """Return a folder name for the trained heads, one of each seed, likewise."""
    labels = config.cause.linear_probe == "as_released"
    content = [clusterbook_id(config), crops_id(config), labels, *_read_by("train_head", config)]
    return f"{config.cause.head}-{_digest(content)}"


def _read_by(step: str, config: Config) -> list[Any]:
    return [lookup(config, key) for key in STEPS[step].reads]


def as_shared(config: Config, wildcard: str) -> Config:
    """Return a run's settings without those in which runs that share its weights may differ.

    Other names that runs share, by their wildcard, hold all that their steps read.
    """
    if wildcard != "weights":
        return config
    source = weights_source(config.backbone)
    fixed: dict[str, object] = {"seed": 0} if source != "random" else {}
    fixed |= {"weights": "random"} if source == "none" else {}
    return config.model_copy(update={"backbone": config.backbone.model_copy(update=fixed)})


_SHARE_OF_MLP = 224 / 320


def training_size(head: str, size: int) -> int:
    """Return the side at which crops are seen: less where a head sees each token by itself."""
    return round(_SHARE_OF_MLP * size) if head == "mlp" else size


def _tokens_id(config: Config, size: int, own: list[Any]) -> str:
    backbone = config.backbone
    content = [weights_id(backbone), backbone.mean, backbone.std, backbone.positions,
               config.features.precision, *own]  # fmt: skip
    return f"{weights_id(backbone).rpartition('-')[0]}-{size}-{_digest(content)}"


def with_split(images: str, split: str | None) -> str:
    """Return a name of images, with their split if they have one."""
    return f"{images} (split {split})" if split else images


def _digest(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=4).hexdigest()


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)[:60] or "unnamed"
