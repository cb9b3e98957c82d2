"""The report of a run: one page that can be mailed, and the figures of Snakemake's report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from lightcluster.datasets.labels import Classes, read_classes
from lightcluster.datasets.manifest import Sample, iter_manifest, read_refused
from lightcluster.evaluation.counting import files_of_seed, iter_images, read_class_counts
from lightcluster.evaluation.mask_counts import read_mask_counts
from lightcluster.evaluation.protocols import FrameName, frame_called
from lightcluster.evaluation.tables import protocols_of, seeds_of
from lightcluster.files import replacing
from lightcluster.progress import progress
from lightcluster.regions.palette import hex_color
from lightcluster.reporting.choice import (
    Agreement,
    choose_images,
    least_agreement,
    lowest_accuracy,
    lowest_iou,
    read_agreements,
)
from lightcluster.reporting.clusters import (
    Found,
    cluster_lines,
    legend_of,
    read_found,
    read_names,
)
from lightcluster.reporting.contact_sheet import (
    DISAGREEMENT,
    ERRORS,
    SEGMENTATION,
    ColourKey,
    Strip,
    draw_contact_sheets,
)
from lightcluster.reporting.figures import (
    plot_classes,
    plot_confusion,
    plot_per_class,
    plot_stages,
    save_figure,
)
from lightcluster.reporting.lines import image_score
from lightcluster.reporting.overlays import EXTRA, MISSED
from lightcluster.reporting.overview import (
    OVERVIEW,
    Overview,
    agreement_headline,
    scored_headline,
)
from lightcluster.reporting.provenance import Cost
from lightcluster.reporting.run_page import TITLES, Scores, Shown, render_page
from lightcluster.reporting.strips import MaskFolders, Sources, load_strips, read_colour_key
from lightcluster.reporting.tables import describe_run, has_masks, of_protocol, read_table
from lightcluster.reporting.viewer import BOX, Section, make_pictures
from lightcluster.shards import Shards

EXAMPLES = 6
"""Images that the page shows first."""


def report(
    manifest: Path,
    masks: MaskFolders | None,
    segmentation: Path,
    output: Path,
    *,
    dataset: str,
    run: str,
    every_shard: Shards,
    rejected: Path,
    palette: Path,
    regions: Path | None,
    tables: Path | None,
    per_image: Path | None,
    classes_file: Path | None,
    ignore: int,
    samples: int,
    seed: int,
    failures: int,
    max_pixels: int,
    config: Mapping[str, Any],
    costs: Sequence[Cost] = (),
    analysis: Path | None = None,
    figures: Sequence[Path] = (),
    counts: Path | None = None,
    called: Mapping[int, str] | None = None,
    gallery: bool = False,
) -> None:
    """Write the report of a run into the folder `output`.

    ``index.html``, which needs no other file; ``overview.json``, for the page of all runs; and, for
    Snakemake's report, contact sheets ``contact_sheet_1.png`` and so on, with `tables` also
    ``stages.png`` (if a class is the background), ``classes.png`` and ``per_class.png``, and with
    `counts` ``confusion.png``.

    Parameters
    ----------
    manifest : Path
        Of the whole dataset, with the column ``shard``.
    masks : MaskFolders or None
        None of a method that has no masks.
    segmentation : Path
        Folder of ``<shard>/<output>.png``, from `paint_segmentation` or `paint_clusters`.
    output : Path
    dataset, run : str
        Titles of the page.
    every_shard : Shards
        Those without an image, too.
    rejected : Path
        Folder of ``<shard>.rejected.csv``.
    palette : Path
        The ``classes.csv`` of the segmentation.
    regions : Path or None
        Folder of ``<shard>.csv`` of `paint_segmentation`; None of a method that has no masks.
    tables : Path or None
        Folder of `evaluation.tables.evaluate`; None if the dataset has no labels.
    per_image : Path or None
        Summary of `evaluation.per_image.score_images`; None if the images were not scored.
    classes_file : Path or None
        Needed with `tables`.
    ignore : int
        Label value without a class.
    samples, seed : int
        Number of images and seed of their choice.
    failures : int
        Number of images, besides, of each kind of likely failures.
    max_pixels : int
        Larger images are refused.
    config : mapping
        Sections of the configuration, to be shown.
    costs : sequence of Cost
        What the steps took, to be shown.
    analysis : Path or None
        Folder of figures to be shown as well, from `analysis.analyse`.
    figures : sequence of Path
        Likewise, those of `methods.registry.FIGURES`.
    counts : Path or None
        Folder of the counts of `counting`: failures by the truth and the confusion of the classes
        are shown, too.
    called : mapping of int to str, optional
        Names that a user gave to clusters.
    gallery : bool
        Whether there is one, which the page then links to: ``../gallery/index.html``.

    Raises
    ------
    ImageError
        If an image or label of the manifest can no longer be read.
    StoreError
        If the files of earlier steps are missing, damaged, or of other images.
    """
    chosen = choose_images(iter_manifest(manifest), samples, seed)
    per_shard = Counter(sample.shard for sample in iter_manifest(manifest))
    shards = list(per_shard)
    called = called or {}
    classes, key = None, ColourKey.of_clusters(background=masks is not None, called=called)
    if tables is not None and classes_file is not None:
        classes = read_classes(classes_file)
        key = read_colour_key(tables / "matching.csv", classes)
    background = None
    if counts is not None and masks is not None:
        position = read_mask_counts(counts / "masks" / f"{shards[0]}.npz").background
        background = None if position < 0 else position
    sources = Sources(masks, segmentation, classes, ignore, max_pixels, key, background)
    found = None if regions is None else read_found(manifest, regions, failures)
    agreements: list[Agreement] = []
    with replacing(output) as folder:
        folder.mkdir()
        write_contact_sheets(sources, chosen, folder)
        metrics, scores, confusion = None, None, None
        if tables is not None:
            metrics, per_class = (read_table(tables / f"{n}.csv") for n in ("metrics", "per_class"))
            write_figures(metrics, per_class, folder)
            if counts is not None and classes is not None:
                paths, frame = drawn_counts(metrics, counts, shards)
                confusion = read_class_counts(paths, frame)[0].segmentation
                write_confusion(metrics, confusion, key, classes, folder)
            scores = Scores(
                metrics, per_class,
                None if per_image is None else image_score(read_table(per_image)),
                None if confusion is None else folder / "confusion.png",
            )  # fmt: skip
        examples, more = show_chosen(sources, chosen, seed)
        shown = Shown(
            examples, more,
            [
                *show_empty(sources, found),
                *show_least_agreement(sources, manifest, failures, agreements),
                *show_worst(sources, manifest, shards, failures, counts, metrics),
            ],
        )  # fmt: skip
        names = read_names(palette, called)
        refused = [
            one
            for path in every_shard.paths(rejected, ".rejected.csv")
            for one in read_refused(path)
        ]
        overview = Overview(
            dataset=dataset, run=run, images=per_shard.total(), rejected=len(refused),
            clusters=len(names) - (found is not None),
            regions=None if found is None else found.regions,
            empty=None if found is None else found.empty,
            headline=agreement_headline(agreements) if metrics is None
            else scored_headline(metrics),
            gallery=gallery,
        )  # fmt: skip
        page = render_page(
            overview, shown,
            cluster_lines(names, key, found, confusion, manifest, max_pixels), scores,
            rejected=refused,
            config=yaml.safe_dump(dict(config), sort_keys=False), costs=costs,
            analysis=[*(analysis.glob("*.png") if analysis else ()), *figures],
        )  # fmt: skip
        overview.write(folder / OVERVIEW)
        (folder / "index.html").write_text(page, encoding="utf-8")


def write_contact_sheets(sources: Sources, chosen: list[Sample], folder: Path) -> None:
    """Write the pages of the contact sheet."""
    strips = progress(load_strips(sources, chosen), "contact sheet", len(chosen))
    for number, sheet in enumerate(draw_contact_sheets(strips, sources.key), 1):
        sheet.save(folder / f"contact_sheet_{number}.png", optimize=True)


def show(
    sources: Sources, found: Sequence[tuple[float, Sample]], id: str, title: str, text: str, *,
    first: str, note: str = "", legend: Sequence[tuple[str, str]] | None = None,
) -> Section:  # fmt: skip
    """Return a section of images, each with a note that its number is put into as per cent.

    Without a `legend`, it is that of the classes on its images.
    """
    classes: set[int] = set()

    def strips() -> Iterator[Strip]:
        for strip in load_strips(sources, [sample for _, sample in found], BOX, marked=True):
            classes.update(strip.classes)
            yield strip

    pictures = make_pictures(strips(), [note.format(100 * number) for number, _ in found])
    if legend is None:
        legend = legend_of(classes, sources.key)
    return Section(id, title, text, pictures, first, list(legend))


def show_chosen(sources: Sources, chosen: list[Sample], seed: int) -> tuple[Section, Section]:
    """Return the images chosen at random: the first few, and the others."""
    first = choose_images(chosen, EXAMPLES, seed)
    others = [sample for sample in chosen if sample not in first]
    text = "Images chosen at random with a fixed seed"
    examples, more = (
        show(
            sources, [(0.0, sample) for sample in some], name, TITLES[name], f"{text}{ending}",
            first=SEGMENTATION,
        )
        for some, name, ending in (
            (first, "examples", f". {sources.key.caption}"),
            (others, "more", "."),
        )
    )  # fmt: skip
    return examples, more


def show_empty(sources: Sources, found: Found | None) -> list[Section]:
    """Return images in which no object was found; of a method with masks, if there are any."""
    if found is None or not found.shown_empty:
        return []
    number = "1 image has" if found.empty == 1 else f"{found.empty:,} images have"
    return [
        show(
            sources, [(0.0, sample) for sample in found.shown_empty], "empty", "Empty masks",
            f"{number} no object. Marked are the patches on which the three levels disagree.",
            first=DISAGREEMENT, legend=[(_MISSED, "the levels disagree")],
        )
    ]  # fmt: skip


def show_least_agreement(
    sources: Sources, manifest: Path, failures: int, agreements: list[Agreement]
) -> list[Section]:
    """Return the images on which the levels agree least; append the agreement of each image."""
    masks = sources.masks
    if masks is None:
        return []

    def noted() -> Iterator[tuple[Agreement, Sample]]:
        for agreement, sample in read_agreements(iter_manifest(manifest), masks.merged):
            agreements.append(agreement)
            yield agreement, sample

    return [
        show(
            sources, least_agreement(noted(), failures), "agreement", "The levels disagree",
            "Of all images, those on which the three levels agree least. No labels were used.",
            first=DISAGREEMENT, note="all three levels agree on {:.0f} % of the patches",
            legend=[(_MISSED, "the levels disagree")],
        )
    ]  # fmt: skip


def show_worst(
    sources: Sources, manifest: Path, shards: list[str], failures: int, counts: Path | None,
    metrics: pd.DataFrame | None,
) -> list[Section]:  # fmt: skip
    """Return the labelled images with the worst mask or, without masks, with the worst classes."""
    if counts is None or metrics is None:
        return []
    if sources.masks is not None and sources.background is not None:
        return [
            show(
                sources, lowest_iou(iter_manifest(manifest), counts / "masks", failures),
                "masks", "The mask is wrong",
                "Of all labelled images, those with the lowest IoU of the refined mask and the "
                "true foreground.",
                first=ERRORS, note="IoU of the foreground {:.0f} %",
                legend=[
                    (_MISSED, "object that was missed"),
                    (hex_color(EXTRA), "background taken for an object"),
                ],
            )
        ]  # fmt: skip
    paths, frame = drawn_counts(metrics, counts, shards)
    worst = lowest_accuracy(
        iter_manifest(manifest), iter_images(paths, frame), sources.key.cluster_to_class, failures
    )
    return [
        show(
            sources, worst, "accuracy", "The classes are wrong",
            "Of all labelled images, those with the fewest correct pixels, by the matching of the "
            "whole dataset.",
            first=ERRORS, note="{:.0f} % of the pixels are correct",
            legend=[(_MISSED, "wrong class")],
        )
    ]  # fmt: skip


_MISSED = hex_color(MISSED)


def drawn_counts(
    metrics: pd.DataFrame, counts: Path, shards: list[str]
) -> tuple[list[Path], FrameName]:
    """Return the counts that are drawn, those of the first seed, and the first protocol's frame."""
    first, seed = of_protocol(metrics, protocols_of(metrics)[0]), seeds_of(metrics)[0]
    frame = frame_called(str(first["resolution"].iloc[0]), str(first["crop"].iloc[0]))
    return files_of_seed(counts, shards, int(seed)), frame


def write_figures(metrics: pd.DataFrame, per_class: pd.DataFrame, folder: Path) -> None:
    """Write all figures that the tables have scores for; the classes under the first protocol."""
    figures = {"stages": plot_stages(metrics)} if has_masks(metrics) else {}
    drawn = protocols_of(metrics)[0]
    figures["classes"] = plot_classes(of_protocol(metrics, drawn))
    figures["per_class"] = plot_per_class(
        of_protocol(per_class, drawn), of_protocol(metrics, drawn)
    )
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")


def write_confusion(
    metrics: pd.DataFrame,
    counts: NDArray[np.int64],
    key: ColourKey,
    classes: Classes,
    folder: Path,
) -> None:
    """Write the confusion of the classes, as they are coloured: first protocol, first seed."""
    first = of_protocol(metrics, protocols_of(metrics)[0])
    figure = plot_confusion(
        counts, key.cluster_to_class, classes.names,
        f"{describe_run(first)}, seed {seeds_of(metrics)[0]}",
    )  # fmt: skip
    save_figure(figure, folder / "confusion.png")
