"""What runs of CAUSE share: tokens of crops and of windows, clusterbooks and heads.

Each has a readable name, and runs whose settings lead to the same files the same one.
"""

from __future__ import annotations

from typing import Any

from lightcluster.identity import digest, weights_id
from lightcluster.methods.cause.settings import CauseSections
from lightcluster.methods.protocol import Shared
from lightcluster.sections import lookup

CLUSTERBOOK_READS = (
    "cause.codes",
    "cause.batch_size",
    "cause.learning_rate",
    "cause.least_steps",
)
"""Keys on which a clusterbook depends, besides the crops."""

HEAD_READS = (
    "cause.head",
    "cause.bank",
    "cause.batch_size",
    "cause.learning_rate",
    "cause.weight_decay",
    "cause.clip",
    "cause.least_steps",
    "cause.teacher_start",
    "cause.framing",
    "cause.fractions",
    "cause.mirrored",
    "dataset.ignore",
)
"""Keys on which a head depends, besides crops and clusterbook."""

_SHARE_OF_MLP = 224 / 320


def training_size(head: str, size: int) -> int:
    """Return the side at which crops are seen: less where a head sees each token by itself."""
    return round(_SHARE_OF_MLP * size) if head == "mlp" else size


def crops_id(config: CauseSections) -> str:
    """Return a folder name for the tokens of training crops, as `identity.features_id`."""
    return _crops_id(config, training_size(config.cause.head, config.cause.size))


def clusterbook_crops_id(config: CauseSections) -> str:
    """Return a folder name for those that the clusterbook is trained on; see `crops_id`."""
    full = config.cause.clusterbook_crops == "full"
    return _crops_id(config, config.cause.size) if full else crops_id(config)


def crop_size(config: CauseSections, crops: str) -> int:
    """Return the side, in pixels, at which the training crops of this name are seen."""
    of_head = crops == crops_id(config)
    return training_size(config.cause.head, config.cause.size) if of_head else config.cause.size


def _crops_id(config: CauseSections, size: int) -> str:
    cause = config.cause
    own = [size, cause.framing, cause.fractions, cause.mirrored, cause.resampling]
    return _tokens_id(config, size, own)


def views_id(config: CauseSections) -> str:
    """Return a folder name for the tokens that images are segmented by, likewise."""
    cause = config.cause
    own = [cause.size, cause.framing, cause.crf, cause.resampling]
    return _tokens_id(config, cause.size, own)


def clusterbook_id(config: CauseSections) -> str:
    """Return a folder name for the clusterbooks, one of each seed, likewise."""
    content = [clusterbook_crops_id(config), *_values(CLUSTERBOOK_READS, config)]
    return f"{config.cause.codes}-{digest(content)}"


def head_id(config: CauseSections) -> str:
    """Return a folder name for the trained heads, one of each seed, likewise."""
    labels = config.cause.linear_probe == "as_released"
    content = [clusterbook_id(config), crops_id(config), labels, *_values(HEAD_READS, config)]
    return f"{config.cause.head}-{digest(content)}"


def _values(keys: tuple[str, ...], config: CauseSections) -> list[Any]:
    return [lookup(config, key) for key in keys]


def _tokens_id(config: CauseSections, size: int, own: list[Any]) -> str:
    backbone = config.backbone
    content = [weights_id(backbone), backbone.mean, backbone.std, backbone.positions,
               config.features.precision, *own]  # fmt: skip
    return f"{weights_id(backbone).rpartition('-')[0]}-{size}-{digest(content)}"


CROPS: Shared[CauseSections] = Shared(
    wildcard="crops",
    folder="crops",
    # Of one size, or of two.
    ids=lambda config: list(dict.fromkeys([crops_id(config), clusterbook_crops_id(config)])),
    fitted_only=True,
)
VIEWS: Shared[CauseSections] = Shared(
    wildcard="views", folder="views", ids=lambda config: [views_id(config)]
)
CLUSTERBOOK: Shared[CauseSections] = Shared(
    wildcard="clusterbook",
    folder="clusterbooks",
    ids=lambda config: [clusterbook_id(config)],
    seeded=True,
    fitted_only=True,
)
HEAD: Shared[CauseSections] = Shared(
    wildcard="head",
    folder="heads",
    ids=lambda config: [head_id(config)],
    seeded=True,
    fitted_only=True,
)
