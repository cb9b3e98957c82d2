"""Draw the images of one shard for the gallery: pictures, region maps, and a table of regions.

A page that is opened from a disk may load pictures and scripts, but may not read the pixels of a
picture that is a file. So the maps that it asks which region is where stand in scripts, as data
URIs; the pictures, which it only shows, are files.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lightcluster.datasets.labels import IGNORED, read_classes
from lightcluster.datasets.manifest import Row, read_manifest
from lightcluster.errors import StoreError
from lightcluster.files import replacing
from lightcluster.masks.patches import read_level_masks, read_patch_scores
from lightcluster.masks.pixels import read_pixel_masks
from lightcluster.progress import progress
from lightcluster.regions.maps import read_region_maps
from lightcluster.regions.painted import read_segmentation
from lightcluster.regions.painting import read_regions_by_image
from lightcluster.reporting.choice import level_agreement
from lightcluster.reporting.gallery.sample import Candidate, draw_sample
from lightcluster.reporting.overlays import class_colours, fit_box, resize_nearest
from lightcluster.reporting.page import data_uri
from lightcluster.reporting.strips import read_image

RECORDS = "images.json"
THUMB, VIEW = 240, 1280
"""Longest side of the two pictures of an image, in pixels; neither is larger than the image."""

VIEW_QUALITY, THUMB_QUALITIES, THUMB_BYTES = 78, (75, 60, 45, 30), 12_000
"""JPEG qualities. A thumbnail is saved with the first one that keeps it below `THUMB_BYTES`."""

OPACITY = 150
"""Opacity of the class colours drawn over a thumbnail, from 0 to 255."""


class ShownRegion(NamedTuple):
    """A region as the page knows it.

    Attributes
    ----------
    cluster : int
    confidence : float or None
        In [0, 1]; None of a method without masks.
    area : int
        In pixels of the image.
    top, left, bottom, right : int
        Of its box, likewise; bottom and right are exclusive.
    """

    cluster: int
    confidence: float | None
    area: int
    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class Found:
    """Everything a run found in one image.

    Attributes
    ----------
    label : int array, shape (height, width)
        Region of each pixel, from 1; 0 outside of all.
    regions : list of ShownRegion
    mask : bool array, shape (height, width), or None
    votes : bool array, shape (3, rows, columns), or None
        Masks of the three levels; None, as the mask, of a method without masks.
    score : float32 array, shape (rows, columns), or None
        In [0, 1].
    """

    label: NDArray[np.integer]
    regions: list[ShownRegion]
    mask: NDArray[np.bool_] | None = None
    votes: NDArray[np.bool_] | None = None
    score: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Records:
    """The drawn images of a shard.

    Attributes
    ----------
    images : int
        Number of images in the shard, drawn or not.
    drawn : list of Drawn
    """

    images: int
    drawn: list[Drawn]


@dataclass(frozen=True)
class Drawn:
    """The record of an image that is drawn.

    Attributes
    ----------
    image_id : str
    size, thumb : tuple of int
        Height and width of the image and of its thumbnail.
    labelled : int or None
        Its place among the images of the shard that have a truth; None if it has none.
    agreement : float or None
        `choice.level_agreement`.
    foreground : float or None
        Share of the pixels.
    regions : list of ShownRegion
    """

    image_id: str
    size: tuple[int, int]
    thumb: tuple[int, int]
    labelled: int | None
    agreement: float | None
    foreground: float | None
    regions: list[ShownRegion]


def shrink_to(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the height and width of an image no side of which is longer; never enlarged."""
    height, width = size
    return fit_box(height, width, (min(height, side), min(width, side)))


def encode_map(values: NDArray[np.integer]) -> bytes:
    """Return whole numbers as a PNG whose red is their low byte, and whose green is their high one.

    Parameters
    ----------
    values : int array, shape (height, width)
        From 0 to 65,535.
    """
    high = int(values.max(initial=0))
    if high < 256:
        picture = Image.fromarray(values.astype(np.uint8))
        red = np.zeros((high + 1, 3), np.uint8)
        red[:, 0] = np.arange(high + 1)
        picture.putpalette(red.tobytes())
    else:
        low = (values & 255).astype(np.uint8)
        bytes_of = [low, (values >> 8).astype(np.uint8), np.zeros_like(low)]
        picture = Image.fromarray(np.stack(bytes_of, axis=-1))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def encode_thumb(thumb: Image.Image) -> bytes:
    """Return a thumbnail as a JPEG of `THUMB_BYTES` at most, or of the lowest quality."""
    for quality in THUMB_QUALITIES:
        buffer = io.BytesIO()
        thumb.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= THUMB_BYTES:
            break
    return buffer.getvalue()


