"""Figures of the scores of a run. All scores are fractions in the tables and per cent here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightcluster.evaluation.mask_counts import STAGES
from lightcluster.evaluation.matching import UNMATCHED
from lightcluster.evaluation.tables import seeds_of
from lightcluster.masks.consistency import LEVELS
from lightcluster.reporting.lettering import printable, shorten
from lightcluster.reporting.tables import (
    MATCHING_NAMES,
    Score,
    class_score,
    describe_run,
    fallback_of,
    iou_of_classes,
    mask_score,
    matchings_of,
)

# Colours that the colour-blind can tell apart (Okabe and Ito, 2008).
BLUE, SKY, ORANGE, GREY, INK = "#0072B2", "#56B4E9", "#D55E00", "#C8C8C8", "#222222"
STAGE_COLOURS = tuple(SKY if stage in LEVELS else BLUE for stage in STAGES)
MOST_CLASSES = 80
MOST_NUMBERS = 30
"""Classes up to which a confusion matrix has numbers in it."""


def plot_stages(metrics: pd.DataFrame) -> Figure:
    """Draw the foreground/background mIoU of each stage of the mask.

    Parameters
    ----------
    metrics : DataFrame
        `evaluation.tables.Tables.metrics`, with scores of the masks (see `has_masks`).

    Returns
    -------
    Figure
    """
    scores = [mask_score(metrics, stage) for stage in STAGES]
    figure, axes = _new_figure(7.2, 3.6, "Foreground masks, stage by stage", describe_run(metrics))
    heights = _percent([score.mean for score in scores])
    axes.bar(range(len(STAGES)), heights, width=0.68, color=STAGE_COLOURS)
    for x, (height, score) in enumerate(zip(heights, scores, strict=True)):
        _write(axes, x, height + 1.5, str(score))
    names = [f"{stage}\nlevel" if stage in STAGES[:3] else stage for stage in STAGES]
    axes.set_xticks(range(len(STAGES)), names)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("fg/bg mIoU (%)")
    return figure


def plot_classes(metrics: pd.DataFrame) -> Figure:
    """Draw the mIoU of the classes by matching, with its floor and its ceiling.

    The floor are random labels, the ceiling the most frequent true class, of the same regions.

    Parameters
    ----------
    metrics : DataFrame
        `evaluation.tables.Tables.metrics`, the rows of one protocol.

    Returns
    -------
    Figure
    """
    matchings = matchings_of(metrics)
    seeds = len(seeds_of(metrics))
    spread = f"mean ± sd over {seeds} seeds" if seeds > 1 else "1 seed"
    figure, axes = _new_figure(7.2, 3.9, f"Classes: mIoU, {spread}", describe_run(metrics))
    for stage, shift, colour, label in (
        ("segmentation", -0.19, BLUE, "segmentation"),
        ("random_labels", 0.19, GREY, "floor: random labels"),
    ):
        scores = [class_score(metrics, stage, matching) for matching in matchings]
        heights = _percent([score.mean for score in scores])
        spreads = np.nan_to_num(_percent([score.sd for score in scores]))
        places = np.arange(len(matchings)) + shift
        axes.bar(
            places, heights, width=0.36, color=colour, label=label,
            yerr=spreads, error_kw={"ecolor": INK, "capsize": 3, "elinewidth": 1},
        )  # fmt: skip
        for x, top, score in zip(places, heights + spreads, scores, strict=True):
            _write(axes, float(x), float(top) + 0.8, str(Score(score.mean)))
    ceiling = class_score(metrics, "oracle_labels")
    axes.axhline(
        100 * ceiling.mean, color=ORANGE, linewidth=1.5, linestyle="--",
        label=f"ceiling: oracle labels ({Score(ceiling.mean)})",
    )  # fmt: skip
    axes.set_xticks(range(len(matchings)), [_matching_label(metrics, name) for name in matchings])
    axes.set_ylim(0, min(112.0, 1.2 * _highest(axes)))
    axes.set_ylabel("mIoU (%)")
    _add_legend(figure)
    return figure


def plot_per_class(per_class: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Draw the IoU of each class under the protocol's matching, with its floor and its ceiling.

    Parameters
    ----------
    per_class, metrics : DataFrame
        See `evaluation.tables.Tables`; the rows of one protocol. Of more than `MOST_CLASSES`
        classes the best are shown.

    Returns
    -------
    Figure
    """
    own = matchings_of(metrics)[0]
    found = iou_of_classes(per_class, "segmentation", own)
    floor = iou_of_classes(per_class, "random_labels", own)
    ceiling = iou_of_classes(per_class, "oracle_labels", "none")
    names = sorted(found, key=lambda name: (-np.nan_to_num(found[name].mean, nan=-1), name))
    shown = names[:MOST_CLASSES]
    matching = _matching_label(metrics, own).replace("\n", " ")
    title = f"IoU of each class ({matching})"
    if len(shown) < len(names):
        title += f", the best {len(shown)} of {len(names)}"
    height = 1.6 + 0.26 * len(shown)
    figure, axes = _new_figure(7.2, height, title, describe_run(metrics))
    places = np.arange(len(shown))
    axes.barh(
        places, _percent([ceiling[name].mean for name in shown]), height=0.78, color=GREY,
        alpha=0.6, label="ceiling: oracle labels",
    )  # fmt: skip
    axes.barh(
        places, _percent([found[name].mean for name in shown]), height=0.44, color=BLUE,
        label="segmentation", xerr=np.nan_to_num(_percent([found[name].sd for name in shown])),
        error_kw={"ecolor": INK, "capsize": 2, "elinewidth": 1},
    )  # fmt: skip
    axes.plot(
        _percent([floor[name].mean for name in shown]), places, linestyle="none", marker="|",
        markersize=11, markeredgewidth=2, color=ORANGE, label="floor: random labels",
    )  # fmt: skip
    for place, name in enumerate(shown):
        axes.text(
            1.01, place, str(found[name]), transform=axes.get_yaxis_transform(), va="center",
            fontsize=8, color=INK,
        )  # fmt: skip
    labels = [shorten(printable(name), 32) for name in shown]
    axes.set_yticks(places, labels, parse_math=False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("IoU (%)")
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color="#E6E6E6")
    _add_legend(figure)
    return figure


