"""Backbone weights of any source, saved as one verified safetensors file.

The file contains exactly the parameters of the timm model without its classifier, in float32. A
JSON file beside it describes them, so that later steps know their SHA-256 without opening them.

The model's family translates published layouts (`backbones`). Every mismatch is an error, because
partly loaded weights still produce plausible features.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from lightcluster.errors import WeightsError
from lightcluster.extraction.backbones.protocol import Family
from lightcluster.extraction.backbones.registry import find_family
from lightcluster.extraction.checkpoint_files import plain_tensors, read_checkpoint
from lightcluster.extraction.settings import Source
from lightcluster.files import replacing
from lightcluster.sections import shorten

log = logging.getLogger(__name__)

SOURCES = typing.get_args(Source)

_LISTED = 3


@dataclass(frozen=True)
class WeightsRecord:
    """Description of a weights file; the contents of the JSON file beside it.

    Attributes
    ----------
    model : str
        Name in timm.
    source : str
        ``embedded``, ``hub``, ``file``, ``random`` or ``none``.
    sha256 : str
        Hash of the safetensors file, hexadecimal.
    parameters : int
        Number of scalars.
    mean, std : tuple of float [3]
        RGB normalisation with which the model was trained, in [0, 1].
    interpolation : str
        Filter with which timm resizes images for it.
    patch_size, dim, heads, depth, prefix_tokens : int
    taken : str
        Which network of the file was used, and which were not; empty if the file has only one.
    origin : str
        Of weights from the hub: repository, commit and file, or the URL; empty for others.
    """

    model: str
    source: str
    sha256: str
    parameters: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    patch_size: int
    dim: int
    heads: int
    depth: int
    prefix_tokens: int
    taken: str = ""
    origin: str = ""

    def normalization(
        self, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and std for input normalisation: the given ones, else the model's own.

        The mean-colour baseline always uses its own.
        """
        if self.source == "none":
            return self.mean, self.std
        return tuple(mean or self.mean), tuple(std or self.std)


def fetch_weights(
    model: str,
    source: str,
    path: Path | None,
    seed: int,
    output: Path,
    revision: str | None = None,
) -> WeightsRecord:
    """Write the verified weights of a model, and their record.

    Parameters
    ----------
    model : str
        Name in timm, e.g. ``vit_small_patch8_224.dino``.
    source : str
        ``embedded``: the weights in this project, at ``path``. ``hub``: timm's published weights,
        from its cache or the network (``HF_HUB_OFFLINE`` is respected). ``file``: ``path``.
        ``random``: a random initialisation with ``seed``. ``none``: the model is not a network and
        has no weights.
    path : Path or None
        For ``embedded`` and ``file``: a safetensors file, or a torch checkpoint without code.
    seed : int
        Seed for ``random``.
    output : Path
        The safetensors file; written under a temporary name, then renamed. The record has the same
        name with the suffix ``.json``.
    revision : str, optional
        For ``hub``: commit, tag or branch of the repository; by default the newest commit.

    Returns
    -------
    WeightsRecord

    Raises
    ------
    WeightsError
        If the model is unknown or not supported, or its weights cannot be downloaded or read, or
        do not fit it.
    """
    if source not in SOURCES:
        raise WeightsError(f"backbone.weights: unknown source {source!r}; allowed: {SOURCES}")
    family, network = find_family(model)
    taken = origin = ""
    if source == "random":
        torch.manual_seed(seed)
        network = family.build(model)
    elif source == "hub":
        network, origin = family.download(model, revision)
        log.info("weights of %s", origin)
    state = network.state_dict()
    if source in ("file", "embedded"):
        file = _local_file(source, path)
        picked = read_checkpoint(file)
        if taken := picked.choice:
            log.info("%s contains several networks; using %s", file, taken)
        state = convert_checkpoint(picked.tensors, family, network, file)

    state = {name: tensor.float().contiguous() for name, tensor in state.items()}
    with replacing(output) as temporary:
        temporary.write_bytes(safetensors.torch.save(state))
        record = _describe(model, source, family, network, state, temporary)
        record = dataclasses.replace(record, taken=taken, origin=origin)
    _write_record(record, output.with_suffix(".json"))
    return record


def read_record(weights: Path) -> WeightsRecord:
    """Read the record beside a weights file.

    Raises
    ------
    WeightsError
        If it is missing or damaged.
    """
    path = weights.with_suffix(".json")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields["mean"], fields["std"] = tuple(fields["mean"]), tuple(fields["std"])
        return WeightsRecord(**fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a valid weights record ({error})") from error


def convert_checkpoint(
    checkpoint: dict[str, Tensor], family: Family, network: nn.Module, path: Path
) -> dict[str, Tensor]:
    """Convert a checkpoint in a published layout to the parameters of a network.

    Parameters
    ----------
    checkpoint : dict of str to Tensor
        Tensors of one network, by the names in the file.
    family : Family
    network : nn.Module
        The network whose parameters are needed; may be on the meta device.
    path : Path
        The file, for messages.

    Returns
    -------
    dict of str to Tensor
        By the names in `network`.

    Raises
    ------
    WeightsError
        If the network has another size, or a parameter is missing, unexpected, of another shape or
        not finite.
    """
    expected = network.state_dict()
    converted = family.translate(plain_tensors(checkpoint, path), network, path)

    mismatches = {
        "missing": sorted(set(expected) - set(converted)),
        "unexpected": sorted(set(converted) - set(expected)),
        "of another shape": [
            f"{name} {list(converted[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in converted and converted[name].shape != tensor.shape
        ],
    }
    if not any(mismatches.values()):
        mismatches["not finite"] = [
            name for name, tensor in converted.items() if not torch.isfinite(tensor.float()).all()
        ]
    kinds = [f"{kind}: {shorten(names, _LISTED)}" for kind, names in mismatches.items() if names]
    if kinds:
        raise WeightsError(f"{path}: does not fit the model. " + "; ".join(kinds))
    return converted


def _local_file(source: str, path: Path | None) -> Path:
    """Return the weights file, or raise a WeightsError if there is none."""
    if path is None:
        raise WeightsError("backbone.weights: needs a path to read weights from a file")
    if source == "embedded" and not path.is_file():
        raise WeightsError(
            f"{path}: the embedded weights are missing; they are part of the repository: install "
            "the package from there with `pip install -e .`, or set `backbone.weights`"
        )
    return path


def _describe(
    model: str,
    source: str,
    family: Family,
    network: nn.Module,
    state: Mapping[str, Tensor],
    file: Path,
) -> WeightsRecord:
    backbone = family.open(network, "meta")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    red, green, blue = backbone.mean
    red_spread, green_spread, blue_spread = backbone.std
    return WeightsRecord(
        model=model,
        source=source,
        sha256=digest,
        parameters=sum(tensor.numel() for tensor in state.values()),
        mean=(red, green, blue),
        std=(red_spread, green_spread, blue_spread),
        interpolation=family.published(network).interpolation,
        patch_size=backbone.patch_size,
        dim=backbone.dim,
        heads=backbone.heads,
        depth=backbone.depth,
        prefix_tokens=backbone.prefix_tokens,
    )


def _write_record(record: WeightsRecord, path: Path) -> None:
    text = json.dumps(dataclasses.asdict(record), indent=2) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
