"""Reads proved pieces with xml2arrow: Rust, without the interpreter lock, straight into Arrow."""

from __future__ import annotations

import tempfile
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
import xml2arrow

from adaptive.mapping import Mapping
from adaptive.sources.xml_empty import EmptyElements
from adaptive.sources.xml_grammar import grammar_of, is_exact, start_tag
from adaptive.sources.xml_scan import Open


class FastReader:
    """Proves that pieces suit xml2arrow, and reads them with it. Safe to share between threads."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._parser = _compiled(mapping)
        self._grammar = cache(lambda parents: grammar_of(mapping, parents))
        self._empty = EmptyElements({(path or mapping.row)[-1].encode() for path in mapping.texts})
        # xml2arrow refuses a text that stands twice, but joins the values of an attribute that does.
        self._alone = {
            f.elements: f.name for f in mapping.fields if f.elements and f.elements not in mapping.texts
        }

    def prove(self, text: bytes, parents: tuple[Open, ...]) -> bytes | None:
        """Return a text, perhaps rewritten, that xml2arrow reads as XML says; None if that is not sure."""
        if b"]]>" in text and text.count(b"]]>") != text.count(b"<![CDATA["):
            return None  # in text it is malformed: a reject, whatever stands beside it
        grammar = self._grammar(tuple(element.name for element in parents))
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        text = self._empty.filled(text)
        if is_exact(grammar, text):
            return text
        searched = self._empty.searched(text)
        return searched if searched != text and is_exact(grammar, searched) else None

    def read(self, proved: bytes, parents: tuple[Open, ...]) -> pa.RecordBatch | None:
        """Return the rows of a proved text as text columns; None if there is a bad record in it."""
        opening = b"".join(b"<%b>" % element.name for element in parents)
        closing = b"".join(b"</%b>" % element.name for element in reversed(parents))
        try:
            batch = self._parser.parse(b"".join((opening, proved, closing)))["rows"]
        except xml2arrow.Xml2ArrowError:
            return None
        return batch if self._stand_alone(proved, batch) else None

    def _stand_alone(self, text: bytes, batch: pa.RecordBatch) -> bool:
        """Say whether no element with attributes is repeated in a row: then there are as many as values."""
        return all(
            pc.count_substring_regex(pa.scalar(text, pa.large_binary()), start_tag(path[-1])).as_py()
            == len(batch) - batch.column(name).null_count
            for path, name in self._alone.items()
        )


def _compiled(mapping: Mapping) -> xml2arrow.XmlToArrowParser:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(mapping.xml2arrow())
        file.flush()
        return xml2arrow.XmlToArrowParser(file.name)
