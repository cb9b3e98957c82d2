"""What no longer belongs among the results of a configuration is set aside, never deleted.

After a dataset has shrunk, or a seed or an option of a run has gone, the old files would stand
beside the new ones, and nobody who lists a folder could tell them apart.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from lightcluster.places import ASIDE, RECORDS, record_of


def find_strays(
    paths: Iterable[Path], expected: Collection[str], is_result: Callable[[Path], bool]
) -> Iterator[Path]:
    """Yield the results among files and folders, and below them, that are not expected there.

    Parameters
    ----------
    paths : iterable of Path
    expected : collection of str
        Paths that belong there; what is in them is not looked at.
    is_result : callable
        Whether the workflow has made a file or folder: what others have is left where it is.
    """
    for path in paths:
        if str(path) in expected or path.name == RECORDS:
            continue
        if is_result(path):
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from find_strays(sorted(path.iterdir()), expected, is_result)


def set_aside(paths: Collection[Path], dataset: Path, expected: Collection[str] = ()) -> Path:
    """Move files and folders, with the records of what made them, out of a dataset's results.

    Parameters
    ----------
    paths : collection of Path
        Below `dataset`.
    dataset : Path
        The folder of the results of a dataset.
    expected : collection of str
        Paths that a job is about to write: what is there is copied, and stays until then, for
        Snakemake has seen it there.

    Returns
    -------
    Path
        The new folder below ``aside`` in which they now are, at the same places as before.
    """
    now = time.strftime("%Y-%m-%d-%H%M%S")
    target, number = dataset / ASIDE / now, 1
    while target.exists():
        number += 1
        target = dataset / ASIDE / f"{now}-{number}"
    for path in paths:
        take: Callable[[Path, Path], Any] = shutil.copy2 if str(path) in expected else shutil.move
        for taken in (record_of(path), path):
            if os.path.lexists(taken):
                place = target / taken.relative_to(dataset)
                place.parent.mkdir(parents=True, exist_ok=True)
                take(taken, place)
        _remove_empty(record_of(path).parent, dataset)
        _remove_empty(path.parent, dataset)
    return target


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder, and those above it but `top`, as far as they are empty."""
    with contextlib.suppress(OSError):
        while folder != top:
            folder.rmdir()
            folder = folder.parent
