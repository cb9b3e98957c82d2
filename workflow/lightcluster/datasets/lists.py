"""The images of each shard, which planning lists once for all jobs of a run.

Planning lists the whole dataset and writes the images of each shard into a file of its own, so that
a job reads those of its shard alone. These files are a cache: where they are missing, damaged or of
other settings, the dataset is listed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightcluster.datasets.entries import Entry, Inside
from lightcluster.datasets.listing import count_shards, list_dataset, split_shards
from lightcluster.datasets.others import Others, count_others
from lightcluster.datasets.settings import LISTED, DatasetSettings
from lightcluster.digests import digest_of, write_cache

SUMMARY = "summary.json"
"""Name of the file beside those of the shards."""


@dataclass(frozen=True)
class Listing:
    """The images of a dataset by shard.

    Attributes
    ----------
    sizes : sequence of int
        Number of images of each shard.
    others : list of Others
        Files in the image folder that are not images.
    entries : callable
        Returns the images of a shard, given its number, in the order of their ids.
    stamps : dict of str to str
        Digests of the files of each shard, if they are known; see `layout.Layout.files_stamp`.
    """

    sizes: Sequence[int]
    others: list[Others]
    entries: Callable[[int], list[Entry]]
    stamps: dict[str, str] = field(default_factory=dict)


class _OutdatedError(Exception):
    """The lists are damaged, or not of this dataset and its settings."""


def list_shards(dataset: DatasetSettings, generated: Path, shards: int | None = None) -> Listing:
    """List a dataset and divide it into shards.

    Parameters
    ----------
    dataset : DatasetSettings
    generated : Path
        See `listing.list_dataset`.
    shards : int, optional
        Number of shards; None: as `dataset.shard_size` asks for.

    Raises
    ------
    DatasetError
        See `listing.list_dataset`.
    """
    others: list[str] = []
    entries = list_dataset(dataset, generated, others)
    split = split_shards(entries, shards or count_shards(len(entries), dataset.shard_size))
    return Listing([len(part) for part in split], count_others(others), split.__getitem__)


def write_lists(folder: Path, listing: Listing, dataset: DatasetSettings, generated: Path) -> None:
    """Write a listing into a folder, for `read_lists`, if it can be written to."""
    made = uuid4().hex  # files of different listings are not mixed up
    with suppress(OSError):
        (folder / SUMMARY).unlink(missing_ok=True)
        for number in range(len(listing.sizes)):
            rows = [_values_of(entry) for entry in listing.entries(number)]
            _write(folder / f"{number:04d}.json", [made, rows])
        summary = {
            "made": made,
            "key": _key(dataset, generated),
            "sizes": listing.sizes,
            "others": [asdict(one) for one in listing.others],
            "stamps": listing.stamps,
        }
        _write(folder / SUMMARY, summary)


def add_stamps(folder: Path, stamps: dict[str, str]) -> None:
    """Add the digests of the files of all shards to what `write_lists` wrote."""
    with suppress(OSError, ValueError):
        summary = json.loads((folder / SUMMARY).read_bytes())
        _write(folder / SUMMARY, {**summary, "stamps": stamps})


def read_lists(
    folder: Path | None, dataset: DatasetSettings, generated: Path, shards: int | None = None
) -> Listing:
    """Return the listing that `write_lists` wrote; list the dataset if that is not possible.

    Parameters
    ----------
    folder : Path or None
        None: there is no such listing.
    dataset, generated
        As they were given to `write_lists`.
    shards : int, optional
        See `list_shards`.

    Raises
    ------
    DatasetError
        See `listing.list_dataset`.
    """
    if folder is None:
        return list_shards(dataset, generated, shards)
    try:
        summary = json.loads((folder / SUMMARY).read_bytes())
        sizes = summary["sizes"]
        if summary["key"] != _key(dataset, generated):
            raise _OutdatedError
        if len(sizes) != (shards or count_shards(sum(sizes), dataset.shard_size)):
            raise _OutdatedError
        others = [Others(**one) for one in summary["others"]]
        made, stamps = summary["made"], summary["stamps"]
    except (OSError, ValueError, KeyError, TypeError, _OutdatedError):
        return list_shards(dataset, generated, shards)

    def entries(number: int) -> list[Entry]:
        try:
            found, rows = json.loads((folder / f"{number:04d}.json").read_bytes())
            if found != made:
                raise _OutdatedError
            return [_entry_of(*row) for row in rows]
        except (OSError, ValueError, TypeError, _OutdatedError):
            return list_shards(dataset, generated, len(sizes)).entries(number)

    return Listing(sizes, others, entries, stamps)


def _key(dataset: DatasetSettings, generated: Path) -> str:
    """Return a digest of the settings that listing depends on."""
    values = {name: str(getattr(dataset, name)) for name in LISTED}
    return digest_of(json.dumps([values, str(generated)]).encode())


def _values_of(entry: Entry) -> list[Any]:
    """Return the values of an entry as JSON has them; see `_entry_of`."""
    inside = entry.inside
    return [
        entry.image_id,
        str(entry.images),
        None if entry.labels is None else str(entry.labels),
        entry.output,
        entry.label_id,
        entry.taxonomy,
        entry.unlabelled,
        None if inside is None else [inside.container, inside.image, inside.label, inside.block],
        entry.unusable,
    ]


def _entry_of(
    image_id: str, images: str, labels: str | None, output: str, label_id: str, taxonomy: str,
    unlabelled: str, inside: list[str] | None, unusable: str,
) -> Entry:  # fmt: skip
    return Entry(
        image_id, Path(images), None if labels is None else Path(labels), output, label_id,
        taxonomy, unlabelled, None if inside is None else Inside(*inside), unusable,
    )  # fmt: skip


def _write(path: Path, content: object) -> None:
    write_cache(path, json.dumps(content, separators=(",", ":")).encode("ascii"))
