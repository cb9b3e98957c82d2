"""Files between steps: written under a temporary name, then renamed; checked when read.

A step's arrays go into one ``.npz`` file. Its members carry checksums (the zip format's CRC-32),
so a damaged file is an error that names it; nothing in it is ever unpickled.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcluster.commission import publishing
from lightcluster.errors import StoreError
from lightcluster.paths import LONGEST, shortened
from lightcluster.paths import require_file as require_file
from lightcluster.places import record_of

_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "make it writable, or start in another folder",
    errno.EACCES: "make it writable, or start in another folder",
    errno.EPERM: "make it writable, or start in another folder",
}


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn a full disk or a folder that is read-only into an error that names `path`.

    Raises
    ------
    StoreError
        Instead of an OSError of this kind.
    """
    try:
        yield
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM)
        if error.errno not in _REMEDIES or (denied and not _is_below(error.filename, path.parent)):
            raise
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}): {_REMEDIES[error.errno]}, then run "
            "snakemake again; nothing was left half-written"
        ) from error


def _is_below(name: object, folder: Path) -> bool:
    return isinstance(name, (str, os.PathLike)) and Path(name).is_relative_to(folder)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success rename it to `path`, else remove it.

    Works for files and folders; what stood at `path` before is replaced, and stays if it fails.
    What was written is on the disk before it has its name, so that a loss of power leaves it whole
    or not at all. One writer at a time for one path: what an earlier one that was killed left
    behind is removed, and a step that outlived its run leaves nothing.

    Raises
    ------
    StoreError
        If the disk is full or the folder is read-only.
    OutlivedError
        If the run that started this step is at work no more; see `commission`.
    """
    stem = shortened(path.name, LONGEST - len(f"..{os.getpid()}.tmp"))
    temporary, aside = (
        path.with_name(f".{stem}.{os.getpid()}.{ending}") for ending in ("tmp", "old")
    )
    left = re.compile(rf"\.{re.escape(stem)}\.\d+\.(tmp|old)", re.DOTALL)
    with explaining(path):
        with publishing():
            path.parent.mkdir(parents=True, exist_ok=True)
            for stale in path.parent.iterdir():
                if left.fullmatch(stale.name):
                    _remove(stale)
        try:
            yield temporary
            flush(temporary)
            with publishing():
                record_of(path).unlink(missing_ok=True)  # of what stood there before
                if temporary.is_dir() or path.is_dir():
                    _replace_folder(temporary, path, aside)
                else:
                    os.replace(temporary, path)
            _flush(path.parent)
            _remove(aside)
        finally:
            _remove(temporary)


def _replace_folder(temporary: Path, path: Path, aside: Path) -> None:
    """Rename `temporary` to `path`; a folder cannot take another's place, so that first moves."""
    occupied = os.path.lexists(path)
    if occupied:
        os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except OSError:
        if occupied:
            os.replace(aside, path)
        raise


def flush(path: Path) -> None:
    """Have a file, or a folder and all that is in it, written to the disk.

    The files of a folder are waited for together, which takes a twentieth of the time.
    """
    if not path.is_dir():
        _flush(path)
        return
    with ThreadPoolExecutor(16) as pool:
        for folder, _, names in os.walk(path):
            for _ in pool.map(_flush, [Path(folder, name) for name in names]):
                pass
            _flush(Path(folder))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network folders may not know how
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, under a temporary name first."""
    with replacing(target) as temporary:
        shutil.copyfile(require_file(source), temporary)


def write_arrays(path: Path, *, compressed: bool = True, **arrays: NDArray[Any]) -> None:
    """Write arrays to a ``.npz`` file; the same arrays give the same bytes.

    Masks and labels shrink to a few per cent when compressed; features hardly do, and slowly.
    """
    save = np.savez_compressed if compressed else np.savez
    with replacing(path) as temporary, temporary.open("wb") as file:
        save(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Read the named arrays (all, if none are named) of a file written by `write_arrays`.

    Raises
    ------
    StoreError
        If the file is missing, damaged or lacks an array; says how to make it again.
    """
    remedy = "delete it and run snakemake again"
    try:
        with np.load(require_file(path), allow_pickle=False) as file:
            if missing := [name for name in names if name not in file.files]:
                raise KeyError(", ".join(map(repr, missing)))
            return {name: file[name] for name in names or file.files}
    except FileNotFoundError:
        raise StoreError(f"{path}: not found; run snakemake to make it") from None
    except KeyError as error:
        raise StoreError(f"{path}: array {error.args[0]} is missing; {remedy}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: damaged ({error}); {remedy}") from None
    except Exception as error:  # zlib.error and struct.error of a damaged member
        raise StoreError(f"{path}: damaged ({type(error).__name__}: {error}); {remedy}") from None


def encode_names(names: Sequence[str]) -> NDArray[np.uint8]:
    """Return names of any characters as one array of UTF-8 encoded JSON."""
    return np.frombuffer(json.dumps(list(names), ensure_ascii=False).encode(), np.uint8)


def decode_names(encoded: NDArray[np.uint8]) -> list[str]:
    """Return the names that `encode_names` encoded."""
    names: list[str] = json.loads(encoded.tobytes().decode())
    return names
