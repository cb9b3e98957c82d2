"""The progress bar of long work: items done, items per second, time left."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(
    items: Iterable[Item],
    description: str,
    total: int | None = None,
    unit: str = "image",
    done: int = 0,
) -> Iterator[Item]:
    """Yield `items`, drawing a bar on stderr: often on a terminal, every few seconds in a log.

    On a terminal, what is done within a second has no bar.

    `done`: how many of `total` were done before.
    """
    yield from tqdm(
        items, total=total, unit=unit, initial=done,
        delay=_AT_ONCE if sys.stderr.isatty() else 0, **_style(description),
    )  # fmt: skip


def bytes_bar(description: str, total: int) -> tqdm[Any]:
    """Return a bar, likewise, for bytes; it appears if they take more than a few seconds."""
    return tqdm(
        total=total, unit="B", unit_scale=True, delay=_PATIENCE, leave=False, **_style(description)
    )


_AT_ONCE, _PATIENCE = 1.0, 3.0


def _style(description: str) -> dict[str, Any]:
    terminal = sys.stderr.isatty()
    return {
        "desc": description,
        "file": sys.stderr,
        "mininterval": 0.1 if terminal else 5.0,
        "ascii": not terminal,
        "dynamic_ncols": terminal,
    }
