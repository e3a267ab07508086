"""SQLite's errors as SQL Server's."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from labs.tds.catalogue import Catalogue, Table
from labs.tds.errors import SqlError, unknown
from labs.tds.translate import Plan


def sql_error(
    error: Exception, plan: Plan, text: str, database: str, catalogue: Catalogue, values: Sequence[Any]
) -> SqlError:
    """Return what SQL Server would say; `values` are those of a row that was written alone."""
    table, message = plan.table, str(error)
    if isinstance(error, SqlError):
        if error.number == 8152 and table and error.column:
            value = message.partition("|")[2]
            return SqlError(2628, table=f"{database}.{table.path}", column=error.column, value=value)
        return error
    if isinstance(error, OverflowError):
        return SqlError(8115, source="expression", type="bigint")
    if isinstance(error, sqlite3.IntegrityError) and table:
        return _violation(message, plan, table, database, catalogue, values)
    if found := re.match(r"no such column: (?:.*\.)?(.+)|table .* has no column named (.+)", message):
        return SqlError(207, name=found[1] or found[2])
    return unknown(f"{message}: {text}")


def _violation(
    message: str, plan: Plan, table: Table, database: str, catalogue: Catalogue, values: Sequence[Any]
) -> SqlError:
    path = f"{database}.{table.path}"
    kind, _, what = message.partition(" constraint failed")
    what = what.removeprefix(": ")
    if kind == "NOT NULL":
        return SqlError(515, column=what.rpartition(".")[2], table=path, verb=plan.verb)
    if kind == "CHECK":
        return SqlError(547, verb=plan.verb, kind="CHECK", name=what, database=database, table=table.path, column="")
    if kind == "FOREIGN KEY":
        parent = plan.verb == "DELETE"
        return SqlError(547, verb=plan.verb, kind="REFERENCE" if parent else "FOREIGN KEY",
                        name=catalogue.foreign_key(table, referenced=parent), database=database, table=table.path,
                        column="")  # fmt: skip
    return _duplicate(what, plan, table, values)


def _duplicate(what: str, plan: Plan, table: Table, values: Sequence[Any]) -> SqlError:
    """SQLite names an index of expressions, of any other the columns."""
    named = re.match(r"index '.*?\|(.*)'", what)
    prefix = f"{table.name if table.name.startswith('#') else table.path}."
    columns = tuple(part.removeprefix(prefix) for part in what.split(", "))
    index = next(
        (i for i in table.indexes if i.unique and (i.name == named[1] if named else i.columns == columns)), None
    )
    if index is None:
        return unknown(f"the index of {what}")
    given = {column.name: value for column, value in zip(plan.rows, values, strict=False)}
    value = ", ".join("<NULL>" if given.get(name, 0) is None else str(given.get(name, "?")) for name in index.columns)
    if not index.kind:
        return SqlError(2601, table=table.path, name=index.name, value=value)
    kind = "PRIMARY KEY" if index.kind == "PK" else "UNIQUE KEY"
    return SqlError(2627, kind=kind, name=index.name, table=table.path, value=value)
