"""Names that every file system accepts, and a check that a path can be opened as a file."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

LONGEST = 255
"""Longest name of a file or folder in bytes, on nearly every file system."""


def fits(path: str) -> bool:
    """Return whether the last part of a path has at most `LONGEST` bytes."""
    last = path.rpartition("/")[2]
    return len(last) <= LONGEST // 4 or len(os.fsencode(last)) <= LONGEST


def cut(name: str, most: int) -> str:
    """Return the start of a name, at most `most` bytes, in whole characters."""
    name = name[:most]
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def shortened(name: str, most: int = LONGEST) -> str:
    """Return a name of at most `most` bytes: the name itself, or its start and a digest of it."""
    whole = os.fsencode(name)
    if len(whole) <= most:
        return name
    digest = hashlib.blake2b(whole, digest_size=4).hexdigest()
    return f"{cut(name, most - len(digest) - 1)}.{digest}"


_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_file(path: Path) -> Path:
    """Return `path` if it is a regular file or a link to one.

    Opening a pipe or a device may block forever. Call this before opening any file that this
    package did not write: ``Image.open(require_file(path))``.

    Raises
    ------
    OSError
        FileNotFoundError if it does not exist, IsADirectoryError if it is a folder, and an OSError
        that names its kind otherwise.
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind == stat.S_IFREG:
        return path
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, f"is {_KINDS.get(kind, 'a special file')}, not a file", str(path))


def open_source(source: Path | bytes) -> BinaryIO:
    """Open a file, see `require_file`, or the content of one, for reading."""
    return BytesIO(source) if isinstance(source, bytes) else require_file(source).open("rb")
