"""The images of each shard, which planning lists once for all jobs of a run.

Planning lists the whole dataset and writes the images of each shard into a file of its own, so that
a job reads those of its shard alone. Another one names the files that hold them, for which planning
looks whether they have changed. These files are a cache: where they are missing, damaged or of
other settings, the dataset is listed again. Planning also lists it again if anything has changed
that listing depends on (`formats.protocol.Format.listing_stamp`); otherwise it uses them, without
the images of any shard in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightcluster.datasets.entries import Entry, Inside
from lightcluster.datasets.formats.protocol import Format
from lightcluster.datasets.formats.registry import FORMATS
from lightcluster.datasets.listing import count_shards, list_dataset, split_shards
from lightcluster.datasets.others import IMAGE_SUFFIXES, Others, count_others
from lightcluster.datasets.settings import LISTED, DatasetSettings
from lightcluster.digests import combine, combine_states, digest_of, write_cache

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
    sources : callable
        Returns the files that hold the images and labels of a shard, given its number, without
        those that the workflow writes itself.
    stamps : dict of str to str
        Digests of the files of each shard, if they are known; see `layout.Layout.files_stamp`.
    seen : dict of str to (str, str)
        Such digests when a run was last planned, after `digests.combine_states` of these files.
    """

    sizes: Sequence[int]
    others: list[Others]
    entries: Callable[[int], list[Entry]]
    sources: Callable[[int], list[str]]
    stamps: dict[str, str] = field(default_factory=dict)
    seen: dict[str, tuple[str, str]] = field(default_factory=dict)


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
    form = FORMATS[dataset.format]
    return Listing(
        [len(part) for part in split],
        count_others(others),
        split.__getitem__,
        lambda number: _sources(form, split[number]),
    )


def _sources(form: Format, entries: list[Entry]) -> list[str]:
    """Return the files of images and labels that the workflow does not write itself."""
    places = chain.from_iterable(map(form.sources, entries))
    return list(dict.fromkeys(places))  # a tar holds many images


def plan_lists(folder: Path, dataset: DatasetSettings, generated: Path) -> Listing:
    """Return the listing of a dataset, and write it into a folder for `read_lists`.

    If nothing that listing depends on has changed since it was written, it is read from there.

    Parameters
    ----------
    folder : Path
        If it cannot be written to, nothing is written.
    dataset, generated
        See `list_shards`.

    Raises
    ------
    DatasetError
        See `listing.list_dataset`.
    """
    if stamp := FORMATS[dataset.format].listing_stamp(dataset):
        stamp = combine([stamp, *sorted(IMAGE_SUFFIXES), _code()])
    with suppress(OSError, ValueError, KeyError, TypeError, _OutdatedError):
        summary = _read_summary(folder, dataset, generated, None)
        if not stamp or summary["stamp"] != stamp:
            raise _OutdatedError
        for number in range(len(summary["sizes"])):
            for file in _files(folder, number):
                file.stat()
        summary["stamps"] = {}  # jobs are to read none before it is known that it is still right
        _write(folder / SUMMARY, summary)
        return _listing_of(folder, summary, dataset, generated)
    listing = list_shards(dataset, generated)
    write_lists(folder, listing, dataset, generated, stamp)
    return listing


def write_lists(
    folder: Path, listing: Listing, dataset: DatasetSettings, generated: Path, stamp: str = ""
) -> None:
    """Write a listing into a folder, for `read_lists`, if it can be written to.

    `stamp` identifies all that it depends on, see `plan_lists`.
    """
    made = uuid4().hex  # files of different listings are not mixed up
    with suppress(OSError):
        (folder / SUMMARY).unlink(missing_ok=True)
        for number in range(len(listing.sizes)):
            images, files = _files(folder, number)
            _write(images, [made, [_values_of(entry) for entry in listing.entries(number)]])
            sources = listing.sources(number)
            text = "\0".join([f"{made} {len(sources)}", *sources])
            write_cache(files, text.encode("utf-8", "surrogateescape"))
        summary = {
            "made": made,
            "key": _key(dataset, generated),
            "stamp": stamp,
            "sizes": listing.sizes,
            "others": [asdict(one) for one in listing.others],
            "stamps": listing.stamps,
            "seen": listing.seen,
        }
        _write(folder / SUMMARY, summary)


def add_stamps(folder: Path, seen: Mapping[str, tuple[str, str]]) -> None:
    """Add the digests of the files of all shards to what `write_lists` wrote.

    Parameters
    ----------
    folder : Path
    seen : mapping of str to (str, str)
        See `Listing`; the first one is empty if files have only just been changed.
    """
    with suppress(OSError, ValueError):
        summary = json.loads((folder / SUMMARY).read_bytes())
        stamps = {name: stamp for name, (_, stamp) in seen.items()}
        _write(folder / SUMMARY, {**summary, "stamps": stamps, "seen": seen})


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
        summary = _read_summary(folder, dataset, generated, shards)
        return _listing_of(folder, summary, dataset, generated)
    except (OSError, ValueError, KeyError, TypeError, _OutdatedError):
        return list_shards(dataset, generated, shards)


def _files(folder: Path, number: int) -> tuple[Path, Path]:
    """Return the file with the images of a shard, and that with the names of their files."""
    return folder / f"{number:04d}.json", folder / f"{number:04d}.files"


def _read_summary(
    folder: Path, dataset: DatasetSettings, generated: Path, shards: int | None
) -> dict[str, Any]:
    """Read the summary of a listing, and check that it is of these settings."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_bytes())
    sizes = summary["sizes"]
    if summary["key"] != _key(dataset, generated):
        raise _OutdatedError
    if len(sizes) != (shards or count_shards(sum(sizes), dataset.shard_size)):
        raise _OutdatedError
    return summary


def _listing_of(
    folder: Path, summary: dict[str, Any], dataset: DatasetSettings, generated: Path
) -> Listing:
    """Return the listing of a summary, whose shards are read when they are asked for."""
    made, sizes = summary["made"], summary["sizes"]

    def entries(number: int) -> list[Entry]:
        try:
            found, rows = json.loads(_files(folder, number)[0].read_bytes())
            if found != made:
                raise _OutdatedError
            return [_entry_of(*row) for row in rows]
        except (OSError, ValueError, TypeError, _OutdatedError):
            return list_shards(dataset, generated, len(sizes)).entries(number)

    def sources(number: int) -> list[str]:
        try:
            text = _files(folder, number)[1].read_bytes().decode("utf-8", "surrogateescape")
            head, *names = text.split("\0")
            if head != f"{made} {len(names)}":
                raise _OutdatedError
            return names
        except (OSError, _OutdatedError):
            return _sources(FORMATS[dataset.format], entries(number))

    others = [Others(**one) for one in summary["others"]]
    seen = {name: (states, stamp) for name, (states, stamp) in summary["seen"].items()}
    return Listing(sizes, others, entries, sources, summary["stamps"], seen)


def _code() -> str:
    """Return a digest of the states of the modules that list datasets."""
    here = Path(__file__).parent
    return combine_states(sorted(map(str, [*here.rglob("*.py"), *here.parent.glob("*.py")])))


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
