"""The page of the gallery and the data that it reads, of all shards of a run."""

from __future__ import annotations

import csv
import heapq
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightcluster.datasets.labels import Classes, read_classes
from lightcluster.errors import StoreError
from lightcluster.evaluation.confusion import iou_matrix
from lightcluster.evaluation.counting import files_of_seed, iter_images, read_class_counts
from lightcluster.evaluation.mask_counts import STAGES, read_mask_counts
from lightcluster.evaluation.matching import Match, best_matches
from lightcluster.evaluation.protocols import FrameName
from lightcluster.files import replacing
from lightcluster.regions.palette import hex_color, read_palette
from lightcluster.reporting.gallery.drawing import Drawn, ShownRegion, read_records
from lightcluster.reporting.overlays import class_colours
from lightcluster.reporting.page import fill_template
from lightcluster.reporting.strips import read_colour_key
from lightcluster.shards import Shards

TEMPLATE = Path(__file__).with_name("gallery.html.j2")
SCRIPTS = ("state.js", "names.js", "dialog.js", "page.js")
STYLES = "gallery.css"
EXAMPLES, ALL_EXAMPLES = 24, 20_000
"""Typical regions of a class that its page shows, and doubtful ones; and of all classes."""

PART = 1_000_000
"""Characters of a file of data, about."""


class Example(NamedTuple):
    """A region that stands for its class.

    Attributes
    ----------
    shard : str
    number : int
        Of its image in the shard.
    size : tuple of int
        Height and width of that image.
    region : ShownRegion
    """

    shard: str
    number: int
    size: tuple[int, int]
    region: ShownRegion


class Cluster:
    """Totals over the regions of a cluster, and its most and least confident regions.

    Parameters
    ----------
    value : str
        Its name in ``classes.csv``, before anyone has renamed it.
    name : str
        The name that a person gave it; empty if nobody did.
    color : str
    examples : int
        Regions that it keeps at each end, at most.
    """

    def __init__(self, value: str, name: str, color: str, examples: int = EXAMPLES) -> None:
        self.value, self.name, self.color, self._examples = value, name, color, examples
        self.regions, self.area, self._confidence = 0, 0.0, 0.0
        self._typical: list[tuple[float, int, Example]] = []
        self._doubtful: list[tuple[float, int, Example]] = []

    def add(self, example: Example) -> None:
        """Count a region: typical is what is surest, or else, without confidence, largest."""
        region, pixels = example.region, example.size[0] * example.size[1]
        self.regions += 1
        self.area += region.area / pixels
        self._confidence += region.confidence or 0.0
        rank = region.area / pixels if region.confidence is None else region.confidence
        # Of equal rank, the earlier one is kept, whichever the shard.
        self._keep(self._typical, (rank, -self.regions, example))
        if region.confidence is not None:
            self._keep(self._doubtful, (-rank, -self.regions, example))

    def _keep(
        self, kept: list[tuple[float, int, Example]], new: tuple[float, int, Example]
    ) -> None:
        """Put a region into a heap of the largest."""
        (heapq.heappush if len(kept) < self._examples else heapq.heappushpop)(kept, new)

    def summary(self, number: int, images: int, match: Match | None) -> dict[str, Any]:
        """Return what the page shows of it."""
        typical, doubtful = (
            [kept[2] for kept in sorted(of, key=lambda kept: kept[:2], reverse=True)]
            for of in (self._typical, self._doubtful)
        )
        sure = any(example.region.confidence is not None for example in typical)
        # Of few regions, none is shown twice.
        doubtful = doubtful[: max(0, self.regions - len(typical))]
        return {
            "id": number,
            "value": self.value,
            "name": self.name,
            "color": self.color,
            "regions": self.regions,
            "images": images,
            "area": self.area,
            "confidence": round(self._confidence / self.regions, 4) if sure else None,
            "match": None if match is None else [match.name, round(match.iou, 4)],
            "typical": typical,
            "doubtful": doubtful,
        }


def image_iou(counts: NDArray[np.int64], class_of: NDArray[np.int64]) -> float | None:
    """Return the mean IoU of the classes that an image holds or is given.

    Parameters
    ----------
    counts : int64 array, shape (clusters, classes)
        Pixels of the image by cluster and true class.
    class_of : int64 array, shape (clusters,)
        Position of the class of each cluster.

    Returns
    -------
    float or None
        None if all of its pixels are ignored.
    """
    pixels = np.zeros((counts.shape[1], counts.shape[1]), np.int64)
    np.add.at(pixels, class_of, counts)
    iou = np.diag(iou_matrix(pixels))
    return None if np.isnan(iou).all() else float(np.nanmean(iou))


