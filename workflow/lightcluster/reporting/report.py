"""The report of a run: contact sheets, figures, and one page with all of it that can be mailed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from lightcluster.datasets.labels import Classes, open_label, read_classes, to_indices
from lightcluster.datasets.manifest import Row, Sample, iter_manifest
from lightcluster.errors import ImageError, StoreError
from lightcluster.evaluation.counting import iter_images, read_class_counts
from lightcluster.evaluation.mask_counts import STAGES
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.evaluation.protocols import FrameName, frame_called
from lightcluster.evaluation.tables import protocols_of, seeds_of
from lightcluster.extraction.images import open_row
from lightcluster.files import replacing
from lightcluster.images.recognition import open_plain
from lightcluster.masks.consistency import PatchMasks, read_patch_masks
from lightcluster.masks.pixels import PixelMasks, read_pixel_masks
from lightcluster.methods.registry import FIGURES
from lightcluster.progress import progress
from lightcluster.reporting.contact_sheet import (
    CELL,
    MASKS,
    SEGMENTATION,
    ColourKey,
    Strip,
    choose_images,
    draw_contact_sheets,
    make_strip,
)
from lightcluster.reporting.figures import (
    MATCHING_NAMES,
    Score,
    class_score,
    describe_run,
    fallback_of,
    has_masks,
    mask_score,
    matchings_of,
    of_protocol,
    plot_classes,
    plot_confusion,
    plot_per_class,
    plot_stages,
    read_table,
    save_figure,
)
from lightcluster.reporting.page import embed_png, embed_sheet_file, fill_template
from lightcluster.reporting.provenance import Cost, versions
from lightcluster.reporting.viewer import (
    BOX,
    Section,
    least_agreement,
    lowest_accuracy,
    lowest_iou,
    make_pictures,
    render_viewer,
)

TEMPLATE = Path(__file__).with_name("summary.html.j2")
VARIANTS_NOT_SUMMARIZED = ("count_hungarian", "iou_majority", "count_majority")
"""Matchings that the summary leaves out, unless they are the protocol's own."""

PATCH_ABOVE = 0.5
"""The score above which a patch is drawn as foreground."""

ANALYSES = {
    "patches": (
        "Patches",
        "Patches of the sample that the upper levels are fitted on, of at most 200 images. Labels "
        "colour one panel, if there are any, and nothing else.",
    ),
    "superclasses": (
        "Superclasses",
        "The images of each group that are nearest to its centroid, by their CLS tokens.",
    ),
    "classes": (
        "Typical regions",
        "The regions of each cluster that are nearest to its centroid, first labelling seed.",
    ),
    **{figure.name: (figure.title, figure.caption) for figure in FIGURES},
}
"""Heading and caption of each figure of `analysis.analyse`, and of those of methods."""


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

    Raises
    ------
    ImageError
        If an image or label of the manifest can no longer be read.
    StoreError
        If the files of earlier steps are missing, damaged, or of other images.
    """
    chosen = choose_images(iter_manifest(manifest), samples, seed)
    per_shard = Counter(sample.shard for sample in iter_manifest(manifest))
    classes, key = None, ColourKey.of_clusters(background=patch_masks is not None)
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
            analysis=[
                *(sorted(analysis.glob("*.png"), key=_order_of) if analysis else []),
                *figures,
            ],
        )  # fmt: skip
        (folder / "index.html").write_text(page, encoding="utf-8")


def _order_of(figure: Path) -> int:
    """Return the place of a figure among the `ANALYSES`."""
    return list(ANALYSES).index(figure.stem)


# ---- contact sheets ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sources:
    """Where the pictures of a contact sheet come from; see `report`."""

    patch_masks: Path | None
    pixel_masks: Path | None
    segmentation: Path
    classes: Classes | None
    ignore: int
    max_pixels: int
    key: ColourKey


def read_colour_key(matching: Path, classes: Classes) -> ColourKey:
    """Read which class each cluster is drawn as: first protocol, its own matching, first seed."""
    table = read_table(matching)
    first = table.iloc[0]
    own, seed = str(first["matching"]), str(first["seed"])
    for column in ("protocol", "matching", "seed"):
        table = table[table[column] == first[column]]
    position = {name: number for number, name in enumerate(classes.names)}
    matched = np.full(int(table["cluster"].max()) + 1, UNMATCHED, np.int64)
    matched[table["cluster"]] = [position.get(name, UNMATCHED) for name in table["class"]]
    caption = (
        "Colours: classes. A cluster has the colour of the class matched to it by the labels "
        f"({MATCHING_NAMES[own]}, seed {seed})."
    )
    return ColourKey(classes.names, matched, caption)


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


def load_strips(
    sources: Sources, chosen: list[Sample], box: tuple[int, int] = CELL
) -> Iterator[Strip]:
    """Yield the row of each chosen image, with the masks of one shard at a time in memory."""
    for shard, members in groupby(chosen, key=lambda sample: sample.shard):
        patches, pixels = None, None
        if sources.patch_masks is not None and sources.pixel_masks is not None:
            patches = read_patch_masks(sources.patch_masks / f"{shard}.npz")
            pixels = read_pixel_masks(sources.pixel_masks / f"{shard}.npz")
        for sample in members:
            masks = {} if patches is None or pixels is None else masks_of(sample, patches, pixels)
            yield load_strip(sources, sample, masks, box)


def masks_of(
    sample: Sample, patches: PatchMasks, pixels: PixelMasks
) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of an image by their headings.

    Raises
    ------
    StoreError
        If its shard does not hold it.
    """
    image_id = sample.row.image_id
    try:
        number, at = patches.image_id.index(image_id), pixels.image_id.index(image_id)
    except ValueError:
        raise StoreError(
            f"shard {sample.shard} holds no masks of {image_id!r}: it is of another listing "
            "of the dataset; run snakemake again"
        ) from None
    patch_mask = patches.score_of(number) > PATCH_ABOVE
    masks = (*patches.votes_of(number), patch_mask, pixels.mask_of(at))
    return dict(zip(MASKS, masks, strict=True))


