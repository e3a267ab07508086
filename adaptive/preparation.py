"""What happens before the first row: which load it is, the table, its columns, and what is done already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from adaptive import columns
from adaptive.config import Settings, Target, keeps_keys, one_transaction
from adaptive.errors import AdaptiveError, RefusedError, SinkError, SourceError
from adaptive.identity import Input, LoadIdentity, day
from adaptive.isolation import first_line
from adaptive.ledger import Committed
from adaptive.patience import may_pass
from adaptive.protocols import Sink
from adaptive.result import LoadResult
from adaptive.rows import Column, Field


class Ready(NamedTuple):
    """A load that can begin: what `Sink.prepare` was given, its columns, and what is committed."""

    load: dict[str, Any]
    fields: list[Field]
    committed: Committed


class Preparation:
    """Makes a sink ready for a load of these inputs; repeating it is fine.

    Raises UsageError for settings that do not go together.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        target: Target,
        settings: Settings,
        types: Mapping[str, pa.DataType],
        *,
        replay: bool,
    ) -> None:
        self._inputs, self._target, self._settings = inputs, target, settings
        self._types, self._replay = types, replay
        self.identity = LoadIdentity(inputs, target)
        self.alone = one_transaction(target, settings)
        self._keeps_keys = keeps_keys(target)

    def start(self, sink: Sink, *, afresh: bool = False) -> Ready | LoadResult:
        """Prepare the sink, or return the result of a load that is done; `afresh`: none is resumed.

        Raises RefusedError, SourceError or the driver's error.
        """
        loads: Sequence[Mapping[str, Any]] = ()
        with suppress(LookupError):  # `prepare` says it better
            table = self._table(sink)
            self._filled(table)  # refused before the load is in the ledger
            loads = () if table is None else sink.loads()  # a table that is made starts afresh
        load = self.identity.choose(loads, self._settings, afresh=afresh) | {"keys": self._keeps_keys}
        fields = self._prepare(sink, load)
        if done := self._done(sink, load):
            return done
        committed = Committed(sink.receipts(load["load"]), retry_rejects=self._replay)
        if self._is_emptied(sink, committed.rows):
            if self._settings.again:
                return self.start(sink, afresh=True)
            raise self._emptied(committed.rows)
        return Ready(load, fields, committed)

    def fields(self, sink: Sink) -> list[Field]:
        """Return the columns that a load would fill, and change nothing.

        Raises RefusedError, SourceError or LookupError.
        """
        return self._filled(self._table(sink))

    def _table(self, sink: Sink) -> Sequence[tuple[Any, ...]] | None:
        """Return the columns of the target, none if any will do; None for a table that is to be made."""
        if "schemaless" in sink.capabilities:
            return []
        try:
            return sink.columns()
        except LookupError:
            if not self._target.create:
                raise
        return None

    def _filled(self, table: Sequence[tuple[Any, ...]] | None) -> list[Field]:
        return self._match(table or [(field.name, field.type) for field in self._schema])

    def _prepare(self, sink: Sink, load: dict[str, Any]) -> list[Field]:
        if self.alone and "transactional" not in sink.capabilities:
            raise RefusedError(
                f"{self._target.kind} cannot undo a load: say --at-least-once with --ledger off"
            )
        if "schemaless" in sink.capabilities:
            return self._match(sink.prepare(load, self._schema))
        try:
            return self._match(sink.prepare(load))
        except LookupError:  # no table, or no key in it: with --create the second attempt tells
            if not self._target.create:
                raise
        return self._match(sink.prepare(load, self._schema))

    def _match(self, found: Sequence[tuple[Any, ...]]) -> list[Field]:
        table = [Column(*column) for column in found]
        schema, *others = [item.source.schema() for item in self._inputs]
        for item, other in zip(self._inputs[1:], others, strict=True):
            if set(other.names) != set(schema.names):
                raise RefusedError(f"{item.source.name} has other columns than {self._inputs[0].source.name}")
        try:
            fields = columns.match(schema.names, table, self._target.table)
        except RefusedError as error:
            raise RefusedError(f"{self._inputs[0].source.name}: {error}") from error
        columns.check_key(self._target.idempotency_key, [field.column for field in fields])
        if self._target.mode in ("ignore", "upsert"):
            key = self._target.key or [column.name for column in table if column.key]
            columns.check_merge_key(key, [field.column.name for field in fields], self._target.mode)
        # Not for upsert, which would overwrite columns that the file does not have.
        late = self._inputs[0].source.sparse and self._target.mode != "upsert"
        return columns.widened(fields, table) if late else fields

    @cached_property
    def _schema(self) -> pa.Schema:
        inferred = self._inputs[0].source.infer()
        if unknown := sorted(self._types.keys() - set(inferred.names)):
            raise RefusedError(f"types: {self._inputs[0].source.name} has no column {', '.join(unknown)}")
        return pa.schema([field.with_type(self._types.get(field.name, field.type)) for field in inferred])

    def _done(self, sink: Sink, load: dict[str, Any]) -> LoadResult | None:
        if not self._target.has_ledger:
            return None
        row = next((row for row in sink.loads() if row["load"] == load["load"]), None)
        if row is None:
            raise RefusedError(f"load {load['load']} belongs to another table; give another --load-id")
        if row["state"] != "done":
            return None
        if self._is_emptied(sink, row["rows"]):
            raise self._emptied(row["rows"])
        return LoadResult(load["load"], self.identity.name, already=day(row))

    def _is_emptied(self, sink: Sink, rows: int) -> bool:
        return bool(rows) and self._target.mode != "replace" and sink.empty()

    def _emptied(self, rows: int) -> RefusedError:
        return RefusedError(
            f"table {self._target.table} is empty, but the ledger says that {rows:,} rows of "
            f"{self.identity.name} are in it; --again loads them again"
        )


@contextmanager
def refusing(sink: Sink) -> Iterator[None]:
    """Raise what happens before the first row as a RefusedError, or SinkError if it may pass."""
    try:
        yield
    except SourceError as error:
        raise RefusedError(str(error)) from error
    except AdaptiveError:
        raise
    except Exception as error:
        raise (SinkError if may_pass(sink, error) else RefusedError)(first_line(error)) from error
