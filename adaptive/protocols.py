"""The contracts between the pipeline and what plugs into it: sources, sinks, limits.

They are structural: nothing inherits from them. Files under `sinks/` do not even import them, so
that each one can be copied alone into another project; everything that crosses the sink contract
is a plain tuple, dict, str or Arrow object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import pyarrow as pa

from adaptive.rows import Chunk, Field, Row

Mode = Literal["append", "ignore", "upsert", "replace"]
Capability = Mode | Literal["arrow", "transactional", "create", "schemaless", "keys", "tables"]
Verdict = Literal["retry", "overload", "in_doubt", "reject", "fatal", "taken_over"]
AGAIN: frozenset[Verdict] = frozenset({"retry", "overload", "in_doubt"})  # it may succeed another time
Rejection = tuple[int, str, str]  # index of the row in what was written, code, reason


class Source(Protocol):
    """One input of a load: a file or a stream, read once from start to end.

    `read` runs in one thread and does what must be serial; `parse` runs in parser workers, several
    calls at once, and does the rest. Between them goes a raw piece whose type is the source's own.
    """

    name: str  # for people: a path or "-"; holds no password
    format: str
    sparse: bool  # a record may bring a column that `schema` does not have

    @property
    def consumed(self) -> int:
        """Return how far `read` has come, in the unit of `total`."""

    @property
    def total(self) -> int | None:
        """Return the bytes of the file, or its rows where `read` counts those; None if unknown."""

    def schema(self) -> pa.Schema:
        """Return the columns' names and natural types; text formats say string for every column.

        Raises UsageError for an input without columns, SourceError if it cannot be read.
        """

    def infer(self) -> pa.Schema:
        """Return types that every value of the whole input satisfies (string where none fits)."""

    def read(self) -> Iterator[Any]:
        """Yield raw pieces in source order.

        Raises SourceError where the input cannot be read any further; all pieces before that
        point have been yielded by then.
        """

    def parse(self, raw: Any, fields: Sequence[Field]) -> Chunk:
        """Return the records of a raw piece, cast to the fields' column types.

        Ordinals count from 0 here; the pipeline moves them to their place in the split. Bad records
        become rejects; nothing about their neighbours changes. Raises nothing for bad data.
        """


class BatchSink(Protocol):
    """The part of a sink that writes batches, in one thread.

    Order of calls: `open`, then any number of transactions `begin` … `write`* … `commit` or
    `rollback`, then `close`. Calls on one instance never overlap.
    """

    max_rows: int | None  # hard bound of one write
    max_bytes: int | None
    max_writers: int | None

    @property
    def doomed(self) -> bool:
        """Return whether the transaction can only be rolled back."""

    @property
    def duplicates(self) -> int:
        """Return how many rows of the last write mode ignore left out."""

    def open(self) -> None:
        """Connect. Changes nothing on the server but temporary objects."""

    def close(self) -> None:
        """Disconnect, rolling back what is open. Repeating it is fine; raises nothing."""

    def begin(self, receipt: Mapping[str, Any] | None = None) -> bool:
        """Open a transaction whose first statement is the receipt.

        `receipt` holds `load`, `batch`, `owner`, `segments`, `rejected` (positions within them that have
        no row), `rows` and `replaces` (the batch whose receipt this one takes the place of, or None). So
        the rows of the following writes, in order, have the positions that are left.

        Waits for an earlier attempt at the same batch that is still open. Returns False, with nothing
        open, if this batch is already committed. Raises an error that `classify` calls "taken_over" if
        the splits have another owner.

        A sink that is not "transactional" may be begun again before a write, with more in `rejected`.
        """

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Enter idempotency keys of the table; return those that were not there. After `begin`.

        Waits for claims under way of the same keys, and sorts them first, so that writers cannot deadlock.
        Claims are committed and rolled back with the rows; a write that fails takes none back. A key has
        at most 200 bytes of UTF-8 and no NUL; what differs in one byte is another key. Only of a sink with
        the capability "keys".
        """

    def release(self, keys: Sequence[str]) -> None:
        """Take back keys that this transaction has claimed, since their rows are not written."""

    def write(self, rows: Sequence[Row]) -> list[Rejection]:
        """Write mappings of column to value, and return the rows it refused while it wrote the others.

        A sink that cannot tell them apart is all or nothing and raises the driver's error; the
        transaction stays usable unless `doomed` is true.
        """

    def write_arrow(self, rows: pa.Table) -> list[Rejection]:
        """Write a table whose columns have the types that `prepare` returned. As `write`."""

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Make the transaction durable. `rejected` and `rows` (written) correct the receipt.

        Deferred constraints are checked first, so that their failure leaves the rows to be isolated.
        """

    def rollback(self) -> None:
        """Drop the transaction. Raises nothing on a dead connection."""

    def hint(self, error: BaseException) -> int | None:
        """Return the index of the row that caused an error of `write`, if the error says so."""

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means.

        "retry": nothing was applied and it may pass; "overload": the same, and less at once would
        help; "in_doubt": the outcome is unknown; "reject": the data is bad; "fatal": configuration,
        schema or rights; "taken_over": see `begin`.
        """


