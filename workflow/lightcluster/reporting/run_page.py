"""The page of a run: overview, pictures, classes, failures, scores and settings, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd

from lightcluster.datasets.manifest import Rejection
from lightcluster.evaluation.tables import protocols_of
from lightcluster.methods.protocol import seen_labels
from lightcluster.methods.registry import FIGURES
from lightcluster.reporting.clusters import ClusterLine
from lightcluster.reporting.lines import (
    IouLine,
    conditions,
    iou_lines,
    mask_lines,
    protocol_scores,
)
from lightcluster.reporting.overview import Overview
from lightcluster.reporting.page import embed_file, fill_template
from lightcluster.reporting.provenance import Cost, versions
from lightcluster.reporting.tables import Score, matchings_of, of_protocol
from lightcluster.reporting.viewer import Section

TEMPLATE = Path(__file__).with_name("run.html.j2")
GALLERY = "gallery/index.html"
"""Path within the folder of a run."""

MOST_REJECTED = 100

ANALYSES = {
    "patches": (
        "Patches",
        "Features of patches of at most 200 images, projected onto their first two principal "
        "components. The upper levels are fitted on these patches. Labels, if there are any, "
        "colour one panel and are not used otherwise.",
    ),
    "superclasses": (
        "Superclasses",
        "The images of each group that are nearest to its centroid, by their CLS tokens.",
    ),
    **{figure.name: (figure.title, figure.caption) for figure in FIGURES},
}
"""Heading and caption of the figures of `analysis.analyse` that the page shows, and of methods."""

TITLES = {
    "overview": "Overview",
    "examples": "Examples",
    "classes": "Classes",
    "failures": "Likely failures",
    "scores": "Scores",
    "more": "More examples",
    "analysis": "Analysis",
    "rejected": "Rejected images and labels",
    "cost": "Time and memory",
    "settings": "Settings and versions",
}
"""Headings of the sections of the page."""


@dataclass(frozen=True)
class Scores:
    """Scores shown when the dataset has labels.

    Attributes
    ----------
    metrics, per_class : DataFrame
        `evaluation.tables.Tables`.
    of_images : Score or None
        Of protocol ``per_image``.
    confusion : Path or None
        PNG.
    """

    metrics: pd.DataFrame
    per_class: pd.DataFrame
    of_images: Score | None
    confusion: Path | None


@dataclass(frozen=True)
class Shown:
    """The images on the page: some chosen at random, more of them, and likely failures."""

    examples: Section
    more: Section
    failures: list[Section]


def render_page(
    overview: Overview,
    shown: Shown,
    clusters: Sequence[ClusterLine],
    scores: Scores | None,
    *,
    rejected: Sequence[Rejection],
    config: str,
    costs: Sequence[Cost],
    analysis: list[Path],
) -> str:
    """Return the page as HTML that needs no other file.

    Parameters
    ----------
    overview : Overview
    shown : Shown
    clusters : sequence of ClusterLine
    scores : Scores or None
        None if the dataset has no labels.
    rejected : sequence of Rejection
    config : str
        YAML.
    costs : sequence of Cost
        None: no table of them.
    analysis : list of Path
        PNGs; those that `ANALYSES` names are embedded.
    """
    metrics = None if scores is None else scores.metrics
    analyses = [
        (*ANALYSES[path.stem], embed_file(path)) for path in sorted(
            (path for path in analysis if path.stem in ANALYSES), key=_order_of
        )
    ]  # fmt: skip
    failures = [section for section in shown.failures if section.pictures]
    present = {
        "overview": True,
        "examples": bool(shown.examples.pictures),
        "classes": True,
        "failures": bool(failures),
        "scores": scores is not None,
        "more": bool(shown.more.pictures),
        "analysis": bool(analyses),
        "rejected": bool(rejected),
        "cost": bool(costs),
        "settings": True,
    }
    return fill_template(
        TEMPLATE,
        overview=overview,
        titles=TITLES,
        contents=[(name, TITLES[name]) for name, there in present.items() if there],
        seen_labels="" if metrics is None else seen_labels(str(metrics.iloc[0]["fitted_on"])),
        gallery=f"../{GALLERY}" if overview.gallery else None,
        examples=shown.examples,
        more=shown.more,
        failures=failures,
        clusters=clusters,
        protocols=[] if metrics is None else protocol_scores(metrics),
        masks=[] if metrics is None else mask_lines(metrics),
        mask_conditions={} if metrics is None else conditions(metrics),
        of_classes=[] if scores is None else _of_classes(scores),
        of_images=None if scores is None else scores.of_images,
        confusion=embed_file(scores.confusion) if scores and scores.confusion else None,
        analyses=analyses,
        rejected=rejected,
        most_rejected=MOST_REJECTED,
        costs=costs,
        config=config,
        versions=versions(),
        duration=lambda seconds: str(timedelta(seconds=round(seconds))),
    )


def _of_classes(scores: Scores) -> list[IouLine]:
    """Return the IoU of each class under the first protocol and its own matching."""
    protocol = protocols_of(scores.metrics)[0]
    matching = matchings_of(of_protocol(scores.metrics, protocol))[0]
    return iou_lines(of_protocol(scores.per_class, protocol), matching)


def _order_of(figure: Path) -> int:
    """Return the place of a figure among the `ANALYSES`."""
    return list(ANALYSES).index(figure.stem)
