"""The page of a run: scores, contact sheets, figures and settings, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pandas as pd

from lightcluster.methods.registry import FIGURES
from lightcluster.reporting.lines import conditions, mask_lines, protocol_scores
from lightcluster.reporting.page import embed_png, embed_sheet_file, fill_template
from lightcluster.reporting.provenance import Cost, versions
from lightcluster.reporting.tables import Score

TEMPLATE = Path(__file__).with_name("summary.html.j2")
GALLERY = "../gallery/index.html"
"""Of the same run, from where the page is."""

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
    gallery: bool,
) -> str:
    """Return the page as HTML that needs no other file.

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
    gallery : bool
        Whether there is a `GALLERY` to link to.
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
        analyses=[
            (*ANALYSES[path.stem], embed_sheet_file(path))
            for path in sorted(analysis, key=_order_of)
        ],
        gallery=GALLERY if gallery else None,
        versions=versions(),
        duration=lambda seconds: str(timedelta(seconds=round(seconds))),
    )


def _order_of(figure: Path) -> int:
    """Return the place of a figure among the `ANALYSES`."""
    return list(ANALYSES).index(figure.stem)