@dataclass(frozen=True)
class Scored:
    """Comparison with the ground truth.

    Attributes
    ----------
    measure : str
        What `iou` is, in words.
    iou : list of list of float or None
        IoU of each image, shard by shard; None for an image without ground truth.
    matches : list of Match or None
        Best match of each cluster.
    """

    measure: str
    iou: list[list[float | None]]
    matches: list[Match | None]


def read_scores(
    counts: Path, shards: Shards, seed: int, frame: FrameName, classes: Classes, *, masks: bool
) -> Scored:
    """Read how well each image fits its truth, and each cluster a class.

    Parameters
    ----------
    counts : Path
        Folder of the counts of a run.
    shards : Shards
    seed : int
        Of the labelling.
    frame : FrameName
        In which the clusters are counted.
    classes : Classes
    masks : bool
        Whether masks were counted: their IoU with the true foreground is an image's, then.
    """
    paths = files_of_seed(counts, shards, seed)
    pooled = read_class_counts(paths, frame)[0].segmentation
    matches = best_matches(pooled, classes.names)
    of_masks = [read_mask_counts(path) for path in shards.paths(counts / "masks", ".npz") * masks]
    if any(len(shard.by_class) for shard in of_masks):
        refined = STAGES.index("refined")
        return Scored(
            "IoU of the foreground",
            [
                [None if np.isnan(value) else float(value) for value in values]
                for values in (shard.image_iou()[:, refined] for shard in of_masks)
            ],
            matches,
        )  # fmt: skip
    class_of = np.nan_to_num(iou_matrix(pooled)).argmax(axis=1)
    return Scored(
        "mean IoU of the classes",
        [[image_iou(image.counts, class_of) for image in iter_images([path], frame)]
         for path in paths],
        matches,
    )  # fmt: skip


def read_rejected(paths: Iterable[Path]) -> list[dict[str, str]]:
    """Read the images and label maps that could not be used, from the tables of all shards."""
    found = []
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8") as file:
                found += [
                    {name: row[name] for name in ("image_id", "what", "reason")}
                    for row in csv.DictReader(file)
                    if row["image_id"]
                ]
        except (OSError, KeyError) as error:
            raise StoreError(
                f"{path}: cannot be read ({error}); run snakemake to make it"
            ) from None
    return found


