"""How a producer is slowed down before the queue is full: `Pace`, a passive rule."""

from __future__ import annotations

SMOOTHING = 0.4  # weight of the newest observation, as in `limits`
EASY = 0.5  # of the queue: up to here a producer does not wait
LONGEST = 0.5  # seconds of one wait; the rate is a guess, and after a pause a bad one


class Pace:
    """Spreads the wait for a full queue over the records before it.

    From half a queue on, a producer waits a share of the time that the writers need for its records:
    none at half, all of it when the queue is full, where it is as fast as they are.
    """

    def __init__(self, now: float) -> None:
        self._rate = 0.0  # records per second that the writers settle
        self._last = now

    def settled(self, records: int, now: float) -> None:
        """Learn from `records` that were written or rejected until `now`, a monotonic time in seconds."""
        if now > self._last:
            rate = records / (now - self._last)
            self._rate = rate if not self._rate else self._rate + SMOOTHING * (rate - self._rate)
            self._last = now

    def wait(self, records: int, filled: float) -> float:
        """Return for how many seconds to wait after `records` were put; `filled` is the queue, 0 … 1."""
        if filled <= EASY or not self._rate:
            return 0.0
        share = min(1.0, (filled - EASY) / (1 - EASY))
        return min(LONGEST, share * records / self._rate)
