"""The controller: how large a batch may be and how many writers may be busy, from what it observes.

Slow start doubles the batch while full batches gain throughput (RabbitMQ's gen_batch_server
doubles when a full batch completes); afterwards both numbers move one step at a time and a step
that does not pay is taken back (the way Vector's adaptive request concurrency probes). Overload
halves the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOOR = 1_000  # the smallest "large" batch of the tiers
START = 12_500  # two doublings below the ceiling: small enough that the first rows appear at once
CEILING = 50_000  # COPY gained < 3 % above it (measured at 100,000), memory doubles
WORTH = 1.05  # a step has to gain this much throughput to be kept
SMOOTHING = 0.4  # weight of the newest observation, as in Vector
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
        self.writers = 1
        self._best: dict[tuple[int, int], float] = {}  # (rows, writers) → rows per second, smoothed
        self._since: float | None = None
        self._pending = 0
        self._settled = 0  # batches seen since the last step
        self._before: tuple[int, int] | None = None  # what the last step came from

    def observe(self, *, rows: int, seconds: float, now: float, full: bool, backlog: bool) -> str | None:
        """Learn from a committed batch; return why a number changed, or None.

        `seconds` is its transaction's time, `now` a monotonic time in seconds; `full` says that it
        reached the limit, `backlog` that more than half of the queue was waiting behind it.
        """
        if seconds > MAX_SECONDS and self.rows > self._floor:
            return self._step(
                max(self._floor, self.rows // 2), self.writers, f"a transaction took {seconds:.1f} s"
            )
        if not full:
            self._since = None  # the source was the limit: this says nothing about the database
            return None
        self._measure(rows, now)
        if self._settled < 2 * self.writers:
            return None
        return self._judge(backlog=backlog)

    def overload(self) -> str | None:
        """Halve the batch after an overload error; return the reason."""
        self._before = None
        return self._step(
            max(self._floor, self.rows // 2), max(1, self.writers - 1), "the database is overloaded"
        )

    def _measure(self, rows: int, now: float) -> None:
        self._settled += 1
        self._pending += rows
        if self._since is not None and now > self._since:
            rate = self._pending / (now - self._since)
            at = (self.rows, self.writers)
            self._best[at] = (
                rate if at not in self._best else SMOOTHING * rate + (1 - SMOOTHING) * self._best[at]
            )
        self._since, self._pending = now, 0

    def _judge(self, *, backlog: bool) -> str | None:
        rate = self._best.get((self.rows, self.writers), 0.0)
        if self._before is not None:
            rows, writers = self._before
            self._before = None
            if rate < WORTH * self._best.get((rows, writers), 0.0):
                return self._step(rows, writers, "the last step did not pay")
        if not backlog:
            return None
        for rows, writers, reason in (
            (self.rows, self.writers + 1, "the queue fills up: one more writer"),
            (self.rows * 2, self.writers, "the queue fills up: larger batches"),
        ):
            if writers <= self._max_writers and rows <= self._ceiling and (rows, writers) not in self._best:
                self._before = (self.rows, self.writers)
                return self._step(rows, writers, reason)
        return None

    def _step(self, rows: int, writers: int, reason: str) -> str | None:
        if (rows, writers) == (self.rows, self.writers):
            return None
        self.rows, self.writers = rows, writers
        self._settled, self._since, self._pending = 0, None, 0
        return reason
