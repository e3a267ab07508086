"""Write rows into a SQL Server table with `fast_executemany`, exactly once.

This file stands alone: it needs pyodbc and Microsoft's ODBC driver, and pyarrow only for Arrow tables and
`prepare`. Copied into another project it works as it is:

    with SqlserverSink("mssql://user:password@localhost/market", table="orders") as sink:
        sink.begin()
        sink.write([{"order_id": 1, "price": "9.99"}])
        sink.commit()

Each transaction of a load starts with its receipt in a ledger beside the target table, inserted only
while the load's splits still belong to this run: so a batch begun again is recognised, and a run that
was replaced cannot commit.

`fast_executemany` sends all rows in one message but never says which one failed, and it trusts what it is
told about the columns. So every column is bound as the catalogue has it, and every value is checked
against it before: what the server would cut, round or pad without a word is refused here, by row.
"""

from __future__ import annotations

import json
import math
import platform
import re
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import UUID

if TYPE_CHECKING:
    import pyarrow as pa
    import pyodbc

Verdict: TypeAlias = Literal["retry", "overload", "in_doubt", "reject", "fatal", "taken_over"]
Rejection: TypeAlias = tuple[int, str, str]
Rejections: TypeAlias = list[Rejection]
Kept: TypeAlias = tuple[Any, frozenset[int]]  # rows, and the indexes of those that were refused

# The rights that each mode needs on the table.
MODES = {"append": "INSERT", "ignore": "SELECT INSERT", "upsert": "SELECT INSERT UPDATE",
         "replace": "SELECT INSERT DELETE"}  # fmt: skip
DEFAULTS = {"encrypt": "yes", "app": "adaptive",
            "connectretrycount": "0",  # a lost connection must be seen: its transaction is gone
            "usefmtonly": "yes"}  # the driver's documented way to describe temporary tables  # fmt: skip
LOGIN_SECONDS = 15
# fast_executemany with another driver crashes (FreeTDS, SQLite) or drops microseconds (psqlODBC) silently.
MICROSOFT = re.compile(r"(lib)?msodbcsql[-.\d]*\.(so|dylib|dll)[.\d]*", re.IGNORECASE)
DRIVERS = "ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server"
INSTALL_ODBC = "pyodbc needs the library unixODBC: apt-get install libodbc2 (or unixodbc)"
INSTALL_DRIVER = (
    "no Microsoft ODBC driver for SQL Server is installed: install msodbcsql18 (learn.microsoft.com/sql/"
    "connect/odbc/download-odbc-driver-for-sql-server), or `pip install mssql-python-odbc`, or name one "
    "with ?driver="
)
# Bytes that pyodbc allocates for the parameters of one executemany, whatever the data.
BUFFER_BYTES = 16_000_000
EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])

# Sent once after connecting. XACT_ABORT OFF: most errors of a statement then leave the transaction usable.
# A lock is waited for longer than the server's keepalives (30 s, then 10 probes 1 s apart) take to end a
# half-open attempt that holds it.
SESSION = """
    SET NOCOUNT OFF; SET XACT_ABORT OFF; SET LOCK_TIMEOUT 60000; SET DATEFORMAT ymd; SET ANSI_NULLS ON;
    SET ANSI_PADDING ON; SET ANSI_WARNINGS ON; SET ARITHABORT ON; SET CONCAT_NULL_YIELDS_NULL ON;
    SET QUOTED_IDENTIFIER ON; SET NUMERIC_ROUNDABORT OFF; SET TRANSACTION ISOLATION LEVEL READ COMMITTED"""
SERVER = """
    SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)),
        CAST(SERVERPROPERTY('Edition') AS nvarchar(128)), DB_NAME(), SUSER_SNAME(), SCHEMA_NAME()"""
LOCATE = """
    SELECT s.name, o.name, o.object_id
    FROM sys.objects AS o JOIN sys.schemas AS s ON s.schema_id = o.schema_id
    WHERE o.object_id = OBJECT_ID(?) AND o.type IN ('U', 'V')"""
# An alias type has the system type it stands for; of CLR types (240) only the user type says which.
CATALOGUE = """
    SELECT c.name, y.name, c.max_length, c.precision, c.scale, c.is_nullable, c.is_identity, c.collation_name,
        COLLATIONPROPERTY(c.collation_name, 'CodePage'), d.definition, k.key_ordinal
    FROM sys.columns AS c
        JOIN sys.types AS y
            ON y.user_type_id = CASE WHEN c.system_type_id = 240 THEN c.user_type_id ELSE c.system_type_id END
        LEFT JOIN sys.default_constraints AS d ON d.object_id = c.default_object_id
        LEFT JOIN sys.indexes AS i ON i.object_id = c.object_id AND i.is_primary_key = 1
        LEFT JOIN sys.index_columns AS k
            ON k.object_id = i.object_id AND k.index_id = i.index_id AND k.column_id = c.column_id
    WHERE c.object_id = ? AND c.is_computed = 0 AND c.generated_always_type = 0 AND y.name <> 'timestamp'
    ORDER BY c.column_id"""
# Unique indexes and constraints without a filter, one row for each key column.
UNIQUE = """
    SELECT i.name, i.is_primary_key, c.name
    FROM sys.indexes AS i
        JOIN sys.index_columns AS k ON k.object_id = i.object_id AND k.index_id = i.index_id
        JOIN sys.columns AS c ON c.object_id = k.object_id AND c.column_id = k.column_id
    WHERE i.object_id = ? AND i.is_unique = 1 AND i.has_filter = 0 AND i.is_disabled = 0
        AND k.is_included_column = 0
    ORDER BY i.index_id, k.key_ordinal"""
LEDGERS = """
    SELECT s.name FROM sys.tables AS t JOIN sys.schemas AS s ON s.schema_id = t.schema_id WHERE t.name = ?"""
CHECKS = "SELECT name, definition FROM sys.check_constraints WHERE parent_object_id = ? AND is_disabled = 0"
CASCADES = """
    SELECT OBJECT_NAME(parent_object_id) FROM sys.foreign_keys
    WHERE referenced_object_id = ? AND parent_object_id <> referenced_object_id
        AND delete_referential_action <> 0"""
PERMISSION = "SELECT HAS_PERMS_BY_NAME(?, ?, ?)"
STRAYS = "SELECT t.name FROM sys.tables AS t WHERE t.schema_id = SCHEMA_ID(?) AND LEFT(t.name, ?) = ?"

# With ODBC's autocommit off a transaction is open already, or (implicit) begins with the first statement,
# which then counts BEGIN TRANSACTION twice.
START = "BEGIN TRANSACTION; IF @@TRANCOUNT > 1 COMMIT TRANSACTION"
LOCK = """
    SET NOCOUNT ON;
    BEGIN TRANSACTION;
    IF @@TRANCOUNT > 1 COMMIT TRANSACTION;
    DECLARE @got int;
    EXEC @got = sp_getapplock @Resource = ?, @LockMode = 'Exclusive', @LockOwner = 'Transaction',
        @LockTimeout = 60000;
    SET NOCOUNT OFF;
    SELECT @got"""
LEDGER = {
    "loads": """CREATE TABLE {loads} (
        [load] nvarchar(200) COLLATE Latin1_General_100_BIN2 NOT NULL PRIMARY KEY,
        fingerprint nvarchar(max) NULL, source nvarchar(max) NULL, mapping nvarchar(max) NULL,
        target nvarchar(300) NULL, mode nvarchar(20) NULL, state nvarchar(20) NULL,
        [rows] bigint NULL, rejected bigint NULL,
        started_at datetime2(6) NULL, finished_at datetime2(6) NULL)""",
    "splits": """CREATE TABLE {splits} (
        [load] nvarchar(200) COLLATE Latin1_General_100_BIN2 NOT NULL, split int NOT NULL,
        owner nvarchar(100) COLLATE Latin1_General_100_BIN2 NULL, PRIMARY KEY ([load], split))""",
    "ledger": """CREATE TABLE {ledger} (
        [load] nvarchar(200) COLLATE Latin1_General_100_BIN2 NOT NULL,
        batch nvarchar(100) COLLATE Latin1_General_100_BIN2 NOT NULL,
        segments nvarchar(max) NOT NULL, [rows] bigint NULL, rejected nvarchar(max) NOT NULL,
        committed_at datetime2(6) NULL, PRIMARY KEY ([load], batch))""",
}
STATE = "SELECT state FROM {loads} WITH (UPDLOCK, HOLDLOCK) WHERE [load] = ?"
REGISTER = """
    INSERT INTO {loads} ([load], fingerprint, source, mapping, target, mode, state, started_at)
    VALUES (?, ?, ?, ?, ?, ?, 'running', SYSUTCDATETIME())"""
TAKE_OVER = "UPDATE {splits} SET owner = ? WHERE [load] = ? AND split = ?"
TAKE = "INSERT INTO {splits} ([load], split, owner) VALUES (?, ?, ?)"
OWNED = "SELECT split FROM {splits} WITH (UPDLOCK, HOLDLOCK) WHERE [load] = ? AND owner = ?"
FORGET = "DELETE FROM {rows} WHERE [load] IN (SELECT [load] FROM {loads} WHERE target = ?)"
LOAD_NAMES = ("load", "fingerprint", "source", "mapping", "target", "mode", "state", "rows", "rejected",
              "started_at", "finished_at")  # fmt: skip
