"""Listing a dataset: which images there are, where their labels are, and in which shard each is.

Only names are looked at, so that the workflow can list 100,000 images while it is being parsed.
Whether an image can be decoded is the business of `datasets.manifest`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from lightcluster.datasets.entries import Entry, digest_name, output_names, walk
from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.datasets.others import is_image, looked_for
from lightcluster.datasets.settings import DatasetSettings
from lightcluster.digests import combine
from lightcluster.errors import DatasetError

SHARD_SIZE = 256
"""Images in a shard at most on average, where that makes no more than `MOST_SHARDS`."""

MOST_SHARDS = 64
"""Shards of a dataset of any size with `shard_size: auto`: some 1,300 jobs."""


def list_dataset(
    dataset: DatasetSettings, generated: Path, others: list[str] | None = None
) -> list[Entry]:
    """List all images of a dataset in the order of their ids.

    Parameters
    ----------
    dataset : DatasetSettings
    generated : Path
        Where the images or label maps that a step makes for some formats are, or will be.
    others : list of str, optional
        Paths of files in a folder of one's own images that are none are added to it.

    Raises
    ------
    DatasetError
        If a folder or another part of the layout is missing, or no image is there.
    """
    found = [] if others is None else others
    return FORMATS[dataset.format].entries(dataset, generated, found)


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
            for name in walk(path):
                if is_image(name):
                    files.add(f"{path}/{name}")
                elif others is not None:
                    others.append(f"{path}/{name}")
        else:
            files.add(str(path))
    if not files:
        raise DatasetError(
            f"{', '.join(map(str, paths))}: holds no image; {looked_for(others or [])}"
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
    return int(digest_name(image_id)[:15], 16) % shards


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