def load_strip(
    sources: Sources, sample: Sample, masks: dict[str, NDArray[np.bool_]], box: tuple[int, int]
) -> Strip:
    """Read all that is known of one image and draw it.

    Raises
    ------
    ImageError
        If the image or its label can no longer be read.
    """
    row = sample.row
    image, truth = read_image(row, sources.classes, sources.ignore, sources.max_pixels, box)
    painted = read_segmentation(sources.segmentation / sample.shard / row.output)
    return make_strip(row, image, masks, {SEGMENTATION: (painted, sources.key)}, truth, box)


def read_image(
    row: Row, classes: Classes | None, ignore: int, max_pixels: int, box: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None]:
    """Return an image, about as large as the box, and the positions of its true classes.

    Returns
    -------
    uint8 array, shape (any height, any width, 3)
    uint16 array, shape (height, width), or None
        None without a label.

    Raises
    ------
    ImageError
        If one of them can no longer be read.
    """
    image = open_row(row.image, max_pixels, draft_size=box)
    try:
        if row.label is None or classes is None:
            return image, None
        label = open_label(row.label, (row.height, row.width))
        return image, to_indices(label, classes, ignore)
    except ImageError as error:
        raise ImageError(f"{str(row.path)!r}: {error}") from None


def read_segmentation(path: Path) -> NDArray[np.integer]:
    """Return the clusters in a PNG of `paint_segmentation`, int [height, width].

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    try:
        with open_plain(path) as image:
            return np.asarray(image)
    except (OSError, SyntaxError, ImageError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run snakemake to make it") from None


# ---- figures and page ----------------------------------------------------------------------------


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


@dataclass(frozen=True)
class MaskLine:
    """One line of the table of masks, in per cent."""

    stage: str
    miou: Score
    foreground: Score
    background: Score
    accuracy: Score
    image: Score
    recall: Score
    outline: Score
    taken: Score


@dataclass(frozen=True)
class ClassLine:
    """One line of the table of classes, in per cent."""

    matching: str
    fallback: str
    miou: Score
    floor: Score
    neighbors: Score
    ceiling: Score
    accuracy: Score


def mask_lines(metrics: pd.DataFrame) -> list[MaskLine]:
    """Return the scores of each stage of the mask; none if they were not scored."""
    return [
        MaskLine(
            stage=f"{stage} level" if stage in STAGES[:3] else stage,
            miou=mask_score(metrics, stage, "fgbg_miou"),
            foreground=mask_score(metrics, stage, "foreground_iou"),
            background=mask_score(metrics, stage, "background_iou"),
            accuracy=mask_score(metrics, stage, "fgbg_accuracy"),
            image=mask_score(metrics, stage, "image_foreground_iou"),
            recall=mask_score(metrics, stage, "class_recall"),
            outline=mask_score(metrics, stage, "boundary_f"),
            taken=mask_score(metrics, stage, "background_taken"),
        )
        for stage in STAGES * has_masks(metrics)
    ]


def class_lines(metrics: pd.DataFrame, matchings: list[str]) -> list[ClassLine]:
    """Return the scores of the classes under each of some matchings of one protocol."""
    return [
        ClassLine(
            matching=MATCHING_NAMES[matching],
            fallback=fallback_of(metrics, matching),
            miou=class_score(metrics, "segmentation", matching),
            floor=class_score(metrics, "random_labels", matching),
            neighbors=class_score(metrics, "neighbor_labels"),
            ceiling=class_score(metrics, "oracle_labels"),
            accuracy=class_score(metrics, "segmentation", matching, "pixel_accuracy"),
        )
        for matching in matchings
    ]


def image_score(summary: pd.DataFrame) -> Score:
    """Return the score of protocol ``per_image`` over seeds."""
    values = summary.set_index("seed")["value"]
    return Score(float(values["mean"]), float(values["sd"]))


def conditions(metrics: pd.DataFrame) -> dict[str, str]:
    """Return what must stand beside every score of one protocol for it to be comparable."""
    first = metrics.iloc[0]
    return {
        "dataset": str(first["dataset"]),
        "run": str(first["run"]),
        "protocol": str(first["protocol"]),
        "images": f"{int(first['images']):,}",
        "ignored pixels": f"{int(first['ignored_pixels']):,}",
        "resolution": str(first["resolution"]),
        "crop": str(first["crop"]),
        "refinement": str(first["crf"]),
        "classes": f"{int(first['classes'])}, from {int(first['clusters'])} clusters",
        "labelling seeds": ", ".join(seeds_of(metrics)) or "none",
        "fitted on": str(first["fitted_on"]),
    }


@dataclass(frozen=True)
class ProtocolScores:
    """What the page says of one protocol: its conditions, and a line for each matching."""

    conditions: dict[str, str]
    lines: list[ClassLine]


def protocol_scores(metrics: pd.DataFrame) -> list[ProtocolScores]:
    """Return the scores of the classes, those of each protocol by themselves."""
    tables = [of_protocol(metrics, name) for name in protocols_of(metrics)]
    return [
        ProtocolScores(conditions(table), class_lines(table, matchings_of(table)))
        for table in tables
    ]


def render_page(
    metrics: pd.DataFrame | None,
    of_images: Score | None,
    sheets: list[Path],
    figures: list[Path],
    *,
    shown: int,
    images: int,
    viewer: str,
    config: str,
    costs: Sequence[Cost],
    analysis: list[Path],
) -> str:
    """Return the page as HTML that refers to no other file.

    Parameters
    ----------
    metrics : DataFrame or None
        None if the dataset has no labels.
    of_images : Score or None
        Of protocol ``per_image``.
    sheets, figures : list of Path
        PNGs to embed.
    shown, images : int
        Number of images on the contact sheets and in the dataset.
    viewer : str
        HTML, see `viewer.render_viewer`.
    config : str
        YAML.
    costs : sequence of Cost
        None: no table of them.
    analysis : list of Path
        PNGs to embed, by the names of `ANALYSES`.
    """
    return fill_template(
        TEMPLATE,
        protocols=[] if metrics is None else protocol_scores(metrics),
        masks=[] if metrics is None else mask_lines(metrics),
        mask_conditions={} if metrics is None else conditions(metrics),
        of_images=of_images,
        figures={path.stem: embed_png(path) for path in figures},
        sheets=[embed_sheet_file(path) for path in sheets],
        shown=shown,
        images=images,
        viewer=viewer,
        config=config,
        costs=costs,
        analyses=[(*ANALYSES[path.stem], embed_sheet_file(path)) for path in analysis],
        versions=versions(),
        duration=lambda seconds: str(timedelta(seconds=round(seconds))),
    )


def summary_lines(metrics: pd.DataFrame) -> list[str]:
    """Return the scores of a run in a few lines of text.

    Parameters
    ----------
    metrics : DataFrame
        `evaluation.tables.Tables.metrics`.
    """
    first, images = metrics.iloc[0], int(metrics["images"].iloc[0])
    scores = {
        stage: f"{stage} mask: {mask_score(metrics, stage)} fg/bg mIoU, foreground IoU by image "
        f"{mask_score(metrics, stage, 'image_foreground_iou')}, recall by class "
        f"{mask_score(metrics, stage, 'class_recall')}, boundary F "
        f"{mask_score(metrics, stage, 'boundary_f')}"
        for stage in ("merged", "reestimated", "refined") * has_masks(metrics)
    }
    if scores and mask_score(metrics, "reestimated") == mask_score(metrics, "merged"):
        del scores["reestimated"]  # there were no rounds
    masks = list(scores.values())
    classes = [
        line
        for name in protocols_of(metrics)
        for line in summarize_protocol(of_protocol(metrics, name))
    ]
    names = protocols_of(metrics)
    scope = (
        f"scores in per cent, on {images:,} labelled image{'s' * (images != 1)} and "
        f"{int(first['classes'])} classes, protocol{'s' * (len(names) > 1)} {', '.join(names)}"
    )
    return [*masks, *classes, scope]


def summarize_protocol(metrics: pd.DataFrame) -> list[str]:
    """Return the scores of the classes under one protocol, equal ones once."""
    own, *variants = matchings_of(metrics)
    shown = [own, *(name for name in variants if name not in VARIANTS_NOT_SUMMARIZED)]
    lines = class_lines(metrics, shown)
    distinct = {(line.miou, line.floor, line.fallback): line for line in reversed(lines)}
    seeds = len(seeds_of(metrics))
    return [describe_classes(line, seeds) for line in reversed(distinct.values())]


def describe_classes(line: ClassLine, seeds: int) -> str:
    """Return the scores of the classes under one matching in a line of text."""
    matching = f"{line.matching}, here {line.fallback}" if line.fallback else line.matching
    beside = {"random": line.floor, "neighbours'": line.neighbors, "oracle": line.ceiling}
    bounds = [
        f"{whose} labels {Score(score.mean)}"
        for whose, score in beside.items()
        if not math.isnan(score.mean)
    ]
    return (
        f"classes: {line.miou} mIoU ({matching}, {seeds} seed{'s' * (seeds != 1)}; "
        f"{', '.join(bounds)})"
    )
