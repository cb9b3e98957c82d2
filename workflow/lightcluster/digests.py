"""Digests of whole files, kept from one run to the next so that each file is read once.

A digest is kept with what the file system says of the file: its size, the times when its content
and its entry were last changed, and its inode. While all of these are the same, so is the content.
Any other is read again, also a file that was changed so shortly before it was read that another
change could leave the same times. ``touch``, ``chmod`` and copies change the times or the inode
and so cost a reading, but not the digest.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from threading import Lock

from lightcluster.ahead import compute_ahead
from lightcluster.errors import ImageError
from lightcluster.progress import bytes_bar

MISSING = "missing"
"""In the place of the digest of a file that is not there, or is none."""

UNREADABLE = "unreadable"
"""In the place of the digest of a file that may not, or cannot, be read."""

_BYTES = 16
_CHUNK = 1 << 20
_THREADS = 8
_AHEAD = 64
_COARSEST_NS = 2_000_000_000
"""Of all file systems, FAT has the coarsest times: two seconds."""

_HEADER = "lightcluster digests 1"


def digest_of(content: bytes) -> str:
    """Return the digest of the content of a file: BLAKE2b of 16 bytes, hexadecimal."""
    return hashlib.blake2b(content, digest_size=_BYTES).hexdigest()


def digest_file(path: Path) -> str:
    """Return the digest of the content of a file, `MISSING` or `UNREADABLE`."""
    return _digest_file(str(path), lambda read: None)[0]


@contextmanager
def unchanged(path: Path, digest: str) -> Iterator[None]:
    """Refuse what is read of a file within, unless the file is the one that was indexed.

    Parameters
    ----------
    path : Path
    digest : str
        Of its content then.

    Raises
    ------
    ImageError
        Naming the file, in the place of one that does not, or if the file is another.
    """
    failure: ImageError | None = None
    remedy = "since the dataset was indexed; start the same command again, which indexes it anew"
    if not path.is_file():  # opening a pipe would wait, perhaps for ever
        raise ImageError(f"{path}: is gone {remedy}")
    try:
        yield
    except ImageError as error:
        failure = error
    if digest_file(path) != digest:  # after: what came in its place meanwhile is noticed
        raise ImageError(f"{path}: has changed {remedy}") from failure
    if failure is not None:
        raise ImageError(f"{path}: {failure}") from failure


def combine(parts: Iterable[str]) -> str:
    """Return a digest of texts without NUL, such as paths and digests, in their order."""
    return digest_of("\0".join(parts).encode("utf-8", "surrogateescape"))


class Digests:
    """Digests of files, remembered in a file of their own.

    Parameters
    ----------
    cache : Path
        Where they are remembered. If it is missing, damaged or cannot be written, files are read
        again, and that is all.
    keep : bool
        Whether to add to it what is new.
    """

    def __init__(self, cache: Path, *, keep: bool = True) -> None:
        self._cache = cache
        self._keep = keep

    def of(self, files: Sequence[str | Path]) -> list[str]:
        """Return the digest of the content of each file, `MISSING` or `UNREADABLE`.

        Those that must be read are read by several threads, under a progress bar if that takes
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
            if state and state == _state(status):
                found[name] = digest
            elif stat.S_ISREG(status.st_mode):
                sizes[name] = status.st_size
            else:
                found[name] = MISSING
        if sizes:
            found |= self._read(sizes)
        return [found[name] for name in names]

    def _read(self, sizes: dict[str, int]) -> dict[str, str]:
        """Digest files, given their sizes, and remember what will still hold later."""
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
            finally:  # an interrupted reading goes on from where it was
                self._known.update(new)
                if new and self._keep:
                    self._write()
        return found

    @cached_property
    def _known(self) -> dict[str, str]:
        """For each file its digest, a space, and the state in which it was read."""
        with suppress(OSError):
            header, _, body = self._cache.read_bytes().partition(b"\n")
            if header == _header(body):
                lines = body.decode("utf-8", "surrogateescape").split("\0")
                pairs = (line.partition("\t") for line in lines if line)
                return {name: value for value, _, name in pairs}
        return {}

    def _write(self) -> None:
        """Write all that is known of files that are still there, for whole or not at all."""
        lines = [f"{v}\t{name}\0" for name, v in self._known.items() if os.path.lexists(name)]
        body = "".join(lines).encode("utf-8", "surrogateescape")
        temporary = self._cache.with_name(f"{self._cache.name}.{os.getpid()}.tmp")
        with suppress(OSError):
            try:
                temporary.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(_header(body) + b"\n" + body)
                os.replace(temporary, self._cache)
            finally:
                temporary.unlink(missing_ok=True)


def _header(body: bytes) -> bytes:
    return f"{_HEADER} {digest_of(body)}".encode()


def _state(status: os.stat_result) -> str:
    """Return what changes when a file is replaced or changed in place."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _digest_file(name: str, count: Callable[[int], None]) -> tuple[str, str]:
    """Return the digest of a file and its state; without one if it may be read again as another.

    `count` is called with the bytes of each part that was read.
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
    settled = _is_settled(before, started) and _state(before) == _state(after)
    return digest.hexdigest(), _state(before) if settled else ""


def _open_at_once(name: str, flags: int) -> int:
    """Open a file, or what has come in its place: a pipe does not wait for who writes to it."""
    return os.open(name, flags | os.O_NONBLOCK)


def _is_settled(status: os.stat_result, now: int) -> bool:
    """Tell whether a change from `now` on will show in the times of a file.

    Clocks of servers may be ahead, and then files seem to be changed in the future; their content
    may have been dated so, too, far from now.
    """
    dated, changed = status.st_mtime_ns, status.st_ctime_ns
    return abs(now - dated) > _COARSEST_NS and now - changed > _COARSEST_NS
