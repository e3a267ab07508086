"""Opens inputs: paths and patterns, standard input, blocks of whole lines.

An input may break off: a truncated or damaged archive, a failing disk. What was readable before
that point counts, so a break is no exception here: `Input.read` ends, and `Input.error` says why.
"""

from __future__ import annotations

import glob
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from adaptive.dialect import MAX_RATIO
from adaptive.errors import SourceError, UsageError
from adaptive.sources.compression import Stored, decompressed

T = TypeVar("T")

STDIN = "-"
FREE = 64 << 20  # decompressed bytes that no ratio is asked of: what little they hold does no harm
MAX_COLUMNS = 4096  # PostgreSQL has 1,600, SQL Server 1,024, SQLite 2,000; a record of more is no row


def expand(patterns: Sequence[str]) -> list[str]:
    """Return the files that paths and patterns name, each once, those of a pattern sorted.

    `**` matches any number of folders, "-" is standard input, and a name that exists is never
    taken for a pattern. Raises UsageError for what is missing, unreadable or a directory, and for
    a pattern that matches no file.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        for path in _matches(pattern):
            found.setdefault(path if path == STDIN else os.path.realpath(path), path)
    return list(found.values())


def _matches(pattern: str) -> list[str]:
    if pattern == STDIN:
        return [pattern]
    if Path(pattern).exists():
        return [_checked(pattern)]
    if "://" in pattern or ("//" in pattern and "@" in pattern):  # not shown: it may hold a password
        raise UsageError(
            "a source looks like the URL of a database, which goes after --to; sources are files"
        )
    if not glob.has_magic(pattern):
        raise UsageError(f"{pattern}: no such file")
    paths = glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    files = sorted(path for path in paths if not Path(path).is_dir())
    if not files:
        raise UsageError(f"{pattern}: no file matches this pattern")
    for path in files:
        if Path(path).exists() and not Path(path).is_file():  # a pipe may never open, a device never end
            raise UsageError(f"{path}: this is no regular file; it is read only if named itself")
    return [_checked(path) for path in files]


def _checked(path: str) -> str:
    if Path(path).is_dir():
        raise UsageError(f"{path}: this is a directory; name its files, for example '{Path(path) / '*'}'")
    if not os.access(path, os.R_OK):
        missing = "no permission to read this file" if Path(path).exists() else "no such file"
        raise UsageError(f"{path}: {missing}")
    return path


def size(path: str) -> int | None:
    """Return the bytes of a file as it is stored, compressed or not; None for pipes."""
    return Path(path).stat().st_size if path != STDIN and Path(path).is_file() else None


class Input:
    """The decompressed bytes of a file or of standard input, read once from start to end.

    gzip and Zstandard are recognised by content, never by name. `error` says where and why the
    input broke off, once `read` has returned everything before that point; so does content that is
    more than `max_ratio` times as large as the file, beyond `FREE` bytes. At its end it closes itself.
    """

    def __init__(self, path: str, max_ratio: int = MAX_RATIO) -> None:
        self.name = "standard input" if path == STDIN else path
        self.error: SourceError | None = None
        self._is_stdin = path == STDIN
        self._stored = Stored(_opened(path))
        self._blocks = decompressed(self._stored, path)
        self._rest: bytes | memoryview = b""
        self._max_ratio = max_ratio
        self._produced = 0

    @property
    def consumed(self) -> int:
        """Return how many bytes were taken from the file as it is stored."""
        return self._stored.consumed

    def read(self, size: int) -> bytes:
        """Return what is at hand, at most `size` bytes; b"" only at the end or at a break."""
        block = self._rest or self._next()
        self._rest = memoryview(block)[size:]
        return bytes(memoryview(block)[:size] if self._rest else block)

    def _next(self) -> bytes:
        """Return the next decompressed block, or b"" with the file closed."""
        try:
            if block := next(self._blocks, b""):
                self._produced += len(block)
                if self._produced <= max(FREE, self._max_ratio * self.consumed):
                    return block
                self.error = bomb(self.name, self._produced, self.consumed, self._max_ratio)
        except (OSError, EOFError, zlib.error) as error:
            cause = error.strerror if isinstance(error, OSError) and error.strerror else error
            where = f"broken off after byte {self.consumed:,} of the file"
            self.error = SourceError(f"{self.name}: {where}: {cause}")
        self.close()
        return b""

    def close(self) -> None:
        """Close the file, but never standard input. Repeating it is fine."""
        if not self._is_stdin:
            self._stored.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_input(path: str, max_ratio: int = MAX_RATIO) -> Input:
    """Return the bytes of a file, or of standard input for "-"; use it in a `with` statement.

    Raises SourceError if the file cannot be opened or its first bytes cannot be read.
    """
    try:
        return Input(path, max_ratio)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error


def _opened(path: str) -> BinaryIO:
    if path != STDIN:
        return Path(path).open("rb")
    if sys.stdin is None:
        raise UsageError("standard input is closed; name a file, or pipe the records in")
    return sys.stdin.buffer


def check_width(name: str, columns: Sequence[str]) -> None:
    """Raise UsageError for more columns than any table has: each costs memory for every record."""
    if len(columns) > MAX_COLUMNS:
        raise UsageError(f"{name}: it has {len(columns):,} columns or more; at most {MAX_COLUMNS:,} are read")


def bomb(name: str, produced: int, stored: int, max_ratio: int) -> SourceError:
    """Return the error for content that is far larger than the bytes it comes from."""
    ratio = produced // max(stored, 1)
    what = f"decompressed it is {ratio:,} times as large, --max-ratio is {max_ratio:,}; a bomb?"
    return SourceError(f"{name}: stopped after {produced >> 20:,} MB: {what}")


def too_long(place: str, limit: int) -> SourceError:
    """Return the error for a record of more than `limit` bytes."""
    return SourceError(f"{place} is longer than {limit >> 20} MB; a larger --max-record (MB) lets it in")


def pieces(source: Input, size: int, longest: int) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of about `size` bytes that end with a line, each with the number of its first line.

    Lines count from 1. A longer line makes a longer block, up to `longest` bytes. The last line
    needs no newline; after a break it is left out, being cut, and `source.error` is raised at the
    end. Raises SourceError, too, for a line longer than that.
    """
    line, rest, held = 1, [b""], 0
    while block := source.read(size):
        cut = block.rfind(b"\n") + 1
        if cut:
            piece = b"".join((*rest, block[:cut]))
            yield piece, line
            line += piece.count(b"\n")
            rest, held = [], 0
        rest.append(block[cut:])
        held += len(block) - cut
        if held > longest:
            raise too_long(f"{source.name}: line {line:,}", longest)
    if source.error:
        raise source.error
    if held:
        yield b"".join(rest), line


def unbroken(items: Iterator[T]) -> Iterator[T]:
    """Yield what comes before a SourceError: for a first look, since the load itself meets it again."""
    with suppress(SourceError):
        yield from items
