"""Parquet: typed columns, read a few thousand rows at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from adaptive.casts import cast_chunk
from adaptive.dialect import Dialect
from adaptive.errors import SourceError, UsageError
from adaptive.rows import Chunk, Field, Reject
from adaptive.sources.files import FREE, STDIN, bomb, size
from adaptive.sources.parquet_batches import batches, content_of, texts_of

BUFFER = 1 << 20  # bytes read ahead per column; without it a whole column of a row group is in memory

ENCRYPTED = b"PARE"  # the magic number of a file with an encrypted footer


class Piece(NamedTuple):
    """Consecutive rows and the time at which they were taken in."""

    batch: pa.RecordBatch
    accepted: float


class ParquetSource:
    """Rows of a Parquet file, in file order."""

    format = "parquet"
    sparse = False

    def __init__(self, path: str, dialect: Dialect) -> None:
        """Take a path; UsageError for standard input, as Parquet is read from its end."""
        if path == STDIN:
            raise UsageError("Parquet cannot be read from standard input: save it to a file first")
        self.name = path
        self._dialect = dialect
        self.consumed = 0  # rows
        self.total: int | None = None  # rows

    def schema(self) -> pa.Schema:
        """Return the file's columns with the types it states, or those of the dialect.

        Raises UsageError for a file without columns or with two of one name, SourceError for a file
        that is no Parquet, is encrypted or cannot be opened.
        """
        with self._open() as file:
            found = file.schema_arrow
        if not found.names:
            raise UsageError(f"{self.name}: there is no column in it")
        for name in found.names:
            if found.names.count(name) > 1:
                raise UsageError(f"{self.name}: two of its columns are named {name!r}; rename one")
        return pa.schema(
            {name: self._dialect.types.get(name) or _plain(found.field(name).type) for name in found.names}
        )

    def infer(self) -> pa.Schema:
        """Return `schema()`: the file's types hold all of its values."""
        return self.schema()

    def read(self) -> Iterator[Piece]:
        """Yield the rows in pieces.

        Raises SourceError, naming the row, where the file is damaged, and where what it stands for is more
        than `max_ratio` times as large, beyond `FREE` bytes.
        """
        row, produced, stored = 0, 0, size(self.name) or 0
        with self._open() as file, self._open(texts_of(file.metadata)) as encoded:
            self.total = file.metadata.num_rows
            try:
                for batch in filter(len, batches(file, encoded)):
                    produced += content_of(batch)
                    if produced > max(FREE, self._dialect.max_ratio * stored):
                        raise bomb(self.name, produced, stored, self._dialect.max_ratio)
                    yield Piece(batch, time.monotonic())
                    self.consumed = row = row + len(batch)
            except (pa.ArrowException, OSError) as error:
                raise SourceError(f"{self.name}: not readable from row {row + 1:,} on: {error}") from error

    def parse(self, raw: Piece, fields: Sequence[Field]) -> Chunk:
        """Return the rows of a piece, cast to the fields' column types; rejects: value, encoding."""
        names = dict.fromkeys(field.source for field in fields)
        arrays = [_decoded(raw.batch.column(name)) for name in names]
        batch = pa.RecordBatch.from_arrays(arrays, names=list(names))
        broken: list[Reject] = []
        try:
            batch.validate(full=True)  # 0.08 CPU s for 1,000,000 market orders, without the interpreter lock
        except pa.ArrowInvalid:
            batch, broken = _valid(batch, fields)
        timezone = self._dialect.timezone
        return cast_chunk(batch, fields, broken=broken, timezone=timezone, accepted=raw.accepted)

    @contextmanager
    def _open(self, read_dictionary: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
        try:
            # Not mapped into memory: a file cut while it is read would end the process (SIGBUS).
            file = pq.ParquetFile(
                self.name,
                memory_map=False,
                buffer_size=BUFFER,
                pre_buffer=False,
                page_checksum_verification=True,
                read_dictionary=list(read_dictionary),
            )
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last by a column's name
            raise SourceError(f"{self.name}: {self._reason(error)}") from error
        with file:
            yield file

    def _reason(self, error: Exception) -> str:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        with Path(self.name).open("rb") as file:
            magic = file.read(len(ENCRYPTED))
        if magic == ENCRYPTED:
            return "this Parquet file is encrypted; save a decrypted copy and load that"
        return f"not a Parquet file, or not all of one: {error}"


def _valid(batch: pa.RecordBatch, fields: Sequence[Field]) -> tuple[pa.RecordBatch, list[Reject]]:
    """Return the rows whose values are what their types say, and the others, mostly for text not in UTF-8."""
    broken = []
    for row in range(len(batch)):
        one = batch.take(pa.array([row]))  # not a slice: its lists would hold those of all rows
        bad = next((name for name in batch.schema.names if _flaw(one.column(name))), None)
        if bad is not None:
            values = {field.column.name: _readable(one.column(field.source)) for field in fields}
            column = next(field.column.name for field in fields if field.source == bad)
            broken.append(Reject(row, "encoding", _flaw(one.column(bad)), column, values))
    bad_rows = {reject.ordinal for reject in broken}
    return batch.filter(pa.array([row not in bad_rows for row in range(len(batch))], pa.bool_())), broken


def _flaw(array: pa.Array[Any]) -> str:
    """Return what is wrong with values, or ""."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        return f"not a value of type {array.type}: {error}"
    return ""


def _readable(array: pa.Array[Any]) -> Any:
    """Return the only value of an array for people, whatever is wrong with it."""
    if pat.is_string(array.type) or pat.is_large_string(array.type):
        value = array.cast(pa.large_binary()).to_pylist()[0]
        return None if value is None else value.decode(errors="backslashreplace")
    return "unreadable" if _flaw(array) else array.to_pylist()[0]


def _plain(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pat.is_dictionary(type_) else type_


def _decoded(array: pa.Array[Any]) -> pa.Array[Any]:
    return array.cast(array.type.value_type) if pat.is_dictionary(array.type) else array
