"""Turns inputs of any encoding into UTF-8, such that only the record with a bad byte is lost."""

from __future__ import annotations

import codecs

import pyarrow as pa

from adaptive.errors import UsageError
from adaptive.sources.files import Input

# What a byte that does not decode becomes: a lone surrogate, which is not UTF-8 either. So one check,
# for UTF-8, finds the bad records of every encoding.
UNDECODABLE = "\udfff"
ERRORS = "adaptive.undecodable"
codecs.register_error(ERRORS, lambda error: (UNDECODABLE, error.end))  # type: ignore[attr-defined]
MARK = UNDECODABLE.encode("utf-8", "surrogatepass")
BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def check_encoding(encoding: str) -> None:
    """Raise UsageError if Python knows no text encoding of this name."""
    try:
        " ".encode(encoding)
    except LookupError as error:
        raise UsageError(f"{encoding}: no such encoding; utf-8, cp1252 and utf-16 are common ones") from error


def is_utf8(text: bytes) -> bool:
    """Say whether bytes are UTF-8."""
    if text.isascii():
        return True
    try:  # Arrow checks 116 MB in 0.15 s and without the interpreter lock; decoding took 1.8 s
        pa.array([text], pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def readable(record: bytes) -> str:
    """Return a record that is not UTF-8 as text for people."""
    return record.replace(MARK, "\ufffd".encode()).decode("utf-8", "backslashreplace")


class Utf8:
    """An input in UTF-8, without byte order mark.

    UTF-8 itself passes unchecked. A byte order mark of UTF-16 overrules the default encoding, since no
    UTF-8 begins with one.
    """

    def __init__(self, source: Input, encoding: str) -> None:
        self._source = source
        self._encoding = codecs.lookup(encoding).name.removesuffix("-sig")
        self._decoder: codecs.IncrementalDecoder | None = None
        self._head: bytes | None = None

    def read(self, size: int) -> bytes:
        """Return what is at hand, about `size` bytes at most; b"" only at the end or at a break."""
        if self._head is None:
            self._begin()
        block, self._head = self._head or self._source.read(size), b""
        if not self._decoder:
            return block
        text = self._decoder.decode(block, final=not block)
        while block and not text:
            block = self._source.read(size)
            text = self._decoder.decode(block, final=not block)
        return text.encode("utf-8", "surrogatepass")

    def _begin(self) -> None:
        """Choose the decoder by the first bytes, and keep those after the mark."""
        head = b""
        while len(head) < 3 and (more := self._source.read(3 - len(head))):
            head += more
        mark = next((mark for mark in BOMS if head.startswith(mark)), b"")
        if self._encoding in ("utf-8", "utf-16", BOMS.get(mark)):
            self._encoding, head = BOMS.get(mark, self._encoding), head[len(mark) :]
        if self._encoding != "utf-8":
            self._decoder = codecs.getincrementaldecoder(self._encoding)(ERRORS)
        self._head = head
