"""What was found in a file, cached between runs until the file changes.

Used for the contents of tars, so that each is read through only once. As in `digests`, a file is
assumed to be the same as long as its size, times and inode are, and nothing is cached of a file
that was changed so shortly before it was read that a second change might leave the same times.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightcluster.digests import digest_of, is_settled, state_of, write_cache
from lightcluster.places import CACHE


def cached(path: Path, kind: str, read: Callable[[Path], Any]) -> Any:
    """Return what `read` finds in a file, from the cache if the file has not changed.

    The cache is a file in `places.CACHE`, relative to the working directory. If it is missing,
    damaged or cannot be written, the file is read again.

    Parameters
    ----------
    path : Path
    kind : str
        Name and version of what `read` finds, without spaces.
    read : callable
        Returns a value that JSON can hold.

    Raises
    ------
    OSError
        If there is no such file; `read` may raise other exceptions.
    """
    place = CACHE / "contents" / digest_of(os.fsencode(path.absolute()))
    started, before = time.time_ns(), path.stat()
    header = f"{kind} {state_of(before)}"
    with suppress(OSError, ValueError):
        known, _, body = place.read_bytes().partition(b"\n")
        if known == f"{header} {digest_of(body)}".encode():
            return json.loads(body)
    value = read(path)
    if is_settled(before, started) and state_of(before) == state_of(path.stat()):
        body = json.dumps(value, separators=(",", ":")).encode()
        with suppress(OSError):
            write_cache(place, f"{header} {digest_of(body)}\n".encode() + body)
    return value
