"""The progress bar of long work: items done, items per second, time left."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], description: str, total: int | None = None, unit: str = "image"
) -> Iterator[Item]:
    """Yield `items`, drawing a bar on stderr: often on a terminal, every few seconds in a log."""
    terminal = sys.stderr.isatty()
    yield from tqdm(
        items,
        desc=description,
        total=total,
        unit=unit,
        file=sys.stderr,
        mininterval=0.1 if terminal else 5.0,
        ascii=not terminal,
        dynamic_ncols=terminal,
    )
