"""The manifest: the usable images of a shard, found by decoding every image once."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.census import Census, read_census, write_census
from lightcluster.datasets.entries import Entry, LabelFile
from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.datasets.labels import (
    Classes,
    read_classes,
    read_label,
    to_indices,
)
from lightcluster.datasets.lists import read_lists
from lightcluster.datasets.others import NO_IMAGE, PASSED_OVER, Others, printable
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.errors import DatasetError, ImageError, StoreError, reason_of
from lightcluster.extraction.images import ImageRow, examine_image
from lightcluster.files import replacing
from lightcluster.images.depth import Depth, Levels
from lightcluster.locations import Location, file_of, locate, part_of, read_source
from lightcluster.progress import progress

log = logging.getLogger(__name__)

REFUSED = "rejected.csv"
"""Name of the table of label maps that could not be painted, in the folder of those that were."""


@dataclass(frozen=True)
class Row:
    """One usable image.

    Attributes
    ----------
    image_id, output : str
        See `datasets.entries.Entry`.
    path : Location
    label : LabelFile or None
        Its label map, if there is a usable one, and how to read it.
    height, width : int
        In pixels, after EXIF rotation.
    digest : str
        Digest of the image's content, see `digests.digest_of`.
    levels : Levels or None
        The sample values that become black and white; None for images of 8 bits.
    span, frames : int
        See `extraction.images.Picture`.
    """

    image_id: str
    path: Location
    label: LabelFile | None
    output: str
    height: int
    width: int
    digest: str = ""
    levels: Levels | None = field(default=None, compare=False)
    span: int = field(default=255, compare=False)
    frames: int = field(default=1, compare=False)

    @property
    def image(self) -> ImageRow:
        """The image as an input of the backbone."""
        return ImageRow(self.image_id, self.path, self.height, self.width, self.digest, self.levels)


@dataclass(frozen=True)
class Rejection:
    """An unusable image, or an unusable label map (whose image is still segmented)."""

    image_id: str
    what: str
    reason: str


Truth = Callable[[Entry, LabelFile, tuple[int, int]], NDArray[np.uint16]]
"""Returns the class ids of an image, uint16 [height, width], or raises an ImageError.

It is given the entry, its label map, and height and width of the image.
"""


def read_truth(entry: Entry, label: LabelFile, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Return the class ids of an image's label map; see `Truth`."""
    return read_label(label, size)


def index_entries(
    entries: Sequence[Entry],
    classes: Classes | None,
    *,
    ignore: int,
    max_pixels: int,
    depth: Depth = "auto",
    stop: bool = False,
    truth: Truth = read_truth,
    census: Census | None = None,
) -> tuple[list[Row], list[Rejection]]:
    """Decode every image and label map once, and separate the usable from the unusable.

    Parameters
    ----------
    entries : sequence of Entry
    classes : Classes or None
        None: labels are ignored.
    ignore : int
        Label value of pixels without a class.
    max_pixels : int
        Images with more pixels are rejected without decoding.
    depth : Depth
        See `images.depth.choose_levels`.
    stop : bool
        Raise an error for the first bad image instead of recording it.
    truth : Truth
        Function that reads label maps.
    census : Census, optional
        Statistics of the images and label maps are added to it.

    Returns
    -------
    rows : list of Row
        The usable images.
    rejections : list of Rejection

    Raises
    ------
    DatasetError
        With `stop`, at the first image or label that cannot be used.
    """
    rows, rejections = [], []
    for entry in progress(entries, "index"):
        try:
            entry.image_id.encode()
            location = entry.path
            # The digest first, so that a later change of the file is noticed.
            source, digest = read_source(location)
            picture = examine_image(source, max_pixels, depth)
        except (ImageError, UnicodeEncodeError) as error:
            reason = "file name is not UTF-8" if isinstance(error, UnicodeEncodeError) else error
            rejections.append(_reject(entry, "image", str(reason), stop))
            continue
        height, width = picture.rgb.shape[:2]
        if census is not None:
            census.add_image(picture.rgb)
        label = entry.label if classes is not None else None
        if entry.unlabelled and classes is not None:
            rejections.append(_reject(entry, "label", entry.unlabelled, stop))
        if label is not None and classes is not None:
            try:
                label = replace(label, digest=read_source(label.path)[1])
                indices = to_indices(truth(entry, label, (height, width)), classes, ignore)
                if census is not None:
                    census.add_label(indices, classes)
                    census.add_turn(picture.orientation, (height, width))
            except ImageError as error:
                rejections.append(_reject(entry, "label", str(error), stop))
                label = None
        rows.append(
            Row(
                entry.image_id, location, label, entry.output, height, width, digest,
                picture.levels, picture.span, picture.frames,
            )
        )  # fmt: skip
    return rows, rejections


