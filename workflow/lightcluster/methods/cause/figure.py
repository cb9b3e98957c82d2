"""The figure of a run's training: losses, codes in use, and cluster sizes of the probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from lightcluster.checkpoints import read_tensors
from lightcluster.files import replacing
from lightcluster.methods.cause.stages import USED

STAGES = {
    "clusterbook": "negative modularity of tokens",
    "head": "contrast (nats)",
    "probe": "negative modularity of features",
}
"""Names of the stages, and axis labels of their first loss."""

_SMOOTHED = 50
"""Number of points to which the losses are averaged."""


def plot_training(
    run: Path, clusterbooks: Path, heads: Path, seeds: Sequence[int], output: Path
) -> None:
    """Plot the losses of the three stages by step, and the cluster sizes.

    Parameters
    ----------
    run : Path
        Folder of the run, with ``cause/seed-N/probe.csv`` and ``segmentation/seed-N/classes.csv``.
    clusterbooks, heads : Path
        Folders of the first two stages, with ``seed-N.csv``; the former also contains the
        clusterbooks.
    seeds : sequence of int
    output : Path
        A PNG file.
    """
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    panels = figure.subplots(1, len(STAGES) + 1)
    colors = colormaps["viridis"](np.linspace(0, 0.85, len(seeds)))
    tables = {
        "clusterbook": [clusterbooks / f"seed-{seed}.csv" for seed in seeds],
        "head": [heads / f"seed-{seed}.csv" for seed in seeds],
        "probe": [run / "cause" / f"seed-{seed}" / "probe.csv" for seed in seeds],
    }
    for axes, (stage, label) in zip(panels, STAGES.items(), strict=False):
        for table, color in zip(tables[stage], colors, strict=True):
            losses = pd.read_csv(table)
            for column, style in zip(losses.columns[2:], ("-", ":"), strict=False):
                steps, means = smooth(losses["step"], losses[column])
                axes.plot(steps, means, style, color=color, linewidth=1)
        axes.set(title=stage, xlabel="step", ylabel=label)
    used = [_codes_used(clusterbooks / f"seed-{seed}.safetensors") for seed in seeds]
    panels[0].set_title(f"clusterbook: {_span(used)} codes in use", fontsize=10)
    for seed, color in zip(seeds, colors, strict=True):
        palette = pd.read_csv(run / "segmentation" / f"seed-{seed}" / "classes.csv")
        sizes = np.sort(palette["tokens"].to_numpy())[::-1]
        panels[-1].plot(
            np.arange(1, len(sizes) + 1), 100 * sizes / sizes.sum(), ".-", color=color, linewidth=1,
            label=f"seed {seed}: {(sizes > 0).sum()} of {len(sizes)} used",
        )  # fmt: skip
    panels[-1].set(title="clusters of the probe", xlabel="cluster, by size", ylabel="% of tokens")
    panels[-1].legend(frameon=False, fontsize=7)
    with replacing(output) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def smooth(steps: pd.Series, values: pd.Series) -> tuple[list[float], list[float]]:
    """Average a curve over up to `_SMOOTHED` intervals of equal length.

    Parameters
    ----------
    steps, values : Series

    Returns
    -------
    steps, means : list of float
        Last step and mean value of each interval.
    """
    parts = np.array_split(np.arange(len(steps)), min(_SMOOTHED, len(steps)))
    return (
        [float(steps.iloc[part[-1]]) for part in parts],
        [float(values.iloc[part].mean()) for part in parts],
    )


def _codes_used(clusterbook: Path) -> int:
    return int(read_tensors(clusterbook)[1][USED])


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"
