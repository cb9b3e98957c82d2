"""Label maps painted from the instance annotations of COCO: 80 things, everything else background.

All annotations are painted, crowds among them: a crowd is a region of one class, and that is all a
label map holds. Where two overlap, the one that stands first in the file is seen.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from lightcluster.config import DatasetSettings
from lightcluster.datasets.listing import Entry, annotations_file, list_dataset
from lightcluster.datasets.taxonomy import COCO_NAMES, THING_CLASSES
from lightcluster.errors import DatasetError, ImageError
from lightcluster.files import replacing
from lightcluster.progress import progress

log = logging.getLogger(__name__)


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
        If it cannot be read, or its categories are not COCO's.
    """

    def __init__(self, path: Path) -> None:
        self._coco = COCO()
        try:
            self._coco.dataset = json.loads(path.read_bytes())
            for part in ("images", "annotations", "categories"):
                if not isinstance(self._coco.dataset[part], list):
                    raise TypeError(f"{part!r} is no list")
            with redirect_stdout(sys.stderr):
                self._coco.createIndex()
            self._images = {str(image["file_name"]): image for image in self._coco.imgs.values()}
            categories = [(item["id"], item["name"]) for item in self._coco.dataset["categories"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise DatasetError(f"{path}: is no file of instance annotations ({reason})") from None
        for number, name in categories:
            known = COCO_NAMES[number - 1] if number in THING_CLASSES else None
            if name != known:
                raise DatasetError(
                    f"{path}: category {number!r} is {name!r}; allowed are the 80 of COCO, where "
                    f"it is {known!r}. Other annotations: paint label maps and use `format: folder`"
                )

    def __contains__(self, file_name: str) -> bool:
        """Tell whether an image is in the file, with annotations or without."""
        return file_name in self._images

    def paint(self, file_name: str) -> NDArray[np.uint8]:
        """Return the label map of an image, uint8 [height, width].

        Raises
        ------
        ImageError
            If the file lacks the image, or an annotation of it is damaged.
        """
        if file_name not in self:
            raise ImageError("the instance annotations do not list this image")
        image = self._images[file_name]
        try:
            size = (int(image["height"]), int(image["width"]))
            annotations = self._coco.imgToAnns.get(image["id"], [])
            return paint_instances((self._mask_of(item, size) for item in annotations), size)
        except Exception as error:  # pycocotools raises whatever damaged annotations lead it to
            reason = f"{type(error).__name__}: {error}"
            raise ImageError(f"an instance annotation is damaged ({reason})") from None

    def _mask_of(
        self, annotation: dict[str, Any], size: tuple[int, int]
    ) -> tuple[int, NDArray[np.bool_]]:
        # pycocotools takes runs of any length, and leaves what they do not reach to chance.
        shape = annotation["segmentation"]
        runs = shape["counts"] if isinstance(shape, dict) else None
        if isinstance(runs, list) and (min(runs) < 0 or sum(runs) != size[0] * size[1]):
            raise ValueError(f"runs of {sum(runs)} pixels in an image of {size}")
        mask = self._coco.annToMask(annotation).astype(bool)
        if mask.shape != size:
            raise ValueError(f"mask of {mask.shape} in an image of {size} pixels")
        return THING_CLASSES[annotation["category_id"]], mask


def paint_entries(entries: Iterable[Entry], instances: Instances, folder: Path) -> int:
    """Write the label map of each image into `folder`; return how many were written.

    What cannot be painted is logged, and its label map is then missing: the next step records it
    in ``rejected.csv``.
    """
    painted = 0
    for entry in progress(list(entries), "paint"):
        try:
            label = instances.paint(PurePosixPath(entry.image_id).name)
        except ImageError as error:
            log.warning("no label map of %r: %s", entry.image_id, error)
            continue
        Image.fromarray(label).save(folder / entry.label_id)
        painted += 1
    return painted


def paint_labels(dataset: DatasetSettings, output: Path) -> None:
    """Write the label maps of all images of a dataset into the folder `output`."""
    entries = list_dataset(dataset, output)
    instances = Instances(annotations_file(dataset))
    with replacing(output) as folder:
        folder.mkdir()
        painted = paint_entries(entries, instances, folder)
    log.info("%d label maps of %d images", painted, len(entries))
