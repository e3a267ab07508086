"""Reads records with lxml, exactly as XML and the mapping say, each bad one with its reason.

About five times slower than xml2arrow, so it only gets what that cannot be trusted with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from lxml import etree

from adaptive.mapping import MappedField, Mapping
from adaptive.rows import Reject
from adaptive.sources.xml_cut import Piece
from adaptive.sources.xml_infer import Path, fields_of, has_elements, has_text, local
from adaptive.sources.xml_scan import Span

RAW = 10_000  # characters of a bad record that are kept

Values = list[str | None]

_UNKNOWN = (
    "{} is not among the columns that the beginning of the file shows; "
    "say with a mapping (--mapping) what to do with it"
)


def parser() -> etree.XMLParser:
    """Return a parser that loads no DTD, resolves no entity, opens no connection and has libxml2's limits."""
    return etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )


def read_records(
    piece: Piece, spans: Sequence[Span], mapping: Mapping
) -> tuple[pa.RecordBatch, list[Reject]]:
    """Return the good ones among some records as text columns, and the others as rejects, in order."""
    rows: list[Values] = []
    rejects: list[Reject] = []
    for ordinal, record in enumerate(_records(piece, spans)):
        values = record if isinstance(record, str) else _values(record, mapping)
        if isinstance(values, str):
            start, end = spans[ordinal]
            raw = piece.text[start:end].decode(errors="replace")
            cut = f"; the first {RAW:,} of its {len(raw):,} characters are kept" if len(raw) > RAW else ""
            reason = f"{values} (byte {piece.at + start:,}){cut}"
            rejects.append(Reject(ordinal, "xml", reason, raw=raw[:RAW]))
        else:
            rows.append(values)
    columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(mapping.fields))]
    return pa.RecordBatch.from_arrays(columns, mapping.names), rejects


def late_fields(piece: Piece, mapping: Mapping) -> list[MappedField]:
    """Return fields, one level deep, for what well-formed records have beyond an inferred mapping."""
    known = {field.path for field in mapping.fields}
    records = [record for record in _records(piece, piece.spans) if not isinstance(record, str)]
    fields = (field for record in records for field in fields_of(record))
    return [field for field in fields if field.path not in known and "/" not in field.path]


def _records(piece: Piece, spans: Sequence[Span]) -> Iterator[etree._Element | str]:
    """Yield each record as an element, or as the text of what is wrong with it."""
    if not spans:
        return
    found = _parse(piece, spans)
    if len(spans) == 1 or not isinstance(found, str):
        yield from [found] if isinstance(found, str) else found
        return
    middle = len(spans) // 2
    yield from _records(piece, spans[:middle])
    yield from _records(piece, spans[middle:])


def _parse(piece: Piece, spans: Sequence[Span]) -> list[etree._Element] | str:
    """Return the elements of some records, parsed together, or why that does not work."""
    opening = b"".join(element.tag for element in piece.parents)
    closing = b"".join(b"</%b>" % element.name for element in reversed(piece.parents))
    text = b"".join([opening, *(piece.text[start:end] for start, end in spans), closing])
    try:
        parent = etree.fromstring(text, parser())
    except etree.XMLSyntaxError as error:
        return str(error.msg).partition(", line ")[0]
    for _ in piece.parents[1:]:
        parent = parent[0]
    rows = list(parent)
    complete = len(rows) == len(spans) and all(isinstance(row.tag, str) for row in rows)
    return rows if complete else "this is no element of the row's name"


def _values(row: etree._Element, mapping: Mapping) -> Values | str:
    """Return a row's values, or why they are not one text each, or what is left over."""
    values: Values = [None] * len(mapping.fields)
    if local(row) != mapping.row[-1]:
        return f"<{local(row)}> is not the row's name"
    try:
        _collect(row, (), mapping, values)
    except ValueError as error:
        return str(error)
    return values


def _collect(element: etree._Element, path: Path, mapping: Mapping, values: Values) -> None:
    for key, value in element.attrib.items():
        _put((path, str(key).rpartition("}")[2]), str(value), mapping, values)
    if path in mapping.texts:
        _put((path, None), _text(element), mapping, values)
        return
    if mapping.exhaustive and has_text(element):
        raise ValueError(f"<{local(element)}> has text beside its elements")
    for child in element.iterchildren("*"):
        below = (*path, local(child))
        if below in mapping.elements:
            _collect(child, below, mapping, values)
        elif mapping.exhaustive:
            raise ValueError(_UNKNOWN.format(local(child)))


def _put(key: tuple[Path, str | None], value: str, mapping: Mapping, values: Values) -> None:
    index = mapping.places.get(key)
    if index is None:
        if mapping.exhaustive:
            raise ValueError(_UNKNOWN.format(f"@{key[1]}"))
        return
    if values[index] is not None:
        field = mapping.fields[index]
        raise ValueError(f"{field.path} stands more than once; column {field.name!r} takes one value")
    values[index] = value


def _text(element: etree._Element) -> str:
    if has_elements(element):
        raise ValueError(f"<{local(element)}> has elements in its text")
    if any(isinstance(child, etree._Entity) for child in element):
        raise ValueError(f"<{local(element)}> has an entity that XML does not define")
    return "".join([element.text or "", *(child.tail or "" for child in element)])