def overlay_of(clusters: NDArray[np.integer], background: bool) -> Image.Image:
    """Return the classes of a thumbnail as a picture with transparency, to be laid over it.

    Parameters
    ----------
    clusters : int array, shape (height, width)
    background : bool
        Whether 0 is nothing, rather than a cluster.
    """
    opacity = np.where((clusters == 0) & background, 0, OPACITY).astype(np.uint8)
    return Image.fromarray(np.dstack([class_colours(clusters), opacity]))


def regions_of_values(
    clusters: NDArray[np.integer],
) -> tuple[NDArray[np.integer], list[ShownRegion]]:
    """Return all that an image has of each cluster as a region, for methods without masks.

    Returns
    -------
    int array, shape (height, width)
        From 1.
    list of ShownRegion
    """
    present, inverse = np.unique(clusters, return_inverse=True)
    label = inverse.reshape(clusters.shape) + 1
    areas = np.bincount(label.ravel())[1:]
    boxes = ndimage.find_objects(label)
    regions = [
        ShownRegion(int(cluster), None, int(area), y.start, x.start, y.stop, x.stop)
        for cluster, area, (y, x) in zip(present, areas, boxes, strict=True)
    ]
    return label, regions


def layers_of(
    found: Found, truth: NDArray[np.integer] | None, view: tuple[int, int]
) -> dict[str, str]:
    """Return the maps of an image by name, as data URIs of `encode_map`.

    ``regions``, ``mask`` and ``truth`` (positions of classes from 1; 0: ignored) have the size of
    the view; ``levels`` (the three votes as bits, that of the dataset lowest) and ``score`` (times
    255), the grid of the patches.
    """
    maps = {"regions": resize_nearest(found.label, view)}
    if found.mask is not None:
        maps["mask"] = resize_nearest(found.mask, view).astype(np.uint8)
    if found.votes is not None:
        bits = 1 << np.arange(len(found.votes))
        maps["levels"] = (found.votes * bits[:, None, None]).sum(axis=0)
    if found.score is not None:
        maps["score"] = np.rint(255 * np.clip(found.score, 0, 1)).astype(np.uint8)
    if truth is not None:
        small = resize_nearest(truth, view).astype(np.int64)
        maps["truth"] = np.where(small == IGNORED, 0, small + 1)
    return {name: data_uri("png", encode_map(values)) for name, values in maps.items()}


