"""No refinement."""

from __future__ import annotations

from lightcluster.masks.refinement.protocol import Refinement
from lightcluster.sections import Section

NONE: Refinement[Section] = Refinement(
    name="none", summary="the upsampled mask, unrefined", refine=None
)
