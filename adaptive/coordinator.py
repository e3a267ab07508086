"""Runs one load: identify, prepare, resume, feed, finish."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import tenacity

from adaptive import columns, feeder
from adaptive.budget import Budget
from adaptive.config import Settings, Target, keeps_keys, one_transaction, open_sink
from adaptive.dead_letters import DeadLetter, DeadLetterFile
from adaptive.delivery import AGAIN, Identity
from adaptive.errors import (
    AdaptiveError,
    InterruptedLoadError,
    RefusedError,
    SinkError,
    SourceError,
    TakenOverError,
)
from adaptive.flow import Flow
from adaptive.identity import Input, LoadIdentity, day
from adaptive.isolation import first_line
from adaptive.ledger import Committed
from adaptive.metrics import Metrics
from adaptive.protocols import BatchSink, Sink, Source
from adaptive.result import LoadResult
from adaptive.rows import Chunk, Column, Field
from adaptive.single_transaction import SingleTransaction

UNDONE = "nothing is written: without a ledger a load is one transaction"
INTERRUPTED = "interrupted; the same command resumes the load"
STREAM_LINGER = 1.0  # seconds that rows of a stream wait for a full batch; files wait as long as it takes
GRACE = 30.0  # seconds that accepted rows get to be written after an interruption


class Coordinator:
    """One load: its inputs are its splits, in order.

    A `replay` is never done: what it rejects may be mended and tried again.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        target: Target,
        settings: Settings,
        *,
        types: Mapping[str, pa.DataType],
        observe: Callable[[Flow, Source], None],
        replay: bool = False,
    ) -> None:
        self._inputs, self._target, self._settings = inputs, target, settings
        self._types, self._observe, self._replay = types, observe, replay
        self._budget = Budget.parse(settings.max_rejected)
        self.table = target.table
        self._identity = LoadIdentity(inputs, target)
        self._alone = one_transaction(target, settings)
        self._keeps_keys = keeps_keys(target)
        self._interrupted = threading.Event()
        self.reading = False  # records are taken in: an interruption has to have them written

    def run(self) -> LoadResult:
        """Load what is not loaded yet, and return what came of it.

        Raises RefusedError before the first row; SourceError, SinkError or TooManyRejectsError
        (with `result` set) when something stopped it after that.
        """
        sink = self._target.sink()
        try:
            open_sink(sink, self._target.url)
            if self._settings.dry_run:
                return self._check(sink)
            with _refusing(sink):
                load = self._identity.choose(sink.loads(), self._settings) | {"keys": self._keeps_keys}
                fields = self._prepare(sink, load)
                if done := self._done(sink, load):
                    return done
                committed = Committed(sink.receipts(load["load"]), retry_rejects=self._replay)
                self._refuse_emptied(sink, committed.rows)
            if self._alone:
                return self._feed_alone(sink, load, fields)
            result = self._feed(load, fields, committed, self._target.writer)
            if not self._replay:
                self._finish(sink, load, result)
            return result
        finally:
            sink.close()

    def _check(self, sink: Sink) -> LoadResult:
        """Read everything as the table's types, or the inferred ones, and write nothing but dead letters."""
        with _refusing(sink):
            fields = self._match(self._columns(sink))
        metrics = Metrics(time.monotonic())
        letters: list[DeadLetter] = []
        for split, item in enumerate(self._inputs):
            for chunk in feeder.chunks(item.source, split, fields, self._settings.parsers, metrics):
                metrics.count("enqueue", chunk.count)
                name, kind = item.source.name, self._target.kind
                letters += [DeadLetter.of(split, reject, name, kind) for reject in chunk.rejects]
        return LoadResult(
            "dry run", self._identity.name, metrics.total("enqueue") - len(letters), dry_run=letters,
            seconds=time.monotonic() - metrics.started,
        )  # fmt: skip

    def _columns(self, sink: Sink) -> list[Column]:
        """Return the table's columns, or those that the load would make it with."""
        try:
            if "schemaless" not in sink.capabilities:
                return [Column(*column) for column in sink.columns()]
        except LookupError:
            if not self._target.create:
                raise
        return [Column(field.name, field.type) for field in self._schema()]

    def interrupt(self) -> None:
        """Stop reading; `run` writes what was taken in and raises InterruptedLoadError."""
        self._interrupted.set()

    def _prepare(self, sink: Sink, load: dict[str, Any]) -> list[Field]:
        if self._alone and "transactional" not in sink.capabilities:
            raise RefusedError(
                f"{self._target.kind} cannot undo a load: say --at-least-once with --ledger off"
            )
        if "schemaless" in sink.capabilities:
            return self._match([Column(*column) for column in sink.prepare(load, self._schema())])
        try:
            found = sink.prepare(load)
        except LookupError:  # no table, or no key in it: with --create the second attempt tells
            if not self._target.create:
                raise
            found = sink.prepare(load, self._schema())
        return self._match([Column(*column) for column in found])

    def _match(self, table: list[Column]) -> list[Field]:
        schema, *others = [item.source.schema() for item in self._inputs]
        for item, other in zip(self._inputs[1:], others, strict=True):
            if set(other.names) != set(schema.names):
                raise RefusedError(f"{item.source.name} has other columns than {self._inputs[0].source.name}")
        fields = columns.match(schema.names, table, self._target.table)
        columns.check_key(self._target.idempotency_key, [field.column for field in fields])
        # Not for upsert, which would overwrite columns that the file does not have.
        late = self._inputs[0].source.sparse and self._target.mode != "upsert"
        return columns.widened(fields, table) if late else fields

    def _schema(self) -> pa.Schema:
        inferred = self._inputs[0].source.infer()
        return pa.schema([field.with_type(self._types.get(field.name, field.type)) for field in inferred])

    def _done(self, sink: Sink, load: dict[str, Any]) -> LoadResult | None:
        if not self._target.has_ledger:
            return None
        row = next((row for row in sink.loads() if row["load"] == load["load"]), None)
        if row is None:
            raise RefusedError(f"load {load['load']} belongs to another table; give another --load-id")
        if row["state"] != "done":
            return None
        self._refuse_emptied(sink, row["rows"])
        return LoadResult(load["load"], self._identity.name, already=day(row))

    def _refuse_emptied(self, sink: Sink, rows: int) -> None:
        if rows and self._target.mode != "replace" and sink.empty():
            raise RefusedError(
                f"table {self._target.table} is empty, but the ledger says that {rows:,} rows of "
                f"{self._identity.name} are in it; --again loads them again"
            )

    def _feed_alone(self, sink: Sink, load: dict[str, Any], fields: list[Field]) -> LoadResult:
        """Load everything in one transaction, which nothing but its commit makes visible."""
        with closing(self._target.keyed(sink)) as keyed:
            single = SingleTransaction(keyed)
            try:
                result = self._feed(load, fields, Committed([]), lambda: single)
            except AdaptiveError as error:
                if error.result:  # what it rejected is as undone as what it wrote
                    Path(error.result.dead_letters).unlink(missing_ok=True)
                raise type(error)(f"{error}; {UNDONE}") from error
            single.end()
            return result

    def _feed(
        self,
        load: dict[str, Any],
        fields: list[Field],
        committed: Committed,
        make_sink: Callable[[], BatchSink],
    ) -> LoadResult:
        started = time.monotonic()
        metrics = Metrics(started)
        metrics.count("resumed", len(committed))
        letters = DeadLetterFile(
            self._settings.dead_letters or f"./{load['load']}.rejected.jsonl",
            {
                "load": load["load"],
                "source": self._identity.name,
                **self._identity.form,
                "timezone": self._inputs[0].timezone,
                "columns": [f.column.name for f in fields],
                "names": [f.source for f in fields],
                "idempotency_store": self._target.idempotency_store,
            },
        )
        rejected = set() if self._replay else set(committed.rejected)
        flow = Flow(
            make_sink,
            Identity(
                load["load"],
                load["owner"],
                [i.source.name for i in self._inputs],
                self._target.kind,
                "kept" if self._target.has_ledger else "none",
                self._target.idempotency_key,
                self._target.by_position,
            ),
            letters,
            metrics,
            self._settings,
            mode=self._target.mode,
            linger=threading.TIMEOUT_MAX if all(i.content for i in self._inputs) else STREAM_LINGER,
            rejected_before=len(rejected),
            settled_before=len(committed),
            on_rejected=rejected.update,
        )

        def result() -> LoadResult:
            snapshot = metrics.snapshot(time.monotonic())
            return LoadResult(
                load["load"], self._identity.name, snapshot.success_count, snapshot.duplicate_count,
                len(committed), snapshot.duration_seconds, frozenset(rejected), letters.path,
                metrics=snapshot,
            )  # fmt: skip

        try:
            self._pump(flow, fields, committed, metrics)
            self._budget.check(len(rejected), len(committed) + metrics.total("enqueue"), ended=True)
        except AdaptiveError as error:
            error.result = result()
            raise
        return result()

    def _pump(self, flow: Flow, fields: list[Field], committed: Committed, metrics: Metrics) -> None:
        """Put what is not settled into the flow and have it written."""
        self.reading = True
        try:
            flow.start()
            broken = self._put_all(flow, fields, committed, metrics)
            flow.drain(GRACE if self._interrupted.is_set() else None)
        except InterruptedLoadError as error:  # by a second signal, which waits for nobody
            flow.abort(error)
            raise
        finally:
            self.reading = False
        if broken:
            raise broken
        if self._interrupted.is_set():
            raise InterruptedLoadError(INTERRUPTED)

    def _put_all(
        self, flow: Flow, fields: list[Field], committed: Committed, metrics: Metrics
    ) -> SourceError | None:
        """Put the records up to the end, an interruption or a break of the input, which is returned."""
        try:
            for chunk in self._chunks(flow, fields, metrics):
                for part in committed.missing(chunk):
                    flow.put(part)
                if self._interrupted.is_set():
                    break
        except SourceError as error:
            return error
        except InterruptedLoadError:
            raise
        except BaseException as error:
            flow.abort(error)
            flow.join(GRACE)
            raise
        return None

    def _chunks(self, flow: Flow, fields: list[Field], metrics: Metrics) -> Iterator[Chunk]:
        for split, item in enumerate(self._inputs):
            self._observe(flow, item.source)
            yield from feeder.chunks(item.source, split, fields, self._settings.parsers, metrics)

    def _finish(self, sink: Sink, load: dict[str, Any], result: LoadResult) -> None:
        """Mark the load done; its connection was idle all the time and may be gone by now."""

        def attempt() -> None:
            sink.open()
            sink.finish(load)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: sink.classify(error) in AGAIN),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=10),
            stop=tenacity.stop_after_attempt(self._settings.max_retries + 1),
            before_sleep=lambda _: sink.close(),
            reraise=True,
        )
        try:
            retrying(attempt)
        except Exception as error:
            failure: AdaptiveError = SinkError(first_line(error))
            if isinstance(error, AdaptiveError):
                failure = error
            elif sink.classify(error) == "taken_over":
                failure = TakenOverError("taken over by another run of the same load")
            failure.result = result
            raise failure from error


@contextmanager
def _refusing(sink: Sink) -> Iterator[None]:
    """Raise what happens before the first row as a RefusedError, or SinkError if it may pass."""
    try:
        yield
    except SourceError as error:
        raise RefusedError(str(error)) from error
    except AdaptiveError:
        raise
    except Exception as error:
        passing = not isinstance(error, OSError) and sink.classify(error) in AGAIN
        raise (SinkError if passing else RefusedError)(first_line(error)) from error
