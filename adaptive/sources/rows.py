"""The rows source: records that Python produces, as mappings of column to value."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from adaptive.errors import InterruptedLoadError, UsageError
from adaptive.rows import Chunk, Field, Row

PIECE = 5_000  # records handed on at once: < 1 % overhead for each, < 5 MB held
SAMPLE = 1_000  # records that names and types are taken from


class RowsSource:
    """Records from any iterable, read once.

    Column names, and types where a table is to be made, come from the first 1,000 records. Values go to the
    driver as they are. An error of the iterable comes after the records before it.
    """

    name = "rows"
    format = "rows"
    sparse = False
    total: int | None = None

    def __init__(self, records: Iterable[Row]) -> None:
        self._records: Iterator[Row] = iter(records)
        self._break: Exception | None = None
        self._first = self._next(SAMPLE)
        self._names = list(dict.fromkeys(chain.from_iterable(self._first)))
        self._records = chain(self._first, self._records)
        self.consumed = 0

    def schema(self) -> pa.Schema:
        """Return a text column for each name in the first records.

        Raises UsageError if there are none, and what the iterable raises instead of a first record.
        """
        if not self._first:
            raise self._break or UsageError("there are no rows to load")
        return pa.schema([(str(name), pa.string()) for name in self._names])

    def infer(self) -> pa.Schema:
        """Return the types of the first records' values. Raises UsageError if those of a column differ."""
        self.schema()
        return pa.schema(
            [(str(name), _type(name, [row.get(name) for row in self._first])) for name in self._names]
        )

    def read(self) -> Iterator[list[Row]]:
        """Yield the records in lists. Raises what the iterable raises."""
        while piece := self._next(PIECE):
            self.consumed += len(piece)
            yield piece
        if self._break:
            raise self._break

    def parse(self, raw: list[Row], fields: Sequence[Field]) -> Chunk:
        """Return the records under the names of the target's columns."""
        renamed = {field.source: field.column.name for field in fields if field.source != field.column.name}
        if renamed:
            raw = [{renamed.get(name, name): value for name, value in row.items()} for row in raw]
        return Chunk(first=0, count=len(raw), rows=raw, nbytes=size_of(raw))

    def _next(self, most: int) -> list[Row]:
        """Return the next records; fewer than `most` at the end, or before an error, which is kept."""
        found: list[Row] = []
        try:
            found.extend(map(_copied, islice(self._records, most)))
        except InterruptedLoadError:
            raise
        except Exception as error:
            self._records, self._break = iter(()), error
        return found


def size_of(rows: Sequence[Row]) -> int:
    """Return an estimate of the memory that records hold, in bytes, from one in 16 of them."""
    some = rows[::16]
    return sum(map(_size, some)) * len(rows) // len(some)


def _size(value: Any) -> int:
    if isinstance(value, Mapping):
        return sys.getsizeof(value) + sum(map(_size, value.values()))
    if isinstance(value, list | tuple):
        return sys.getsizeof(value) + sum(map(_size, value))
    return sys.getsizeof(value)


def _copied(record: Row) -> Row:
    """Return a record as it is now: its producer may fill the same one again."""
    if not isinstance(record, Mapping):
        raise TypeError(f"a record is a mapping of column to value, not {type(record).__name__}")
    return dict(record)


def _type(name: str, values: list[Any]) -> pa.DataType:
    try:
        found: pa.DataType = pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise UsageError(f"column {name}: the types of its values do not agree: {error}") from error
    if pa.types.is_decimal(found):
        return pa.decimal128(38, found.scale)
    return pa.string() if pa.types.is_null(found) else found