def plot_confusion(
    counts: NDArray[np.int64],
    cluster_to_class: NDArray[np.int64],
    names: tuple[str, ...],
    subtitle: str,
) -> Figure:
    """Draw which class the pixels of each true class are given.

    Parameters
    ----------
    counts : int64 array, shape (clusters, classes)
        Pixels by predicted cluster and true class.
    cluster_to_class : int64 array, shape (clusters,)
        Position of the class of each cluster, or `matching.UNMATCHED`.
    names : tuple of str
    subtitle : str

    Returns
    -------
    Figure
        Rows are true classes and add up to 100 %; the last column is "no class". Of more than
        `MOST_CLASSES` classes, those with most pixels are shown.
    """
    total = len(names)
    joint = np.zeros((total, total + 1))
    for cluster, matched in enumerate(cluster_to_class.tolist()):
        joint[:, matched if matched != UNMATCHED else total] += counts[cluster]
    pixels = joint.sum(axis=1)
    shown = np.sort(np.argsort(-pixels, kind="stable")[:MOST_CLASSES])
    columns = np.append(shown, total)
    shares = 100 * joint[shown][:, columns] / np.maximum(pixels[shown, None], 1)
    side = 2.4 + 0.34 * len(shown)
    title = "Confusion of the classes"
    if len(shown) < total:
        title += f", the largest {len(shown)} of {total}"
    figure, axes = _new_figure(side + 0.8, side, title, subtitle)
    axes.grid(visible=False)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    if len(shown) <= MOST_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share > 60 else INK
            if share >= 0.5:
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7,
                          color=color)  # fmt: skip
    labels = [shorten(printable(names[position]), 20) for position in shown]
    axes.set_yticks(range(len(shown)), labels, parse_math=False, fontsize=8)
    axes.set_xticks(
        range(len(columns)), [*labels, "no class"], parse_math=False, fontsize=8, rotation=60,
        ha="right", rotation_mode="anchor",
    )  # fmt: skip
    axes.set_ylabel("true class")
    axes.set_xlabel("given class")
    figure.colorbar(drawn, ax=axes, label="pixels of the true class (%)", shrink=0.8)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(path, format="png", dpi=150, metadata={"Software": None})


def _new_figure(width: float, height: float, title: str, subtitle: str) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches with two lines of title and a grid of y values."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots()
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold", parse_math=False)
    axes.set_title(subtitle, loc="left", fontsize=8.5, color="#555555", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0, labelsize=9)
    axes.grid(visible=True, axis="y", color="#E6E6E6")
    axes.set_axisbelow(True)
    return figure, axes


def _percent(fractions: list[float]) -> NDArray[np.float64]:
    return 100 * np.array(fractions, np.float64)


def _write(axes: Axes, x: float, y: float, text: str) -> None:
    """Write a value above its bar, or at the axis if it has none."""
    axes.text(x, np.nan_to_num(y), text, ha="center", va="bottom", fontsize=9, color=INK)


def _highest(axes: Axes) -> float:
    """Return the upper end of what has been drawn, at least 1."""
    return max(1.0, float(axes.dataLim.y1))


def _add_legend(figure: Figure) -> None:
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def _matching_label(metrics: pd.DataFrame, matching: str) -> str:
    """Return the name of a matching, with what was done in its place on a second line."""
    name, fallback = MATCHING_NAMES[matching], fallback_of(metrics, matching)
    return f"{name}\n(here: {fallback})" if fallback else name
