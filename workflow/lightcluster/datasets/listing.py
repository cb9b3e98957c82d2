"""Listing a dataset: which images there are, where their labels are, and in which shard each is.

Only names are looked at, so that the workflow can list 100,000 images while it is being parsed.
Whether an image can be decoded is the business of `datasets.manifest`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import splitext
from typing import Literal
from unicodedata import normalize

from lightcluster.config import DatasetSettings
from lightcluster.datasets.benchmarks import BENCHMARKS, Benchmark
from lightcluster.datasets.others import IMAGE_SUFFIXES, count_others, describe_others, is_image
from lightcluster.datasets.taxonomy import TAXONOMIES, LabelFile
from lightcluster.digests import combine
from lightcluster.errors import DatasetError
from lightcluster.paths import LONGEST, cut, fits, require_file

SHARD_SIZE = 256
"""Images in a shard at most on average, where that makes no more than `MOST_SHARDS`."""

MOST_SHARDS = 64
"""Shards of a dataset of any size with `shard_size: auto`: some 1,300 jobs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image file of a dataset.

    Attributes
    ----------
    image_id : str
        Path below the image folder, with ``/``; unique.
    images : Path
        The folder of the images.
    labels : Path or None
        The folder of the label maps, if there is one for this image.
    output : str
        Path of its PNGs below an output folder; unique, ends in ``.png``.
    label_id : str
        Path of its label map below that folder.
    taxonomy : str
        How the label map is to be read, see `taxonomy.LabelFile`.
    unlabelled : str
        Why it has no label map where one is to be expected; empty: none is.
    """

    image_id: str
    images: Path
    labels: Path | None
    output: str
    label_id: str = ""
    taxonomy: str = ""
    unlabelled: str = ""

    @property
    def path(self) -> Path:
        """Where the image is."""
        return self.images / self.image_id

    @property
    def label(self) -> LabelFile | None:
        """Its label map, if there is one."""
        if self.labels is None:
            return None
        return LabelFile(self.labels / self.label_id, self.taxonomy)

    @property
    def places(self) -> tuple[str, str]:
        """Where the image and its label map are, as text; without a label map, it is empty."""
        image = f"{self.images}/{self.image_id}"
        return image, "" if self.labels is None else f"{self.labels}/{self.label_id}"


def list_dataset(
    dataset: DatasetSettings, generated: Path, others: list[str] | None = None
) -> list[Entry]:
    """List all images of a dataset in the order of their ids.

    Parameters
    ----------
    dataset : DatasetSettings
    generated : Path
        Where the scenes of ``format: demo``, or the label maps of ``format: coco_things``, are, or
        will be, written.
    others : list of str, optional
        Paths of files in the folder of ``format: folder`` that are no images are added to it.

    Raises
    ------
    DatasetError
        If a folder or another part of the layout is missing, or no image is there.
    """
    if dataset.format == "demo":
        return _list_demo(generated, dataset.demo.scenes)
    if dataset.format in BENCHMARKS:
        return _list_benchmark(dataset, generated)
    assert dataset.images is not None  # parse_config demands it
    found = [] if others is None else others
    return _list_folder(dataset.images, dataset.labels, dataset.label_pattern, found)


def list_paths(paths: Sequence[Path], others: list[str] | None = None) -> list[Entry]:
    """List images anywhere: files, and all images below folders.

    Ids are paths below the one folder, or else below the deepest folder that holds all of them.

    Parameters
    ----------
    paths : sequence of Path
        At least one.
    others : list of str, optional
        Paths of files in folders that are no images are added to it.

    Raises
    ------
    DatasetError
        If there is nothing at one of them, or no image at any.
    """
    files: set[str] = set()
    for path in paths:
        try:
            path.stat()
        except FileNotFoundError:
            raise DatasetError(f"{str(path)!r}: there is no such file or folder") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DatasetError(f"{str(path)!r}: cannot be read ({reason})") from None
        if path.is_dir():
            for name in _walk(path):
                if is_image(name):
                    files.add(f"{path}/{name}")
                elif others is not None:
                    others.append(f"{path}/{name}")
        else:
            files.add(str(path))
    if not files:
        raise DatasetError(
            f"{', '.join(map(str, paths))}: holds no image; {_looked_for(others or [])}"
        )
    whole = {os.path.abspath(file) for file in files}
    one = len(paths) == 1 and paths[0].is_dir()
    root = os.path.abspath(paths[0]) if one else os.path.commonpath(map(os.path.dirname, whole))
    ids = sorted(os.path.relpath(file, root) for file in whole)
    return [
        Entry(image_id=image_id, images=Path(root), labels=None, output=output)
        for image_id, output in zip(ids, output_names(ids), strict=True)
    ]


def _looked_for(others: list[str]) -> str:
    """Say which suffixes images have, and what is there instead of them."""
    common = (".bmp", ".gif", ".jpg", ".png", ".tif", ".webp")
    looked = f"looked for {', '.join(common)} and {len(IMAGE_SUFFIXES) - len(common)} more suffixes"
    return "; ".join([looked, *describe_others(count_others(others))])


def demo_names(count: int) -> list[str]:
    """Return the names, without suffix, of the first `count` scenes of the demo."""
    return [f"scene-{index:04d}" for index in range(count)]


def _list_demo(folder: Path, count: int) -> list[Entry]:
    return [
        Entry(
            image_id=f"{name}.jpg",
            images=folder / "images",
            labels=folder / "labels",
            output=f"{name}.png",
            label_id=f"{name}.png",
        )
        for name in demo_names(count)
    ]


def _list_folder(images: Path, labels: Path | None, pattern: str, others: list[str]) -> list[Entry]:
    for key, folder in (("images", images), ("labels", labels)):
        if folder is not None and not folder.is_dir():
            raise DatasetError(f"dataset.{key} = {str(folder)!r}: there is no such folder")
    if labels is not None and labels.resolve().is_relative_to(images.resolve()):
        raise DatasetError(
            f"dataset.labels = {str(labels)!r}: lies in the folder of the images, so that label "
            "maps would be taken for images; give each a folder of its own"
        )
    found = list(_walk(images))
    ids = sorted(filter(is_image, found))
    others.extend(name for name in found if not is_image(name))
    if not ids:
        raise DatasetError(
            f"dataset.images = {str(images)!r}: holds no image, nor do its subfolders; "
            f"{_looked_for(others)}"
        )
    there = set(_walk(labels)) if labels is not None else set()
    label_ids = [label_name(image_id, pattern) for image_id in ids]
    reasons = [""] * len(ids) if labels is None else why_unlabelled(ids, label_ids, there)
    return [
        Entry(
            image_id=image_id,
            images=images,
            labels=labels if label_id in there else None,
            output=output,
            label_id=label_id,
            unlabelled=reason,
        )
        for image_id, label_id, reason, output in zip(
            ids, label_ids, reasons, output_names(ids), strict=True
        )
    ]


def label_name(image_id: str, pattern: str) -> str:
    """Return the path of the label map of an image below the folder of the labels.

    Parameters
    ----------
    image_id : str
    pattern : str
        See `config.DatasetSettings.label_pattern`.
    """
    folder, _, name = image_id.rpartition("/")
    label = pattern.replace("{name}", "\0").replace("{stem}", splitext(name)[0])
    return f"{folder}/{label}".lstrip("/").replace("\0", name)


def why_unlabelled(
    image_ids: Sequence[str], label_ids: Sequence[str], there: Iterable[str]
) -> list[str]:
    """Return for each image why it has no label map; empty where it has one, or none resembles it.

    Parameters
    ----------
    image_ids, label_ids : sequence of str
        Paths of the images, and of the label maps that were looked for.
    there : collection of str
        Paths of what is in the folder of the labels.
    """
    files = set(there)
    absent = [label_id not in files for label_id in label_ids]
    if not any(absent):
        return [""] * len(image_ids)
    spare = sorted(files.difference(label_ids))
    resembling: dict[str, str] = {}
    for path in spare:
        for part in _parts(path.rpartition("/")[2]):
            resembling.setdefault(part, path)
    reasons = []
    for image_id, label_id, lacks in zip(image_ids, label_ids, absent, strict=True):
        stem = _folded(splitext(image_id.rpartition("/")[2])[0])
        beside = repr(resembling[stem]) if lacks and stem in resembling else ""
        if beside and normalize("NFC", resembling[stem]) == normalize("NFC", label_id):
            beside += ", whose accents are encoded in another way"
        if lacks and not beside and all(absent):
            beside = ", ".join(map(repr, spare[:SHOWN])) + ", …" * (len(spare) > SHOWN)
            beside = beside or "no file at all"
        reasons.append(
            f"there is no label map {label_id!r}; there is {beside} (see dataset.label_pattern)"
            if beside
            else ""
        )
    return reasons


def _parts(name: str) -> Iterator[str]:
    """Yield what a label map's name holds up to, or from, a place where a word may end."""
    text = _folded(name)
    for place, letter in enumerate(text):
        if letter in "._- ":
            yield from (text[:place], text[place + 1 :], splitext(text[place + 1 :])[0])


