"""Loads dead letters again: each record once, under the position it had, edited by hand or not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import Any

import orjson
import pyarrow as pa

from adaptive import dead_letters
from adaptive.casts import cast_chunk
from adaptive.config import Settings, Target, open_sink
from adaptive.coordinator import Coordinator
from adaptive.dead_letters import DeadLetter
from adaptive.dialect import Dialect
from adaptive.errors import AdaptiveError, RefusedError, SourceError, UsageError
from adaptive.identity import Input
from adaptive.ledger import Committed
from adaptive.rows import Chunk, Field, Position, Reject
from adaptive.sources import open_source
from adaptive.types import parse_type

SUFFIX = ".replay"
HEADER = ("load", "source", "mode", "key", "timezone", "columns", "names")  # of a dead letter file


class ReplaySource:
    """The dead letters of one split, as a source whose records keep their positions."""

    format = "dead letters"
    sparse = False

    def __init__(self, name: str, header: Mapping[str, Any], letters: Sequence[DeadLetter]) -> None:
        self.name, self._letters = name, letters
        self._columns: list[str] = header["columns"]
        self._types: list[str] = header.get("types", [])  # for a table that has none of its own
        self._names = dict(zip(self._columns, header["names"], strict=True))  # by column: those in the text
        self._dialect = Dialect(**{**dialect_of(header), "columns": tuple(header["names"])})
        self.consumed, self.total = 0, len(letters)

    def schema(self) -> pa.Schema:
        """Return the columns that the load had, all as text."""
        return pa.schema([(name, pa.string()) for name in self._columns])

    def infer(self) -> pa.Schema:
        """Return the columns with the types that they had in the load.

        Raises RefusedError for a type that cannot be read again from text, or if the file names none.
        """
        if not self._types:
            raise RefusedError(f"the dead letters of {self.name} do not say which types the load had")
        types = zip(self._columns, self._types, strict=True)
        return pa.schema([(name, self._readable(name, word)) for name, word in types])

    def _readable(self, column: str, word: str) -> pa.DataType:
        try:
            return parse_type(word)
        except UsageError as error:
            raise RefusedError(
                f"column {column}: {word} is not read from dead letters: load them, mended, as JSON Lines"
            ) from error

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
        if not (values := letter.values):
            return _refused(letter, 'the letter has neither "row" nor "raw"')
        if unknown := sorted(values.keys() - {field.source for field in fields}):
            known = ", ".join(field.source for field in fields)
            return _refused(letter, f"the load had no column {', '.join(unknown)}; it had {known}")
        row = {field.source: _as_text(values.get(field.source)) for field in fields}
        schema = pa.schema([(name, pa.string()) for name in row])
        batch = pa.RecordBatch.from_pylist([row], schema=schema)
        return cast_chunk(batch, fields, timezone=self._dialect.timezone)

    def _from_text(self, letter: DeadLetter, fields: Sequence[Field]) -> Chunk:
        try:
            found = self._parsed(letter, [f._replace(source=self._names[f.source]) for f in fields])
        except (AdaptiveError, UnicodeError) as error:
            return _refused(letter, str(error))
        if len(found) == 1 and found[0].count == 1:
            rejects = [replace(reject, line=letter.line) for reject in found[0].rejects]
            return replace(found[0], rejects=rejects)
        return _refused(letter, f"expected one record, found {sum(chunk.count for chunk in found)}")

    def _parsed(self, letter: DeadLetter, fields: Sequence[Field]) -> list[Chunk]:
        if self._dialect.format == "xml":
            raise SourceError('a piece of XML is not read again: write its values as "row" instead of "raw"')
        name = (letter.file or "").removesuffix(".gz").removesuffix(".zst")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"record{PurePath(name).suffix}"  # .tsv has a delimiter of its own
            file.write_bytes(f"{letter.raw}\n".encode(self._dialect.encoding, "surrogateescape"))
            source = open_source(str(file), self._dialect)
            return [source.parse(piece, fields) for piece in source.read()]


def _refused(letter: DeadLetter, reason: str) -> Chunk:
    return Chunk(0, 1, [], [Reject(0, letter.code, reason, None, letter.values, letter.raw, letter.line)])


def dialect_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the header of a dead letter file says about the form of its records."""
    return {field: header[field] for field in Dialect.__slots__ if header.get(field) is not None}


def replay_plan(
    path: str, to: str, table: str, ledger: str, max_rejected: str | None, observe: Callable[..., None]
) -> Coordinator:
    """Return the load of a dead letter file into a table.

    Letters that no committed receipt of their load names (an attempt died before its commit) are
    left out; if the database does not know the load, all count. Of several letters with one
    position the last counts. Raises UsageError or RefusedError.
    """
    header, letters = dead_letters.read(path)
    if header.get("format") == "rows":
        raise RefusedError(f"{path}: these records came from a program; their columns are not known")
    if missing := [name for name in HEADER if name not in header]:
        raise RefusedError(
            f"{path}: its first line lacks {', '.join(missing)}, without which nothing is loaded"
        )
    if len({len(header[name]) for name in ("columns", "names", "types") if name in header}) > 1:
        raise RefusedError(f"{path}: its first line names columns, names and types of different numbers")
    target = Target(
        to, table, header["mode"] if header["mode"] != "replace" else "append", tuple(header["key"]),
        ledger=ledger, idempotency_key=tuple(header.get("idempotency_key", ())),
        idempotency_store=header.get("idempotency_store"),
    )  # fmt: skip
    if not target.has_ledger:
        raise UsageError("a replay needs a ledger: without one it cannot know what is in the table already")
    latest = {letter.position: letter for letter in letters}
    counted = _rejected(target, header["load"])
    valid = [latest[position] for position in sorted(latest) if counted is None or position in counted]
    splits = range(1 + max((letter.position.split for letter in valid), default=0))
    inputs = [
        Input(
            ReplaySource(header["source"], header, [x for x in valid if x.position.split == split]),
            None,
            dialect_of(header),
            header["timezone"],
        )
        for split in splits
    ]
    settings = Settings(load_id=_name(header["load"], table), max_rejected=max_rejected)
    return Coordinator(inputs, target, settings, types={}, observe=observe, replay=True)


def _name(load: str, table: str) -> str:
    """Return the id of a load's replay into a table; what that rejects belongs to it again."""
    return f"{load.partition(SUFFIX)[0]}{SUFFIX}-{blake2b(table.encode(), digest_size=4).hexdigest()}"


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
