"""What each part of the default method is worth, with paired intervals.

What is compared: the runs of `ablations.yaml`, each of which differs from the run `default` in one
part, with that run on the same images. Why: a part that does not earn its place has none. Figures
are pooled over all images, per cent: fg/bg mIoU of the patch mask and of the refined mask, and the
mIoU of the classes (IoU-Hungarian, mean of the labelling seeds). Intervals are of the *difference*
from `default`: 95 % percentile intervals over resamples of the images, the same for both, matched
anew in each. They hold what the choice of the images to evaluate on is worth; nothing is fitted
again, so they do not hold what another choice of the images to fit on would do.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from harness import RESULTS, commit, console
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from rich.table import Table

from lightcluster.datasets.labels import (
    IGNORED,
    background_index,
    read_classes,
    read_label,
    to_indices,
)
from lightcluster.datasets.manifest import Row, read_manifest
from lightcluster.evaluation.confusion import count_confusion
from lightcluster.evaluation.scores import score_classes
from lightcluster.masks.consistency import read_patch_masks
from lightcluster.masks.refinement import read_pixel_masks
from lightcluster.masks.upsampling import upsample

FIGURES = ("patch mask", "refined mask", "classes")
REFERENCE = "default"


class Labelled:
    """The images of a dataset that have a label, with their truth."""

    def __init__(self, folder: Path, background: int) -> None:
        self.classes = read_classes(folder / "classes.csv")
        self.ground = background_index(self.classes, background)
        self.rows = [row for row in read_manifest(folder / "manifest.csv") if row.label]

    def truth(self, row: Row) -> NDArray[np.uint16]:
        """Return the position of the class of each pixel."""
        return to_indices(read_label(row.label, (row.height, row.width)), self.classes, 255)

    def foreground(self, row: Row) -> NDArray[np.uint8]:
        """Return 1 where there is an object, and 255 where nothing is known."""
        truth = self.truth(row)
        return np.where(truth == IGNORED, np.uint8(255), (truth != self.ground).astype(np.uint8))


def count_masks(labelled: Labelled, run: Path) -> NDArray[np.int64]:
    """Count the patch and the refined mask of each image: int64 [2, images, 2, 2]."""
    masks: dict[str, list[NDArray[np.bool_]]] = {}
    sizes = {row.image_id: (row.height, row.width) for row in labelled.rows}
    for path in sorted((run / "masks/pixel").glob("*.npz")):
        pixels, patches = read_pixel_masks(path), read_patch_masks(run / "masks/patch" / path.name)
        for number, image_id in enumerate(pixels.image_id):
            if image_id in sizes:
                patch = upsample(patches.score_of(number), sizes[image_id], "nearest") > 0.5
                masks[image_id] = [patch, pixels.mask_of(number)]
    counts = []
    for row in labelled.rows:
        truth = labelled.foreground(row)
        counts.append(
            [
                count_confusion(mask.view(np.uint8), truth, 2, 2, 255).counts
                for mask in masks[row.image_id]
            ]
        )
    return np.asarray(counts).swapaxes(0, 1)


def count_classes(labelled: Labelled, run: Path) -> Iterator[NDArray[np.int64]]:
    """Yield, for each labelling seed, the counts of each image: int64 [images, clusters, classes].

    Seeds are those that the run evaluated; clusters are the lines of the palette that it wrote.
    """
    with (run / "tables/metrics.csv").open(newline="", encoding="utf-8") as file:
        seeds = {row["seed"] for row in csv.DictReader(file)} - {"", "mean", "sd"}
    for seed in sorted(seeds, key=int):
        folder = run / f"segmentation/seed-{seed}"
        with (folder / "classes.csv").open(newline="", encoding="utf-8") as file:
            clusters = sum(1 for _ in csv.DictReader(file))
        counts = []
        for row in labelled.rows:
            (path,) = folder.glob(f"*/{row.output}")
            with Image.open(path) as image:
                predicted = np.asarray(image)
            counts.append(
                count_confusion(
                    predicted, labelled.truth(row), clusters, len(labelled.classes.ids), IGNORED
                ).counts
            )
        yield np.asarray(counts)


def mask_scores(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the fg/bg mIoU in per cent of counts [..., 2, 2]."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(axis=-1) + counts.sum(axis=-2) - right
    return 100 * (right / union).mean(axis=-1)


def class_score(counts: NDArray[np.int64], names: tuple[str, ...]) -> float:
    """Return the mIoU in per cent of counts [clusters, classes]."""
    return 100 * score_classes(counts, names, "iou_hungarian", "zero").mean_iou


def resampled(counts: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum counts [images, …] with the number of times that each image is drawn [resamples, images].

    The first row of the result, before those of the resamples, holds every image once.
    """
    times = np.concatenate([np.ones((1, times.shape[1]), np.int64), times])
    return (times @ counts.reshape(len(counts), -1)).reshape(-1, *counts.shape[1:])


def scores_of(labelled: Labelled, run: Path, times: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the `FIGURES` of a run, of all images and of each resample: [3, 1 + resamples]."""
    masks = [mask_scores(resampled(counts, times)) for counts in count_masks(labelled, run)]
    seeds = [
        [class_score(counts, labelled.classes.names) for counts in resampled(seed, times)]
        for seed in count_classes(labelled, run)
    ]
    return np.asarray([*masks, np.mean(seeds, axis=0)])


def main(
    folder: Annotated[Path, typer.Argument(help="results/<dataset>, with finished runs.")],
    resamples: Annotated[int, typer.Option(min=100)] = 1000,
    background: Annotated[int, typer.Option(help="Class id.")] = 0,
    subject: Annotated[str, typer.Option(help="In words, for the table.")] = "",
) -> None:
    """Compare all finished runs below a folder of results with the run `default`."""
    labelled = Labelled(folder, background)
    runs = sorted(path.parent.name for path in folder.glob("*/report"))
    runs = [REFERENCE, *(run for run in runs if run != REFERENCE)]
    count = len(labelled.rows)
    drawn = np.random.default_rng(0).integers(count, size=(resamples, count))
    times = np.apply_along_axis(np.bincount, 1, drawn, minlength=count)
    scores = {
        run: scores_of(labelled, folder / run, times)
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
            for figure, own, other in zip(FIGURES, scores[run], scores[REFERENCE], strict=True):
                low, high = np.percentile((own - other)[1:], [2.5, 97.5])
                difference = own[0] - other[0]
                writer.writerow([date.today().isoformat(), subject or folder.name, count, run,
                                 figure, f"{own[0]:.2f}", f"{difference:.2f}", f"{low:.2f}",
                                 f"{high:.2f}", resamples, commit()])  # fmt: skip
                beside = f" ({difference:+.1f}: {low:+.1f} to {high:+.1f})"
                cells.append(f"{own[0]:.1f}{beside if run != REFERENCE else ''}")
            table.add_row(run, *cells)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