SHOWN = 3
"""Missing files that a message names."""


def _list_benchmark(dataset: DatasetSettings, generated: Path) -> list[Entry]:
    """List a dataset of the field.

    An image of a list that is missing is an entry all the same, and rejected when it is read.
    """
    assert dataset.root is not None  # parse_config demands both
    assert dataset.split is not None
    root, benchmark = dataset.root, BENCHMARKS[dataset.format]
    images = root / benchmark.images.format(split=dataset.split)
    labels = root / benchmark.labels.format(split=dataset.split)
    _check_layout(dataset, benchmark, images, labels)
    there = set(_walk(images))
    ids = sorted(_benchmark_ids(dataset, benchmark, there), key=benchmark.image_of)
    image_ids = [benchmark.image_of(name) for name in ids]
    label_ids = [benchmark.label_of(name) for name in ids]
    if missing := _none_found(image_ids, there):
        raise _layout_error(dataset, [f"{images}: holds no image of the split; {missing}"])
    if benchmark.annotations is not None:
        labels, labels_there = generated, set(label_ids)
    else:
        labels_there = set(_walk(labels))
        if missing := _none_found(label_ids, labels_there):
            raise _layout_error(dataset, [f"{labels}: holds no label map of the split; {missing}"])
    taxonomy = dataset.format if TAXONOMIES[dataset.format].values is not None else ""
    return [
        Entry(
            image_id=image_id,
            images=images,
            labels=labels if label_id in labels_there else None,
            output=output,
            label_id=label_id,
            taxonomy=taxonomy,
            unlabelled="" if label_id in labels_there else f"there is no {labels / label_id}",
        )
        for image_id, label_id, output in zip(
            image_ids, label_ids, output_names(image_ids), strict=True
        )
    ]


