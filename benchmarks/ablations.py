"""What each part of the default method contributes, with paired intervals.

Compares each run of `ablations.yaml`, which differs from the run `default` in one part, with that
run on the same images: a part without benefit should be removed. Scores are in per cent. For the
refined mask: fg/bg mIoU over all pixels, foreground IoU (mean over images), recall (mean over
classes) and boundary F (mean over images). For the classes: mIoU (IoU-Hungarian, mean over the
labelling seeds). Intervals are for the *difference* from `default`: 95 % percentile intervals over
bootstrap samples of the images, the same for both runs, with a new matching in each. They reflect
the choice of evaluation images only; nothing is fitted again.
"""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from harness import RESULTS, commit, console
from rich.progress import track
from rich.table import Table

from lightcluster.evaluation.bootstrap import interval
from lightcluster.evaluation.comparison import Figure, bootstrap_run
from lightcluster.reporting.tables import read_table
from lightcluster.shards import Shards

FIGURES = {
    "mask": Figure("foreground", "refined", "fgbg_miou"),
    "by image": Figure("foreground", "refined", "image_foreground_iou"),
    "by class": Figure("foreground", "refined", "class_recall"),
    "boundary F": Figure("foreground", "refined", "boundary_f"),
    "classes": Figure("maskcontrast", "segmentation", "miou"),
}
REFERENCE = "default"


def main(
    folder: Annotated[Path, typer.Argument(help="results/<dataset>, with finished runs.")],
    resamples: Annotated[int, typer.Option(min=100)] = 1000,
    subject: Annotated[str, typer.Option(help="In words, for the table.")] = "",
) -> None:
    """Compare all finished runs below a folder of results with the run `default`."""
    runs = sorted(path.parent.name for path in folder.glob("*/report"))
    runs = [REFERENCE, *(run for run in runs if run != REFERENCE)]
    shards = Shards(len(list((folder / REFERENCE / "counts/masks").glob("*.npz"))))
    metrics = {run: read_table(folder / run / "tables/metrics.csv") for run in runs}
    count = int(metrics[REFERENCE]["images"].iloc[0])
    scores = {
        run: bootstrap_run(folder / run, metrics[run], shards, resamples, 0)
        for run in track(runs, "runs", console=console)
    }
    table = Table("run", *FIGURES, title=f"{subject or folder.name}: difference, 95 % interval")
    path = RESULTS / "ablations.csv"
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(["date", "subject", "images", "run", "figure", "value", "difference",
                             "low", "high", "resamples", "commit"])  # fmt: skip
        for run in runs:
            cells = []
            for name, figure in FIGURES.items():
                own = 100 * scores[run][figure]
                difference, low, high = interval(own, 100 * scores[REFERENCE][figure])
                writer.writerow([date.today().isoformat(), subject or folder.name, count, run,
                                 name, f"{own[0]:.2f}", f"{difference:.2f}", f"{low:.2f}",
                                 f"{high:.2f}", resamples, commit()])  # fmt: skip
                beside = f" ({difference:+.1f}: {low:+.1f} to {high:+.1f})"
                cells.append(f"{own[0]:.1f}{beside if run != REFERENCE else ''}")
            table.add_row(run, *cells)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
