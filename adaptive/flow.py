"""The threads of one load: writers behind a bounded queue. The only wiring there is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from adaptive import limits
from adaptive.backpressure import Pace
from adaptive.batching import Adaptive, Batcher, Fixed, Policy, Tiers
from adaptive.budget import Budget
from adaptive.config import MAX_WRITERS, Settings
from adaptive.dead_letters import DeadLetterFile
from adaptive.delivery import Delivery, Identity, Outcome
from adaptive.errors import AdaptiveError, SinkError
from adaptive.isolation import first_line
from adaptive.metrics import Metrics
from adaptive.patience import Retry
from adaptive.protocols import BatchSink, Limit, Mode
from adaptive.queue import Depth, Queue
from adaptive.rows import Batch, Chunk, Position
from adaptive.watermark import Watermark

log = logging.getLogger("adaptive")

LOOK_SECONDS = 0.5  # between two looks whether somebody has lost patience with the writers


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
        self._retry = Retry(settings.max_retries, wait=self._stopping.wait, stopped=self._stopping.is_set)
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
        self._threads: list[threading.Thread] = []
        self._writing: set[int] = set()  # the numbers of the writers that go on

    def start(self) -> None:
        """Start the writers."""
        with self._lock:
            self._start_missing()

    def put(self, chunk: Chunk) -> None:
        """Take a chunk in, waiting while the queue is full.

        Raises what stopped the writers.
        """
        self.wait_for_room()
        self.offer(chunk)

    def wait_for_room(self) -> None:
        """Wait while the queue is full. Raises what stopped the writers."""
        before = self._clock()
        self.queue.wait_for_room()
        self.metrics.spent("reader", "waiting", self._clock() - before)

    def offer(self, chunk: Chunk) -> None:
        """Take a chunk in, however full the queue is. Raises what stopped the writers."""
        self.queue.offer(chunk)
        self.metrics.count("enqueue", chunk.count)
        self.metrics.depth(self._clock(), self.queue.depth.records)

    def pace(self, records: int) -> None:
        """Let a producer that asked for it wait as long as the writers need for its records."""
        if self._pace:
            self._stopping.wait(self._pace.wait(records, self.queue.filled))

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

    def drain(self, hurried: threading.Event | None = None, grace: float = threading.TIMEOUT_MAX) -> None:
        """Write everything that was taken in, and end.

        Raises what stopped the writers, SinkError if they need more than `grace` seconds from the moment
        that `hurried` is set.
        """
        self.queue.close()
        if not self._ended(hurried or threading.Event(), grace):
            self.abort(SinkError("the database did not take the rest in time"))
        if error := self.queue.error:
            raise error

    def stop(self, error: BaseException, grace: float) -> None:
        """Abort, and wait up to `grace` seconds for what is under way."""
        self.abort(error)
        self._ended(self._stopping, grace)

    def _ended(self, hurried: threading.Event, grace: float) -> bool:
        """Wait until the writers have ended; False if they need more than `grace` seconds in a hurry."""
        deadline = None
        while alive := self._alive():
            now = self._clock()
            if hurried.is_set():
                deadline = deadline or now + grace
            if deadline and now >= deadline:
                return False
            alive[0].join(LOOK_SECONDS)
        return True

    def abort(self, error: BaseException) -> None:
        """Stop at once: what is not committed is left to the next run."""
        self._stopping.set()
        self.queue.fail(error)
        if self._watermark:
            self._watermark.fail(error)

    def _alive(self) -> list[threading.Thread]:
        with self._lock:
            return [thread for thread in self._threads if thread.is_alive()]

    def _start_missing(self) -> None:
        for number in range(self.limit.writers):
            if number not in self._writing:
                self._writing.add(number)
                thread = threading.Thread(
                    target=self._write, args=(number,), name=f"writer-{number}", daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def _goes_on(self, number: int) -> bool:
        with self._lock:
            if number >= self.limit.writers:
                self._writing.discard(number)
            return number in self._writing

    def _write(self, number: int) -> None:
        try:
            with closing(self._delivery()) as delivery:
                while self._goes_on(number) and self._write_next(delivery):
                    pass
        except BaseException as error:
            self.abort(error if isinstance(error, AdaptiveError) else _unexpected(error))

    def _delivery(self) -> Delivery:
        return Delivery(
            self._make_sink(),
            self._identity,
            self._dead_letters,
            self.metrics,
            self._retry,
            on_overload=self._overloaded,
            clock=self._clock,
        )

    def _write_next(self, delivery: Delivery) -> bool:
        """Write the next batch; False at the end of the input."""
        before = self._clock()
        batch = self.batcher.next()
        taken = self._clock()
        self.metrics.spent("writer", "idle", taken - before)
        if batch is None:
            return False
        outcome = delivery.deliver(batch)
        self.metrics.spent("writer", "busy", self._clock() - taken)
        self._settle(batch, outcome)
        return True

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
    """Return what stops the load instead of an error that nobody expects of a sink."""
    if isinstance(error, OSError):
        failure = SinkError(f"{error.filename or 'the system'}: {error.strerror or error}")
    elif isinstance(error, MemoryError):
        failure = SinkError("there is not enough memory")
    elif isinstance(error, Exception):
        failure = SinkError(f"{type(error).__name__}: {first_line(error)} (--log-level debug says where)")
    else:
        return error
    failure.__cause__ = error
    return failure
