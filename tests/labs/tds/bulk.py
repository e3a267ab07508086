"""Bulk loads: what a client asks about the table, and INSERT BULK, which announces the rows.

Clients of SqlBulkCopy's family, mssql-python among them, ask in one fixed batch of dynamic SQL, which is
recognised as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlglot.dialects.tsql import TSQL

from labs.tds import ddl, rights
from labs.tds.batch import Statement
from labs.tds.errors import SqlError, unknown
from labs.tds.objects import NAME, Column, Table
from labs.tds.translate import Plan, Translator
from labs.tds.types import TEXTS, Type
from labs.tds.values import type_from_text
from labs.tds.wire import COMPUTED, IDENTITY, NULLABLE, UPDATABLE

if TYPE_CHECKING:
    from labs.tds.session import Session

ASKED = re.compile(r"SET FMTONLY ON;\s*EXEC\(N'SELECT ' \+ @Column_Names \+ N' FROM (.+?)'\);")
COLLATIONS = {"colid": Type("int"), "name": NAME, "tds_collation": Type("binary", 5), "collation": NAME}


class Load(NamedTuple):
    """A bulk load that was announced; `columns` are those it fills, in its order."""

    table: Table
    columns: tuple[Column, ...]
    plan: Plan
    checked: bool


def asked(batch: str) -> str | None:
    """Return the table that a batch asks about before a bulk load, if that is what it does."""
    found = ASKED.search(batch)
    return found[1].replace("''", "'") if found else None


def describe(session: Session, path: str) -> None:
    """Answer with @@TRANCOUNT, the columns of a table, and their collations. Raises SqlError 208 and 229."""
    session.reply.rows([""], [Type("int")], [[session.transaction.depth]])
    session.reply.done("SELECT", 1)
    table = session.translator().table(ddl.table_in(path))
    rights.require(session, "SELECT", table)
    columns = table.columns
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
