"""Listing a dataset: its images, the paths of their label maps, and their shards.

Only file names are read, so that the workflow can list 100,000 images while it is parsed.
`datasets.manifest` checks whether the images can be decoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from lightcluster.datasets.entries import Entry, digest_name, output_names, walk
from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.datasets.others import is_image, looked_for
from lightcluster.datasets.settings import LARGEST_SHARD, DatasetSettings
from lightcluster.digests import combine
from lightcluster.errors import DatasetError

SHARD_SIZE = 256
"""Largest average number of images per shard, unless this needs more than `MOST_SHARDS`."""

MOST_SHARDS = 64
"""Largest number of shards with `shard_size: auto`, unless they would have more images each than
`LARGEST_SHARD`; this makes some 1,300 jobs."""


def list_dataset(
    dataset: DatasetSettings, generated: Path, others: list[str] | None = None
) -> list[Entry]:
    """List all images of a dataset in the order of their ids.

    Parameters
    ----------
    dataset : DatasetSettings
    generated : Path
        Folder of the images or label maps that a step generates for some formats; may not exist
        yet.
    others : list of str, optional
        The paths of files in a user's image folder that are not images are added to this list.

    Returns
    -------
    list of Entry

    Raises
    ------
    DatasetError
        If a folder or another part of the layout is missing, or there are no images.
    """
    found = [] if others is None else others
    return FORMATS[dataset.format].entries(dataset, generated, found)


def list_paths(paths: Sequence[Path], others: list[str] | None = None) -> list[Entry]:
    """List images given as files and folders, including subfolders.

    Ids are paths relative to the folder, if a single one is given, otherwise to the deepest common
    folder of all files.

    Parameters
    ----------
    paths : sequence of Path
        At least one.
    others : list of str, optional
        The paths of files in the folders that are not images are added to this list.

    Returns
    -------
    list of Entry

    Raises
    ------
    DatasetError
        If a path does not exist, or there are no images.
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
            for name in walk(path):
                if is_image(name):
                    files.add(f"{path}/{name}")
                elif others is not None:
                    others.append(f"{path}/{name}")
        else:
            files.add(str(path))
    if not files:
        raise DatasetError(
            f"{', '.join(map(str, paths))}: no images found; {looked_for(others or [])}"
        )
    whole = {os.path.abspath(file) for file in files}
    one = len(paths) == 1 and paths[0].is_dir()
    root = os.path.abspath(paths[0]) if one else os.path.commonpath(map(os.path.dirname, whole))
    ids = sorted(os.path.relpath(file, root) for file in whole)
    return [
        Entry(image_id=image_id, images=Path(root), labels=None, output=output)
        for image_id, output in zip(ids, output_names(ids), strict=True)
    ]


def count_shards(images: int, shard_size: int | Literal["auto"]) -> int:
    """Return the number of shards: the smallest power of two with at most `shard_size` images each.

    It is a power of two so that adding images seldom moves others to another shard. With ``auto``
    it is at most `MOST_SHARDS`, because Snakemake takes about 4 ms to plan each job, as long as
    shards are not larger than `LARGEST_SHARD`, because jobs hold the masks of a shard in memory.

    Parameters
    ----------
    images : int
        Number of images of the dataset.
    shard_size : int or ``"auto"``
        Largest average number of images per shard.

    Returns
    -------
    int
    """
    if shard_size == "auto":
        few = min(count_shards(images, SHARD_SIZE), MOST_SHARDS)
        return max(few, count_shards(images, LARGEST_SHARD))
    shards = 1
    while shards * shard_size < images:
        shards *= 2
    return shards


def shard_of(image_id: str, shards: int) -> int:
    """Return the shard of an image, which depends on its id only, not on the other images."""
    return int(digest_name(image_id)[:15], 16) % shards


def split_shards(entries: list[Entry], shards: int) -> list[list[Entry]]:
    """Return the entries of each shard, in the order of `entries`.

    Tars, and row groups of parquet files, are distributed whole, one after the other. If there are
    fewer of them than shards, each is divided among several shards, by the ids of its images.

    Parameters
    ----------
    entries : list of Entry
    shards : int
        A power of two.
    """
    parts = dict.fromkeys(entry.inside.whole for entry in entries if entry.inside)
    groups = min(shards, 1 << max(0, len(parts).bit_length() - 1))
    group = {part: number % groups for number, part in enumerate(parts)}
    split: list[list[Entry]] = [[] for _ in range(shards)]
    for entry in entries:
        first = group[entry.inside.whole] if entry.inside else 0
        split[first + groups * shard_of(entry.image_id, shards // groups)].append(entry)
    return split


def fingerprint(entries: Sequence[Entry], contents: Iterable[str] = ()) -> str:
    """Return a digest of the names of images and labels, and of their contents.

    Parameters
    ----------
    entries : sequence of Entry
    contents : iterable of str
        Digests of their files, see `digests.Digests.of`.

    Returns
    -------
    str
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
