"""Names of files that every file system takes."""

from __future__ import annotations

import hashlib
import os

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
