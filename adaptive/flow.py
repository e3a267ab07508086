"""The threads of one load: writers behind a bounded queue. The only wiring there is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from adaptive import limits
from adaptive.backpressure import Pace
from adaptive.batching import Adaptive, Batcher, Fixed, Policy, Tiers
from adaptive.budget import Budget
from adaptive.config import MAX_WRITERS, Settings
from adaptive.dead_letters import DeadLetterFile
from adaptive.delivery import Delivery, Identity, Outcome, Retry
from adaptive.errors import AdaptiveError, SinkError
from adaptive.metrics import Metrics
from adaptive.protocols import BatchSink, Limit, Mode
from adaptive.queue import Depth, Queue
from adaptive.rows import Batch, Chunk, Position
from adaptive.watermark import Watermark

log = logging.getLogger("adaptive")


class Flow:
    """Takes chunks in and has them written: `start`, `put`…, then `drain` or `abort`.

    Writers are threads with a sink each. Their number follows the limit: one more is started when
    it rises, the last one ends when it falls.
    """

    def __init__(
        self,
        make_sink: Callable[[], BatchSink],
        identity: Identity,
        dead_letters: DeadLetterFile,
        metrics: Metrics,
        settings: Settings,
        *,
        mode: Mode = "append",
        linger: float = threading.TIMEOUT_MAX,
        watermark: Watermark | None = None,
        rejected_before: int = 0,
        settled_before: int = 0,
        pull: Callable[[], None] | None = None,
        on_rejected: Callable[[Sequence[Position]], None] | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_sink, self._identity, self._dead_letters = make_sink, identity, dead_letters
        self.metrics, self._clock, self._on_rejected = metrics, clock, on_rejected
        self._budget = Budget.parse(settings.max_rejected)
        self._rejected, self._settled = rejected_before, settled_before
        self._stopping = threading.Event()
        self._retry = Retry(settings.max_retries, wait=self._wait)
        first = make_sink()
        self.queue = Queue(settings.queue_size, clock=clock, pull=pull)
        ceiling = min(limits.CEILING, max(1, self.queue.max_records // 4), first.max_rows or limits.CEILING)
        self.limit = _limit(settings, mode, first.max_writers, ceiling)
        self.batcher = Batcher(
            self.queue,
            _policy(settings, self.limit),
            linger=linger if settings.linger is None else settings.linger / 1000,
            max_records=first.max_rows,
            max_bytes=first.max_bytes,
            on_cut=self._note_cut,
        )
        self._backlog = False
        self._pace = pace
        self._watermark = watermark
        self._lock = threading.Lock()
        self._threads: dict[int, threading.Thread] = {}

    def start(self) -> None:
        """Start the writers."""
        with self._lock:
            self._start_missing()

    def put(self, chunk: Chunk) -> None:
        """Take a chunk in, waiting while the queue is full.

        Raises what stopped the writers.
        """
        before = self._clock()
        self.queue.put(chunk)
        now = self._clock()
        self.metrics.spent("reader", "waiting", now - before)
        self.took(chunk, now)
        if self._pace:
            self._wait(self._pace.wait(chunk.count, self.queue.filled))

    def took(self, chunk: Chunk, now: float) -> None:
        """Count a chunk that has entered the queue."""
        self.metrics.count("enqueue", chunk.count)
        self.metrics.depth(now, self.queue.depth.records)

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """Write what is there without lingering, while somebody waits for it."""
        with self._lock:
            self.batcher.hurry += 1
        self.queue.wake()
        try:
            yield
        finally:
            with self._lock:
                self.batcher.hurry -= 1

    def drain(self, timeout: float | None = None) -> None:
        """Write everything that was taken in, and end.

        Raises what stopped the writers, SinkError if they need more than `timeout` seconds.
        """
        self.queue.close()
        if not self.join(timeout):
            self.abort(SinkError("the database did not take the rest in time"))
        if error := self.queue.error:
            raise error

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the writers have ended; False if they need more than `timeout` seconds."""
        deadline = None if timeout is None else self._clock() + timeout
        while alive := self._alive():
            left = None if deadline is None else deadline - self._clock()
            if left is not None and left <= 0:
                return False
            alive[0].join(left)
        return True

    def abort(self, error: BaseException) -> None:
        """Stop at once: what is not committed is left to the next run."""
        self._stopping.set()
        self.queue.fail(error)
        if self._watermark:
            self._watermark.fail(error)

    def _alive(self) -> list[threading.Thread]:
        with self._lock:
            return [thread for thread in self._threads.values() if thread.is_alive()]

    def _start_missing(self) -> None:
        self._threads = {number: thread for number, thread in self._threads.items() if thread.is_alive()}
        for number in range(self.limit.writers):
            if number not in self._threads:
                thread = threading.Thread(
                    target=self._write, args=(number,), name=f"writer-{number}", daemon=True
                )
                self._threads[number] = thread
                thread.start()

    def _write(self, number: int) -> None:
        delivery = Delivery(
            self._make_sink(),
            self._identity,
            self._dead_letters,
            self.metrics,
            self._retry,
            on_overload=self._overloaded,
            clock=self._clock,
        )
        try:
            while number < self.limit.writers:
                before = self._clock()
                batch = self.batcher.next()
                taken = self._clock()
                self.metrics.spent("writer", "idle", taken - before)
                if batch is None:
                    break
                outcome = delivery.deliver(batch)
                self.metrics.spent("writer", "busy", self._clock() - taken)
                self._settle(batch, outcome)
        except BaseException as error:
            self.abort(error if isinstance(error, AdaptiveError) else _unexpected(error))
        finally:
            delivery.close()

    def _settle(self, batch: Batch, outcome: Outcome) -> None:
        now = self._clock()
        records = sum(chunk.count for chunk in batch.chunks)
        self.metrics.count("success", outcome.written)
        self.metrics.count("fail", len(outcome.rejected))
        self.metrics.count("duplicate", outcome.duplicates)
        accepted = [(chunk.accepted, chunk.count) for chunk in batch.chunks]
        self.metrics.committed(size=records, seconds=outcome.seconds, accepted=accepted, now=now)
        if self._on_rejected:
            self._on_rejected(outcome.rejected)
        if self._watermark:
            for segment in batch.segments:
                self._watermark.settle(segment.first, segment.last)
        with self._lock:
            self._rejected += len(outcome.rejected)
            self._settled += records
            if self._pace:
                self._pace.settled(records, now)
            self._adjust(batch, records, outcome.seconds, now)
            self._budget.check(self._rejected, self._settled)

    def _adjust(self, batch: Batch, records: int, seconds: float, now: float) -> None:
        full = records >= self.limit.rows or batch.nbytes >= self.batcher.max_bytes // 2
        self._note(
            self.limit.observe(rows=records, seconds=seconds, now=now, full=full, backlog=self._backlog)
        )

    def _overloaded(self) -> None:
        with self._lock:
            self._note(self.limit.overload())

    def _note(self, reason: str | None) -> None:
        """Note a change of the limits, and start the writers that it allows."""
        if reason:
            depth = self.queue.depth.records
            self.metrics.decided(self._clock(), depth, self.limit.rows, self.limit.writers, reason)
            log.debug("%s: %d rows, %d writers", reason, self.limit.rows, self.limit.writers)
            self._start_missing()

    def _note_cut(self, depth: Depth) -> None:
        self._backlog = (
            depth.records > self.queue.max_records // 2 or depth.nbytes > self.queue.max_bytes // 2
        )
        self.metrics.depth(self._clock(), self.queue.depth.records)

    def _wait(self, seconds: float) -> None:
        self._stopping.wait(seconds)


def _limit(settings: Settings, mode: Mode, max_writers: int | None, ceiling: int) -> Limit:
    # The last row of a key has to win: batches of one key may not overtake each other.
    most = 1 if mode in ("upsert", "ignore") else (max_writers or MAX_WRITERS)
    if settings.batch == "adaptive" and settings.writers is None:
        return limits.Controller(max_writers=min(most, MAX_WRITERS), ceiling=ceiling)
    return limits.Fixed(ceiling, min(most, settings.writers or 1))


def _policy(settings: Settings, limit: Limit) -> Policy:
    if settings.batch == "tiers":
        return Tiers()
    if settings.batch == "adaptive":
        return Adaptive(limit)
    return Fixed(int(settings.batch))


def _unexpected(error: BaseException) -> BaseException:
    if isinstance(error, OSError):
        return SinkError(f"{error.filename or 'the system'}: {error.strerror or error}")
    return error
