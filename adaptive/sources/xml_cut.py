"""Cuts a stream of XML into pieces of whole records.

The quick way: cut before the last start tag of a row and let a grammar prove that this is right. Where
it cannot, a `Scanner` finds every record's end, and the state in which the next piece begins.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from adaptive.errors import SourceError
from adaptive.sources.files import too_long
from adaptive.sources.xml_scan import Open, Scanner, Span

PIECE = 4 << 20  # bytes; compiling the grammar takes 2 ms for each piece, 0.6 s per 305 MB at 1 MB

Prove = Callable[[bytes, tuple[Open, ...]], bytes | None]


class Piece(NamedTuple):
    """Whole records within `parents`, at byte `at` of the document.

    `proved` is the text, perhaps rewritten, as xml2arrow reads it exactly; where it is None, `spans`
    says where each record begins and ends.
    """

    text: bytes
    parents: tuple[Open, ...]
    proved: bytes | None
    spans: Sequence[Span]
    at: int
    accepted: float


class Cutter:
    """Cuts a document, once, from start to end.

    `prove` returns the text if it is whole records that xml2arrow reads exactly (perhaps rewritten,
    so that it does), else None. No record is longer than `longest` bytes.
    """

    def __init__(self, name: str, row: Sequence[str], prove: Prove, longest: int, size: int = PIECE) -> None:
        self._name = name
        self._row = row[-1].encode()
        self._prove = prove
        self._size = size
        self._longest = longest
        self._start = re.compile(rb"<(?:[^\s<>/!?:]+:)?%b[\s/>]" % re.escape(self._row))
        self._scanner = Scanner(name, row, longest)

    def pieces(self, read: Callable[[int], bytes]) -> Iterator[Piece]:
        """Yield the pieces of what `read` gives, until it gives b"".

        Raises SourceError where the document is malformed outside its rows, breaks off, or has a
        record that is too long; UsageError for a DTD.
        """
        text, more = b"", True
        while more:
            held = len(text)
            # Doubling: a long record costs O(n). Always more than is held: no more means the end.
            text = _filled(text, read, max(self._size + 1, min(2 * held, self._longest + 1)))
            more = len(text) > held
            accepted = time.monotonic()
            while text:
                piece, used = self._next(text, accepted, final=not more)
                self._scanner.at += used
                text = text[used:]
                if piece:
                    yield piece
                if not used or (piece and more):
                    break
            if more and len(text) > max(self._longest, self._size):
                raise too_long(self._record_at(text), self._longest)
        if text or not self._scanner.ended:
            raise SourceError(f"{self._record_at(text)} is incomplete: the document breaks off")

    def _record_at(self, text: bytes) -> str:
        beginning = text[:60].decode(errors="replace")
        return f"{self._name}: the record at byte {self._scanner.at:,} ({beginning!r})"

    def _next(self, text: bytes, accepted: float, *, final: bool) -> tuple[Piece | None, int]:
        """Return the next piece, if there is one, and how much of the text is done with."""
        scanner = self._scanner
        if not scanner.inside:
            return None, scanner.seek(text, final=final)
        at, parents = scanner.at, tuple(scanner.stack)
        cut = self._last_edge(text, parents[-1].name, final=final)
        if cut and (proved := self._prove(text[:cut], parents)) is not None:
            return Piece(text[:cut], parents, proved, (), at, accepted), cut
        spans, used = scanner.records(text, final=final)
        return Piece(text[:used], parents, None, spans, at, accepted) if spans else None, used

    def _last_edge(self, text: bytes, parent: bytes, *, final: bool) -> int:
        """Return the last place where a piece may end: before a row, at the end before the parent's end."""
        end = text.rfind(b"</" + parent) if final else -1
        edge = len(text) if end < 0 else 0
        while (edge := text.rfind(self._row, 0, edge)) > 0:
            edge = text.rfind(b"<", 0, edge)
            if self._start.match(text, edge):
                return edge
        return max(end, 0)


def _filled(text: bytes, read: Callable[[int], bytes], size: int) -> bytes:
    """Return a text continued to `size` bytes or more, less only at the end."""
    blocks, held = [text], len(text)
    while held < size and (block := read(size - held)):
        blocks.append(block)
        held += len(block)
    return b"".join(blocks)
