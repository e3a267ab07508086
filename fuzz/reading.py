"""Reads a file through a source as the pipeline does, with chosen piece sizes and parsers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from adaptive.dialect import Dialect
from adaptive.errors import SourceError, UsageError
from adaptive.feeder import chunks
from adaptive.metrics import Metrics
from adaptive.protocols import Source
from adaptive.rows import Column, Field
from adaptive.sources import open_source
from adaptive.sources.xml import XmlSource

Row = tuple[Any, ...]
QUOTED = re.compile(": ['\"].*", re.DOTALL)  # the text at fault in an error, cut where the piece ends


@dataclass
class Found:
    """What a file gives: rows and rejects by ordinal, why it was refused, or why it ended early."""

    columns: list[str] = field(default_factory=list)
    rows: dict[int, Row] = field(default_factory=dict)
    rejects: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    refused: str = ""
    error: str = ""

    @property
    def count(self) -> int:
        """Return how many records there are."""
        return len(self.rows) + len(self.rejects)


def read(path: str, format_: str, piece: int, parsers: int, *, infer: bool = False) -> Found:
    """Return what a source finds; all errors but those for users are let out.

    With `infer` the columns have the inferred types, else texts keep their text.
    """
    found = Found()
    with _pieces_of(piece):
        try:
            source = _source(path, format_, piece)
            schema = source.infer() if infer else source.schema()
        except (UsageError, SourceError) as error:
            found.refused = str(error)
            return found
        found.columns = schema.names
        typed = infer or format_ == "parquet"
        types = [column.type if typed else pa.string() for column in schema]
        fields = [Field(name, Column(name, type_)) for name, type_ in zip(schema.names, types, strict=True)]
        try:
            for chunk in chunks(source, 0, fields, parsers, Metrics(time.monotonic())):
                _add(found, chunk)
        except (SourceError, UsageError) as error:  # UsageError: a DTD
            found.error = QUOTED.sub("", str(error))
    return found


def _source(path: str, format_: str, piece: int) -> Source:
    dialect = Dialect(format=format_)
    return XmlSource(path, dialect, piece=piece) if format_ == "xml" else open_source(path, dialect)


def _add(found: Found, chunk: Any) -> None:
    """Add a chunk, whose ordinals have to be those that come next, each once."""
    assert chunk.first == found.count, "ordinals are not consecutive"
    assert chunk.count == len(chunk) + len(chunk.rejects), "a record is neither row nor reject"
    for reject in chunk.rejects:
        assert chunk.first <= reject.ordinal < chunk.first + chunk.count, "an ordinal outside of its chunk"
        assert reject.ordinal not in found.rejects, "an ordinal that stands twice"
        found.rejects[reject.ordinal] = (reject.code, reject.raw)
    good = (
        ordinal for ordinal in range(chunk.first, chunk.first + chunk.count) if ordinal not in found.rejects
    )
    for ordinal, row in zip(good, chunk.rows.to_pylist(), strict=True):
        found.rows[ordinal] = tuple(row.values())


@contextmanager
def _pieces_of(size: int) -> Iterator[None]:
    with (
        patch("adaptive.sources.csv_records.BLOCK", size),
        patch("adaptive.sources.jsonl.PIECE", size),
        patch("adaptive.sources.parquet_batches.BATCH_ROWS", size),
    ):
        yield
