"""Turns the bytes of an XML document, in any encoding, into UTF-8 without a byte order mark."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

from lxml import etree

from adaptive.dialect import MAX_RATIO
from adaptive.errors import SourceError, UsageError
from adaptive.sources.files import open_input

DECLARATION = 1024  # bytes: an XML declaration ends within them
BEGINNING = 256 << 10  # bytes from which columns are inferred: some hundred records, 0.1 s
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_BARE = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))  # UTF-16 without a mark
_DECLARED = re.compile(rb"""\s*<\?xml\s[^>]*?\bencoding\s*=\s*["']([A-Za-z][\w.\-]*)["']""")

Read = Callable[[int], bytes]


def encoding_of(head: bytes) -> str:
    """Return the encoding that a document's first bytes show: by mark, form or declaration."""
    for mark, encoding in (*_MARKS, *_BARE):
        if head.startswith(mark):
            return encoding
    declared = _DECLARED.match(head)
    return declared[1].decode() if declared else "utf-8"


def utf8(read: Read, name: str, encoding: str | None = None) -> Read:
    """Return a function that reads like `read`, but UTF-8; `encoding` overrules what the document says.

    UTF-8 goes through unchanged and unchecked, so that invalid bytes only cost their record. Raises
    UsageError for an unknown encoding; the function raises SourceError where the text does not decode.
    """
    head = _at_least(read, DECLARATION)
    encoding = encoding or encoding_of(head)
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        canonical = codecs.lookup(encoding).name
    except LookupError:
        raise UsageError(f"{name}: its encoding {encoding!r} is unknown here") from None
    unchanged = canonical in ("utf-8", "ascii", "utf-8-sig")
    pending, consumed, ended = [head.removeprefix(codecs.BOM_UTF8) if unchanged else head], 0, False

    def read_utf8(size: int) -> bytes:
        nonlocal consumed, ended
        while not ended:
            block = pending.pop() if pending else read(size)
            ended = not block
            try:
                text = block if unchanged else decoder.decode(block, final=ended).encode()
            except UnicodeError as error:
                raise SourceError(f"{name}: not {encoding} after byte {consumed:,}: {error}") from error
            consumed += len(block)
            if text:
                return text
        return b""

    return read_utf8


def _at_least(read: Read, size: int) -> bytes:
    head = b""
    while len(head) < size and (block := read(size - len(head))):
        head += block
    return head


class XmlText:
    """The text of a document as UTF-8, read once; use it in a `with` statement."""

    def __init__(self, path: str, encoding: str | None = None, max_ratio: int = MAX_RATIO) -> None:
        """Open a file. Raises SourceError if that fails, UsageError for an unknown encoding."""
        self._name = path
        self._input = open_input(path, max_ratio)
        try:
            self._read = utf8(self._input.read, path, encoding)
        except UsageError:
            self._input.close()
            raise
        self._head = b""

    @property
    def consumed(self) -> int:
        """Return the bytes taken from the file as it is stored."""
        return self._input.consumed

    @property
    def error(self) -> SourceError | None:
        """Return why the input broke off, once everything before that was read."""
        return self._input.error

    def read(self, size: int) -> bytes:
        """Return the next bytes, about `size`; b"" at the end. Raises SourceError for undecodable text."""
        head, self._head = self._head, b""
        return head or self._read(size)

    def beginning(self) -> tuple[etree._Element, str]:
        """Return the root with the complete children among its first ones, keeping the text for `read`.

        Beside it, what is malformed there, if anything is.

        Raises UsageError for what is not XML, and for a DTD.
        """
        while True:
            want = 2 * len(self._head) or BEGINNING
            more = _at_least(self._read, want - len(self._head))
            self._head += more
            root, flaw = _first_children(self._head, self._name)
            if len(root) or flaw or not more:
                return root, flaw

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._input.close()


def _first_children(text: bytes, name: str) -> tuple[etree._Element, str]:
    """Return the root of a document's beginning, without an incomplete child, and what is malformed."""
    pull = etree.XMLPullParser(
        ("start", "end"), encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False
    )
    flaw = ""
    try:
        pull.feed(text)
    except etree.XMLSyntaxError as error:
        flaw = str(error.msg)
    events = [(event, cast("etree._Element", element)) for event, element in pull.read_events()]
    if not events:
        raise UsageError(f"{name}: this is not XML: {flaw or 'it has no element'}")
    root = events[0][1]
    if root.getroottree().docinfo.internalDTD is not None:
        raise UsageError(f"{name}: it has a document type definition; DTDs and their entities are refused")
    ended = {element for event, element in events if event == "end"}
    for child in list(root.iterchildren("*"))[-1:]:
        if child not in ended:
            root.remove(child)
    return root, flaw
