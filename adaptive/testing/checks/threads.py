"""Checks of what happens at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LONG_ENOUGH = 0.2  # seconds for what does not wait; a machine slower than that only misses a fault


def side_by_side(count: int, work: Callable[[int], None]) -> None:
    """Call a function with 0 … count - 1 in threads of their own; raise what they raised."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def waits(work: Callable[[], T], until: Callable[[], None]) -> T:
    """Call a function that has to wait until another one is called; return what it returns."""
    done: list[T] = []
    waiting = threading.Thread(target=lambda: done.append(work()))
    waiting.start()
    waiting.join(LONG_ENOUGH)
    waited = waiting.is_alive()
    until()
    waiting.join()
    assert waited, "it did not wait"
    return done[0]
