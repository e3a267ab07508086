"""Reads pieces of XML into text columns: with xml2arrow what is proved, with lxml what then remains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from adaptive.errors import SourceError
from adaptive.mapping import Mapping
from adaptive.rows import Reject
from adaptive.sources.xml_cut import Piece
from adaptive.sources.xml_exact import read_records
from adaptive.sources.xml_fast import FastReader
from adaptive.sources.xml_scan import Scanner, Span

# Halving records down to so many, to find the bad ones, costs about as much as lxml takes for them all.
GROUP = 128

Read = tuple[pa.RecordBatch, list[Reject]]


class PieceReader:
    """Reads the pieces of one document; threads may share it."""

    def __init__(self, name: str, mapping: Mapping, longest: int, null: str | None = None) -> None:
        self.fast = FastReader(mapping)
        self._name, self.longest = name, longest
        self.mapping = mapping
        self._null = null

    def read(self, piece: Piece) -> Read:
        """Return the good records of a piece as text columns, and the bad ones."""
        batch = None if piece.proved is None else self.fast.read(piece.proved, piece.parents)
        parts: list[Read] = (
            [*self._parts(piece, piece.spans or self._spans(piece), 0)] if batch is None else [(batch, [])]
        )
        rejects = [reject for _, part in parts for reject in part]
        return self._without_nulls(pa.concat_batches([self._nulled(part) for part, _ in parts]), rejects)

    def _parts(self, piece: Piece, spans: Sequence[Span], first: int) -> Iterator[Read]:
        """Yield the records from ordinal `first` on, halving them until xml2arrow can read a part."""
        if not spans:  # only comments and space, which no grammar proved
            yield read_records(piece, spans, self.mapping)
            return
        text = piece.text[spans[0][0] : spans[-1][1]]
        proved = self.fast.prove(text, piece.parents)
        batch = None if proved is None else self.fast.read(proved, piece.parents)
        if batch is not None and len(batch) == len(spans):
            yield batch, []
        elif len(spans) <= GROUP:
            rows, rejects = read_records(piece, spans, self.mapping)
            yield rows, [replace(reject, ordinal=reject.ordinal + first) for reject in rejects]
        else:
            middle = len(spans) // 2
            yield from self._parts(piece, spans[:middle], first)
            yield from self._parts(piece, spans[middle:], first + middle)

    def _spans(self, piece: Piece) -> Sequence[Span]:
        """Return the records of a piece that has a bad one; a rest that is none counts as one."""
        scanner = Scanner(self._name, self.mapping.row, self.longest)
        scanner.stack = list(piece.parents)
        try:
            spans, end = scanner.records(piece.text, final=True)
        except SourceError:
            spans, end = [], 0
        rest = len(piece.text[end:].lstrip())
        return [*spans, (len(piece.text) - rest, len(piece.text))] if rest else spans

    def _nulled(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch with the further text that stands for NULL replaced."""
        if self._null is None:
            return batch
        none = pa.scalar(None, pa.string())
        columns = [pc.if_else(pc.equal(column, self._null), none, column) for column in batch.columns]
        return pa.RecordBatch.from_arrays(columns, batch.schema.names)

    def _without_nulls(self, batch: pa.RecordBatch, broken: list[Reject]) -> Read:
        """Return a batch without the rows that lack a value the mapping requires; those become rejects."""
        required = [f.name for f in self.mapping.fields if not f.nullable and batch.column(f.name).null_count]
        absent: dict[int, str] = {}
        for name in reversed(required):
            absent |= dict.fromkeys(pc.indices_nonzero(pc.is_null(batch.column(name))).to_pylist(), name)
        if not absent:
            return batch, broken
        bad = {reject.ordinal for reject in broken}
        ordinals = [ordinal for ordinal in range(len(batch) + len(bad)) if ordinal not in bad]
        rejects = [
            Reject(
                ordinals[row],
                "null",
                f"{name} is absent, which the mapping does not allow",
                name,
                _row(batch, row),
            )
            for row, name in absent.items()
        ]
        good = batch.filter(pa.array([row not in absent for row in range(len(batch))]))
        return good, sorted([*broken, *rejects], key=lambda reject: reject.ordinal)


def _row(batch: pa.RecordBatch, row: int) -> dict[str, str | None]:
    return {name: batch.column(name)[row].as_py() for name in batch.schema.names}
