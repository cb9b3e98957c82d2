"""CAUSE against k-means on the same tokens, and the cost of its training.

Compares, on the same windows of the same images and with the same painting code: k-means on the
backbone's tokens, alone and averaged with those of the mirror image (as for the features of a
head); k-means on the features of a trained head; and the head's cluster probe, with the published
initialisation and with k-means. The three stages of CAUSE are trained without labels, so each can
be compared with omitting it. Scores use the protocol `stego`, squashed. Every seed trains all three
stages; only the scores use labels. Tokens, trained heads and counts of pixels can be kept: an
interrupted run is resumed, scores are recomputed from the counts, and a head that was trained on a
GPU is refined on a CPU.

The second part needs no labels: the time of an epoch of the head from the cache, compared with the
same epoch with the backbone in every step, as in the released code; and the peak memory of the
modularity loss, in chunks and with the full tensor of products.
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

from lightcluster.ahead import compute_ahead
from lightcluster.checkpoints import read_tensors
from lightcluster.clustering.kmeans import fit_kmeans
from lightcluster.datasets.entries import LabelFile
from lightcluster.datasets.labels import IGNORED, read_classes, read_label, to_indices
from lightcluster.evaluation.confusion import count_confusion
from lightcluster.evaluation.protocols import to_frame
from lightcluster.evaluation.scores import score_classes
from lightcluster.extraction.backbones.protocol import Backbone
from lightcluster.extraction.images import open_image, prepare_image
from lightcluster.extraction.precision import resolve_precision
from lightcluster.methods.cause.caching import cache_crops, cache_views
from lightcluster.methods.cause.course import READERS, course_of, views_of_step
from lightcluster.methods.cause.segmentation import paint_view, view_features
from lightcluster.methods.cause.settings import CauseSettings
from lightcluster.methods.cause.sharing import training_size
from lightcluster.methods.cause.stages import (
    USED,
    HeadStage,
    fit_clusterbook,
    fit_probe,
    read_head,
    train_head,
)
from lightcluster.methods.cause.tokens import Tokens
from lightcluster.methods.cause.views import View, training_views

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

    def score(
        self, painted: Iterator[NDArray[np.uint16]], counted: Path
    ) -> tuple[float, float, int]:
        """Return mIoU and accuracy in per cent, and the number of clusters that occur.

        The pixels by cluster and class are written to `counted`, and read from there the next time.
        """
        count = len(self.classes.ids)
        if not counted.exists():
            table = np.zeros((count, count), np.int64)
            for labels, truth in zip(painted, self.truth, strict=True):
                frame = to_frame(labels, "squashed").astype(np.uint16)
                table += count_confusion(
                    frame, truth.astype(np.uint16), count, count, IGNORED
                ).counts
            counted.parent.mkdir(exist_ok=True)
            np.savetxt(counted, table, "%d", ",")
        table = np.loadtxt(counted, np.int64, delimiter=",")
        scores = score_classes(table, self.classes.names, "count_hungarian", "skip", None)
        used = int((table.sum(axis=1) > 0).sum())
        return 100 * scores.mean_iou, 100 * scores.pixel_accuracy, used


def k_means(maps: list[Tensor], clusters: int, seed: int) -> Tensor:
    """Return the centroids of feature maps [C, rows, columns], by cosine."""
    rows = torch.cat([functional.normalize(m.flatten(1).T, dim=1) for m in maps]).cpu().numpy()
    chosen = np.random.default_rng(seed).permutation(len(rows))[:SAMPLED]
    fitted = fit_kmeans(
        rows[chosen], clusters, metric="spherical", restarts=4, iterations=25, seed=seed
    )
    return torch.from_numpy(fitted.centroids).to(maps[0].device)


class Training:
    """The caches of some images, and all that is trained on them with one seed."""

    def __init__(
        self, source: Input, folder: Path, size: int, settings: CauseSettings, device: str
    ) -> None:
        self.source, self.settings, self.size = source, settings, size
        self.device = device
        self.crops, self.views = folder / "crops.zarr", folder / "views.zarr"
        common = {
            "framing": "squash", "mean": None, "std": None, "max_pixels": 10**9,
            "precision": "auto", "device": device, "batch_size": 8, "resampling": "antialiased",
            "threads": torch.get_num_threads(),
        }  # fmt: skip
        self.train_size = training_size(settings.head, size)
        if not self.crops.exists():
            cache_crops(
                source.manifest, source.weights, self.crops, fractions=FRACTIONS, mirrored=False,
                size=self.train_size, **common,
            )  # fmt: skip
        if not self.views.exists():
            cache_views(
                source.manifest, source.weights, self.views, size=size, mirrored=True, **common
            )
        self.tokens = Tokens([self.views])

    def course(self, stage: str, seed: int) -> Any:
        return course_of(stage, self.settings, seed)

    def token_maps(self, index: int) -> Tensor:
        """Return the tokens of an image and of its mirror image: [2, T, D]."""
        return self.tokens.read(np.arange(2 * index, 2 * index + 2), self.device)

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
        if head.exists():
            return head, {}
        settings["clusterbook, s"] = timed(
            lambda: fit_clusterbook(
                [self.crops], book, folder / "b.csv", codes=self.settings.codes,
                course=self.course("clusterbook", seed), device=self.device,
            )
        ).elapsed  # fmt: skip
        settings["head, s"] = timed(
            lambda: train_head(
                [self.crops], book, head, folder / "h.csv", head=self.settings.head,
                bank=self.settings.bank, course=self.course("head", seed), device=self.device,
            )
        ).elapsed  # fmt: skip
        return head, {**settings, "codes in use": float(read_tensors(book)[1][USED])}

    def probe(
        self, head: Path, labelled: Labelled, start: Any, seed: int, folder: Path
    ) -> tuple[Tensor, float, float]:
        """Fit a probe; return its vectors, seconds, and its mean loss over the last tenth."""
        losses = folder / f"{labelled.file.stem}-{start}.csv"
        probe = losses.with_suffix(".safetensors")
        about = {"framing": "squash", "size": self.size, "images": "the benchmark's"}
        seconds = 0.0 if probe.exists() else timed(
            lambda: fit_probe(
                [self.crops], head, labelled.file, probe, losses, folder / "c.csv", about=about,
                classes="auto", background=0 if 0 in labelled.classes.ids else None, start=start,
                restarts=4, iterations=25, course=self.course("probe", seed), device=self.device,
            )
        ).elapsed  # fmt: skip
        table = pd.read_csv(losses)["modularity"]
        return (
            read_tensors(probe)[0]["probe"].to(self.device),
            seconds,
            float(table.tail(len(table) // 10).mean()),
        )


def learn(
    training: Training,
    sets: dict[str, Labelled],
    seeds: int,
    crf: bool,
    without_head: bool,
    kept: Path,
    report: Report,
) -> None:
    """Add the scores of all contestants, each over the seeds; what is trained is below `kept`."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    indices = range(len(training.source.rows))
    pairs = [training.token_maps(i).transpose(1, 2).unflatten(2, training.tokens.grid)
             for i in indices]  # fmt: skip
    raw = [pair[0] for pair in pairs]
    averaged = [(pair[0] + pair[1].flip(-1)) / 2 for pair in pairs]  # as the head's features are

    def keep(labelled: Labelled, name: str, painted: Iterator[NDArray[np.uint16]]) -> None:
        place = folder / "counts" / f"{name.replace(': ', ' ')}.csv"
        scores = labelled.score(painted, place)
        for unit, value in zip(("mIoU", "pixel accuracy", "clusters used"), scores, strict=True):
            found[name, unit].append(value)
        console.print(f"[dim]{name}: {scores}[/dim]")

    for seed in range(seeds):
        folder = kept / f"seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        head, facts = training.train(seed, folder)
        for fact, value in facts.items():
            found[fact, ""].append(value)
        network, codes, *_ = read_head(head, training.device)
        maps = [
            view_features(network, codes, *training.token_maps(i), training.tokens.grid)
            for i in indices
        ]
        for label, labelled in sets.items():
            clusters = len(labelled.classes.ids)
            for what, tokens in (("tokens", raw), ("averaged tokens", averaged)):
                if not without_head:
                    break
                baseline, name = k_means(tokens, clusters, seed), f"{label}: k-means of {what}"
                keep(labelled, name, training.plain(tokens, baseline))
                if crf:
                    keep(labelled, f"{name}, CRF", training.refined(tokens, baseline))
            on_head = k_means(maps, clusters, seed)
            name = f"{label}: k-means of the head's features"
            keep(labelled, name, training.plain(maps, on_head))
            for start in ("uniform", "kmeans"):
                vectors, seconds, loss = training.probe(head, labelled, start, seed, folder)
                what = f"{label}: CAUSE, {start} start"
                keep(labelled, what, training.plain(maps, vectors))
                found[what, "probe's loss"].append(loss)
                if seconds:
                    found[what, "probe, s"].append(seconds)
                if crf and start == "kmeans":
                    keep(labelled, f"{what}, CRF", training.refined(maps, vectors))
    for (name, unit), values in found.items():
        spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        console.print(f"{name} {unit}: {mean(values):.2f}{spread} ({len(values)} seeds)")
        report.add(name, unit or name.rpartition(", ")[2], values)


