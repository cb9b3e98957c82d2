"""A fully connected CRF, which moves probabilities to the edges of an image.

Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials"
(NeurIPS 2011), in the implementation of pydensecrf.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightcluster.errors import LightClusterError

try:
    from pydensecrf import densecrf
except ImportError:  # pip cannot build it for Python 3.13 and later; the Makefile can
    densecrf = None

INSTALLED = densecrf is not None

NEEDS_PYDENSECRF = (
    "the CRF needs pydensecrf2, which `make` builds; with pip: pip install 'cython>=3.1' "
    "setuptools wheel, and CYTHON_FORCE_REGEN=1 pip install --no-build-isolation pydensecrf2"
)


@dataclass(frozen=True, kw_only=True)
class Crf:
    """Parameters of the CRF.

    Attributes
    ----------
    gaussian_sxy, gaussian_weight : float
        Width, in pixels, and weight of the smoothness kernel.
    bilateral_sxy, bilateral_srgb, bilateral_weight : float
        Widths, in pixels and in RGB from 0 to 255, and weight of the colour kernel.
    iterations : int
        Of the mean field.
    """

    gaussian_sxy: float
    gaussian_weight: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_weight: float
    iterations: int


def infer_crf(
    probability: NDArray[np.float32], image: NDArray[np.uint8], crf: Crf
) -> NDArray[np.float32]:
    """Return the probability of each label after mean-field inference.

    Parameters
    ----------
    probability : float32 array, shape (labels, height, width)
        Unary, above 0.
    image : uint8 array, shape (height, width, 3)
        RGB.
    crf : Crf

    Returns
    -------
    float32 array, shape (labels, height, width)

    Raises
    ------
    LightClusterError
        If pydensecrf is not installed.
    """
    if not INSTALLED:
        raise LightClusterError(NEEDS_PYDENSECRF)
    labels, height, width = probability.shape
    unary = -np.log(probability.reshape(labels, -1))
    model = densecrf.DenseCRF2D(width, height, labels)
    model.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
    model.addPairwiseGaussian(sxy=crf.gaussian_sxy, compat=crf.gaussian_weight)
    model.addPairwiseBilateral(
        sxy=crf.bilateral_sxy,
        srgb=crf.bilateral_srgb,
        rgbim=np.require(image, np.uint8, ["C", "W"]),  # pydensecrf refuses read-only arrays
        compat=crf.bilateral_weight,
    )
    inferred: NDArray[np.float32] = np.asarray(model.inference(crf.iterations), np.float32)
    return inferred.reshape(labels, height, width)
