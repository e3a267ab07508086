"""Runs one load: identify, prepare, resume, feed, finish."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from adaptive import feeder
from adaptive.budget import Budget
from adaptive.config import Settings, Target, open_sink
from adaptive.dead_letters import DeadLetter, DeadLetterFile, default_path
from adaptive.delivery import Identity
from adaptive.errors import AdaptiveError, InterruptedLoadError, SinkError, SourceError
from adaptive.flow import Flow
from adaptive.identity import Input
from adaptive.ledger import Committed
from adaptive.metrics import Metrics
from adaptive.patience import Retry, finish, patiently
from adaptive.preparation import Preparation, Ready, refusing
from adaptive.protocols import BatchSink, Sink, Source
from adaptive.result import LoadResult
from adaptive.rows import Chunk, Field
from adaptive.single_transaction import SingleTransaction
from adaptive.types import reading_word

UNDONE = "nothing is written: without a ledger a load is one transaction"
LOOK = "look whether the rows are there before you load them again"
RESUMES = "; the same command resumes the load"
INTERRUPTED = f"interrupted{RESUMES}"
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
        self._observe, self._replay = observe, replay
        self._preparation = Preparation(inputs, target, settings, types, replay=replay)
        self._identity = self._preparation.identity
        self._budget = Budget.parse(settings.max_rejected)
        self._retry = Retry(settings.max_retries)
        self.table = target.table
        self._interrupted = threading.Event()
        self.busy = False  # records are taken in: an interruption lets them be written

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
            with refusing(sink):
                ready = patiently(sink, self._preparation.start, self._retry)
            if isinstance(ready, LoadResult):
                return ready
            if self._preparation.alone:
                return self._feed_alone(sink, ready)
            result = self._feed(ready, self._target.writer)
            if not self._replay:
                self._finish(sink, ready.load, result)
            return result
        finally:
            sink.close()

    def _check(self, sink: Sink) -> LoadResult:
        """Read everything as the table's types, or the inferred ones, and write nothing but dead letters."""
        with refusing(sink):
            fields = self._preparation.fields(sink)
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

    def interrupt(self) -> None:
        """Stop reading; `run` writes what was taken in and raises InterruptedLoadError."""
        self._interrupted.set()

    def _feed_alone(self, sink: Sink, ready: Ready) -> LoadResult:
        """Load everything in one transaction, which nothing but its commit makes visible."""
        result = None
        with closing(self._target.keyed(sink)) as keyed:
            single = SingleTransaction(keyed)
            try:
                result = self._feed(ready, lambda: single)
                self.busy = True
                single.end()
            except AdaptiveError as error:
                result = error.result or result
                if result and result.dead_letters and not single.in_doubt:  # as undone as what it wrote
                    Path(result.dead_letters).unlink(missing_ok=True)
                known = LOOK if single.in_doubt else UNDONE
                raise type(error)(f"{str(error).removesuffix(RESUMES)}; {known}") from error
            finally:
                self.busy = False
            return result

    def _feed(self, ready: Ready, make_sink: Callable[[], BatchSink]) -> LoadResult:
        load, fields, committed = ready
        started = time.monotonic()
        metrics = Metrics(started)
        metrics.count("resumed", len(committed))
        header = {
            "load": load["load"],
            "source": self._identity.name,
            **self._identity.form,
            "target": self._target.place,
            "timezone": self._inputs[0].timezone,
            "columns": [f.column.name for f in fields],
            "names": [f.source for f in fields],
            "types": [reading_word(f.column.type) for f in fields],
            "idempotency_store": self._target.idempotency_store,
        }
        letters = DeadLetterFile(self._settings.dead_letters or default_path(header), header)
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
            stopped = type(error) in (SinkError, AdaptiveError)  # by the database, or its dead letters
            if stopped and self._target.has_ledger and self._identity.known:
                error.args = (f"{error}{RESUMES}",)
            raise
        return result()

    def _pump(self, flow: Flow, fields: list[Field], committed: Committed, metrics: Metrics) -> None:
        """Put what is not settled into the flow and have it written."""
        self.busy = True
        try:
            flow.start()
            broken = self._put_all(flow, fields, committed, metrics)
            flow.drain(self._interrupted, GRACE)
        except InterruptedLoadError as error:  # by a second signal, which waits for nobody
            flow.abort(error)
            raise
        finally:
            self.busy = False
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
            flow.stop(error, GRACE)
            raise
        return None

    def _chunks(self, flow: Flow, fields: list[Field], metrics: Metrics) -> Iterator[Chunk]:
        for split, item in enumerate(self._inputs):
            self._observe(flow, item.source)
            yield from feeder.chunks(item.source, split, fields, self._settings.parsers, metrics)

    def _finish(self, sink: Sink, load: dict[str, Any], result: LoadResult) -> None:
        """Mark the load done; an error carries what came of it."""
        try:
            finish(sink, load, self._retry)
        except AdaptiveError as error:
            error.result = result
            raise
