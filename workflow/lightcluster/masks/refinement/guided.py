"""Refinement by a guided filter; see `masks.guided`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from lightcluster.masks.refinement.protocol import Refinement
from lightcluster.sections import Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class GuidedParameters(Section):
    """Parameters of the guided filter."""

    guided_radius: float = Field(
        0.07,
        gt=0,
        le=1,
        description="Radius of the guided filter, as a fraction of the image's short side.",
    )
    guided_epsilon: float = Field(
        1e-4,
        gt=0,
        description="Epsilon of the guided filter: colour variance (for colours in [0, 1]) "
        "below which there is no edge.",
    )


def refine(
    score: NDArray[np.float32], image: NDArray[np.uint8], parameters: GuidedParameters
) -> NDArray[np.float32]:
    """Filter the score of the patches by the image; see `guided.refine_guided`."""
    from lightcluster.masks.guided import Guided, refine_guided

    return refine_guided(score, image, Guided(parameters.guided_radius, parameters.guided_epsilon))


GUIDED = Refinement(name="guided", summary="a guided filter", refine=refine, takes_patches=True)
