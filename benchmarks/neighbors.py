"""How far the description of regions carries: a vote of neighbours that know the truth.

What is compared, on a finished run with labels: the mIoU that its regions have with the classes
found, with the best class of each (oracle labels), and with the class that most of its nearest
neighbours have, which are regions of *other* images with their best classes (k-NN; Caron et al.
2021, section 4.1, do the same with images). Why: the oracle says what the outlines allow, and the
neighbours what the features of the regions allow beside, with labels; clustering without labels
can hardly do better. Figures are in per cent, of the protocol `maskcontrast`; an absent class
counts 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from harness import Report
from numpy.typing import NDArray

from lightcluster.datasets.labels import IGNORED, background_index, read_classes
from lightcluster.datasets.manifest import read_manifest
from lightcluster.evaluation.confusion import count_confusion
from lightcluster.evaluation.counting import iter_truth
from lightcluster.evaluation.scores import iou_per_class, mean_iou
from lightcluster.files import read_arrays
from lightcluster.regions.labelling import Labelling, read_labelling
from lightcluster.regions.maps import read_region_maps
from lightcluster.reporting.figures import class_score, of_protocol, read_table

PROTOCOL = "maskcontrast"


def read_regions(
    run: Path, labelling: Labelling, background: int, ignore: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]:
    """Return what describes each region, its image and pixels by class, and those outside of all.

    The last is the position of the background class.
    """
    classes = read_classes(run.parent / "classes.csv")
    ground = background_index(classes, background)
    if ground is None:
        raise typer.BadParameter(f"{run}: its dataset has no class {background}, the background")
    described, images, pixels, first = [], [], [], 0
    outside = np.zeros(len(classes.ids), np.int64)
    for path in sorted((run / "regions/maps").glob("*.npz")):
        maps = read_region_maps(path)
        points = labelling.project(read_arrays(run / "regions" / path.name, *labelling.features))
        rows = read_manifest(run.parent / "manifest" / f"{path.stem}.csv")
        for number, _, truth in iter_truth(maps.image_id, rows, classes, ignore):
            label, regions = maps.label_of(number), maps.rows_of(number)
            counted = count_confusion(
                label, truth, regions.stop - regions.start + 1, len(outside), IGNORED
            ).counts
            outside += counted[0]
            pixels.append(counted[1:])
            described.append(points[regions])
            images.append(np.full(len(counted) - 1, first + number))
        first += len(maps.image_id)
    return (
        np.concatenate(described), np.concatenate(images), np.concatenate(pixels), outside, ground
    )  # fmt: skip


def vote(
    points: NDArray[np.float32], images: NDArray[np.int64], best: NDArray[np.int64], neighbors: int
) -> NDArray[np.int64]:
    """Return the class of most of the nearest regions of other images; the nearest one's at a tie.

    Parameters
    ----------
    points : float32 array, shape (regions, dim)
        Of unit length: cosine similarity.
    images, best : int64 array, shape (regions,)
        Image and class of each.
    neighbors : int
    """
    found = np.empty(len(points), np.int64)
    for number, point in enumerate(points):
        similarity = np.where(images == images[number], -np.inf, points @ point)
        nearest = best[np.argsort(-similarity, kind="stable")[:neighbors]]
        votes = np.bincount(nearest)
        found[number] = next(one for one in nearest if votes[one] == votes.max())
    return found


def main(
    run: Annotated[Path, typer.Argument(help="results/<dataset>/<run>, finished.")],
    subject: Annotated[str, typer.Option(help="In words, for the table.")] = "",
    seed: Annotated[int, typer.Option(help="Labelling seed of the projection.")] = 0,
    background: Annotated[int, typer.Option(help="`dataset.background`.")] = 0,
    ignore: Annotated[int, typer.Option(help="`dataset.ignore`.")] = 255,
    neighbors: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Score a run's regions with found classes, votes of neighbours, and the best classes."""
    points, images, pixels, outside, ground = read_regions(
        run, read_labelling(run / f"classes/seed-{seed}.npz"), background, ignore
    )
    known = pixels.sum(axis=1) > 0  # others have no class, and no say in any score
    points, images, pixels = points[known], images[known], pixels[known]
    if len(np.unique(images)) < 2:
        raise typer.BadParameter(f"{run}: regions of two images are needed")
    best = pixels.argmax(axis=1)

    def score(labels: NDArray[np.int64]) -> float:
        counts = np.zeros((len(outside), len(outside)), np.int64)
        np.add.at(counts, labels, pixels)
        counts[ground] += outside
        return 100 * mean_iou(iou_per_class(counts), "zero")

    metrics = of_protocol(read_table(run / "tables/metrics.csv"), PROTOCOL)
    report = Report("neighbors", f"{subject or run.parent.name}, {len(points)} regions")
    found = class_score(metrics, "segmentation", "iou_hungarian")
    report.add("classes found, mean of the seeds", "% mIoU", 100 * found.mean)
    report.add(f"vote of {neighbors} neighbours with labels", "% mIoU",
               score(vote(points, images, best, neighbors)))  # fmt: skip
    report.add("oracle labels", "% mIoU", score(best))
    report.finish()


if __name__ == "__main__":
    typer.run(main)
