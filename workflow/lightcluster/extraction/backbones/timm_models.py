"""Creating and downloading networks of timm by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import nn

from lightcluster.errors import WeightsError
from lightcluster.extraction.torchvision_shim import ensure_torchvision_operators

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


def create(model: str, options: Mapping[str, Any]) -> nn.Module | None:
    """Return a network without classifier; None if its architecture lacks these options."""
    try:
        network: nn.Module = timm.create_model(model, num_classes=0, **options)
    except TypeError:  # the constructor has no such option
        return None
    return network


def download(model: str, options: Mapping[str, Any], published: Mapping[str, Any]) -> nn.Module:
    """Build a network with the weights that timm publishes, from its cache or the network.

    Parameters
    ----------
    model : str
    options : mapping
        Arguments of the architecture.
    published : mapping
        timm's configuration of the weights, whose ``hf_hub_id`` or ``url`` is shown in the
        message.

    Returns
    -------
    nn.Module

    Raises
    ------
    WeightsError
        If none are published, or they cannot be downloaded.
    """
    if not timm.is_model_pretrained(model):
        raise WeightsError(
            f"backbone.model: timm publishes no weights for {model!r}; choose a model with "
            "weights, or set `backbone.weights: path/to/file.safetensors`"
        )
    try:
        network: nn.Module = timm.create_model(model, pretrained=True, num_classes=0, **options)
    except Exception as error:  # the hub client passes on all errors of its transport
        origin = published["hf_hub_id"] or published["url"]
        raise WeightsError(
            f"backbone.weights: {model!r} could not be downloaded and is not in the cache "
            f"({type(error).__name__}: {error}). Download the file from {origin} on a machine "
            "with internet access, copy it and set `backbone.weights: path/to/file.safetensors`"
        ) from error
    return network
