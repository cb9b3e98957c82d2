"""CAUSE against k-means of the same tokens, and what its training costs.

What is compared, on the same windows of the same images and painted by the same code: k-means of
the backbone's tokens; k-means of the features of a trained head; and the head's cluster probe, from
the published start and from that of k-means. Why: the three stages of CAUSE are trained without
labels, so each can be held against doing without it. Scores are of the protocol `stego`, squashed;
every seed trains all three stages anew; labels are looked at by the scores alone.

The second part needs no labels: seconds of an epoch of the head from the cache against the same
epoch with the backbone run in every step, as the published program does; and the peak memory of the
modularity loss, in chunks and with the tensor of all products.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as functional
import typer
from harness import Report, console, ratios, take_turns, timed, use_one_thread
from inputs import (
    DEFAULT_MODEL,
    CountOption,
    ImagesOption,
    Input,
    ModelOption,
    TurnsOption,
    WeightsOption,
    prepare_input,
)
from numpy.typing import NDArray
from torch import Tensor

from lightcluster.cause.caching import cache_crops, cache_views
from lightcluster.cause.course import course_of, views_of_step
from lightcluster.cause.segmentation import paint_view, view_features
from lightcluster.cause.stages import (
    USED,
    HeadStage,
    fit_clusterbook,
    fit_probe,
    read_head,
    train_head,
)
from lightcluster.cause.tokens import Tokens
from lightcluster.cause.views import View, side_in_patches, training_views
from lightcluster.checkpoints import read_tensors
from lightcluster.clustering.kmeans import fit_kmeans
from lightcluster.config import CauseSettings
from lightcluster.datasets.labels import IGNORED, read_classes, read_label, to_indices
from lightcluster.datasets.taxonomy import LabelFile
from lightcluster.evaluation.confusion import count_confusion
from lightcluster.evaluation.protocols import to_frame
from lightcluster.evaluation.scores import score_classes
from lightcluster.features.images import open_image, prepare_image
from lightcluster.identity import training_size

FRACTIONS = (0.5,)
SAMPLED = 16_384


class Labelled:
    """The images with one set of labels, and the scores of segmentations of all of them."""

    def __init__(self, source: Input, labels: Path, classes: Path) -> None:
        self.classes, self.file = read_classes(classes), classes
        self.truth = []
        for row in source.rows:
            file = LabelFile((labels / row.image_id).with_suffix(".png"))
            ids = to_indices(read_label(file, (row.height, row.width)), self.classes, 255)
            self.truth.append(to_frame(ids, "squashed"))

    def score(self, painted: Iterator[NDArray[np.uint16]]) -> tuple[float, float, int]:
        """Return mIoU and accuracy in per cent, and the number of clusters that occur."""
        count = len(self.classes.ids)
        table = np.zeros((count, count), np.int64)
        for labels, truth in zip(painted, self.truth, strict=True):
            frame = to_frame(labels, "squashed").astype(np.uint16)
            table += count_confusion(frame, truth.astype(np.uint16), count, count, IGNORED).counts
        scores = score_classes(table, self.classes.names, "count_hungarian", "skip", None)
        used = int((table.sum(axis=1) > 0).sum())
        return 100 * scores.mean_iou, 100 * scores.pixel_accuracy, used


def k_means(maps: list[Tensor], clusters: int, seed: int) -> Tensor:
    """Return the centroids of feature maps [C, rows, columns], by cosine."""
    rows = torch.cat([functional.normalize(m.flatten(1).T, dim=1) for m in maps]).numpy()
    chosen = np.random.default_rng(seed).permutation(len(rows))[:SAMPLED]
    fitted = fit_kmeans(
        rows[chosen], clusters, metric="spherical", restarts=4, iterations=25, seed=seed
    )
    return torch.from_numpy(fitted.centroids)


class Training:
    """The caches of some images, and all that is trained on them with one seed."""

    def __init__(self, source: Input, folder: Path, size: int, settings: CauseSettings) -> None:
        self.source, self.settings, self.size = source, settings, size
        self.crops, self.views = folder / "crops.zarr", folder / "views.zarr"
        common = {
            "framing": "squash", "mean": None, "std": None, "max_pixels": 10**9,
            "precision": "auto", "device": "cpu", "batch_size": 8,
            "threads": torch.get_num_threads(),
        }  # fmt: skip
        self.train_size = training_size(settings.head, size)
        cache_crops(
            source.manifest, source.weights, self.crops, fractions=FRACTIONS, mirrored=False,
            size=self.train_size, **common,
        )  # fmt: skip
        cache_views(source.manifest, source.weights, self.views, size=size, mirrored=True, **common)
        self.tokens = Tokens([self.views])

    def course(self, stage: str, seed: int) -> Any:
        dumped = {f"cause.{k}": v for k, v in self.settings.model_dump().items()}
        return course_of(stage, dumped, seed)

    def token_maps(self, index: int) -> Tensor:
        """Return the tokens of an image and of its mirror image: [2, T, D]."""
        return self.tokens.read(np.arange(2 * index, 2 * index + 2))

    def plain(self, maps: list[Tensor], vectors: Tensor) -> Iterator[NDArray[np.uint16]]:
        """Paint all images without a CRF."""
        pixels = np.zeros((self.size, self.size, 3), np.uint8)
        return (paint_view(features, vectors, pixels, False) for features in maps)

    def refined(self, maps: list[Tensor], vectors: Tensor) -> Iterator[NDArray[np.uint16]]:
        """Paint all images with a CRF."""
        for row, features in zip(self.source.rows, maps, strict=True):
            rgb = View(0, 0, row.height, row.width).cut(open_image(row.path, 10**9), self.size)
            yield paint_view(features, vectors, rgb, True)

    def train(self, seed: int, folder: Path) -> tuple[Path, dict[str, float]]:
        """Train clusterbook and head; return the head's file, seconds and codes in use."""
        book, head, settings = folder / "book.safetensors", folder / "head.safetensors", {}
        settings["clusterbook, s"] = timed(
            lambda: fit_clusterbook(
                [self.crops], book, folder / "b.csv", codes=self.settings.codes,
                course=self.course("clusterbook", seed), device="cpu",
            )
        ).elapsed  # fmt: skip
        settings["head, s"] = timed(
            lambda: train_head(
                [self.crops], book, head, folder / "h.csv", head=self.settings.head,
                bank=self.settings.bank, course=self.course("head", seed), device="cpu",
            )
        ).elapsed  # fmt: skip
        return head, {**settings, "codes in use": float(read_tensors(book)[1][USED])}

    def probe(
        self, head: Path, labelled: Labelled, start: Any, seed: int, folder: Path
    ) -> tuple[Tensor, float, float]:
        """Fit a probe; return its vectors, seconds, and its mean loss over the last tenth."""
        probe, losses = folder / "p.safetensors", folder / "p.csv"
        about = {"framing": "squash", "size": self.size, "images": "the benchmark's"}
        seconds = timed(
            lambda: fit_probe(
                [self.crops], head, labelled.file, probe, losses, folder / "c.csv", about=about,
                classes="auto", background=0 if 0 in labelled.classes.ids else None, start=start,
                restarts=4, iterations=25, course=self.course("probe", seed), device="cpu",
            )
        ).elapsed  # fmt: skip
        table = pd.read_csv(losses)["modularity"]
        return read_tensors(probe)[0]["probe"], seconds, float(table.tail(len(table) // 10).mean())


def learn(
    training: Training, sets: dict[str, Labelled], seeds: int, crf: bool, report: Report
) -> None:
    """Add the scores of all contestants, each over the seeds."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    indices = range(len(training.source.rows))
    raw = [training.token_maps(i)[0].T.unflatten(1, training.tokens.grid) for i in indices]

    def keep(name: str, scores: tuple[float, float, int]) -> None:
        for unit, value in zip(("mIoU", "pixel accuracy", "clusters used"), scores, strict=True):
            found[name, unit].append(value)
        console.print(f"[dim]{name}: {scores}[/dim]")

    for seed in range(seeds):
        with TemporaryDirectory() as name:
            folder = Path(name)
            head, facts = training.train(seed, folder)
            for fact, value in facts.items():
                found[fact, ""].append(value)
            network, codes, _ = read_head(head, "cpu")
            maps = [
                view_features(network, codes, *training.token_maps(i), training.tokens.grid)
                for i in indices
            ]
            for label, labelled in sets.items():
                clusters = len(labelled.classes.ids)
                baseline = k_means(raw, clusters, seed)
                keep(f"{label}: k-means of tokens", labelled.score(training.plain(raw, baseline)))
                if crf:
                    scores = labelled.score(training.refined(raw, baseline))
                    keep(f"{label}: k-means of tokens, CRF", scores)
                on_head = k_means(maps, clusters, seed)
                scores = labelled.score(training.plain(maps, on_head))
                keep(f"{label}: k-means of the head's features", scores)
                for start in ("uniform", "kmeans"):
                    vectors, seconds, loss = training.probe(head, labelled, start, seed, folder)
                    what = f"{label}: CAUSE, {start} start"
                    keep(what, labelled.score(training.plain(maps, vectors)))
                    found[what, "probe's loss"].append(loss)
                    found[what, "probe, s"].append(seconds)
                    if crf and start == "kmeans":
                        keep(f"{what}, CRF", labelled.score(training.refined(maps, vectors)))
    for (name, unit), values in found.items():
        spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        console.print(f"{name} {unit}: {mean(values):.2f}{spread} ({len(values)} seeds)")
        report.add(name, unit or name.rpartition(", ")[2], values)


def epoch_from_cache(training: Training, codes: Tensor, steps: int, run_backbone: bool) -> None:
    """Take `steps` steps of the head, from the cache or with the backbone run for each batch."""
    tokens, settings = Tokens([training.crops]), training.settings
    stage = HeadStage(settings.head, codes, settings.bank, tokens, 0, "cpu")
    optimizer, course = torch.optim.Adam(stage.trained, lr=1e-3), training.course("head", 0)
    backbone = training.source.backbone()
    side = side_in_patches(training.train_size, backbone.patch_size) * backbone.patch_size
    rows = {row.image_id: row for row in training.source.rows}

    def compute(views: NDArray[np.intp]) -> Tensor:
        pixels = []
        for number in views.tolist():
            image_id, _, crop = tokens.names[number].rpartition("#")
            row = rows[image_id]
            box = training_views(row.height, row.width, FRACTIONS, False, "squash")[int(crop)]
            rgb = box.cut(open_image(row.path, 10**9), side)
            pixels.append(prepare_image(rgb, (side, side), backbone.mean, backbone.std))
        return backbone.forward(torch.from_numpy(np.stack(pixels)), ("token",)).facets["token"]

    for step in range(steps):
        views = views_of_step(tokens.count, course, "head", step)
        batch = compute(views).clone() if run_backbone else tokens.read(views)
        generator = torch.Generator().manual_seed(step)
        (loss,) = stage.losses(batch, views, generator).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.after_step(generator)


MEMORY = """
import pathlib, sys, torch
from lightcluster.cause import modularity
def peak():
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
images, count, codes, dim = map(int, sys.argv[2:])
tokens, rows = torch.randn(images, count, dim), torch.randn(codes, dim, requires_grad=True)
before = peak()
if sys.argv[1] == "naive":
    modularity.max_product = lambda c: (c.unsqueeze(1) * c.unsqueeze(2)).amax(-1)
modularity.modularity_loss(tokens, rows).backward()
print(peak() - before)
"""


def modularity_memory(how: str, images: int, count: int, codes: int, dim: int) -> float:
    """Return the MiB that a loss and its gradient add to a fresh process."""
    command = [sys.executable, "-c", MEMORY, how, *map(str, (images, count, codes, dim))]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(found.stdout) / 1024


def main(
    images: ImagesOption = None,
    labels: Annotated[list[Path] | None, typer.Option(help="Folders of label PNGs.")] = None,
    classes: Annotated[list[Path] | None, typer.Option(help="classes.csv of each.")] = None,
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    count: CountOption = 100,
    size: Annotated[int, typer.Option(help="`cause.size`.")] = 448,
    head: Annotated[str, typer.Option(help="`cause.head`.")] = "mlp",
    seeds: Annotated[int, typer.Option(min=0, help="0: costs alone.")] = 3,
    crf: bool = False,
    turns: TurnsOption = 3,
) -> None:
    """Compare CAUSE with k-means of tokens, and its cost with that of doing without a cache."""
    use_one_thread()
    settings = CauseSettings.model_validate({"head": head, "size": size})
    with TemporaryDirectory() as name:
        source = prepare_input(
            Path(name), count, images=images, model=model, weights=weights,
        )  # fmt: skip
        training = Training(source, Path(name), size, settings)
        subject = f"{source.subject}, {head} at {size}, {settings.least_steps} steps"
        report = Report("cause", subject)
        sets = {
            folder.name: Labelled(source, folder, table)
            for folder, table in zip(labels or [], classes or [], strict=True)
        }
        if seeds and sets:
            learn(training, sets, seeds, crf, report)
        codes = torch.randn(settings.codes, training.tokens.dim)
        steps = 10
        timings = take_turns(
            {
                "from the cache": lambda: epoch_from_cache(training, codes, steps, False),
                "with the backbone": lambda: epoch_from_cache(training, codes, steps, True),
            },
            turns,
        )
        elapsed = {name: [t.elapsed for t in series] for name, series in timings.items()}
        epoch = training.course("head", 0).steps_of_epoch(Tokens([training.crops]).count)
        for name, seconds in elapsed.items():
            report.add(f"epoch of the head {name}", "s", [s * epoch / steps for s in seconds])
        report.add(
            "with the backbone / from the cache", "ratio", ratios(*reversed(elapsed.values())),
            ">= 1",
        )  # fmt: skip
        shape = (16, 100, 2048, 384)
        chunked, naive = (modularity_memory(how, *shape) for how in ("chunked", "naive"))
        report.add("modularity loss, 16 x 100 tokens, 2,048 codes, in chunks", "MiB", chunked)
        report.add("the same with the tensor of all products", "MiB", naive)
        report.add("naive / chunked", "ratio", naive / chunked, ">= 5")
        report.finish()


if __name__ == "__main__":
    typer.run(main)
