"""Where an image or a label map is stored: in a file of its own, or inside a larger file.

The location of an image is the path of its file or, for a member of a tar, a `Member`. Everything
that reads images and label maps takes their content from here, so readers only see files and bytes.
A member is read in place: nothing is unpacked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lightcluster.digests import MISSING, digest_file, digest_of
from lightcluster.errors import ImageError
from lightcluster.paths import require_file

MOST_BYTES = 1 << 30
"""Largest size of a member, because it is read into memory as a whole: 1 GiB."""

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


Location = Path | Member
"""Where an image or a label map is stored."""


def locate(path: Path, part: str) -> Location:
    """Return a location from the path of a file and the place in it.

    Parameters
    ----------
    path : Path
    part : str
        `Member.part`; empty if the file is the image.

    Raises
    ------
    ValueError
        If `part` is damaged.
    """
    if not part:
        return path
    if not part.startswith("tar "):
        raise ValueError(f"unknown part of a file: {part[:80]!r}")
    return Member.parse(path, part)


def file_of(location: Location) -> Path:
    """Return the path of the file that is, or contains, an image or a label map."""
    return location if isinstance(location, Path) else location.container


def part_of(location: Location) -> str:
    """Return the place in this file as text, see `locate`; empty if it is the whole file."""
    return "" if isinstance(location, Path) else location.part


def suffix_of(location: Location) -> str:
    """Return the suffix of the name of an image, such as ``.jpg``."""
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
