"""Statistics of label maps and images, and warnings about likely mistakes in them.

Every file of a dataset may be readable and the scores still be meaningless: masks of 0 and 255
whose objects are all ignored, label maps with background only, a class that never occurs. The
counts are made while a shard is indexed, and are added up over shards.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.labels import IGNORED, Classes
from lightcluster.errors import StoreError, reason_of
from lightcluster.files import replacing

SHOWN = 10
"""Number of classes that a line lists."""

MUCH = 0.5
"""A larger share of ignored pixels, label maps or images leads to a warning."""

MUCH_BESIDE = 0.15
"""A larger share of ignored pixels may be a class that occurs nowhere else."""

_SAME_COLOR = 2
"""Largest difference between the values of a channel in an image of a single colour."""

Key = tuple[str, str]
"""Name of the count, and the class id or other value it is for (empty if none)."""

_COLUMNS = ("what", "value", "count", "pixels")


@dataclass
class Census:
    """Counts of files and of pixels.

    Attributes
    ----------
    counts, pixels : Counter of Key
        Number of files that have the property, and of pixels in them.
    """

    counts: Counter[Key] = field(default_factory=Counter)
    pixels: Counter[Key] = field(default_factory=Counter)

    def add(self, what: str, value: object, pixels: int, count: int = 1) -> None:
        """Count files and pixels."""
        self.counts[what, str(value)] += count
        self.pixels[what, str(value)] += pixels

    def add_image(self, rgb: NDArray[np.uint8]) -> None:
        """Count an image, uint8 [height, width, 3]."""
        size = rgb.shape[0] * rgb.shape[1]
        self.add("image", "", size)
        if max(int(np.ptp(rgb[..., channel])) for channel in range(rgb.shape[-1])) <= _SAME_COLOR:
            self.add("image of one colour", "", size)

    def add_label(self, truth: NDArray[np.uint16], classes: Classes) -> None:
        """Count a label map as `labels.to_indices` returns it."""
        self.add("label map", "", truth.size)
        digest = hashlib.blake2b(f"{truth.shape}".encode() + truth.tobytes(), digest_size=8)
        known = [value for what, value in self.counts if what == "same label map"]
        if not known or known[0] == digest.hexdigest():
            self.add("same label map", digest.hexdigest(), truth.size)
        pixels = np.bincount(truth.ravel())
        found = {position: int(pixels[position]) for position in np.flatnonzero(pixels).tolist()}
        ignored = found.pop(IGNORED, 0)
        if ignored:
            self.add("ignored", "", ignored)
            if not found:
                self.add("label map of ignored pixels", "", truth.size)
            if len(found) == 1:
                (only,) = found
                self.add("label map of ignored pixels and class", classes.ids[only], truth.size)
        for position, number in found.items():
            self.add("class", classes.ids[position], number)

    def add_turn(self, orientation: int, size: tuple[int, int]) -> None:
        """Count a rotated image with a label map, by whether their size shows the orientation.

        Parameters
        ----------
        orientation : int
            EXIF orientation of the image, 1 to 8.
        size : (int, int)
            Height and width of the upright image and of its label map.
        """
        if orientation > 1:
            quarter = orientation >= 5 and size[0] != size[1]
            self.add("turned image", "upright label" if quarter else "any label", size[0] * size[1])


def write_census(path: Path, census: Census) -> None:
    """Write counts as CSV."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for key, count in sorted(census.counts.items()):
            writer.writerow([*key, count, census.pixels[key]])


def read_census(paths: Iterable[Path]) -> Census:
    """Read counts and add them up.

    Parameters
    ----------
    paths : iterable of Path

    Returns
    -------
    Census

    Raises
    ------
    StoreError
        If a file is missing or damaged.
    """
    census = Census()
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for line in csv.DictReader(file):
                    pixels, count = int(line["pixels"]), int(line["count"])
                    census.add(line["what"], line["value"], pixels, count)
        except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
            raise StoreError(
                f"{path}: cannot be read ({reason_of(error)}); run snakemake to recompute it"
            ) from None
    return census


