"""A loaded model against the passes of its backbone.

What is compared: `lightcluster.load(folder)(path)`, which decodes a photograph, sees it through the
backbone, finds its mask and regions, and gives these their classes, with a loop of what no
implementation can leave out: the passes of the backbone, over the image and over the crops of its
regions, and the refinement of the mask, all on arrays that are prepared in memory. CPU time, with
one thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from harness import Report, ratios, take_turns, use_one_thread


def main(
    model: Annotated[Path, typer.Argument(help="Folder `model` of a run.")],
    images: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    count: Annotated[int, typer.Option(min=1, help="Images at most.")] = 12,
    turns: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    use_one_thread()
    import torch

    import lightcluster as lc
    from lightcluster.api import model as module

    torch.set_num_threads(1)
    loaded = lc.load(model, threads=1)
    paths = sorted(path for path in images.iterdir() if path.is_file())[:count]
    passes, refined = [], []
    forward, refine = loaded._backbone.forward, module.refine_mask

    def record_pass(*given, **named):
        passes.append((given, named))
        return forward(*given, **named)

    def record_refinement(*given, **named):
        refined.append((given, named))
        return refine(*given, **named)

    loaded._backbone.forward, module.refine_mask = record_pass, record_refinement
    for path in paths:
        loaded(path)
    loaded._backbone.forward, module.refine_mask = forward, refine

    def bare() -> None:
        with torch.inference_mode():
            for given, named in passes:
                forward(*given, **named)
        for given, named in refined:
            refine(*given, **named)

    def whole() -> None:
        for path in paths:
            loaded(path)

    timings = take_turns({"bare": bare, "loaded": whole}, turns)
    cpu = {name: [timing.cpu for timing in series] for name, series in timings.items()}
    described = loaded.description.config
    report = Report(
        "loaded",
        f"{len(paths)} photographs, {described.backbone.model}, short side "
        f"{described.features.short_side}",
    )
    for name, series in cpu.items():
        report.add(name, "ms CPU/image", [1000 * seconds / len(paths) for seconds in series])
    report.add("loaded / bare", "CPU time", ratios(cpu["loaded"], cpu["bare"]), "<= 1.15")
    report.finish()


if __name__ == "__main__":
    typer.run(main)
