"""Decompresses streams such that a damaged one still gives everything before the damage."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

# Reading takes back the interpreter lock once per block. 1 MB read plain files fastest (116 MB in
# 10 ms of CPU); below 64 KB other threads that hold the lock slow reading down several times.
BLOCK = 1 << 20
# zlib on 256 KB, up to 8 MB out: 116 MB in 0.45 s of CPU, as fast as Arrow's gzip and, while another
# thread computes, ten times faster than the gzip module. The second bound tames gzip bombs.
DEFLATED_BLOCK = 256 << 10
INFLATED_BLOCK = 8 << 20
GZIP_WINDOW = 31  # zlib's number for "the largest window, with a gzip header and trailer"
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
ZSTD_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # pzstd begins with such a frame
# More than what a failing read of Arrow's may hold: its 64 KB of input and a block's 128 KB.
ZSTD_HELD = 256 << 10


class Stored(io.RawIOBase):
    """A binary file as it is stored, with the bytes taken so far counted in `consumed`.

    From byte `singly_from` on each `read` gives one byte.
    """

    def __init__(self, file: BinaryIO, singly_from: int | None = None) -> None:
        super().__init__()
        self.file = file  # the caller's: closing this object leaves it open
        self._singly_from = singly_from
        self._head = b""
        self.consumed = 0

    def peek(self, size: int) -> bytes:
        """Return the first `size` bytes, fewer only if the file is shorter, and keep them for `read`."""
        while len(self._head) < size and (more := self._take(size - len(self._head))):
            self._head += more
        return self._head

    def read(self, size: int = -1) -> bytes:
        """Return what is at hand, at most `size` and no less than was peeked; b"" at the end."""
        head, self._head = self._head, b""
        block = head + self._take(size - len(head))
        self.consumed += len(block)
        return block

    def readable(self) -> bool:
        """Return True."""
        return True

    def _take(self, size: int) -> bytes:
        most = BLOCK if self._singly_from is None else max(1, self._singly_from - self.consumed)
        block: bytes = self.file.read1(min(size, most, BLOCK))  # type: ignore[attr-defined]
        return block


def decompressed(stored: Stored, path: str) -> Iterator[bytes]:
    """Yield the contents of a gzip, Zstandard or plain file, told apart by their first bytes.

    Everything that can be read is yielded before the error is raised: OSError for a failing device
    and for broken Zstandard, zlib.error for damaged gzip, EOFError for gzip cut off. Only Zstandard
    from a pipe, which cannot be read again, may lose up to `BLOCK` bytes before the break.
    """
    magic = stored.peek(4)
    if magic.startswith(GZIP_MAGIC):
        return _gzip(stored)
    if magic == ZSTD_MAGIC or ZSTD_SKIPPABLE.match(magic):
        return _zstd(stored, path)
    return _plain(stored)


def _plain(stored: Stored) -> Iterator[bytes]:
    while block := stored.read(BLOCK):
        yield block


def _gzip(stored: Stored) -> Iterator[bytes]:
    member, inside = zlib.decompressobj(GZIP_WINDOW), False
    while block := stored.read(DEFLATED_BLOCK):
        while block := block if inside else block.lstrip(b"\0"):  # gzip allows zeros between members
            inside = True
            before = member.copy()
            try:
                out = member.decompress(block, INFLATED_BLOCK)
            except zlib.error:
                yield from _salvaged(before, block)
                raise
            if out:
                yield out
            block = member.unconsumed_tail
            if member.eof:
                block = member.unused_data
                member, inside = zlib.decompressobj(GZIP_WINDOW), False
    if inside:
        yield from iter(lambda: member.decompress(b"", INFLATED_BLOCK), b"")
        raise EOFError("the gzip stream is cut off")


def _salvaged(member: zlib._Decompress, block: bytes) -> Iterator[bytes]:
    """Yield what a damaged block gives up to the damage; zlib itself raises and keeps it back."""
    out = bytearray()
    with suppress(zlib.error):
        for at in range(len(block)):
            out += member.decompress(block[at : at + 1])
    if out:
        yield bytes(out)


def _zstd(stored: Stored, path: str) -> Iterator[bytes]:
    given = 0
    try:
        with pa.CompressedInputStream(pa.PythonFile(stored, "r"), "zstd") as stream:
            while block := stream.read(BLOCK):
                given += len(block)
                yield block
    except OSError:
        if Path(path).is_file():
            yield from _zstd_tail(path, given, stored.consumed)
        raise


def _zstd_tail(path: str, given: int, reached: int) -> Iterator[bytes]:
    """Yield what follows `given` bytes up to the break: Arrow keeps to itself what a failing read had got.

    So this reads again, and hands in the bytes before the break, by which `reached` were read, one by one.
    """
    with (
        Path(path).open("rb") as file,
        pa.PythonFile(Stored(file, reached - ZSTD_HELD), "r") as stored,
        pa.CompressedInputStream(stored, "zstd") as stream,
    ):
        while given:
            given -= len(stream.read(min(given, BLOCK)))
        tail = bytearray()
        with suppress(OSError):
            while byte := stream.read(1):
                tail += byte
    if tail:
        yield bytes(tail)
