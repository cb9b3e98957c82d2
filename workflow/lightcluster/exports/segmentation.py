"""The input of all exports: the segmentations of a run, image by image, as objects with classes.

An object is a connected component (8 neighbours) of one class in a segmentation. The classes are
those of `names` or ``classes.csv``: clusters of the same name are one class, and clusters named
*background* give no objects. In a segmentation without background, every pixel has a class, and all
pixels of a class in an image are one object (*stuff*). Images are numbered from 1 in the order of
the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from lightcluster.datasets.manifest import Row, Sample, iter_manifest
from lightcluster.errors import ImageError, StoreError
from lightcluster.exports.confidence import RegionTables, object_confidence
from lightcluster.images.recognition import PREFIX, format_of
from lightcluster.locations import Cell, Member, file_of, suffix_of
from lightcluster.names.run import BACKGROUND, given_names, open_named
from lightcluster.progress import progress
from lightcluster.regions.painted import find_manifest, painted_file, read_segmentation
from lightcluster.regions.palette import read_palette


@dataclass(frozen=True)
class Category:
    """A class of a segmentation that is not the background.

    Attributes
    ----------
    id : int
        From 1: its (first) value in the segmentations, or, of stuff, one more.
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
    return _objects(label, classes)


def _objects(label: NDArray[np.integer], classes: NDArray[np.integer]) -> Objects:
    """Return the objects whose pixels have the same number."""
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


def find_stuff(classes: NDArray[np.integer]) -> Objects:
    """Return all that a segmentation has of each class, which is not 0, as one object."""
    values = np.unique(classes[classes > 0])
    label = np.searchsorted(values, classes) + 1
    label[classes == 0] = 0
    return _objects(label.astype(np.int64), classes)


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
    confidence : float or None
        In [0, 1], of its regions (see `exports.confidence`); None where a method has no regions.
    """

    category: Category
    area: int
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]
    confidence: float | None = None

    def rated(self, key: str) -> dict[str, float]:
        """Return the confidence by the name that a format has for it; nothing if there is none."""
        return {} if self.confidence is None else {key: self.confidence}


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
    id_of : dict of int to int
        The id of the category of each value in the segmentations; 0 for background.
    samples : tuple of Sample
        All images.
    stuff : bool
        Whether there is no background, so that objects are whole classes.
    """

    folder: Path
    categories: tuple[Category, ...]
    id_of: Mapping[int, int]
    samples: tuple[Sample, ...]
    stuff: bool

    def pictures(self) -> Iterator[Picture]:
        """Yield all images with their objects, read one by one.

        Raises
        ------
        StoreError
            If a segmentation is missing or damaged.
        """
        categories = {category.id: category for category in self.categories}
        find = find_stuff if self.stuff else find_objects
        tables = RegionTables(self.folder)
        for number, sample in enumerate(progress(self.samples, "export"), start=1):
            path = painted_file(self.folder, sample)
            values = read_segmentation(path)
            present, inverse = np.unique(values, return_inverse=True)
            if unknown := set(present.tolist()) - self.id_of.keys():
                raise StoreError(
                    f"{path}: holds the class {min(unknown)}, which {self.folder / 'classes.csv'} "
                    "lacks; make it again"
                )
            ids = np.array([self.id_of[value] for value in present.tolist()], np.int64)
            found = find(ids[inverse].reshape(values.shape))
            confidence = object_confidence(
                found.label, found.category, tables.regions_of(sample), self.id_of
            )
            regions = list(_regions(found, categories, confidence))
            yield Picture(number, sample.row, found, regions)


def _regions(
    objects: Objects, categories: dict[int, Category], confidence: list[float | None]
) -> Iterator[Region]:
    for index, (left, top, width, height) in enumerate(objects.box.tolist()):
        within = objects.label[top : top + height, left : left + width]
        yield Region(
            category=categories[int(objects.category[index])],
            area=int(objects.area[index]),
            box=(left, top, width, height),
            mask=within == index + 1,
            confidence=confidence[index],
        )


def open_segmentation(place: Path, seed: int | None = None) -> Segmentation:
    """Open the segmentations of a run.

    Parameters
    ----------
    place : Path
        The folder of a run or of the output of `segment`, or the folder of its segmentations.
    seed : int, optional
        Labelling seed; see :func:`.names.run.open_named`.

    Raises
    ------
    StoreError
        If it is another folder, or its ``classes.csv``, or the manifest above it, is missing or
        damaged.
    """
    folder = place if (place / "classes.csv").is_file() else open_named(place, seed).segmentation
    manifest = find_manifest(folder)
    categories, id_of, stuff = read_categories(folder)
    return Segmentation(folder, tuple(categories), id_of, tuple(iter_manifest(manifest)), stuff)


def link_image(row: Row, link: Path) -> None:
    """Make a link to an image, in folders that it makes; an image inside another file is copied.

    Raises
    ------
    StoreError
        If the image is not where it was.
    """
    source = file_of(row.path).resolve()
    if not source.is_file():
        raise StoreError(f"{source}: there is no such image; export where the run was made")
    link.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(row.path, Path):
        link.symlink_to(source)
        return
    link.write_bytes(content_of(row.path))


def suffix_of_image(row: Row) -> str:
    """Return the suffix that a copy of an image should have, such as ``.jpg``.

    Raises
    ------
    StoreError
        If the image has no name, and cannot be read.
    """
    if isinstance(row.path, Cell):
        return f".{format_of(content_of(row.path)[:PREFIX]) or ''}".lower()
    return suffix_of(row.path)


def content_of(location: Member | Cell) -> bytes:
    """Return the content of an image inside another file.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    try:
        return location.read()
    except ImageError as error:
        raise StoreError(f"{location}: {error}") from None


def read_categories(segmentation: Path) -> tuple[list[Category], dict[int, int], bool]:
    """Read ``classes.csv`` and the names that a person gave: see `Segmentation`.

    Returns
    -------
    categories : list of Category
    id_of : dict of int to int
    stuff : bool

    Raises
    ------
    StoreError
        If the table is missing or damaged.
    """
    values, given = read_palette(segmentation / "classes.csv"), given_names(segmentation)
    listed = [
        Category(number, given.get(number, value.name), value.color)
        for number, value in enumerate(values)
    ]
    stuff = any(category.id == 0 and category.name != BACKGROUND for category in listed)
    by_name: dict[str, Category] = {}
    id_of: dict[int, int] = {} if stuff else {0: 0}
    for category in listed:
        if category.name == BACKGROUND:
            id_of[category.id] = 0
            continue
        first = by_name.setdefault(category.name, replace(category, id=category.id + int(stuff)))
        id_of[category.id] = first.id
    return list(by_name.values()), id_of, stuff
