"""`adaptive.Pipeline`: records that a program produces, into a table, while it runs."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self

from adaptive import columns
from adaptive.backpressure import Pace
from adaptive.config import LEDGER, Settings, Target, columns_of, keeps_keys, one_transaction, open_sink
from adaptive.dead_letters import DeadLetterFile, default_path
from adaptive.delivery import Identity
from adaptive.errors import AdaptiveError, InterruptedLoadError, QueueFull, UsageError
from adaptive.flow import Flow
from adaptive.metrics import Metrics, Snapshot
from adaptive.patience import Retry, finish, patiently
from adaptive.preparation import refusing
from adaptive.protocols import Mode
from adaptive.rows import Chunk, Column, Row
from adaptive.sources.rows import size_of
from adaptive.watermark import Watermark

COLLECT = 500  # records a busy producer collects before it takes the queue's lock


class Pipeline:
    """Takes records in with `put` and writes them in the background, in batches of fitting size.

    `put` means accepted in memory; `flush`, or leaving the `with` block without an error, means
    durable or dead-lettered. Records are not copied: do not change one that was put. Any number of
    threads may put. `idempotency_key` and `idempotency_store` are those of `adaptive.load`. Raises
    RefusedError if the table cannot be loaded as it is.
    """

    def __init__(
        self,
        to: str,
        *,
        table: str,
        mode: Mode = "append",
        key: str | Sequence[str] = (),
        ledger: str = LEDGER,
        idempotency_key: str | Sequence[str] = (),
        idempotency_store: str | None = None,
        settings: Settings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = Target(
            to, table, mode, columns_of(key), ledger=ledger,
            idempotency_key=columns_of(idempotency_key), idempotency_store=idempotency_store,
        )  # fmt: skip
        self._clock = clock
        self._load = {
            "load": secrets.token_hex(8), "fingerprint": "", "source": "live", "mapping": "{}",
            "owner": secrets.token_hex(16), "splits": [0],
            "keys": keeps_keys(self._target),
        }  # fmt: skip
        self._buffer: list[Row] = []
        self._accepted = 0.0  # when the first record of the buffer came
        self._next = 0
        self._in_doubt = 0  # records that were being handed over when a signal came
        self._closed = False
        self._lock = threading.Lock()
        self._watermark = Watermark()
        settings = settings or Settings()
        self._retry = Retry(settings.max_retries)
        if one_transaction(self._target, settings):
            raise UsageError("records that keep coming cannot be one transaction: say at_least_once, too")
        self._collect = min(COLLECT, settings.queue_size)
        self._hands_back = settings.on_full == "reject"
        name = self._load["load"]
        header = {"load": name, "format": "rows", "target": self._target.place}
        self._flow = Flow(
            self._target.writer,
            Identity(
                str(name),
                str(self._load["owner"]),
                ["live"],
                self._target.kind,
                "replaced" if self._target.has_ledger else "none",
                self._target.idempotency_key,
                self._target.by_position,
            ),
            DeadLetterFile(settings.dead_letters or default_path(header), header),
            Metrics(clock()),
            settings,
            mode=mode,
            linger=0.0,
            watermark=self._watermark,
            pull=self._pull,
            pace=Pace(clock()) if settings.on_full == "slow" else None,
            clock=clock,
        )
        self._prepare()
        self._flow.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(self, record: Row) -> None:
        """Take a record in; if the queue is full, do what the setting `on_full` says (wait).

        Raises what stopped the writers (SinkError, TakenOverError, TooManyRejectsError), QueueFull, TypeError
        for a record that is no mapping, or UsageError after `close`: then the record was not taken.
        """
        if error := self._flow.queue.error:
            raise error
        if not isinstance(record, Mapping):
            raise TypeError(f"a record is a mapping of column to value, not {type(record).__name__}")
        with self._lock:
            if self._closed:
                raise UsageError("the pipeline is closed")
            if self._hands_back and self._is_full():
                self._hand_back()
            if not self._buffer:
                self._accepted = self._clock()
            self._buffer.append(dict(record))  # as it is now: a producer may fill the same one again
            if len(self._buffer) >= self._collect:
                self._push_when_there_is_room()
        # After the lock is free: a writer that went hungry meanwhile could not pull the record itself.
        if self._flow.queue.hungry:
            with self._lock:
                self._push_when_there_is_room()

    def flush(self) -> None:
        """Wait until everything put before is durable or dead-lettered.

        Raises what stopped the writers, or InterruptedLoadError if a signal had `put` lose records.
        """
        with self._lock:
            self._push_when_there_is_room()
            upto = self._next
        with self._flow.hurry():
            self._watermark.wait(upto)
        self._report()

    def close(self) -> None:
        """Write what was put, and end. Repeating it is fine.

        Raises what stopped the writers, or InterruptedLoadError if a signal had `put` lose records.
        """
        with self._lock:
            if self._closed:
                return
            self._push_when_there_is_room()
            self._closed = True
        self._flow.drain()
        if self._target.has_ledger:
            with closing(self._target.sink()) as sink:
                finish(sink, self._load, self._retry)
        self._report()

    def metrics(self) -> Snapshot:
        """Return the metrics so far."""
        return self._flow.metrics.snapshot(self._clock())

    def _prepare(self) -> None:
        with closing(self._target.sink()) as sink:
            open_sink(sink, self._target.url)
            with refusing(sink):
                found = patiently(sink, lambda sink: sink.prepare(self._load), self._retry)
            if "schemaless" not in sink.capabilities:
                columns.check_key(self._target.idempotency_key, [Column(*column) for column in found])

    def _is_full(self) -> bool:
        queue = self._flow.queue
        return queue.filled >= 1 or queue.depth.records + len(self._buffer) >= queue.max_records

    def _hand_back(self) -> None:
        for name in ("enqueue", "rejection"):
            self._flow.metrics.count(name)
        raise QueueFull("the queue is full: the record was not taken")

    def _pull(self) -> None:
        """Give a waiting writer what is in the buffer, unless a producer is doing so."""
        if self._buffer and self._lock.acquire(blocking=False):
            try:
                self._push()
            finally:
                self._lock.release()

    def _push_when_there_is_room(self) -> None:
        """Hand the buffer over; a signal's exception leaves the buffer as it is while this waits."""
        if count := len(self._buffer):
            self._flow.wait_for_room()
            self._push()
            self._flow.pace(count)

    def _push(self) -> None:
        """Hand the buffer over; an exception of a signal in these few steps leaves it in doubt."""
        if not (rows := self._buffer):
            return
        first, upto = self._next, self._next + len(rows)
        chunk = Chunk(first, len(rows), rows, nbytes=size_of(rows), accepted=self._accepted)
        try:
            self._buffer, self._next = [], upto
            self._flow.offer(chunk)
        except AdaptiveError:
            raise
        except BaseException:
            self._in_doubt += len(rows)
            self._watermark.settle(first, upto - 1)  # `flush` would wait for them for ever
            raise

    def _report(self) -> None:
        if count := self._in_doubt:
            self._in_doubt = 0
            raise InterruptedLoadError(f"interrupted while records were handed over: {count} may be missing")
