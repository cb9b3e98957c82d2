"""Paths: names that every file system takes, and what may be opened."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

LONGEST = 255
"""Bytes of the name of a file or folder at most, on nearly every file system."""


def fits(path: str) -> bool:
    """Tell whether the last part of a path is no longer than that."""
    last = path.rpartition("/")[2]
    return len(last) <= LONGEST // 4 or len(os.fsencode(last)) <= LONGEST


def cut(name: str, most: int) -> str:
    """Return as much of the beginning of a name as `most` bytes hold, in whole characters."""
    name = name[:most]
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def shortened(name: str, most: int = LONGEST) -> str:
    """Return a name of at most `most` bytes: itself, or its beginning and a digest of it all."""
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
    """Return `path` if it may be opened for reading: if it, or what it links to, is a file.

    A pipe or a device could keep its reader waiting for ever. Ask before every opening of a file
    that this package did not write: ``Image.open(require_file(path))``.

    Raises
    ------
    OSError
        FileNotFoundError if there is nothing, IsADirectoryError if it is a folder, and one that
        says what it is if it is something else.
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind == stat.S_IFREG:
        return path
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, f"is {_KINDS.get(kind, 'a special file')}, not a file", str(path))
