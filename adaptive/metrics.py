"""What a load did, in numbers. Always `success + fail + duplicate + rejection = enqueue`."""

from __future__ import annotations

import math
import resource
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

GROWTH = 1.05  # neighbouring buckets of a histogram differ by 5 %: percentiles are that exact


class Histogram:
    """Durations in milliseconds, weighted, in constant memory."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._sum = 0.0

    def add(self, milliseconds: float, weight: int = 1) -> None:
        """Count `weight` events of this duration."""
        bucket = math.ceil(math.log(max(milliseconds, 1e-3), GROWTH))
        self._buckets[bucket] += weight
        self._sum += milliseconds * weight

    @property
    def mean(self) -> float:
        """Return the weighted mean in milliseconds, 0 without events."""
        return self._sum / total if (total := self._buckets.total()) else 0.0

    def percentile(self, share: float) -> float:
        """Return the duration in milliseconds that `share` (0 … 1) of the events do not exceed."""
        wanted = share * self._buckets.total()
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                return GROWTH**bucket
        return 0.0


@dataclass(frozen=True)
class Decision:
    """A change of the limits: when (seconds since the start), at what depth, to what, why."""

    at_seconds: float
    depth: int
    batch_rows: int
    writers: int
    reason: str


@dataclass(frozen=True)
class Snapshot:
    """The metrics at one moment; counts are records, latencies milliseconds, depths records.

    Latency runs from taking a record in to its commit; database latency is one transaction.
    """

    timestamp: str
    duration_seconds: float
    enqueue_count: int
    success_count: int
    fail_count: int
    retry_count: int
    duplicate_count: int
    rejection_count: int
    resumed_count: int
    throughput_tps: float
    mean_latency_ms: float
    p50_latency_ms: float
    p95_latency_ms: float
    p99_latency_ms: float
    mean_database_latency_ms: float
    p50_database_latency_ms: float
    p95_database_latency_ms: float
    p99_database_latency_ms: float
    avg_queue_depth: float
    peak_queue_depth: int
    queue_depth_over_time: Sequence[tuple[float, int]]
    batch_sizes: dict[int, int]
    worker_shares: dict[str, dict[str, float]]
    peak_memory_mb: float
    error_classification: dict[str, int]
    decisions: Sequence[Decision] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain values for JSON."""
        return {**asdict(self), "batch_sizes": {str(size): n for size, n in self.batch_sizes.items()}}


class Metrics:
    """Counts what happens; safe to use from several threads. Times are monotonic seconds."""

    def __init__(self, started: float) -> None:
        self.started = started
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._sizes: Counter[int] = Counter()
        self._latency, self._database = Histogram(), Histogram()
        self._depths: list[tuple[float, int]] = []
        self._depth_every = 1  # a sample is kept out of so many, so that the list stays below 1,000
        self._depth_seen, self._depth_sum, self._depth_peak = 0, 0, 0
        self._spent: dict[str, dict[str, float]] = {}
        self._decisions: list[Decision] = []

    def count(self, name: str, records: int = 1) -> None:
        """Add to `enqueue`, `success`, `fail`, `retry`, `duplicate`, `rejection` or `resumed`."""
        with self._lock:
            self._counts[name] += records

    def total(self, name: str) -> int:
        """Return a count."""
        with self._lock:
            return self._counts[name]

    def error(self, kind: str) -> None:
        """Count an error of a class: transient, in_doubt, or a reject's code."""
        with self._lock:
            self._errors[kind] += 1

    def committed(
        self, *, size: int, seconds: float, accepted: Sequence[tuple[float, int]], now: float
    ) -> None:
        """Note a committed batch: its records, its transaction's time, and when they were accepted."""
        with self._lock:
            self._sizes[size] += 1
            self._database.add(seconds * 1000)
            for at, records in accepted:
                self._latency.add((now - at) * 1000, records)

    def depth(self, now: float, records: int) -> None:
        """Note the depth of the queue."""
        with self._lock:
            self._depth_seen += 1
            self._depth_sum += records
            self._depth_peak = max(self._depth_peak, records)
            if self._depth_seen % self._depth_every == 0:
                self._depths.append((round(now - self.started, 3), records))
            if len(self._depths) >= 1_000:
                self._depths = self._depths[::2]
                self._depth_every *= 2

    def spent(self, worker: str, state: str, seconds: float) -> None:
        """Add to the time workers of a kind (parser, writer) were busy, idle or waiting."""
        with self._lock:
            states = self._spent.setdefault(worker, {})
            states[state] = states.get(state, 0.0) + seconds

    def decided(self, now: float, depth: int, batch_rows: int, writers: int, reason: str) -> None:
        """Note a change of the limits."""
        with self._lock:
            self._decisions.append(Decision(round(now - self.started, 3), depth, batch_rows, writers, reason))

    def snapshot(self, now: float) -> Snapshot:
        """Return the metrics from the start to `now`."""
        with self._lock:
            counts, latency, database = self._counts, self._latency, self._database
            duration = max(now - self.started, 1e-9)
            return Snapshot(
                timestamp=datetime.now(UTC).isoformat(),
                duration_seconds=duration,
                enqueue_count=counts["enqueue"],
                success_count=counts["success"],
                fail_count=counts["fail"],
                retry_count=counts["retry"],
                duplicate_count=counts["duplicate"],
                rejection_count=counts["rejection"],
                resumed_count=counts["resumed"],
                throughput_tps=counts["success"] / duration,
                mean_latency_ms=latency.mean,
                mean_database_latency_ms=database.mean,
                p50_latency_ms=latency.percentile(0.50),
                p95_latency_ms=latency.percentile(0.95),
                p99_latency_ms=latency.percentile(0.99),
                p50_database_latency_ms=database.percentile(0.50),
                p95_database_latency_ms=database.percentile(0.95),
                p99_database_latency_ms=database.percentile(0.99),
                avg_queue_depth=self._depth_sum / self._depth_seen if self._depth_seen else 0.0,
                peak_queue_depth=self._depth_peak,
                queue_depth_over_time=list(self._depths),
                batch_sizes=dict(sorted(self._sizes.items())),
                worker_shares={worker: _shares(states) for worker, states in self._spent.items()},
                peak_memory_mb=_peak_memory_mb(),
                error_classification=dict(self._errors),
                decisions=list(self._decisions),
            )


def _peak_memory_mb() -> float:
    """Return the most memory that this process has held, in MB.

    From Linux's own record: `ru_maxrss` (KB there, bytes on macOS) begins with the peak of the process
    that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _shares(states: dict[str, float]) -> dict[str, float]:
    total = sum(states.values()) or 1.0
    return {state: round(seconds / total, 4) for state, seconds in states.items()}
