"""Moving outdated results aside instead of deleting them.

If a dataset shrinks, or a seed or an option of a run is removed, outdated files would remain next
to the new ones, and users could not distinguish them.
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
    """Yield unexpected results among files and folders, including subfolders.

    Parameters
    ----------
    paths : iterable of Path
    expected : collection of str
        Expected paths; expected folders are not searched.
    is_result : callable
        Returns whether the workflow created a file or folder; other files are not yielded.

    Yields
    ------
    Path
    """
    for path in paths:
        if str(path) in expected or path.name == RECORDS:
            continue
        if is_result(path):
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from find_strays(sorted(path.iterdir()), expected, is_result)


def set_aside(paths: Collection[Path], dataset: Path, expected: Collection[str] = ()) -> Path:
    """Move files and folders and their provenance records out of a dataset's results.

    Parameters
    ----------
    paths : collection of Path
        Below `dataset`.
    dataset : Path
        The folder of the results of a dataset.
    expected : collection of str
        Paths that a job is about to write: these are copied instead of moved, because Snakemake
        has already seen them.

    Returns
    -------
    Path
        The new folder below ``aside``; relative paths are kept.
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
    """Remove a folder and its parents below `top` as long as they are empty."""
    with contextlib.suppress(OSError):
        while folder != top:
            folder.rmdir()
            folder = folder.parent
