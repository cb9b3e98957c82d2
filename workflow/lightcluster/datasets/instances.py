"""Label maps painted from COCO's instance annotations: 80 thing classes and background.

All annotations are painted, including crowds, because a label map holds only the class. Where
annotations overlap, the first one in the file is on top.
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
    """Paint instance masks into one label map; where masks overlap, the first is on top.

    Parameters
    ----------
    instances : iterable of (int, bool array of shape (height, width))
        Class id, 1 to 255, and mask of each.
    size : (int, int)
        Height and width.

    Returns
    -------
    uint8 array, shape (height, width)
        Class ids; 0 where there is no instance.
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
        If the file cannot be parsed, or its categories are not COCO's.
    """

    def __init__(self, path: Path) -> None:
        read = read_annotations(path)
        self._images = read.images
        self.remarks = read.remarks

    def __contains__(self, file_name: str) -> bool:
        """Return whether the file lists an image, with or without annotations."""
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
            Height and width of the image file.

        Returns
        -------
        uint8 array, shape (height, width)

        Raises
        ------
        ImageError
            If the annotations do not list the image or state another size, or if one of its
            records is invalid.
        """
        if file_name not in self:
            raise ImageError("the instance annotations do not list this image")
        listed = self._images[file_name]
        if listed.reason:
            raise ImageError(listed.reason)
        stated = (listed.record["height"], listed.record["width"])
        if stated != tuple(size):
            raise ImageError(
                f"the annotations state a size of {shown(stated[0])} x {shown(stated[1])}, but the "
                f"image is {size[0]} x {size[1]} (height x width)"
            )
        return paint_instances((_instance(item, size) for item in listed.annotations), size)


def _instance(item: dict[Any, Any], size: tuple[int, int]) -> tuple[int, NDArray[np.bool_]]:
    """Return class and mask of an annotation; errors name the annotation."""
    try:
        return THING_CLASSES[item["category_id"]], mask_of(item.get("segmentation"), size)
    except ImageError as error:
        raise ImageError(f"{named(item)} {error}") from None