LOADS = "SELECT {names} FROM {loads}"
RECEIPTS = "SELECT segments, [rows], rejected FROM {ledger} WHERE [load] = ? ORDER BY committed_at, batch"
DONE = """
    UPDATE {loads} SET state = 'done', finished_at = SYSUTCDATETIME(), [rows] = ?, rejected = ?
    WHERE [load] = ?"""
# One statement, so that nothing comes between the check and the receipt. REPEATABLEREAD keeps shared locks on
# the splits until the commit, also where reads use row versions (READ_COMMITTED_SNAPSHOT): a takeover waits
# for them, and a later receipt finds the new owner. The key of the ledger makes a second attempt at the
# same batch wait for the first; then it fails with 2627, or goes in.
RECEIPT = """
    INSERT INTO {ledger} ([load], batch, segments, [rows], rejected, committed_at)
    SELECT ?, ?, ?, ?, '[]', SYSUTCDATETIME()
    WHERE (SELECT COUNT(*) FROM {splits} WITH (REPEATABLEREAD, ROWLOCK)
        WHERE [load] = ? AND owner = ? AND split IN ({markers})) = ?"""
REPLACED = "DELETE FROM {ledger} WHERE [load] = ? AND batch = ?"
CORRECTION = "UPDATE {ledger} SET rejected = ?, [rows] = ? WHERE [load] = ? AND batch = ?"
SAVE = "SAVE TRANSACTION adaptive"
UNDO = "ROLLBACK TRANSACTION adaptive"
USABLE = "SELECT XACT_STATE()"

# Rows go by fast_executemany into a temporary table, and from there into the target in one statement, so
# that it takes all of them or none. A message of many single INSERTs would go on behind an error that rolled
# the transaction back (a deadlock, or what a trigger says), and its rows would be committed one by one.
INSERT = "INSERT INTO {destination} ({columns}) VALUES ({markers})"
STAGE = "DROP TABLE IF EXISTS {stage}; CREATE TABLE {stage} ({lines})"
INSERT_FREE = """
    SAVE TRANSACTION adaptive_staged;
    INSERT INTO {destination} ({columns}) SELECT {columns} FROM {stage} WHERE _adaptive_mark = 0
    ORDER BY _adaptive_ordinal"""
UNDO_INSERT = "ROLLBACK TRANSACTION adaptive_staged"
# MERGE has known errors (wrong results with filtered indexes, deadlocks): plain statements are as fast.
# {same} compares the key, t for the target and s for the stage.
REDUCE = """
    DELETE FROM {stage} WHERE _adaptive_ordinal NOT IN (
        SELECT MAX(_adaptive_ordinal) FROM {stage} GROUP BY {key})"""
UPDATE = "UPDATE t SET {changes} FROM {destination} AS t WITH (UPDLOCK, HOLDLOCK) JOIN {stage} AS s ON {same}"
INSERT_NEW = """
    INSERT INTO {destination} ({columns}) SELECT {columns} FROM {stage} AS s
    WHERE NOT EXISTS (SELECT 1 FROM {destination} AS t WITH (UPDLOCK, HOLDLOCK) WHERE {same})
    ORDER BY {key}"""
# Rows that break a constraint are marked and left out, all in one go: 1 for a check, 2 for a key that the
# target or an earlier row has. A check is judged first: its rows take no key away from others.
MARK = "UPDATE s SET _adaptive_mark = {mark} FROM {stage} AS s WHERE _adaptive_mark = 0 AND ({condition})"
UNMARK = "UPDATE {stage} SET _adaptive_mark = 0 WHERE _adaptive_mark = 2"
MARKED = """
    SELECT _adaptive_ordinal, _adaptive_mark FROM {stage} WHERE _adaptive_mark <> 0
    ORDER BY _adaptive_ordinal"""
TAKEN = """
    EXISTS (SELECT 1 FROM {destination} AS t {locks} WHERE {same}) OR _adaptive_ordinal NOT IN (
        SELECT MIN(_adaptive_ordinal) FROM {stage} WHERE _adaptive_mark = 0 GROUP BY {key})"""
LOCKS = "WITH (UPDLOCK, HOLDLOCK)"  # also the gaps: nobody inserts the key meanwhile
STAGE_NAME = "[#adaptive]"
STAGE_COLUMNS = "_adaptive_ordinal int NOT NULL", "_adaptive_mark tinyint NOT NULL DEFAULT 0"
IDENTITY_INSERT = "SET IDENTITY_INSERT {destination} {word}"
# `finish` of mode replace: DELETE and INSERT keep grants, foreign keys, views and triggers.
EMPTY = "DELETE FROM {target} WITH (TABLOCKX)"
MOVE = "INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging}"

# By the server's error number. 40197 and 40613 (Azure) end the connection, perhaps in a commit.
VERDICTS: dict[int, Verdict] = {
    **dict.fromkeys((1205, 1222, 3960, 3961, 41302, 41305, 41325, 628, 3902, 3903, 3930, 6401), "retry"),
    **dict.fromkeys((701, 802, 1204, 8645, 8651, 10928, 10929, 17809, 40501, 49918, 49919, 49920),
                    "overload"),
    **dict.fromkeys((596, 3980, 6005, 6006, 40197, 40613), "in_doubt"),
    **dict.fromkeys((220, 232, 241, 242, 245, 248, 295, 296, 511, 515, 517, 547, 550, 1946, 2601, 2627, 2628,
                     3609, 3616, 6522, 7139, 8114, 8115, 8152, 8169), "reject"),
    **dict.fromkeys((206, 207, 208, 229, 262, 544, 1105, 3906, 4060, 9002, 18456), "fatal"),
}  # fmt: skip
# By SQLSTATE where the number is not known; everything else is fatal.
STATES: dict[str, Verdict] = {"08": "in_doubt", "22": "reject", "23": "reject", "40": "retry",
                              "HYT": "in_doubt"}  # fmt: skip
TAKEN_KEY, CONFLICT = (2627, 2601), 547
CHECK, KEY = 1, 2  # marks of staged rows
NO_RIGHT = (229, 262, 1088, 2760)
RESERVED = ("server", "address", "addr", "uid", "pwd", "user", "password", "dsn", "filedsn", "odbc_connect")
USER_ERROR = 50_000  # RAISERROR and THROW, as triggers use them to refuse a row


class ServerError(Exception):
    """What the driver or the server said: `sqlstate`, and `number`, 0 if it is not the server's."""

    def __init__(self, sqlstate: str, number: int, text: str) -> None:
        super().__init__(text)
        self.sqlstate, self.number = sqlstate, number


class ConnectError(ServerError):
    """Connecting failed, and so nothing was applied."""


class DriverMissingError(Exception):
    """There is no driver that may be used; the text says what to install."""


class OwnershipLostError(Exception):
    """Another run has taken the load's splits over; nothing of this run can be committed."""


class BadValueError(ValueError):
    """A value that its column cannot hold unchanged. `code` is the SQLSTATE the server would give."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Column(NamedTuple):
    """A column as the catalogue has it; `length` counts bytes and is -1 for max."""

    name: str
    type: str
    length: int
    precision: int
    scale: int
    nullable: bool
    identity: bool
    collation: str | None
    codepage: int | None
    default: str | None
    place: int | None  # in the primary key

    @property
    def kind(self) -> Kind:
        """Return what is done with the values."""
        return KINDS.get(self.type, TEXT)

    @property
    def limit(self) -> int | None:
        """Return the most characters (bytes of varchar and varbinary) a value may have; None: no limit."""
        if self.length < 0 or self.type not in SIZED:
            return None
        return self.length // SIZED[self.type]

    @property
    def encoding(self) -> str:
        """Return how texts are stored; the code page of a collation holds for varchar only."""
        if self.type not in ("char", "varchar", "text") or self.codepage is None:
            return "utf-16-le"
        return "utf-8" if self.codepage == UTF_8 else f"cp{self.codepage}"

    @property
    def declared(self) -> str:
        """Return the type as CREATE TABLE takes it."""
        size = ""
        if self.type in SIZED:
            size = f"({self.limit or 'max'})"
        elif self.type in ("decimal", "numeric"):
            size = f"({self.precision}, {self.scale})"
        elif self.type in ("datetime2", "datetimeoffset", "time"):
            size = f"({self.scale})"
        elif self.type == "float":
            size = f"({self.precision})"
        return f"{_q(self.type)}{size}" + (f" COLLATE {self.collation}" if self.collation else "")

    @property
    def tick(self) -> int:
        """Return the microseconds that the finest unit of time has."""
        return int(10 ** max(6 - self.scale, 0))

    def arrow(self) -> pa.DataType:
        """Return the Arrow type whose values arrive unchanged."""
        return self.kind.arrow(_arrow()[0], self)

    def binding(self, longest: int) -> tuple[int, int, int]:
        """Return SQL type, size and digits for `setinputsizes`; `longest` is the longest text or bytes.

        A size is a power of two: another one makes the driver prepare the statement anew.
        """
        if self.kind.bind is not None:
            return self.kind.bind(self)
        size = max(1 << (longest - 1).bit_length(), 16) if longest else 16
        size = min(size, self.limit or size)
        short, bound, long = (-9, 4000, -10) if self.kind is not BYTES else (-3, 8000, -4)
        return (short, size, 0) if size <= bound else (long, size, 0)


class Kind(NamedTuple):
    """How values of a type are checked and bound.

    `plain` is the Python type that is bound, `fits` says of a list of it at once that none needs a look,
    `form` returns a value to bind or raises an error, `bind` is for `setinputsizes` (None: by length).
    """

    plain: type
    form: Callable[[Column, Any], object]
    fits: Callable[[Column, list[Any]], bool]
    arrow: Callable[[Any, Column], Any]
    bind: Callable[[Column], tuple[int, int, int]] | None = None


class Table(NamedTuple):
    """The target table; `oid` is 0 and there are no columns while it does not exist."""

    schema: str
    name: str
    oid: int = 0
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()

    def __str__(self) -> str:
        return _path(self.schema, self.name)

    def staging(self, load: str) -> str:
        """Return the table that holds a load's rows until `replace` swaps them in; "": its prefix."""
        return f"_adaptive_replace_{_digest(str(self))}_{_digest(load) if load else ''}"


