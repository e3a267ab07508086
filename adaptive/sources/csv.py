"""Reads CSV: cuts it into whole records in one thread, parses and casts these in workers."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from adaptive.casts import cast_chunk
from adaptive.dialect import Dialect
from adaptive.errors import UsageError
from adaptive.inference import Inference
from adaptive.rows import Chunk, Field, Reject
from adaptive.sources.csv_blocks import BlockParser
from adaptive.sources.csv_records import Block, Grammar, Records
from adaptive.sources.encoding import check_encoding
from adaptive.sources.files import Input, check_width, open_input, size, unbroken


class CsvSource:
    """A CSV file, or a pipe such as standard input. An unquoted empty field is NULL, "" is empty text.

    Raises UsageError for a delimiter, quote, encoding or list of columns that makes no sense.
    """

    format = "csv"
    sparse = False

    def __init__(self, path: str, dialect: Dialect) -> None:
        self.name = path
        self._dialect = _checked(path, dialect)
        self._grammar = Grammar(self._dialect.delimiter, dialect.quote)
        self._names = _checked_names(path, dialect.columns)
        self._pipe: Records | None = None
        self._input: Input | None = None  # the one opened last

    @property
    def consumed(self) -> int:
        """Return the bytes read so far of the file as it is stored."""
        return self._input.consumed if self._input else 0

    @property
    def total(self) -> int | None:
        """Return the bytes of the file as it is stored; None for pipes."""
        return size(self.name)

    def schema(self) -> pa.Schema:
        """Return a text column for each name of the header, of which it reads no more than that.

        Raises UsageError for an empty input and for names that are missing or doubled, SourceError
        if the input cannot be read.
        """
        if not self._names:
            with self._records():
                pass
        return pa.schema([(name, pa.string()) for name in self._names])

    def infer(self) -> pa.Schema:
        """Return types that hold every value, by reading a file once more; text for pipes."""
        inference, columns = Inference(), self.schema()
        if size(self.name) is None:
            return columns
        inference.add(pa.RecordBatch.from_pylist([], schema=columns))
        for block in unbroken(self.read()):
            inference.add(self._columns(block, columns.names)[0])
        return inference.schema()

    def read(self) -> Iterator[Block]:
        """Yield blocks of whole records.

        Raises SourceError at the end if the input broke off or a quote was never closed.
        """
        with self._records() as records:
            yield from records.blocks()

    def parse(self, raw: Block, fields: Sequence[Field]) -> Chunk:
        """Return the records of a block, cast to the fields' column types."""
        batch, broken = self._columns(raw, [field.source for field in fields])
        timezone = self._dialect.timezone
        return cast_chunk(batch, fields, broken=broken, timezone=timezone, accepted=raw.accepted)

    def _columns(self, block: Block, columns: Sequence[str]) -> tuple[pa.RecordBatch, list[Reject]]:
        return BlockParser(self._dialect, self._grammar, self._names).columns(block, columns)

    @contextmanager
    def _records(self) -> Iterator[Records]:
        """Open the input and take its header. A pipe stays open and goes on where it was."""
        if self._pipe:
            yield self._pipe
        elif size(self.name) is None:
            self._pipe = self._begun(self._opened())
            yield self._pipe
        else:
            with self._opened() as source:
                yield self._begun(source)

    def _opened(self) -> Input:
        return open_input(self.name, self._dialect.max_ratio)

    def _begun(self, source: Input) -> Records:
        self._input = source
        records = Records(source, self._dialect.encoding, self._grammar, self._dialect.record_bytes)
        if not self._dialect.columns:
            self._names = _checked_names(source.name, self._header(source.name, records.header()))
        return records

    def _header(self, name: str, record: bytes | None) -> list[str]:
        if record is None:
            raise UsageError(f"{name}: this is empty, without even a header")
        char = self._dialect.quote
        quote: dict[str, Any] = {"quotechar": char} if char else {"quoting": csv.QUOTE_NONE}
        try:
            return next(csv.reader([record.decode()], delimiter=self._dialect.delimiter, **quote))
        except (UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{name}: the header cannot be read; say the --encoding ({error})") from error


def _checked(path: str, dialect: Dialect) -> Dialect:
    """Return the dialect with its delimiter settled."""
    check_encoding(dialect.encoding)
    suffix = PurePath(path.removesuffix(".gz").removesuffix(".zst")).suffix.lower()
    tabs = dialect.delimiter == "\\t" or (dialect.delimiter == "," and suffix == ".tsv")
    delimiter = "\t" if tabs else dialect.delimiter
    for option, text in (("--delimiter", delimiter), ("--quote", dialect.quote)):
        if len(text.encode()) > 1 or text in ("\r", "\n"):
            raise UsageError(f"{option} {text!r}: it has to be one ASCII character")
    if delimiter in ("", dialect.quote):
        raise UsageError(f"--delimiter {delimiter!r}: it has to be one character, other than the quote")
    return replace(dialect, delimiter=delimiter)


def _checked_names(path: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns, if they are there and differ."""
    check_width(path, names)
    for index, name in enumerate(names):
        if not name:
            raise UsageError(f"{path}: column {index + 1} has no name; name it in the file")
        if name in names[:index]:
            raise UsageError(f"{path}: two columns are named {name!r}; name them apart in the file")
    return tuple(names)
