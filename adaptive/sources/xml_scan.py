"""Finds the records of an XML text tag by tag: the slow, exact way to cut.

A malformed record ends at the next end tag of a row, or before the next start tag of a row or end tag of its
parent, so that its neighbours survive. Malformed text between records counts as one bad record.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from adaptive.errors import SourceError, UsageError

# A longer record is no record but a wrong mapping, and would end in swapping.
MAX_RECORD = 256 << 20
# How far the end is looked for of a tag, a comment, or a row with a row inside: without a bound, one end tag
# that is missing would take the rest of the file along.
LOOKAHEAD = 8 << 20
SPACE = b" \t\r\n"

_TOKEN = re.compile(
    rb"""<(?:!--.*?-->|!\[CDATA\[.*?\]\]>|\?.*?\?>
    |(?P<end>/?)(?P<name>[^\s<>/!?="'&]++)(?:[^<>"'/]++|"[^"<]*+"|'[^'<]*+')*(?P<empty>/?)>)""",
    re.DOTALL | re.VERBOSE,
)
_PREFIX = rb"""(?:[^\s<>/!?="'&:]+:)?"""
_DEFINITION = re.compile(rb"<!(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST|NOTATION)")

Span = tuple[int, int]


class Open(NamedTuple):
    """An open element: its name and its start tag, as written."""

    name: bytes
    tag: bytes


class Scanner:
    """Goes through a document; `stack` holds the open elements above the rows between calls.

    `at` is the place of the next text in the document, in bytes; the caller moves it on.
    """

    def __init__(self, name: str, row: Sequence[str]) -> None:
        self._name = name
        self._parents = [part.encode() for part in row[:-1]]
        self._row = row[-1].encode()
        self.stack: list[Open] = []
        self.ended = False
        self.at = 0

    @property
    def inside(self) -> bool:
        """Say whether rows may come now."""
        return [_local(element.name) for element in self.stack] == self._parents

    def seek(self, text: bytes, *, final: bool) -> int:
        """Return how much of a text comes before the place where rows may come. Raises as `records`."""
        pos = 0
        while not self.inside and (end := self._between(text, pos, final=final)) is not None:
            pos = end
        return pos

    def records(self, text: bytes, *, final: bool) -> tuple[list[Span], int]:
        """Return where the records of a text begin and end, and how much of it is done with.

        Raises SourceError for what is malformed outside the rows, UsageError for a DTD, both only
        if there is no record before.
        """
        spans: list[Span] = []
        pos: int = 0
        try:
            while (start := text.find(b"<", pos)) >= 0 or pos < len(text):
                is_record = self.inside and self._begins_record(text, start)
                end = (
                    self._record(text, start, final=final)
                    if is_record
                    else self._between(text, pos, final=final)
                )
                if end is None:
                    break
                spans += [(start, end)] if is_record else []
                pos = end
        except (SourceError, UsageError):
            if not spans:
                raise
        return spans, pos

    def _begins_record(self, text: bytes, start: int) -> bool:
        """Say whether a record begins here: a row, or anything malformed where rows stand."""
        token = _TOKEN.match(text, start) if start >= 0 else None
        if token is None or token["name"] is None:
            return start >= 0 and token is None
        return token["name"] != self.stack[-1].name if token["end"] else _local(token["name"]) == self._row

    def _between(self, text: bytes, pos: int, *, final: bool) -> int | None:
        """Take in one token outside of records; return its end, None for want of text."""
        start = text.find(b"<", pos)
        self._check(
            not (text[pos : start if start >= 0 else None].strip(SPACE) and not self.stack), text, pos
        )
        if start < 0:
            return len(text) if pos < len(text) else None
        if not self.inside and _DEFINITION.match(text, start):
            raise UsageError(
                f"{self._name}: a document type definition at byte {self.at + start:,}; it is refused"
            )
        token = _TOKEN.match(text, start)
        if token is None and not final and len(text) - start < LOOKAHEAD:
            return None
        self._check(token is not None, text, start)
        assert token is not None  # noqa: S101 (for mypy)
        self._take(token, text, start)
        return token.end()

    def _take(self, token: re.Match[bytes], text: bytes, start: int) -> None:
        if token["name"] is None:
            self._check(bool(self.stack) or not text.startswith(b"<![", start), text, start)
        elif token["end"]:
            self._check(bool(self.stack) and self.stack[-1].name == token["name"], text, start)
            self.stack.pop()
            self.ended = not self.stack
        else:
            self._check(not self.ended, text, start)
            if not token["empty"]:
                self.stack.append(Open(token["name"], token[0]))
            self.ended = not self.stack

    def _check(self, well_formed: bool, text: bytes, start: int) -> None:
        if not well_formed:
            found = text[start : start + 40].decode(errors="replace")
            where = "after the end of the document" if self.ended else "outside the rows"
            raise SourceError(f"{self._name}: malformed XML {where}, at byte {self.at + start:,}: {found!r}")

    def _record(self, text: bytes, start: int, *, final: bool) -> int | None:
        """Return where a record ends that begins at `start`, None for want of text."""
        simple = _patterns(self._row, self.stack[-1].name)[0].match(text, start)
        return simple.end() if simple else self._record_by_tags(text, start, final=final)

    def _record_by_tags(self, text: bytes, start: int, *, final: bool) -> int | None:
        open_: list[bytes] = []
        pos, nested = start, False
        while (lt := text.find(b"<", pos)) >= 0 and (token := _TOKEN.match(text, lt)):
            pos = token.end()
            if token["end"]:
                if not open_ or open_.pop() != token["name"]:
                    return self._resume(text, start)
            elif token["name"]:
                nested = nested or (bool(open_) and _local(token["name"]) == self._row)
                open_ += [] if token["empty"] else [token["name"]]
            if not open_:
                return pos
            if nested and pos - start > LOOKAHEAD:
                return self._resume(text, start)
        token_limit = MAX_RECORD if lt < 0 or text.startswith(b"<![CDATA[", lt) else LOOKAHEAD
        if (
            not final
            and len(text) - start < (LOOKAHEAD if nested else MAX_RECORD)
            and len(text) - lt < token_limit
        ):
            return None
        return self._resume(text, start)

    def _resume(self, text: bytes, start: int) -> int | None:
        """Return where a malformed record ends that begins at `start`, None for want of text."""
        edge = _patterns(self._row, self.stack[-1].name)[1].search(text, start + 1)
        if edge is None:
            return None
        return edge.end() if edge["end"] else edge.start()


@cache
def _patterns(row: bytes, parent: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return the patterns of a simple record, and of where a malformed one ends.

    Simple is what has nothing but tags inside, and among them no row's and not the parent's end:
    such a record, well-formed or not, ends with its first end tag of a row. That is several times
    as fast as going by tags.
    """
    begin = rb"<%b%b(?:\s[^<>]*+)?(?<!/)>" % (_PREFIX, re.escape(row))
    any_row = rb"/?%b%b[\s/>]" % (_PREFIX, re.escape(row))
    end = rb"</%b%b\s*>" % (_PREFIX, re.escape(row))
    close = rb"/%b\s*>" % re.escape(parent)
    simple = rb"%b(?:[^<]++|<(?![!?]|%b|%b))*%b" % (begin, any_row, close, end)
    edge = rb"(?P<end>%b)|<%b%b[\s/>]|<%b" % (end, _PREFIX, re.escape(row), close)
    return re.compile(simple), re.compile(edge)


def _local(name: bytes) -> bytes:
    return name.rpartition(b":")[2]
