"""Creating and downloading networks of timm by name."""

from __future__ import annotations

import difflib
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from huggingface_hub import constants
from torch import nn
from torch.overrides import TorchFunctionMode

from lightcluster.errors import WeightsError, reason_of
from lightcluster.extraction.backbones import hub
from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators
from lightcluster.sections import shorten

ensure_torchvision_operators()

import timm  # noqa: E402  (the operators must be declared first)
from timm.models import get_arch_pretrained_cfgs  # noqa: E402


def is_known(model: str) -> bool:
    """Return whether timm has a model, and weights with its tag if the name has one."""
    name, _, tag = model.partition(".")
    return timm.is_model(name) and (not tag or model in get_arch_pretrained_cfgs(name))


def explain_unknown(model: str, supported: str) -> str:
    """Return a message about a model name that timm does not know.

    Parameters
    ----------
    model : str
    supported : str
        Supported models, to list if no name is similar.
    """
    name = model.partition(".")[0]
    if timm.is_model(name):
        allowed = ", ".join(get_arch_pretrained_cfgs(name)) or name
        return f"timm has no weights {model!r}; allowed: {allowed}"
    known = timm.list_models() + timm.list_models(pretrained=True)
    close = difflib.get_close_matches(model, known, n=5)
    hint = f"did you mean {', '.join(close)}?" if close else f"supported: {supported}"
    return f"timm has no model {model!r}; {hint}"


_UNREAD = {
    "Cait": "its attention mixes the heads, and its class token is in the last blocks only",
    "VisionTransformerSAM": "most of its blocks attend within windows of patches",
    "Xcit": "it attends from channel to channel, not from patch to patch",
    "VOLO": "its first blocks weight neighbours (outlook attention) instead of comparing keys",
}
"""Why transformers with a single grid of patches are not read, by class."""


def explain_unread(model: str) -> str:
    """Return why no family reads a model of timm."""
    network = outline(model, {})
    kind = type(network).__name__
    if kind in _UNREAD:
        return _UNREAD[kind]
    stages = getattr(network, "feature_info", None) or []
    strides = sorted({stage["reduction"] for stage in stages if isinstance(stage, dict)})
    if len(strides) > 1:
        listed = ", ".join(str(stride) for stride in strides)
        return (
            f"its features have strides of {listed} pixels, so that there is no single grid of "
            "patches"
        )
    return f"a {kind} is no transformer that is read here"