@dataclass(frozen=True)
class Finding:
    """A line about a dataset, and whether it is a warning."""

    text: str
    is_warning: bool = False


def findings(
    census: Census,
    classes: Classes | None,
    *,
    background: int | None,
    ignore: int,
    own: bool,
    labelled: bool,
) -> list[Finding]:
    """Return notes and warnings about a dataset.

    Parameters
    ----------
    census : Census
    classes : Classes or None
    background : int or None
        Id of the background class.
    ignore : int
        Label value of pixels without a class.
    own : bool
        Whether the labels are the user's own, not those of a standard dataset.
    labelled : bool
        Whether the dataset should have labels.

    Returns
    -------
    list of Finding
    """
    found = list(_of_images(census))
    images, maps = census.counts["image", ""], census.counts["label map", ""]
    if labelled and maps < images:
        found.append(Finding(f"{images - maps} of {images} images have no usable label map"))
    if classes is not None and maps:
        found += _of_labels(census, classes, background, ignore, own)
    return found


def _of_images(census: Census) -> Iterator[Finding]:
    images, plain = census.counts["image", ""], census.counts["image of one colour", ""]
    if plain:
        yield Finding(
            f"{plain} of {images} images have a single colour: there is nothing in them to segment",
            plain > MUCH * images,
        )


def _of_labels(
    census: Census, classes: Classes, background: int | None, ignore: int, own: bool
) -> Iterator[Finding]:
    maps, pixels = census.counts["label map", ""], census.pixels["label map", ""]
    ignored = census.pixels["ignored", ""]
    share = ignored / max(1, pixels)
    names = dict(zip(map(str, classes.ids), classes.names, strict=True))
    absent = [f"{number} {name}" for number, name in names.items()
              if not census.counts["class", number]]  # fmt: skip
    present = [number for number in names if census.counts["class", number]]
    yield Finding(
        f"{maps} label maps, {share:.1%} of their pixels are ignored (value {ignore})", share > MUCH
    )
    if absent:
        shown = ", ".join(absent[:SHOWN]) + f" and {len(absent) - SHOWN} more" * (
            len(absent) > SHOWN
        )
        yield Finding(f"{len(absent)} of {len(names)} classes occur in no label map: {shown}")
    advice = f"if {ignore} means objects, replace it by the id of their class"
    if not present:
        yield Finding(f"no pixel of the label maps has a class; {advice}", True)
    elif len(present) == 1 and ignored:
        yield Finding(
            f"the label maps contain only {present[0]} ({names[present[0]]}) and {ignore}, "
            f"which is ignored; {advice}",
            True,
        )
    elif present == [str(background)]:
        yield Finding("the label maps contain only the background", True)
    elif own and absent and share > MUCH_BESIDE:
        yield Finding(
            f"classes are absent while {share:.1%} of the pixels are ignored; {advice}", True
        )
    if len(present) > 1:
        yield from _of_some(census, names, maps, ignore)
    if present and background is not None and str(background) not in present:
        yield Finding(
            f"the background, class {background}, occurs in no label map: every pixel counts as "
            "foreground",
            True,
        )
    if turned := census.counts["turned image", "any label"]:
        yield Finding(
            f"{turned} images with a label map are rotated or mirrored by their orientation tag, "
            "and their size does not show whether the label map is too: it must match the image as "
            "viewers show it",
            own and not census.counts["turned image", "upright label"],
        )
    alike = max(
        (n for (what, _), n in census.counts.items() if what == "same label map"), default=0
    )
    if maps > 1 and alike == maps:
        yield Finding(f"all {maps} label maps are identical", True)


def _of_some(census: Census, names: dict[str, str], maps: int, ignore: int) -> Iterator[Finding]:
    """Yield findings about some of the label maps."""
    if alone := census.counts["label map of ignored pixels", ""]:
        yield Finding(f"{alone} label maps contain only ignored pixels", alone > MUCH * maps)
    for number, name in names.items():
        beside = census.counts["label map of ignored pixels and class", number]
        if beside > MUCH * maps:
            yield Finding(
                f"{beside} of {maps} label maps contain only {number} ({name}) and {ignore}, "
                "which is ignored",
                True,
            )
