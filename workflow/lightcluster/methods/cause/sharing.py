"""Files that runs of CAUSE share: tokens of crops and windows, clusterbooks and heads.

Their folder names are readable, and are equal for runs whose settings lead to the same files.
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
"""Keys that determine a clusterbook, besides the crops."""

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
"""Keys that determine a head, besides crops and clusterbook."""

_SHARE_OF_MLP = 224 / 320


def training_size(head: str, size: int) -> int:
    """Return the side of training crops in pixels, which is smaller for the head ``mlp``."""
    return round(_SHARE_OF_MLP * size) if head == "mlp" else size


def crops_id(config: CauseSections) -> str:
    """Return the folder name of the tokens of training crops, like `identity.features_id`."""
    return _crops_id(config, training_size(config.cause.head, config.cause.size))


def clusterbook_crops_id(config: CauseSections) -> str:
    """Return the folder name of the crops for the clusterbook; see `crops_id`."""
    full = config.cause.clusterbook_crops == "full"
    return _crops_id(config, config.cause.size) if full else crops_id(config)


def crop_size(config: CauseSections, crops: str) -> int:
    """Return the side in pixels of the training crops with this folder name."""
    of_head = crops == crops_id(config)
    return training_size(config.cause.head, config.cause.size) if of_head else config.cause.size


def _crops_id(config: CauseSections, size: int) -> str:
    cause = config.cause
    own = [size, cause.framing, cause.fractions, cause.mirrored, cause.resampling]
    return _tokens_id(config, size, own)


def views_id(config: CauseSections) -> str:
    """Return the folder name of the tokens of evaluation windows."""
    cause = config.cause
    own = [cause.size, cause.framing, cause.crf, cause.resampling]
    return _tokens_id(config, cause.size, own)


def clusterbook_id(config: CauseSections) -> str:
    """Return the folder name of the clusterbooks, one per seed."""
    content = [clusterbook_crops_id(config), *_values(CLUSTERBOOK_READS, config)]
    return f"{config.cause.codes}-{digest(content)}"


def head_id(config: CauseSections) -> str:
    """Return the folder name of the trained heads, one per seed."""
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
    # Crops of one or two sizes.
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
