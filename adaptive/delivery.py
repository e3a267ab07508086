"""Delivers one batch: begin with its receipt, write, isolate bad rows, dead letters, commit.

A frozen batch is one transaction and one receipt, whatever had to be isolated and however often it
has to be tried. After a lost connection the outcome is unknown until the same batch is begun again:
its receipt then waits for the earlier attempt and either goes in or is already there. A batch in
doubt is never split.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import tenacity

from adaptive.dead_letters import DeadLetter, DeadLetterFile
from adaptive.errors import AdaptiveError, SinkError, TakenOverError
from adaptive.idempotency import Once
from adaptive.isolation import Isolation, first_line
from adaptive.metrics import Metrics
from adaptive.patience import Retry
from adaptive.protocols import AGAIN, BatchSink, Rejection, Verdict
from adaptive.rows import Batch, Position, Reject, Row, mappings

log = logging.getLogger("adaptive")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which load a batch belongs to, and the name its rows have for people."""

    load: str
    owner: str
    files: Sequence[str]
    sink: str
    receipts: Literal["kept", "replaced", "none"] = "kept"  # a live producer's take each other's place
    idempotency_key: Sequence[str] = ()  # columns; none: every row is written
    by_position: bool = False  # the sink knows rows again by their positions in the receipt


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch's records."""

    written: int
    rejected: Sequence[Position]
    duplicates: int
    seconds: float  # of the transaction that committed


class DeliveryError(Exception):
    """An attempt failed; `verdict` is the sink's."""

    def __init__(self, verdict: Verdict, error: BaseException) -> None:
        super().__init__(str(error))
        self.verdict, self.error = verdict, error


