"""The rows of a bulk load (MS-TDS, section 2.2.6.1): one message, of which all is written, or nothing."""

from __future__ import annotations

import math
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from labs.tds import rights
from labs.tds.bulk import Load
from labs.tds.encoding import Decoder, decoder
from labs.tds.errors import SqlError, unknown
from labs.tds.objects import Column
from labs.tds.types import Type, read_type
from labs.tds.values import filled

if TYPE_CHECKING:
    from labs.tds.session import Session

ROW, DONE = 0xD1, 0xFD  # tokens


def load(session: Session, message: bytes) -> None:
    """Write the rows of a message."""
    announced, session.announced = session.announced, None
    if announced is None:
        raise unknown("rows that no INSERT BULK announced")
    rights.check(session, announced.plan)
    kinds, start = _described(message)
    for number, (kind, column) in enumerate(zip(kinds, announced.columns, strict=True), 1):
        if kind != column.type:
            raise SqlError(4816, column=number)
    readers = [_reader(column) for column in announced.columns]
    session.count = session.transaction.change(
        lambda: _write(session, announced, message, start, readers), checked=announced.checked
    )
    if any(column.identity for column in announced.columns):
        session.base.identities.pop(announced.table.id, None)  # to go on behind what was given
    session.reply.done("BULK", session.count)


def _write(session: Session, load: Load, message: bytes, start: int, readers: Sequence[Decoder]) -> int:
    row: list[Any] = [None] * len(readers)
    try:
        return session.db.executemany(load.plan.sql, _rows(message, start, readers, row)).rowcount
    except (sqlite3.Error, OverflowError) as error:
        raise session.failure(error, load.plan, "a bulk load", row, row) from None


def _described(message: bytes) -> tuple[list[Type], int]:
    """Read COLMETADATA; return the types and where the rows begin."""
    kinds, at = [], 3
    for _ in range(struct.unpack_from("<H", message, 1)[0]):
        kind, at = read_type(message, at + 6)  # behind the user's type and the flags
        at += 1 + message[at] * 2
        kinds.append(kind)
    return kinds, at


def _rows(message: bytes, at: int, readers: Sequence[Decoder], row: list[Any]) -> Iterator[Sequence[Any]]:
    """Yield each row in `row`. Raises SqlError 4804 if the message ends within one."""
    places = list(enumerate(readers))
    try:
        while message[at] == ROW:
            at += 1
            for place, read in places:
                row[place], at = read(message, at)
            yield row
        if message[at] != DONE:
            raise unknown(f"token 0x{message[at]:02X} in a bulk load")
    except (IndexError, struct.error):
        raise SqlError(4804) from None


def _reader(column: Column) -> Decoder:
    """Return what reads a value as it is stored."""
    read, kind = decoder(column.type), column.type
    if kind.name in ("char", "nchar"):
        return _then(read, lambda text: filled(text, kind))
    if kind.name == "binary":
        return _then(read, lambda raw: raw.ljust(kind.size, b"\0"))
    if kind.name in ("real", "float"):
        return _then(read, lambda number: _finite(number, column.name))
    return read


def _then(read: Decoder, change: Callable[[Any], Any]) -> Decoder:
    def changed(message: bytes, at: int) -> tuple[Any, int]:
        value, at = read(message, at)
        return None if value is None else change(value), at

    return changed


def _finite(number: float, column: str) -> float:
    if not math.isfinite(number):
        raise SqlError(7339, column=column)
    return number
