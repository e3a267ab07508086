"""XML: one record per row element, read by xml2arrow wherever a grammar proves that it reads it exactly."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
from lxml import etree

from adaptive.casts import cast_chunk
from adaptive.dialect import Dialect
from adaptive.errors import SourceError, UsageError
from adaptive.inference import Inference
from adaptive.mapping import Mapping as XmlMapping
from adaptive.mapping import load_mapping
from adaptive.rows import Chunk, Field, Reject
from adaptive.sources.files import STDIN, check_width, size, unbroken
from adaptive.sources.xml_cut import PIECE, Cutter, Piece
from adaptive.sources.xml_exact import late_fields
from adaptive.sources.xml_infer import infer_mapping, local
from adaptive.sources.xml_read import PieceReader
from adaptive.sources.xml_text import XmlText

log = logging.getLogger("adaptive")


class XmlSource:
    """The rows of an XML document, as a mapping says or, without one, as its beginning shows.

    An absent element is NULL, an empty one is empty text, and text is kept as it is. Malformed
    records become rejects with the code "xml"; so do those with something the inferred columns
    lack. DTDs are refused.
    """

    format = "xml"
    sparse = False

    def __init__(self, path: str, dialect: Dialect, *, piece: int = PIECE) -> None:
        """Read the mapping file, if there is one. Raises UsageError if it cannot be used."""
        self.name = path
        self._dialect = dialect
        self._piece = piece
        self._mapping = load_mapping(dialect.mapping) if dialect.mapping else None
        self._text: XmlText | None = None
        self._reader: PieceReader | None = None
        self._is_filled = False  # there are elements in the document's beginning, rows or others

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
        declared = self._declared()
        return pa.schema([(name, declared.get(name, pa.string())) for name in self._ready().mapping.names])

    def infer(self) -> pa.Schema:
        """Return the columns and types of the whole document; declared types are kept.

        Standard input can be read only once: there it is `schema`. Raises as `schema` and `read`.
        """
        if self.name == STDIN:
            return self.schema()
        self._add_late_fields()
        inference = Inference()
        for piece in unbroken(self._pieces(self._opened())):
            inference.add(self._ready().read(piece)[0])
        found = {field.name: field.type for field in inference.schema()} | self._declared()
        return pa.schema([(name, found.get(name, pa.string())) for name in self._ready().mapping.names])

    def read(self) -> Iterator[Piece]:
        """Yield pieces of whole records.

        Raises SourceError where the document breaks off or is malformed outside its rows, after
        every record before that; UsageError for a DTD. A document of other elements only is mentioned: it
        may be an empty day's, or the mapping may be wrong.
        """
        self._text, none = self._text or self._opened(), True
        for piece in self._pieces(self._text):
            yield piece
            none = False
        if none and self._is_filled:
            log.warning(
                "%s: no element is /%s, so there are no rows", self.name, "/".join(self._ready().mapping.row)
            )

    def parse(self, raw: Piece, fields: Sequence[Field]) -> Chunk:
        """Return the records of a piece, cast; the codes of rejects are "xml", "null" and the casts'."""
        batch, broken = self._ready().read(raw)
        target = {field.source: field.column.name for field in fields}
        broken = [_renamed(reject, target) if reject.values else reject for reject in broken]
        timezone = self._dialect.timezone
        return cast_chunk(batch, fields, broken=broken, timezone=timezone, accepted=raw.accepted)

    def _opened(self) -> XmlText:
        encoding = None if self._dialect.encoding == Dialect().encoding else self._dialect.encoding
        return XmlText(self.name, encoding, self._dialect.max_ratio)

    def _declared(self) -> dict[str, pa.DataType]:
        fields = self._ready().mapping.fields
        return {field.name: field.type for field in fields if field.type} | dict(self._dialect.types)

    def _ready(self) -> PieceReader:
        """Return the reader; before that, check the document's beginning, or infer the mapping from it."""
        if self._reader is None:
            root, flaw = self._beginning()
            if flaw and not len(root) and not self._mapping:
                reason = f"its first record is malformed, so its columns are not known: {flaw}"
                raise UsageError(f"{self.name}: {reason}; mend it, or name the columns with --mapping")
            mapping = self._mapping or infer_mapping(root, self.name)
            self._is_filled = len(root) > 0
            if local(root) != mapping.row[0]:
                row = "/".join(mapping.row)
                raise UsageError(f"{self.name}: its root is <{local(root)}>, but the mapping's row is /{row}")
            self._reader = self._reading(mapping)
        return self._reader

    def _reading(self, mapping: XmlMapping) -> PieceReader:
        check_width(self.name, mapping.names)
        return PieceReader(self.name, mapping, self._dialect.record_bytes, self._dialect.null)

    def _beginning(self) -> tuple[etree._Element, str]:
        """Return as `XmlText.beginning`; what standard input gave is kept for `read`."""
        if self.name == STDIN:
            self._text = self._opened()
            return self._text.beginning()
        with self._opened() as text:
            return text.beginning()

    def _add_late_fields(self) -> None:
        """Add what only later records have to an inferred mapping, reading the whole document for it.

        That takes 1 CPU s per 305 MB: what is proved has nothing else.
        """
        mapping = self._ready().mapping
        if mapping.exhaustive:
            unproved = (piece for piece in unbroken(self._pieces(self._opened())) if piece.proved is None)
            late = [field for piece in unproved for field in late_fields(piece, mapping)]
            self._reader = self._reading(mapping.with_fields(late))

    def _pieces(self, text: XmlText) -> Iterator[Piece]:
        reader = self._ready()
        cutter = Cutter(self.name, reader.mapping.row, reader.fast.prove, reader.longest, self._piece)
        with text:
            try:
                yield from cutter.pieces(text.read)
            except SourceError as error:
                raise SourceError(f"{text.error}; {error}") if text.error else error from None
            if text.error:
                raise text.error


def _renamed(reject: Reject, target: Mapping[str, str]) -> Reject:
    """Return a reject with the target's column names."""
    values = {target[name]: value for name, value in (reject.values or {}).items() if name in target}
    return replace(reject, column=target.get(reject.column or "", reject.column), values=values)
