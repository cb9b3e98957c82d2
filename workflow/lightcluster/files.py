"""Files between steps, written under a temporary name and renamed, and checked when read.

The arrays of a step are stored in one ``.npz`` file. Its members have checksums (the CRC-32 of the
zip format), so damaged files are detected. Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
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
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "make it writable, or start in another folder",
    errno.EACCES: "make it writable, or start in another folder",
    errno.EPERM: "make it writable, or start in another folder",
}


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Convert errors from a full disk or a read-only folder to an error that names `path`.

    Raises
    ------
    StoreError
        Instead of such an OSError.
    """
    try:
        yield
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM)
        if error.errno not in _REMEDIES or (denied and not _is_below(error.filename, path.parent)):
            raise
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}): {_REMEDIES[error.errno]}, then run "
            "snakemake again; no incomplete result was left behind"
        ) from error


def _is_below(name: object, folder: Path) -> bool:
    return isinstance(name, (str, os.PathLike)) and Path(name).is_relative_to(folder)


@contextmanager
def replacing(path: Path, resumes: Callable[[Path], bool] = lambda left: False) -> Iterator[Path]:
    """Provide a temporary path beside `path`, which is renamed to `path` on success.

    Works for files and folders. On failure, the temporary path is removed and anything at `path` is
    kept. Data are flushed to disk before the renaming, so that a power loss leaves a complete file
    or none. There may be only one writer per path at a time: it removes the temporary files of an
    earlier one that was killed. A step whose run has ended writes nothing.

    Parameters
    ----------
    path : Path
    resumes : callable, optional
        Given the temporary path of a writer that did not finish, returns whether this writer can
        continue it. Such a path is not removed but provided again. By default, none is.

    Yields
    ------
    Path
        The temporary path.

    Raises
    ------
    StoreError
        If the disk is full or the folder is read-only.
    OutlivedError
        If the run that started this step has ended; see `commission`.
    """
    stem = shortened(path.name, LONGEST - len(f"..{os.getpid()}.tmp"))
    temporary, aside = (
        path.with_name(f".{stem}.{os.getpid()}.{ending}") for ending in ("tmp", "old")
    )
    left = re.compile(rf"\.{re.escape(stem)}\.\d+\.(tmp|old)", re.DOTALL)
    with explaining(path):
        with publishing():
            path.parent.mkdir(parents=True, exist_ok=True)
            stale = [found for found in path.parent.iterdir() if left.fullmatch(found.name)]
            unfinished = next(filter(resumes, stale), None)
            for found in stale:
                if found != unfinished:
                    _remove(found)
            if unfinished is not None:
                os.replace(unfinished, temporary)
        try:
            yield temporary
            flush(temporary)
            with publishing():
                record_of(path).unlink(missing_ok=True)  # of the previous file
                if temporary.is_dir() or path.is_dir():
                    _replace_folder(temporary, path, aside)
                else:
                    os.replace(temporary, path)
            _flush(path.parent)
            _remove(aside)
        finally:
            if not resumes(temporary):
                _remove(temporary)


def _replace_folder(temporary: Path, path: Path, aside: Path) -> None:
    """Rename `temporary` to `path`, after moving aside an existing folder, as renaming requires."""
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
    """Flush a file, or a folder with all its contents, to disk.

    The files of a folder are flushed in parallel, which takes a twentieth of the time.
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
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not supported on some network drives
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a file, link or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, using a temporary name."""
    with replacing(target) as temporary:
        shutil.copyfile(require_file(source), temporary)


def write_arrays(path: Path, *, compressed: bool = True, **arrays: NDArray[Any]) -> None:
    """Write arrays to a ``.npz`` file; the same arrays give the same bytes.

    Compression reduces masks and labels to a few per cent, but is slow and saves little for
    features.
    """
    save = np.savez_compressed if compressed else np.savez
    with replacing(path) as temporary, temporary.open("wb") as file:
        save(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Read the named arrays (all, if none are named) of a file written by `write_arrays`.

    Raises
    ------
    StoreError
        If the file is missing or damaged, or an array is missing.
    """
    remedy = "delete it and run snakemake again"
    try:
        with np.load(require_file(path), allow_pickle=False) as file:
            if missing := [name for name in names if name not in file.files]:
                raise KeyError(", ".join(map(repr, missing)))
            return {name: file[name] for name in names or file.files}
    except FileNotFoundError:
        raise StoreError(f"{path}: not found; run snakemake to create it") from None
    except KeyError as error:
        raise StoreError(f"{path}: array {error.args[0]} is missing; {remedy}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: damaged ({error}); {remedy}") from None
    except Exception as error:  # zlib.error and struct.error of a damaged member
        raise StoreError(f"{path}: damaged ({type(error).__name__}: {error}); {remedy}") from None


def encode_names(names: Sequence[str]) -> NDArray[np.uint8]:
    """Encode names with any characters as an array of UTF-8 JSON."""
    return np.frombuffer(json.dumps(list(names), ensure_ascii=False).encode(), np.uint8)


def decode_names(encoded: NDArray[np.uint8]) -> list[str]:
    """Decode the result of `encode_names`."""
    names: list[str] = json.loads(encoded.tobytes().decode())
    return names
