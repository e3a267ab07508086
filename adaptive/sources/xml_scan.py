"""Finds the records of an XML text tag by tag: the slow, exact way to cut.

A malformed record ends at the next end tag of a row, or before the next start tag of a row or end tag of its
parent, so that its neighbours survive. Malformed text between records counts as one bad record.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

from adaptive.errors import SourceError, UsageError

# How far the end is looked for of a tag, a comment, or a row with a row inside: without a bound, one end tag
# that is missing would take the rest of the file along.
LOOKAHEAD = 8 << 20
# Elements within each other. libxml2 refuses 256 of them, so such a record is bad whatever else it holds.
DEPTH = 1000
SPACE = b" \t\r\n"
SECTIONS = ((b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>"))

_TOKEN = re.compile(
    rb"""<(?:!--.*?-->|!\[CDATA\[.*?\]\]>|\?.*?\?>
    |(?P<end>/?)(?P<name>[^\s<>/!?="'&]++)(?:[^<>"'/]++|"[^"<]*+"|'[^'<]*+')*(?P<empty>/?)>)""",
    re.DOTALL | re.VERBOSE,
)
_PREFIX = rb"""(?:[^\s<>/!?="'&:]+:)?"""
_OPENING = re.compile(rb"<[^\s<>/!?=\"'&]")
_DEFINITION = re.compile(rb"<!(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST|NOTATION)")

Span = tuple[int, int]


class Open(NamedTuple):
    """An open element: its name and its start tag, as written."""

    name: bytes
    tag: bytes


class Walk(NamedTuple):
    """How far the tags of a record were followed: up to `at`, with these elements open, each with its place.

    `row` is the place of the last row that begins there. All places count in the document.
    """

    at: int
    row: int
    open_: list[tuple[bytes, int]]


class Scanner:
    """Goes through a document; `stack` holds the open elements above the rows between calls.

    `at` is the place of the next text in the document, in bytes; the caller moves it on. No record is
    longer than `longest` bytes. What was searched in vain is remembered, since a damaged document may have
    a hundred thousand records that do not end, and each would search the same text again.
    """

    def __init__(self, name: str, row: Sequence[str], longest: int) -> None:
        self._name = name
        self._parents = [part.encode() for part in row[:-1]]
        self._row = row[-1].encode()
        self.stack: list[Open] = []
        self.ended = False
        self.at = 0
        self._longest = longest
        self._lookahead = min(LOOKAHEAD, longest)
        self._walk = Walk(0, 0, [])
        self._absent: dict[bytes, Span] = {}  # no such mark begins in this part of the document

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
                is_record, end = self._next(text, pos, start, final=final)
                if end is None:
                    break
                spans += [(start, end)] if is_record else []
                pos = end
        except (SourceError, UsageError):
            if not spans:
                raise
        return spans, pos

    def _next(self, text: bytes, pos: int, start: int, *, final: bool) -> tuple[bool, int | None]:
        """Say whether what begins at `start` is a record, and where it ends, None for want of text."""
        if self.inside and self._begins_record(text, start):
            return True, self._record(text, start, final=final)
        if self.inside and _OPENING.match(text, start if start >= 0 else len(text)):
            found, end = self._follow(text, start)
            if found == "broken":  # most likely a row whose start tag is damaged
                return True, self._resume(text, start)
            if found == "ended":
                return False, end
            if found == "open" and not final and len(text) - start < self._lookahead:
                return False, None
        return False, self._between(text, pos, final=final)

    def _begins_record(self, text: bytes, start: int) -> bool:
        """Say whether a record begins here: a row, or anything malformed where rows stand."""
        token = self._token(text, start) if start >= 0 else None
        if token is None or token["name"] is None:
            return start >= 0 and token is None
        return token["name"] != self.stack[-1].name if token["end"] else _local(token["name"]) == self._row

    def _between(self, text: bytes, pos: int, *, final: bool) -> int | None:
        """Take in one token outside of records; return its end, None for want of text."""
        start = text.find(b"<", pos)
        between = text[pos : start if start >= 0 else None]
        words = between.lstrip(SPACE)
        self._check(not words or bool(self.stack), text, pos + len(between) - len(words))
        if start < 0:
            return len(text) if pos < len(text) else None
        if not self.inside and _DEFINITION.match(text, start):
            # Where it may stand, nothing is loaded yet; elsewhere the records before it are.
            kind = SourceError if self.stack or self.ended else UsageError
            raise kind(f"{self._name}: a document type definition at byte {self.at + start:,}; it is refused")
        token = self._token(text, start)
        if token is None and not final and len(text) - start < self._lookahead:
            return None
        self._check(token is not None, text, start)
        assert token is not None  # noqa: S101 (for mypy)
        self._take(token, text, start)
        return token.end()

    def _token(self, text: bytes, start: int) -> re.Match[bytes] | None:
        """Return the tag, comment, instruction or CDATA section at a "<", None if it does not end."""
        if text[start + 1 : start + 2] in (b"!", b"?"):
            for begin, end in SECTIONS:
                if text.startswith(begin, start) and not self._has(text, end, start + len(begin)):
                    return None
        return _TOKEN.match(text, start)

    def _has(self, text: bytes, mark: bytes, start: int) -> bool:
        """Say whether a mark begins at `start` or after it."""
        first, last = self._absent.get(mark, (0, 0))
        place = self.at + start
        joined = first <= place <= last
        if text.find(mark, (last if joined else place) - self.at) >= 0:
            return True
        end = self.at + max(start, len(text) - len(mark) + 1)
        self._absent[mark] = (first if joined else place, end)
        return False

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
        begun = self._walk.open_[:1]
        if not begun or begun[0][1] != self.at + start:  # else it was tried on less text, at some cost
            simple = _patterns(self._row, self.stack[-1].name)[0].match(text, start)
            if simple:
                return simple.end()
        return self._record_by_tags(text, start, final=final)

    def _record_by_tags(self, text: bytes, start: int, *, final: bool) -> int | None:
        found, place = self._follow(text, start)
        if found == "open":
            return self._unended(text, start, place, final=final)
        return place if found == "ended" else self._resume(text, start)

    def _follow(self, text: bytes, start: int) -> tuple[Literal["ended", "open", "broken", "long"], int]:
        """Follow the tags of an element; return what came of it, and where.

        It ended, is still open at the end of the text or at a token without end, is broken by an end
        tag of another element, or goes on for too long.
        """
        place, lt = self.at + start, start
        at, row, open_ = self._walk_from(place)
        pos = at - self.at
        found: Literal["open", "broken", "long"] = "long"
        while len(open_) < DEPTH and (row <= place or pos - start <= self._lookahead):
            lt = text.find(b"<", pos)
            token = self._token(text, lt) if lt >= 0 else None
            if token is None or not _step(open_, token, self.at + lt):
                found = "broken" if token else "open"
                break
            pos = token.end()
            if not open_:
                return "ended", pos
            if token["name"] and not token["end"] and _local(token["name"]) == self._row:
                row = self.at + lt
        self._walk = Walk(self.at + pos, row, open_)
        return found, lt

    def _walk_from(self, place: int) -> Walk:
        """Return a walk from a record on, which goes on where one from a record around it came to."""
        at, row, open_ = self._walk
        inside = next((index for index, element in enumerate(open_) if element[1] == place), None)
        return Walk(place, place, []) if inside is None else Walk(at, row, open_[inside:])

    def _unended(self, text: bytes, start: int, lt: int, *, final: bool) -> int | None:
        """Return where a record ends that has no end in the text, or a token without one, at `lt`."""
        nested = self._walk.row > self.at + start
        token_limit = self._longest if lt < 0 or text.startswith(b"<![CDATA[", lt) else self._lookahead
        record_limit = self._lookahead if nested else self._longest
        if not final and len(text) - start < record_limit and len(text) - lt < token_limit:
            return None
        return self._resume(text, start)

    def _resume(self, text: bytes, start: int) -> int | None:
        """Return where a malformed record ends that begins at `start`, None for want of text."""
        edge = _patterns(self._row, self.stack[-1].name)[1].search(text, start + 1)
        if edge is None:
            return None
        return edge.end() if edge["end"] else edge.start()


def _step(open_: list[tuple[bytes, int]], token: re.Match[bytes], place: int) -> bool:
    """Take a token of a record in; False if it is an end tag of another element than the innermost."""
    if token["end"]:
        if not open_ or open_[-1][0] != token["name"]:
            return False
        open_.pop()
    elif token["name"] and not token["empty"]:
        open_.append((token["name"], place))
    return True


@cache
def _patterns(row: bytes, parent: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return the patterns of a simple record, and of where a malformed one ends.

    Simple is what has nothing but tags inside, and among them no row's and not the parent's end:
    such a record, well-formed or not, ends with its first end tag of a row. That is several times
    as fast as going by tags.
    """
    begin = rb"<%b%b(?:\s[^<>]*+)?(?<!/)>" % (_PREFIX, re.escape(row))
    any_row = rb"/?%b%b[\s/>]" % (_PREFIX, re.escape(row))
    end = rb"/%b%b\s*>" % (_PREFIX, re.escape(row))
    close = rb"/%b\s*>" % re.escape(parent)
    simple = rb"%b(?:[^<]++|<(?![!?]|%b|%b))*<%b" % (begin, any_row, close, end)
    edge = rb"<(?:(?P<end>%b)|%b%b[\s/>]|%b)" % (end, _PREFIX, re.escape(row), close)
    return re.compile(simple), re.compile(edge)


def _local(name: bytes) -> bytes:
    return name.rpartition(b":")[2]
