"""Declarations shared by methods that cluster the patch features of whole images."""

from __future__ import annotations

from lightcluster.identity import features_id
from lightcluster.methods.protocol import Shared
from lightcluster.methods.sections import CommonSections

FEATURES: Shared[CommonSections] = Shared(
    wildcard="features", folder="features", ids=lambda config: [features_id(config)]
)


def whole_image(height: int, width: int, config: CommonSections, patch: int) -> tuple[int, int]:
    """Return the number of views of an image, which is 1, and its number of patches.

    Parameters
    ----------
    height, width : int
        Size of the image.
    config : CommonSections
    patch : int
        Side of a patch in pixels.

    Returns
    -------
    views, patches : int
    """
    from lightcluster.extraction.images import target_size

    features = config.features
    rows, columns = target_size(height, width, features.short_side, patch, features.max_tokens)
    return 1, rows * columns // patch**2
