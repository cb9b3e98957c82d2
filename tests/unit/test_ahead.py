"""Work that threads do ahead."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightcluster.ahead import compute_ahead


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(), max_size=30), st.integers(1, 4), st.integers(1, 8))
def test_results_come_in_order(items, workers, most):
    results = compute_ahead(lambda item: 2 * item, items, workers=workers, most=most)
    assert list(results) == [2 * item for item in items]


def test_no_more_than_so_many_are_ahead():
    started, lock = [], threading.Lock()

    def note(item: int) -> int:
        with lock:
            started.append(item)
        return item

    results = compute_ahead(note, range(100), workers=3, most=5)
    for taken in range(1, 20):
        next(results)
        time.sleep(0.002)
        assert len(started) <= taken + 5


def test_an_exception_is_raised_in_its_place():
    results = compute_ahead(lambda item: 1 / item, [2, 1, 0, 1], workers=2, most=2)
    assert next(results) == 0.5
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_nobody_waits_for_is_not_computed():
    started = []
    results = compute_ahead(started.append, range(1000), workers=1, most=3)
    next(results)
    results.close()
    assert len(started) <= 5
