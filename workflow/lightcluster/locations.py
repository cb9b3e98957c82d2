"""Where an image or a label map is stored: in a file of its own, or inside a larger file.

The location of an image is the path of its file or, inside a tar or a parquet file, a `Member` or a
`Cell`. Everything that reads images and label maps takes their content from here, so readers only
see files and bytes. Members and cells are read in place: nothing is unpacked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from lightcluster.digests import MISSING, digest_file, digest_of, state_of
from lightcluster.errors import ImageError, reason_of
from lightcluster.paths import require_file

MOST_BYTES = 1 << 30
"""Largest size of a member, because it is read into memory as a whole: 1 GiB."""

LARGEST_GROUP = 1 << 29
"""Largest size of the column of a row group, which is read into memory as a whole: 512 MiB."""

NEEDS_PYARROW = "parquet files need pyarrow: pip install 'lightcluster[parquet]', or pyarrow"

REMEDY = "since the dataset was indexed; run the same command again to index it again"


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar.

    Attributes
    ----------
    container : Path
        The tar.
    name : str
        Name of the member, for messages and suffixes only.
    offset, size : int
        Where its content is, in bytes.
    """

    container: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.container}/{self.name}"

    @property
    def part(self) -> str:
        """Where the content is in the tar, as text; see `locate`."""
        return f"tar {self.offset} {self.size} {self.name}"

    @classmethod
    def parse(cls, container: Path, part: str) -> Member:
        """Return the member that `part` describes, or raise a ValueError."""
        _, offset, size, name = part.split(" ", 3)
        return cls(container, name, int(offset), int(size))

    def read(self) -> bytes:
        """Return the content.

        Raises
        ------
        ImageError
            If the tar cannot be read, ends before the member does, or the member is too large.
        """
        if self.size > MOST_BYTES:
            raise ImageError(f"has {self.size} bytes; at most {MOST_BYTES} are allowed in a tar")
        try:
            with require_file(self.container).open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except FileNotFoundError:
            raise ImageError("the tar does not exist") from None
        except OSError as error:
            reason = error.strerror or error
            raise ImageError(f"the tar cannot be read ({reason})") from error
        if len(content) != self.size:
            raise ImageError("the tar is truncated")
        return content


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a parquet file.

    Attributes
    ----------
    container : Path
        The parquet file.
    column : str
    group, row : int
        Row group, and row within it.
    number : int
        Row within the file, for messages.
    """

    container: Path
    column: str
    group: int
    row: int
    number: int

    def __str__(self) -> str:
        return f"{self.container}, row {self.number}, {self.column!r}"

    @property
    def part(self) -> str:
        """Where the content is in the file, as text; see `locate`."""
        return f"parquet {self.group} {self.row} {self.number} {self.column}"

    @classmethod
    def parse(cls, container: Path, part: str) -> Cell:
        """Return the cell that `part` describes, or raise a ValueError."""
        _, group, row, number, column = part.split(" ", 4)
        return cls(container, column, int(group), int(row), int(number))

    def read(self) -> bytes:
        """Return the content.

        Raises
        ------
        ImageError
            If the file cannot be read, or the cell is empty.
        """
        try:
            status = require_file(self.container).stat()
            with _reading:  # threads wait for a row group that another one reads already
                cells = _read_column(self.container, state_of(status), self.group, self.column)
            value = cells[self.row].as_py()
        except ImportError:
            raise ImageError(NEEDS_PYARROW) from None
        except FileNotFoundError:
            raise ImageError("the parquet file does not exist") from None
        except Exception as error:  # damaged files raise all kinds of errors
            raise ImageError(f"the parquet file cannot be read ({reason_of(error)})") from error
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            path = value.get("path") if isinstance(value, dict) else None
            raise ImageError("the cell is empty" + f" and only names a file, {path!r}" * bool(path))
        return content


_reading = Lock()


@lru_cache(maxsize=4)
def _read_column(path: Path, state: str, group: int, column: str) -> Any:
    """Return a column of a row group as an Arrow array; `state` changes when the file does."""
    from pyarrow.parquet import ParquetFile

    with path.open("rb") as file:
        return ParquetFile(file).read_row_group(group, [column], use_threads=False)[column]


Location = Path | Member | Cell
"""Where an image or a label map is stored."""


def locate(path: Path, part: str) -> Location:
    """Return a location from the path of a file and the place in it.

    Parameters
    ----------
    path : Path
    part : str
        `Member.part` or `Cell.part`; empty if the file is the image.

    Raises
    ------
    ValueError
        If `part` is damaged.
    """
    if not part:
        return path
    kinds: dict[str, type[Member | Cell]] = {"tar": Member, "parquet": Cell}
    kind = part.partition(" ")[0]
    if kind not in kinds:
        raise ValueError(f"unknown part of a file: {part[:80]!r}")
    return kinds[kind].parse(path, part)


def file_of(location: Location) -> Path:
    """Return the path of the file that is, or contains, an image or a label map."""
    return location if isinstance(location, Path) else location.container


def part_of(location: Location) -> str:
    """Return the place in this file as text, see `locate`; empty if it is the whole file."""
    return "" if isinstance(location, Path) else location.part


def suffix_of(location: Location) -> str:
    """Return the suffix of the name of an image, such as ``.jpg``; cells have no name."""
    if isinstance(location, Cell):
        return ""
    return location.suffix if isinstance(location, Path) else PurePosixPath(location.name).suffix


def source_of(location: Location) -> Path | bytes:
    """Return what can be decoded: the path of a file, or the content of a part of one.

    Raises
    ------
    ImageError
        If a part cannot be read.
    """
    return location if isinstance(location, Path) else location.read()


def read_source(location: Location) -> tuple[Path | bytes, str]:
    """Return what can be decoded, and the digest of its content; see `digests.digest_file`.

    Raises
    ------
    ImageError
        If a part cannot be read.
    """
    if isinstance(location, Path):
        return location, digest_file(location)
    content = location.read()
    return content, digest_of(content)


@contextmanager
def unchanged(location: Location, digest: str) -> Iterator[Path | bytes]:
    """Yield what can be decoded, and check that it is still what was indexed.

    Parameters
    ----------
    location : Location
    digest : str
        Digest of the content when it was indexed.

    Yields
    ------
    Path or bytes

    Raises
    ------
    ImageError
        If the content has changed. An ImageError raised inside the context is raised again with the
        name of the file.
    """
    if not file_of(location).is_file():  # opening a pipe may block forever
        raise ImageError(f"{location}: has disappeared {REMEDY}")
    failure: ImageError | None = None
    found = MISSING
    try:
        if isinstance(location, Path):
            yield location
        else:
            content, found = read_source(location)
            yield content
    except ImageError as error:
        failure = error
    if isinstance(location, Path):
        found = digest_file(location)  # afterwards, so that a change while reading is noticed
    if found != digest:
        raise ImageError(f"{location}: has changed {REMEDY}") from failure
    if failure is not None:
        raise ImageError(f"{location}: {failure}") from failure
