"""Segmentation of new images with a model: the steps of the workflow, without those that fit.

Images are divided into shards as in the workflow. So the images that a run was fitted on get
exactly the same segmentations again, byte for byte (on the same kind of device).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lightcluster import __version__
from lightcluster.aside import set_aside
from lightcluster.clustering.kmeans import set_threads
from lightcluster.commission import LOCK
from lightcluster.datasets.entries import Entry
from lightcluster.datasets.listing import count_shards, list_paths, split_shards
from lightcluster.datasets.manifest import (
    Rejection,
    Row,
    count_rejected,
    first_rejected,
    gather_csv,
    gather_manifest,
    gather_rejected,
    index_entries,
    passed_over,
    read_manifest,
    write_rows,
)
from lightcluster.datasets.others import count_others
from lightcluster.datasets.remarks import remarks
from lightcluster.errors import DatasetError
from lightcluster.extraction.opening import check_weights
from lightcluster.files import explaining, replacing
from lightcluster.locks import Lock
from lightcluster.methods.sections import HOW
from lightcluster.model.adoption import assign_to_model
from lightcluster.model.folder import WEIGHTS, Model, labelling_of, open_model, palette_of
from lightcluster.places import no_folder
from lightcluster.regions.palette import read_palette
from lightcluster.reporting.report import report
from lightcluster.reporting.strips import MaskFolders
from lightcluster.shards import Shards
from lightcluster.step.clustering import cluster_image
from lightcluster.step.features import extract_features
from lightcluster.step.masks import merge_levels, paint_masks, refine_masks, score_patches
from lightcluster.step.regions import embed_regions, find_regions, paint_segmentation

log = logging.getLogger(__name__)

RECORD = "segment.json"
WORK = ".lightcluster-"
"""Beginning of the name of the folder of intermediate files."""


def segment(
    paths: Sequence[str | os.PathLike[str]],
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int = 1,
    batch_size: int = 8,
) -> Path:
    """Segment images with a model, without fitting anything.

    Writes below `output`: ``segmentation/``, with an indexed PNG for each image, ``classes.csv``,
    and ``regions.csv`` with the class and confidence of each region; ``masks/``, binary PNGs;
    ``manifest.csv``, the images with their sizes; ``rejected.csv``, the images that cannot be used,
    with the reasons; ``report/index.html``; and ``segment.json``, which names the model. Results of
    an earlier call are replaced, and those of other images are moved to ``aside/``.

    Parameters
    ----------
    paths : sequence of path
        Images, and folders that are searched for images.
    model : path
        The folder ``model`` of a run.
    output : path
        A folder that is new, empty, or was written by an earlier call.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    threads : int
        Number of threads for the backbone.
    batch_size : int

    Returns
    -------
    Path
        The folder of the segmentations.

    Raises
    ------
    ModelError
        If `model` cannot be used.
    DatasetError
        If a path does not exist, no image can be used, `output` contains other files or is inside
        a folder that is searched for images, or another call is writing there.
    """
    folder, output = Path(model), Path(output)
    fitted = open_model(folder)
    check_weights(fitted.config.backbone.model, folder / WEIGHTS)
    given = [Path(path) for path in paths]
    _check_output(output, given)
    others: list[str] = []
    entries = list_paths(given, others)
    log.info("%d images, model of run %s of %s", len(entries), fitted.run, fitted.dataset)
    set_threads(1)
    lock = Lock(output / LOCK)
    with explaining(output):
        if not lock.take():
            raise DatasetError(
                f"{output}: {lock.holder() or 'another call'} is segmenting into it; let it finish "
                f"or choose another folder{lock.remedy()}"
            )
        try:
            _segment_entries(
                entries, others, fitted, folder, output,
                device=device, threads=threads, batch_size=batch_size,
            )  # fmt: skip
        finally:
            lock.release(remove=True)
    return output / "segmentation"


def _segment_entries(
    entries: list[Entry], others: list[str], fitted: Model, folder: Path, output: Path, *,
    device: str, threads: int, batch_size: int,
) -> None:  # fmt: skip
    """Segment images into a locked folder."""
    shards = Shards(count_shards(len(entries), "auto"))
    for stale in output.glob(f"{WORK}*"):  # left by a call that was killed
        shutil.rmtree(stale)
    _record(folder, fitted, output)
    with TemporaryDirectory(prefix=WORK, dir=output) as name:
        work = Path(name)
        for shard, members in zip(shards, split_shards(entries, len(shards)), strict=True):
            rows, rejections = index_entries(
                members, None, ignore=255, max_pixels=fitted.config.dataset.max_pixels,
                depth=fitted.config.dataset.depth,
            )  # fmt: skip
            write_rows(work / f"manifest/{shard}.csv", rows, Row)
            write_rows(work / f"manifest/{shard}.rejected.csv", rejections, Rejection)
        rejected, manifests = output / "rejected.csv", work / "manifest"
        parts = shards.paths(manifests, ".rejected.csv")
        gather_rejected(parts, rejected, count_others(others))
        try:
            gather_manifest(shards.paths(manifests, ".csv"), work / "manifest.csv")
        except DatasetError:
            first = first_rejected(rejected, 1)[0]
            raise DatasetError(f"no image can be used: {first}; see {rejected}") from None
        for shard in shards:
            _segment_shard(
                folder, fitted, work, shard,
                device=device, threads=threads, batch_size=batch_size,
            )  # fmt: skip
        palette = folder / palette_of(fitted.seeds[0])
        _draw_report(fitted, shards, work, palette, output)
        _hand_over(palette, work, output)


def _segment_shard(
    folder: Path, model: Model, work: Path, shard: str, *, device: str, threads: int,
    batch_size: int,
) -> None:  # fmt: skip
    """Run the steps for one shard of images, as the jobs of the workflow do."""
    manifest, store = work / "manifest" / f"{shard}.csv", work / f"{shard}.zarr"
    places = ("superclasses", "image", "merged", "scores", "pixel", "maps", "regions")
    for place in places:
        (work / place).mkdir(exist_ok=True)
    superclasses, image_level, merged, scores, pixel, maps, regions = (
        work / place / f"{shard}.npz" for place in places
    )
    weights, settings = folder / WEIGHTS, model.settings
    extract_features(
        settings, manifest, weights, store,
        device=device, batch_size=batch_size, threads=threads,
    )  # fmt: skip
    cluster_image(settings, store, image_level)
    assign_to_model(folder, [store], superclasses)
    merge_levels(
        settings, 0, store, image_level, superclasses, folder / "dataset.npz",
        folder / "category.npz", folder / "foreground.npz", merged,
    )  # fmt: skip
    score_patches(settings, store, merged, folder / "trees.npz", scores)
    refine_masks(settings, manifest, scores, pixel)
    find_regions(settings, store, pixel, folder / "dataset.npz", maps)
    shutil.rmtree(store)
    embed_regions(
        settings, manifest, maps, weights, regions,
        device=device, batch_size=batch_size, threads=threads,
    )  # fmt: skip
    paint_segmentation(
        manifest, maps, regions, folder / labelling_of(model.seeds[0]),
        work / "segmentation" / shard, work / "labelled" / f"{shard}.csv",
    )  # fmt: skip
    paint_masks(manifest, pixel, work / "masks" / shard)


def describe(output: Path) -> Iterator[str]:
    """Yield the lines that say what `segment` wrote, and where."""
    rows = read_manifest(output / "manifest.csv")
    yield f"{len(rows)} image{'s are' if len(rows) != 1 else ' is'} segmented."
    if rejected := count_rejected(output / "rejected.csv"):
        yield f"  {rejected} could not be used: {output / 'rejected.csv'}"
        yield from (f"    {line}" for line in first_rejected(output / "rejected.csv"))
    yield from (f"  {line}" for line in passed_over(output / "rejected.csv"))
    yield from (f"  {remark.text}" for remark in remarks(rows))
    yield f"  segmentations  {output / 'segmentation'}/"
    yield f"  binary masks   {output / 'masks'}/"
    yield f"  report         {output / 'report' / 'index.html'}"


def _check_output(output: Path, paths: Sequence[Path]) -> None:
    """Raise DatasetError if other files could be lost, or results could be read as images."""
    try:
        reason = no_folder(output)
        there = [path for path in output.iterdir() if path.name != LOCK] if output.is_dir() else []
    except OSError as error:  # such as a name that is too long
        raise DatasetError(f"{output}: cannot be a folder ({error.strerror})") from None
    if reason:
        raise DatasetError(reason)
    for path in paths:
        if os.path.isdir(path) and output.resolve().is_relative_to(path.resolve()):
            raise DatasetError(
                f"{output}: lies in {path}, which is searched for images; choose a folder outside"
            )
    if there and not (output / RECORD).is_file():
        raise DatasetError(f"{output}: is not empty, and not the output of an earlier `segment`")


def _record(folder: Path, model: Model, output: Path) -> None:
    """Write which model segmented these images."""
    record = {
        "made_by": __version__,
        "model": str(folder.resolve()),
        "fitted_on": f"{model.images}, run {model.run}, labelling seed {model.seeds[0]}",
        "labelling_sha256": model.files[labelling_of(model.seeds[0])],
    }
    with replacing(output / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def _draw_report(model: Model, shards: Shards, work: Path, palette: Path, output: Path) -> None:
    """Write the report of the workflow."""
    settings = model.config.report
    called = {number: value.name for number, value in enumerate(read_palette(palette))}
    report(
        work / "manifest.csv", MaskFolders(work / "merged", work / "scores", work / "pixel"),
        work / "segmentation", work / "report",
        dataset=output.name, run=f"{model.run} of {model.dataset}",
        every_shard=shards, rejected=work / "manifest", palette=palette, regions=work / "labelled",
        tables=None, per_image=None, classes_file=None, ignore=255,
        samples=settings.samples, seed=settings.seed, failures=settings.failures,
        max_pixels=model.config.dataset.max_pixels,
        called={n: name for n, name in called.items() if name != f"cluster {n}"},
        config=model.config.model_dump(mode="json", include=set(HOW)),
    )  # fmt: skip


def _keep_others(work: Path, output: Path) -> None:
    """Move results of an earlier call for other images aside."""
    ours = {Path(row.output) for row in read_manifest(work / "manifest.csv")}
    others = [
        path
        for kind in ("segmentation", "masks")
        for path in sorted((output / kind).rglob("*.png"))
        if path.relative_to(output / kind) not in ours
    ]
    if others:
        place = set_aside(others, output)
        images = len({path.relative_to(output).parts[1:] for path in others})
        log.warning("%d images of an earlier call are not among these: moved to %s", images, place)


def _hand_over(palette: Path, work: Path, output: Path) -> None:
    """Move the results to their final places, without folders of shards."""
    _keep_others(work, output)
    for kind in ("segmentation", "masks"):
        with replacing(output / kind) as gathered:
            gathered.mkdir()
            for shard in (work / kind).iterdir():
                shutil.copytree(shard, gathered, dirs_exist_ok=True, copy_function=shutil.move)
            if kind == "segmentation":
                shutil.copyfile(palette, gathered / "classes.csv")
                gather_csv(sorted((work / "labelled").iterdir()), gathered / "regions.csv")
    for name in ("report", "manifest.csv"):
        with replacing(output / name) as whole:
            os.replace(work / name, whole)