def _reject(entry: Entry, what: str, reason: str, stop: bool) -> Rejection:
    name = printable(entry.image_id)
    if stop:
        raise DatasetError(f"{name!r}: {reason} (on_bad_image: stop)")
    log.info("rejected %s of %r: %s", what, name, reason)
    return Rejection(name, what, reason)


_COLUMNS: dict[type[Row] | type[Rejection], tuple[str, ...]] = {
    Row: (
        "image_id",
        "path",
        "part",
        "label",
        "label_part",
        "taxonomy",
        "output",
        "levels",
        "span",
        "frames",
        "height",
        "width",
        "digest",
        "label_digest",
    ),
    Rejection: ("image_id", "what", "reason"),
}


def write_rows(
    path: Path, rows: Iterable[Row | Rejection], kind: type[Row] | type[Rejection]
) -> None:
    """Write a manifest or a table of rejections as CSV."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        write_line(file, _COLUMNS[kind])
        for row in rows:
            write_line(file, _values_of(row))


def _values_of(row: Row | Rejection) -> list[str]:
    """Return the values of a row in the order of its columns."""
    if isinstance(row, Rejection):
        return [row.image_id, row.what, row.reason]
    image, label, taxonomy, digest = _place_of(row.path), ("", ""), "", ""
    if row.label is not None:
        label, taxonomy, digest = _place_of(row.label.path), row.label.taxonomy, row.label.digest
    levels = "" if row.levels is None else f"{row.levels.black!r} {row.levels.white!r}"
    numbers = map(str, (row.span, row.frames, row.height, row.width))
    return [
        row.image_id,
        *image,
        *label,
        taxonomy,
        row.output,
        levels,
        *numbers,
        row.digest,
        digest,
    ]


def _place_of(location: Location) -> tuple[str, str]:
    """Return the file with an image or label map, and where it is in that file."""
    return str(file_of(location)), part_of(location)


def write_line(file: TextIO, values: Sequence[str]) -> None:
    """Write a line of CSV; values with a carriage return are quoted, which csv would not do."""
    bare = any("\r" in value for value in values)
    csv.writer(
        file, lineterminator="\n", quoting=csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL
    ).writerow(values)


def parse_row(line: Mapping[str, str]) -> Row:
    """Return the image that a line of a manifest describes.

    Raises
    ------
    KeyError, ValueError, TypeError
        If the line is damaged.
    """
    if None in line.values():
        raise ValueError("a line is truncated")
    if line["taxonomy"] and line["taxonomy"] not in FORMATS:
        raise ValueError(f"unknown taxonomy {line['taxonomy']!r}")
    stored = locate(Path(line["label"]), line["label_part"])
    label = LabelFile(stored, line["taxonomy"], line["label_digest"])
    return Row(
        image_id=line["image_id"],
        path=locate(Path(line["path"]), line["part"]),
        label=label if line["label"] else None,
        output=line["output"],
        height=int(line["height"]),
        width=int(line["width"]),
        levels=Levels(*map(float, line["levels"].split())) if line["levels"] else None,
        span=int(line["span"]),
        frames=int(line["frames"]),
        digest=line["digest"],
    )


def read_refused(path: Path) -> list[Rejection]:
    """Read which label maps could not be painted; empty if there is no such file.

    Raises
    ------
    StoreError
        If the file is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [Rejection(**line) for line in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise StoreError(
            f"{path}: cannot be read ({reason_of(error)}); run snakemake to make it"
        ) from None


def read_manifest(path: Path) -> list[Row]:
    """Read the manifest of one shard.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [parse_row(line) for line in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise StoreError(
            f"{path}: cannot be read ({reason_of(error)}); run snakemake to make it"
        ) from None


@dataclass(frozen=True)
class Sample:
    """An image of the dataset and the shard whose files hold its masks."""

    shard: str
    row: Row


def iter_manifest(path: Path) -> Iterator[Sample]:
    """Yield the images of the manifest of a whole dataset, one line at a time.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                yield Sample(line["shard"], parse_row(line))
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise StoreError(
            f"{path}: cannot be read ({reason_of(error)}); run snakemake to make it"
        ) from None


def index_dataset(
    dataset: DatasetSettings,
    generated: Path,
    shard: int,
    shards: int,
    classes_file: Path | None,
    manifest: Path,
    rejected: Path,
    census: Path | None = None,
    lists: Path | None = None,
) -> None:
    """Write the manifest, the rejections and the census of one shard of a dataset.

    `generated` is the folder of generated images or label maps, see `listing.list_dataset`, and
    `lists` the folder of what planning has listed, see `datasets.lists`.
    """
    entries = read_lists(lists, dataset, generated, shards).entries(shard)
    refused = read_refused(generated / REFUSED)
    unpainted = {item.image_id: item.reason for item in refused if item.what == "label"}

    def truth(entry: Entry, label: LabelFile, size: tuple[int, int]) -> NDArray[np.uint16]:
        if entry.image_id in unpainted:
            raise ImageError(unpainted[entry.image_id])
        return read_label(label, size)

    counted = Census()
    rows, rejections = index_entries(
        entries,
        read_classes(classes_file) if classes_file is not None else None,
        ignore=dataset.ignore,
        max_pixels=dataset.max_pixels,
        depth=dataset.depth,
        stop=dataset.on_bad_image == "stop",
        truth=truth,
        census=counted,
    )
    if shard == 0:  # reasons that concern no single image, once
        rejections += [item for item in refused if item.what != "label"]
    log.info("%d images, %d with labels", len(rows), sum(row.label is not None for row in rows))
    if census is not None:
        write_census(census, counted)
    write_rows(rejected, rejections, Rejection)
    write_rows(manifest, rows, Row)


def gather_rejected(parts: Iterable[Path], rejected: Path, others: Iterable[Others] = ()) -> None:
    """Join the rejections of all shards, followed by the skipped files, one row per suffix."""
    rows = [["", printable(one.pattern), one.what, one.reason] for one in others]
    gather_csv(parts, rejected, rows)


def count_rejected(rejected: Path) -> int:
    """Return the number of images and label maps in a table of rejections."""
    with rejected.open(newline="", encoding="utf-8") as file:
        return sum(row["what"] not in (PASSED_OVER, NO_IMAGE) for row in csv.DictReader(file))


def first_rejected(rejected: Path, most: int = 3) -> list[str]:
    """Return the first rejections of a table in words, and how many more there are."""
    with rejected.open(newline="", encoding="utf-8") as file:
        lines = [
            f"{row['what']} {row['image_id']!r}: {row['reason']}"
            for row in csv.DictReader(file)
            if row["what"] not in (PASSED_OVER, NO_IMAGE)
        ]
    more = [f"and {len(lines) - most} more"] * (len(lines) > most)
    return lines[:most] + more


def passed_over(rejected: Path) -> list[str]:
    """Return a line for each suffix of skipped pictures in a table of rejections."""
    with rejected.open(newline="", encoding="utf-8") as file:
        return [
            f"{row['image_id']}: {row['reason']}"
            for row in csv.DictReader(file)
            if row["what"] == PASSED_OVER
        ]


def list_rejected(
    dataset: DatasetSettings,
    generated: Path,
    parts: Sequence[Path],
    rejected: Path,
    lists: Path | None = None,
) -> None:
    """Write the rejections of a dataset: those of its shards, and its files that are not images."""
    gather_rejected(parts, rejected, read_lists(lists, dataset, generated, len(parts)).others)


def gather_manifest(parts: Sequence[Path], manifest: Path) -> None:
    """Join the manifests of all shards; the first column becomes the shard.

    Parameters
    ----------
    parts : sequence of Path
        The manifests of the shards, in one folder.
    manifest : Path

    Raises
    ------
    DatasetError
        If no image is usable.
    """
    usable = gather_csv(parts, manifest)
    log.info("%d images can be used", usable)
    if not usable:
        raise DatasetError(f"no image can be used; see {parts[0].parent}/*.rejected.csv")


def gather_census(parts: Iterable[Path], output: Path) -> None:
    """Add up the statistics of all shards; see `datasets.census`."""
    write_census(output, read_census(parts))


def gather_csv(parts: Iterable[Path], output: Path, rows: Iterable[Sequence[str]] = ()) -> int:
    """Join CSV files with equal columns, and insert the shard as the first column.

    Parameters
    ----------
    parts : iterable of Path
        One file per shard, whose name starts with the shard.
    output : Path
    rows : iterable of sequence of str
        Further rows to append, including the first column.

    Returns
    -------
    int
        Number of rows in `parts`.
    """
    count = 0
    with replacing(output) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        for number, part in enumerate(parts):
            with part.open(newline="", encoding="utf-8") as source:
                for line, row in enumerate(csv.reader(source)):
                    shard = "shard" if line == 0 else part.name.split(".")[0]
                    if line > 0 or number == 0:
                        write_line(file, [shard, *row])
                    count += line > 0
        for further in rows:
            write_line(file, further)
    return count
