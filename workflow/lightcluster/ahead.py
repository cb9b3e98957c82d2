"""Computing results ahead in threads, for example decoding images while others are processed."""

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
        Exceptions are raised in place of the result.
    items : iterable
    workers : int
        Number of threads.
    most : int
        Largest number of results that are waiting or being computed, which limits the memory.

    Yields
    ------
    result
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