class _Unset(TorchFunctionMode):
    """Leaves out setting values that do not exist, most of the time it takes to build a network."""

    _SETTING = frozenset(
        {"uniform_", "erfinv_", "normal_", "fill_", "zero_", "copy_", "mul_", "div_", "add_",
         "clamp_"}
    )  # fmt: skip

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch, unless it sets the values of a tensor without values."""
        if function.__name__ in self._SETTING and args and args[0].is_meta:
            return args[0]
        return function(*args, **(kwargs or {}))


class _Written(TorchFunctionMode):
    """Remembers which tensors were written to, as those of a network are when it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: set[int] = set()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch."""
        if function.__name__ == "copy_":
            self.tensors.add(id(args[0]))
        return function(*args, **(kwargs or {}))


def outline(model: str, options: Mapping[str, Any]) -> nn.Module | None:
    """Return a network on the meta device; None if its architecture lacks these options."""
    with torch.device("meta"), _Unset():
        return create(model, options)


def create(model: str, options: Mapping[str, Any]) -> nn.Module | None:
    """Return a network without classifier; None if its architecture lacks these options."""
    try:
        network: nn.Module = timm.create_model(model, num_classes=0, **options)
    except TypeError:  # the constructor has no such option
        return None
    return network


def locate(
    model: str, published: Mapping[str, Any], revision: str | None = None
) -> tuple[str, bool]:
    """Find the weights that timm publishes, within seconds also where there is no network.

    Parameters
    ----------
    model : str
    published : mapping
        What timm says of them: ``hf_hub_id``, ``hf_hub_filename`` and ``url``.
    revision : str, optional
        Commit, tag or branch of their repository on the hub; by default the newest commit.

    Returns
    -------
    origin : str
        Where they are published.
    cached : bool
        Whether they are in the cache on this machine.

    Raises
    ------
    WeightsError
        If none are published, or they are not in the cache and there is no way to their origin.
    """
    if not timm.is_model_pretrained(model):
        raise WeightsError(
            f"backbone.model: timm publishes no weights for {model!r}; choose a model with "
            "weights, or set `backbone.weights: path/to/file.safetensors`"
        )
    repository = hub.Repository.of(published, revision)
    if repository is None:
        if revision:
            raise WeightsError(
                f"backbone.weights: the weights of {model!r} are at {published['url']} and not on "
                "the hub, so that they have no revision; use `weights: hub`"
            )
        origin = str(published["url"])
        if _is_in_the_cache_of_torch(origin):
            return origin, True
        if reason := _no_way_to(origin):
            raise WeightsError(_cannot_be_had(model, origin, reason))
        return origin, False
    if repository.cached:
        return repository.address, True
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _no_way_to(repository.address)
    if reason:
        raise WeightsError(_cannot_be_had(model, repository.address, reason))
    hub.find(repository)
    return repository.address, False


def _cannot_be_had(model: str, origin: str, reason: str) -> str:
    return (
        f"backbone.weights: {model!r} could not be downloaded and is not in the cache ({reason}). "
        f"Download the file from {origin} on a machine with a network, copy it here and set "
        "`backbone.weights: path/to/file.safetensors`"
    )


def _is_in_the_cache_of_torch(url: str) -> bool:
    return Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2]).is_file()


def _no_way_to(origin: str) -> str | None:
    """Return why a server cannot be reached; None if it answers, whatever it says."""
    try:
        with urlopen(Request(origin, method="HEAD"), timeout=hub.PATIENCE):
            return None
    except HTTPError:
        return None
    except OSError as error:  # an URLError, or what interrupted a connection
        reason = getattr(error, "reason", error)
        return None if isinstance(reason, ssl.SSLError) else f"no connection: {reason}"


def download(
    model: str,
    options: Mapping[str, Any],
    published: Mapping[str, Any],
    revision: str | None = None,
) -> tuple[nn.Module, str]:
    """Build a network with the weights that timm publishes, from its cache or the network.

    Parameters
    ----------
    model : str
    options : mapping
        Arguments of the architecture.
    published, revision
        As for `locate`.

    Returns
    -------
    network : nn.Module
    origin : str
        Where the weights are from: repository, commit and file on the hub, or their URL.

    Raises
    ------
    WeightsError
        If none are published, or they cannot be downloaded.
    """
    origin, cached = locate(model, published, revision)
    repository = hub.Repository.of(published, revision)
    overlay = {}
    if repository is not None:
        # The hub's client would try to connect for a minute.
        cache_only = cached and (constants.HF_HUB_OFFLINE or _no_way_to(origin) is not None)
        file = hub.download(repository, cache_only=cache_only)
        origin, overlay = file.origin, {"file": str(file.path)}
    misfit = f"backbone.weights: {origin}: does not fit {model}"
    try:
        with _Written() as written:
            network: nn.Module = timm.create_model(
                model, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **options
            )
    except Exception as error:  # torch passes on all errors of its transport, timm of its layouts
        reason = f"{type(error).__name__}: {reason_of(error)}"
        if repository is not None:
            raise WeightsError(f"{misfit}: {reason}") from error
        raise WeightsError(_cannot_be_had(model, origin, reason)) from error
    # timm leaves parameters that a file lacks as they were initialised, which is random.
    tensors = network.state_dict(keep_vars=True)
    missing = sorted(name for name in tensors if id(tensors[name]) not in written.tensors)
    if missing:
        raise WeightsError(f"{misfit}. missing: {shorten(missing, 3)}")
    return network, origin
