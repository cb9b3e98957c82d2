"""Refinement against the bare calls of the CRF library.

Compares `refine_mask`, which upsamples the patch scores, computes the unary energy, runs the CRF
and thresholds, and the step `refine_masks`, which also decodes the images and writes the masks,
with only the calls of pydensecrf, with the same parameters, on prepared arrays. The lattice of the
library takes nearly all the time, and the rest should be negligible. `refine_mask` with the other
methods (guided filter, and none) is timed too. Everything is single-threaded; CPU time is compared.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import typer
from harness import Report, ratios, take_turns, use_one_thread
from inputs import (
    DEFAULT_MODEL,
    SETTINGS,
    CountOption,
    ImagesOption,
    ModelOption,
    TurnsOption,
    WeightsOption,
    extract_automatically,
    merged_masks,
    prepare_input,
)
from numpy.typing import NDArray
from pydensecrf import densecrf

from lightcluster.clustering.kmeans import set_threads
from lightcluster.extraction.images import open_image
from lightcluster.masks.pixels import refine_mask, refine_masks
from lightcluster.masks.refinement.registry import RefinementSettings
from lightcluster.masks.upsampling import upsample

REFINEMENT = SETTINGS.refinement
METHODS = {
    name: REFINEMENT.model_copy(update={"method": name, "min_area": 0})
    for name in ("crf", "guided", "none")
}
CRF = METHODS["crf"]


def unary_of(score: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the unary energy of the upsampled score, float32 [2, pixels]."""
    soft = upsample(score, size, SETTINGS.upsampling.method).ravel()
    foreground = np.clip(soft, CRF.clip, 1 - CRF.clip)
    return np.ascontiguousarray(-np.log(np.stack([1 - foreground, foreground])), np.float32)


def bare_crf(unary: NDArray[np.float32], image: NDArray[np.uint8]) -> None:
    """Call pydensecrf and nothing else."""
    height, width = image.shape[:2]
    model = densecrf.DenseCRF2D(width, height, 2)
    model.setUnaryEnergy(unary)
    model.addPairwiseGaussian(sxy=CRF.gaussian_sxy, compat=CRF.gaussian_weight)
    model.addPairwiseBilateral(
        sxy=CRF.bilateral_sxy, srgb=CRF.bilateral_srgb, rgbim=image, compat=CRF.bilateral_weight
    )
    model.inference(CRF.iterations)


def main(
    images: ImagesOption = None,
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    count: CountOption = 16,
    turns: TurnsOption = 5,
) -> None:
    """Compare refinement with the bare calls of pydensecrf."""
    use_one_thread()
    set_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = prepare_input(folder, count, images=images, model=model, weights=weights)
        (folder / "features").mkdir()
        extract_automatically(source, folder / "features/0000.zarr")
        masks = merged_masks(folder)
        path_of = {row.image_id: row.path for row in source.rows}
        pictures = [
            np.array(open_image(path_of[image_id], SETTINGS.dataset.max_pixels))
            for image_id in masks.image_id
        ]
        for picture in pictures:
            pixels = picture.shape[0] * picture.shape[1]
            assert pixels <= REFINEMENT.max_pixels, "the bare calls know no working size"
        scores = [masks.score_of(number) for number in range(len(pictures))]
        unaries = [
            unary_of(score, picture.shape[:2])
            for score, picture in zip(scores, pictures, strict=True)
        ]

        def bare() -> None:
            for unary, picture in zip(unaries, pictures, strict=True):
                bare_crf(unary, picture)

        def refine_all(refinement: RefinementSettings) -> None:
            for score, picture in zip(scores, pictures, strict=True):
                refine_mask(
                    score, picture, upsampling=SETTINGS.upsampling.method,
                    threshold=SETTINGS.upsampling.threshold, refinement=refinement,
                )  # fmt: skip

        def step() -> None:
            refine_masks(
                source.manifest, folder / "patch/0000.npz", folder / "pixel.npz",
                upsampling=SETTINGS.upsampling.method, threshold=SETTINGS.upsampling.threshold,
                refinement=REFINEMENT.model_copy(update={"method": "crf"}),
                max_pixels=SETTINGS.dataset.max_pixels,
            )  # fmt: skip

        functions = {
            f"refine_mask: {name}": partial(refine_all, method) for name, method in METHODS.items()
        }
        timings = take_turns({"bare": bare, **functions, "step": step}, turns)
    cpu = {name: [timing.cpu for timing in series] for name, series in timings.items()}
    pixels = np.mean([picture.shape[0] * picture.shape[1] for picture in pictures])
    report = Report("refinement", f"{source.subject}, {pixels:,.0f} pixels")
    for name, series in cpu.items():
        report.add(name, "ms CPU/image", [1000 * seconds / len(pictures) for seconds in series])
    crf, guided = cpu["refine_mask: crf"], cpu["refine_mask: guided"]
    report.add("refine_mask / bare", "CPU time", ratios(crf, cpu["bare"]), "<= 1.15")
    report.add("refine_mask, crf / guided", "CPU time", ratios(crf, guided))
    report.add("step / bare", "CPU time", ratios(cpu["step"], cpu["bare"]))
    report.finish()


if __name__ == "__main__":
    typer.run(main)
