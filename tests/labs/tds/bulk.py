"""Bulk load: what a client asks about the table, announces with INSERT BULK, and then sends (MS-TDS 2.2.6.1).

Clients of SqlBulkCopy's family, mssql-python among them, first send one fixed batch of dynamic SQL, which is
recognised as a whole. A message of rows is one statement: all of them are written, or none.
"""

from __future__ import annotations

import math
import re
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlglot.dialects.tsql import TSQL

from labs.tds import ddl
from labs.tds.batch import Statement
from labs.tds.encoding import Decoder, decoder
from labs.tds.errors import SqlError, unknown
from labs.tds.objects import NAME, Column, Table
from labs.tds.rows import check_rights
from labs.tds.translate import Plan, Translator
from labs.tds.types import TEXTS, Type, read_type
from labs.tds.values import filled, type_from_text

if TYPE_CHECKING:
    from labs.tds.session import Session

ASKED = re.compile(r"SET FMTONLY ON;\s*EXEC\(N'SELECT ' \+ @Column_Names \+ N' FROM (.+?)'\);")
NULLABLE, UPDATABLE, IDENTITY, COMPUTED = 0x01, 0x08, 0x10, 0x20  # flags of a column
COLLATIONS = {"colid": Type("int"), "name": NAME, "tds_collation": Type("binary", 5), "collation": NAME}
COLUMNS, ROW, DONE = 0x81, 0xD1, 0xFD  # tokens


class Load(NamedTuple):
    """A bulk load that was announced; `columns` are those it fills, in its order."""

    table: Table
    columns: tuple[Column, ...]
    plan: Plan
    checked: bool


# --- before ---


def asked(batch: str) -> str | None:
    """Return the table that a batch asks about before a bulk load, if that is what it does."""
    found = ASKED.search(batch)
    return found[1].replace("''", "'") if found else None


def describe(session: Session, path: str) -> None:
    """Answer with @@TRANCOUNT, the columns of a table, and their collations. Raises SqlError 208."""
    session.reply.rows([""], [Type("int")], [[session.transaction.depth]])
    session.reply.done("SELECT", 1)
    columns = session.translator().table(ddl.table_in(path)).columns
    session.reply.columns([c.name for c in columns], [c.type for c in columns], map(_flags, columns))
    session.reply.done("SELECT", 0)
    collations = [(at, c.name, None, _collation(c)) for at, c in enumerate(columns, 1)]
    session.reply.rows([*COLLATIONS], [*COLLATIONS.values()], collations)
    session.reply.done("SELECT", len(columns))


def _flags(column: Column) -> int:
    flags = COMPUTED if column.computed else UPDATABLE
    return flags | NULLABLE * column.nullable | IDENTITY * column.identity


def _collation(column: Column) -> str | None:
    return column.collation if column.type.name in TEXTS else None


def announce(session: Session, statement: Statement) -> None:
    """INSERT BULK: the rows come with the next message."""
    path, declared, options = _parts(statement.text)
    table = session.translator().table(ddl.table_in(path))
    columns = []
    for part in declared:
        name, *words = [token.text for token in TSQL().tokenize(part)]
        column = table.column(name)
        if column is None:
            raise SqlError(207, name=name)
        kind = type_from_text("".join(words).upper().partition("COLLATE")[0])
        if kind != column.type:
            raise unknown(f"{kind} for the {column.type} of column {name} in {statement.text}")
        columns.append(column)
    plan = _plan(session, table, columns, keep_nulls="KEEP_NULLS" in options)
    session.announced = Load(table, tuple(columns), plan, "CHECK_CONSTRAINTS" in options)
    session.reply.done()


def _parts(text: str) -> tuple[str, list[str], set[str]]:
    """Return table, columns and options of INSERT BULK table (columns) WITH (options)."""
    tokens = TSQL().tokenize(text)
    brackets = [token for token in tokens if token.token_type.name in ("L_PAREN", "R_PAREN")]
    depth, opening = 0, brackets[0]
    for closing in brackets:
        depth += 1 if closing.text == "(" else -1
        if not depth:
            break
    options = {token.text.upper() for token in tokens if token.start > closing.end}
    return text[tokens[2].start : opening.start], ddl.split(text[opening.end + 1 : closing.start]), options


def _plan(session: Session, table: Table, columns: Sequence[Column], *, keep_nulls: bool) -> Plan:
    """Return the INSERT for one row; NULL takes the default of its column, an identity is kept if it came."""
    cells = [f"@c{at}" for at in range(len(columns))]
    for at, column in enumerate(columns):
        if column.default is not None and not keep_nulls:
            cells[at] = f"COALESCE(@c{at}, CAST({column.default} AS {column.type}))"
    kinds = {f"c{at}": column.type for at, column in enumerate(columns)}
    kept = table.path if any(column.identity for column in columns) else ""
    names = ", ".join(map(_bracketed, (column.name for column in columns)))
    path = f"{_bracketed(table.schema)}.{_bracketed(table.name)}"
    text = f"INSERT INTO {path} ({names}) VALUES ({', '.join(cells)})"
    return Translator(session.catalogue, kinds, kept).plan(text)._replace(rows=tuple(columns))


def _bracketed(name: str) -> str:
    return f"[{name.replace(']', ']]')}]"


# --- rows ---


def load(session: Session, message: bytes) -> None:
    """Write the rows of a message."""
    announced, session.announced = session.announced, None
    if announced is None:
        raise unknown("rows that no INSERT BULK announced")
    check_rights(session, announced.plan)
    kinds, start = _described(message)
    for number, (kind, column) in enumerate(zip(kinds, announced.columns, strict=True), 1):
        if kind != column.type:
            raise SqlError(4816, column=number)
    readers = [_reader(column) for column in announced.columns]
    if not announced.checked:
        session.transaction.leave_unchecked()
    session.count = session.transaction.change(lambda: _write(session, announced, message, start, readers))
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
