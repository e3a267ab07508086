"""SQLite's errors as SQL Server's."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from labs.tds.catalogue import foreign_key
from labs.tds.errors import SqlError, unknown
from labs.tds.objects import Index, Table, quote
from labs.tds.translate import Plan


def sql_error(
    error: Exception,
    plan: Plan,
    text: str,
    database: str,
    db: sqlite3.Connection,
    bound: Sequence[Any],
    row: Sequence[Any],
) -> SqlError:
    """Return what SQL Server would say; `bound` are the statement's values, `row` those of a row alone."""
    table, message = plan.table, str(error)
    if isinstance(error, SqlError):
        if error.number == 8152 and table and error.column:
            value = message.partition("|")[2]
            return SqlError(2628, table=f"{database}.{table.path}", column=error.column, value=value)
        return error
    if isinstance(error, OverflowError):
        return SqlError(8115, source="expression", type="bigint")
    if isinstance(error, sqlite3.IntegrityError) and table:
        return _violation(message, plan, table, database, db, bound, row)
    if found := re.match(r"no such column: (?:.*\.)?(.+)|table .* has no column named (.+)", message):
        return SqlError(207, name=found[1] or found[2])
    return unknown(f"{message}: {text}")


def _violation(
    message: str,
    plan: Plan,
    table: Table,
    database: str,
    db: sqlite3.Connection,
    bound: Sequence[Any],
    row: Sequence[Any],
) -> SqlError:
    path = f"{database}.{table.path}"
    kind, _, what = message.partition(" constraint failed")
    what = what.removeprefix(": ")
    if kind == "NOT NULL":
        return SqlError(515, column=what.rpartition(".")[2], table=path, verb=plan.verb)
    if kind == "CHECK":
        return SqlError(
            547, verb=plan.verb, kind="CHECK", name=what, database=database, table=table.path, column=""
        )
    if kind == "FOREIGN KEY":
        parent = plan.verb == "DELETE"
        return SqlError(547, verb=plan.verb, kind="REFERENCE" if parent else "FOREIGN KEY",
                        name=foreign_key(db, table, referenced=parent), database=database, table=table.path,
                        column="")  # fmt: skip
    index = _index(what, table)
    found = _repeated(plan, table, index, db, bound, row)
    value = ", ".join("<NULL>" if each is None else str(each) for each in found)
    if not index.kind:
        return SqlError(2601, table=table.path, name=index.name, value=value)
    kind = "PRIMARY KEY" if index.kind == "PK" else "UNIQUE KEY"
    return SqlError(2627, kind=kind, name=index.name, table=table.path, value=value)


def _index(what: str, table: Table) -> Index:
    """SQLite names an index of expressions, of any other the columns."""
    named = re.match(r"index '.*?\|(.*)'", what)
    prefix = f"{table.name if table.name.startswith('#') else table.path}."
    columns = tuple(part.removeprefix(prefix) for part in what.split(", "))
    for index in table.indexes:
        if index.unique and (index.name == named[1] if named else index.columns == columns):
            return index
    raise unknown(f"the index of {what}")


def _repeated(
    plan: Plan, table: Table, index: Index, db: sqlite3.Connection, bound: Sequence[Any], row: Sequence[Any]
) -> Sequence[Any]:
    """Return the key that was there already."""
    if plan.rows:
        given = {column.name: value for column, value in zip(plan.rows, row, strict=False)}
        return [given.get(name) for name in index.columns]
    if not plan.source:
        return ["?"] * len(index.columns)
    names = [quote(name) for name in index.columns]
    same = " AND ".join(f"t.{name} IS s.{name}" for name in names)
    key = ", ".join(f"s.{name}" for name in names)
    for query in (f"SELECT {key} FROM source s JOIN {table.sqlite} t ON {same} LIMIT 1",
                  f"SELECT {key} FROM source s GROUP BY {key} HAVING count(*) > 1 LIMIT 1"):  # fmt: skip
        if found := db.execute(f"WITH source AS ({plan.source}) {query}", bound).fetchone():
            return list(found)
    return ["?"] * len(names)
