"""A text file that lists images, wherever they are, and optionally their label maps.

URLs are refused. Whether a job runs again depends on the content of its images, which is only known
to be unchanged as long as size, times and inode of a file are (`digests`); a URL has none of these
that could be relied on, so that each run would have to fetch all images once more. And an image
that cannot be fetched for a moment would be left out of the results as if it were damaged. Mounted
storage has neither problem, and is read as any other folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from lightcluster.datasets.entries import Entry, output_names
from lightcluster.datasets.formats.own import OwnFormat, OwnKeys
from lightcluster.digests import combine_states
from lightcluster.errors import DatasetError, reason_of
from lightcluster.paths import require_file
from lightcluster.sections import Section

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, kw_only=True)
class ListFormat(OwnFormat):
    """A list of paths; the classes say whether the label maps in it are read."""

    keys: ClassVar[type[Section]] = OwnKeys
    labels_key: ClassVar[str] = "classes"

    def entries(self, dataset: OwnKeys, generated: Path, others: list[str]) -> list[Entry]:
        """List the images of all lines."""
        assert dataset.images is not None  # see `contradictions`
        listed = sorted(_read(dataset.images), key=lambda entry: entry.image_id)
        if not listed:
            raise DatasetError(f"dataset.images = {str(dataset.images)!r}: the list is empty")
        names = output_names([entry.image_id for entry in listed])
        return [
            Entry(
                entry.image_id, entry.images, entry.labels, name, entry.label_id,
                unusable=entry.unusable,
            )
            for entry, name in zip(listed, names, strict=True)
        ]  # fmt: skip

    def listing_stamp(self, dataset: OwnKeys) -> str:
        """Return a digest of the state of the list; the files in it are not looked at."""
        return combine_states([str(dataset.images)])


def _read(path: Path) -> Iterator[Entry]:
    """Yield the image of each line, without its output.

    Raises
    ------
    DatasetError
        If the list cannot be read, or a line is a URL.
    """
    known: dict[str, int] = {}
    for number, line in _lines(path):
        image, _, label = line.partition("\t")
        folder, image_id = _placed(path, number, image)
        if "\0" in line or not image_id:
            yield _unusable(path, number, f"{image!r} is not the path of a file")
        elif image_id in known:
            yield _unusable(path, number, f"{image!r} is also in line {known[image_id]}")
        else:
            known[image_id] = number
            labels, label_id = _placed(path, number, label) if label else (None, "")
            yield Entry(image_id, folder, labels, "", label_id)


def _unusable(path: Path, number: int, reason: str) -> Entry:
    return Entry(f"line {number} of {path.name}", path.parent, None, "", unusable=reason)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of the list that are not empty, with their numbers."""
    try:
        with require_file(path).open(encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(file, 1):
                if text := line.rstrip("\r\n"):
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"dataset.images = {str(path)!r}: the list cannot be read ({reason_of(error)})"
        ) from None


def _placed(path: Path, number: int, name: str) -> tuple[Path, str]:
    """Return a folder and the path of a file below it, without ``..``.

    The folder is that of the list, or the root folder for files elsewhere.

    Raises
    ------
    DatasetError
        If `name` is a URL of a remote file.
    """
    if _URL.match(name):
        url = urlsplit(name)
        if url.scheme.lower() != "file" or url.netloc not in ("", "localhost"):
            raise DatasetError(
                f"dataset.images = {str(path)!r}, line {number}: {name[:80]!r} is a URL, and only "
                "files can be read; mount the storage (s3fs, rclone mount, gcsfuse, …) and list "
                "the paths there"
            )
        name = unquote(url.path, errors="surrogateescape")
    plain = os.path.normpath(name)
    if not plain.startswith(("/", "../")) and plain not in (".", ".."):
        return path.parent, plain
    whole = os.path.abspath(path.parent / plain)
    return Path("/"), whole.lstrip("/")


LIST = ListFormat(
    name="list",
    summary="a text file with the path of an image in each line and, after a tab, that of its "
    "label map",
    reads="the text file with the paths of the images",
)
