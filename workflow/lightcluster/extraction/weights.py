"""Backbone weights, from wherever they come, as one verified safetensors file.

The file holds exactly the parameters of the timm model without its classifier, in float32. A
JSON file beside it records what it is, so that later steps can name the weights by their
SHA-256 without opening them.

Published layouts are translated by the model's family (`backbones`). Every disagreement is an
error, because weights that load only partly still produce plausible features.
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
    """What a weights file holds; the contents of the JSON beside it.

    Attributes
    ----------
    model : str
        Name in timm.
    source : str
        ``embedded``, ``hub``, ``file``, ``random`` or ``none``.
    sha256 : str
        Of the safetensors file, hexadecimal.
    parameters : int
        Number of scalars.
    mean, std : tuple of float [3]
        Normalisation of RGB on the scale 0 to 1 that the model was trained with.
    interpolation : str
        How timm resizes images for it.
    patch_size, dim, heads, depth, prefix_tokens : int
    taken : str
        Which network of the file was taken, and which were not; empty where it holds but one.
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

    def normalization(
        self, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and std with which images are normalised: those given, else its own.

        The mean colour is not normalised otherwise, whatever is given.
        """
        if self.source == "none":
            return self.mean, self.std
        return tuple(mean or self.mean), tuple(std or self.std)


def fetch_weights(
    model: str, source: str, path: Path | None, seed: int, output: Path
) -> WeightsRecord:
    """Write the verified weights of a model, and the record of what they are.

    Parameters
    ----------
    model : str
        Name in timm, e.g. ``vit_small_patch8_224.dino``.
    source : str
        ``embedded``: those that ship with the project, at ``path``. ``hub``: timm's published
        weights, from its cache or the network (``HF_HUB_OFFLINE`` is respected). ``file``:
        ``path``. ``random``: an initialisation drawn with ``seed``.
        ``none``: the model is no network and has none.
    path : Path or None
        For ``embedded`` and ``file``: safetensors, or a torch checkpoint without code in it.
    seed : int
    output : Path
        The safetensors file; written under a temporary name, then renamed. The record goes to
        the same name with the suffix ``.json``.

    Raises
    ------
    WeightsError
        If the model is unknown or unsupported, or its weights cannot be had, read or matched.
    """
    if source not in SOURCES:
        raise WeightsError(f"backbone.weights: source {source!r} unknown; allowed: {SOURCES}")
    family, network = find_family(model)
    taken = ""
    if source == "random":
        torch.manual_seed(seed)
        network = family.build(model)
    elif source == "hub":
        network = family.download(model)
    state = network.state_dict()
    if source in ("file", "embedded"):
        file = _local_file(source, path)
        picked = read_checkpoint(file)
        if taken := picked.choice:
            log.info("%s: holds several networks; taken: %s", file, taken)
        state = convert_checkpoint(picked.tensors, family, network, file)

    state = {name: tensor.float().contiguous() for name, tensor in state.items()}
    with replacing(output) as temporary:
        temporary.write_bytes(safetensors.torch.save(state))
        record = _describe(model, source, family, network, state, temporary, taken)
    _write_record(record, output.with_suffix(".json"))
    return record


def read_record(weights: Path) -> WeightsRecord:
    """The record beside a weights file.

    Raises
    ------
    WeightsError
        If it is missing or not such a record.
    """
    path = weights.with_suffix(".json")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields["mean"], fields["std"] = tuple(fields["mean"]), tuple(fields["std"])
        return WeightsRecord(**fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a record of weights ({error})") from error


def convert_checkpoint(
    checkpoint: dict[str, Tensor], family: Family, network: nn.Module, path: Path
) -> dict[str, Tensor]:
    """The parameters of a network out of a checkpoint in a published layout.

    Parameters
    ----------
    checkpoint : dict of str to Tensor
        Of one network, by the names in the file.
    family : Family
    network : nn.Module
        Whose parameters are wanted.
    path : Path
        Named in messages.

    Raises
    ------
    WeightsError
        If the network is of another size, or any parameter is missing, unexpected, of another
        shape or not finite.
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
    """Return the file of weights; a WeightsError if there is none."""
    if path is None:
        raise WeightsError("backbone.weights: a path is needed to read weights from a file")
    if source == "embedded" and not path.is_file():
        raise WeightsError(
            f"{path}: the embedded weights are missing; they come with the project's folder: "
            "install the package from there with `pip install -e .`, or set `backbone.weights`"
        )
    return path


def _describe(
    model: str,
    source: str,
    family: Family,
    network: nn.Module,
    state: Mapping[str, Tensor],
    file: Path,
    taken: str,
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
        taken=taken,
    )


def _write_record(record: WeightsRecord, path: Path) -> None:
    text = json.dumps(dataclasses.asdict(record), indent=2) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
