"""Extraction with a device that takes a fixed time per image, instead of a backbone.

A GPU computes a forward pass in a few milliseconds an image, so that reading, resizing and storing
have to keep up. Here `extract_shard` runs with a backbone that only waits, for `--milliseconds` an
image, one pass at a time and without using the CPU, and returns features of the shape of ViT-S/16
(384 features a patch). Its images per second are compared with those of the passes alone, which no
extraction can exceed. The CPU time of the rest says how many cores a faster device needs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Annotated

import torch
import typer
from harness import Report, ratios, take_turns
from inputs import CountOption, ImagesOption, TurnsOption, extract, prepare_input
from torch import Tensor

from lightcluster.extraction.backbones.protocol import Backbone, Facet, Features


class Waiting(Backbone):
    """A device that is busy for a fixed time per image, and returns the same features each time."""

    patch_size, dim, depth, heads, prefix_tokens = 16, 384, 12, 6, 1
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, seconds: float) -> None:
        self._seconds, self._device_is_free = seconds, Lock()
        self._values = torch.randn(1 << 24, generator=torch.Generator().manual_seed(0)).half()

    @property
    def device(self) -> torch.device:
        """The CPU, where the images stay."""
        return torch.device("cpu")

    def _compute(
        self, images: Tensor, facets: Sequence[Facet], layers: Sequence[int], precision: torch.dtype
    ) -> list[Features]:
        count, _, height, width = images.shape
        patches = height * width // self.patch_size**2
        with self._device_is_free:
            time.sleep(self._seconds * count)
        shape = (count, patches, self.dim)
        keys = self._values[: count * patches * self.dim].reshape(shape)
        rest = self._values[: count * patches].float().reshape(count, patches)
        cls = self._values[: count * self.dim].float().reshape(count, self.dim)
        return [Features(dict.fromkeys(facets, keys), cls, rest)]


def main(
    images: ImagesOption = None,
    count: CountOption = 200,
    turns: TurnsOption = 5,
    milliseconds: Annotated[float, typer.Option(help="Of a pass, for each image.")] = 3.0,
    cores: Annotated[int, typer.Option(min=1, help="Threads of the extraction.")] = 2,
) -> None:
    """Compare the extraction with the passes of a simulated device."""
    torch.set_num_threads(cores)
    backbone = Waiting(milliseconds / 1000)
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = prepare_input(
            folder, count, images=images, model="mean_color", weights=None,
        )  # fmt: skip
        blank = torch.zeros((4, 3, 448, 592))

        def passes() -> None:
            for _ in range(len(source.rows) // len(blank)):
                backbone.forward(blank)

        contestants = {
            "passes": passes,
            "extraction": lambda: extract(source, backbone, folder / "x.zarr", torch.float32),
        }
        timings = take_turns(contestants, turns)
        report = Report(
            "simulated_gpu",
            f"{len(source.rows)} images, {milliseconds:g} ms an image on a simulated device, "
            f"{cores} cores",
        )
        speed = {
            name: [len(source.rows) / timing.elapsed for timing in series]
            for name, series in timings.items()
        }
        for contestant, series in speed.items():
            report.add(contestant, "images/s", series)
        report.add(
            "extraction / passes", "speed", ratios(speed["extraction"], speed["passes"]), ">= 0.8"
        )
        own = [1000 * timing.cpu / len(source.rows) for timing in timings["extraction"]]
        report.add("extraction", "CPU ms an image", own)
        report.finish()


if __name__ == "__main__":
    typer.run(main)
