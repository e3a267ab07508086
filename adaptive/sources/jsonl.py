"""JSON Lines: one JSON object per line, UTF-8."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import pyarrow as pa

from adaptive.dialect import Dialect
from adaptive.errors import SourceError, UsageError
from adaptive.rows import Chunk, Field
from adaptive.sources.files import STDIN, Input, check_width, open_input, pieces, size, unbroken
from adaptive.sources.json_blocks import SPACE, parse_block
from adaptive.sources.json_schema import Kinds

PIECE = 1 << 20  # bytes; 0.25 MB to 5 MB parse at the same speed, and less memory is in flight
ADVICE = "One object per line is wanted: jq -c '.[]' FILE makes that of an array"
HEAD = 1 << 20  # bytes whose records name the columns: some thousand lines

# The first line of an array over several lines: a record that is an array, bad as that is, ends in its line.
_ARRAY = re.compile(rb"\s*\[(?![^\n]*\]\s*?(?:\n|$))")


class Piece(NamedTuple):
    """Whole lines, the number of the first one, and the time at which they were taken in."""

    block: bytes
    line: int
    accepted: float


class JsonlSource:
    """Records of a JSON Lines file or of standard input.

    A column absent from a record, or null there, is NULL. Numbers keep every digit; a number in a
    text column stays as it was written, an object or array becomes JSON text. Blank lines are no
    records. A name that appears late and has no column makes its record a reject.
    """

    format = "jsonl"
    sparse = True

    def __init__(self, path: str, dialect: Dialect) -> None:
        """Check the dialect: UsageError for an encoding that JSON does not have."""
        if codecs.lookup(dialect.encoding).name not in ("utf-8", "utf-8-sig", "ascii"):
            raise UsageError(f"{path}: JSON Lines are UTF-8, not {dialect.encoding}")
        self.name = path
        self._dialect = dialect
        self._pieces = self._open()
        self._head: list[Piece] = []
        self._break: SourceError | None = None  # met while the columns were looked for
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
        """Return the columns that the beginning of the input names, and their types there.

        Raises UsageError if there is no record at all, SourceError if the input cannot be read.
        """
        return self._described(self._beginning())

    def infer(self) -> pa.Schema:
        """Return columns and types that hold every value of the input, up to a break.

        Standard input can be read only once: there it is what the beginning shows.
        Raises as `schema`.
        """
        return self._described(self._beginning() if self.name == STDIN else unbroken(self._open()))

    def read(self) -> Iterator[Piece]:
        """Yield the lines in blocks. Raises SourceError where the input breaks off, after what is whole."""
        while self._head:
            yield self._head.pop(0)
        yield from self._pieces
        if self._break:
            raise self._break

    def parse(self, raw: Piece, fields: Sequence[Field]) -> Chunk:
        """Return the records of a piece, cast; rejects have the codes json, encoding and value."""
        return parse_block(raw.block, raw.line, fields, self._dialect.timezone, raw.accepted)

    def _open(self) -> Iterator[Piece]:
        with open_input(self.name, self._dialect.max_ratio) as source:
            self._input = source
            for block, line in pieces(source, PIECE, self._dialect.record_bytes):
                text = block.removeprefix(codecs.BOM_UTF8) if line == 1 else block
                yield Piece(text, line, time.monotonic())

    def _beginning(self) -> list[Piece]:
        while sum(len(piece.block) for piece in self._head) < HEAD:
            try:
                more = list(islice(self._pieces, 1))
            except SourceError as error:
                self._break = error
                break
            if not more:
                break
            self._head += more
        return self._head

    def _described(self, blocks: Iterator[Piece] | list[Piece]) -> pa.Schema:
        kinds, blank = Kinds(), True
        for piece in blocks:
            if piece.line == 1 and _ARRAY.match(piece.block):
                raise UsageError(f"{self.name}: this is one JSON array. {ADVICE}")
            kinds.add(piece.block)
            check_width(self.name, kinds.names)
            blank = blank and not piece.block.strip(SPACE)
        if blank:
            if self._break:
                raise self._break
            raise UsageError(f"{self.name}: there is no record in it")
        schema = kinds.schema(self._dialect.types)
        if not schema.names:
            reason = f"no line of it is a JSON object with members; is it JSON Lines? {ADVICE}"
            raise UsageError(f"{self.name}: {reason}")
        return schema
