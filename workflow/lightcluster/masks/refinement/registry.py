"""All refinements, and the configuration section built from their parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lightcluster.masks.refinement.crf import CRF, CrfParameters
from lightcluster.masks.refinement.guided import GUIDED, GuidedParameters
from lightcluster.masks.refinement.none import NONE
from lightcluster.masks.refinement.protocol import Refinement
from lightcluster.sections import Section

_LISTED: tuple[Refinement[RefinementSettings], ...] = (GUIDED, CRF, NONE)

REFINEMENTS = {refinement.name: refinement for refinement in _LISTED}
"""Refinements by the value of `refinement.method`; the first is the default."""

if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(REFINEMENTS)]


class _Choice(Section):
    method: Method = Field(
        _LISTED[0].name,
        description="; ".join(f"`{item.name}`: {item.summary}" for item in _LISTED) + ".",
    )


class _ForAll(Section):
    min_area: float = Field(
        0.002,
        ge=0,
        lt=1,
        description="Specks and holes up to this fraction of the image are removed; 0: none.",
    )
    max_pixels: int = Field(
        1_000_000,
        ge=1024,
        description="Larger images are refined at a resolution of this many pixels.",
    )


# The keys of the last base come first.
class RefinementSettings(_ForAll, CrfParameters, GuidedParameters, _Choice):
    """From the patch scores to the final mask: a guided filter, or a fully connected CRF."""
