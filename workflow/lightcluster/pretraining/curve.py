"""The plot of the training losses."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from lightcluster.files import replacing


def plot_losses(log: Path, prototypes: int, output: Path) -> None:
    """Plot the losses by step; the same log gives the same bytes.

    Parameters
    ----------
    log : Path
        ``losses.csv`` of a training: step, class_loss and patch_loss in nats.
    prototypes : int
        Number of prototypes; its logarithm, the loss of uniform predictions, is drawn as a line.
    output : Path
        An SVG file.
    """
    losses = pd.read_csv(log)
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for column, label in (("class_loss", "class tokens"), ("patch_loss", "masked patches")):
        axes.plot(losses["step"], losses[column], label=label)
    axes.axhline(math.log(prototypes), color="grey", linestyle="--", label="uniform predictions")
    axes.set(xlabel="step", ylabel="cross-entropy (nats)", xlim=(0, losses["step"].max()))
    axes.legend(frameon=False)
    with replacing(output) as temporary, rc_context({"svg.hashsalt": "losses"}):
        figure.savefig(temporary, format="svg", metadata={"Date": None})
