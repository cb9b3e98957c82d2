"""The page of a dataset with several runs: their scores, and their results side by side.

It links to the reports of the runs, and its pictures are files beside it, so that it stays small
however many runs there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lightcluster.datasets.labels import Classes, read_classes
from lightcluster.datasets.manifest import Sample, iter_manifest
from lightcluster.evaluation.comparison import PUBLISHED
from lightcluster.files import replacing
from lightcluster.progress import progress
from lightcluster.regions.painted import painted_file, read_segmentation
from lightcluster.reporting.choice import choose_images
from lightcluster.reporting.clusters import legend_of
from lightcluster.reporting.contact_sheet import ColourKey, Strip, make_strip
from lightcluster.reporting.overview import OVERVIEW, read_overview
from lightcluster.reporting.page import fill_template
from lightcluster.reporting.run_page import GALLERY
from lightcluster.reporting.strips import read_colour_key, read_image
from lightcluster.reporting.tables import Score
from lightcluster.reporting.viewer import BOX, QUALITY

TEMPLATE = Path(__file__).with_name("dataset.html.j2")


@dataclass(frozen=True)
class Line:
    """One line of the table of the comparison, as text."""

    name: str
    published: bool
    hygiene: str
    protocol: str
    figure: str
    score: str
    floor: str
    ceiling: str
    difference: str
    origin: str


def comparison_line(row: Mapping[Any, Any]) -> Line:
    """Return a row of `evaluation.comparison.make_comparison`, read from its file, as text."""
    numbers = {
        name: float(row[name]) if row[name] != "" else np.nan
        for name in ("value", "sd", "floor", "ceiling", "difference", "low", "high")
    }
    difference, low, high = (100 * numbers[name] for name in ("difference", "low", "high"))
    published = row["kind"] == PUBLISHED
    return Line(
        name=row["name"],
        published=published,
        hygiene=row["hygiene"],
        protocol=row["protocol"],
        figure=f"{row['stage']}, {row['metric']}",
        score=str(Score(numbers["value"], numbers["sd"])),
        floor="" if np.isnan(numbers["floor"]) else str(Score(numbers["floor"])),
        ceiling="" if np.isnan(numbers["ceiling"]) else str(Score(numbers["ceiling"])),
        difference="" if np.isnan(difference) else f"{difference:+.1f} ({low:+.1f} to {high:+.1f})",
        origin=row["source"] if published else row["fitted_on"],
    )


@dataclass(frozen=True)
class Cell:
    """A picture beside others: its heading, its file beside the page, and its alternative text.

    `source` is empty where there is no ground truth.
    """

    heading: str
    source: str
    alt: str


def write_dataset_page(
    folder: Path,
    segmentations: Mapping[str, Path],
    manifest: Path,
    output: Path,
    pictures: Path,
    *,
    dataset: str,
    comparison: Path | None,
    classes_file: Path | None,
    ignore: int,
    samples: int,
    seed: int,
    max_pixels: int,
) -> None:
    """Write the page to `output`, and its pictures into the folder `pictures` beside it.

    Parameters
    ----------
    folder : Path
        ``results/<dataset>``, with the finished reports, and tables if there are labels.
    segmentations : mapping of str to Path
        Folder of ``<shard>/<output>.png`` of each run.
    manifest : Path
        Of the whole dataset, with the column ``shard``.
    output, pictures : Path
    dataset : str
    comparison : Path or None
        Table of `comparison.compare`, with its figure beside it; None if there are no labels.
    classes_file : Path or None
        Needed with `comparison`.
    ignore, samples, seed, max_pixels
        As in `report.report`.

    Raises
    ------
    ImageError
        If an image or label of the manifest can no longer be read.
    StoreError
        If files of the runs are missing or damaged.
    """
    chosen = choose_images(iter_manifest(manifest), samples, seed)
    overviews = {run: read_overview(folder / run / "report" / OVERVIEW) for run in segmentations}
    key = ColourKey.of_clusters(background=False)
    keys = dict.fromkeys(segmentations, key)
    classes, lines = None, []
    if comparison is not None and classes_file is not None:
        classes = read_classes(classes_file)
        keys = {
            run: read_colour_key(folder / run / "tables" / "matching.csv", classes)
            for run in segmentations
        }
        key = ColourKey(
            classes.names, np.empty(0, np.int64),
            "Colours: classes. Each run's clusters have the colours of the classes matched to them "
            "by the labels.",
        )  # fmt: skip
        table = pd.read_csv(comparison, dtype=str, keep_default_na=False)
        lines = [comparison_line(row) for row in table.to_dict("records")]
    strips = load_rows(chosen, segmentations, keys, classes, ignore, max_pixels)
    rows, seen = [], set[int]()
    with replacing(pictures) as saved:
        saved.mkdir()
        for number, strip in enumerate(progress(strips, "side by side", len(chosen))):
            rows.append((strip, save_cells(strip, number, saved, pictures.name)))
            seen |= strip.classes
    headlines = [one.headline for one in overviews.values() if one.headline]
    page = fill_template(
        TEMPLATE,
        dataset=dataset,
        contents=[("runs", "Runs"), *[("comparison", "Comparison")] * bool(lines),
                  *[("images", "Side by side")] * bool(rows)],
        overviews=overviews,
        headline=headlines[0] if headlines else None,
        gallery=GALLERY,
        figure=comparison.with_suffix(".png").name if comparison is not None else None,
        lines=lines,
        shown=len(chosen),
        images=sum(1 for _ in iter_manifest(manifest)),
        caption=key.caption,
        legend=[] if classes is None else legend_of(seen, key),
        rows=rows,
    )  # fmt: skip
    with replacing(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def save_cells(strip: Strip, number: int, folder: Path, name: str) -> list[Cell]:
    """Write the pictures of an image as JPEG into a folder, which the page knows by its `name`."""
    cells = []
    for column, (heading, cell) in enumerate(strip.cells.items()):
        source = ""
        if cell is not None:
            file = f"{number:03d}-{column:02d}.jpg"
            Image.fromarray(cell).save(folder / file, quality=QUALITY, optimize=True)
            source = f"{name}/{file}"
        cells.append(Cell(heading, source, f"{strip.name}: {heading}"))
    return cells


def load_rows(
    chosen: Sequence[Sample],
    segmentations: Mapping[str, Path],
    keys: Mapping[str, ColourKey],
    classes: Classes | None,
    ignore: int,
    max_pixels: int,
) -> Iterator[Strip]:
    """Yield each image, what every run makes of it, and the truth."""
    for sample in chosen:
        image, truth = read_image(sample.row, classes, ignore, max_pixels, BOX)
        painted = {
            run: keys[run].cluster_to_class[read_segmentation(painted_file(folder, sample))]
            for run, folder in segmentations.items()
        }
        yield make_strip(sample.row, image, {}, painted, truth, BOX, labelled=classes is not None)