def draw_image(
    image: NDArray[np.uint8], found: Found, size: tuple[int, int]
) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Return the view of an image, its thumbnail, and what is laid over that.

    Parameters
    ----------
    image : uint8 array, shape (any height, any width, 3)
        Decoded, at whatever size.
    found : Found
    size : (int, int)
        Height and width of the image itself.
    """
    view, thumb = shrink_to(size, VIEW), shrink_to(size, THUMB)
    resample = Image.Resampling.LANCZOS
    large = Image.fromarray(image)
    if image.shape[:2] != view:
        large = large.resize(view[::-1], resample)
    clusters = np.array([0, *(region.cluster for region in found.regions)])
    painted = clusters[resize_nearest(found.label, thumb)]
    overlay = overlay_of(painted, background=found.mask is not None)
    return large, large.resize(thumb[::-1], resample, reducing_gap=2.0), overlay


def draw_gallery(
    manifest: Path,
    segmentation: Path,
    output: Path,
    *,
    region_maps: Path | None,
    table: Path | None,
    merged: Path | None,
    scores: Path | None,
    pixel_masks: Path | None,
    classes_file: Path | None,
    ignore: int,
    max_pixels: int,
    images: int | None = None,
) -> None:
    """Write what the gallery shows of the images of a shard below the folder `output`.

    Of the image drawn as number *n*: ``n.jpg`` and ``n-thumb.jpg``; ``n-thumb.png``, its classes to
    be laid over the latter; ``n.js``, its maps; and of all, `RECORDS`.

    Parameters
    ----------
    manifest, segmentation : Path
        Of the shard.
    output : Path
    region_maps, table, merged, scores, pixel_masks : Path or None
        Files of the shard; None of a method without masks.
    classes_file : Path or None
        Of the truth, if there is one.
    ignore : int
        Label value without a class.
    max_pixels : int
        Larger images are refused.
    images : int, optional
        Number that is drawn at most (`sample.draw_sample`); by default, all are.

    Raises
    ------
    ImageError
        If an image or label of the manifest can no longer be read.
    StoreError
        If the files of earlier steps are missing, damaged, or of other images.
    """
    every = rows = read_manifest(manifest)
    labelled = {row.image_id: n for n, row in enumerate(row for row in rows if row.label)}
    regions = None if table is None else read_regions(table)
    if images is not None and images < len(rows):
        candidates = [
            candidate_of(row, regions, segmentation) for row in progress(rows, "choose images")
        ]
        rows = [rows[n] for n in draw_sample(candidates, images)]
    if region_maps and regions is not None and merged and scores and pixel_masks:
        finds = iter_masked(rows, region_maps, regions, merged, scores, pixel_masks)
    else:
        finds = (
            Found(*regions_of_values(read_segmentation(segmentation / row.output))) for row in rows
        )
    classes = None if classes_file is None else read_classes(classes_file)
    records: list[Drawn] = []
    shard = json.dumps(output.name)
    with replacing(output) as folder:
        folder.mkdir()
        for number, (row, found) in enumerate(zip(progress(rows, "gallery"), finds, strict=True)):
            size = row.height, row.width
            image, truth = read_image(row, classes, ignore, max_pixels, shrink_to(size, VIEW))
            view, thumb, overlay = draw_image(image, found, size)
            view.save(folder / f"{number}.jpg", quality=VIEW_QUALITY, optimize=True)
            (folder / f"{number}-thumb.jpg").write_bytes(encode_thumb(thumb))
            overlay.save(folder / f"{number}-thumb.png")
            detail = {**layers_of(found, truth, (view.height, view.width)), "list": found.regions}
            script = f"gallery.detail({shard}, {number}, {json.dumps(detail)});\n"
            (folder / f"{number}.js").write_text(script, encoding="utf-8")
            records.append(
                Drawn(
                    row.image_id, size, (thumb.height, thumb.width), labelled.get(row.image_id),
                    None if found.votes is None else round(level_agreement(found.votes), 4),
                    None if found.mask is None else round(float(found.mask.mean()), 4),
                    found.regions,
                )
            )  # fmt: skip
        text = json.dumps(asdict(Records(len(every), records)))
        (folder / RECORDS).write_text(text, "utf-8")


def candidate_of(
    row: Row, regions: Mapping[str, list[ShownRegion]] | None, segmentation: Path
) -> Candidate:
    """Return what decides whether an image is shown.

    Parameters
    ----------
    row : Row
    regions : mapping of str to list of ShownRegion, or None
        As `read_regions` returns them; None of a method without masks.
    segmentation : Path
        Of the shard, which is read in the place of regions.
    """
    if regions is None:
        values = np.unique(read_segmentation(segmentation / row.output))
        return Candidate(row.image_id, frozenset(values.tolist()), None)
    own = regions.get(row.image_id, [])
    confidence = [one.confidence for one in own if one.confidence is not None]
    clusters = frozenset(one.cluster for one in own)
    return Candidate(row.image_id, clusters, min(confidence, default=None))


def read_regions(table: Path) -> dict[str, list[ShownRegion]]:
    """Read the regions of each image of a shard that has some, from their table.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    return {
        image_id: [
            ShownRegion(
                one.cluster, one.confidence, one.area, one.top, one.left, one.bottom, one.right
            )
            for one in members
        ]
        for image_id, members in read_regions_by_image(table).items()
    }


def iter_masked(
    rows: list[Row],
    region_maps: Path,
    regions: Mapping[str, list[ShownRegion]],
    merged: Path,
    scores: Path,
    pixel_masks: Path,
) -> Iterator[Found]:
    """Yield what a method with masks found in each of some images of a shard.

    Raises
    ------
    StoreError
        If the files are of other images, missing or damaged.
    """
    maps, pixels = read_region_maps(region_maps), read_pixel_masks(pixel_masks)
    levels, patches = read_level_masks(merged), read_patch_scores(scores)
    places = [
        {name: n for n, name in enumerate(of.image_id)} for of in (maps, levels, patches, pixels)
    ]
    for row in rows:
        try:
            number, level, patch, pixel = (place[row.image_id] for place in places)
        except KeyError:
            raise StoreError(
                f"{region_maps}: holds no regions of {row.image_id!r}; run snakemake to make it"
            ) from None
        yield Found(
            maps.label_of(number), regions.get(row.image_id, []), pixels.mask_of(pixel),
            levels.votes_of(level), patches.score_of(patch),
        )  # fmt: skip


def read_records(folder: Path) -> Records:
    """Read the records that `draw_gallery` wrote of a shard.

    Raises
    ------
    StoreError
        If they are missing or damaged.
    """
    path = folder / RECORDS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        drawn = [
            Drawn(
                **{
                    **one,
                    "size": tuple(one["size"]),
                    "thumb": tuple(one["thumb"]),
                    "regions": [ShownRegion(*region) for region in one["regions"]],
                }
            )
            for one in found["drawn"]
        ]
        return Records(found["images"], drawn)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run snakemake to make it") from None
