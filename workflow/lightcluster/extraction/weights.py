"""Backbone weights, from wherever they come, as one verified safetensors file.

The file holds exactly the parameters of the timm model without its classifier, in float32. A
JSON file beside it records what it is, so that later steps can name the weights by their
SHA-256 without opening them.

Published layouts are translated by `extraction.layouts`; position embeddings of other grids are
fitted by timm's own filter. Every disagreement is an error, because weights that load only partly
still produce plausible features.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import math
import pickle
import re
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from lightcluster.errors import WeightsError
from lightcluster.extraction.backbone import Backbone, build_architecture, published_configuration
from lightcluster.extraction.layouts import Picked, name_as_timm, pick_network
from lightcluster.extraction.mean_color import MeanColor
from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators
from lightcluster.files import replacing
from lightcluster.sections import shorten

ensure_torchvision_operators()

import timm  # noqa: E402  (the operators must be declared first)
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn  # noqa: E402

log = logging.getLogger(__name__)

SOURCES = ("embedded", "hub", "file", "random", "none")

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
        ``none``: no network at all, but :class:`.mean_color.MeanColor`.
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
    network: VisionTransformer | None = None
    state: dict[str, Tensor] = {}
    taken = ""
    if source == "random":
        torch.manual_seed(seed)
        network = build_architecture(model)
        state = network.state_dict()
    elif source == "hub":
        network = _download(model)
        state = network.state_dict()
    elif source in ("file", "embedded"):
        if path is None:
            raise WeightsError("backbone.weights: a path is needed to read weights from a file")
        if source == "embedded" and not path.is_file():
            raise WeightsError(
                f"{path}: the embedded weights are missing; they come with the project's folder: "
                "install the package from there with `pip install -e .`, or set `backbone.weights`"
            )
        network = build_architecture(model)
        picked = read_checkpoint(path)
        if taken := picked.choice:
            log.info("%s: holds several networks; taken: %s", path, taken)
        state = convert_checkpoint(picked.tensors, network, path)
    elif source != "none":
        raise WeightsError(f"backbone.weights: source {source!r} unknown; allowed: {SOURCES}")

    state = {name: tensor.float().contiguous() for name, tensor in state.items()}
    with replacing(output) as temporary:
        temporary.write_bytes(safetensors.torch.save(state))
        record = _describe(model, source, network, state, temporary, taken)
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


def read_checkpoint(path: Path) -> Picked:
    """The network in a safetensors file or torch checkpoint.

    Parameters
    ----------
    path : Path
        Safetensors, told by its content; anything else is read as a torch checkpoint, in which
        only tensors, plain containers and the options that training scripts leave behind are
        allowed.

    Returns
    -------
    Picked
        By the names in the file; see `layouts.pick_network`.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, of another kind, holds code or holds no network.
    """
    if reason := _foreign_file(path):
        raise WeightsError(f"{path}: {reason}")
    try:
        if path.suffix == ".safetensors" or _is_safetensors(path):
            contents: Any = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):
                contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: refused, because it is no torch checkpoint or holds Python objects besides "
            "tensors, which could run code on loading; save its state_dict() alone, or convert "
            "it to safetensors where you trust it"
        ) from error
    except Exception as error:  # the readers raise whatever a damaged file leads them to
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        if len(cause) > 160 or not re.search("[a-z]", cause):  # advice for programmers; a number
            cause = type(error).__name__
        raise WeightsError(
            f"{path}: cannot be read as weights; it is damaged, or neither a safetensors file nor "
            f"a torch checkpoint ({cause})"
        ) from error
    return pick_network(contents, path)


_PART = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.\w+$")
_MAGIC = {
    b"\x89HDF": "is a file of HDF5 (Keras)",
    b"GGUF": "is a quantised file of GGUF",
    b"{": "is JSON, and holds no tensors",
    b"version https://git-lfs": "is a pointer of Git LFS; get the file itself with `git lfs pull`",
}
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_ADVICE = "give a safetensors file or a torch checkpoint"


def _foreign_file(path: Path) -> str | None:
    """Return what a file is that is no checkpoint, with what to do; None if nothing says so."""
    try:
        mode = path.stat().st_mode
    except OSError as error:  # a name that is too long, too
        return f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "is a folder; give the file in it, such as model.safetensors"
    if not stat.S_ISREG(mode):
        return "is no file; a pipe or device cannot be read again"
    in_parts = "of a network saved in parts; save it as one file (`max_shard_size='100GB'`)"
    if path.name.endswith(".index.json"):
        return f"is the index {in_parts}"
    if _PART.search(path.name):
        return f"is one part {in_parts}"
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith(".npy") for name in names):
            return f"is an archive of NumPy (JAX); {_ADVICE}"
        if any(PurePosixPath(name).name == "constants.pkl" for name in names):
            return "is a program of TorchScript; save the state_dict() of its network"
    if _is_safetensors(path):
        return None
    if start[257:262] == b"ustar" or start.startswith(_COMPRESSED):
        return "is an archive, or compressed; unpack it, and give the file of weights in it"
    found = next((what for magic, what in _MAGIC.items() if start.startswith(magic)), None)
    return f"{found}; {_ADVICE}" if found else None


def _is_safetensors(path: Path) -> bool:
    """Tell whether a file begins as safetensors do: the length of a header, and the header."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 2**32


