"""Digests of files, cached between runs so that each file is read only once.

A digest is cached with the file's size, modification time, change time and inode. As long as these
are the same, the content is assumed to be the same. Otherwise the file is read again, and so is a
file that was changed so shortly before it was read that a second change might leave the same times.
``touch``, ``chmod`` and copying change the times or the inode, so the file is read again, but its
digest stays the same.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock

from lightcluster.ahead import compute_ahead
from lightcluster.progress import bytes_bar

MISSING = "missing"
"""Replaces the digest of a path that does not exist or is not a regular file."""

UNREADABLE = "unreadable"
"""Replaces the digest of a file that cannot be read."""

_BYTES = 16
_CHUNK = 1 << 20
_TOGETHER = 1000
_THREADS = 8
_AHEAD = 64
_COARSEST_NS = 2_000_000_000
"""Coarsest time resolution of common file systems: FAT has two seconds."""

_HEADER = "lightcluster digests 1"


def digest_of(content: bytes) -> str:
    """Return the digest of the content of a file: BLAKE2b of 16 bytes, hexadecimal."""
    return hashlib.blake2b(content, digest_size=_BYTES).hexdigest()


def digest_file(path: Path) -> str:
    """Return the digest of the content of a file, `MISSING` or `UNREADABLE`."""
    return _digest_file(str(path), lambda read: None)[0]


def combine(parts: Iterable[str]) -> str:
    """Return a digest of a sequence of texts without NUL, such as paths and digests.

    It is `digest_of` the texts joined by NUL, computed without keeping them in memory.
    """
    digest = hashlib.blake2b(digest_size=_BYTES)
    texts, between = iter(parts), ""
    while some := list(islice(texts, _TOGETHER)):
        text = between + "\0".join(some)
        digest.update(text.encode("utf-8", "surrogateescape"))
        between = "\0"
    return digest.hexdigest()


def combine_states(files: Iterable[str]) -> str:
    """Return a digest of the metadata that change if one of these files does.

    It is empty if one was changed so shortly before that a further change might leave it the same.
    """
    combined = hashlib.blake2b(digest_size=_BYTES)
    now = time.time_ns()
    for file in files:
        try:
            status = os.stat(file)
        except (OSError, ValueError):
            combined.update(MISSING.encode())
            continue
        if not is_settled(status, now):
            return ""
        combined.update(f"{state_of(status)}\0".encode())
    return combined.hexdigest()


class Digests:
    """Digests of files with a cache on disk.

    Parameters
    ----------
    cache : Path
        File of the cache. If it is missing, damaged or not writable, files are simply read again.
    keep : bool
        Whether to write new digests to the cache.
    """

    def __init__(self, cache: Path, *, keep: bool = True) -> None:
        self._cache = cache
        self._keep = keep

    def of(self, files: Sequence[str | Path]) -> list[str]:
        """Return the digest of the content of each file, `MISSING` or `UNREADABLE`.

        Files that are not cached are read by several threads, with a progress bar if this takes
        seconds.
        """
        names = [str(file) for file in files]
        found: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for name in names:
            try:
                status = os.stat(name)
            except (OSError, ValueError):
                found[name] = MISSING
                continue
            digest, _, state = self._known.get(name, "").partition(" ")
            if state and state == state_of(status):
                found[name] = digest
            elif stat.S_ISREG(status.st_mode):
                sizes[name] = status.st_size
            else:
                found[name] = MISSING
        if sizes:
            found |= self._read(sizes)
        return [found[name] for name in names]

    def _read(self, sizes: dict[str, int]) -> dict[str, str]:
        """Compute digests of files, given their sizes, and cache those that are reliable."""
        found = {}
        new = {}
        lock = Lock()
        with bytes_bar("read inputs", sum(sizes.values())) as bar:

            def count(read: int) -> None:
                with lock:
                    bar.update(read)

            try:
                digested = compute_ahead(
                    lambda name: (name, *_digest_file(name, count)),
                    sizes, workers=_THREADS, most=_AHEAD,
                )  # fmt: skip
                for name, digest, state in digested:
                    found[name] = digest
                    if state:
                        new[name] = f"{digest} {state}"
            finally:  # an interrupted run continues from here
                self._known.update(new)
                if new and self._keep:
                    self._write()
        return found

    @cached_property
    def _known(self) -> dict[str, str]:
        """Digest and state of each cached file, separated by a space."""
        with suppress(OSError):
            header, _, body = self._cache.read_bytes().partition(b"\n")
            if header == _header(body):
                lines = body.decode("utf-8", "surrogateescape").split("\0")
                pairs = (line.partition("\t") for line in lines if line)
                return {name: value for value, _, name in pairs}
        return {}

    def _write(self) -> None:
        """Write the cache atomically, without files that no longer exist."""
        lines = [f"{v}\t{name}\0" for name, v in self._known.items() if os.path.lexists(name)]
        body = "".join(lines).encode("utf-8", "surrogateescape")
        with suppress(OSError):
            write_cache(self._cache, _header(body) + b"\n" + body)


def write_cache(path: Path, content: bytes) -> None:
    """Write a file of a cache atomically; unlike a result, it is not flushed to the disk.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is kept.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _header(body: bytes) -> bytes:
    return f"{_HEADER} {digest_of(body)}".encode()


def state_of(status: os.stat_result) -> str:
    """Return the metadata that change if a file is replaced or modified."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _digest_file(name: str, count: Callable[[int], None]) -> tuple[str, str]:
    """Return the digest of a file and its state, which is empty if the digest must not be cached.

    `count` is called with the number of bytes of each part that was read.
    """
    try:
        started = time.time_ns()
        digest = hashlib.blake2b(digest_size=_BYTES)
        with open(name, "rb", buffering=0, opener=_open_at_once) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                return MISSING, ""
            for part in iter(lambda: file.read(_CHUNK), b""):
                digest.update(part)
                count(len(part))
            after = os.fstat(file.fileno())
    except (FileNotFoundError, IsADirectoryError):
        return MISSING, ""
    except (OSError, ValueError):
        return UNREADABLE, ""
    settled = is_settled(before, started) and state_of(before) == state_of(after)
    return digest.hexdigest(), state_of(before) if settled else ""


def _open_at_once(name: str, flags: int) -> int:
    """Open a file without blocking, in case a pipe has replaced it."""
    return os.open(name, flags | os.O_NONBLOCK)


def is_settled(status: os.stat_result, now: int) -> bool:
    """Return whether a change after `now` would be visible in the times of a file.

    The clock of a file server may be ahead, so that times are in the future. Modification times can
    also be set to any value.
    """
    dated, changed = status.st_mtime_ns, status.st_ctime_ns
    return abs(now - dated) > _COARSEST_NS and now - changed > _COARSEST_NS
