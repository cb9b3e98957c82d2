"""What exports are made from: the segmentations of a run, image by image, as objects of classes.

An object is a connected component (8 neighbours) of one class in a segmentation; what is 0,
background, is no object. Images are numbered from 1 in the order of the manifest.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from lightcluster.datasets.manifest import Row, Sample, iter_manifest
from lightcluster.errors import StoreError
from lightcluster.images.recognition import open_plain
from lightcluster.progress import progress


@dataclass(frozen=True)
class Category:
    """A class of a segmentation that is not the background.

    Attributes
    ----------
    id : int
        Its value in the segmentations.
    name : str
    color : tuple of int
        Red, green and blue, 0 to 255.
    """

    id: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Objects:
    """The objects of one image, in the order of their first pixel.

    Attributes
    ----------
    label : int64 array, shape (height, width)
        Number of the object of each pixel, from 1; 0 outside of all.
    category : int64 array, shape (objects,)
    area : int64 array, shape (objects,)
        In pixels.
    box : int64 array, shape (objects, 4)
        Left, top, width, height.
    """

    label: NDArray[np.int64]
    category: NDArray[np.int64]
    area: NDArray[np.int64]
    box: NDArray[np.int64]


def find_objects(classes: NDArray[np.integer]) -> Objects:
    """Find the objects of a segmentation, int array of shape (height, width)."""
    label = measure.label(classes, background=0, connectivity=2)  # type: ignore[no-untyped-call]
    slices = ndimage.find_objects(label)
    box = [(x.start, y.start, x.stop - x.start, y.stop - y.start) for y, x in slices]
    category = np.zeros(len(slices) + 1, np.int64)
    category[label] = classes
    return Objects(
        label=label.astype(np.int64),
        category=category[1:],
        area=np.bincount(label.ravel(), minlength=len(slices) + 1)[1:],
        box=np.asarray(box, np.int64).reshape(-1, 4),
    )


@dataclass(frozen=True)
class Region:
    """An object of an image.

    Attributes
    ----------
    category : Category
    area : int
        In pixels.
    box : tuple of int
        Left, top, width, height.
    mask : bool array, shape (box height, box width)
        Its pixels within the box.
    """

    category: Category
    area: int
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Picture:
    """An image with its objects.

    Attributes
    ----------
    number : int
        From 1, in the order of the manifest.
    row : Row
        Where the image is, and its size.
    objects : Objects
    regions : list of Region
        The same, one by one.
    """

    number: int
    row: Row
    objects: Objects
    regions: list[Region]


@dataclass(frozen=True)
class Segmentation:
    """The segmentations of a run.

    Attributes
    ----------
    folder : Path
        Of indexed PNGs, with their ``classes.csv``.
    categories : tuple of Category
        All classes but the background.
    samples : tuple of Sample
        All images.
    """

    folder: Path
    categories: tuple[Category, ...]
    samples: tuple[Sample, ...]

    def pictures(self) -> Iterator[Picture]:
        """Yield all images with their objects, read one by one.

        Raises
        ------
        StoreError
            If a segmentation is missing or damaged.
        """
        known = {category.id: category for category in self.categories}
        for number, sample in enumerate(progress(self.samples, "export"), start=1):
            sharded = self.folder / sample.shard / sample.row.output
            path = sharded if sharded.is_file() else self.folder / sample.row.output
            try:
                with open_plain(path) as image:
                    found = find_objects(np.asarray(image))
            except Exception as error:  # decoders raise whatever a damaged file leads them to
                raise StoreError(f"{path}: cannot be read ({error}); make it again") from None
            if unknown := set(found.category.tolist()) - known.keys():
                raise StoreError(
                    f"{path}: holds the class {min(unknown)}, which {self.folder / 'classes.csv'} "
                    "lacks; make it again"
                )
            yield Picture(number, sample.row, found, list(_regions(found, known)))


def _regions(objects: Objects, categories: dict[int, Category]) -> Iterator[Region]:
    for index, (left, top, width, height) in enumerate(objects.box.tolist()):
        within = objects.label[top : top + height, left : left + width]
        yield Region(
            category=categories[int(objects.category[index])],
            area=int(objects.area[index]),
            box=(left, top, width, height),
            mask=within == index + 1,
        )


def open_segmentation(folder: Path) -> Segmentation:
    """Open `segmentation/seed-N` of a run, or a folder `segmentation` that `segment` wrote.

    Raises
    ------
    StoreError
        If it is another folder, or its ``classes.csv``, or the manifest above it, is missing or
        damaged, or its segmentations have no background.
    """
    manifest = find_manifest(folder)
    return Segmentation(folder, tuple(read_categories(folder)), tuple(iter_manifest(manifest)))


WANTED = "`segmentation/seed-N` of a run, or a folder `segmentation` that `segment` wrote"


def find_manifest(segmentation: Path) -> Path:
    """Return the manifest of a folder of segmentations: the nearest one above it.

    Raises
    ------
    StoreError
        If the folder is none of segmentations, which have a ``classes.csv``, or there is no
        manifest; says which is meant if it is one inside.
    """
    if not (segmentation / "classes.csv").is_file():
        inside = [
            path.parent
            for pattern in ("segmentation/", "seed-*/", "segmentation/seed-*/")
            for path in sorted(segmentation.glob(f"{pattern}classes.csv"))
        ]
        hint = f"did you mean {inside[0]}?" if inside else f"name {WANTED}"
        raise StoreError(f"{segmentation}: no folder of segmentations (no classes.csv); {hint}")
    for folder in segmentation.resolve().parents[:3]:
        if (folder / "manifest.csv").is_file():
            return folder / "manifest.csv"
    raise StoreError(
        f"{segmentation}: no manifest.csv in the folders above; name {WANTED}, where it was made"
    )


def read_categories(segmentation: Path) -> list[Category]:
    """Return the categories: all ids of ``classes.csv`` but the background.

    Raises
    ------
    StoreError
        If the table is missing or damaged, or knows no background.
    """
    path = segmentation / "classes.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            categories = [
                Category(int(row["id"]), row["name"], _color(row["color"]))
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from None
    objects = [category for category in categories if category.name != "background"]
    if any(category.id == 0 for category in objects):
        raise StoreError(f"{path}: a segmentation without background has no objects to export")
    return objects


def _color(text: str) -> tuple[int, int, int]:
    red, green, blue = (int(text[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue
