"""The report of a run: contact sheets, figures, and one page with all of it that can be mailed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lightcluster.datasets.labels import Classes, read_classes
from lightcluster.datasets.manifest import Sample, iter_manifest
from lightcluster.evaluation.counting import iter_images, read_class_counts
from lightcluster.evaluation.protocols import FrameName, frame_called
from lightcluster.evaluation.tables import protocols_of, seeds_of
from lightcluster.files import replacing
from lightcluster.progress import progress
from lightcluster.reporting.choice import (
    choose_images,
    least_agreement,
    lowest_accuracy,
    lowest_iou,
)
from lightcluster.reporting.contact_sheet import ColourKey, draw_contact_sheets
from lightcluster.reporting.figures import (
    plot_classes,
    plot_confusion,
    plot_per_class,
    plot_stages,
    save_figure,
)
from lightcluster.reporting.lines import image_score
from lightcluster.reporting.provenance import Cost
from lightcluster.reporting.run_page import render_page
from lightcluster.reporting.strips import Sources, load_strips, read_colour_key
from lightcluster.reporting.tables import describe_run, has_masks, of_protocol, read_table
from lightcluster.reporting.viewer import BOX, Section, make_pictures, render_viewer


def report(
    manifest: Path,
    patch_masks: Path | None,
    pixel_masks: Path | None,
    segmentation: Path,
    output: Path,
    *,
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

    Contact sheets ``contact_sheet_1.png`` and so on; with `tables` the figures ``stages.png`` (if
    a class is the background), ``classes.png`` and ``per_class.png``; and ``index.html``, which
    holds all of them and the key figures and needs no other file.

    Parameters
    ----------
    manifest : Path
        Of the whole dataset, with the column ``shard``.
    patch_masks, pixel_masks : Path or None
        Folders of ``<shard>.npz``, from `merge_levels` and `refine_masks`; None of a method that
        has no masks.
    segmentation : Path
        Folder of ``<shard>/<output>.png``, from `paint_segmentation` or `paint_clusters`.
    output : Path
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
        Names that a person gave to clusters; shown if the dataset has no labels.
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
    classes, key = None, ColourKey.of_clusters(background=patch_masks is not None, called=called)
    if tables is not None and classes_file is not None:
        classes = read_classes(classes_file)
        key = read_colour_key(tables / "matching.csv", classes)
    sources = Sources(patch_masks, pixel_masks, segmentation, classes, ignore, max_pixels, key)
    with replacing(output) as folder:
        folder.mkdir()
        sheets = write_contact_sheets(sources, chosen, folder)
        metrics, drawn = None, []
        if tables is not None:
            metrics = read_table(tables / "metrics.csv")
            drawn = write_figures(metrics, read_table(tables / "per_class.csv"), folder)
            if counts is not None and classes is not None:
                drawn.append(
                    write_confusion(metrics, counts, list(per_shard), key, classes, folder)
                )
        viewed = view(sources, manifest, chosen, failures, counts, metrics)
        of_images = None if per_image is None else image_score(read_table(per_image))
        page = render_page(
            metrics, of_images, sheets, drawn, shown=len(chosen), images=per_shard.total(),
            viewer=render_viewer(viewed),
            config=yaml.safe_dump(dict(config), sort_keys=False), costs=costs,
            analysis=[*(analysis.glob("*.png") if analysis else ()), *figures], gallery=gallery,
        )  # fmt: skip
        (folder / "index.html").write_text(page, encoding="utf-8")


def write_contact_sheets(sources: Sources, chosen: list[Sample], folder: Path) -> list[Path]:
    """Write the pages of the contact sheet and return their paths."""
    strips = progress(load_strips(sources, chosen), "contact sheet", len(chosen))
    paths: list[Path] = []
    for sheet in draw_contact_sheets(strips, sources.key):
        paths.append(folder / f"contact_sheet_{len(paths) + 1}.png")
        sheet.save(paths[-1], optimize=True)
    return paths


def view(
    sources: Sources,
    manifest: Path,
    chosen: list[Sample],
    failures: int,
    counts: Path | None,
    metrics: pd.DataFrame | None,
) -> list[Section]:
    """Return what the viewer shows: images chosen at random, and two kinds of failures."""

    def section(title: str, text: str, found: list[tuple[float, Sample]], note: str) -> Section:
        notes = [note.format(100 * figure) for figure, _ in found]
        strips = load_strips(sources, [sample for _, sample in found], BOX)
        return Section(title, text, make_pictures(strips, notes))

    sections = [
        section(
            "Chosen at random", "The images of the contact sheets.",
            [(0.0, sample) for sample in chosen], "",
        )
    ]  # fmt: skip
    if sources.patch_masks is not None:
        sections.append(
            section(
                "Failures, most likely",
                "Of all images, those on which the three levels agree least. No label was looked "
                "at.",
                least_agreement(iter_manifest(manifest), sources.patch_masks, failures),
                "all three levels agree on {:.0f} % of the patches",
            )
        )
    if counts is not None and sources.patch_masks is not None:
        sections.append(
            section(
                "Failures, by the truth",
                "Of all images with a label, those whose refined mask fits the true foreground "
                "worst.",
                lowest_iou(iter_manifest(manifest), counts / "masks", failures),
                "IoU of the foreground {:.0f} %",
            )
        )
    elif counts is not None and metrics is not None:
        shards = list(Counter(sample.shard for sample in iter_manifest(manifest)))
        paths, frame = drawn_counts(metrics, counts, shards)
        sections.append(
            section(
                "Failures, by the truth",
                "Of all images with a label, those with the fewest pixels of the right class, by "
                f"the matching of the whole dataset. {sources.key.caption}",
                lowest_accuracy(
                    iter_manifest(manifest), iter_images(paths, frame),
                    sources.key.cluster_to_class, failures,
                ),
                "{:.0f} % of the pixels are right",
            )
        )  # fmt: skip
    return sections


def drawn_counts(
    metrics: pd.DataFrame, counts: Path, shards: list[str]
) -> tuple[list[Path], FrameName]:
    """Return the counts that are drawn, those of the first seed, and the first protocol's frame."""
    first, seed = of_protocol(metrics, protocols_of(metrics)[0]), seeds_of(metrics)[0]
    frame = frame_called(str(first["resolution"].iloc[0]), str(first["crop"].iloc[0]))
    return [counts / f"seed-{seed}" / f"{shard}.npz" for shard in shards], frame


def write_figures(metrics: pd.DataFrame, per_class: pd.DataFrame, folder: Path) -> list[Path]:
    """Write all figures that the tables have scores for and return their paths.

    The classes are drawn under the first protocol.
    """
    figures = {"stages": plot_stages(metrics)} if has_masks(metrics) else {}
    drawn = protocols_of(metrics)[0]
    figures["classes"] = plot_classes(of_protocol(metrics, drawn))
    figures["per_class"] = plot_per_class(
        of_protocol(per_class, drawn), of_protocol(metrics, drawn)
    )
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in figures]


def write_confusion(
    metrics: pd.DataFrame,
    counts: Path,
    shards: list[str],
    key: ColourKey,
    classes: Classes,
    folder: Path,
) -> Path:
    """Write the confusion of the classes, as they are coloured: first protocol, first seed."""
    paths, frame = drawn_counts(metrics, counts, shards)
    first = of_protocol(metrics, protocols_of(metrics)[0])
    figure = plot_confusion(
        read_class_counts(paths, frame)[0].segmentation, key.cluster_to_class, classes.names,
        f"{describe_run(first)}, seed {seeds_of(metrics)[0]}",
    )  # fmt: skip
    path = folder / "confusion.png"
    save_figure(figure, path)
    return path
