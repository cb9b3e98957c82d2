"""Fitted on one half of the images and applied to the other: what does the mask lose?

What is compared: the masks of one half of the images whose foreground was fitted on these images
themselves, with masks of the same images that take over the discriminant fitted on the other half.
Both are refined by the same CRF. Why: who segments new images does not want to fit again. Halves
are drawn at random, several times, and each is evaluated both ways; nothing sees a label but the
evaluation. Figures are pooled fg/bg mIoU at the images' own resolution.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from harness import Report, console
from inputs import (
    DEFAULT_MODEL,
    SETTINGS,
    ClassesOption,
    CountOption,
    ImagesOption,
    Input,
    LabelsOption,
    ModelOption,
    WeightsOption,
    extract_automatically,
    level_steps,
    prepare_input,
    reestimation_steps,
)

from lightcluster.datasets.manifest import Row, write_rows
from lightcluster.evaluation.counting import STAGES, count_masks
from lightcluster.evaluation.scores import foreground_scores
from lightcluster.files import read_arrays
from lightcluster.masks.reestimation import score_patches
from lightcluster.masks.refinement import method_of, refine_masks

EVALUATED = ("reestimated", "refined")


def half_of(source: Input, rows: list[Row], folder: Path) -> Input:
    """Return some images as a dataset of their own, whose discriminant is fitted."""
    manifest = folder / "manifest.csv"
    write_rows(manifest, rows, Row)
    half = replace(source, rows=rows, manifest=manifest)
    store = folder / "features/0000.zarr"
    store.parent.mkdir(parents=True)
    extract_automatically(half, store)
    for step in level_steps(folder, shards=1).values():
        step()
    reestimation_steps(folder)["fit_discriminant"]()
    return half


def scores_of(half: Input, folder: Path, discriminant: Path) -> dict[str, float]:
    """Return the fg/bg mIoU, in per cent, of a half that is scored by a discriminant."""
    settings = SETTINGS.upsampling
    score_patches(
        folder / "features/0000.zarr", folder / "patch/0000.npz", discriminant,
        folder / "scored.npz", affinity=SETTINGS.reestimation.affinity,
    )  # fmt: skip
    refine_masks(
        half.manifest, folder / "scored.npz", folder / "pixel.npz", upsampling=settings.method,
        threshold=settings.threshold, method=method_of(SETTINGS.refinement.model_dump()),
        working_pixels=SETTINGS.refinement.max_pixels, max_pixels=SETTINGS.dataset.max_pixels,
    )  # fmt: skip
    count_masks(
        half.manifest, half.classes, folder / "scored.npz", folder / "pixel.npz",
        folder / "counts.npz", background=SETTINGS.dataset.background,
        ignore=SETTINGS.dataset.ignore, upsampling=settings.method, threshold=settings.threshold,
    )  # fmt: skip
    counts = read_arrays(folder / "counts.npz", "counts")["counts"].sum(axis=0)
    return {
        stage: 100 * foreground_scores(counts[STAGES.index(stage)]).mean_iou for stage in EVALUATED
    }


def main(
    images: ImagesOption = None,
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    count: CountOption = 100,
    splits: Annotated[int, typer.Option(min=1, help="Random halvings.")] = 3,
) -> None:
    """Compare masks fitted on the images themselves with those fitted on as many others."""
    own: dict[str, list[float]] = {stage: [] for stage in EVALUATED}
    lost: dict[str, list[float]] = {stage: [] for stage in EVALUATED}
    with TemporaryDirectory() as name:
        source = prepare_input(
            Path(name), count, images=images, model=model, weights=weights, labels=labels,
            classes=classes,
        )  # fmt: skip
        for split in range(splits):
            order = np.random.default_rng(split).permutation(len(source.rows))
            folders = [Path(name, f"{split}-{part}") for part in range(2)]
            halves = [
                half_of(source, [source.rows[number] for number in sorted(part)], folder)
                for part, folder in zip(np.array_split(order, 2), folders, strict=True)
            ]
            for part, half in enumerate(halves):
                fitted, applied = (
                    scores_of(half, folders[part], folders[other] / "discriminant.npz")
                    for other in (part, 1 - part)
                )
                for stage in EVALUATED:
                    own[stage].append(fitted[stage])
                    lost[stage].append(fitted[stage] - applied[stage])
                refined = f"{fitted['refined']:.1f}, {applied['refined']:.1f}"
                console.print(f"[dim]split {split}, half {part}: {refined}[/dim]")
    report = Report("transfer", f"{source.subject}, halves of {splits} random splits")
    for stage in EVALUATED:
        report.add(f"{stage} mask, fitted on itself", "fg/bg mIoU", own[stage])
        report.add(f"{stage} mask, lost by fitting on the other half", "points", lost[stage])
        report.add(f"{stage} mask, lost on average", "points", float(np.mean(lost[stage])))
    report.add("refined mask, lost at worst", "points", max(lost["refined"]), "<= 1.5")
    report.finish()


if __name__ == "__main__":
    typer.run(main)
