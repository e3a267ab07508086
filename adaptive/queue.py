"""The bounded queue between parsers and writers: FIFO, thread-safe, bounded in records and bytes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from adaptive.rows import Chunk

# Four of the largest batches (50,000 records) keep every writer busy while parsers fill up again;
# the bytes keep a client with several writers under 350 MB.
MAX_RECORDS = 200_000
MAX_BYTES = 64 << 20


class Depth(NamedTuple):
    """What waits in the queue, and whether more can come."""

    records: int
    nbytes: int
    closed: bool


class Queue:
    """Chunks in the order they were put.

    `pull` is called by a writer that finds too little: it may put chunks that a producer still
    collects (see `Pipeline.put`). It must not block.
    """

    def __init__(
        self,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
        *,
        clock: Callable[[], float] = time.monotonic,
        pull: Callable[[], None] | None = None,
    ) -> None:
        self.max_records, self.max_bytes = max_records, max_bytes
        self.hungry = 0  # writers that look or wait for records
        self._clock, self._pull = clock, pull
        self._chunks: deque[Chunk] = deque()
        self._records = self._nbytes = 0
        self._closed = False
        self._error: BaseException | None = None
        self._lock = threading.RLock()
        self._not_full = threading.Condition(self._lock)
        self._not_empty = threading.Condition(self._lock)

    @property
    def depth(self) -> Depth:
        """Return what waits now."""
        with self._lock:
            return Depth(self._records, self._nbytes, self._closed)

    @property
    def filled(self) -> float:
        """Return how much of the queue is taken: 1 when `put` waits, and more after `offer`."""
        with self._lock:
            return max(self._records / self.max_records, self._nbytes / self.max_bytes)

    @property
    def error(self) -> BaseException | None:
        """Return the error given to `fail`."""
        return self._error

    def put(self, chunk: Chunk) -> None:
        """Append a chunk, waiting while the queue is full.

        Raises the error given to `fail`.
        """
        with self._lock:
            self.wait_for_room()
            self._append(chunk)

    def wait_for_room(self) -> None:
        """Wait while the queue is full.

        Raises the error given to `fail`.
        """
        with self._lock:
            while self._full() and not self._closed and not self._error:
                self._not_full.wait()
            if self._error:
                raise self._error

    def offer(self, chunk: Chunk) -> None:
        """Append a chunk without waiting, for a producer that bounds what it collects.

        Raises the error given to `fail`.
        """
        with self._lock:
            self._append(chunk)

    def take(self, size: Callable[[Depth], int], linger: float, max_bytes: int) -> list[Chunk] | None:
        """Remove the oldest records, as many as `size` says of the depth; None at the end.

        Waits until that many are there, `max_bytes` are there, `linger` seconds have passed since
        the first of them was accepted, or the queue is closed. Raises the error given to `fail`.
        """
        with self._lock:
            self.hungry += 1  # before the look: a producer that comes too late for `pull` sees it
            try:
                while not (wanted := self._ready(size, linger, max_bytes)):
                    if self._closed and not self._chunks:
                        return None
                    self._wait_for_more(linger)
                return self._remove(wanted, max_bytes)
            finally:
                self.hungry -= 1

    def close(self) -> None:
        """Say that no more comes; what waits can still be taken."""
        with self._lock:
            self._closed = True
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Make every present and future `put` and `take` raise `error` (the first one given)."""
        with self._lock:
            self._error = self._error or error
            self._wake()

    def wake(self) -> None:
        """Let waiting writers look again."""
        with self._lock:
            self._wake()

    def _full(self) -> bool:
        # A chunk larger than the bounds may still go into an empty queue.
        return bool(self._chunks) and (self._records >= self.max_records or self._nbytes >= self.max_bytes)

    def _append(self, chunk: Chunk) -> None:
        if self._error:
            raise self._error
        if self._closed:
            raise RuntimeError("the queue is closed")
        self._chunks.append(chunk)
        self._records += chunk.count
        self._nbytes += chunk.nbytes
        self._not_empty.notify()

    def _ready(self, size: Callable[[Depth], int], linger: float, max_bytes: int) -> int:
        if self._error:
            raise self._error
        if self._pull:
            self._pull()
        if not self._chunks:
            return 0
        wanted = max(1, size(Depth(self._records, self._nbytes, self._closed)))
        complete = (
            self._records >= wanted
            or self._nbytes >= max_bytes
            or self._full()
            or self._closed
            or self._clock() - self._chunks[0].accepted >= linger
        )
        return wanted if complete else 0

    def _wait_for_more(self, linger: float) -> None:
        if self._chunks:
            left = linger - (self._clock() - self._chunks[0].accepted)
            self._not_empty.wait(min(left, threading.TIMEOUT_MAX))
        else:
            self._not_empty.wait()

    def _remove(self, wanted: int, max_bytes: int) -> list[Chunk]:
        taken: list[Chunk] = []
        room = max_bytes
        while self._chunks and wanted > 0:
            chunk = self._chunks[0]
            fits = min(wanted, room * chunk.count // chunk.nbytes) if chunk.nbytes > room else wanted
            if fits < 1 and taken:
                break
            chunk = self._remove_first(max(1, fits))
            taken.append(chunk)
            wanted -= chunk.count
            room -= chunk.nbytes
        self._not_full.notify_all()
        if self._chunks:
            self._not_empty.notify()
        return taken

    def _remove_first(self, most: int) -> Chunk:
        chunk = self._chunks.popleft()
        self._nbytes -= chunk.nbytes
        if most < chunk.count:
            chunk, rest = chunk.cut(most)
            self._chunks.appendleft(rest)
            self._nbytes += rest.nbytes
        self._records -= chunk.count
        return chunk

    def _wake(self) -> None:
        self._not_full.notify_all()
        self._not_empty.notify_all()
