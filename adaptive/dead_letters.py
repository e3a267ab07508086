"""The dead letter queue: a JSON Lines file of the rejected records, to look at, mend and replay.

The first line describes the load; each further line is one record: its position, what was read,
and why it was refused. Letters are on disk before the batch commits; a letter counts only if a
committed receipt names its position, so one left behind by an attempt that died does no harm.
"""

from __future__ import annotations

import errno
import json
import math
import mmap
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from adaptive.errors import AdaptiveError, UsageError
from adaptive.rows import Position, Reject, Row

VERSION = 1
OWNER = ("load", "target")  # of a header, whose letters a file holds


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One rejected record.

    `values` maps target columns to what was read; `raw` is the record's text where it could not be
    taken apart. `file` and `line` are for people; `position` is what counts.
    """

    position: Position
    code: str
    reason: str
    column: str | None = None
    values: Row | None = None
    raw: str | None = None
    file: str | None = None
    line: int | None = None
    sink: str | None = None
    time: str | None = None

    @classmethod
    def of(cls, split: int, reject: Reject, file: str, sink: str) -> Self:
        """Return the dead letter of a reject."""
        return cls(
            Position(split, reject.ordinal), reject.code, reject.reason, reject.column, reject.values,
            reject.raw, file, reject.line, sink, datetime.now(UTC).isoformat(timespec="milliseconds"),
        )  # fmt: skip

    def __str__(self) -> str:
        """Return where it stands and why it was refused."""
        line = f", line {self.line}" if self.line else ""
        column = f", column {self.column}" if self.column else ""
        return f"{self.file}, record {self.position.ordinal + 1}{line}{column}: {self.reason}"

    def to_json(self) -> bytes:
        """Return the letter as one line of JSON."""
        position = {"file": self.file, "split": self.position.split, "record": self.position.ordinal + 1}
        if self.line:
            position["line"] = self.line
        content = {"row": self.values} if self.raw is None else {"raw": self.raw}
        letter = {**content, "position": position, "column": self.column, "code": self.code,
                  "reason": self.reason, "sink": self.sink, "time": self.time}  # fmt: skip
        return _to_json(letter)

    @classmethod
    def from_json(cls, line: bytes) -> Self:
        """Return the letter in a line.

        Raises ValueError if it is not one.
        """
        found = _from_json(line)
        try:
            place = found["position"]
            position = Position(int(place["split"]), int(place["record"]) - 1)
            if min(position) < 0 or not isinstance(found.get("row"), dict | None):
                raise ValueError("not a dead letter: its position or its row is wrong")
            return cls(position, found["code"], found["reason"], found.get("column"), found.get("row"),
                       found.get("raw"), place.get("file"), place.get("line"), found.get("sink"),
                       found.get("time"))  # fmt: skip
        except KeyError as error:
            raise ValueError(f"not a dead letter: {error} is missing") from error
        except TypeError as error:
            raise ValueError("not a dead letter: it is no object with a position") from error


class DeadLetterFile:
    """Appends dead letters to a file that is made, readable by its owner only, for the first one.

    Raises UsageError if there is a file of another load.
    """

    def __init__(self, path: str, header: Mapping[str, Any]) -> None:
        self.path = path
        self._header = _to_json({"adaptive_dead_letters": VERSION, **header})
        self._written: set[Position] = set()
        self._lock = threading.Lock()
        if not _is_free(path, header):
            raise UsageError(f"{path} holds what another load rejected: name another file")

    def append(self, letters: Iterable[DeadLetter]) -> None:
        """Append the letters not yet appended and wait until they are on disk.

        Raises AdaptiveError if that fails, the file then unchanged or cut back to whole lines.
        """
        with self._lock:
            fresh = [letter for letter in letters if letter.position not in self._written]
            if fresh:
                self._append(b"".join(letter.to_json() for letter in fresh))
                self._written.update(letter.position for letter in fresh)

    def _append(self, lines: bytes) -> None:
        file = self._opened()
        end = _whole_lines(file)
        try:
            if end < os.fstat(file).st_size:
                os.ftruncate(file, end)  # an attempt that died left a part of a line
            _write(file, lines if end else self._header + lines)
            os.fsync(file)
            if not end:
                _sync_folder(self.path)
        except OSError as error:
            os.ftruncate(file, end)
            raise AdaptiveError(f"cannot write dead letters to {self.path}: {error.strerror}") from error
        finally:
            os.close(file)

    def _opened(self) -> int:
        """Return the open file. Others may write in its folder: no link of theirs is followed, no file used.

        O_NONBLOCK: opening a pipe would wait for its other end.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            file = os.open(self.path, flags, 0o600)
        except OSError as error:
            why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise AdaptiveError(f"cannot write dead letters to {self.path}: {why}") from error
        found = os.fstat(file)
        why = "" if stat.S_ISREG(found.st_mode) else "it is no file"
        if found.st_uid != os.geteuid() and found.st_mode & 0o066:
            why = "it belongs to another user, who would read along"
        if why:
            os.close(file)
            raise AdaptiveError(f"cannot write dead letters to {self.path}: {why}")
        return file


