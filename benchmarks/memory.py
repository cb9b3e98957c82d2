"""Peak memory of every job that gathers all shards, for 1,000 and for 100,000 images.

Compares the peak resident memory of each gather job on simulated files of a small dataset with that
on those of a large one, because only these jobs process the whole dataset. Samples grow with the
dataset up to their limits (``sample_tokens``, ``sample_images``, ``sample_regions``), so an
intermediate dataset that just reaches all limits separates this growth from unlimited growth.

Each job is a new process, started as in the workflow. The peak is Linux's ``VmHWM``, read by the
process itself when it ends, because ``ru_maxrss`` is inherited from the parent process.

The simulated files have realistic shapes where a gather job reads them: CLS tokens, samples, image
level, regions, counts and manifests. Feature stores have one patch per image, because only one
gather job, `fit_trees`, reads patches. It has its own smaller datasets, of which the smallest
already fills its sample.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from harness import Report, console

from lightcluster.config import Config
from lightcluster.datasets.census import Census, write_census
from lightcluster.datasets.entries import LabelFile
from lightcluster.datasets.listing import count_shards
from lightcluster.datasets.manifest import Rejection, Row, write_rows
from lightcluster.evaluation.mask_counts import STAGES
from lightcluster.extraction.store import FeatureStoreWriter, ImageFeatures
from lightcluster.files import encode_names, write_arrays
from lightcluster.shards import Shards
from lightcluster.steps import settings_of

SETTINGS = Config()
PATCHES, CLASSES, REGIONS_AN_IMAGE = 1072, 13, 2
SUPERCLASSES = 20

PEAK = """
import atexit, pathlib, runpy, sys
def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    print("VmHWM", status.split("VmHWM:")[1].split()[0])
atexit.register(peak)
"""
RUN_STEP = PEAK + 'runpy.run_module("lightcluster.step", None, "__main__")'
CHOOSE = (
    PEAK
    + """
