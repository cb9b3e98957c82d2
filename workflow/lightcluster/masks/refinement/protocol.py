"""The interface of refinements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from lightcluster.sections import Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Parameters = TypeVar("Parameters", bound=Section, contravariant=True)


@dataclass(frozen=True, kw_only=True)
class Refinement(Generic[Parameters]):
    """A way to refine the foreground score of one image.

    Attributes
    ----------
    name : str
        Value of `refinement.method`.
    summary : str
        What it does, for the table of that key.
    refine : callable, optional
        Takes the score, float32 in [0, 1] and foreground above 0.5, the image, uint8 of shape
        (height, width, 3), and the section `refinement` of the configuration; returns the refined
        score, float32 of shape (height, width), foreground above 0.5. None: the upsampled score is
        thresholded as it is.
    takes_patches : bool
        Whether `refine` upsamples by itself: its score is then that of the patches, of shape
        (rows, columns), in the place of one of the image's size.
    """

    name: str
    summary: str
    refine: (
        Callable[[NDArray[np.float32], NDArray[np.uint8], Parameters], NDArray[np.float32]] | None
    )
    takes_patches: bool = False
