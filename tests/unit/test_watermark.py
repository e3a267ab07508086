from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.watermark import Watermark

PATIENCE = 30


@given(st.data(), st.sets(st.integers(1, 50), min_size=1))
def test_the_mark_is_the_first_record_not_settled(data: st.DataObject, edges: set[int]) -> None:
    segments = [(a, b - 1) for a, b in pairwise([0, *sorted(edges)])]
    mark, settled = Watermark(), set[int]()
    mark.fail(TimeoutError())  # so that `wait` raises instead of waiting
    for first, last in data.draw(st.permutations(segments)):
        mark.settle(first, last)
        settled.update(range(first, last + 1))
        height = next(n for n in range(52) if n not in settled)
        mark.wait(height)
        with pytest.raises(TimeoutError):
            mark.wait(height + 1)


def test_nothing_put_is_nothing_to_wait_for() -> None:
    Watermark().wait(0)


def test_a_thread_waits_until_every_record_below_is_settled() -> None:
    mark, looked = Watermark(), threading.Semaphore(0)
    wait = mark._moved.wait

    def noted(timeout: float | None = None) -> bool:
        looked.release()
        return wait(timeout)

    mark._moved.wait = noted
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(mark.wait, 3)
        try:
            assert looked.acquire(timeout=PATIENCE)
            mark.settle(1, 2)
            assert looked.acquire(timeout=PATIENCE)  # it looked and waits again
            assert not done.done()
            mark.settle(0, 0)
            done.result(PATIENCE)
        finally:
            mark.fail(TimeoutError())


def test_the_first_failure_is_raised_by_all_who_wait_later() -> None:
    mark = Watermark()
    mark.settle(0, 4)
    mark.fail(ValueError("first"))
    mark.fail(ValueError("second"))
    mark.wait(5)
    for _ in range(2):
        with pytest.raises(ValueError, match="first"):
            mark.wait(6)
