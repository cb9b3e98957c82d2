"""Refinement by a fully connected CRF; see `masks.crf`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from lightcluster.masks.refinement.protocol import Refinement
from lightcluster.sections import Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CrfParameters(Section):
    """Parameters of the CRF."""

    clip: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="CRF: scores are clipped to [clip, 1 - clip] and used as probabilities.",
    )
    gaussian_sxy: float = Field(
        3.0, gt=0, description="CRF: width of the smoothness kernel, in pixels."
    )
    gaussian_weight: float = Field(3.0, ge=0, description="CRF: weight of the smoothness kernel.")
    bilateral_sxy: float = Field(
        40.0, gt=0, description="CRF: spatial width of the bilateral kernel, in pixels."
    )
    bilateral_srgb: float = Field(
        13.0,
        gt=0,
        description="CRF: colour width of the bilateral kernel, in RGB values of 0 to 255.",
    )
    bilateral_weight: float = Field(10.0, ge=0, description="CRF: weight of the bilateral kernel.")
    iterations: int = Field(5, ge=1, le=100, description="CRF: mean-field iterations.")


def refine(
    score: NDArray[np.float32], image: NDArray[np.uint8], parameters: CrfParameters
) -> NDArray[np.float32]:
    """Return the foreground probability, of which the clipped score is the unary one."""
    import numpy as np

    from lightcluster.masks.crf import Crf, infer_crf

    foreground = np.clip(score, parameters.clip, 1 - parameters.clip)
    crf = Crf(
        gaussian_sxy=parameters.gaussian_sxy, gaussian_weight=parameters.gaussian_weight,
        bilateral_sxy=parameters.bilateral_sxy, bilateral_srgb=parameters.bilateral_srgb,
        bilateral_weight=parameters.bilateral_weight, iterations=parameters.iterations,
    )  # fmt: skip
    probability: NDArray[np.float32] = infer_crf(np.stack([1 - foreground, foreground]), image, crf)
    refined: NDArray[np.float32] = probability[1]
    return refined


CRF = Refinement(name="crf", summary="a fully connected CRF, about ten times slower", refine=refine)