def part_of_epoch(training: Training, codes: Tensor, steps: int, backbone: Backbone | None) -> None:
    """Take `steps` steps of the head, from the cache or with the backbone run for each batch.

    What is read from disk, tokens or images, is read ahead by as many threads.
    """
    tokens, settings, device = Tokens([training.crops]), training.settings, training.device
    stage = HeadStage(settings.head, codes, settings.bank, tokens, 0, device)
    optimizer, course = torch.optim.Adam(stage.trained, lr=1e-3), training.course("head", 0)
    precision = resolve_precision("auto", device)
    side = tokens.grid[0] * tokens.patch_size
    rows = {row.image_id: row for row in training.source.rows}

    def views_of(step: int) -> NDArray[np.intp]:
        return views_of_step(tokens.count, course, "head", step)

    def read_tokens(step: int) -> Tensor:
        return tokens.read(views_of(step), device)

    def read_pixels(step: int) -> Tensor:
        assert backbone is not None
        pixels = []
        for number in views_of(step).tolist():
            image_id, _, crop = tokens.names[number].rpartition("#")
            row = rows[image_id]
            box = training_views(row.height, row.width, FRACTIONS, False, "squash")[int(crop)]
            rgb = box.cut(open_image(row.path, 10**9), side)
            pixels.append(prepare_image(rgb, (side, side), backbone.mean, backbone.std))
        return torch.from_numpy(np.stack(pixels)).to(device)

    read = read_tokens if backbone is None else read_pixels
    ready = compute_ahead(read, range(steps), workers=READERS, most=2 * READERS)
    for step, batch in enumerate(ready):
        if backbone is not None:
            batch = backbone.forward(batch, ("token",), precision=precision).facets["token"].clone()
        generator = torch.Generator().manual_seed(step)
        (loss,) = stage.losses(batch.float(), views_of(step), generator).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.after_step(generator)
        loss.item()  # as the training does, which waits for the device


