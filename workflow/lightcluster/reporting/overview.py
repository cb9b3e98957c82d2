"""The top of a report: numbers of images and regions, and one headline score."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lightcluster.errors import StoreError
from lightcluster.evaluation.tables import protocols_of, seeds_of
from lightcluster.files import replacing
from lightcluster.methods.protocol import seen_labels
from lightcluster.reporting.choice import Agreement
from lightcluster.reporting.tables import (
    MATCHING_NAMES,
    Score,
    class_score,
    fallback_of,
    matchings_of,
    of_protocol,
)

OVERVIEW = "overview.json"
"""File name, in the folder of a report."""


@dataclass(frozen=True)
class Headline:
    """The one score that a report states first, with its bounds.

    Attributes
    ----------
    title : str
    value : float
        In [0, 1], as its bounds.
    sd : float or None
        Over the labelling seeds.
    floor, ceiling : float or None
        None where there is none.
    explanation : str
        What the score and its bounds are.
    fitted_on : str
        Images that the run was fitted on, and whether with labels; empty if nothing was scored.
    """

    title: str
    value: float
    sd: float | None
    floor: float | None
    ceiling: float | None
    explanation: str
    fitted_on: str = ""

    @property
    def seen_labels(self) -> str:
        """A note on labels used in the fit; empty if none were used."""
        return seen_labels(self.fitted_on)

    @property
    def score(self) -> Score:
        """The value with its standard deviation."""
        return Score(self.value, math.nan if self.sd is None else self.sd)

    @property
    def bounds(self) -> dict[str, Score]:
        """Floor and ceiling, as far as they exist."""
        bounds = {"floor": self.floor, "ceiling": self.ceiling}
        return {name: Score(value) for name, value in bounds.items() if value is not None}


@dataclass(frozen=True)
class Overview:
    """The top of a report.

    Attributes
    ----------
    dataset, run : str
    images, rejected : int
    clusters : int
        Number of clusters, not counting the background.
    regions, empty : int or None
        Regions in all, and images without one; None for a method without masks.
    headline : Headline or None
        None if nothing was scored and there are no levels that could agree.
    gallery : bool
        Whether the run has a gallery.
    """

    dataset: str
    run: str
    images: int
    rejected: int
    clusters: int
    regions: int | None
    empty: int | None
    headline: Headline | None
    gallery: bool

    def write(self, path: Path) -> None:
        """Write it as JSON, for the page of all runs."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def read_overview(path: Path) -> Overview:
    """Read what `Overview.write` wrote.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        headline = facts.pop("headline")
        return Overview(headline=None if headline is None else Headline(**headline), **facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run snakemake to make it") from None


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def scored_headline(metrics: pd.DataFrame) -> Headline | None:
    """Return the mIoU of the classes, of the first protocol and its own matching.

    Parameters
    ----------
    metrics : DataFrame
        `evaluation.tables.Tables.metrics`.
    """
    protocol = protocols_of(metrics)[0]
    of_first = of_protocol(metrics, protocol)
    matching, seeds = matchings_of(of_first)[0], len(seeds_of(of_first))
    score = class_score(of_first, "segmentation", matching)
    if math.isnan(score.mean):
        return None
    fallback = fallback_of(of_first, matching)
    return Headline(
        title="mIoU of the classes",
        value=score.mean,
        sd=_known(score.sd),
        floor=_known(class_score(of_first, "random_labels", matching).mean),
        ceiling=_known(class_score(of_first, "oracle_labels").mean),
        explanation=f"Per cent. Protocol {protocol}, matching {MATCHING_NAMES[matching]}"
        f"{f' (here: {fallback})' * bool(fallback)}, "
        f"{f'mean ± sd over {seeds} seeds' if seeds > 1 else '1 seed'}. "
        "Floor: random labels; ceiling: oracle labels of the same regions.",
        fitted_on=str(of_first.iloc[0]["fitted_on"]),
    )


def agreement_headline(agreements: list[Agreement]) -> Headline | None:
    """Return the mean agreement of the three levels, for a run without labels."""
    if not agreements:
        return None
    return Headline(
        title="agreement of the three levels",
        value=float(np.mean([one.share for one in agreements])),
        sd=None,
        floor=float(np.mean([one.chance for one in agreements])),
        ceiling=1.0,
        explanation="Per cent of the patches that all levels call foreground or all call "
        "background, mean over the images. Floor: levels of the same size that agree by chance. "
        "This measures how stable the masks are, not how accurate: the dataset has no labels.",
    )