def default_path(header: Mapping[str, Any]) -> str:
    """Return where a load's dead letters go; the same load into another database has them elsewhere."""
    path = f"./{header['load']}.rejected.jsonl"
    if _is_free(path, header):
        return path
    return (
        f"./{header['load']}.{blake2b(header['target'].encode(), digest_size=4).hexdigest()}.rejected.jsonl"
    )


def _is_free(path: str, header: Mapping[str, Any]) -> bool:
    """Return whether a file is missing, or holds letters of this load into this database."""
    if not _has_header(path):
        return True
    found = read(path)[0]
    return all(found.get(name, header.get(name)) == header.get(name) for name in OWNER)


def read(path: str) -> tuple[dict[str, Any], Iterator[DeadLetter]]:
    """Return the header and the letters of a file.

    Raises UsageError if it cannot be read or is not a dead letter file; the iterator raises it,
    naming the line, for a line that is not a letter.
    """
    try:
        with Path(path).open("rb") as file:
            header = _from_json(file.readline())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not a dead letter file") from error
    if not isinstance(header, dict) or header.pop("adaptive_dead_letters", None) != VERSION:
        raise UsageError(f"{path}: not a dead letter file of version {VERSION}")
    return header, _letters(path)


def _letters(path: str) -> Iterator[DeadLetter]:
    with Path(path).open("rb") as file:
        next(file)
        for number, line in enumerate(file, start=2):
            try:
                if line.strip():
                    yield DeadLetter.from_json(line)
            except ValueError as error:
                raise UsageError(f"{path}, line {number}: {error}") from error


def _has_header(path: str) -> bool:
    """Say whether a file has a whole first line; an attempt that died may have left a part of it."""
    file = Path(path)
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return content.readline().endswith(b"\n")


def _whole_lines(file: int) -> int:
    """Return the size of a file up to the end of its last whole line."""
    if not (size := os.fstat(file).st_size) or os.pread(file, 1, size - 1) == b"\n":
        return size
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as content:
        return content.rfind(b"\n") + 1


def _sync_folder(path: str) -> None:
    """Wait until the name of a new file is on disk, too; some network file systems know no such wait."""
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fsync(folder)
    finally:
        os.close(folder)


def _write(file: int, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        rest = rest[os.write(file, rest) :]


def _to_json(content: Mapping[str, Any]) -> bytes:
    """Return a line of JSON. A lone surrogate becomes its escape, so it comes back as it was."""
    return json.dumps(_plain(content), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _from_json(line: bytes) -> Any:
    return json.loads(line, parse_int=_exact_int, parse_float=_exact_float, parse_constant=str)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON lacks, or would round, becomes text, nothing null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(held) for held in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"\\x{value.hex()}"
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _exact_int(text: str) -> int | str:
    return int(text) if len(text) <= 20 and -(2**63) <= int(text) < 2**63 else text


def _exact_float(text: str) -> float | str:
    """Return a number, or its text if a float would round it."""
    value = float(text)
    return value if Decimal(repr(value)) == Decimal(text) else text