def annotations_file(dataset: DatasetSettings) -> Path:
    """Return where the instance annotations are that the label maps of a dataset are painted from.

    Only for formats whose `Benchmark` has them.
    """
    pattern = BENCHMARKS[dataset.format].annotations
    assert dataset.root is not None  # parse_config demands it
    assert pattern is not None
    return dataset.root / pattern.format(split=dataset.split)


def _check_layout(
    dataset: DatasetSettings, benchmark: Benchmark, images: Path, labels: Path
) -> None:
    """Raise a DatasetError that names all folders and files of a layout that are missing."""
    assert dataset.root is not None
    if not dataset.root.is_dir():
        raise DatasetError(
            f"dataset.root = {str(dataset.root)!r}: there is no such folder; `lightcluster check` "
            "says how to get the dataset"
        )
    folders = [images] if benchmark.annotations is not None else [images, labels]
    problems = [
        f"{folder}: there is no such folder{_beside(folder)}"
        for folder in folders
        if not folder.is_dir()
    ]
    parts = [] if dataset.image_list is not None else [benchmark.ids]
    for part in (*parts, benchmark.annotations):
        if part is not None:
            path = dataset.root / part.format(split=dataset.split)
            if not path.is_file():
                problems.append(f"{path}: there is no such file{_beside(path)}")
    if problems:
        raise _layout_error(dataset, problems)