from lightcluster.datasets.manifest import iter_manifest
from lightcluster.reporting.choice import choose_images
choose_images(iter_manifest(pathlib.Path(sys.argv[1])), 16, 0)
"""
)


class Simulation:
    """The files that the gather jobs of a dataset read.

    Parameters
    ----------
    folder : Path
        Where to write them.
    images : int
    dim : int
        Features of a patch.
    """

    def __init__(self, folder: Path, images: int, dim: int) -> None:
        self.folder, self.images, self.dim = folder, images, dim
        self.shards = Shards(count_shards(images, SETTINGS.dataset.shard_size))
        self.random = np.random.default_rng(0)

    def write(self) -> None:
        """Write all files."""
        for name, ids in zip(self.shards, self._image_ids(), strict=True):
            self._write_manifest(name, ids)
            self._write_store(name, ids)
            self._write_sample(name, len(ids))
            self._write_regions(name, ids)
            self._write_counts(name, ids)
        votes = self.random.integers(1, 10_000, (CLASSES + 1, CLASSES))
        write_arrays(self.folder / "counts/neighbors.npz", original=votes)
        lines = [f"{number},class {number}" for number in range(CLASSES)]
        (self.folder / "classes.csv").write_text("id,name\n" + "\n".join(lines) + "\n")

    def _image_ids(self) -> Iterator[list[str]]:
        for numbers in np.array_split(np.arange(self.images), len(self.shards)):
            yield [f"photographs/{number // 1000:04d}/{number:012d}.jpg" for number in numbers]

    def _tokens(self, count: int) -> np.ndarray:
        """Draw tokens in `SUPERCLASSES` directions, more or less: float32 [count, dim]."""
        directions = np.random.default_rng(1).normal(size=(SUPERCLASSES, self.dim))
        near = directions[self.random.integers(SUPERCLASSES, size=count)]
        return (near + self.random.normal(0, 0.5, (count, self.dim))).astype(np.float32)

    def _write_manifest(self, name: str, ids: list[str]) -> None:
        rows = [
            Row(image_id, Path("images", image_id),
                LabelFile(Path("labels", image_id).with_suffix(".png")),
                image_id.replace(".jpg", ".png"), 480, 640)
            for image_id in ids
        ]  # fmt: skip
        rejected = [Rejection(image_id, "image", "truncated") for image_id in ids[::100]]
        write_rows(self.folder / f"manifest/{name}.csv", rows, Row)
        write_rows(self.folder / f"manifest/{name}.rejected.csv", rejected, Rejection)
        write_census(self.folder / f"manifest/{name}.census.csv", Census())

    def _write_store(self, name: str, ids: list[str]) -> None:
        path = self.folder / f"features/{name}.zarr"
        path.parent.mkdir(parents=True, exist_ok=True)
        count = len(ids)
        one = np.ones((count, 2), np.int32)
        with FeatureStoreWriter(path, one, 480 * one, ids, ("key",), self.dim, {}) as writer:
            for image_id, token in zip(ids, self._tokens(count), strict=True):
                key, attention = token[None].astype(np.float16), np.zeros(1, np.float16)
                colors = np.zeros((1, 4, 3), np.uint8)
                writer.append(image_id, ImageFeatures(token, attention, colors, {"key": key}))

    def _write_sample(self, name: str, count: int) -> None:
        quota = min(-(-SETTINGS.clustering.sample_tokens // len(self.shards)), count * PATCHES)
        row = np.sort(self.random.choice(count * PATCHES, quota, replace=False)).astype(np.int64)
        tokens = self._tokens(quota)
        tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
        write_arrays(self.folder / f"sample/{name}.npz", features=tokens.astype(np.float16),
                     image=(row // PATCHES).astype(np.int32), row=row)  # fmt: skip
        clusters = SETTINGS.clustering.k_image
        label = self.random.integers(clusters, size=count * PATCHES, dtype=np.uint8)
        write_arrays(self.folder / f"image/{name}.npz", label=label,
                     foreground=self.random.random((count, clusters)) < 0.3)  # fmt: skip

    def _write_regions(self, name: str, ids: list[str]) -> None:
        count = REGIONS_AN_IMAGE * len(ids)
        write_arrays(
            self.folder / f"regions/{name}.npz", image_id=encode_names(ids),
            image=np.repeat(np.arange(len(ids), dtype=np.int32), REGIONS_AN_IMAGE),
            box=np.zeros((count, 4), np.int64), area=np.ones(count, np.int64),
            cls=self._tokens(count), key=self._tokens(count), patch=self._tokens(count),
        )  # fmt: skip

    def _write_counts(self, name: str, ids: list[str]) -> None:
        def drawn(*shape: int) -> np.ndarray:
            return self.random.integers(1, 10_000 * len(ids), shape)

        ignored = np.zeros(len(ids), np.int64)
        write_arrays(self.folder / f"counts/masks/{name}.npz", ignored=ignored,
                     by_class=drawn(len(ids), len(STAGES), 2, CLASSES),
                     boundary_f=np.ones((len(ids), len(STAGES))),
                     background=np.asarray(0))  # fmt: skip
        for seed in SETTINGS.labelling.seeds:
            arrays = {
                "original.segmentation": drawn(CLASSES, CLASSES),
                "original.random": drawn(CLASSES, CLASSES),
                "original.oracle": drawn(CLASSES + 1, CLASSES),
                "original.ignored": ignored,
            }
            write_arrays(self.folder / f"counts/classes/{name}/seed-{seed}.npz", **arrays)

    def step(self, name: str, *arguments: str) -> list[str]:
        """Return the command line of a step; ``@`` in its arguments is the folder."""
        settings = json.dumps(settings_of(name, SETTINGS))
        given = [] if name == "gather_manifest" else [settings]
        filled = [argument.replace("@", str(self.folder)) for argument in arguments]
        return ["-c", RUN_STEP, name.replace("_", "-"), *given, *filled]

    def jobs(self) -> dict[str, list[str]]:
        """Return the command line of every gather job, in an order in which they can run."""
        step, here = self.step, str(self.folder)
        shards = ("--shards", str(len(self.shards)))
        return {
            "gather_manifest": step(
                "gather_manifest", "--manifests", "@/manifest", *shards,
                "--manifest", "@/manifest.csv", "--census", "@/census.csv",
            ),
            "cluster_dataset": step(
                "cluster_dataset", *shards, "--sample", "@/sample", "--output", "@/dataset.npz",
            ),
            "group_images": step(
                "group_images", *shards, "--features", "@/features",
                "--output", "@/superclasses.npz",
            ),
            "cluster_category": step(
                "cluster_category", *shards, "--sample", "@/sample",
                "--superclasses", "@/superclasses.npz", "--output", "@/category.npz",
            ),
            "decide_foreground": step(
                "decide_foreground", *shards, "--sample", "@/sample", "--image-level", "@/image",
                "--dataset-level", "@/dataset.npz", "--superclasses", "@/superclasses.npz",
                "--category-level", "@/category.npz", "--output", "@/foreground.npz",
            ),
            "label_regions": step(
                "label_regions", *shards, "--seed", "0", "--regions", "@/regions",
                "--output", "@/labelling.npz", "--palette", "@/palette.csv",
                "--classes", "@/classes.csv",
            ),
            "evaluate": step(
                "evaluate", *shards, "--counts", "@/counts", "--classes", "@/classes.csv",
                "--dataset", "simulated", "--run", "memory", "--fitted-on", "itself",
                "--tables", "@/tables",
            ),
            "report: choose_images": ["-c", CHOOSE, f"{here}/manifest.csv"],
        }  # fmt: skip


class Patches(Simulation):
    """The files that `fit_trees` reads: every image with all its patches."""

    GRID = (28, 38)

    def write(self) -> None:
        """Write all files; all images have the same colours."""
        patches, random = self.GRID[0] * self.GRID[1], self.random
        colors = random.integers(0, 256, (patches, 4, 3), np.uint8)
        parts = np.array_split(np.arange(self.images), len(self.shards))
        for name, numbers in zip(self.shards, parts, strict=True):
            ids = [str(number) for number in numbers]
            grids = np.tile(self.GRID, (len(ids), 1))
            store = self.folder / f"features/{name}.zarr"
            store.parent.mkdir(parents=True, exist_ok=True)
            foreground = random.random((len(ids), patches)) < 0.3
            with FeatureStoreWriter(
                store, grids, 16 * grids, ids, ("key",), self.dim, {}
            ) as writer:
                for image_id, inside in zip(ids, foreground, strict=True):
                    key = random.normal(size=(patches, self.dim)).astype(np.float16)
                    key[:, 0] += np.where(inside, 4, -4)
                    attention = np.zeros(patches, np.float16)
                    cls = np.zeros(self.dim, np.float32)
                    writer.append(image_id, ImageFeatures(cls, attention, colors, {"key": key}))
            self._write_sample(name, len(ids))
            score = foreground.ravel().astype(np.float16)
            write_arrays(
                self.folder / f"merged/{name}.npz", image_id=encode_names(ids),
                grid=grids.astype(np.int32), offset=np.arange(len(ids) + 1) * patches,
                votes=np.tile(foreground.ravel(), (3, 1)), merged=score, score=score,
            )  # fmt: skip

    def jobs(self) -> dict[str, list[str]]:
        """Return the command line of the job."""
        return {
            "fit_trees": self.step(
                "fit_trees", "--shards", str(len(self.shards)), "--features", "@/features",
                "--merged", "@/merged", "--sample", "@/sample", "--output", "@/trees.npz",
            )
        }  # fmt: skip


def peak_of(arguments: list[str]) -> float:
    """Return the peak resident memory of a job in MiB."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return int(done.stdout.rsplit("VmHWM", 1)[1]) / 1024


