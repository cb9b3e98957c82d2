"""Fitting on one half of the images and segmenting the other: what is lost?

Compares, on one half of the images, the segmentations of a workflow run that was fitted on them
with those of `lightcluster segment` and the model of a run fitted on the other half, because users
want to segment new images without fitting again. Halves are drawn at random, several times, and
each is evaluated both ways; only the evaluation uses labels. Masks are scored by pooled fg/bg mIoU,
classes by mIoU (IoU-Hungarian on the evaluated half, absent classes 0), both at the images'
resolution and in per cent. The labelling seed is the number of the split.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from harness import Report, console, run_workflow
from numpy.typing import NDArray
from PIL import Image

from lightcluster.datasets.labels import (
    IGNORED,
    background_index,
    read_classes,
    read_label,
    to_indices,
)
from lightcluster.datasets.manifest import Row, read_manifest
from lightcluster.evaluation.confusion import count_confusion
from lightcluster.evaluation.scores import foreground_scores, score_classes
from lightcluster.model import segment

FIGURES = ("refined mask", "classes")


def run_half(folder: Path, images: list[Path], config: dict[str, object]) -> Path:
    """Run the workflow on some images in a folder of its own; return the folder of the run."""
    run_workflow(folder, config, images, cores=2)
    return folder / "results" / "half" / "lightcluster"


def read_png(folder: Path, row: Row) -> NDArray[np.uint8]:
    """Return a segmentation or mask, in the folder itself or in that of a shard."""
    flat = folder / row.output
    path = flat if flat.is_file() else next(folder.glob(f"*/{row.output}"))
    with Image.open(path) as image:
        return np.asarray(image).astype(np.uint8)


def scores_of(rows: list[Row], run: Path, masks: Path, segmentation: Path) -> dict[str, float]:
    """Return the `FIGURES` of one half."""
    classes = read_classes(run.parent / "classes.csv")
    ground = background_index(classes, 0)
    count = len(classes.ids)
    mask_counts = np.zeros((2, 2), np.int64)
    class_counts = np.zeros((count, count), np.int64)
    for row in rows:
        assert row.label is not None
        truth = to_indices(read_label(row.label, (row.height, row.width)), classes, 255)
        objects = np.where(truth == IGNORED, np.uint8(255), (truth != ground).astype(np.uint8))
        mask = read_png(masks, row)
        mask_counts += count_confusion(mask, objects, 2, 2, 255).counts
        predicted = read_png(segmentation, row)
        class_counts += count_confusion(predicted, truth, count, count, IGNORED).counts
    matched = score_classes(class_counts, classes.names, "iou_hungarian", "zero")
    figures = (foreground_scores(mask_counts).mean_iou, matched.mean_iou)
    return {name: 100 * figure for name, figure in zip(FIGURES, figures, strict=True)}


def main(
    images: Annotated[Path, typer.Option(exists=True, file_okay=False)],
    labels: Annotated[Path, typer.Option(exists=True, file_okay=False)],
    classes: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    weights: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    model: Annotated[str, typer.Option(help="A Vision Transformer of timm.")],
    splits: Annotated[int, typer.Option(min=1, help="Random halvings.")] = 3,
) -> None:
    """Compare runs fitted on the images themselves with models fitted on as many others."""
    own: dict[str, list[float]] = {name: [] for name in FIGURES}
    lost: dict[str, list[float]] = {name: [] for name in FIGURES}
    files = sorted(path.resolve() for path in images.iterdir())
    for split in range(splits):
        config: dict[str, object] = {
            "dataset": {
                "name": "half", "format": "folder", "images": "images",
                "labels": str(labels.resolve()), "classes": str(classes.resolve()),
            },
            "backbone": {"model": model, "weights": str(weights.resolve())},
            "labelling": {"seeds": [split]},
        }  # fmt: skip
        order = np.random.default_rng(split).permutation(len(files))
        with TemporaryDirectory() as name:
            folders = [Path(name, str(part)) for part in range(2)]
            runs = [
                run_half(folder, [files[number] for number in sorted(part)], config)
                for part, folder in zip(np.array_split(order, 2), folders, strict=True)
            ]
            for part, run in enumerate(runs):
                rows = [row for row in read_manifest(run.parent / "manifest.csv") if row.label]
                out = folders[part] / "applied"
                segment([folders[part] / "images"], runs[1 - part] / "model", out, threads=2)
                seeds = run / "segmentation" / f"seed-{split}"
                fitted = scores_of(rows, run, run / "masks" / "png", seeds)
                applied = scores_of(rows, run, out / "masks", out / "segmentation")
                for figure in FIGURES:
                    own[figure].append(fitted[figure])
                    lost[figure].append(fitted[figure] - applied[figure])
                    both = f"{fitted[figure]:.1f}, {applied[figure]:.1f}"
                    console.print(f"[dim]split {split}, half {part}: {figure} {both}[/dim]")
    report = Report("transfer", f"{len(files)} images, {model}, halves of {splits} random splits")
    for figure in FIGURES:
        report.add(f"{figure}, fitted on itself", "mIoU", own[figure])
        report.add(f"{figure}, lost by fitting on the other half", "points", lost[figure])
        report.add(f"{figure}, lost on average", "points", float(np.mean(lost[figure])))
    report.add("refined mask, lost at worst", "points", max(lost["refined mask"]), "<= 1.5")
    report.finish()


if __name__ == "__main__":
    typer.run(main)