def _beside(path: Path) -> str:
    """Return what is in the place of a missing file or folder, if there is anything."""
    if not path.parent.is_dir():
        return ""
    there = sorted(item.name for item in path.parent.iterdir() if item.suffix == path.suffix)
    shown = ", ".join(there[:8]) + (", …" if len(there) > 8 else "")
    return f"; there are: {shown}" if there else f"; {path.parent} holds none"


def _layout_error(dataset: DatasetSettings, problems: list[str]) -> DatasetError:
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return DatasetError(
        f"dataset.root = {str(dataset.root)!r}: is not laid out as `format: {dataset.format}` with "
        f"`split: {dataset.split}` is:\n{lines}\n`lightcluster check` says how to get the dataset"
    )


def _benchmark_ids(
    dataset: DatasetSettings, benchmark: Benchmark, there: Iterable[str]
) -> Iterable[str]:
    """Return the ids of the images of a split, each once, in any order."""
    if dataset.image_list is not None:
        return read_ids(dataset.image_list, "dataset.image_list")
    if benchmark.ids is not None:
        assert dataset.root is not None
        return read_ids(dataset.root / benchmark.ids.format(split=dataset.split), "dataset.split")
    ids = {
        name: name.rpartition("/")[2].removesuffix(benchmark.suffix)
        for name in there
        if name.endswith(benchmark.suffix)
    }
    return [found for name, found in ids.items() if benchmark.image_of(found) == name]


def _none_found(wanted: list[str], there: Container[str]) -> str:
    """Return what was looked for, if none of it is there."""
    if any(name in there for name in wanted):
        return ""
    if not wanted:
        return "there is none at all"
    return f"looked for {', '.join(wanted[:SHOWN])}{', …' * (len(wanted) > SHOWN)}"


