"""Training CAUSE on a GPU and on the CPU of the same machine: speed and agreement.

Both run the same code; on a GPU that supports it, heads use bfloat16. All stages start from the
same parameters and use the same crops and positions. Their losses per step are compared in single
precision and in the default precision, without dropout, whose masks differ on a GPU. Speed is
measured with dropout, with the loop of a run, including reading from the cache. The CPU uses all
cores. Weights do not affect the speed, so random ones can be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated

import numpy as np
import torch
import typer
from harness import Report, console
from inputs import CountOption, ImagesOption, WeightsOption, prepare_input
from numpy.typing import NDArray
from torch import nn

from lightcluster.methods.cause import stages
from lightcluster.methods.cause.caching import cache_crops
from lightcluster.methods.cause.course import Course, Stage, train
from lightcluster.methods.cause.heads import build_head
from lightcluster.methods.cause.stages import ClusterbookStage, HeadStage, ProbeStage, arithmetic
from lightcluster.methods.cause.tokens import Tokens

FRACTIONS = (0.5,)
CODES, BANK, CLUSTERS = 2048, 100, 27


class Telling(Report):
    """A report that prints each figure when it is measured, for the processor takes its time."""

    def add(self, name: str, unit: str, values: list[float] | float, goal: str = "") -> None:
        """Add a figure, and print it."""
        super().add(name, unit, values, goal)
        console.print(f"[dim]{name}: {self.figures[-1].quartiles[1]:.4g} {unit}[/dim]")


@dataclass(frozen=True)
class Bench:
    """Where the stages are trained, and on what."""

    tokens: Tokens
    folder: Path

    def build(self, name: str, device: str) -> Stage:
        """Return a stage at its start: on every device the same numbers."""
        tokens = self.tokens
        if name == "clusterbook":
            return ClusterbookStage(CODES, tokens, 0, device)
        codes = torch.randn(CODES, tokens.dim, generator=torch.Generator().manual_seed(0))
        kind = "tr" if name.endswith("tr") else "mlp"
        if name.startswith("head"):
            return HeadStage(kind, codes, BANK, tokens, 0, device)
        torch.manual_seed(0)
        head = build_head(kind, tokens.dim, tokens.grid[0] * tokens.grid[1])
        return ProbeStage(head, codes, CLUSTERS, tokens, 0, device)

    def losses(
        self, name: str, device: str, steps: int, *, dropout: bool, single: bool = False
    ) -> tuple[NDArray[np.float64], float]:
        """Train; return the loss of every step, and seconds of a step without the first fifth."""
        stage = self.build(name, device)
        for module in (m for each in stage.modules.values() for m in each.modules()):
            if isinstance(module, nn.Dropout) and not dropout:
                module.p = 0.0
            elif isinstance(module, nn.MultiheadAttention) and not dropout:
                module.dropout = 0.0
        starts: list[float] = []
        after_step = stage.after_step

        def note(generator: torch.Generator) -> None:
            after_step(generator)
            starts.append(perf_counter())

        stage.after_step = note  # type: ignore[method-assign]
        stages.arithmetic = (
            (lambda device: torch.autocast(device.type, enabled=False)) if single else arithmetic
        )
        course = Course(epochs=1, least_steps=steps, batch_size=16, learning_rate=1e-3)
        table = train(
            stage, self.tokens, course, self.folder / "checkpoint", about={}, device=device,
            progress=False,
        )  # fmt: skip
        (self.folder / "checkpoint").unlink(missing_ok=True)
        skipped = len(starts) // 5
        seconds = (starts[-1] - starts[skipped]) / (len(starts) - 1 - skipped)
        return table.iloc[:, 2].to_numpy(), seconds


def main(
    images: ImagesOption = None,
    model: Annotated[str, typer.Option(help="A Vision Transformer of timm.")] = (
        "vit_small_patch8_224"
    ),
    weights: WeightsOption = None,
    count: CountOption = 8,
    size: Annotated[int, typer.Option(help="Side at which crops are seen.")] = 320,
    steps: Annotated[int, typer.Option(min=5, help="On the processor.")] = 5,
    gpu_steps: Annotated[int, typer.Option(min=5, help="On the GPU, for its speed.")] = 60,
) -> None:
    """Train every stage on the processor and on the GPU."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = prepare_input(folder, count, images=images, model=model, weights=weights)
        report = Telling(
            "devices", f"{source.subject}, crops at {size}, {torch.cuda.get_device_name()}"
        )
        for device in ("cpu", "cuda"):
            settings = {
                "framing": "squash", "mean": None, "std": None, "max_pixels": 10**9,
                "precision": "auto", "device": device, "batch_size": 16,
                "threads": torch.get_num_threads(), "size": size, "mirrored": False,
                "fractions": FRACTIONS,
            }  # fmt: skip
            crops = folder / f"{device}.zarr"
            begin = perf_counter()
            cache_crops(source.manifest, source.weights, crops, **settings)
            tokens = Tokens([crops])
            report.add(f"cache, {device}", "crops / s", tokens.count / (perf_counter() - begin))
        bench = Bench(tokens, folder)
        begin = perf_counter()
        for first in range(0, 64, 16):
            tokens.read(np.arange(first, first + 16) % tokens.count)
        report.add("reading a batch of 16 crops", "ms", 1000 * (perf_counter() - begin) / 4)
        for stage in ("clusterbook", "head mlp", "probe mlp", "head tr", "probe tr"):
            reference, slow = bench.losses(stage, "cpu", steps, dropout=False)
            report.add(f"{stage}, cpu", "ms / step", 1000 * slow)
            for how, single in (("float32", True), ("as it is", False)):
                found, _ = bench.losses(stage, "cuda", steps, dropout=False, single=single)
                apart = np.abs(found[: len(reference)] / reference - 1)
                report.add(
                    f"{stage}, {how}: largest relative difference of a loss", "", apart.max()
                )
                _, fast = bench.losses(stage, "cuda", gpu_steps, dropout=True, single=single)
                report.add(f"{stage}, cuda, {how}", "ms / step", 1000 * fast)
                report.add(f"{stage}, cpu / cuda, {how}", "ratio", slow / fast)
            torch.cuda.empty_cache()
        report.add("peak memory of the GPU", "GiB", torch.cuda.max_memory_allocated() / 2**30)
        report.finish()


if __name__ == "__main__":
    typer.run(main)
