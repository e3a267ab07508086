"""XML: one record per row element, read by xml2arrow wherever a grammar proves that it reads it exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
from lxml import etree

from adaptive.casts import cast_chunk
from adaptive.dialect import Dialect
from adaptive.errors import SourceError, UsageError
from adaptive.inference import Inference
from adaptive.mapping import Mapping, load_mapping
from adaptive.rows import Chunk, Field, Reject
from adaptive.sources.files import STDIN, size
from adaptive.sources.xml_cut import PIECE, Cutter, Piece
from adaptive.sources.xml_exact import late_fields, read_piece
from adaptive.sources.xml_fast import FastReader
from adaptive.sources.xml_infer import infer_mapping, local
from adaptive.sources.xml_scan import Scanner, Span
from adaptive.sources.xml_text import XmlText


class XmlSource:
    """The rows of an XML document, as a mapping says or, without one, as its beginning shows.

    An absent element is NULL, an empty one is empty text, and text is kept as it is. Malformed
    records become rejects with the code "xml"; so do those with something the inferred columns
    lack. DTDs are refused.
    """

    format = "xml"

    def __init__(self, path: str, dialect: Dialect, *, piece: int = PIECE) -> None:
        """Read the mapping file, if there is one. Raises UsageError if it cannot be used."""
        self.name = path
        self._dialect = dialect
        self._piece = piece
        self._text: XmlText | None = None
        self._fast: FastReader | None = None
        self._mapping = load_mapping(dialect.mapping) if dialect.mapping else None

    @property
    def consumed(self) -> int:
        """Return the bytes that `read` has taken from the file as it is stored."""
        return self._text.consumed if self._text else 0

    @property
    def total(self) -> int | None:
        """Return the bytes of the file as it is stored; None for standard input."""
        return size(self.name)

    def schema(self) -> pa.Schema:
        """Return the columns, as text unless the mapping or the dialect gives them a type.

        Raises UsageError if the beginning of the document has no rows, does not suit the mapping, is
        not flat (without a mapping) or has a DTD; SourceError if it cannot be read.
        """
        declared = {field.name: field.type for field in self._ready().fields if field.type}
        declared |= self._dialect.types
        return pa.schema(
            [(field.name, declared.get(field.name, pa.string())) for field in self._ready().fields]
        )

    def infer(self) -> pa.Schema:
        """Return the columns and types of the whole document; declared types are kept.

        Standard input can be read only once: there it is `schema`. Raises as `schema` and `read`.
        """
        if self.name == STDIN:
            return self.schema()
        if self._ready().exhaustive:
            self._find_late_fields()
        inference = Inference()
        for piece in self._pieces(self._opened()):
            inference.add(self._texts(piece)[0])
        found, declared = inference.schema(), self.schema()
        types = {name: found.field(name).type for name in found.names}
        return pa.schema(
            [f if f.type != pa.string() else (f.name, types.get(f.name, f.type)) for f in declared]
        )

    def read(self) -> Iterator[Piece]:
        """Yield pieces of whole records.

        Raises SourceError where the document breaks off or is malformed outside its rows, after
        every record before that; UsageError for a DTD.
        """
        self._ready()
        self._text = self._text or self._opened()
        yield from self._pieces(self._text)

    def parse(self, raw: Piece, fields: Sequence[Field]) -> Chunk:
        """Return the records of a piece, cast; the codes of rejects are "xml", "null" and the casts'."""
        batch, broken = self._texts(raw)
        batch, missing = self._without_nulls(batch, broken, fields)
        return cast_chunk(
            batch,
            fields,
            broken=sorted([*broken, *missing], key=lambda reject: reject.ordinal),
            timezone=self._dialect.timezone,
            accepted=raw.accepted,
        )

    def _opened(self) -> XmlText:
        encoding = self._dialect.encoding
        return XmlText(self.name, None if encoding == Dialect().encoding else encoding)

    def _ready(self) -> Mapping:
        """Return the mapping; before that, check the document's beginning against it, or infer it there."""
        if self._fast and self._mapping:
            return self._mapping
        root = self._beginning()
        if self._mapping is None:
            self._mapping = infer_mapping(root, self.name)
        elif local(root) != self._mapping.row[0]:
            row = "/".join(self._mapping.row)
            raise UsageError(f"{self.name}: its root is <{local(root)}>, but the mapping's row is /{row}")
        self._fast = FastReader(self._mapping)
        return self._mapping

    def _beginning(self) -> etree._Element:
        """Return the root with its first children; what standard input gave is kept for `read`."""
        if self.name == STDIN:
            self._text = self._opened()
            return self._text.beginning()
        with self._opened() as text:
            return text.beginning()

    def _find_late_fields(self) -> None:
        """Add what only later records have, reading the whole document: 1 CPU s per 305 MB."""
        assert self._mapping  # noqa: S101 (for mypy)
        late = [
            late_fields(piece, self._mapping)
            for piece in self._pieces(self._opened())
            if piece.proved is None
        ]
        self._mapping = self._mapping.with_fields(chain.from_iterable(late))
        self._fast = FastReader(self._mapping)

    def _pieces(self, text: XmlText) -> Iterator[Piece]:
        assert self._fast and self._mapping  # noqa: S101, PT018 (for mypy)
        with text:
            try:
                yield from Cutter(self.name, self._mapping.row, self._fast.prove, self._piece).pieces(
                    text.read
                )
            except SourceError as error:
                raise SourceError(f"{text.error}; {error}") if text.error else error from None
            if text.error:
                raise text.error

    def _texts(self, piece: Piece) -> tuple[pa.RecordBatch, list[Reject]]:
        """Return the good records of a piece as text columns, and the bad ones."""
        assert self._fast and self._mapping  # noqa: S101, PT018 (for mypy)
        batch = self._fast.read(piece)
        rejects: list[Reject] = []
        if batch is None:
            batch, rejects = read_piece(piece, piece.spans or self._spans(piece), self._mapping)
        if self._dialect.null is not None:
            batch = _with_null(batch, self._dialect.null)
        return batch, rejects

    def _spans(self, piece: Piece) -> Sequence[Span]:
        """Return the records of a piece that has a bad one; a rest that is none counts as one."""
        assert self._mapping  # noqa: S101 (for mypy)
        scanner = Scanner(self.name, self._mapping.row)
        scanner.stack = list(piece.parents)
        try:
            spans, end = scanner.records(piece.text, final=True)
        except SourceError:
            spans, end = [], 0
        return [*spans, (end, len(piece.text))] if piece.text[end:].strip() else spans

    def _without_nulls(
        self, batch: pa.RecordBatch, broken: Sequence[Reject], fields: Sequence[Field]
    ) -> tuple[pa.RecordBatch, list[Reject]]:
        """Return a batch without the rows that lack a value the mapping requires, and their rejects."""
        assert self._mapping  # noqa: S101 (for mypy)
        required = [
            f.name for f in self._mapping.fields if not f.nullable and batch.column(f.name).null_count
        ]
        if not required:
            return batch, []
        places = _places(len(batch), broken)
        columns = {field.source: field.column.name for field in fields}
        rejects: dict[int, Reject] = {}
        for name in required:
            for index in pc.indices_nonzero(pc.is_null(batch.column(name))).to_pylist():
                values = {
                    columns.get(key, key): value[0].as_py()
                    for key, value in zip(batch.schema.names, batch.slice(index, 1).columns, strict=True)
                }
                reason = "the mapping says that it is never absent, but it is"
                rejects.setdefault(
                    index, Reject(places[index], "null", reason, columns.get(name, name), values)
                )
        keep = pa.array([index not in rejects for index in range(len(batch))])
        return batch.filter(keep), list(rejects.values())


def _places(count: int, broken: Sequence[Reject]) -> list[int]:
    """Return the ordinals of `count` good rows among broken ones."""
    bad = {reject.ordinal for reject in broken}
    return [ordinal for ordinal in range(count + len(bad)) if ordinal not in bad]


def _with_null(batch: pa.RecordBatch, null: str) -> pa.RecordBatch:
    """Return text columns with a further text that stands for NULL."""
    columns = [
        pc.if_else(pc.equal(column, null), pa.scalar(None, pa.string()), column) for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)
