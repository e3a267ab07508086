"""What travels through the pipeline: chunks of parsed records, batches cut from them, rejects.

A record's position is `(split, ordinal)`. A split is one input of a load, numbered from 0; an
ordinal counts the records of that split from 0, the bad ones too, so it depends on nothing but
the file and its dialect.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.types as pat

Row: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = pa.RecordBatch | Sequence[Row]


class Position(NamedTuple):
    """Where a record stands: its split and its ordinal there, both from 0."""

    split: int
    ordinal: int


class Segment(NamedTuple):
    """A run of records of one split, `first` and `last` included."""

    split: int
    first: int
    last: int


class Column(NamedTuple):
    """A column of the target table, as a sink describes it.

    `type` is the Arrow type the sink takes for it; `default` says that the database fills it
    when it is left out; `max_length` counts characters.
    """

    name: str
    type: pa.DataType
    nullable: bool = True
    default: bool = False
    key: bool = False
    max_length: int | None = None


class Field(NamedTuple):
    """A source column and the target column it goes to."""

    source: str
    column: Column


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was not written, and why.

    `values` maps target columns to what was read; `raw` is the record's text where it could not
    be taken apart. `line` counts from 1, where the source knows it.
    """

    ordinal: int
    code: str
    reason: str
    column: str | None = None
    values: Row | None = None
    raw: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records `first` … `first + count - 1` of a split: the good ones in `rows`, the rest rejected.

    `rejects` is sorted by ordinal; `nbytes` is an estimate of the memory held; `accepted` is the
    monotonic time in seconds at which the first record was taken in; `placed` says that the
    position is final.
    """

    first: int
    count: int
    rows: Rows
    rejects: Sequence[Reject] = ()
    nbytes: int = 0
    split: int = 0
    accepted: float = 0.0
    placed: bool = False

    def __len__(self) -> int:
        """Return the number of good rows."""
        return len(self.rows)

    @property
    def segment(self) -> Segment:
        """Return the records covered, rejected ones included."""
        return Segment(self.split, self.first, self.first + self.count - 1)

    def ordinal(self, index: int) -> int:
        """Return the ordinal of good row `index`."""
        guess = self.first + index
        for reject in self.rejects:
            if reject.ordinal > guess:
                break
            guess += 1
        return guess

    def moved(self, split: int, first: int) -> Chunk:
        """Return the chunk with its records counted from `first` of a split, unless it is placed."""
        if self.placed:
            return self
        rejects = [replace(reject, ordinal=reject.ordinal + first) for reject in self.rejects]
        return replace(self, split=split, first=first, rejects=rejects)

    def between(self, first: int, last: int) -> Chunk:
        """Return the part with the ordinals `first` … `last`, both within this chunk."""
        ordinals = [reject.ordinal for reject in self.rejects]
        low, high = bisect_left(ordinals, first), bisect_left(ordinals, last + 1)
        start = first - self.first - low
        stop = last + 1 - self.first - high
        rows = self.rows[start:stop]
        return replace(
            self,
            first=first,
            count=last - first + 1,
            rows=rows,
            rejects=self.rejects[low:high],
            nbytes=self.nbytes * (last - first + 1) // self.count,
        )

    def cut(self, records: int) -> tuple[Chunk, Chunk]:
        """Return the first `records` records and the rest; 0 < records < self.count."""
        last = self.first + records - 1
        return self.between(self.first, last), self.between(last + 1, self.segment.last)


@dataclass(frozen=True)
class Batch:
    """Rows written together: one transaction, one receipt. Frozen when it is cut."""

    chunks: Sequence[Chunk]
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def __len__(self) -> int:
        """Return the number of good rows."""
        return sum(map(len, self.chunks))

    @cached_property
    def segments(self) -> list[Segment]:
        """Return the records covered, neighbours joined."""
        joined: list[Segment] = []
        for segment in (chunk.segment for chunk in self.chunks):
            if joined and joined[-1].split == segment.split and joined[-1].last + 1 == segment.first:
                joined[-1] = joined[-1]._replace(last=segment.last)
            else:
                joined.append(segment)
        return joined

    @property
    def nbytes(self) -> int:
        """Return an estimate of the memory held, in bytes."""
        return sum(chunk.nbytes for chunk in self.chunks)

    @property
    def rejects(self) -> Iterator[tuple[int, Reject]]:
        """Yield what the parsers rejected, with its split."""
        return ((chunk.split, reject) for chunk in self.chunks for reject in chunk.rejects)

    def rows(self) -> pa.Table | list[Row]:
        """Return the good rows: a table without copying, or a list of mappings if there are any."""
        parts = [chunk.rows for chunk in self.chunks if len(chunk)]
        batches = [part for part in parts if isinstance(part, pa.RecordBatch)]
        if batches and len(batches) == len(parts):
            return pa.Table.from_batches(batches)
        return [row for part in parts for row in _mappings(part)]

    def position(self, index: int) -> Position:
        """Return where good row `index` stands in the source."""
        for chunk in self.chunks:
            if index < len(chunk):
                return Position(chunk.split, chunk.ordinal(index))
            index -= len(chunk)
        raise IndexError(index)


def _mappings(rows: Rows) -> Sequence[Row]:
    return mappings(rows) if isinstance(rows, pa.RecordBatch) else rows


def mappings(rows: pa.RecordBatch | pa.Table) -> list[Row]:
    """Return Arrow rows as mappings; of moments that Python's microseconds would cut, the text."""
    try:
        found: list[Row] = rows.to_pylist()
    except ValueError:
        columns = [_in_text(column) for column in rows.columns]
        found = pa.table(columns, names=rows.column_names).to_pylist()
    return found


def _in_text(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    fine = pat.is_timestamp(column.type) or pat.is_time(column.type)
    return column.cast(pa.string()) if fine and column.type.unit == "ns" else column