class Delivery:
    """Delivers batches through one sink, one at a time."""

    def __init__(
        self,
        sink: BatchSink,
        identity: Identity,
        dead_letters: DeadLetterFile,
        metrics: Metrics,
        retry: Retry,
        *,
        on_overload: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_overload = on_overload
        self._sink, self._identity, self._dead_letters = sink, identity, dead_letters
        self._metrics, self._retry, self._clock = metrics, retry, clock
        self._open = False
        self._previous: str | None = None  # the receipt that the next one replaces
        self._earlier = 0  # rows that it stands for
        self._settled: Outcome | None = None  # of the attempt whose commit is in doubt
        self._overloads = 0  # that this batch has met

    def deliver(self, batch: Batch) -> Outcome:
        """Write a batch exactly once and return what became of it.

        Raises TakenOverError if another run owns the load, SinkError if the database stops it.
        """
        self._settled, self._overloads = None, 0
        retrying = self._retry.calling(_may_pass, self._note_retry)
        try:
            outcome: Outcome = retrying(self._attempt, batch)
        except DeliveryError as failure:
            raise self._final(failure) from failure.error
        if self._identity.receipts == "replaced":
            self._previous = batch.id
            self._earlier += outcome.written
        return outcome

    def close(self) -> None:
        """Disconnect; repeating it is fine."""
        self._open = False
        self._sink.close()

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, DeliveryError):
            self._metrics.count("retry")
            self._metrics.error("transient" if failure.verdict == "retry" else failure.verdict)
            if failure.verdict == "overload":
                self._overloads += 1
                self._on_overload()
            why = first_line(failure)
            log.warning("trying again: %s (attempt %d, %s)", why, state.attempt_number, failure.verdict)

    def _attempt(self, batch: Batch) -> Outcome:
        started = self._clock()
        with self._judged():
            if not self._open:
                self._sink.open()
                self._open = True
            if not self._sink.begin(self._receipt(batch)):
                return self._settled or Outcome(len(batch), (), 0, self._clock() - started)
            rejects, duplicates = self._write(batch)
            letters = [
                DeadLetter.of(split, reject, self._identity.files[split], self._identity.sink)
                for split, reject in [*batch.rejects, *rejects]
            ]
            self._dead_letters.append(letters)
            positions = [letter.position for letter in letters]
            written = len(batch) - len(rejects) - duplicates
            self._settled = Outcome(written, positions, duplicates, self._clock() - started)
            if letters or duplicates:
                self._sink.commit(positions, self._earlier + written)
            else:
                self._sink.commit()
            for letter in letters:
                self._metrics.error(letter.code)
            return replace(self._settled, seconds=self._clock() - started)

    @contextlib.contextmanager
    def _judged(self) -> Iterator[None]:
        try:
            yield
        except (AdaptiveError, OSError, MemoryError):
            self._sink.rollback()
            raise
        except Exception as error:
            verdict = self._sink.classify(error)
            if verdict == "reject":
                # Of a deferred constraint at commit: the next attempt has each write check them.
                verdict = "retry"
            self._sink.rollback()
            if verdict == "in_doubt" or not self._open:
                self.close()
            raise DeliveryError(verdict, error) from error

    def _receipt(self, batch: Batch, left_out: Collection[Position] = ()) -> dict[str, Any] | None:
        if self._identity.receipts == "none":
            return None
        return {
            "load": self._identity.load,
            "batch": batch.id,
            "owner": self._identity.owner,
            "segments": [list(segment) for segment in batch.segments],
            "rejected": [*((split, reject.ordinal) for split, reject in batch.rejects), *left_out],
            "rows": self._earlier + len(batch),
            "replaces": self._previous,
        }

    def _write(self, batch: Batch) -> tuple[list[tuple[int, Reject]], int]:
        """Write the rows; return what was rejected, with its split, and how many were there already."""
        duplicates = 0

        def write(piece: pa.Table | list[Row]) -> list[Rejection]:
            nonlocal duplicates
            found = self._sink.write_arrow(piece) if isinstance(piece, pa.Table) else self._sink.write(piece)
            duplicates += self._sink.duplicates
            return found

        rows = batch.rows()
        if not len(rows):
            return [], 0
        refused: Iterable[Rejection] = self._isolated(rows, write)
        if self._identity.idempotency_key:
            once = Once(rows, self._identity.idempotency_key, self._sink)
            refused = list(once.write(lambda chosen, turn: self._write_some(batch, turn, chosen, write)))
            duplicates += once.duplicates
        rejects: list[tuple[int, Reject]] = []
        for index, code, reason in refused:
            position = batch.position(index)
            rejects.append((position.split, Reject(position.ordinal, code, reason, values=_row(rows, index))))
        return rejects, duplicates

    def _write_some(
        self, batch: Batch, indexes: Sequence[int], rows: Any, write: Callable[[Any], list[Rejection]]
    ) -> Isolation:
        """Write some rows of a batch; a sink that goes by positions is told which the others have."""
        if self._identity.by_position and len(indexes) < len(batch):
            others = sorted(set(range(len(batch))).difference(indexes))
            self._sink.begin(self._receipt(batch, [batch.position(index) for index in others]))
        return self._isolated(rows, write)

    def _isolated(self, rows: Any, write: Callable[[Any], list[Rejection]]) -> Isolation:
        """Return the writing of rows, in smaller pieces after overloads; transaction and receipt stay one."""
        return Isolation(rows, write, self._sink, most=max(1, len(rows) >> self._overloads))

    def _final(self, failure: DeliveryError) -> AdaptiveError:
        error = failure.error
        if failure.verdict == "taken_over":
            return TakenOverError("taken over by another run of the same load")
        if failure.verdict == "in_doubt":
            return SinkError(f"the connection is lost and does not come back: {first_line(error)}")
        return SinkError(first_line(error))


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, DeliveryError) and error.verdict in AGAIN


def _row(rows: Any, index: int) -> Row:
    found: Row = mappings(rows.slice(index, 1))[0] if isinstance(rows, pa.Table) else rows[index]
    return found
