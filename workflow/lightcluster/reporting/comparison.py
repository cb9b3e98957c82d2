"""The comparison of the runs on a dataset: a table, and a figure of its main scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightcluster.evaluation.bootstrap import MASK_METRICS
from lightcluster.evaluation.comparison import (
    MEASURED,
    PUBLISHED,
    Scores,
    bootstrap_run,
    make_comparison,
)
from lightcluster.evaluation.published import read_published
from lightcluster.evaluation.tables import FOREGROUND, protocols_of
from lightcluster.files import replacing
from lightcluster.methods.protocol import seen_labels
from lightcluster.reporting.figures import BLUE, GREY, INK, ORANGE, save_figure
from lightcluster.reporting.lettering import printable, shorten
from lightcluster.reporting.tables import Score, read_table
from lightcluster.shards import Shards

MASK_TITLES = dict(
    zip(
        MASK_METRICS,
        (
            "fg/bg mIoU, of all pixels",
            "foreground IoU, mean over images",
            "recall, mean over classes",
            "boundary F, mean over images",
        ),
        strict=True,
    )
)
"""Display names of the mask scores."""


def compare(
    folder: Path,
    runs: list[str],
    shards: Shards,
    table: Path,
    figure: Path,
    *,
    published: str,
    resamples: int,
    seed: int,
) -> None:
    """Compare finished runs, and write the table as CSV and the figure as PNG.

    Parameters
    ----------
    folder : Path
        ``results/<dataset>``.
    runs : list of str
        The first is what the others are compared with.
    shards : Shards
    table, figure : Path
        Outputs.
    published : str
        Benchmark whose published figures are put below; ``none`` for none.
    resamples, seed : int
        Of the images, for the intervals.

    Raises
    ------
    StoreError
        If files of the runs are missing, damaged, or of different images.
    """
    metrics = {run: read_table(folder / run / "tables" / "metrics.csv") for run in runs}
    scores: dict[str, Scores] = {}
    if len(runs) > 1:
        scores = {
            run: bootstrap_run(folder / run, metrics[run], shards, resamples, seed) for run in runs
        }
    rows = make_comparison(metrics, scores, read_published(published))
    with replacing(table) as temporary:
        rows.to_csv(temporary, index=False, float_format="%.6f")
    with replacing(figure) as temporary:
        save_figure(plot_comparison(rows), temporary)


def plot_comparison(rows: pd.DataFrame) -> Figure:
    """Draw the mIoU of the classes of each run, and the scores of its refined masks.

    Published figures of the same protocol stand below the runs; floors and ceilings are marks.

    Parameters
    ----------
    rows : DataFrame
        As `evaluation.comparison.make_comparison` returns them.

    Returns
    -------
    Figure
    """
    measured = rows[rows["kind"] == MEASURED]
    protocol = protocols_of(measured)[0]
    classes = rows[(rows["protocol"] == protocol) & (rows["metric"] == "miou")]
    masks = measured[(measured["protocol"] == FOREGROUND) & (measured["stage"] == "refined")]
    panels = [("Classes: mIoU (%)", classes)]
    panels += [
        (f"Refined masks: {title} (%)", masks[masks["metric"] == metric])
        for metric, title in MASK_TITLES.items()
        if len(masks)
    ]
    heights = [len(panel) for _, panel in panels]
    figure = Figure(
        figsize=(9.5, 1.7 + 0.32 * sum(heights) + 0.6 * len(panels)), layout="constrained",
        facecolor="white",
    )  # fmt: skip
    all_axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    first = measured.iloc[0]
    images, runs = int(first["images"]), measured["name"].nunique()
    figure.suptitle(
        f"{first['dataset']}: {runs} run{'s' * (runs != 1)}, protocol {protocol}, "
        f"{images:,} image{'s' * (images != 1)}",
        x=0.01, ha="left", fontsize=12, weight="bold", parse_math=False,
    )  # fmt: skip
    for axes, (title, panel) in zip(all_axes, panels, strict=True):
        draw_rows(axes, panel)
        axes.set_title(title, loc="left", fontsize=9.5)
    figure.legend(
        *all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4,
        frameon=False, fontsize=9,
    )  # fmt: skip
    return figure


def draw_rows(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw one line for each row: its score, floor and ceiling, and what it is in words."""
    places = np.arange(len(rows))
    quoted = (rows["kind"] == PUBLISHED).to_numpy()
    values, spreads, floors, ceilings = (
        100 * rows[name].to_numpy(np.float64) for name in ("value", "sd", "floor", "ceiling")
    )
    for chosen, colour, marker, label in (
        (~quoted, BLUE, "o", "measured here, mean ± sd over seeds"),
        (quoted, GREY, "D", "published, quoted"),
    ):
        if chosen.any():
            axes.errorbar(
                values[chosen], places[chosen], xerr=np.nan_to_num(spreads[chosen]),
                fmt=marker, color=colour, ecolor=INK, elinewidth=1, capsize=3, label=label,
            )  # fmt: skip
    for bounds, label in (
        (floors, "floor: random labels"),
        (ceilings, "ceiling: oracle labels"),
    ):
        if not np.isnan(bounds).all():
            axes.plot(
                bounds, places, linestyle="none", marker="|" if bounds is floors else "x",
                markersize=9, color=ORANGE, label=label, clip_on=False,
            )  # fmt: skip
    several = rows.loc[~quoted, "fitted_on"].nunique() > 1
    for place, row in enumerate(rows.to_dict("records")):
        fitted = f"  fitted on {row['fitted_on']}" if several and not quoted[place] else ""
        if seen := seen_labels(str(row["fitted_on"])):
            fitted = f"  {seen}"
        axes.text(
            1.01, place, describe(row) + shorten(printable(fitted), 60),
            transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK,
            parse_math=False,
        )  # fmt: skip
    labels = [shorten(printable(name), 44) for name in rows["name"]]
    axes.set_yticks(places, labels, parse_math=False, fontsize=8.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(visible=True, axis="x", color="#E6E6E6")
    axes.set_axisbelow(True)


def describe(row: Mapping[Any, Any]) -> str:
    """Return a score in words: with its difference from the first run, or what is known of it."""
    text = str(Score(row["value"], row["sd"]))
    if row["kind"] == PUBLISHED:
        return f"{text}  published{', ' * bool(row['hygiene'])}{row['hygiene']}"
    difference, low, high = (100 * row[name] for name in ("difference", "low", "high"))
    if not np.isfinite([difference, low, high]).all():
        return text
    return f"{text}  ({difference:+.1f}: {low:+.1f} to {high:+.1f})"
