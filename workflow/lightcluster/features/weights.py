"""Backbone weights, from wherever they come, as one verified safetensors file.

The file holds exactly the parameters of the timm model without its classifier, in float32. A
JSON file beside it records what it is, so that later steps can name the weights by their
SHA-256 without opening them.

Original checkpoints of DINO, DINOv2 and MAE are converted by timm's own filter. Everything that
is left out on purpose is listed in ``_DROPPED``; every other disagreement is an error, because
weights that load only partly still produce plausible features.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from lightcluster.errors import WeightsError
from lightcluster.features.backbone import Backbone, build_architecture, published_configuration
from lightcluster.features.mean_color import MeanColor
from lightcluster.features.torchvision_shim import ensure_torchvision_operators
from lightcluster.files import replacing

ensure_torchvision_operators()

import timm  # noqa: E402  (the operators must be declared first)
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn  # noqa: E402

SOURCES = ("embedded", "hub", "file", "random", "none")

_NESTINGS = ("state_dict", "model", "teacher", "encoder")
_PREFIXES = re.compile(r"^(?:(?:module|backbone|encoder)\.)+")
_DROPPED = re.compile(
    r"^(?:head\.|head_dist\.|dino_head\.|ibot_head\.|mask_token$|decoder_)"
)  # classifiers, projection heads of self-distillation, masked-image decoders
_LISTED = 10


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
        state = convert_checkpoint(read_checkpoint(path), network, path)
    elif source != "none":
        raise WeightsError(f"backbone.weights: source {source!r} unknown; allowed: {SOURCES}")

    state = {name: tensor.float().contiguous() for name, tensor in state.items()}
    with replacing(output) as temporary:
        temporary.write_bytes(safetensors.torch.save(state))
        record = _describe(model, source, network, state, temporary)
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


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or torch checkpoint, without nesting and prefixes.

    Parameters
    ----------
    path : Path
        ``*.safetensors``; anything else is read as a torch checkpoint, in which only tensors,
        plain containers and the options that training scripts leave behind are allowed.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    WeightsError
        If the file is missing, damaged, holds code or holds no tensors.
    """
    try:
        if path.suffix == ".safetensors":
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
        raise WeightsError(f"{path}: cannot be read as weights ({error})") from error

    while isinstance(contents, dict) and (
        inner := [name for name in _NESTINGS if isinstance(contents.get(name), dict)]
    ):
        contents = contents[inner[0]]
    tensors: dict[str, Tensor] = {}
    for name, tensor in contents.items() if isinstance(contents, dict) else ():
        if isinstance(tensor, Tensor):
            short = _PREFIXES.sub("", str(name))
            if short in tensors:
                raise WeightsError(f"{path}: holds several networks, all with a {short!r}")
            tensors[short] = tensor
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors, also not under {', '.join(_NESTINGS)}")
    return tensors


def convert_checkpoint(
    checkpoint: dict[str, Tensor], network: VisionTransformer, path: Path
) -> dict[str, Tensor]:
    """The parameters of a network out of a checkpoint in any layout that timm knows.

    Parameters
    ----------
    checkpoint : dict of str to Tensor
        As :func:`read_checkpoint` returns it.
    network : VisionTransformer
        Whose parameters are wanted. A position embedding of another grid is interpolated.
    path : Path
        Named in messages.

    Raises
    ------
    WeightsError
        If any parameter is missing, unexpected, of another shape or not finite.
    """
    expected = network.state_dict()
    patches, wanted = checkpoint.get("patch_embed.proj.weight"), network.patch_embed.proj.weight
    if patches is not None and patches.ndim == 4 and patches.shape != wanted.shape:
        # timm would resample it, and a network of another patch size pass for the right one
        raise WeightsError(
            f"{path}: patch_embed.proj.weight is {list(patches.shape)}, the model wants "
            f"{list(wanted.shape)}; is backbone.model the architecture of these weights?"
        )
    try:
        converted = checkpoint_filter_fn(dict(checkpoint), network)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: in no layout that timm can convert for this model ({error})"
        ) from error
    converted = {
        name: tensor
        for name, tensor in converted.items()
        if not _DROPPED.match(name) and not (name.startswith("fc_norm.") and name not in expected)
    }

    mismatches = {
        "missing": sorted(set(expected) - set(converted)),
        "unexpected": sorted(set(converted) - set(expected)),
        "of another shape": [
            f"{name} {list(converted[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in converted and converted[name].shape != tensor.shape
        ],
        "not finite": [
            name for name, tensor in converted.items() if not torch.isfinite(tensor).all()
        ],
    }
    found = [f"{kind}: {_list_some(names)}" for kind, names in mismatches.items() if names]
    if found:
        raise WeightsError(f"{path}: does not fit the model. " + "; ".join(found))
    return converted


def _list_some(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


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
    )


def _write_record(record: WeightsRecord, path: Path) -> None:
    text = json.dumps(dataclasses.asdict(record), indent=2) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
