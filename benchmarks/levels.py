"""The three levels of clustering against TokenCut.

Compares the CPU time of all steps between features and the merged patch mask (sample, dataset
level, superclasses, category level, image level, foreground decision, merge), including reading
and writing files, with that of TokenCut on the same features in memory (Wang et al.,
"Self-supervised transformers for unsupervised object discovery using normalized cut", CVPR 2022).
Both compute a foreground mask from patch features; TokenCut uses the second eigenvector of each
image's normalised graph Laplacian. Both are single-threaded. Starting the process of a job, about
2 s shared by many images, is not included.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import scipy.linalg
import typer
from harness import Report, Timing, console, ratios, take_turns, timed, use_one_thread
from inputs import (
    DEFAULT_MODEL,
    CountOption,
    ImagesOption,
    ModelOption,
    TurnsOption,
    WeightsOption,
    extract_automatically,
    level_steps,
    prepare_input,
)
from numpy.typing import NDArray

from lightcluster.clustering.kmeans import normalize, set_threads
from lightcluster.extraction.store import FeatureStore
from lightcluster.shards import Shards

SIMILAR, UNRELATED = 0.2, 1e-5
"""TokenCut's threshold of the cosine similarity, and its weight of the edges below."""


def graph_of(features: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return W and D of the patches of one image, float64 [patches, patches]."""
    points = normalize(features, "l2")
    weights = np.where(points @ points.T > SIMILAR, 1.0, UNRELATED)
    return weights, np.diag(weights.sum(axis=1))


def second_eigenvector(
    weights: NDArray[np.float64], degree: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve (D - W) x = lambda D x for the second smallest eigenvalue, as TokenCut does."""
    _, vectors = scipy.linalg.eigh(degree - weights, degree, subset_by_index=[1, 2])
    vector: NDArray[np.float64] = vectors[:, 0]
    return vector


class TokenCut:
    """Runs TokenCut on all images of a store and keeps the time of the eigen-solve apart."""

    def __init__(self, store: Path) -> None:
        features = FeatureStore.open(store)
        facet = features.facets[0]
        self.images = [image.arrays[facet] for image in features.iter_images((facet,))]
        self.solve: list[float] = []

    def __call__(self) -> None:
        total = Timing(0, 0)
        for image in self.images:
            weights, degree = graph_of(image)
            total += timed(lambda w=weights, d=degree: second_eigenvector(w, d))
        self.solve.append(total.cpu)


class Levels:
    """Runs the steps of the levels and keeps the time of each of them."""

    def __init__(self, folder: Path, shards: int) -> None:
        self.steps = level_steps(folder, shards)
        self.cpu: dict[str, list[float]] = {name: [] for name in self.steps}

    def __call__(self) -> None:
        for name, step in self.steps.items():
            self.cpu[name].append(timed(step).cpu)


def repeat_store(folder: Path, repeat: int) -> None:
    """Let the first store stand for `repeat` shards."""
    first, *others = Shards(repeat).paths(folder / "features", ".zarr")
    for link in others:
        link.symlink_to(first.name, target_is_directory=True)


def main(
    images: ImagesOption = None,
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    count: CountOption = 100,
    turns: TurnsOption = 5,
    repeat: Annotated[
        int, typer.Option(min=1, help="Let the images stand for this many shards of such images.")
    ] = 1,
) -> None:
    """Compare the CPU time of the levels with that of TokenCut."""
    use_one_thread()
    set_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = prepare_input(folder, count, images=images, model=model, weights=weights)
        (folder / "features").mkdir()
        extract_automatically(source, folder / "features/0000.zarr")
        repeat_store(folder, repeat)
        tokencut = TokenCut(folder / "features/0000.zarr")
        patches = np.mean([len(image) for image in tokencut.images])
        dim = tokencut.images[0].shape[1]
        console.print(f"{source.subject}: {patches:.0f} patches x {dim} on average")
        levels = Levels(folder, repeat)
        timings = take_turns({"levels": levels, "tokencut": tokencut}, turns)
    n, total = len(source.rows), len(source.rows) * repeat
    simulated = f", as {repeat} shards" if repeat > 1 else ""
    report = Report("levels", f"{source.subject}{simulated}, {patches:.0f} patches x {dim}")
    own = [1000 * timing.cpu / total for timing in timings["levels"]]
    other = [1000 * timing.cpu / n for timing in timings["tokencut"]]
    solve = [1000 * seconds / n for seconds in tokencut.solve[-turns:]]
    for step, series in levels.cpu.items():
        report.add(step, "ms CPU/image", [1000 * seconds / total for seconds in series[-turns:]])
    report.add("all steps", "ms CPU/image", own, "<= 8")
    report.add("TokenCut, eigen-solve alone", "ms CPU/image", solve)
    report.add("TokenCut, with its graph", "ms CPU/image", other)
    report.add("eigen-solve / all steps", "ratio", ratios(solve, own), ">= 15")
    report.finish()


if __name__ == "__main__":
    typer.run(main)
