"""The controller: how large a batch may be and how many writers may be busy, from what it observes.

At first every full batch doubles the size (as in RabbitMQ's gen_batch_server) while transactions
stay short. Then, while the queue fills up, one number moves one step at a time: one more writer, or
a batch of twice the size. A step that does not pay is taken back (the way Vector's adaptive request
concurrency probes) and not tried again. Overload and transactions that take too long halve the
batch for good. So the search ends.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOOR = 1_000  # the smallest "large" batch of the tiers
START = 12_500  # two doublings below the ceiling: small enough that the first rows appear at once
START_WRITERS = 2  # one writes while the other commits: 1,000,000 rows of CSV took 10 to 20 % less time
CEILING = 50_000  # COPY gained < 3 % above it (measured at 100,000), memory doubles
WORTH = 1.05  # a step has to gain this much throughput to be kept
SMOOTHING = 0.4  # weight of the newest observation, as in Vector
ROUNDS = 4  # batches of each writer for a measurement; with 3, 10 % of noise can cost a quarter of the rate
SLOW_START_SECONDS = 0.5  # doubling goes on while a batch takes less; a commit alone may take 0.05 s
MAX_SECONDS = 2.0  # a transaction that takes longer holds locks and receipts for too long


@dataclass(slots=True)
class Fixed:
    """A limit that never moves."""

    rows: int = CEILING
    writers: int = 1

    def observe(self, *, rows: int, seconds: float, now: float, full: bool, backlog: bool) -> str | None:
        """Learn nothing."""

    def overload(self) -> str | None:
        """Learn nothing."""


class Controller:
    """Sets rows per batch (`floor` … `ceiling`) and writers (1 … `max_writers`)."""

    def __init__(
        self, *, max_writers: int, floor: int = FLOOR, start: int = START, ceiling: int = CEILING
    ) -> None:
        self._floor, self._ceiling, self._max_writers = min(floor, ceiling), ceiling, max_writers
        self.rows = min(start, ceiling)
        self.writers = min(START_WRITERS, max_writers)
        self._rates: dict[tuple[int, int], float] = {}  # (rows, writers) → rows per second
        self._batches = 0  # full ones in a row since the last step
        self._since = 0.0  # the commit that the measurement began with
        self._pending = 0  # rows committed after it
        self._before: tuple[int, int] | None = None  # what the last step came from
        self._starting = True

    def observe(self, *, rows: int, seconds: float, now: float, full: bool, backlog: bool) -> str | None:
        """Learn from a committed batch; return why a number changed, or None.

        `seconds` is its transaction's time, `now` a monotonic time in seconds; `full` says that it
        reached the limit, `backlog` that more than half of the queue was waiting behind it.
        """
        if not full:
            self._batches = 0  # the source was the limit: this says nothing about the database
            return None
        if rows > self.rows:
            return None  # it was cut before the last step
        if seconds > MAX_SECONDS and self.rows > self._floor:
            return self._shorten(f"a transaction took {seconds:.1f} s")
        if self._starting:
            return self._double(seconds)
        if self._measure(rows, now):
            return self._judge(backlog=backlog)
        return None

    def overload(self) -> str | None:
        """Halve the batch after an overload error; return the reason."""
        self._max_writers = max(1, self.writers - 1)
        return self._halve(self._max_writers, "the database is overloaded")

    def _double(self, seconds: float) -> str | None:
        self._starting = seconds < SLOW_START_SECONDS and 2 * self.rows <= self._ceiling
        return self._step(2 * self.rows, self.writers, "slow start") if self._starting else None

    def _shorten(self, reason: str) -> str | None:
        if self._before is None:
            return self._halve(self.writers, reason)
        before, self._before = self._before, None
        self._rates[self.rows, self.writers] = 0.0  # the step was too much: it is not tried again
        return self._step(*before, reason)

    def _halve(self, writers: int, reason: str) -> str | None:
        self._before = None
        self._ceiling = max(self._floor, self.rows // 2)  # what was too much once is not tried again
        return self._step(self._ceiling, writers, reason)

    def _measure(self, rows: int, now: float) -> bool:
        """Count a batch; return whether the rate of the present limits has been measured.

        The first batch of every writer was under way during the last step. The rate is taken over
        the whole rounds after it: commits of several writers come in bursts, so that the time
        between two of them says nothing.
        """
        self._batches += 1
        if self._batches <= self.writers:
            self._since, self._pending = now, 0
            return False
        self._pending += rows
        if self._batches < ROUNDS * self.writers or now <= self._since:
            return False
        rate = self._pending / (now - self._since)
        at = (self.rows, self.writers)
        self._rates[at] = rate + (1 - SMOOTHING) * (self._rates.get(at, rate) - rate)
        self._batches, self._since, self._pending = self.writers, now, 0
        return True

    def _judge(self, *, backlog: bool) -> str | None:
        if self._before is not None:
            before, self._before = self._before, None
            rows, writers = before
            if self._rates[self.rows, self.writers] < WORTH * self._rates[before]:
                return self._step(rows, writers, "the last step did not pay")
        if not backlog:
            return None
        for rows, writers, reason in (
            (self.rows, self.writers + 1, "the queue fills up: one more writer"),
            (self.rows * 2, self.writers, "the queue fills up: larger batches"),
        ):
            if writers <= self._max_writers and rows <= self._ceiling and (rows, writers) not in self._rates:
                self._before = (self.rows, self.writers)
                return self._step(rows, writers, reason)
        return None

    def _step(self, rows: int, writers: int, reason: str) -> str | None:
        if (rows, writers) == (self.rows, self.writers):
            return None
        self.rows, self.writers = rows, writers
        self._batches = 0
        return reason
