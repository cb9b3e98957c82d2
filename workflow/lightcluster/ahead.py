"""Work that threads do ahead of the one who needs it: images are decoded while others are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def compute_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, most: int
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed ahead by threads.

    Parameters
    ----------
    function : callable
        Its exception is raised where its result would be yielded.
    items : iterable
    workers : int
        Threads.
    most : int
        Results that wait or are being computed at most: bounds the memory.
    """
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) >= most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
