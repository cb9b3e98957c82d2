"""The list of all backbone families, and of models with a declaration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lightcluster.errors import WeightsError
from lightcluster.extraction.backbones.capi import CAPI
from lightcluster.extraction.backbones.embedded import EMBEDDED
from lightcluster.extraction.backbones.eva import EVAS
from lightcluster.extraction.backbones.franca import FRANCA
from lightcluster.extraction.backbones.mean_color import MEAN_COLOR, MEAN_COLORS
from lightcluster.extraction.backbones.naflex import NAFLEX_TRANSFORMERS
from lightcluster.extraction.backbones.protocol import Declaration, Family
from lightcluster.extraction.backbones.relative_positions import BEITS, REL_POS_TRANSFORMERS
from lightcluster.extraction.backbones.vision_transformer import VISION_TRANSFORMERS

if TYPE_CHECKING:
    from torch import nn

_LISTED: tuple[Family, ...] = (
    VISION_TRANSFORMERS,
    EVAS,
    BEITS,
    REL_POS_TRANSFORMERS,
    NAFLEX_TRANSFORMERS,
    MEAN_COLORS,
)

_DECLARED: tuple[Declaration, ...] = (EMBEDDED, MEAN_COLOR, *FRANCA, CAPI)

DECLARED = {model.name: model for model in _DECLARED}
"""Models with a declaration, by the value of `backbone.model`."""

DEFAULT = _DECLARED[0]


def declaration_of(model: str) -> Declaration:
    """Return the declaration of a model; models without one are networks of timm."""
    return DECLARED.get(model) or Declaration(name=model)


def size_of(model: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int] | None:
    """Return the size of a model from the shapes of its parameters; None if they are of another.

    Nothing is built, so that this needs no torch.

    Parameters
    ----------
    model : str
        Value of `backbone.model`.
    shapes : mapping of str to tuple of int

    Returns
    -------
    dict of str to int, or None
        ``dim``, ``depth`` and ``patch_size``.
    """
    declared = declaration_of(model)
    if not declared.network:
        return None if shapes else dict(declared.size)
    return next(filter(None, (family.size_of(shapes) for family in _LISTED)), None)


def find_family(model: str) -> tuple[Family, nn.Module]:
    """Return the family of a model, and its network without values.

    Parameters
    ----------
    model : str
        Value of `backbone.model`: a name in timm, with or without the tag of its weights, or one
        of `DECLARED`.

    Returns
    -------
    family : Family
    network : nn.Module
        On the meta device.

    Raises
    ------
    WeightsError
        If the name is unknown, or no family supports the model.
    """
    if (found := _search(model)) is not None:
        return found
    from lightcluster.extraction.backbones.timm_models import explain_unknown, is_known

    supported = "; ".join(family.summary for family in _LISTED)
    if is_known(model):
        reason = _refusal_of(model)
        raise WeightsError(
            f"backbone.model: {model!r} is not supported, because {reason}; supported: {supported}"
        )
    raise WeightsError(f"backbone.model: {explain_unknown(model, supported)}")


def reason_against(model: str) -> str | None:
    """Return why a model of timm cannot be used; None if it can."""
    return None if _search(model) else _refusal_of(model)


def _refusal_of(model: str) -> str:
    from lightcluster.extraction.backbones.timm_models import explain_unread

    reasons = (family.refusal(model) for family in _LISTED)
    return next(filter(None, reasons), None) or explain_unread(model)


def _search(model: str) -> tuple[Family, nn.Module] | None:
    """Return the first family that supports a model, and its network."""
    _register()
    outlines = ((family, family.outline(model)) for family in _LISTED)
    return next(((family, found) for family, found in outlines if found is not None), None)


def _register() -> None:
    for model in _DECLARED:
        if model.register:
            model.register()
