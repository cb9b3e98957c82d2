"""Reading features by the store and by libraries for Zarr.

Compares the CPU time of `FeatureStore` with that of reading the same rows by zarr-python, by
zarr-python with obstore, and by zarr-python with the codecs of zarrs, if these are installed.
*Crops*: whole chunks in random order, as in the training of CAUSE, which the store reads directly
from its files. *Images*: one after the other, with chunks that do not match images. *Shard*: all
at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
import zarr
from harness import Report, ratios, take_turns, use_one_thread

from lightcluster.extraction.store import FeatureStore, FeatureStoreWriter, ImageFeatures

SIDE, DIM = 20, 384
"""Patches of a side of a crop, and their features: ViT-S at CAUSE's size of 320."""


def write(path: Path, images: int, chunk_rows: int | None) -> FeatureStore:
    """Write a store of random tokens, and open it."""
    random, patches = np.random.default_rng(0), SIDE**2
    grids = np.full((images, 2), SIDE)
    names = [str(image) for image in range(images)]
    writer = FeatureStoreWriter(path, grids, grids * 16, names, ("token",), DIM, {}, chunk_rows)
    with writer:
        for name in names:
            tokens = random.standard_normal((patches, DIM)).astype(np.float16)
            writer.append(name, ImageFeatures(
                np.zeros(DIM, np.float32), np.zeros(patches, np.float16),
                np.zeros((patches, 4, 3), np.uint8), {"token": tokens},
            ))  # fmt: skip
    return FeatureStore.open(path)


@contextmanager
def pipeline(path: str) -> Iterator[None]:
    """Let zarr-python open arrays with a pipeline of codecs."""
    with zarr.config.set({"codec_pipeline.path": path}):
        yield


def arrays(path: Path) -> dict[str, Any]:
    """Open the tokens of a store by each library that is installed."""
    found = {"zarr-python": zarr.open_group(path, mode="r")["token"]}
    if find_spec("obstore"):
        from obstore.store import LocalStore
        from zarr.storage import ObjectStore

        store = ObjectStore(LocalStore(prefix=path), read_only=True)
        found["zarr-python with obstore"] = zarr.open_group(store, mode="r")["token"]
    if find_spec("zarrs"):
        import zarrs  # noqa: F401  (registers its pipeline)

        with pipeline("zarrs.ZarrsCodecPipeline"):
            found["zarr-python with zarrs"] = zarr.open_group(path, mode="r")["token"]
    return found


def readers(store: FeatureStore, order: np.ndarray) -> dict[str, Callable[[], None]]:
    """Return what reads images of a store in an order: the store itself, then each library."""
    bounds = [(int(store.offset[i]), int(store.offset[i + 1])) for i in order]

    def read(array: Any) -> None:
        for start, stop in bounds:
            array[start:stop]

    def own() -> None:
        for start, stop in bounds:
            store.rows("token", start, stop)

    by_library = {
        name: lambda array=array: read(array) for name, array in arrays(store.path).items()
    }
    return {"store": own, **by_library}


def main(
    images: Annotated[int, typer.Option(min=8, help="Of a shard.")] = 128,
    turns: Annotated[int, typer.Option(min=1, help="Readings of each.")] = 7,
) -> None:
    """Compare the store's reading with that of libraries."""
    use_one_thread()
    report = Report("chunks", f"{images} crops of {SIDE} x {SIDE} patches x {DIM}, one thread")
    everywhere = np.random.default_rng(1).permutation(images)
    with TemporaryDirectory() as folder:
        crops = write(Path(folder, "crops"), images, SIDE**2)
        mixed = write(Path(folder, "mixed"), images, None)
        subjects = {
            "crops": readers(crops, everywhere),
            "images": readers(mixed, np.arange(images)),
            "shard": {
                "store": lambda: mixed.rows("token", 0, mixed.n_rows),
                **{name: lambda array=array: array[:] for name, array in
                   arrays(mixed.path).items()},
            },
        }  # fmt: skip
        for subject, contestants in subjects.items():
            timings = take_turns(contestants, turns)
            cpu = {name: [one.cpu for one in series] for name, series in timings.items()}
            count = 1 if subject == "shard" else images
            report.add(f"{subject}: store", "ms", [1000 * one / count for one in cpu["store"]])
            for name in list(contestants)[1:]:
                report.add(f"{subject}: {name} / store", "ratio", ratios(cpu[name], cpu["store"]))
    report.finish()


if __name__ == "__main__":
    typer.run(main)
