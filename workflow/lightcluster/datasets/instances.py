"""Label maps painted from the instance annotations of COCO: 80 things, everything else background.

All annotations are painted, crowds among them: a crowd is a region of one class, and that is all a
label map holds. Where two overlap, the one that stands first in the file is seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.annotations import mask_of, named, read_annotations, shown
from lightcluster.datasets.formats.coco import THING_CLASSES
from lightcluster.errors import ImageError


def paint_instances(
    instances: Iterable[tuple[int, NDArray[np.bool_]]], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Paint masks into one map of classes; of masks that overlap, the first is seen.

    Parameters
    ----------
    instances : iterable of (int, bool array of shape (height, width))
        Class id, 1 to 255, and mask of each.
    size : (int, int)
        Height and width.

    Returns
    -------
    uint8 array, shape (height, width)
        0 where there is no instance.
    """
    label = np.zeros(size, np.uint8)
    for class_id, mask in instances:
        label[mask & (label == 0)] = class_id
    return label


class Instances:
    """The instance annotations of a split, by the name of the image file.

    Parameters
    ----------
    path : Path
        ``instances_<split>.json``.

    Raises
    ------
    DatasetError
        If it cannot be read as a whole, or its categories are not COCO's.
    """

    def __init__(self, path: Path) -> None:
        read = read_annotations(path)
        self._images = read.images
        self.remarks = read.remarks

    def __contains__(self, file_name: str) -> bool:
        """Tell whether an image is in the file, with annotations or without."""
        return file_name in self._images

    def names(self) -> list[str]:
        """Return the names of all images that the file lists."""
        return list(self._images)

    def paint(self, file_name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the label map of an image.

        Parameters
        ----------
        file_name : str
        size : (int, int)
            Height and width of the image itself.

        Returns
        -------
        uint8 array, shape (height, width)

        Raises
        ------
        ImageError
            If the file lacks the image, states another size, or a record of it is damaged.
        """
        if file_name not in self:
            raise ImageError("the instance annotations do not list this image")
        listed = self._images[file_name]
        if listed.reason:
            raise ImageError(listed.reason)
        stated = (listed.record["height"], listed.record["width"])
        if stated != tuple(size):
            raise ImageError(
                f"the annotations are of an image of {shown(stated[0])} x {shown(stated[1])}, it "
                f"is {size[0]} x {size[1]} (height x width)"
            )
        return paint_instances((_instance(item, size) for item in listed.annotations), size)


def _instance(item: dict[Any, Any], size: tuple[int, int]) -> tuple[int, NDArray[np.bool_]]:
    """Return the class and the mask of an annotation; an ImageError names it."""
    try:
        return THING_CLASSES[item["category_id"]], mask_of(item.get("segmentation"), size)
    except ImageError as error:
        raise ImageError(f"{named(item)} {error}") from None
