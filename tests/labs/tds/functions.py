"""T-SQL's functions that SQLite lacks, as functions of SQLite; the name there has `t_` before it."""

from __future__ import annotations

import sqlite3
import uuid
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from labs.tds.catalogue import Catalogue
from labs.tds.errors import SqlError
from labs.tds.objects import NAME
from labs.tds.types import Type
from labs.tds.values import compare_decimals, compare_offsets, compare_texts, converter, type_from_text

VERSION = "16.0.4000.0"
PROPERTIES = {"productversion": VERSION, "edition": "Stand-in for tests (64-bit)", "engineedition": 3,
              "productmajorversion": "16", "collation": "SQL_Latin1_General_CP1_CI_AS", "isclustered": 0,
              "machinename": "stand-in", "servername": "stand-in"}  # fmt: skip
INT, TEXT, MOMENT = Type("int"), Type("nvarchar", 4000), Type("datetime2", 0, 0, 7)
VARIANT = Type("sql_variant")  # here of integers only
# What each returns; a function that is not here is not known.
KINDS: dict[str, Type | None] = {
    "object_id": INT, "object_name": NAME, "schema_id": INT, "schema_name": NAME, "db_name": NAME,
    "db_id": INT, "suser_sname": NAME, "user_name": NAME, "serverproperty": TEXT, "has_perms_by_name": INT,
    "sysutcdatetime": MOMENT, "sysdatetime": MOMENT, "getdate": Type("datetime"),
    "sysdatetimeoffset": Type("datetimeoffset", 0, 0, 7), "newid": Type("uniqueidentifier"), "variable": None,
    "xact_state": Type("smallint"), "len": INT, "error_number": INT,
    "sum": None,
    "collationproperty": VARIANT,
}  # fmt: skip


class Session(Protocol):
    """What the functions ask the session for."""

    catalogue: Catalogue
    database: str
    user: str
    raised: Exception | None
    caught: Any

    def state(self) -> int: ...
    def variable(self, name: str) -> Any: ...
    def permitted(self, securable: str | None, kind: str, right: str) -> int | None: ...
    def user_name(self) -> str | None: ...
    def next_identity(self, number: int) -> int: ...


class DecimalSum:
    """SUM of decimals, exactly."""

    def __init__(self) -> None:
        self._sum: Decimal | None = None

    def step(self, value: str | None) -> None:
        if value is not None:
            self._sum = (self._sum or Decimal()) + Decimal(value)

    def finalize(self) -> str | None:
        return None if self._sum is None else format(self._sum, "f")


def register(db: sqlite3.Connection, session: Session) -> None:
    """Make the functions and collations of a session known to its connection."""

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except Exception as error:
                session.raised = error  # SQLite only says that a function failed
                raise

        return call

    for name, function in _functions(session, db).items():
        db.create_function(f"t_{name}", -1, guarded(function))
    db.create_aggregate("t_sum", 1, DecimalSum)  # type: ignore[arg-type]
    db.create_collation("sql_text", compare_texts)
    db.create_collation("sql_decimal", compare_decimals)
    db.create_collation("sql_datetimeoffset", compare_offsets)


def _functions(session: Session, db: sqlite3.Connection) -> dict[str, Callable[..., Any]]:
    return {
        "cast": _cast, "next_identity": session.next_identity,
        "object_id": session.catalogue.find,
        "object_name": lambda number: _one(db, 'SELECT name FROM "sys.objects" WHERE object_id = ?', number),
        "schema_id": lambda name="dbo": _one(db, 'SELECT schema_id FROM "sys.schemas" WHERE name = ?', name),
        "schema_name": lambda at=1: _one(db, 'SELECT name FROM "sys.schemas" WHERE schema_id = ?', at),
        "db_name": lambda: session.database, "db_id": lambda name=None: _number(name or session.database),
        "collationproperty": lambda name, what: 1252 if name and what.lower() == "codepage" else None,
        "suser_sname": lambda: session.user, "user_name": session.user_name,
        "serverproperty": lambda name: PROPERTIES.get(name.lower()),
        "has_perms_by_name": session.permitted,
        "sysutcdatetime": _now, "sysdatetime": _now, "getdate": _now,
        "sysdatetimeoffset": lambda: _now() + "+00:00",
        "newid": lambda: str(uuid.uuid4()).upper(), "variable": session.variable, "xact_state": session.state,
        "len": lambda text: None if text is None else len(text.rstrip(" ")),
        "error_number": lambda: getattr(session.caught, "number", None),
    }  # fmt: skip


def _number(database: str) -> int:
    """Return a number for a database by its name; real ones count from 1."""
    return zlib.crc32(database.lower().encode()) & 0x7FFF


def _one(db: sqlite3.Connection, query: str, value: Any) -> Any:
    found = db.execute(query + " COLLATE NOCASE", [value]).fetchone()
    return found[0] if found else None


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f0")


@lru_cache(1024)
def _converter(source: str, target: str, cut: int) -> Callable[[Any], Any]:
    kind = type_from_text(source) if source else None
    return converter(kind, type_from_text(target), cut=bool(cut)) or (lambda value: value)


def _cast(value: Any, source: str, target: str, cut: int, column: str) -> Any:
    try:
        return _converter(source, target, cut)(value)
    except SqlError as error:
        error.column = column
        raise
