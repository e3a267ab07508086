"""How many records the next batch holds, from the depth of the queue.

Policies are passive: they turn numbers into a number. `Batcher` applies one to a queue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from adaptive.protocols import Limit
from adaptive.queue import Depth, Queue
from adaptive.rows import Batch

Tier = Literal["single", "small", "medium", "large"]


class Policy(Protocol):
    """A rule that gives the size of the next batch in records."""

    def size(self, depth: Depth) -> int:
        """Return how many records the next batch should hold."""


@dataclass(frozen=True, slots=True)
class Tiers:
    """Four sizes by queue depth: below 100 single, below 1,000 small, up to 10,000 medium, above large.

    Thresholds and sizes in records. Source: requirement R6.
    """

    small_from: int = 100
    medium_from: int = 1_000
    large_above: int = 10_000
    small: int = 100
    medium: int = 500
    large: int = 1_000

    def name(self, depth: int) -> Tier:
        """Return the name of the tier for a depth in records."""
        if depth < self.small_from:
            return "single"
        if depth < self.medium_from:
            return "small"
        return "medium" if depth <= self.large_above else "large"

    def size(self, depth: Depth) -> int:
        """Return the size of the tier for the depth."""
        sizes = {"single": 1, "small": self.small, "medium": self.medium, "large": self.large}
        return sizes[self.name(depth.records)]


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same size, in records; the last batch may be smaller."""

    records: int

    def size(self, depth: Depth) -> int:  # noqa: ARG002 - the depth does not matter here
        """Return the fixed size."""
        return self.records


@dataclass(frozen=True, slots=True)
class Adaptive:
    """As large as a limit allows, which a controller sets from what it observes.

    How long a batch waits to be that large is the batcher's `linger`: without one it takes whatever
    waits, so that the depth of the queue decides.
    """

    limit: Limit

    def size(self, depth: Depth) -> int:  # noqa: ARG002 - the batcher takes what is there
        """Return the limit."""
        return self.limit.rows


class Batcher:
    """Cuts batches from a queue by a policy, within bounds of records and bytes."""

    def __init__(
        self,
        queue: Queue,
        policy: Policy,
        *,
        linger: float,
        max_records: int | None = None,
        max_bytes: int | None = None,
        on_cut: Callable[[Depth], None] | None = None,
    ) -> None:
        self._queue, self._policy, self._linger = queue, policy, linger
        self._max_records = max_records or queue.max_records
        # A quarter of the queue: what parsers add and writers take at the same time stays in bounds.
        self.max_bytes = min(max_bytes or queue.max_bytes, queue.max_bytes // 4)
        self._on_cut = on_cut
        self.hurry = 0  # how many wait in `flush`: write what is there

    def next(self) -> Batch | None:
        """Return the next batch, waiting for one; None at the end of the input.

        Raises the error that stopped the queue.
        """
        seen = Depth(0, 0, closed=False)

        def size(depth: Depth) -> int:
            nonlocal seen
            seen = depth
            wanted = min(self._policy.size(depth), self._max_records)
            return min(wanted, depth.records) if self.hurry else wanted

        chunks = self._queue.take(size, self._linger, self.max_bytes)
        if chunks is None:
            return None
        batch = Batch(tuple(chunks))
        if self._on_cut:
            self._on_cut(seen)
        return batch