class Sink(BatchSink, Protocol):
    """A writer of one table in one database. One instance per writer thread, always.

    Made as `sink(url, *, table=None, mode="append", key=(), ledger="_adaptive")`. The ledger's tables
    are `<ledger>_loads`, `<ledger>_splits` and `<ledger>_ledger`, in the table's schema unless the name
    is qualified; with None there is no ledger: `prepare` looks after the table only, `loads` and
    `receipts` are empty, `finish` does nothing, and mode `replace` is refused with ValueError.

    "keys": idempotency keys are kept in `<ledger>_keys` (target, key, claimed_at), beside the ledger.
    A database whose own types say less than a load's (SQLite) remembers those in `<ledger>_types`.

    "transactional": rows and receipt are committed together, and `rollback` undoes both. A sink without
    it makes rows recognisable by their position instead, and the receipt follows them. "schemaless":
    a table takes any column and need not exist; `prepare` is given the source's schema, and returns it.
    "tables": `beside` gives sinks for further tables, so that one commit covers several.

    The coordinator of a load uses an instance of its own for `prepare`, `loads`, `receipts` and `finish`.
    """

    capabilities: frozenset[Capability]

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def prepare(self, load: Mapping[str, Any], schema: pa.Schema | None = None) -> Sequence[tuple[Any, ...]]:
        """Make ready for a load, under a lock of the database, and return the table's columns.

        `load` holds `load` (id), `fingerprint`, `source`, `mapping` (texts), `owner` (random text)
        and `splits` (list of int), perhaps `keys` (true: idempotency keys will be claimed). Checks
        rights; makes the ledger tables, with `keys` that of the keys, and with `schema` the missing
        table, of which no key is known; takes the splits over for `owner`; drops stray staging tables; starts
        `replace`. A load that is already done is left alone. Returns tuples as in `rows.Column`.

        Raises LookupError if the table is missing and `schema` is None, PermissionError if a right
        is missing (the text names it), otherwise the driver's error.
        """

    def beside(self, table: str, *, mode: Mode = "append", key: Sequence[str] = ()) -> Sink:
        """Return a sink for another table that writes within this one's transactions.

        It uses this sink's connection and has no ledger: after `prepare` here, `prepare` there looks after
        its table; between `begin` and `commit` here, `write` there writes. `open`, `begin`, `commit`,
        `rollback` and `close` are this one's, and so is the verdict on a transaction (`doomed`). Raises
        ValueError for mode `replace`. Only of a sink with the capability "tables".
        """

    def columns(self) -> Sequence[tuple[Any, ...]]:
        """Return the table's columns as `prepare` does, and change nothing.

        Raises LookupError if the table is missing.
        """

    def loads(self) -> list[dict[str, Any]]:
        """Return the rows of `_adaptive_loads` for the table ([] if there is no ledger), oldest first.

        Keys: load, fingerprint, source, mapping, target, mode, state ("running" or "done"), rows,
        rejected, started_at, finished_at (datetime with zone or None).
        """

    def empty(self) -> bool:
        """Return whether the table has no rows."""

    def receipts(self, load: str) -> list[tuple[list[list[int]], int, list[list[int]]]]:
        """Return what is committed: segments `[split, first, last]`, rows, rejected `[split, ordinal]`.

        Of a load that is done they may be fewer and wider: its state says that nothing is missing.
        """

    def finish(self, load: Mapping[str, Any]) -> None:
        """End a load: swap `replace` in, compact receipts, mark it done, in one transaction.

        Checks ownership like `begin`. Blocks until durable; repeating it is fine.
        """

    def doctor(self) -> list[str]:
        """Return findings in words: version, rights, and the statements that would mend what is missing."""


class Limit(Protocol):
    """A passive rule for how much is in flight: numbers in, numbers out."""

    @property
    def rows(self) -> int:
        """Return the rows of the next large batch."""

    @property
    def writers(self) -> int:
        """Return how many writers may be busy."""

    def observe(self, *, rows: int, seconds: float, now: float, full: bool, backlog: bool) -> str | None:
        """Learn from a committed batch; return the reason if a number changed.

        `seconds` is its transaction's time, `now` a monotonic time; `full` says that the batch
        reached the limit, `backlog` that more than half of the queue waited behind it.
        """

    def overload(self) -> str | None:
        """Learn from an overload error; return the reason if a number changed."""
