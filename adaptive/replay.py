"""Loads dead letters again: each record once, under the position it had, edited by hand or not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from adaptive import dead_letters
from adaptive.casts import cast_chunk
from adaptive.config import Settings, Target, open_sink
from adaptive.coordinator import Coordinator, Input
from adaptive.dead_letters import DeadLetter
from adaptive.dialect import Dialect
from adaptive.errors import RefusedError
from adaptive.ledger import Committed
from adaptive.rows import Chunk, Field, Position, Reject
from adaptive.sources import open_source

SUFFIX = ".replay"


class ReplaySource:
    """The dead letters of one split, as a source whose records keep their positions."""

    format = "dead letters"

    def __init__(self, name: str, header: Mapping[str, Any], letters: Sequence[DeadLetter]) -> None:
        self.name, self._letters = name, letters
        self._columns: list[str] = header["columns"]
        said = {field: header[field] for field in Dialect.__slots__ if header.get(field) is not None}
        self._dialect = Dialect(**{**said, "columns": tuple(self._columns)})
        self.consumed, self.total = 0, len(letters)

    def schema(self) -> pa.Schema:
        """Return the columns that the load had, all as text."""
        return pa.schema([(name, pa.string()) for name in self._columns])

    infer = schema

    def read(self) -> Iterator[DeadLetter]:
        """Yield the letters in order."""
        for letter in self._letters:
            self.consumed += 1
            yield letter

    def parse(self, raw: DeadLetter, fields: Sequence[Field]) -> Chunk:
        """Return the letter's record, or a reject, at its position."""
        chunk = self._from_values(raw, fields) if raw.raw is None else self._from_text(raw, fields)
        position = raw.position
        return replace(chunk.moved(position.split, position.ordinal), placed=True)

    def _from_values(self, letter: DeadLetter, fields: Sequence[Field]) -> Chunk:
        values = letter.values or {}
        row = {field.source: _as_text(values.get(field.source)) for field in fields}
        schema = pa.schema([(name, pa.string()) for name in row])
        return cast_chunk(pa.RecordBatch.from_pylist([row], schema=schema), fields)

    def _from_text(self, letter: DeadLetter, fields: Sequence[Field]) -> Chunk:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "record"
            text = f"{letter.raw}\n".encode(self._dialect.encoding, "surrogateescape")
            file.write_bytes(text)
            source = open_source(str(file), self._dialect)
            found = [source.parse(piece, fields) for piece in source.read()]
        if len(found) == 1 and found[0].count == 1:
            return found[0]
        reason = f"expected one record, found {sum(chunk.count for chunk in found)}"
        return Chunk(0, 1, [], [Reject(0, letter.code, reason, raw=letter.raw)])


def replay_plan(
    path: str, to: str, table: str, max_rejected: str | None, observe: Callable[..., None]
) -> Coordinator:
    """Return the load of a dead letter file into a table.

    Letters that no committed receipt of their load names (an attempt died before its commit) are
    left out; if the database does not know the load, all count. Of several letters with one
    position the last counts. Raises UsageError or RefusedError.
    """
    header, letters = dead_letters.read(path)
    if "columns" not in header:
        raise RefusedError(f"{path}: these records came from a program; their columns are not known")
    target = Target(
        to, table, header["mode"] if header["mode"] != "replace" else "append", tuple(header["key"])
    )
    latest = {letter.position: letter for letter in letters}
    counted = _rejected(target, header["load"])
    valid = [latest[position] for position in sorted(latest) if counted is None or position in counted]
    splits = range(1 + max((letter.position.split for letter in valid), default=0))
    name = header["load"].removesuffix(SUFFIX) + SUFFIX  # a replay's own rejects belong to the same load
    inputs = [
        Input(
            ReplaySource(header["source"], header, [x for x in valid if x.position.split == split]),
            None,
            {"format": "replay"},
        )
        for split in splits
    ]
    settings = Settings(load_id=name, max_rejected=max_rejected)
    return Coordinator(inputs, target, settings, types={}, observe=observe, replay=True)


def _rejected(target: Target, load: str) -> set[Position] | None:
    with closing(target.sink()) as sink:
        open_sink(sink, target.url)
        if not any(row["load"] == load for row in sink.loads()):
            return None
        return Committed(sink.receipts(load)).rejected


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