class SqlserverSink:
    """Write one table of SQL Server. One instance per thread.

    `url` is `mssql://user:password@host:1433/database?driver=…`; further parameters are keywords of the
    ODBC driver. `table` may be `schema.table`; in `"a.b"`, quoted, the dot belongs to the name. Without
    a table there is only `loads`, of every table of the database, and `doctor`. `key` names the columns
    that decide what `ignore` and `upsert` take for the same row (default: the primary key). `ledger`
    is the begin of the ledger tables' names; None: no ledger.

    A server has no time limit for a transaction whose client is alive and does nothing: another run waits
    60 s for its locks at a time, and gives up in the end.

    Raises ValueError if an argument cannot be right.
    """

    capabilities: frozenset[Any] = frozenset(
        [*MODES, "transactional", "create", *(["arrow"] if find_spec("pyarrow") else [])]
    )
    max_rows: int | None = None
    max_bytes: int | None = None
    max_writers: int | None = None

    def __init__(
        self, url: str, *, table: str | None = None, mode: str = "append", key: str | Sequence[str] = (),
        ledger: str | None = "_adaptive",
    ) -> None:  # fmt: skip
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; known are {', '.join(MODES)}")
        if mode == "replace" and ledger is None:
            raise ValueError("mode replace needs a ledger")
        self._server, self._keywords = _parse_url(url)
        self._table_path, self._mode = _parse_table(table), mode
        self._ledger = _parse_table(ledger)
        self._key = (key,) if isinstance(key, str) else tuple(key)
        self._merges = mode in ("ignore", "upsert")
        self._link: pyodbc.Connection | None = None
        self._rows: pyodbc.Cursor | None = None  # its prepared INSERT lives as long as its text stays
        self._known: Table | None = None
        self._receipt: Mapping[str, Any] | None = None
        self._destination = ""  # where the rows go; empty outside a transaction
        self._kept: list[Kept] = []  # what the open transaction wrote, to write it again
        self._identity = ""  # the table that IDENTITY_INSERT is on for
        self.doomed = False
        self.duplicates = 0

    # ---- connection

    def open(self) -> None:
        """Connect. Raises ConnectError, DriverMissingError."""
        if self._link is not None:
            return
        driver = self._keywords.get("driver") or _find_driver()
        if driver not in DRIVERS and not MICROSOFT.fullmatch(Path(driver).name):
            raise DriverMissingError(f"{driver!r} is not Microsoft's: it would lose data. {INSTALL_DRIVER}")
        _probe(*self._server)
        server = "tcp:{},{}".format(*self._server)
        try:
            self._connect({**DEFAULTS, **self._keywords, "driver": driver, "server": server})
        except BaseException:
            self.close()
            raise

    def _connect(self, keywords: Mapping[str, str]) -> None:
        try:
            link = self._link = _pyodbc().connect(_connection_string(keywords), timeout=LOGIN_SECONDS)
        except _pyodbc().Error as error:
            found = _said(error)  # nothing is chained that might show the connection string
            raise ConnectError(found.sqlstate, found.number, str(found)) from None
        if not MICROSOFT.fullmatch(name := link.getinfo(_pyodbc().SQL_DRIVER_NAME)):
            raise DriverMissingError(f"the driver is {name}, not Microsoft's: it would lose data")
        self._change(SESSION)
        link.rollback()
        self._rows = link.cursor()
        self._rows.fast_executemany = True

    def close(self) -> None:
        """Disconnect, rolling back what is open. Repeating it is fine; raises nothing."""
        self.rollback()
        if self._link is not None:
            with suppress(_pyodbc().Error):
                self._link.close()
        self._link, self._rows, self._identity = None, None, ""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- loads

    def prepare(self, load: Mapping[str, Any], schema: pa.Schema | None = None) -> Sequence[tuple[Any, ...]]:
        """Make ready for a load, under an application lock, and return the table's columns.

        Raises LookupError if the table or a unique index for `key` is missing, PermissionError if
        a right is missing, ValueError if `schema` or the mode does not fit the table.
        """
        table = self._locate()
        if not table.oid and schema is None:
            raise LookupError(f"table {table} does not exist; create it first (or load with --create)")
        if missing := self._missing_rights(table):
            raise PermissionError(f"rights are missing on {table}; run: {'; '.join(missing)}")
        try:
            with self._transaction("ledger"):
                self._make_ledger()
            with self._transaction(str(table)):
                if not self._locate().oid and schema is not None:
                    self._create(schema)
                if self._ledger:
                    self._start(load)
        except ServerError as error:
            if error.number in NO_RIGHT:
                raise PermissionError(str(error)) from error
            raise
        return self.columns()

    def _make_ledger(self) -> None:
        for word in LEDGER if self._ledger else ():
            if not self._exists(self._ledger_table(word)):
                self._change(LEDGER[word])

    def columns(self) -> Sequence[tuple[Any, ...]]:
        """Return the table's columns, and change nothing. Raises LookupError if it is missing."""
        return [
            (c.name, c.arrow(), c.nullable, c.default is not None or c.identity, c.name in self._table.key,
             c.limit if c.kind is TEXT else None)
            for c in self._table.columns
        ]  # fmt: skip

    def loads(self) -> list[dict[str, Any]]:
        """Return the loads of this table, or of all without one, oldest first; [] without a ledger."""
        if not self._ledger:
            return []
        table = self._locate() if self._table_path else None
        places = [self._ledger_table("loads")] if table or len(self._ledger) > 1 else self._ledgers()
        found = [row for place in places if self._exists(place) for row in self._loads(place)]
        chosen = [row for row in found if table is None or row["target"] == str(table)]
        return sorted(chosen, key=lambda row: (row["started_at"], row["load"]))

    def _ledgers(self) -> list[str]:
        name = f"{self._ledger[-1]}_loads"
        return [_path(schema, name) for (schema,) in self._select(LEDGERS, name)]

    def _loads(self, place: str) -> Iterator[dict[str, Any]]:
        """Yield the loads of a ledger; what runs is counted from its receipts."""
        for values in self._select(LOADS, names=_list(LOAD_NAMES), loads=place):
            row = dict(zip(LOAD_NAMES, values, strict=True))
            if row["rows"] is None:
                receipts = self._receipts(place.removesuffix("_loads]") + "_ledger]", row["load"])
                row["rows"] = sum(rows for _, rows, _ in receipts)
                row["rejected"] = sum(len(rejected) for _, _, rejected in receipts)
            for name in ("started_at", "finished_at"):
                row[name] = row[name] and row[name].replace(tzinfo=UTC)
            yield row

    def empty(self) -> bool:
        """Return whether the table has no rows; a missing one has none."""
        return not self._locate().oid or not self._select("SELECT TOP (1) 1 FROM {target}")

    def receipts(self, load: str) -> list[tuple[list[list[int]], int, list[list[int]]]]:
        """Return what is committed of a load: segments, rows, rejected positions; [] without a ledger."""
        place = self._ledger_table("ledger") if self._ledger else ""
        return self._receipts(place, load) if place and self._exists(place) else []

    def _receipts(self, place: str, load: str) -> list[tuple[list[list[int]], int, list[list[int]]]]:
        found = self._select(RECEIPTS, load, ledger=place)
        return [(json.loads(segments), rows, json.loads(rejected)) for segments, rows, rejected in found]

    def finish(self, load: Mapping[str, Any]) -> None:
        """Swap `replace` in, compact the receipts and mark the load done. Raises OwnershipLostError."""
        if not self._ledger:
            return
        name, table = load["load"], self._table
        with self._transaction(str(table)):
            if self._select(STATE, name) == [("done",)]:
                return
            owned = {split for (split,) in self._select(OWNED, name, load["owner"])}
            if not owned.issuperset(load["splits"]):
                raise OwnershipLostError(f"load {name} was taken over by another run")
            if self._mode == "replace":
                self._swap(_path(table.schema, table.staging(name)))
            receipts = self.receipts(name)
            rejected = sum(len(positions) for _, _, positions in receipts)
            self._change(DONE, sum(rows for _, rows, _ in receipts), rejected, name)
            self._change("DELETE FROM {ledger} WHERE [load] = ? AND rejected = '[]'", name)
            # Without its splits a late batch of this very run finds no owner, and so is refused as well.
            self._change("DELETE FROM {splits} WHERE [load] = ?", name)

    def _swap(self, staging: str) -> None:
        """Put the staged rows in the place of the target's; identity values stay as they are."""
        self._change(EMPTY)
        self._switch_identity(self._table.columns, str(self._table))
        self._change(MOVE, staging=staging, columns=_list(column.name for column in self._table.columns))
        self._switch_identity((), "")
        self._change("DROP TABLE {staging}", staging=staging)

    def doctor(self) -> list[str]:
        """Return what is found out about server, table and rights, in words; changes nothing."""
        [(version, edition, database, user, _)] = self._select(SERVER)
        driver = self._connection.getinfo(_pyodbc().SQL_DRIVER_VER)
        found = [f"SQL Server {version}, {edition}, database {database}, user {user}, ODBC driver {driver}"]
        if self._table_path:
            table = self._locate()
            found.append(f"table {table} {'exists' if table.oid else 'does not exist'}")
            found += [f"a right is missing: {grant}" for grant in self._missing_rights(table)]
            for word in LEDGER if self._ledger else ():
                if not self._exists(place := self._ledger_table(word)):
                    ddl = " ".join(LEDGER[word].format(**{word: place}).split())
                    found.append(f"the first load will create the ledger, or beforehand: {ddl}")
        return found

    # ---- transactions

    def begin(self, receipt: Mapping[str, Any] | None = None) -> bool:
        """Open a transaction whose first statement is the receipt; False if it is already committed.

        Raises OwnershipLostError if another run has the splits now, ValueError for replace without a load.
        """
        table = self._table
        if self._mode == "replace" and receipt is None:
            raise ValueError("mode replace needs a load: prepare it, begin with receipts, finish it")
        if receipt and not self._ledger:
            raise ValueError("a receipt needs a ledger")
        name = table.staging(receipt["load"]) if self._mode == "replace" and receipt else table.name
        self._kept, self.doomed = [], False
        try:
            if receipt is None:
                self._change(START)
            elif not self._enter(receipt):
                self.rollback()
                return False
        except BaseException:
            self.rollback()
            raise
        self._receipt, self._destination = receipt, _path(table.schema, name)
        return True

    def _enter(self, receipt: Mapping[str, Any]) -> bool:
        """Insert the receipt; False if it is there already."""
        segments = [list(segment) for segment in receipt["segments"]]
        splits = sorted({split for split, _, _ in segments})
        load, batch, owner = receipt["load"], receipt["batch"], receipt["owner"]
        entry = load, batch, json.dumps(segments), receipt["rows"]
        try:
            if not self._change(RECEIPT, *entry, load, owner, *splits, len(splits), markers=_markers(splits)):
                raise OwnershipLostError(f"load {load} was taken over by another run")
        except ServerError as error:
            if error.number in TAKEN_KEY:
                return False
            raise
        if receipt["replaces"] is not None:
            self._change(REPLACED, load, receipt["replaces"])
        return True

    def write(self, rows: Sequence[Mapping[str, Any]]) -> Rejections:
        """Write mappings of column to value; a column that a row lacks gets its default.

        Returns the rows with values their columns cannot hold, those that break a constraint, if the
        others could be written, and those that end the transaction; else all or nothing. Raises
        ServerError, or LookupError if the key is missing.
        """
        return self._deliver(rows)

    def write_arrow(self, rows: pa.Table) -> Rejections:
        """Write a table; fastest if its types are those of `prepare`. As `write`."""
        return self._deliver(rows)

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Make the transaction durable; `rejected` and `rows` correct the receipt.

        Raises ServerError, also if the server has ended the transaction before.
        """
        if self.doomed:
            raise ServerError("25000", 0, "the server has rolled the transaction back")
        receipt = self._receipt
        if receipt and (rejected or rows is not None):
            positions = json.dumps([list(position) for position in rejected])
            count = receipt["rows"] if rows is None else rows
            self._change(CORRECTION, positions, count, receipt["load"], receipt["batch"])
        with _errors():
            self._connection.commit()
        self._end()

    def rollback(self) -> None:
        """Drop the transaction. Raises nothing."""
        if self._link is not None:
            with suppress(_pyodbc().Error):
                self._link.rollback()
        self._end()

    def _end(self) -> None:
        self._destination, self._receipt, self._kept, self.doomed = "", None, [], False

    # ---- errors

    def hint(self, _: BaseException) -> int | None:
        """Return None: `fast_executemany` never says which row failed."""
        return None

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means, by the server's number, else by SQLSTATE."""
        if isinstance(error, OwnershipLostError):
            return "taken_over"
        if not isinstance(error, ServerError):
            return "reject" if isinstance(error, UnicodeError | OverflowError) else "fatal"
        known = [STATES[state] for n in (3, 2) if (state := error.sqlstate[:n]) in STATES]
        by_number: Verdict = "reject" if error.number >= USER_ERROR else (known or ["fatal"])[0]
        verdict = VERDICTS.get(error.number, by_number)
        return "retry" if isinstance(error, ConnectError) and verdict == "in_doubt" else verdict

    # ---- catalogue

    @property
    def _connection(self) -> pyodbc.Connection:
        if self._link is None:
            raise RuntimeError("open the sink first")
        return self._link

    @property
    def _table(self) -> Table:
        table = self._known if self._known and self._known.oid else self._locate()
        if not table.oid:
            raise LookupError(f"table {table} does not exist")
        return table

    def _locate(self) -> Table:
        """Look the target up, with its columns."""
        if not self._table_path:
            raise ValueError("say the table")
        rows = self._select(LOCATE, _path(*self._table_path))
        if not rows:
            schema = self._table_path[0] if len(self._table_path) > 1 else self._select(SERVER)[0][-1]
            found = Table(schema, self._table_path[-1])
        else:
            [(schema, name, oid)] = rows
            columns = tuple(map(Column._make, self._select(CATALOGUE, oid)))
            primary = sorted((column.place, column.name) for column in columns if column.place)
            found = Table(schema, name, oid, columns, self._key or tuple(word for _, word in primary))
            if self._merges and set(found.key) not in [set(key) for _, key in self._unique(found.oid)]:
                wanted = f"({', '.join(found.key) or 'a key'}) of {found}"
                raise LookupError(f"mode {self._mode} needs a unique index on {wanted}")
        self._known = found
        return found

    def _unique(self, oid: int) -> list[tuple[str, list[str]]]:
        """Return the names and columns of the unique indexes."""
        found = self._select(UNIQUE, oid)
        return [(name, [row[2] for row in rows]) for name, rows in groupby(found, lambda row: str(row[0]))]

    def _exists(self, place: str) -> bool:
        return bool(self._select(LOCATE, place))

    def _ledger_table(self, word: str) -> str:
        schema = self._ledger[0] if len(self._ledger) > 1 else (self._known or self._locate()).schema
        return _path(schema, f"{self._ledger[-1]}_{word}")

    def _columns(self, names: Iterable[str]) -> list[Column]:
        """Return the columns to write to.

        Raises BadValueError if the table has no such column, LookupError if the key is missing.
        """
        known = {column.name: column for column in self._table.columns}
        for name in names:
            if name not in known:
                reason = f"{self._table} has no column {name!r} to write to; it has {', '.join(known)}"
                raise BadValueError("42S22", reason)
        if self._merges and (missing := sorted({*self._table.key}.difference(names))):
            raise LookupError(f"mode {self._mode} needs the key in every row; missing: {', '.join(missing)}")
        return [known[name] for name in names]

    def _run(self, statement: str, *values: object, **names: str) -> pyodbc.Cursor:
        """Execute a statement; {target} and the ledger's words stand for the quoted identifiers."""
        if "{target}" in statement:
            names["target"] = str(self._known or self._locate())
        for word in LEDGER:
            if f"{{{word}}}" in statement and word not in names:
                names[word] = self._ledger_table(word)
        with _errors():
            return self._connection.cursor().execute(statement.format(**names), *values)

    def _select(self, statement: str, *values: object, **names: str) -> list[tuple[Any, ...]]:
        """Return all rows at once: a connection with rows left to fetch takes no other statement."""
        cursor = self._run(statement, *values, **names)
        with _errors():
            return list(map(tuple, cursor.fetchall()))

    def _change(self, statement: str, *values: object, **names: str) -> int:
        """Execute what gives no rows, to its end: errors may come late. Return the rows that it changed."""
        cursor = self._run(statement, *values, **names)
        count: int = cursor.rowcount
        with _errors():
            while cursor.nextset():
                pass
        return count

    # ---- ledger

    @contextmanager
    def _transaction(self, resource: str) -> Iterator[None]:
        """Open a transaction that holds the application lock for a resource."""
        try:
            [(got,)] = self._select(LOCK, f"adaptive {_digest(resource)}")
            _check_lock(got, resource)
            yield
            with _errors():
                self._connection.commit()
        except BaseException:
            self.rollback()
            raise

    def _missing_rights(self, table: Table) -> list[str]:
        """Return the GRANT statements that this user lacks for a load."""
        wanted = [("OBJECT", str(table), right) for right in MODES[self._mode].split() if table.oid]
        create = not table.oid or self._mode == "replace"
        for word in LEDGER if self._ledger else ():
            place, rights = self._ledger_table(word), ("SELECT", "INSERT", "UPDATE", "DELETE")
            if self._exists(place):
                wanted += [("OBJECT", place, right) for right in rights]
            else:
                create = True
        [(_, _, database, user, _)] = self._select(SERVER)
        if create:
            wanted += [("DATABASE", _q(database), "CREATE TABLE"), ("SCHEMA", _q(table.schema), "ALTER")]
        return [
            f"GRANT {right} ON {kind}::{name} TO {_q(user)}"
            for kind, name, right in wanted
            if self._select(PERMISSION, name, kind, right) != [(1,)]
        ]

    def _create(self, schema: pa.Schema) -> None:
        """Create the missing target, and forget what the ledger knows of an earlier one."""
        if missing := sorted(set(self._key).difference(schema.names)):
            raise LookupError(f"key column {missing[0]!r} is not among {', '.join(schema.names)}")
        lines = [f"{_q(f.name)} {_ddl_type(f, f.name in self._key)}" for f in schema]
        if self._key:
            lines.append(f"PRIMARY KEY ({_list(self._key)})")
        self._change("CREATE TABLE {target} ({lines})", lines=", ".join(lines))
        table = self._locate()
        for word in (
            ("ledger", "splits", "loads") if self._ledger else ()
        ):  # the loads tell which, so they are last
            self._change(FORGET, str(table), rows=self._ledger_table(word))

    def _start(self, load: Mapping[str, Any]) -> None:
        """Register the load and take its splits over; wait for transactions of the earlier owner."""
        name = load["load"]
        state = self._select(STATE, name)
        if state == [("done",)]:
            return
        for split in load["splits"]:
            if not self._change(TAKE_OVER, load["owner"], name, split):
                self._change(TAKE, name, split, load["owner"])
        if self._mode == "replace":
            self._stage_replacement(name)
        if not state:
            about = (load[word] for word in ("fingerprint", "source", "mapping"))
            self._change(REGISTER, name, *about, str(self._table), self._mode)

    def _stage_replacement(self, load: str) -> None:
        """Make the staging table of a load, or keep that of a resumed one; drop those of ended loads.

        Raises ValueError if swapping it in would change other tables.
        """
        table = self._table
        if others := ", ".join(name for (name,) in self._select(CASCADES, table.oid)):
            raise ValueError(f"replacing {table} would change {others} through ON DELETE; use another mode")
        running = self._select(
            "SELECT [load] FROM {loads} WHERE target = ? AND state = 'running'", str(table)
        )
        kept = {table.staging(name) for (name,) in running}
        prefix = table.staging("")
        present = {name for (name,) in self._select(STRAYS, table.schema, len(prefix), prefix)}
        for name in present - kept:
            self._change("DROP TABLE {stray}", stray=_path(table.schema, name))
        if table.staging(load) in present & kept:
            return
        self._change("DELETE FROM {ledger} WHERE [load] = ?", load)  # rows that went with their staging table
        lines = [_staged(column) for column in table.columns]
        lines += [f"UNIQUE ({_list(key)})" for _, key in self._unique(table.oid)]
        lines += [f"CHECK {definition}" for _, definition in self._select(CHECKS, table.oid)]
        staging = _path(table.schema, table.staging(load))
        self._change("CREATE TABLE {staging} ({lines})", staging=staging, lines=", ".join(lines))

    # ---- writing

    def _deliver(self, rows: Any) -> Rejections:
        """Write rows; if their data dooms the transaction, find the culprits and write the others."""
        self.duplicates = 0
        if not self._destination:
            raise RuntimeError("begin a transaction before writing")
        if not len(rows):
            return []
        try:
            refused = self._guarded(rows)
        except Exception as error:
            if not self.doomed or self.classify(error) != "reject":
                raise
            refused = self._narrow(rows)
        self._kept.append((rows, frozenset(index for index, _, _ in refused)))
        return refused

    def _guarded(self, rows: Any) -> Rejections:
        """Write rows under a savepoint."""
        self._change(SAVE)
        try:
            return self._put(rows)
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        try:
            self.doomed = self._select(USABLE) != [(1,)]
            if not self.doomed:
                self._change(UNDO)
        except ServerError:
            self.doomed = True

    def _narrow(self, rows: Any) -> Rejections:
        """Find the rows that doom by trial transactions, begin again and write the others.

        What the transaction wrote before is part of every trial, and is written again at the end.
        """
        receipt, destination, kept = self._receipt, self._destination, self._kept
        try:
            refused = list(self._culprits(rows, range(len(rows)), destination, kept))
            self.rollback()
            self._begin_again(receipt)
            self._write_again(kept)
            good = sorted(set(range(len(rows))).difference(index for index, _, _ in refused))
            if good:
                found = self._guarded(_take(rows, good))
                refused += [(good[index], code, reason) for index, code, reason in found]
        except BaseException:
            self.doomed = True
            raise
        return sorted(refused)

    def _culprits(self, rows: Any, part: range, destination: str, kept: list[Kept]) -> Iterator[Rejection]:
        """Yield the bad rows of a part, halving it while it fails; every trial is rolled back."""
        self.rollback()
        self._change(START)
        self._destination = destination
        self._write_again(kept)
        try:
            self._guarded(rows[part.start : part.stop])
        except Exception as error:
            if self.classify(error) != "reject":
                raise
            if len(part) == 1:
                yield part.start, getattr(error, "sqlstate", "22000"), str(error)
                return
            for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                yield from self._culprits(rows, half, destination, kept)

    def _begin_again(self, receipt: Mapping[str, Any] | None) -> None:
        if not self.begin(receipt):
            raise ServerError("40001", 0, "the batch was committed by another attempt meanwhile")

    def _write_again(self, kept: list[Kept]) -> None:
        for rows, refused in kept:
            self._guarded(_take(rows, [index for index in range(len(rows)) if index not in refused]))
        self._kept = kept

    def _put(self, rows: Any) -> Rejections:
        """Check and send rows, those with the same columns together; return the refused ones."""
        refused: Rejections = []
        first = self.duplicates = 0
        for names, count, values in _parts(rows):
            bad: dict[int, tuple[str, str]] = {}
            try:
                columns = self._columns(names)
                checked = [_checked(*pair, bad) for pair in zip(columns, values, strict=True)]
            except BadValueError as error:  # the rows have a column that the table lacks
                columns, checked = [], []
                bad = dict.fromkeys(range(count), (error.code, str(error)))
            left: Sequence[int] = range(count)
            if bad:
                left = [index for index in left if index not in bad]
                checked = [[found[index] for index in left] for found in checked]
                refused += [(first + index, *why) for index, why in bad.items()]
            if left:
                broken = self._send(columns, checked)
                refused += [(first + left[index], "23000", reason) for index, reason in broken.items()]
            first += count
        return sorted(refused)

    def _send(self, columns: list[Column], values: list[Any]) -> dict[int, str]:
        """Write checked rows; return those that break a constraint, if they can be told apart, and why."""
        self._switch_identity(columns, self._destination)
        if len(values[0]) == 1 and not self._merges:
            self._insert(self._destination, columns, values)
            return {}
        self._stage(columns, values)
        if self._mode != "upsert":
            return self._append(columns)
        self._upsert(columns)
        return {}

    def _append(self, columns: list[Column]) -> dict[int, str]:
        """Insert the staged rows that keep the constraints; return the others with the reason."""
        marks: dict[int, int] = {}
        reasons: dict[int, str] = {}
        ignored = KEY if self._mode == "ignore" else None
        if ignored:
            marks = self._mark(KEY, self._taken(columns, self._table.key, LOCKS))
        while True:
            try:
                self._change(INSERT_FREE, **self._about(columns))
                break
            except ServerError as error:
                before, marks = marks, self._judge(error, columns)
                if marks in ({}, before):
                    raise
                # The message ends with the key value of the first such row.
                reason = str(error).partition(" The duplicate key value is ")[0]
                reasons = {ordinal: reasons.get(ordinal, reason) for ordinal in marks}
        self.duplicates += sum(mark == ignored for mark in marks.values())
        return {ordinal: reasons[ordinal] for ordinal, mark in marks.items() if mark != ignored}

    def _judge(self, error: ServerError, columns: list[Column]) -> dict[int, int]:
        """Mark the rows that break the constraint an error names; return all marks, none if that fails."""
        with suppress(ServerError):
            if found := self._broken(error, columns):
                mark, condition = found
                self._change(UNDO_INSERT)
                if mark == CHECK:
                    self._change(UNMARK, stage=STAGE_NAME)
                return self._mark(mark, condition)
        return {}

    def _broken(self, error: ServerError, columns: list[Column]) -> tuple[int, str] | None:
        """Return the kind of the constraint that an error names, and the condition for its bad rows."""
        [(_, _, oid)] = self._select(LOCATE, self._destination)
        if error.number == CONFLICT:
            checks = self._select(CHECKS, oid)
            return next(((CHECK, f"NOT {what}") for name, what in checks if f'"{name}"' in str(error)), None)
        names = {column.name for column in columns}
        for name, key in self._unique(oid) if error.number in TAKEN_KEY else ():
            if f"'{name}'" in str(error) and names >= set(key):
                return KEY, self._taken(columns, key)
        return None

    def _taken(self, columns: list[Column], key: Iterable[str], locks: str = "") -> str:
        """Return the condition for rows whose key the target or an earlier row has."""
        return TAKEN.format(**self._about(columns, key), locks=locks)

    def _mark(self, mark: int, condition: str) -> dict[int, int]:
        self._change(MARK, stage=STAGE_NAME, mark=str(mark), condition=condition)
        return dict(self._select(MARKED, stage=STAGE_NAME))

    def _about(self, columns: list[Column], key: Iterable[str] = ()) -> dict[str, str]:
        """Return what the words in the statements about staged rows stand for."""
        keys = [column for column in columns if column.name in set(key)]
        return {
            "stage": STAGE_NAME, "destination": self._destination, "same": _same(keys),
            "columns": _list(column.name for column in columns), "key": _list(column.name for column in keys),
        }  # fmt: skip

    def _upsert(self, columns: list[Column]) -> None:
        """Update the rows whose key is there and insert the others; of equal keys the last row counts."""
        about, key = self._about(columns, self._table.key), self._table.key
        self._change(REDUCE, **about)
        changed = [_q(column.name) for column in columns if column.name not in key and not column.identity]
        if changed:
            self._change(UPDATE, **about, changes=", ".join(f"{name} = s.{name}" for name in changed))
        self._change(INSERT_NEW, **about)

    def _stage(self, columns: list[Column], values: list[Any]) -> None:
        """Put rows into the temporary table, which has no constraints, numbered in their order."""
        lines = [*STAGE_COLUMNS, *(f"{_q(column.name)} {column.declared} NULL" for column in columns)]
        self._change(STAGE, stage=STAGE_NAME, lines=", ".join(lines))
        self._insert(STAGE_NAME, [ORDINAL, *columns], [range(len(values[0])), *values])

    def _switch_identity(self, columns: Iterable[Column], destination: str) -> None:
        """Have the identity column filled by us or by the server; a session can do it for one table only."""
        wanted = destination if any(column.identity for column in columns) else ""
        if self._identity not in ("", wanted):
            self._change(IDENTITY_INSERT, destination=self._identity, word="OFF")
        if wanted not in ("", self._identity):
            self._change(IDENTITY_INSERT, destination=wanted, word="ON")
        self._identity = wanted

    def _insert(self, destination: str, columns: list[Column], values: list[Any]) -> None:
        """Send rows in messages whose buffers are bounded, halving them where they are not."""
        count = len(values[0])
        bindings = [
            column.binding(_longest(column, found)) for column, found in zip(columns, values, strict=True)
        ]
        if count > 1 and count * sum(map(_buffer_bytes, bindings)) > BUFFER_BYTES:
            for part in (slice(count // 2), slice(count // 2, count)):
                self._insert(destination, columns, [found[part] for found in values])
            return
        names = _list(column.name for column in columns)
        statement = INSERT.format(destination=destination, columns=names, markers=_markers(columns))
        rows = self._rows
        if rows is None:
            raise RuntimeError("open the sink first")
        rows.setinputsizes(bindings)
        with _errors():
            rows.executemany(statement, list(zip(*values, strict=True)))
            while rows.nextset():
                pass


# ---- names and errors


def _q(name: str) -> str:
    return f"[{name.replace(']', ']]')}]"


def _path(*names: str) -> str:
    return ".".join(map(_q, names))


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(_q, names))


def _markers(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _same(key: Sequence[Column]) -> str:
    """Return the comparison of two keys; a unique index takes NULLs for equal, and so does this."""
    equal = "(t.{0} = s.{0} OR t.{0} IS NULL AND s.{0} IS NULL)"
    return " AND ".join((equal if c.nullable else "t.{0} = s.{0}").format(_q(c.name)) for c in key)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _errors() -> Iterator[None]:
    """Turn the driver's errors into ServerError."""
    try:
        yield
    except _pyodbc().Error as error:
        raise _said(error) from error


def _check_lock(got: int, resource: str) -> None:
    """Raise ServerError if sp_getapplock returned a failure."""
    if got < 0:
        raise ServerError("HYT00", 1222, f"another run holds the lock for {resource} ({got})")


def _said(error: BaseException) -> ServerError:
    """Return what an error of pyodbc says, from `[state] [vendor][driver]text (number) (function); …`.

    The function ends the first record, so the last such place is it, whatever the text quotes from data.
    """
    state, text = (str(word) for word in (error.args * 2)[:2]) if error.args else ("HY000", repr(error))
    places = list(re.finditer(r" \((-?\d+)\) \(SQL\w+\)", text))
    said = text[: places[-1].start()] if places else text
    said = re.sub(r"^\[\w{5}\] (\[[^\]]*\])*", "", said)
    return ServerError(state, int(places[-1][1]) if places else 0, said)


def _parse_table(table: str | None) -> tuple[str, ...]:
    """Return the parts of `table`, `schema.table` or `"quoted.name"`; none without a table."""
    if table is None:
        return ()
    found = re.fullmatch(r'(?:("(?:[^"]|"")+"|[^".]+)\.)?("(?:[^"]|"")+"|[^".]+)', table)
    if found is None or "\0" in table:
        raise ValueError(f'cannot read the table name {table!r}: say table, schema.table or "a quoted.name"')
    parts = filter(None, found.groups())
    return tuple(part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts)


# ---- connecting


def _parse_url(url: str) -> tuple[tuple[str, int], dict[str, str]]:
    """Return host and port, and the driver's keywords in lower case.

    Raises ValueError, in whose text no part of the URL appears: it might be of the password.
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("mssql", "mssql+pyodbc"):
        raise ValueError("a SQL Server URL starts with mssql:// or mssql+pyodbc://")
    try:
        parts = urlsplit(f"mssql://{rest}")
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        server = parts.hostname or "", parts.port or 1433
    except ValueError:
        server, given = ("", 0), {}
    if not server[0] or rest.partition("?")[0].count("@") > 1 or parts.fragment:
        raise ValueError(
            "not a valid SQL Server URL, mssql://user:password@host:1433/database?…; %-encode special "
            "characters, @ in a password is %40"
        )
    keywords = {name.lower(): value for name, value in given.items()}
    if strange := [name for name in keywords if name in RESERVED or not re.fullmatch(r"\w[\w ]*", name)]:
        raise ValueError(f"the URL's parameter {strange[0]!r} is no keyword that can be passed on")
    keywords |= {"database": unquote(parts.path[1:])} if parts.path[1:] else {}
    if parts.username is None:
        return server, {
            "trusted_connection": "yes",
            **keywords,
        } if "authentication" not in keywords else keywords
    return server, {**keywords, "uid": unquote(parts.username), "pwd": unquote(parts.password or "")}


def _connection_string(keywords: Mapping[str, str]) -> str:
    """Return an ODBC connection string; braces hold any value."""
    return ";".join(f"{name}={{{value.replace('}', '}}')}}}" for name, value in keywords.items())


def _probe(host: str, port: int) -> None:
    """Raise ConnectError at once if nothing listens; the driver would take its whole login time-out."""
    try:
        socket.create_connection((host, port), LOGIN_SECONDS).close()
    except OSError as error:
        raise ConnectError("08001", 0, f"no SQL Server answers at {host}:{port}: {error}") from error


@cache
def _pyodbc() -> Any:
    try:
        import pyodbc
    except ModuleNotFoundError as error:
        raise DriverMissingError("SQL Server needs pyodbc: pip install pyodbc") from error
    except ImportError as error:
        raise DriverMissingError(f"{INSTALL_ODBC}: {error}") from error
    pyodbc.pooling = False  # a pooled connection keeps temporary tables and IDENTITY_INSERT
    return pyodbc


@cache
def _arrow() -> tuple[Any, Any]:
    """Import pyarrow, which rows do without, only when it is needed."""
    import pyarrow
    import pyarrow.compute

    return pyarrow, pyarrow.compute


def _find_driver() -> str:
    """Return the newest installed driver of Microsoft's, or the one in the package mssql_python_odbc."""
    installed = _pyodbc().drivers()
    found = [name for name in DRIVERS if name in installed] or _packaged_drivers()
    if not found:
        raise DriverMissingError(INSTALL_DRIVER)
    return found[0]


def _packaged_drivers() -> list[str]:
    """Return the driver files of mssql_python_odbc for this machine, this Linux's first."""
    if not find_spec("mssql_python_odbc"):
        return []
    import mssql_python_odbc

    machine = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    files = Path(mssql_python_odbc.get_libs_dir()).glob(f"linux/*/{machine}/lib/libmsodbcsql-*")
    return sorted(map(str, files), key=lambda file: (Path(file).parts[-4] not in _systems(), file))


def _systems() -> str:
    """Return which of the package's Linux folders fit this machine."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return f"{release.get('ID')} {release.get('ID_LIKE')}".replace("debian", "debian_ubuntu")


# ---- rows


def _take(rows: Any, indices: list[int]) -> Any:
    return [rows[index] for index in indices] if isinstance(rows, list | tuple) else rows.take(indices)


def _parts(rows: Any) -> Iterator[tuple[Sequence[str], int, Sequence[Any]]]:
    """Yield names, number of rows and columns of values: neighbours with the same columns are one part."""
    if hasattr(rows, "column_names"):
        yield rows.column_names, rows.num_rows, rows.columns
        return
    for names, group in groupby(rows, key=tuple):
        part = list(group)
        yield names, len(part), [[row[name] for row in part] for name in names]


def _checked(column: Column, values: Any, bad: dict[int, tuple[str, str]]) -> list[Any]:
    """Return a column's values as they are bound, and add the rows that have none to `bad`."""
    found, sure = (values, False) if isinstance(values, list) else _listed(column, values)
    has_null = None in found
    if has_null and not column.nullable:
        reason = f"column {column.name}: takes no NULL"
        bad.update({index: ("23502", reason) for index, value in enumerate(found) if value is None})
    if sure:
        return found
    present = [value for value in found if value is not None] if has_null else found
    plain = set(map(type, present)) <= {column.kind.plain}
    return found if plain and column.kind.fits(column, present) else _formed(column, found, bad)


def _formed(column: Column, values: list[Any], bad: dict[int, tuple[str, str]]) -> list[Any]:
    """Return values one by one as they are bound; None for those that go to `bad`."""
    form, formed = column.kind.form, []
    for index, value in enumerate(values):
        try:
            formed.append(None if value is None else form(column, value))
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            code = getattr(error, "code", "22018")
            bad.setdefault(index, (code, f"column {column.name}: {error}"))
            formed.append(None)
    return formed


def _listed(column: Column, array: Any) -> tuple[list[Any], bool]:
    """Return an Arrow column as a list, and whether no value needs a look."""
    pa, pc = _arrow()
    text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    if array.type != column.arrow() and not (text and column.kind is TEXT):
        return _python_values(array), False
    if column.kind in (TEXT, BYTES):
        longest = pc.max(pc.binary_length(array)).as_py() or 0  # in UTF-8, so never less than in UTF-16
        fits = column.limit is None or longest <= column.limit
        if fits and column.kind is TEXT and not column.encoding.startswith("utf"):
            fits = pc.all(pc.string_is_ascii(array)).as_py() is not False
        return list(array.to_pylist()), fits
    if column.kind is FLOAT:
        return list(array.to_pylist()), pc.all(pc.is_finite(array)).as_py() is not False
    if column.kind is OFFSET and column.scale in ARROW_SCALES and _years_fit(array):
        text = pc.cast(pc.cast(array, pa.timestamp(array.type.unit)), pa.string())
        return pc.binary_join_element_wise(text, "+00:00", " ").to_pylist(), True
    sure = column.type in EXACT_IN_ARROW or (column.scale in ARROW_SCALES and column.type in SCALED)
    return _python_values(array), sure and _years_fit(array)


def _years_fit(array: pa.ChunkedArray) -> bool:
    """Return whether dates and times are within the years 1 to 9999; the Arrow types reach further."""
    pa, pc = _arrow()
    if not pa.types.is_timestamp(array.type) and not pa.types.is_date32(array.type):
        return True
    bounds = pc.min_max(pc.cast(array, pa.date32(), safe=False).cast(pa.int32())).as_py()
    return bounds["min"] is None or (bounds["min"] >= FIRST_DAY and bounds["max"] <= LAST_DAY)


def _python_values(array: pa.ChunkedArray) -> list[Any]:
    """Return Python values; a year that Python does not have as text, which will be refused."""
    try:
        found: list[Any] = array.to_pylist()
    except OverflowError:
        found = [_python_value(scalar) for scalar in array]
    return found


def _python_value(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except OverflowError:
        return f"a time beyond the years 1 to 9999: {scalar.value}"


def _longest(column: Column, values: Any) -> int:
    """Return an upper bound of the length of texts (in UTF-16) or bytes."""
    if column.kind.bind is not None:
        return 0
    present = [value for value in values if value]
    longest = max(map(len, present), default=0)
    return longest if column.kind is BYTES or all(map(str.isascii, present)) else 2 * longest


def _buffer_bytes(binding: tuple[int, int, int]) -> int:
    """Return what one parameter takes in the buffer."""
    kind, size, _ = binding
    return (2 * size if kind in (-9, -10) else size if kind in (-3, -4) else 32) + 8


# ---- values of each type


def _integer(column: Column, value: Any) -> int:
    number = value if isinstance(value, int) else int(EXACT.to_integral_exact(Decimal(_number_text(value))))
    low, high, _, _ = INTEGERS[column.type]
    if not low <= number <= high:
        raise BadValueError("22003", f"{number} is not within {low} and {high}")
    return int(number)


def _number_text(value: Any) -> str:
    """Return a number or its text as text; a float as its shortest form."""
    if not isinstance(value, int | float | str | Decimal):
        raise TypeError(f"{type(value).__name__} is no number")
    return str(value).strip()


def _integers_fit(column: Column, values: list[Any]) -> bool:
    low, high, _, _ = INTEGERS[column.type]
    return not values or (low <= min(values) and max(values) <= high)


def _bit(_: Column, value: Any) -> bool:
    word = value.strip().lower() if isinstance(value, str) else value
    if word not in BITS or isinstance(word, float):
        raise ValueError(f"{value!r} is no bit: 0 or 1")
    return BITS[word]


def _decimal(column: Column, value: Any) -> Decimal:
    precision, scale = MONEY.get(column.type, (column.precision, column.scale))
    try:
        number = value if isinstance(value, Decimal) else Decimal(_number_text(value))
        if not number.is_finite():
            raise BadValueError("22003", f"{number} is no number that SQL Server has")
        fixed = number.quantize(_quantum(scale), context=_digits(precision))
    except (InvalidOperation, Inexact) as error:
        raise BadValueError("22003", f"{value!r} does not fit in decimal({precision},{scale})") from error
    if column.type in MONEY and not -(bound := MONEY_BOUNDS[column.type]) <= fixed < bound:
        raise BadValueError("22003", f"{value!r} does not fit in {column.type}")
    return fixed


@cache
def _quantum(scale: int) -> Decimal:
    return Decimal(1).scaleb(-scale)


@cache
def _digits(precision: int) -> Context:
    """Return a context that raises for a number with more digits, or with digits to round."""
    return Context(prec=precision, traps=[Inexact, InvalidOperation])


def _float(column: Column, value: Any) -> float:
    number = float(_number_text(value)) if isinstance(value, str | bool) else float(value)
    if not math.isfinite(number):
        raise BadValueError("22003", f"{value!r} is no number that SQL Server has")
    if isinstance(value, int) and int(number) != value:
        raise BadValueError("22003", f"{value} has more digits than a float")
    if column.type == "real":
        struct.pack("<f", number)  # raises OverflowError
    return number


def _floats_fit(column: Column, values: list[Any]) -> bool:
    return column.type == "float" and all(map(math.isfinite, values))


def _text(column: Column, value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        value = json.dumps(value, default=str, ensure_ascii=False, allow_nan=False)
    elif isinstance(value, date | time):
        value = value.isoformat()
    elif isinstance(value, int | Decimal | UUID) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no text")
    try:
        size = len(value.encode(column.encoding))
    except UnicodeEncodeError as error:
        raise BadValueError("22018", f"{error.object[error.start]!r} is not in {column.encoding}") from error
    length = size // 2 if column.encoding == "utf-16-le" else size
    if column.limit is not None and length > column.limit:
        raise BadValueError("22001", f"{length} characters, at most {column.limit}")
    return value


def _texts_fit(column: Column, values: list[Any]) -> bool:
    """Say whether all texts can be stored; a doubt is a no. One join is a tenth of looking at each."""
    longest, text = max(map(len, values), default=0), "".join(values)
    limit = longest if column.limit is None else column.limit
    if text.isascii() or column.encoding != "utf-16-le":
        return text.isascii() and longest <= limit
    try:
        units = len(text.encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        return False
    return column.limit is None or (longest if units == len(text) else 2 * longest) <= limit


def _bytes(column: Column, value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{type(value).__name__} is no bytes")
    if column.limit is not None and len(value) > column.limit:
        raise BadValueError("22001", f"{len(value)} bytes, at most {column.limit}")
    return bytes(value)


def _all_short(column: Column, values: list[Any]) -> bool:
    return column.limit is None or max(map(len, values), default=0) <= column.limit


def _date(_: Column, value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value.strip())
    if isinstance(value, datetime):
        if value.time() != time.min or value.tzinfo:
            raise BadValueError("22008", "the time of day does not fit in a date")
        return value.date()
    if not isinstance(value, date):
        raise TypeError(f"{type(value).__name__} is no date")
    return value


def _moment(value: Any) -> datetime:
    if isinstance(value, str):
        return datetime.fromisoformat(value.strip())
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time.min)
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} is no timestamp")
    return value


def _timestamp(column: Column, value: Any) -> datetime:
    moment = _moment(value)
    if moment.tzinfo:
        raise BadValueError("22008", f"{column.type} has no time zone")
    _whole_ticks(column, moment)
    low, high = YEARS.get(column.type, (1, 9999))
    if not low <= moment.year <= high or (column.type == "smalldatetime" and moment > LAST_SMALL):
        raise BadValueError("22007", f"{column.type} has no {moment}")
    return moment


def _whole_ticks(column: Column, moment: datetime | time) -> None:
    """Raise BadValueError for a time that the column would round."""
    if column.type == "datetime":  # thirds of a hundredth of a second, which are shown as 0, 3 and 7
        rounded = moment.microsecond % 1000 or moment.microsecond // 1000 % 10 not in (0, 3, 7)
    elif column.type == "smalldatetime":
        rounded = moment.second or moment.microsecond
    else:
        rounded = column.scale < 6 and moment.microsecond % column.tick
    if rounded:
        raise BadValueError("22008", f"{moment} is finer than {column.declared} keeps")


def _timestamps_fit(column: Column, values: list[Any]) -> bool:
    return column.type == "datetime2" and column.tick == 1 and not any(value.tzinfo for value in values)


def _offset(column: Column, value: Any) -> str:
    moment = _moment(value)
    _whole_ticks(column, moment)
    offset = moment.utcoffset()
    if not offset:  # UTC, or said without a zone; isoformat with a zone takes 7 µs, without one 1 µs
        return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}+00:00"
    if offset % timedelta(minutes=1) or abs(offset) > timedelta(hours=14):
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")


def _time(column: Column, value: Any) -> time:
    found = time.fromisoformat(value.strip()) if isinstance(value, str) else value
    if not isinstance(found, time) or found.tzinfo:
        raise BadValueError("22007", f"{value!r} is no time of day without a zone")
    _whole_ticks(column, found)
    return found


def _uuid(_: Column, value: Any) -> UUID:
    if isinstance(value, bytes):
        return UUID(bytes=value)
    return value if isinstance(value, UUID) else UUID(value)


def _never(_: Column, values: list[Any]) -> bool:
    return not values


def _always(_: Column, __: list[Any]) -> bool:
    return True


# ---- types

# Low, high, SQL type for setinputsizes, Arrow type.
INTEGERS = {
    "tinyint": (0, 255, -6, "uint8"), "smallint": (-(2**15), 2**15 - 1, 5, "int16"),
    "int": (-(2**31), 2**31 - 1, 4, "int32"), "bigint": (-(2**63), 2**63 - 1, -5, "int64"),
}  # fmt: skip
BITS = {0: False, 1: True, "0": False, "1": True, "false": False, "true": True}
MONEY = {"money": (19, 4), "smallmoney": (10, 4)}
MONEY_BOUNDS = {"money": Decimal("922337203685477.5808"), "smallmoney": Decimal("214748.3648")}
# Types with a length, and the bytes of a character.
SIZED = {"char": 1, "varchar": 1, "nchar": 2, "nvarchar": 2, "binary": 1, "varbinary": 1}
SCALED = ("datetime2", "datetimeoffset", "time")
ARROW_SCALES = (0, 3, 6, 7)  # an Arrow unit is exactly as fine
EXACT_IN_ARROW = (*INTEGERS, "bit", "decimal", "numeric", "date", "uniqueidentifier")
YEARS = {"datetime": (1753, 9999), "smalldatetime": (1900, 2079)}
LAST_SMALL = datetime(2079, 6, 6, 23, 59)
FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31 since 1970
UTF_8 = 65001  # the code page of varchar in a collation whose name ends in _UTF8


def _unit(column: Column) -> str:
    """Return the Arrow unit that has every value of a time type."""
    scale = {"datetime": 3, "smalldatetime": 0}.get(column.type, column.scale)
    return "s" if scale == 0 else "ms" if scale <= 3 else "us"


def _time_type(pa: Any, column: Column) -> Any:
    return pa.time64("us") if _unit(column) == "us" else pa.time32(_unit(column))


def _decimal_type(pa: Any, column: Column) -> Any:
    return pa.decimal128(*MONEY.get(column.type, (column.precision, column.scale)))


INTEGER = Kind(int, _integer, _integers_fit, lambda pa, c: pa.type_for_alias(INTEGERS[c.type][3]),
               lambda c: (INTEGERS[c.type][2], 0, 0))  # fmt: skip
DECIMAL = Kind(Decimal, _decimal, _never, _decimal_type,
               lambda c: (3, *MONEY.get(c.type, (c.precision, c.scale))))  # fmt: skip
FLOAT = Kind(float, _float, _floats_fit, lambda pa, c: pa.float32() if c.type == "real" else pa.float64(),
             lambda c: (7, 24, 0) if c.type == "real" else (8, 53, 0))  # fmt: skip
STAMP = Kind(datetime, _timestamp, _timestamps_fit, lambda pa, c: pa.timestamp(_unit(c)),
             lambda c: (93, 27, 7) if c.type == "datetime2" else (93, 23, 3))  # fmt: skip
# pyodbc binds no datetimeoffset; its text is exact.
OFFSET = Kind(str, _offset, _never, lambda pa, c: pa.timestamp(_unit(c), "UTC"), lambda _: (-9, 34, 0))
TEXT = Kind(str, _text, _texts_fit, lambda pa, _: pa.string())
BYTES = Kind(bytes, _bytes, _all_short, lambda pa, _: pa.binary())
KINDS = {
    **dict.fromkeys(INTEGERS, INTEGER), **dict.fromkeys(("decimal", "numeric", *MONEY), DECIMAL),
    **dict.fromkeys(("float", "real"), FLOAT),
    **dict.fromkeys(("datetime2", "datetime", "smalldatetime"), STAMP),
    **dict.fromkeys(("binary", "varbinary", "image"), BYTES), "datetimeoffset": OFFSET,
    "bit": Kind(bool, _bit, _always, lambda pa, _: pa.bool_(), lambda _: (-7, 1, 0)),
    "date": Kind(date, _date, _always, lambda pa, _: pa.date32(), lambda _: (91, 10, 0)),
    "time": Kind(time, _time, lambda c, v: c.tick == 1 and not any(x.tzinfo for x in v), _time_type,
                 lambda _: (-154, 16, 7)),
    "uniqueidentifier": Kind(UUID, _uuid, _always, lambda pa, _: pa.uuid(), lambda _: (-11, 16, 0)),
}  # every other type takes text  # fmt: skip
ORDINAL = Column("_adaptive_ordinal", "int", 4, 10, 0, False, False, None, None, None, None)


def _staged(column: Column) -> str:
    """Return a column's line for the staging table of mode replace."""
    words = [_q(column.name), column.declared, "IDENTITY(1, 1)" * column.identity]
    words += [
        "NULL" if column.nullable else "NOT NULL",
        f"DEFAULT {column.default}" if column.default else "",
    ]
    return " ".join(filter(None, words))


def _ddl_type(field: pa.Field, key: bool) -> str:
    """Return the type of a new column for an Arrow field. Raises ValueError if there is none.

    A key has at most 900 bytes.
    """
    is_a, kind = _arrow()[0].types, field.type
    texts = is_a.is_string, is_a.is_large_string, is_a.is_string_view, is_a.is_nested, is_a.is_null
    blobs = is_a.is_binary, is_a.is_large_binary, is_a.is_binary_view, is_a.is_fixed_size_binary
    kinds = [
        (is_a.is_boolean, "bit"), (is_a.is_uint64, "decimal(20, 0)"), (is_a.is_integer, "bigint"),
        (is_a.is_floating, "float(53)"), (is_a.is_decimal, "decimal({0.precision}, {0.scale})"),
        (is_a.is_date, "date"), (is_a.is_time, "time(6)"),
        (is_a.is_timestamp, "datetimeoffset(6)" if getattr(kind, "tz", None) else "datetime2(6)"),
        (_arrow()[0].uuid().__eq__, "uniqueidentifier"), (_arrow()[0].json_().__eq__, "nvarchar(max)"),
        *((check, "nvarchar(450)" if key else "nvarchar(max)") for check in texts),
        *((check, "varbinary(900)" if key else "varbinary(max)") for check in blobs),
    ]  # fmt: skip
    found = next((word.format(kind) for check, word in kinds if check(kind)), None)
    if found is None:
        raise ValueError(f"column {field.name!r}: no SQL Server type for {kind}; say one with --types")
    return f"{found}{' NULL' if field.nullable and not key else ' NOT NULL'}"