def convert_checkpoint(
    checkpoint: dict[str, Tensor], network: VisionTransformer, path: Path
) -> dict[str, Tensor]:
    """The parameters of a network out of a checkpoint in a published layout.

    Parameters
    ----------
    checkpoint : dict of str to Tensor
        Of one network, by the names in the file.
    network : VisionTransformer
        Whose parameters are wanted. A position embedding of another grid is interpolated.
    path : Path
        Named in messages.

    Raises
    ------
    WeightsError
        If the network is of another size, or any parameter is missing, unexpected, of another
        shape or not finite.
    """
    expected = network.state_dict()
    tensors = name_as_timm(_plain_tensors(checkpoint, path), path)
    found, wanted = describe_architecture(tensors), describe_architecture(expected)
    if found is not None and found != wanted:
        # timm would resample patches, and a network of another size pass for the right one
        raise WeightsError(
            f"{path}: holds {found}; backbone.model is {wanted}: name the model of these weights"
        )
    if not any(name.startswith("blocks.") for name in tensors):
        raise WeightsError(
            f"{path}: holds a network of another kind, or in a layout that is not known; its "
            f"tensors are {shorten(sorted(tensors) or sorted(checkpoint), _LISTED)}"
        )
    if reason := _no_grid(tensors, network):
        raise WeightsError(f"{path}: {reason}")
    try:
        converted = checkpoint_filter_fn(dict(tensors), network)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: in no layout that can be converted for this model ({error})"
        ) from error
    converted = {
        name: tensor
        for name, tensor in converted.items()
        if not (name.startswith("fc_norm.") and name not in expected)
    }

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


def _no_grid(tensors: Mapping[str, Tensor], network: VisionTransformer) -> str | None:
    """Return why a position embedding is that of no square grid; None if it is, or is missing."""
    positions = tensors.get("pos_embed")
    if positions is None or "dist_token" in tensors:  # of a network with one token more
        return None
    shape = list(positions.shape)
    others = 0 if network.no_embed_class else network.num_prefix_tokens
    if len(shape) != 3 or shape[0] != 1:
        return f"pos_embed is {shape}; it must be [1, positions, features]"
    grid = shape[1] - others
    if grid < 1 or math.isqrt(grid) ** 2 != grid:
        less = f" without those of {others} other token" + "s" * (others > 1) if others else ""
        return f"pos_embed is {shape}; its positions{less} must be a square, such as 14 x 14"
    return None


def _plain_tensors(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return tensors after a look at their kind, which no later step would question.

    Raises
    ------
    WeightsError
        If one that belongs to a network holds no plain floating-point numbers.
    """
    for name, tensor in tensors.items():
        if name.endswith(("relative_position_index", "num_batches_tracked", "position_ids")):
            continue
        kind = str(tensor.dtype).removeprefix("torch.")
        if tensor.is_quantized or kind.startswith(("int", "uint", "qint", "quint", "float8")):
            raise WeightsError(
                f"{path}: {name} holds {kind}, as quantised weights do; save the network in "
                "float32, float16 or bfloat16"
            )
        if not tensor.is_floating_point():
            raise WeightsError(f"{path}: {name} holds {kind}; weights are floating-point numbers")
        if tensor.layout != torch.strided or tensor.is_meta:
            raise WeightsError(f"{path}: {name} is sparse or without values")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {name} claims more numbers than the file holds")
    return tensors


def describe_architecture(state: Mapping[str, Tensor]) -> str | None:
    """Return the size of a network in words, from its parameters; None if they do not show it."""
    patches = state.get("patch_embed.proj.weight")
    blocks = {match[1] for name in state if (match := re.match(r"blocks\.(\d+)\.", name))}
    if patches is None or patches.ndim != 4 or not blocks:
        return None
    dim, channels, height, width = patches.shape
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    return (
        f"{len(blocks)} blocks of {dim} features with patches of {height} x {width}"
        + (f", {registers} register tokens" if registers else "")
        + (f", images of {channels} channels" if channels != 3 else "")
    )


def _download(model: str) -> VisionTransformer:
    """The model with timm's published weights."""
    with torch.device("meta"):  # is it a model at all? asked without drawing its parameters
        configuration = published_configuration(build_architecture(model))
    if not timm.is_model_pretrained(model):
        raise WeightsError(
            f"backbone.model: timm publishes no weights for {model!r}; choose a model with "
            "weights, or set `backbone.weights: path/to/file.safetensors`"
        )
    try:
        return build_architecture(model, pretrained=True)
    except Exception as error:  # the hub client raises what its transport raises
        origin = configuration["hf_hub_id"] or configuration["url"]
        raise WeightsError(
            f"backbone.weights: {model!r} could not be downloaded and is not in the cache "
            f"({type(error).__name__}: {error}). Download the file from {origin} on a machine "
            "with a network, copy it here and set `backbone.weights: path/to/file.safetensors`"
        ) from error


def _describe(
    model: str,
    source: str,
    network: VisionTransformer | None,
    state: dict[str, Tensor],
    file: Path,
    taken: str,
) -> WeightsRecord:
    if network is None:
        backbone: Backbone = MeanColor()
        interpolation = "bicubic"
    else:
        configuration = published_configuration(network)
        backbone = Backbone(network, configuration["mean"], configuration["std"])
        interpolation = configuration["interpolation"]
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
        interpolation=interpolation,
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