def read_clusters(palette: Path, given: Mapping[int, str]) -> dict[int, Cluster]:
    """Read the values in segmentations, to some of which a person gave names.

    Raises
    ------
    StoreError
        If the table is missing or damaged.
    """
    values = read_palette(palette)
    examples = min(EXAMPLES, max(1, ALL_EXAMPLES // (2 * len(values))))
    return {
        number: Cluster(value.name, given.get(number, ""), hex_color(value.color), examples)
        for number, value in enumerate(values)
    }


def summarize(image: Drawn, iou: float | None) -> list[Any]:
    """Return what the page knows of an image before it is opened.

    Its name, height and width, those of the thumbnail, the agreement of its levels, the share of
    the foreground, the confidence (the mean over its regions, by area), the IoU with the truth, and
    its clusters.
    """
    area = sum(one.area for one in image.regions if one.confidence is not None)
    confidence = (
        sum(one.area * one.confidence for one in image.regions if one.confidence is not None) / area
        if area
        else None
    )
    return [
        image.image_id, *image.size, *image.thumb, image.agreement, image.foreground,
        *(None if value is None else round(value, 4) for value in (confidence, iou)),
        sorted({one.cluster for one in image.regions}),
    ]  # fmt: skip


def parts_of(items: Sequence[Any]) -> Iterator[tuple[int, str]]:
    """Yield the number of the first of some items, and those up to the next part as JSON.

    No part is much longer than `PART`.
    """
    first, length = 0, 0
    lines: list[str] = []
    for number, item in enumerate(items):
        lines.append(json.dumps(item, separators=(",", ":")))
        length += len(lines[-1])
        if length > PART or number == len(items) - 1:
            yield first, "[\n" + ",\n".join(lines) + "\n]"
            first, length, lines = number + 1, 0, []


def write_gallery(
    drawn: Path,
    shards: Shards,
    rejected: Path,
    palette: Path,
    output: Path,
    data: Path,
    *,
    dataset: str,
    run: str,
    seed: int,
    given: Mapping[int, str],
    clustering: str,
    masks: bool,
    counts: Path | None,
    frame: FrameName,
    classes_file: Path | None,
    matching: Path | None,
) -> None:
    """Write the page of the gallery to `output`, and what it reads into the folder `data` beside.

    Parameters
    ----------
    drawn : Path
        Folder of the folders of `drawing.draw_gallery`, in which both are.
    shards : Shards
    rejected : Path
        Folder of ``<shard>.rejected.csv``.
    palette : Path
        The ``classes.csv`` of the segmentation.
    output, data : Path
    dataset, run : str
    seed : int
        Of the labelling that is shown.
    given : mapping of int to str
        Names that a person gave to values in its segmentations.
    clustering : str
        `names.file.fingerprint` of these, which names that are downloaded carry with them.
    masks : bool
        Whether the method makes masks; its cluster 0 is the background.
    counts : Path or None
        Folder of the run's counts; None without labels.
    frame : FrameName
        See `read_scores`.
    classes_file, matching : Path or None
        Needed with `counts`: the classes, and the table of `evaluation.tables` that matches
        clusters to them, in whose colours they are shown.

    Raises
    ------
    StoreError
        If files of earlier steps are missing, damaged, or of other images.
    """
    classes = None if classes_file is None else read_classes(classes_file)
    scored = None
    if counts is not None and classes is not None:
        scored = read_scores(counts, shards, seed, frame, classes, masks=masks)
    clusters = read_clusters(palette, given)
    if masks:
        clusters.pop(0, None)
    images_of = dict.fromkeys(clusters, 0)
    scripts: list[str] = []
    shown = images = 0
    with replacing(data) as folder:
        folder.mkdir()

        def write(script: str) -> None:
            scripts.append(f"part-{len(scripts):04d}.js")
            (folder / scripts[-1]).write_text(script, encoding="utf-8")

        for place, shard in enumerate(shards):
            records = read_records(drawn / shard)
            iou = scored.iou[place] if scored else []
            try:
                lines = [
                    summarize(
                        one, iou[one.labelled] if scored and one.labelled is not None else None
                    )
                    for one in records.drawn
                ]
            except IndexError:
                raise StoreError(
                    f"{counts}: shard {shard} was counted on other images; run snakemake again"
                ) from None
            for number, (image, line) in enumerate(zip(records.drawn, lines, strict=True)):
                for cluster in line[-1]:
                    images_of[cluster] += 1
                for region in image.regions:
                    clusters[region.cluster].add(Example(shard, number, image.size, region))
            shown += len(records.drawn)
            images += records.images
            for first, part in parts_of(lines):
                write(f"gallery.add({json.dumps(shard)}, {first}, {part});\n")
        for _, part in parts_of(read_rejected(shards.paths(rejected, ".rejected.csv"))):
            write(f"gallery.reject({part});\n")
        matches = [scored.matches[number] if scored else None for number in clusters]
        facts = {
            "dataset": dataset,
            "run": run,
            "seed": seed,
            "clustering": clustering,
            "masks": masks,
            "sample": shown < images,
            "measure": scored.measure if scored else None,
            "truth": _colored(matching, classes) if scored and classes and matching else None,
            "clusters": [
                cluster.summary(number, images_of[number], match)
                for (number, cluster), match in zip(clusters.items(), matches, strict=True)
            ],
        }  # fmt: skip
        (folder / "classes.js").write_text(
            f"gallery.know({json.dumps(facts, separators=(',', ':'))});\n", encoding="utf-8"
        )
        for name in (*SCRIPTS, STYLES):
            shutil.copyfile(Path(__file__).with_name(name), folder / name)
    page = fill_template(
        TEMPLATE, dataset=dataset, run=run, shown=shown, images=images, data=data.name,
        styles=STYLES, scripts=["state.js", "classes.js", *scripts, *SCRIPTS[1:]],
    )  # fmt: skip
    with replacing(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _colored(matching: Path, classes: Classes) -> list[list[str]]:
    """Return the name and colour of each true class: that which it has in the report as well."""
    colours = class_colours(read_colour_key(matching, classes).class_values)
    return [[name, hex_color(colour)] for name, colour in zip(classes.names, colours, strict=True)]