def read_ids(path: Path, key: str) -> list[str]:
    """Read a text file of image ids, one a line; ids that stand twice are taken once.

    Parameters
    ----------
    path : Path
    key : str
        The key of the configuration that leads to it, for messages.

    Raises
    ------
    DatasetError
        If it cannot be read, holds no id, or a line is none: ids have no folder and no spaces.
    """
    try:
        lines = require_file(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{key}: {str(path)!r} cannot be read ({error})") from None
    ids: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        if not _ID.fullmatch(name):
            raise DatasetError(
                f"{key}: {path}, line {number}: {name[:80]!r} is no image id; allowed: one a line, "
                "without folder and suffix, such as 2007_000033"
            )
        ids[name] = None
    if not ids:
        raise DatasetError(f"{key}: {str(path)!r} holds no image id")
    return list(ids)


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _label_id(image_id: str) -> str:
    """Path of the label map of an image below the folder of the labels."""
    return f"{splitext(image_id)[0]}.png"


def _walk(folder: Path) -> Iterator[str]:
    """Yield the path below `folder` of all files.

    Hidden files and folders are skipped, links followed, but not to a folder that they are in.
    Links to nothing, pipes and the like are yielded, too, so that they are named as bad images
    rather than overlooked.
    """
    pending = [("", _and_above(os.path.realpath(folder)))]
    while pending:
        below, above = pending.pop()
        try:
            with os.scandir(folder / below) as found:
                items = [item for item in found if not item.name.startswith(".")]
        except OSError as error:
            raise DatasetError(f"{str(folder / below)!r}: cannot be listed ({error})") from None
        for item in items:
            try:
                is_folder = item.is_dir()
            except OSError:  # a link to itself
                is_folder = False
            if is_folder:
                real = os.path.realpath(item.path)
                if real not in above:
                    pending.append((f"{below}{item.name}/", above | _and_above(real)))
            else:
                yield below + item.name


def _and_above(real: str) -> frozenset[str]:
    """Return a folder and all that it is in."""
    return frozenset({real, *map(str, Path(real).parents)})


def output_names(image_ids: list[str]) -> list[str]:
    """Return a unique ``.png`` path for each image: its own with the suffix replaced.

    Images of one folder that differ in the suffix alone keep it (``a.jpg.png``, ``a.tif.png``), and
    get a digest where that does not help. Upper and lower case are not told apart, nor are ways to
    encode an accent, as on some file systems. No name is that of a folder, and none is longer than
    255 bytes: a longer one is cut, and gets a digest too.
    """
    holding = {image_id.rpartition("/")[0] for image_id in image_ids} - {""}
    folders = {
        _folded(str(folder))
        for deepest in holding
        for folder in (PurePosixPath(deepest), *PurePosixPath(deepest).parents)
    }
    names = [f"{splitext(image_id)[0]}.png" for image_id in image_ids]
    others: tuple[Callable[[str, str], str], ...] = (
        lambda name, image_id: f"{image_id}.png",
        lambda name, image_id: _with_digest(name, _digest(image_id)[:8]),
        lambda name, image_id: _with_digest(name, _digest(image_id)),
    )
    for other in others:
        keys = [_folded(name) for name in names]
        taken = Counter([*keys, *folders])
        names = [
            name if taken[key] == 1 and fits(name) else other(name, image_id)
            for name, key, image_id in zip(names, keys, image_ids, strict=True)
        ]
    return names


def _with_digest(name: str, digest: str) -> str:
    folder, slash, last = name.rpartition("/")
    ending = f".{digest}.png"
    return f"{folder}{slash}{cut(last.removesuffix('.png'), LONGEST - len(ending))}{ending}"


def _folded(name: str) -> str:
    """Return what names that some file systems take for the same have in common."""
    if name.isascii():
        return name.lower()
    return normalize("NFD", normalize("NFD", name).casefold())


def count_shards(images: int, shard_size: int | Literal["auto"]) -> int:
    """Return the smallest power of two of shards that hold at most `shard_size` images on average.

    A power of two, so that adding images to a dataset seldom moves others to another shard. With
    ``auto`` there are at most `MOST_SHARDS`: Snakemake takes some 2 ms to plan each job.
    """
    if shard_size == "auto":
        return min(count_shards(images, SHARD_SIZE), MOST_SHARDS)
    shards = 1
    while shards * shard_size < images:
        shards *= 2
    return shards


def shard_of(image_id: str, shards: int) -> int:
    """Return the shard of an image: it depends on its id alone, not on the other images."""
    return int(_digest(image_id)[:15], 16) % shards


def split_shards(entries: list[Entry], shards: int) -> list[list[Entry]]:
    """Return the entries of each shard, in the order of `entries`."""
    split: list[list[Entry]] = [[] for _ in range(shards)]
    for entry in entries:
        split[shard_of(entry.image_id, shards)].append(entry)
    return split


def fingerprint(entries: Sequence[Entry], contents: Iterable[str] = ()) -> str:
    """Return a digest of the names of images and labels, and of what they hold.

    Parameters
    ----------
    entries : sequence of Entry
    contents : iterable of str
        Digests of their files, see `digests.Digests.of`.
    """
    names = (
        name
        for entry in entries
        for name in (
            entry.image_id,
            entry.output,
            entry.unlabelled if entry.labels is None else entry.label_id,
        )
    )
    return combine([*names, str(len(entries)), *contents])


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
