"""A short training of all stages of CAUSE, for the tests of each device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lightcluster.methods.cause.course import Course
from lightcluster.methods.cause.stages import HeadKind, fit_clusterbook, fit_probe, train_head

COURSE = Course(epochs=1, least_steps=12, batch_size=4, learning_rate=1e-3, clip=1.0, seed=3)
ABOUT = {"framing": "squash", "size": 32, "images": "train"}


def fit_all(
    crops: Sequence[Path],
    folder: Path,
    head: HeadKind = "mlp",
    start: Literal["uniform", "kmeans"] = "uniform",
    device: str = "cpu",
) -> dict[str, Path]:
    """Train all three stages below `folder`."""
    files = {name: folder / f"{name}.safetensors" for name in ("clusterbook", "head", "probe")}
    losses = {name: folder / f"{name}.csv" for name in files}
    fit_clusterbook(
        crops, files["clusterbook"], losses["clusterbook"], codes=12, course=COURSE, device=device
    )
    train_head(
        crops, files["clusterbook"], files["head"], losses["head"], head=head, bank=5,
        course=COURSE, device=device,
    )  # fmt: skip
    fit_probe(
        crops, files["head"], None, files["probe"], losses["probe"], folder / "classes.csv",
        classes=3, background=None, about=ABOUT, start=start, restarts=1, iterations=5,
        course=COURSE, device=device,
    )  # fmt: skip
    return files
