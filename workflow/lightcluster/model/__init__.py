"""A fitted run as a folder, and its application to new images without fitting again.

Examples
--------
>>> from lightcluster.model import segment
>>> segment(["holiday"], model="results/demo/lightcluster/model", output="segmented")
"""

from typing import TYPE_CHECKING, Any

from lightcluster.model.folder import Model, open_model

if TYPE_CHECKING:
    from lightcluster.model.segmentation import segment

__all__ = ["Model", "open_model", "segment"]


def __getattr__(name: str) -> Any:
    """Import `segment`, and torch with it, only where it is asked for."""
    if name == "segment":
        from lightcluster.model.segmentation import segment

        return segment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
