from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.backpressure import EASY, LONGEST, Pace


def paced(rate: int) -> Pace:
    pace = Pace(0.0)
    for second in range(1, 6):
        pace.settled(rate, float(second))
    return pace


def test_nobody_waits_up_to_half_a_queue_or_before_anything_is_known() -> None:
    assert paced(1_000).wait(500, EASY) == 0
    assert Pace(0.0).wait(500, 1.0) == 0


def test_a_full_queue_makes_the_producer_as_fast_as_the_writers() -> None:
    assert paced(10_000).wait(500, 1.0) == pytest.approx(0.05)
    assert paced(10_000).wait(500, 0.75) == pytest.approx(0.025)


def test_commits_at_one_instant_are_no_infinite_rate() -> None:
    pace = paced(1_000)
    pace.settled(1_000_000, 5.0)
    assert pace.wait(100, 1.0) == pytest.approx(0.1)


@given(st.integers(1, 10**7), st.floats(0, 3), st.integers(1, 10**6))
def test_a_wait_is_never_long(records: int, filled: float, rate: int) -> None:
    assert 0 <= paced(rate).wait(records, filled) <= LONGEST


def test_a_producer_and_a_slower_writer_settle_between_half_and_full() -> None:
    """Ten times as fast as its writers, it never meets a full queue."""
    pace, queue, bound, now = Pace(0.0), 0.0, 10_000, 0.0
    written_until, deepest = 0.0, 0.0
    for _ in range(2_000):
        queue += 100
        spent = 0.001 + pace.wait(100, queue / bound)  # without waits: 100,000 records a second
        now += spent
        if now - written_until >= 0.05:  # a batch every 0.05 s, 10,000 records a second
            batch = min(queue, (now - written_until) * 10_000)
            queue -= batch
            written_until = now
            pace.settled(int(batch), now)
        deepest = max(deepest, queue)
    assert bound / 2 < deepest < bound
