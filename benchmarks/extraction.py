"""Feature extraction against a bare forward loop.

Compares `extract_shard`, which decodes, resizes, runs the backbone, and extracts and stores keys
and class attention, with a loop of timm's ``forward_features`` over the same batches, already
decoded and resized in memory. No extraction with this backbone can be faster than this loop without
changing the arithmetic, so the ratio is the cost of everything else. Both run in float32 and
bfloat16; bfloat16 is also compared with the float32 loop, including its effect on the merged masks.
Speed is measured by elapsed time, in which decoding is hidden if there is a free core; the ratio of
CPU times, in which nothing is hidden, is reported as well.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from harness import Report, ratios, take_turns
from inputs import (
    DEFAULT_MODEL,
    SETTINGS,
    ClassesOption,
    CountOption,
    ImagesOption,
    Input,
    LabelsOption,
    ModelOption,
    TurnsOption,
    WeightsOption,
    extract,
    mask_miou,
    merged_masks,
    prepare_input,
)

from lightcluster.extraction.backbones.protocol import Backbone
from lightcluster.extraction.images import open_image, prepare_image, target_size
from lightcluster.extraction.precision import autocast

BATCH_SIZE = 8
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def batches_in_memory(source: Input, backbone: Backbone) -> list[torch.Tensor]:
    """Return all images, resized and normalised, in batches of one shape: float32 [B, 3, H, W]."""
    features, prepared = SETTINGS.features, []
    for row in source.rows:
        size = target_size(
            row.height, row.width, features.short_side, backbone.patch_size, features.max_tokens
        )
        rgb = open_image(row.path, SETTINGS.dataset.max_pixels)
        prepared.append(prepare_image(rgb, size, backbone.mean, backbone.std))
    prepared.sort(key=lambda image: image.shape)
    return [
        torch.from_numpy(np.stack(group[start : start + BATCH_SIZE]))
        for group in (list(same) for _, same in groupby(prepared, lambda image: image.shape))
        for start in range(0, len(group), BATCH_SIZE)
    ]


@torch.inference_mode()
def bare_loop(backbone: Backbone, batches: list[torch.Tensor], precision: torch.dtype) -> None:
    """Run timm's forward pass over all batches and throw the result away."""
    for batch in batches:
        with autocast(batch.device, precision):
            backbone.model.forward_features(batch)


def compare_speed(source: Input, folder: Path, turns: int, report: Report) -> None:
    """Add images per second of both contestants in both precisions, and their ratios."""
    backbone = source.backbone()
    batches = batches_in_memory(source, backbone)

    def store(precision: torch.dtype) -> None:
        extract(source, backbone, folder / "timed.zarr", precision, BATCH_SIZE)

    contestants = {}
    for name, precision in PRECISIONS.items():
        contestants[f"bare {name}"] = lambda p=precision: bare_loop(backbone, batches, p)
        contestants[f"extract {name}"] = lambda p=precision: store(p)
    timings = take_turns(contestants, turns)
    speed = {
        name: [len(source.rows) / timing.elapsed for timing in series]
        for name, series in timings.items()
    }
    cpu = {name: [timing.cpu for timing in series] for name, series in timings.items()}
    for name, series in speed.items():
        report.add(name, "images/s", series)
    for name in PRECISIONS:
        own, bare = f"extract {name}", f"bare {name}"
        report.add(f"{own} / bare, same precision", "speed", ratios(speed[own], speed[bare]),
                   ">= 0.9")  # fmt: skip
        report.add(f"bare / {own}, CPU time", "ratio", ratios(cpu[bare], cpu[own]))
    for name in ("extract bfloat16", "bare bfloat16"):
        goal = ">= 1.7" if name == "extract bfloat16" else ""
        report.add(f"{name} / bare float32", "speed", ratios(speed[name], speed["bare float32"]),
                   goal)  # fmt: skip
        report.add(f"bare float32 / {name}, CPU time", "ratio",
                   ratios(cpu["bare float32"], cpu[name]))  # fmt: skip


def compare_masks(source: Input, folder: Path, report: Report) -> None:
    """Add how far the merged masks of both precisions agree, with each other and with labels."""
    masks = {}
    for name, precision in PRECISIONS.items():
        (folder / name / "features").mkdir(parents=True)
        store = folder / name / "features/0000.zarr"
        extract(source, source.backbone(), store, precision, BATCH_SIZE)
        masks[name] = merged_masks(folder / name)
    foreground = {name: found.score > 0.5 for name, found in masks.items()}
    equal = foreground["float32"] == foreground["bfloat16"]
    report.add("patches per image", "patches", len(equal) / len(source.rows))
    report.add("patches with the same merged mask", "%", 100 * float(equal.mean()))
    for name, found in masks.items():
        miou = mask_miou(source, found)
        if miou is not None:
            report.add(f"merged mask {name}", "fg/bg mIoU", miou)


def main(
    images: ImagesOption = None,
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    count: CountOption = 100,
    turns: TurnsOption = 5,
    timed: Annotated[
        int, typer.Option(min=1, help="Speed is timed on so many images, masks compared on all.")
    ] = 32,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of torch; 1 if other work takes the other cores.")
    ] = None,
) -> None:
    """Compare extraction with a bare forward loop."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = prepare_input(
            folder, count, images=images, model=model, weights=weights, labels=labels,
            classes=classes,
        )  # fmt: skip
        if threads is not None:
            torch.set_num_threads(threads)
        used = torch.get_num_threads()
        timed = min(timed, len(source.rows))
        subject = f"{source.subject}, {timed} timed, threads {used}, batch {BATCH_SIZE}"
        report = Report("extraction", subject)
        compare_speed(replace(source, rows=source.rows[:timed]), folder, turns, report)
        compare_masks(source, folder, report)
    report.finish()


if __name__ == "__main__":
    typer.run(main)