MEMORY = """
import pathlib, sys, torch
from lightcluster.methods.cause import modularity
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


def measure_costs(training: Training, backbone: Backbone, turns: int, report: Report) -> None:
    """Add the seconds of an epoch of the head, and the memory of the modularity loss."""
    codes = torch.randn(training.settings.codes, training.tokens.dim)
    steps = 10 if training.device == "cpu" else 100
    timings = take_turns(
        {
            "from the cache": lambda: part_of_epoch(training, codes, steps, None),
            "with the backbone": lambda: part_of_epoch(training, codes, steps, backbone),
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
    if training.device == "cpu":
        shape = (16, 100, 2048, 384)
        chunked, naive = (modularity_memory(how, *shape) for how in ("chunked", "naive"))
        report.add("modularity loss, 16 x 100 tokens, 2,048 codes, in chunks", "MiB", chunked)
        report.add("the same with the tensor of all products", "MiB", naive)
        report.add("naive / chunked", "ratio", naive / chunked, ">= 5")


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
    keep: Annotated[
        Path | None, typer.Option(help="Folder for all that is made; what is there is not made.")
    ] = None,
    without_head: Annotated[bool, typer.Option(help="k-means of tokens, too.")] = True,
    costs: Annotated[bool, typer.Option(help="The second part, too.")] = True,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    turns: TurnsOption = 3,
) -> None:
    """Compare CAUSE with k-means of tokens, and its cost with that of doing without a cache."""
    if device == "cpu":
        use_one_thread()
    settings = CauseSettings.model_validate({"head": head, "size": size})
    with TemporaryDirectory() as name:
        source = prepare_input(
            Path(name), count, images=images, model=model, weights=weights,
        )  # fmt: skip
        kept = keep or Path(name)
        kept.mkdir(parents=True, exist_ok=True)
        trained_before = any(kept.glob("seed*/head.safetensors"))
        training = Training(source, kept, size, settings, device)
        where = "" if device == "cpu" else f", on {torch.cuda.get_device_name()}"
        subject = f"{source.subject}, {head} at {size}, {settings.least_steps} steps{where}"
        if trained_before:
            subject += ", trained before"
        report = Report("cause", subject)
        sets = {
            folder.name: Labelled(source, folder, table)
            for folder, table in zip(labels or [], classes or [], strict=True)
        }
        if seeds and sets:
            learn(training, sets, seeds, crf, without_head, kept, report)
        if costs:
            measure_costs(training, source.backbone(device), turns, report)
        report.finish()


if __name__ == "__main__":
    typer.run(main)