def measure(kind: type[Simulation], images: int, dim: int, turns: int) -> dict[str, list[float]]:
    """Return the peaks of all jobs, in MiB, on a simulated dataset."""
    with TemporaryDirectory() as name:
        simulation = kind(Path(name), images, dim)
        simulation.write()
        size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
        console.print(f"{images:,} images, {len(simulation.shards)} shards: {size / 1e9:.2f} GB")
        return {
            job: [peak_of(arguments) for _ in range(turns)]
            for job, arguments in simulation.jobs().items()
        }


def main(
    images: Annotated[
        list[int] | None, typer.Option(help="Sizes of the datasets, in rising order.")
    ] = None,
    whole: Annotated[
        list[int] | None, typer.Option(help="The same for the job that looks at patches.")
    ] = None,
    dim: Annotated[int, typer.Option(help="Features of a patch.")] = 384,
    turns: Annotated[int, typer.Option(min=1, help="Processes per job.")] = 3,
) -> None:
    """Compare the peak memory of the gather jobs for small and large datasets."""
    report = Report("memory", f"simulated datasets, {dim} features, default settings")
    for kind, sizes in (
        (Simulation, images or [1_000, 40_000, 100_000]),
        (Patches, whole or [500, 2_000]),
    ):
        peaks = {size: measure(kind, size, dim, turns) for size in sizes}
        for job in peaks[sizes[0]]:
            for size in sizes:
                report.add(f"{job}, {size:,} images", "MiB", peaks[size][job])
            *smaller, largest = sizes
            for size in smaller:
                growth = np.median(peaks[largest][job]) / np.median(peaks[size][job])
                report.add(f"{job}, {largest:,} / {size:,}", "ratio", float(growth), "<= 1.1")
    report.finish()


if __name__ == "__main__":
    typer.run(main)
