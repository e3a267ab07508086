"""Write rows into a SQL Server table with `fast_executemany` or bulk copy, exactly once.

This file stands alone: it needs pyodbc and Microsoft's ODBC driver, pyarrow only for Arrow tables and
`prepare`, and mssql-python only for bulk copy. Copied into another project it works as it is:

    with SqlserverSink("mssql://user:password@localhost/market", table="orders") as sink:
        sink.begin()
        sink.write([{"order_id": 1, "price": "9.99"}])
        sink.commit()

Each transaction of a load starts with its receipt in a ledger beside the target table, inserted only
while the load's splits still belong to this run: so a batch begun again is recognised, and a run that
was replaced cannot commit.

`fast_executemany` sends all rows in one message but never says which one failed, and it trusts what it is
told about the columns. So every column is bound as the catalogue has it, and every value is checked
against it before: what the server would cut or round without a word is refused here, by row. The rows
go into a staging table first, and from there into the target in one statement, whose count is checked.
"""

from __future__ import annotations

import json
import math
import platform
import re
import secrets
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache, partial
from hashlib import sha256
from importlib.util import find_spec
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import UUID

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError:  # then there are only rows
    pa = None

if TYPE_CHECKING:
    import pyodbc

Verdict: TypeAlias = Literal["retry", "overload", "in_doubt", "reject", "fatal", "taken_over"]
Rejection: TypeAlias = tuple[int, str, str]
Rejections: TypeAlias = list[Rejection]
Refused: TypeAlias = dict[int, tuple[str, str]]  # rows by their index, with code and reason
Steps: TypeAlias = list[Callable[[], bool]]  # each says whether it came out as before
Part: TypeAlias = tuple[Sequence[str], Sequence[Any], Sequence[int]]  # names, columns, where the rows stood
Cells: TypeAlias = Sequence[Sequence[Any]]  # checked values by column, as they are bound
Checked: TypeAlias = tuple[list["Column"], Cells, Sequence[int]]

# The rights that each mode needs on the table.
MODES = {"append": "INSERT", "ignore": "SELECT INSERT", "upsert": "SELECT INSERT UPDATE",
         "replace": "SELECT INSERT DELETE"}  # fmt: skip
DEFAULTS = {"encrypt": "yes", "app": "adaptive",
            "connectretrycount": "0",  # a lost connection must be seen: its transaction is gone
            "usefmtonly": "yes"}  # the driver's documented way to describe temporary tables  # fmt: skip
LOGIN_SECONDS = 15
BAD_URL = ("not a valid SQL Server URL, mssql://user:password@host:1433/database?…; %-encode special "
           "characters, @ in a password is %40")  # fmt: skip
# fast_executemany with another driver crashes (FreeTDS, SQLite) or drops microseconds (psqlODBC) silently.
MICROSOFT = re.compile(r"(lib)?msodbcsql[-.\d]*\.(so|dylib|dll)[.\d]*", re.IGNORECASE)
DRIVERS = "ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server"
INSTALL_ODBC = "pyodbc needs the library unixODBC: apt-get install libodbc2 (or unixodbc)"
INSTALL_DRIVER = (
    "no Microsoft ODBC driver for SQL Server is installed: install msodbcsql18 (learn.microsoft.com/sql/"
    "connect/odbc/download-odbc-driver-for-sql-server), or `pip install mssql-python-odbc`, or name one "
    "with ?driver="
)
BULK = ("auto", "yes", "no")
# Rows of a write from which bulk copy is faster, measured with a server on the same machine: it takes 0.9 s
# and 6 µs a row, `fast_executemany` 30 to 38 µs a row.
BULK_ROWS = 40_000
BULK_SECONDS = 600  # for a whole bulk copy: a hundred times what the largest batch of a load takes
INSTALL_BULK = "bulk copy needs mssql-python and pyarrow: pip install mssql-python pyarrow; or say ?bulk=auto"
ODBC_ONLY = ("driver", "app", "usefmtonly")  # keywords that mssql-python sets itself, or does not know
# Rows of a transaction that are kept, to take it again where a row dooms it: four batches of a load.
# Without a ledger a whole load is one transaction, which memory could not hold.
REPEATABLE_ROWS = 200_000
# Bytes that pyodbc allocates for the parameters of one executemany, whatever the data.
BUFFER_BYTES = 16_000_000
BUFFERED = {-9: 2, -10: 2, -3: 1, -4: 1}  # by SQL type, for each unit of its size; others take up to 32 bytes

# Sent once after connecting. The language is that of messages, in which names and key values are looked for.
# XACT_ABORT OFF: most errors of a statement then leave the transaction usable.
# A lock is waited for longer than the server's keepalives (30 s, then 10 probes 1 s apart) take to end a
# half-open attempt that holds it.
SETTINGS = """
    SET LANGUAGE us_english; SET NOCOUNT ON; SET XACT_ABORT OFF; SET LOCK_TIMEOUT 60000; SET DATEFORMAT ymd;
    SET ANSI_NULLS ON;
    SET ANSI_PADDING ON; SET ANSI_WARNINGS ON; SET ARITHABORT ON; SET CONCAT_NULL_YIELDS_NULL ON;
    SET QUOTED_IDENTIFIER ON; SET NUMERIC_ROUNDABORT OFF; SET TRANSACTION ISOLATION LEVEL READ COMMITTED"""
SERVER = """
    SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)),
        CAST(SERVERPROPERTY('Edition') AS nvarchar(128)), DB_NAME(), USER_NAME(), SCHEMA_NAME()"""
LOCATE = """
    SELECT s.name, o.name, o.object_id, o.type
    FROM sys.objects AS o JOIN sys.schemas AS s ON s.schema_id = o.schema_id
    WHERE o.object_id = OBJECT_ID(?) AND o.type IN ('U', 'V')"""
# An alias type has the system type it stands for; of the server's own (below 256) only the user type says
# which, as of those in CLR (240) and of vector, which has the system type of varbinary. A sql_variant, as
# COLLATIONPROPERTY returns it, is none that pyodbc reads.
CATALOGUE = """
    SELECT c.name, y.name, c.max_length, c.precision, c.scale, c.is_nullable, c.is_identity, c.collation_name,
        CAST(COLLATIONPROPERTY(c.collation_name, 'CodePage') AS int),
        CASE WHEN c.default_object_id <> 0 THEN COALESCE(d.definition, '') END, k.key_ordinal
    FROM sys.columns AS c
        JOIN sys.types AS y
            ON y.user_type_id = CASE WHEN c.system_type_id = 240 OR c.user_type_id < 256
                THEN c.user_type_id ELSE c.system_type_id END
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
# Who may not see the definition of the table finds none.
CHECKS = """
    SELECT name, definition FROM sys.check_constraints
    WHERE parent_object_id = ? AND is_disabled = 0 AND definition IS NOT NULL"""
CASCADES = """
    SELECT OBJECT_NAME(parent_object_id) FROM sys.foreign_keys
    WHERE referenced_object_id = ? AND parent_object_id <> referenced_object_id
        AND delete_referential_action <> 0"""
BRACKETED = re.compile(r"\[([^\]]+)\]")  # names in the text of a check, as the server writes it
PERMISSION = "SELECT HAS_PERMS_BY_NAME(?, ?, ?)"
STRAYS = "SELECT t.name FROM sys.tables AS t WHERE t.schema_id = SCHEMA_ID(?) AND LEFT(t.name, ?) = ?"

# With ODBC's autocommit off a transaction is open already, or (implicit) begins with the first statement,
# which then counts BEGIN TRANSACTION twice.
START = "BEGIN TRANSACTION; IF @@TRANCOUNT > 1 COMMIT TRANSACTION"
LOCK = f"""{START};
    DECLARE @got int;
    EXEC @got = sp_getapplock @Resource = ?, @LockMode = 'Exclusive', @LockOwner = 'Transaction',
        @LockTimeout = 60000;
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
    # As bytes: in every collation texts are equal that differ in trailing spaces only.
    "keys": """CREATE TABLE {keys} (
        target nvarchar(300) COLLATE Latin1_General_100_BIN2 NOT NULL, [key] varbinary(200) NOT NULL,
        claimed_at datetime2(6) NULL DEFAULT SYSUTCDATETIME(), PRIMARY KEY (target, [key]))""",
}
LEDGER_TABLES = ("ledger", "splits", "loads")
STATE = "SELECT state FROM {loads} WITH (UPDLOCK, HOLDLOCK) WHERE [load] = ?"
REGISTER = """
    INSERT INTO {loads} ([load], fingerprint, source, mapping, target, mode, state, started_at)
    VALUES (?, ?, ?, ?, ?, ?, 'running', SYSUTCDATETIME())"""
TAKE_OVER = "UPDATE {splits} SET owner = ? WHERE [load] = ? AND split = ?; SELECT @@ROWCOUNT"
TAKE = "INSERT INTO {splits} ([load], split, owner) VALUES (?, ?, ?)"
OWNED = "SELECT split FROM {splits} WITH (UPDLOCK, HOLDLOCK) WHERE [load] = ? AND owner = ?"
RUNNING = "SELECT [load] FROM {loads} WHERE target = ? AND state = 'running'"
FORGET = "DELETE FROM {rows} WHERE [load] IN (SELECT [load] FROM {loads} WHERE target = ?)"
FORGET_KEYS = "DELETE FROM {keys} WHERE target = ?"
LOAD_NAMES = ("load", "fingerprint", "source", "mapping", "target", "mode", "state", "rows", "rejected",
              "started_at", "finished_at")  # fmt: skip
LOADS = "SELECT {names} FROM {loads}"
RECEIPTS = """
    SELECT segments, [rows], rejected FROM {ledger} {locks} WHERE [load] = ? ORDER BY committed_at, batch"""
# To look on: what others have under way is neither waited for nor seen. Where reads use row versions
# (READ_COMMITTED_SNAPSHOT), READPAST is an error unless locks are asked for.
PAST_LOCKS = "WITH (READPAST, READCOMMITTEDLOCK)"
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
        WHERE [load] = ? AND owner = ? AND split IN ({markers})) = ?;
    SELECT @@ROWCOUNT"""
REPLACED = "DELETE FROM {ledger} WHERE [load] = ? AND batch = ?"
CORRECTION = "UPDATE {ledger} SET rejected = ?, [rows] = ? WHERE [load] = ? AND batch = ?"
SAVE = "SAVE TRANSACTION adaptive"
UNDO = "ROLLBACK TRANSACTION adaptive"
USABLE = "SELECT XACT_STATE()"

# Rows go by fast_executemany into a temporary table without constraints, or by bulk copy into such a table
# beside the target, and from there into the target in one statement, which takes all of them or none. A
# message of many single INSERTs would go on behind an error that rolled the transaction back (a deadlock, or
# what a trigger says), and its rows would be committed one by one. Each row is marked with what is to become
# of it; MERGE has known errors (wrong results with filtered indexes, deadlocks), and plain statements are as
# fast. {same} compares keys: t is the target.
STAGE_NAME = "[#adaptive]"
DROP = "DROP TABLE IF EXISTS {name}"
STAGE = """
    DROP TABLE IF EXISTS {stage};
    CREATE TABLE {stage} (
        _adaptive_ordinal int NOT NULL, _adaptive_mark tinyint NOT NULL DEFAULT 0, {lines})"""
FILL = "INSERT INTO {stage} ({columns}) VALUES ({markers})"
BROKEN, TAKEN, SAME = 1, 2, 3  # marks: breaks a check, its unique key is taken, its row is there; 0: free
MARK = """
    UPDATE s SET _adaptive_mark = {mark} FROM {stage} AS s WHERE _adaptive_mark = 0 AND ({condition}) {how};
    SELECT _adaptive_ordinal, _adaptive_mark FROM {stage} WHERE _adaptive_mark <> 0
    ORDER BY _adaptive_ordinal"""
UNMARK = "UPDATE {stage} SET _adaptive_mark = 0"
# In two statements: with OR between them the server would look through all rows for each one.
THERE = "EXISTS (SELECT 1 FROM {destination} AS t {locks} WHERE {same})"
REPEATED = """
    _adaptive_ordinal IN (SELECT _adaptive_ordinal FROM (
        SELECT _adaptive_ordinal,
            ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY _adaptive_ordinal {last}) AS turn
        FROM {stage} WHERE _adaptive_mark = 0) AS turns WHERE turn > 1)"""
# For upsert, also of the gaps, so that nobody inserts a key meanwhile. In the order of the keys, so that
# writers wait for each other in one direction only; by a loop, so that nothing but these keys is locked.
LOCKS = "WITH (UPDLOCK, HOLDLOCK, ROWLOCK)"
LOCK_KEYS = """
    SELECT COUNT(*) FROM (SELECT TOP (2147483647) {key} FROM {stage} ORDER BY {key}) AS s
        INNER LOOP JOIN {destination} AS t {locks} ON {same}
    OPTION (FORCE ORDER, MAXDOP 1)"""
BY_LOOP = "OPTION (LOOP JOIN)"
INSERT = """
    SAVE TRANSACTION adaptive_staged;
    INSERT INTO {destination} ({columns}) SELECT {columns} FROM {stage} WHERE _adaptive_mark = 0
    ORDER BY {order};
    SELECT @@ROWCOUNT"""
UNDO_INSERT = "ROLLBACK TRANSACTION adaptive_staged"
REDUCE = """
    DELETE FROM {stage} WHERE {repeated};
    SELECT @@ROWCOUNT"""
UPDATE = """
    UPDATE t SET {changes} FROM {destination} AS t JOIN {stage} AS s ON {same} WHERE s._adaptive_mark = 3
    OPTION (LOOP JOIN)"""
RELEASE = "DELETE FROM {keys} WHERE target = ? AND [key] IN (SELECT [key] FROM {stage})"
IDENTITY_INSERT = "SET IDENTITY_INSERT {destination} {word}"
# `finish` of mode replace: DELETE and INSERT keep grants, foreign keys, views and triggers.
EMPTY = "DELETE FROM {target} WITH (TABLOCKX)"
MOVE = "INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging}"

# By the server's error number. 40197 and 40613 (Azure) end the connection, perhaps in a commit; 40549
# to 40553 end a transaction that takes too much; 13535: a system-versioned row is newer than this one. 6900
# and 9400 on are about XML and its schema, 13608 on about JSON, 13670, 42204 and 42238 about vectors.
LEFT_OUT = 3604  # "Duplicate key was ignored", a warning of indexes with IGNORE_DUP_KEY
VERDICTS: dict[int, Verdict] = {
    **dict.fromkeys((1205, 1222, 3960, 3961, 13535, 41302, 41305, 41325, 41839, 628, 3902, 3903, 3930, 6401),
                    "retry"),
    **dict.fromkeys((701, 802, 1204, 8645, 8651, 10928, 10929, 17809, 40501, 49918, 49919, 49920,
                     *range(40549, 40554)), "overload"),
    **dict.fromkeys((596, 3980, 6005, 6006, 40197, 40613), "in_doubt"),
    **dict.fromkeys((220, 232, 241, 242, 245, 248, 295, 296, 511, 515, 517, 547, 550, 1946, 2601, 2627, 2628,
                     3609, 3616, LEFT_OUT, 6522, *range(6900, 7000), 7139, 8114, 8115, 8152, 8169,
                     *range(9400, 9500), *range(13608, 13615), 13670, 42204, 42238), "reject"),
    **dict.fromkeys((206, 207, 208, 229, 262, 544, 1105, 3906, 4060, 9002, 18456), "fatal"),
}  # fmt: skip
# By SQLSTATE where the number is not known; everything else is fatal.
STATES: dict[str, Verdict] = {"08": "in_doubt", "22": "reject", "23": "reject", "40": "retry",
                              "HYT": "in_doubt"}  # fmt: skip
TAKEN_KEY, CONFLICT = (2627, 2601), 547
NO_RIGHT = (229, 262, 1088, 2760)
RESERVED = ("server", "address", "addr", "uid", "pwd", "user", "password", "dsn", "filedsn", "odbc_connect")
USER_ERROR = 50_000  # RAISERROR and THROW, as triggers use them to refuse a row


class ServerError(Exception):
    """What the driver or the server said: `sqlstate`, and `number`, 0 if it is not the server's."""

    def __init__(self, sqlstate: str, number: int, text: str) -> None:
        super().__init__(text)
        self.sqlstate, self.number = sqlstate, number


class ConnectError(ServerError):
    """Connecting or bulk copy failed, and so nothing was applied."""


class DriverMissingError(Exception):
    """There is no driver that may be used; the text says what to install."""


class OwnershipLostError(Exception):
    """Another run has taken the load's splits over; nothing of this run can be committed."""


class BadValueError(ValueError):
    """A value that its column cannot hold unchanged. `code` is the SQLSTATE the server would give."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class SqlserverSink:
    """Write one table of SQL Server. One instance per thread.

    `url` is `mssql://user:password@host:1433/database?driver=…`; further parameters are keywords of the
    ODBC driver. `?bulk=` says whether large batches of loads go by bulk copy of mssql-python: `auto` (the
    default) where that can be, `yes` with an error where it cannot be, `no` never.

    `table` may be `schema.table`; in `"a.b"`, quoted, the dot belongs to the name. Without a table there is
    only `loads`, of every table of the database, and `doctor`. `key` names the columns that decide what
    `ignore` and `upsert` take for the same row (default: the primary key). The ledger's tables are
    `<ledger>_loads`, `_splits`, `_ledger` and, for idempotency keys, `_keys`, beside the target unless a
    schema is named; with None there are none, and no mode `replace`.

    A server has no time limit for a transaction whose client is alive and does nothing: another run waits
    60 s for its locks at a time, and gives up in the end.

    Raises ValueError if an argument cannot be right.
    """

    capabilities: frozenset[Any] = frozenset(
        [*MODES, "transactional", "create", "keys", "tables", *(["arrow"] if pa else [])]
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
        self._url, self._table_path, self._mode = url, _parse_table(table), mode
        self._session = Session(url)
        self._ledger = _parse_table(ledger)
        self._tables: tuple[str, ...] = LEDGER_TABLES if ledger else ()  # of the ledger, that this load needs
        self._key = (key,) if isinstance(key, str) else tuple(key)
        self._merges = mode in ("ignore", "upsert")
        self._known: Table | None = None
        self._receipt: Mapping[str, Any] | None = None
        self._token = secrets.token_hex(8)
        self._copy = ""  # the staging table of bulk copy, once there is one
        self.duplicates = 0

    def beside(self, table: str, *, mode: str = "append", key: str | Sequence[str] = ()) -> SqlserverSink:
        """Return a sink for another table that writes within this one's transactions, without a ledger.

        Raises ValueError if an argument cannot be right, mode `replace` included.
        """
        sink = SqlserverSink(self._url, table=table, mode=mode, key=key, ledger=None)
        sink._session = self._session
        return sink

    @property
    def doomed(self) -> bool:
        """Return whether the transaction can only be rolled back."""
        return self._session.doomed

    # ---- connection

    def open(self) -> None:
        """Connect. Raises ConnectError, DriverMissingError."""
        self._session.open()

    def close(self) -> None:
        """Disconnect, rolling back what is open. Repeating it is fine; raises nothing."""
        self.rollback()
        if self._copy:
            with suppress(ServerError, RuntimeError):
                self._run(DROP, name=self._copy)
                self._session.commit()
                self._copy = ""
        self._session.close()

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
        words = (*LEDGER_TABLES, "keys") if load.get("keys") else LEDGER_TABLES
        self._tables = words if self._ledger else ()
        table = self._locate()
        if not table.oid and schema is None:
            why = "does not exist, or this user has no right on it"  # the catalogue shows it to others only
            raise LookupError(f"table {table} {why}; create it first (or load with --create)")
        if missing := self._missing_rights(table):
            raise PermissionError(f"rights are missing on {table}; run: {'; '.join(missing)}")
        with self._transaction("ledger"):
            for word in self._missing_tables():
                self._run(LEDGER[word])
        with self._transaction(str(table)):
            # First: who scans the catalogue with changes of his own in it may wait for another who does so.
            there = self._locate().oid
            strays = self._strays(load["load"]) if there and self._ledger else []
            if not there and schema is not None:
                self._create(schema)
            if self._ledger:
                self._start(load, strays)
        return self.columns()

    def columns(self) -> Sequence[tuple[Any, ...]]:
        """Return the table's columns, and change nothing. Raises LookupError if it is missing."""
        return [
            (c.name, c.arrow(), c.nullable, c.filled, c.name in self._table.key,
             c.limit if c.kind is TEXT else None)
            for c in self._table.columns
        ]  # fmt: skip

    def loads(self) -> list[dict[str, Any]]:
        """Return the loads of this table, or of all without one, oldest first; [] without a ledger."""
        if not self._ledger:
            return []
        table, name = self._locate() if self._table_path else None, f"{self._ledger[-1]}_loads"
        places = [_path(schema, name) for (schema,) in self._run(LEDGERS, name)]
        if table or len(self._ledger) > 1:
            places = [place for place in places if place == self._ledger_table("loads")]
        found = [row for place in places for row in self._loads(place)]
        chosen = [row for row in found if table is None or row["target"] == str(table)]
        return sorted(chosen, key=lambda row: (row["started_at"], row["load"]))

    def empty(self) -> bool:
        """Return whether the table has no rows; a missing one has none."""
        return not self._locate().oid or not self._run("SELECT TOP (1) 1 FROM {target}")

    def receipts(self, load: str) -> list[tuple[list[list[int]], int, list[list[int]]]]:
        """Return what is committed of a load: segments, rows, rejected positions; [] without a ledger."""
        place = self._ledger_table("ledger") if self._ledger else ""
        return self._receipts(place, load) if place and self._run(LOCATE, place) else []

    def finish(self, load: Mapping[str, Any]) -> None:
        """Swap `replace` in, compact the receipts and mark the load done. Raises OwnershipLostError."""
        if not self._ledger:
            return
        name, table = load["load"], self._table
        with self._transaction(str(table)):
            if self._run(STATE, name) == [("done",)]:
                return
            owned = {split for (split,) in self._run(OWNED, name, load["owner"])}
            if not owned.issuperset(load["splits"]):
                raise OwnershipLostError(f"load {name} was taken over by another run")
            strays = self._strays(name)
            if self._mode == "replace":
                self._swap(_path(table.schema, self._staging("replace", name)))
            receipts = self.receipts(name)
            rejected = sum(len(positions) for _, _, positions in receipts)
            self._run(DONE, sum(rows for _, rows, _ in receipts), rejected, name)
            self._run("DELETE FROM {ledger} WHERE [load] = ? AND rejected = '[]'", name)
            # Without its splits a late batch of this very run finds no owner, and so is refused as well.
            self._run("DELETE FROM {splits} WHERE [load] = ?", name)
            self._drop(strays)

    def doctor(self) -> list[str]:
        """Return what is found out about server, table and rights, in words; changes nothing."""
        [(version, edition, database, user, _)] = self._run(SERVER)
        driver = self._session.connection.getinfo(_pyodbc().SQL_DRIVER_VER)
        found = [f"SQL Server {version}, {edition}, database {database}, user {user}, ODBC driver {driver}"]
        if self._table_path:
            table = self._locate()
            found.append(f"table {table} {'exists' if table.oid else 'does not exist'}")
            found += [f"a right is missing: {grant}" for grant in self._missing_rights(table)]
            if any(column.identity for column in table.columns):
                alter = self._grants([("OBJECT", str(table), "ALTER")])
                found += [f"a right is missing if rows bring the identity column: {grant}" for grant in alter]
            for word in self._missing_tables():
                ddl = " ".join(LEDGER[word].format(**{word: self._ledger_table(word)}).split())
                found.append(f"the first load will create the ledger, or beforehand: {ddl}")
            if why := self._session.no_bulk:
                found.append(f"large batches go without bulk copy: {why}")
        return found

    # ---- transactions

    def begin(self, receipt: Mapping[str, Any] | None = None) -> bool:
        """Open a transaction whose first statement is the receipt; False if it is already committed.

        Raises OwnershipLostError if another run has the splits now, ValueError for replace without a load.
        """
        if self._mode == "replace" and receipt is None:
            raise ValueError("mode replace needs a load: prepare it, begin with receipts, finish it")
        if receipt and not self._ledger:
            raise ValueError("a receipt needs a ledger")
        try:
            entered = self._enter(receipt)
        except BaseException:
            self.rollback()
            raise
        if entered:
            self._receipt, self._session.steps = receipt, []
            self._session.did(partial(self._enter, receipt))
        else:
            self.rollback()
        return entered

    def write(self, rows: Sequence[Mapping[str, Any]]) -> Rejections:
        """Write mappings of column to value; a column that a row lacks gets its default.

        Returns the rows with values their columns cannot hold, those that break a constraint, if the
        others could be written, and those that end the transaction; else all or nothing. Raises
        ServerError, or LookupError if the key is missing.
        """
        self._session.require_transaction()
        try:
            refused = self._guarded(rows)
        except Exception as error:
            if not self.doomed or self.classify(error) != "reject":
                raise
            refused = self._narrow(rows)
        written = _left(rows, {index for index, _, _ in refused}) if refused else rows
        self._session.did(lambda: not self._guarded(written), len(written))
        return refused

    def write_arrow(self, rows: pa.Table) -> Rejections:
        """Write a table; fastest if its types are those of `prepare`. As `write`."""
        return self.write(rows)

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Enter idempotency keys of the table; return those that were not there. Waits for other claims."""
        self._session.require_transaction()
        fresh = self._enter_keys(keys)
        self._session.did(lambda: self._enter_keys(keys) == fresh)
        return fresh

    def release(self, keys: Sequence[str]) -> None:
        """Take back keys that this transaction has claimed."""
        self._session.require_transaction()
        self._drop_keys(keys)
        self._session.did(lambda: self._drop_keys(keys))

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
            self._run(CORRECTION, positions, count, receipt["load"], receipt["batch"])
        self._session.commit()

    def rollback(self) -> None:
        """Drop the transaction. Raises nothing."""
        self._session.rollback()

    # ---- errors

    def hint(self, _: BaseException) -> int | None:
        """Return None: `fast_executemany` never says which row failed."""
        return None

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means, by the server's number, else by SQLSTATE."""
        return _verdict(error)

    # ---- catalogue

    @property
    def _table(self) -> Table:
        table = self._known if self._known and self._known.oid else self._locate()
        if not table.oid:
            raise LookupError(f"table {table} does not exist")
        return table

    def _staging(self, use: str, load: str = "") -> str:
        """Return the name (for `bulk` its beginning) of a load's staging table; of all loads' without one."""
        place = _digest(f"{self._table} {self._ledger_table('loads')}")
        return f"_adaptive_{use}_{place}_{_digest(load) if load else ''}"

    @property
    def _destination(self) -> str:
        """Return the table that the rows go into."""
        table, load = self._table, (self._receipt or {}).get("load", "")
        return _path(table.schema, self._staging("replace", load) if self._mode == "replace" else table.name)

    def _locate(self) -> Table:
        """Look the target up, with its columns."""
        if not self._table_path:
            raise ValueError("say the table")
        rows = self._run(LOCATE, _path(*self._table_path))
        if not rows:
            schema = self._table_path[0] if len(self._table_path) > 1 else self._run(SERVER)[0][-1]
            found = Table(schema, self._table_path[-1])
        else:
            [(schema, name, oid, kind)] = rows
            columns = tuple(map(Column._make, self._run(CATALOGUE, oid)))
            if kind.strip() == "V":  # the catalogue does not say what the tables behind it fill
                columns = tuple(c._replace(default=c.default or "") for c in columns)
            primary = sorted((column.place, column.name) for column in columns if column.place)
            found = Table(schema, name, oid, columns, self._key or tuple(word for _, word in primary))
            if self._merges and set(found.key) not in [set(key) for _, key in self._unique(found.oid)]:
                wanted = f"({', '.join(found.key) or 'a key'}) of {found}"
                raise LookupError(f"mode {self._mode} needs a unique index on {wanted}")
        self._known = found
        return found

    def _unique(self, oid: int) -> list[tuple[str, list[str]]]:
        """Return the names and columns of the unique indexes."""
        found = self._run(UNIQUE, oid)
        return [(name, [row[2] for row in rows]) for name, rows in groupby(found, lambda row: str(row[0]))]

    def _ledger_table(self, word: str) -> str:
        schema = self._ledger[0] if len(self._ledger) > 1 else (self._known or self._locate()).schema
        return _path(schema, f"{self._ledger[-1]}_{word}")

    def _columns(self, names: Sequence[str]) -> list[Column]:
        """Return the columns to write to. Raises LookupError if the key is missing, BadValueError."""
        known = {column.name: column for column in self._table.columns}
        if unknown := [name for name in names if name not in known]:
            raise BadValueError("42S22", self._no_column(unknown[0]))
        if self._merges and (missing := sorted({*self._table.key}.difference(names))):
            raise LookupError(f"mode {self._mode} needs the key in every row; missing: {', '.join(missing)}")
        return [known[name] for name in names]

    def _run(self, statement: str, *values: object, **names: str) -> list[tuple[Any, ...]]:
        """Run statements; {target} and the ledger's words stand for the quoted identifiers."""
        if "{target}" in statement:
            names["target"] = str(self._known or self._locate())
        for word in LEDGER:
            if f"{{{word}}}" in statement and word not in names:
                names[word] = self._ledger_table(word)
        return self._session.run(statement.format(**names), *values)

    # ---- ledger

    @contextmanager
    def _transaction(self, resource: str) -> Iterator[None]:
        """Open a transaction that holds the application lock for a resource."""
        try:
            [(got,)] = self._run(LOCK, f"adaptive {_digest(resource)}")
            text = f"another run holds the lock for {resource} ({got})"
            _require(got >= 0, ServerError("HYT00", 1222, text))
            yield
            self._session.commit()
        except BaseException as error:
            self.rollback()
            if isinstance(error, ServerError) and error.number in NO_RIGHT:
                raise PermissionError(str(error)) from error
            raise

    def _loads(self, place: str) -> Iterator[dict[str, Any]]:
        """Yield the loads of a ledger; what runs is counted from its receipts."""
        for values in self._run(LOADS, names=_list(LOAD_NAMES), loads=place):
            row = dict(zip(LOAD_NAMES, values, strict=True))
            if row["rows"] is None:
                receipts = self._receipts(place.removesuffix("_loads]") + "_ledger]", row["load"], PAST_LOCKS)
                row["rows"] = sum(rows for _, rows, _ in receipts)
                row["rejected"] = sum(len(rejected) for _, _, rejected in receipts)
            for name in ("started_at", "finished_at"):
                row[name] = row[name] and row[name].replace(tzinfo=UTC)
            yield row

    def _receipts(
        self, place: str, load: str, locks: str = ""
    ) -> list[tuple[list[list[int]], int, list[list[int]]]]:
        found = self._run(RECEIPTS, load, ledger=place, locks=locks)
        return [(json.loads(segments), rows, json.loads(rejected)) for segments, rows, rejected in found]

    def _missing_tables(self) -> list[str]:
        """Return the words for the ledger's tables that do not exist."""
        return [word for word in self._tables if not self._run(LOCATE, self._ledger_table(word))]

    def _missing_rights(self, table: Table) -> list[str]:
        """Return the GRANT statements that this user lacks for a load."""
        wanted = [("OBJECT", str(table), right) for right in MODES[self._mode].split() if table.oid]
        missing = self._missing_tables()
        for word in set(self._tables).difference(missing):
            place = self._ledger_table(word)
            wanted += [("OBJECT", place, right) for right in ("SELECT", "INSERT", "UPDATE", "DELETE")]
        if missing or not table.oid or self._mode == "replace" or self._session.bulk == "yes":
            wanted += self._rights_to_stage(table)
        return self._grants(wanted)

    def _rights_to_stage(self, table: Table) -> list[tuple[str, str, str]]:
        """Return the rights that making tables beside the target takes, and using them."""
        database, schema = _q(self._run(SERVER)[0][2]), _q(table.schema)
        rights = ("ALTER", "SELECT", "INSERT", "UPDATE", "DELETE")
        return [("DATABASE", database, "CREATE TABLE"), *(("SCHEMA", schema, right) for right in rights)]

    def _grants(self, wanted: Iterable[tuple[str, str, str]]) -> list[str]:
        """Return the statements that give this user what is missing of some rights."""
        user = _q(self._run(SERVER)[0][3])
        return [
            f"GRANT {right} ON {kind}::{name} TO {user}"
            for kind, name, right in wanted
            if self._run(PERMISSION, name, kind, right) != [(1,)]
        ]

    def _create(self, schema: pa.Schema) -> None:
        """Create the missing target, and forget what the ledger knows of an earlier one."""
        if missing := sorted(set(self._key).difference(schema.names)):
            raise LookupError(f"key column {missing[0]!r} is not among {', '.join(schema.names)}")
        lines = [f"{_q(f.name)} {_ddl_type(f, f.name in self._key)}" for f in schema]
        if self._key:
            lines.append(f"PRIMARY KEY ({_list(self._key)})")
        self._run("CREATE TABLE {target} ({lines})", lines=", ".join(lines))
        table = self._locate()
        for word in LEDGER_TABLES if self._ledger else ():  # the loads come last: they tell which
            self._run(FORGET, str(table), rows=self._ledger_table(word))
        if self._ledger and self._run(LOCATE, self._ledger_table("keys")):
            self._run(FORGET_KEYS, str(table))

    def _start(self, load: Mapping[str, Any], strays: Iterable[str]) -> None:
        """Register the load and take its splits over; wait for transactions of the earlier owner."""
        name = load["load"]
        state = self._run(STATE, name)
        if state == [("done",)]:
            return
        for split in load["splits"]:
            if self._run(TAKE_OVER, load["owner"], name, split) == [(0,)]:
                self._run(TAKE, name, split, load["owner"])
        self._drop(strays)
        if self._mode == "replace":
            self._stage_replacement(name, begun=bool(state))
        if not state:
            about = (load[word] for word in ("fingerprint", "source", "mapping"))
            self._run(REGISTER, name, *about, str(self._table), self._mode)

    def _enter(self, receipt: Mapping[str, Any] | None) -> bool:
        """Open a transaction and insert the receipt; False if it is there already."""
        if receipt is None:
            self._run(START)
            return True
        segments = [list(segment) for segment in receipt["segments"]]
        splits = sorted({split for split, _, _ in segments})
        load, batch, owner = receipt["load"], receipt["batch"], receipt["owner"]
        entry = load, batch, json.dumps(segments), receipt["rows"]
        try:
            values = *entry, load, owner, *splits, len(splits)
            if self._run(RECEIPT, *values, markers=", ".join("?" * len(splits))) == [(0,)]:
                raise OwnershipLostError(f"load {load} was taken over by another run")
        except ServerError as error:
            if error.number in TAKEN_KEY:
                return False
            raise
        if receipt["replaces"] is not None:
            self._run(REPLACED, load, receipt["replaces"])
        return True

    def _strays(self, load: str) -> list[str]:
        """Return the staging tables that nobody needs: a load's bulk copies at its begin or end, and others'.

        The others are those of loads that do not run any more.
        """
        running = {name for (name,) in self._run(RUNNING, str(self._table))}
        living = [("replace", name) for name in running] + [("bulk", name) for name in running - {load}]
        kept = tuple(self._staging(use, name) for use, name in living)
        prefixes = self._staging("bulk"), self._staging("replace")
        found = [name for one in prefixes for (name,) in self._run(STRAYS, self._table.schema, len(one), one)]
        return [name for name in found if not name.startswith(kept)]

    def _drop(self, tables: Iterable[str]) -> None:
        for name in tables:
            self._run(DROP, name=_path(self._table.schema, name))

    def _stage_replacement(self, load: str, *, begun: bool) -> None:
        """Make the staging table of a load, or keep that of a resumed one.

        Raises ValueError if swapping it in would change other tables.
        """
        table = self._table
        if others := ", ".join(name for (name,) in self._run(CASCADES, table.oid)):
            raise ValueError(f"replacing {table} would change {others} through ON DELETE; use another mode")
        staging = _path(table.schema, self._staging("replace", load))
        if begun and self._run(LOCATE, staging):
            return
        self._run("DELETE FROM {ledger} WHERE [load] = ?", load)  # rows that went with their staging table
        lines = [_definition(column) for column in table.columns]
        # What looks at computed columns, which the staging table lacks, is checked by the target in the end.
        names = {column.name for column in table.columns}
        lines += [f"UNIQUE ({_list(key)})" for _, key in self._unique(table.oid) if names.issuperset(key)]
        checks = [what for _, what in self._run(CHECKS, table.oid)]
        lines += [f"CHECK {what}" for what in checks if names.issuperset(BRACKETED.findall(what))]
        self._run("CREATE TABLE {staging} ({lines})", staging=staging, lines=", ".join(lines))

    def _swap(self, staging: str) -> None:
        """Put the staged rows in the place of the target's; identity values stay as they are."""
        self._run(EMPTY)
        self._session.fill_identity(str(self._table), self._table.columns)
        self._run(MOVE, staging=staging, columns=_list(column.name for column in self._table.columns))
        self._session.fill_identity(str(self._table), ())
        self._run(DROP, name=staging)

    # ---- writing

    def _guarded(self, rows: Any) -> Rejections:
        """Check rows and write the good ones, those with the same columns together; return the others."""
        self.duplicates, refused = 0, dict[int, tuple[str, str]]()
        parts = [self._check(*part, refused) for part in self._parts(rows, refused)] if len(rows) else []
        parts = [part for part in parts if part[-1]]
        if parts:
            stage = self._copied(*parts[0]) if len(parts) == 1 else ""
            with self._session.savepoint():
                for columns, cells, places in parts:
                    broken = self._send(columns, cells, stage)
                    refused |= {places[index]: ("23000", reason) for index, reason in broken.items()}
        return [(index, *why) for index, why in sorted(refused.items())]

    def _check(self, names: Sequence[str], values: Sequence[Any], places: Any, refused: Refused) -> Checked:
        """Return what is bound for rows with the same columns, without those that go to `refused`."""
        columns, bad = self._columns(names), dict[int, tuple[str, str]]()
        cells = [_checked(column, given, bad) for column, given in zip(columns, values, strict=True)]
        if bad:
            refused |= {places[index]: why for index, why in bad.items()}
            cells = [_left(found, bad) for found in cells]
            places = _left(places, bad)
        return columns, cells, places

    def _narrow(self, rows: Any) -> Rejections:
        """Find the rows that doom by trial transactions, begin again and write the others.

        What the transaction did before is part of every trial, and is done again at the end.
        """
        session = self._session
        steps = session.steps
        try:
            refused = list(self._culprits(rows, range(len(rows)), steps))
            bad = {index for index, _, _ in refused}
            good = [index for index in range(len(rows)) if index not in bad]
            session.again(steps)
            found = self._guarded(_left(rows, bad))
        except BaseException:
            session.doomed = True
            raise
        return sorted([*refused, *((good[index], code, reason) for index, code, reason in found)])

    def _culprits(self, rows: Any, part: range, steps: Steps) -> Iterator[Rejection]:
        """Yield the bad rows of a part, halving it while it fails; every trial is rolled back."""
        self._session.again(steps)
        try:
            self._guarded(rows[part.start : part.stop])
        except Exception as error:
            if self.classify(error) != "reject":
                raise
            if len(part) == 1:
                yield part.start, getattr(error, "sqlstate", "22000"), str(error)
                return
            for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                yield from self._culprits(rows, half, steps)

    def _parts(self, rows: Any, refused: Refused) -> Iterator[Part]:
        """Yield the rows by their columns, and refuse those with a column that the table lacks."""
        if hasattr(rows, "column_names"):
            yield rows.column_names, rows.columns, range(len(rows))
            return
        known = {column.name for column in self._table.columns}
        names = tuple(rows[0])
        wanted = set(self._table.key if self._merges else ())
        with suppress(KeyError):
            if names and wanted <= {*names} <= known and set(map(len, rows)) == {len(names)}:
                yield names, [list(map(itemgetter(name), rows)) for name in names], range(len(rows))
                return
        yield from self._uneven(rows, refused)

    def _uneven(self, rows: Sequence[Mapping[str, Any]], refused: Refused) -> Iterator[Part]:
        """Yield rows that lack different columns, with NULL for those without a default (not for upsert).

        Where keys decide between rows their order has to stay, and only neighbours are one part.
        """
        shapes: dict[int, tuple[str, ...]] = {}
        columns = {column.name: column for column in self._table.columns}
        given = set().union(*rows)
        upsert = self._mode == "upsert"
        needed = set(self._table.key if self._merges else ())
        always = {name for name in given & columns.keys() if not (upsert or columns[name].filled)}
        for index, row in enumerate(rows):
            shape = tuple(name for name in columns if name in row or name in always)
            if unknown := row.keys() - columns.keys():
                refused[index] = "42S22", self._no_column(min(unknown, key=str))
            elif not row:
                refused[index] = "42S22", "the row is empty"
            elif lacking := sorted(needed.difference(shape)):
                refused[index] = (
                    "42S22",
                    f"mode {self._mode} needs the key in every row; missing: {lacking[0]}",
                )
            else:
                shapes[index] = shape
        order = list(shapes) if self._merges else sorted(shapes, key=shapes.__getitem__)
        for shape, group in groupby(order, shapes.__getitem__):
            places = list(group)
            yield shape, [[rows[place].get(name) for place in places] for name in shape], places

    def _no_column(self, name: str) -> str:
        known = ", ".join(column.name for column in self._table.columns)
        return f"{self._table} has no column {name!r} to write to; it has {known}"

    def _send(self, columns: list[Column], cells: Cells, stage: str) -> dict[int, str]:
        """Write checked rows; return those that break a constraint, if they can be told apart, and why."""
        self._session.fill_identity(self._destination, columns)
        if not stage:
            self._stage(columns, cells)
        count, key = len(cells[0]), self._table.key if self._merges else ()
        staged = Staged(self._destination, columns, key, stage or STAGE_NAME)
        if self._mode == "upsert":
            names = staged.names()
            [(repeated,)] = self._run(REDUCE, **names, repeated=REPEATED.format(**names, last="DESC"))
            found = self._insert(staged, self._update(staged), count - repeated)
        else:
            found = self._insert(staged, self._mark_same(staged), count)
            self.duplicates += sum(mark == SAME for mark, _ in found.values())
        return {ordinal: reason for ordinal, (mark, reason) in found.items() if mark != SAME}

    def _update(self, staged: Staged) -> dict[int, int]:
        """Update the rows of the target whose key is staged, and return their marks."""
        self._run(LOCK_KEYS, **staged.names(), locks=LOCKS)
        marks = self._mark_same(staged, LOCKS)
        changed = [_q(c.name) for c in staged.columns if c.name not in staged.key and not c.identity]
        if changed:
            changes = ", ".join(f"{name} = s.{name}" for name in changed)
            self._run(UPDATE, **staged.names(), changes=changes)
        return marks

    def _stage(self, columns: Sequence[Column], cells: Cells) -> None:
        """Put rows into the temporary table, numbered in their order."""
        self._make_stage(STAGE_NAME, columns)
        filled = [ORDINAL, *columns]
        names, markers = _list(column.name for column in filled), ", ".join("?" * len(filled))
        statement = FILL.format(stage=STAGE_NAME, columns=names, markers=markers)
        self._session.send(statement, filled, [range(len(cells[0])), *cells])

    def _make_stage(self, stage: str, columns: Sequence[Column]) -> None:
        lines = ", ".join(f"{_q(column.name)} {column.staged} NULL" for column in columns)
        self._run(STAGE, stage=stage, lines=lines)

    def _insert(self, staged: Staged, marks: dict[int, int], count: int) -> dict[int, tuple[int, str]]:
        """Insert the staged rows without a mark, marking those in the way; return all marks and reasons."""
        reasons: dict[int, str] = {}
        while True:
            try:
                [(inserted,)] = self._run(INSERT, **staged.names())
            except ServerError as error:
                before, marks = marks, self._judge(error, staged)
                if marks in ({}, before):
                    raise
                # The message ends with the key value of the first such row.
                reason = str(error).partition(" The duplicate key value is ")[0]
                reasons = {ordinal: reasons.get(ordinal, reason) for ordinal in marks}
            else:
                break
        if inserted != count - len(marks):
            took = f"{staged.destination} took {inserted} of {count - len(marks)} rows"
            raise ServerError("23000", LEFT_OUT, f"{took}: an index with IGNORE_DUP_KEY left the others out")
        return {ordinal: (mark, reasons.get(ordinal, "")) for ordinal, mark in marks.items()}

    def _judge(self, error: ServerError, staged: Staged) -> dict[int, int]:
        """Mark the rows that break the constraint an error names; return all marks, none if that fails."""
        with suppress(ServerError):
            oid = next((oid for _, _, oid, _ in self._run(LOCATE, staged.destination)), 0)
            checks = self._run(CHECKS, oid) if error.number == CONFLICT else []
            for name, what in checks:
                if f'"{name}"' in str(error):
                    self._run(UNDO_INSERT)
                    self._run(UNMARK, stage=staged.stage)  # a row that breaks a check takes no key away
                    return {**self._mark(staged, BROKEN, f"NOT {what}"), **self._mark_same(staged)}
            for name, key in self._unique(oid) if error.number in TAKEN_KEY else ():
                if f"'{name}'" in str(error) and {c.name for c in staged.columns}.issuperset(key):
                    self._run(UNDO_INSERT)
                    mark = SAME if set(key) == set(staged.key) else TAKEN
                    return self._mark_taken(staged, mark, key)
        return {}

    def _mark(self, staged: Staged, mark: int, condition: str, how: str = "") -> dict[int, int]:
        return dict(self._run(MARK, stage=staged.stage, mark=str(mark), condition=condition, how=how))

    def _mark_taken(self, staged: Staged, mark: int, key: Iterable[str], locks: str = "") -> dict[int, int]:
        """Mark the rows whose values of a unique key the target or an earlier row has."""
        names = staged.names(key)
        self._mark(staged, mark, THERE.format(**names, locks=locks), BY_LOOP if locks else "")
        return self._mark(staged, mark, REPEATED.format(**names, last=""))

    def _mark_same(self, staged: Staged, locks: str = "") -> dict[int, int]:
        """Mark the rows whose key the target or an earlier row has, where that is no fault."""
        return self._mark_taken(staged, SAME, staged.key, locks) if staged.key else {}

    # ---- bulk copy

    def _copied(self, columns: list[Column], cells: Cells, places: Sequence[int]) -> str:
        """Bring many rows into a staging table by bulk copy, and return it; "" for the usual way.

        Bulk copy has a connection of its own, which must not wait for this transaction, nor hold it up for
        seconds. So it comes before: only the receipt is there yet, which is taken back and entered again.
        """
        session, table, receipt = self._session, self._table, self._receipt
        steps, rows = session.steps, None
        if not session.no_bulk and receipt and len(steps) == 1 and len(places) >= BULK_ROWS:
            rows = _packed(columns, cells)
        if receipt is None or rows is None:
            return ""
        stage = _path(table.schema, f"{self._staging('bulk', receipt['load'])}_{self._token}")
        try:
            session.rollback()
            stage = self._try_copy(stage, columns, rows)
            session.again(steps)
        except BaseException:
            session.doomed = True
            raise
        return stage

    def _try_copy(self, stage: str, columns: Sequence[Column], rows: pa.Table) -> str:
        """Make the staging table and fill it; what fails ends bulk copy where it was not asked for."""
        try:
            missing = [] if self._copy else self._grants(self._rights_to_stage(self._table))
            _require(not missing, ServerError("42000", 262, f"bulk copy needs: {'; '.join(missing)}"))
            self._make_stage(stage, columns)
            self._session.commit()
            self._copy = stage
            self._session.copy(stage, rows)
        except ServerError as error:
            if self._session.bulk == "yes":
                raise
            self._session.no_bulk = str(error)
            return ""
        return stage

    # ---- idempotency keys

    def _enter_keys(self, keys: Iterable[str]) -> set[str]:
        """Enter keys in the order of their bytes, the same for all writers, which so cannot deadlock."""
        found = self._stage_keys(keys)
        staged = Staged(self._ledger_table("keys"), KEY_COLUMNS, ("target", "key"), STAGE_NAME)
        there = self._insert(staged, self._mark_same(staged), len(found)) if found else {}
        return {key.decode() for index, key in enumerate(found) if index not in there}

    def _drop_keys(self, keys: Iterable[str]) -> bool:
        if self._stage_keys(keys):
            self._run(RELEASE, str(self._table), stage=STAGE_NAME)
        return True

    def _stage_keys(self, keys: Iterable[str]) -> list[bytes]:
        found = sorted({key.encode() for key in keys})
        if found:
            target = str(self._table)
            self._stage(KEY_COLUMNS, [[target] * len(found), found])
        return found


class Session:
    """A connection and the transaction on it, in which the sinks of several tables may write."""

    def __init__(self, url: str) -> None:
        self._server, self._keywords = _parse_url(url)
        self.bulk = self._keywords.pop("bulk", BULK[0])
        self.no_bulk = ""  # why bulk copy is not used
        self._link: pyodbc.Connection | None = None
        self._rows: Any = None  # sends rows: its prepared INSERT lives as long as its text stays
        self._identity = ""  # the table that IDENTITY_INSERT is on for
        self.steps: Steps = []  # what the open transaction did, to do it again
        self._written = 0  # rows of these
        self.doomed = False

    @property
    def connection(self) -> pyodbc.Connection:
        """Return the driver's connection. Raises RuntimeError if there is none."""
        if self._link is None:
            raise RuntimeError("open the sink first")
        return self._link

    def open(self) -> None:
        """Connect. Raises ConnectError, DriverMissingError."""
        if self._link is not None:
            return
        driver = self._keywords.get("driver") or _find_driver()
        if driver not in DRIVERS and not MICROSOFT.fullmatch(Path(driver).name):
            raise DriverMissingError(f"{driver!r} is not Microsoft's: it would lose data. {INSTALL_DRIVER}")
        self.no_bulk = "the URL says ?bulk=no" if self.bulk == "no" else _no_bulk_copy(self._keywords)
        _require(not self.no_bulk or self.bulk != "yes", DriverMissingError(self.no_bulk))
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
        self.run(SETTINGS)
        link.rollback()
        self._rows = link.cursor()
        self._rows.fast_executemany = True

    def close(self) -> None:
        """Roll back and disconnect. Raises nothing."""
        self.rollback()
        if self._link is not None:
            with suppress(_pyodbc().Error):
                self._link.close()
        self._link, self._rows, self._identity = None, None, ""

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute statements to their end, since errors may come late; return the rows of the last result.

        What triggers select comes first.
        """
        found: list[tuple[Any, ...]] = []
        with _errors():
            cursor = self.connection.cursor().execute(statement, *values)
            while True:
                if cursor.description:
                    found = list(map(tuple, cursor.fetchall()))
                if not cursor.nextset():
                    return found

    def send(self, statement: str, columns: Sequence[Column], cells: Cells) -> None:
        """Send rows in messages whose buffers are bounded, halving them where they are not."""
        count = len(cells[0])
        bindings = [column.binding(values) for column, values in zip(columns, cells, strict=True)]
        row = sum(8 + (size * BUFFERED[kind] if kind in BUFFERED else 32) for kind, size, _ in bindings)
        if count > 1 and count * row > BUFFER_BYTES:
            for part in (slice(count // 2), slice(count // 2, count)):
                self.send(statement, columns, [values[part] for values in cells])
            return
        self._rows.setinputsizes(bindings)
        with _errors():
            self._rows.executemany(statement, list(zip(*cells, strict=True)))
            while self._rows.nextset():
                pass

    def fill_identity(self, table: str, columns: Iterable[Column]) -> None:
        """Have a table's identity column filled by us if it is among the columns, else by the server."""
        wanted = table if any(column.identity for column in columns) else ""
        if self._identity not in ("", wanted):  # a session can do it for one table only
            self.run(IDENTITY_INSERT.format(destination=self._identity, word="OFF"))
        if wanted not in ("", self._identity):
            self.run(IDENTITY_INSERT.format(destination=wanted, word="ON"))
        self._identity = wanted

    def commit(self) -> None:
        """Make the transaction durable. Raises ServerError."""
        with _errors():
            self.connection.commit()
        self._end()

    def rollback(self) -> None:
        """Drop the transaction. Raises nothing."""
        if self._link is not None:
            with suppress(_pyodbc().Error):
                self._link.rollback()
        self._end()

    def _end(self) -> None:
        self.steps, self._written, self.doomed = [], 0, False

    def copy(self, table: str, rows: pa.Table) -> None:
        """Bring rows into a table by bulk copy, which has a connection of its own. Raises ServerError."""
        try:
            with closing(self.copier()) as link:
                done = link.cursor().bulkcopy_arrow(table, rows, timeout=BULK_SECONDS, table_lock=True)
        except Exception as error:  # its own, and RuntimeError with what the server said
            raise _said_in_bulk(error) from None
        text = f"bulk copy took {done['rows_copied']} of {len(rows)} rows"
        _require(done["rows_copied"] == len(rows), ServerError("HY000", 0, text))

    def copier(self) -> Any:
        """Return a new connection of mssql-python, with autocommit. Raises its errors."""
        import mssql_python

        mssql_python.pooling(enabled=False)  # a pool would stay logged in
        keywords = {name: word for name, word in self._keywords.items() if name not in ODBC_ONLY}
        keywords = {"encrypt": DEFAULTS["encrypt"], **keywords, "server": "{},{}".format(*self._server)}
        return mssql_python.connect(_connection_string(keywords), autocommit=True)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what fails; where the server does not let us, the transaction is doomed."""
        self.run(SAVE)
        try:
            yield
        except BaseException:
            self.doomed = True
            with suppress(ServerError):
                if self.run(USABLE) == [(1,)]:
                    self.run(UNDO)
                    self.doomed = False
            raise

    def require_transaction(self) -> None:
        """Raise RuntimeError unless a transaction was begun."""
        _require(bool(self.steps), RuntimeError("begin a transaction before writing"))

    def did(self, step: Callable[[], bool], rows: int = 0) -> None:
        """Note a step of the transaction. One with very many rows keeps none, and cannot be taken again."""
        self._written += rows
        if self._written <= REPEATABLE_ROWS:
            self.steps.append(step)
        else:
            self.steps = [_too_much]

    def again(self, steps: Steps) -> None:
        """Roll back, and take the steps in a new transaction. Raises ServerError if one ends otherwise."""
        written = self._written
        self.rollback()
        try:
            same = all(step() for step in steps)
        except ServerError as error:
            if _verdict(error) != "reject":
                raise
            same = False
        _require(same, ServerError("40001", 0, "the transaction cannot be repeated: others wrote meanwhile"))
        self.steps, self._written = steps, written


def _too_much() -> bool:
    text = "a row ended the transaction, which has too many rows to be taken again without it"
    raise ServerError("40001", 0, text)


# ---- columns and their values


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
    default: str | None  # empty: there may be one, which is not known
    place: int | None = None  # in the primary key

    @property
    def kind(self) -> Kind:
        """Return what is done with the values."""
        return KINDS.get(self.type, TEXT)

    @property
    def filled(self) -> bool:
        """Return whether the server fills the column where it is left out."""
        return self.default is not None or self.identity

    @property
    def digits(self) -> tuple[int, int]:
        """Return precision and scale of a decimal."""
        return MONEY.get(self.type, (self.precision, self.scale))

    @property
    def limit(self) -> int | None:
        """Return the most characters (bytes of varchar and varbinary) a value may have; None: no limit."""
        return self.length // SIZED[self.type] if self.type in SIZED and self.length >= 0 else None

    @property
    def encoding(self) -> str:
        """Return how texts are stored; the code page of a collation holds for varchar only."""
        if self.type not in ("char", "varchar", "text") or self.codepage is None:
            return "utf-16-le"
        return "utf-8" if self.codepage == UTF_8 else f"cp{self.codepage}"

    @property
    def tick(self) -> int:
        """Return the microseconds that the finest unit of time has."""
        return int(10 ** max(6 - self.scale, 0))

    @property
    def declared(self) -> str:
        """Return the type as CREATE TABLE takes it."""
        sizes = {
            **dict.fromkeys(SIZED, self.limit or "max"), **dict.fromkeys(SCALED, self.scale),
            **dict.fromkeys(("decimal", "numeric"), "{}, {}".format(*self.digits)), "float": self.precision,
        }  # fmt: skip
        size = f"({sizes[self.type]})" if self.type in sizes else ""
        return f"{_q(self.type)}{size}" + (f" COLLATE {self.collation}" if self.collation else "")

    @property
    def staged(self) -> str:
        """Return the type in a staging table, for which every value that is bound converts implicitly."""
        if self.type in MONEY:
            return "decimal({}, {})".format(*self.digits)
        return self.declared if self.type in (*KINDS, *SIZED, "sql_variant") else "nvarchar(max)"

    def size(self, value: str | bytes) -> int:
        """Return the length of a value in the unit of `limit`. Raises UnicodeEncodeError."""
        if isinstance(value, bytes):
            return len(value)
        return len(value.encode(self.encoding)) // (2 if self.encoding == "utf-16-le" else 1)

    def arrow(self) -> pa.DataType:
        """Return the Arrow type whose values arrive unchanged."""
        scale = {"datetime": 3, "smalldatetime": 0}.get(self.type, self.scale)
        unit = "s" if scale == 0 else "ms" if scale <= 3 else "us"
        if self.type in ARROW:
            return pa.type_for_alias(ARROW[self.type])
        if self.kind is DECIMAL:
            return pa.decimal128(*self.digits)
        if self.kind is TIME:
            return pa.time64(unit) if unit == "us" else pa.time32(unit)
        others = {STAMP: pa.timestamp(unit), OFFSET: pa.timestamp(unit, "UTC"), BYTES: pa.binary()}
        return pa.uuid() if self.type == "uniqueidentifier" else others.get(self.kind, pa.string())

    def binding(self, values: Sequence[Any]) -> tuple[int, int, int]:
        """Return SQL type, size and digits for `setinputsizes` of checked values.

        A size is a power of two: another one makes the driver prepare the statement anew.
        """
        some = next(filter(None, values), None)
        if self.type in BINDINGS and not isinstance(some, str):
            return BINDINGS[self.type]
        longest = max(map(len, filter(None, values)), default=0)
        if isinstance(some, str) and not "".join(filter(None, values)).isascii():
            longest *= 2  # at the most, in UTF-16
        size = max(1 << (longest - 1).bit_length(), 16)
        short, bound, long = (-3, 8000, -4) if self.kind is BYTES else (-9, 4000, -10)
        if self.kind in (BYTES, TEXT):
            size = min(size, self.limit or size)
        return (short if size <= bound else long), size, 0


@dataclass(frozen=True, eq=False)
class Kind:
    """How values of a type are checked, a whole column of Python's `plain` types at once where they all fit.

    `form` returns one value as it is bound, or raises an error.
    """

    plain: set[type]
    form: Callable[[Column, Any], object]
    fits: Callable[[Column, Sequence[Any]], bool] = lambda *_: True


def _left(rows: Any, out: Collection[int]) -> Any:
    """Return the rows, or the values of a column, without some."""
    left = [index for index in range(len(rows)) if index not in out]
    if hasattr(rows, "take"):
        return rows.take(pa.array(left, pa.int64()))  # which also takes none
    return [rows[index] for index in left]


def _checked(column: Column, values: Any, bad: Refused) -> Sequence[Any]:
    """Return a column's values as they are bound, and add the rows that have none to `bad`."""
    found, exact = _listed(column, values, bad) if hasattr(values, "null_count") else (values, False)
    types = set(map(type, found))
    if type(None) in types and not column.nullable:
        missing = [index for index, value in enumerate(found) if value is None and index not in bad]
        bad.update(dict.fromkeys(missing, ("23502", f"column {column.name}: takes no NULL")))
    if exact or not types - {type(None)} <= column.kind.plain:
        return found if exact else _formed(column, found, bad)
    bound = found
    if column.kind is DECIMAL:  # as text: pyodbc takes 2 µs to make a Decimal a number of ODBC
        bound = [None if value is None else str(value) for value in found]
    return bound if column.kind.fits(column, bound) else _formed(column, found, bad)


def _listed(column: Column, array: pa.ChunkedArray, bad: Refused) -> tuple[Sequence[Any], bool]:
    """Return an Arrow column as a list, and whether that needs no further look.

    Decimals and times become text, which the server reads exactly: `to_pylist` takes 0.05 µs for a text or an
    integer, 0.8 µs for a Decimal and 8 µs for a datetime with a zone.
    """
    exact = column.type in DIRECT or (column.type in SCALED and column.scale in ARROW_SCALES)
    if array.type != column.arrow() or not (exact or column.kind is DECIMAL):
        return array.to_pylist(), False
    if column.type in ("date", "datetime2", "datetimeoffset"):  # Arrow's years reach further than 1 to 9999
        days = pc.cast(array, pa.date32(), safe=False).cast(pa.int32())
        far = pc.fill_null(pc.or_(pc.less(days, FIRST_DAY), pc.greater(days, LAST_DAY)), False)
        why = "22007", f"column {column.name}: the year is not within 1 and 9999"
        bad.update(dict.fromkeys(pc.indices_nonzero(far).to_pylist(), why))
        array = pc.if_else(far, None, array)
    if column.kind is OFFSET:
        array = pc.cast(array, pa.timestamp(array.type.unit))
    if column.kind is DECIMAL or column.type in ("date", *SCALED):
        array = pc.cast(array, pa.string())
    return array.to_pylist(), exact


def _formed(column: Column, values: Sequence[Any], bad: Refused) -> Sequence[Any]:
    """Return values one by one as they are bound; None for those that go to `bad`."""
    formed: list[Any] = [None] * len(values)
    for index, value in enumerate(values):
        try:
            formed[index] = None if value is None else column.kind.form(column, value)
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            bad.setdefault(index, (getattr(error, "code", "22018"), f"column {column.name}: {error}"))
    return formed


# ---- whole columns: `filter(None, …)` also drops zeros and empty texts, which always fit
#
# Looking at each value, mappings took 2.1 and Arrow 1.5 times the client's CPU of a bare executemany of ready
# tuples (6.5 µs a row, 10 columns of market orders). This way, and with decimals as text, it is 0.95 to 1.1.


def _integers(column: Column, values: Sequence[Any]) -> bool:
    low, high = INTEGERS[column.type]
    return low <= min(filter(None, values), default=0) and max(filter(None, values), default=0) <= high


def _decimals(column: Column, texts: Sequence[Any]) -> bool:
    lines = [text for text in texts if text is not None]
    joined = "\n".join(lines)
    one_each = joined.count("\n") == len(lines) - 1
    return not lines or (one_each and not _other_decimals(column).search(joined))


@cache
def _other_decimals(column: Column) -> re.Pattern[str]:
    """Return the pattern of a line that the column would not keep as it is; a search takes 0.3 µs a line."""
    precision, scale = column.digits
    whole = precision - scale - (column.type in MONEY)  # money ends within its last digit
    digits = f"[0-9]{{1,{whole}}}" if whole else "0"
    fraction = rf"(?:\.[0-9]{{1,{scale}}})?" if scale else ""
    return re.compile(rf"^(?!-?{digits}{fraction}$)", re.MULTILINE)


def _floats(column: Column, values: Sequence[Any]) -> bool:
    return column.type == "float" and all(map(math.isfinite, filter(None, values)))


def _texts(column: Column, values: Sequence[Any]) -> bool:
    """Return whether texts can all be stored; a doubt is a no. One join is a tenth of looking at each."""
    text, longest = "".join(filter(None, values)), max(map(len, filter(None, values)), default=0)
    if not text.isascii():
        try:
            size = column.size(text)
        except UnicodeEncodeError:
            return False
        if size != len(text):  # some texts are longer than they have characters
            longest *= 2 if column.encoding == "utf-16-le" else 4
    return column.limit is None or longest <= column.limit


def _blobs(column: Column, values: Sequence[Any]) -> bool:
    return column.limit is None or max(map(len, filter(None, values)), default=0) <= column.limit


def _times(column: Column, values: Sequence[Any]) -> bool:
    """Return whether times fit as they are: datetimeoffset takes those in UTC."""
    zones = {None, UTC} if column.kind is OFFSET else {None}
    if column.type not in SCALED or not zones.issuperset(map(attrgetter("tzinfo"), filter(None, values))):
        return False
    return column.tick == 1 or not any(value.microsecond % column.tick for value in filter(None, values))


# ---- single values


def _number(value: Any) -> Decimal:
    """Return a number or its text exactly; a float as its shortest form."""
    if not isinstance(value, int | float | str | Decimal):
        raise TypeError(f"{type(value).__name__} is no number")
    try:
        return Decimal(str(value).strip() if isinstance(value, str | float) else value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is no number") from None


def _integer(column: Column, value: Any) -> int:
    number = _number(value)
    low, high = INTEGERS[column.type]
    if not number.is_finite() or number != number.to_integral_value():
        raise ValueError(f"{value!r} is no whole number")
    if not low <= number <= high:
        raise BadValueError("22003", f"{value!r} is not within {low} and {high}")
    return int(number)


def _bit(_: Column, value: Any) -> bool:
    word = value.strip().lower() if isinstance(value, str) else value
    if word not in BITS or isinstance(word, float):
        raise ValueError(f"{value!r} is no bit: 0 or 1")
    return BITS[word]


def _decimal(column: Column, value: Any) -> str:
    number, (precision, scale) = _number(value), column.digits
    exact = Context(prec=precision, traps=[Inexact, InvalidOperation])
    try:
        fixed = number.quantize(Decimal(1).scaleb(-scale), context=exact)
    except (InvalidOperation, Inexact):
        fixed = Decimal("NaN")
    if not fixed.is_finite() or not -(bound := MONEY_BOUNDS.get(column.type, 10**38)) <= fixed < bound:
        raise BadValueError("22003", f"{value!r} does not fit in {column.type}({precision},{scale})")
    return format(fixed, "f")


def _float(column: Column, value: Any) -> float:
    number = float(_number(value))
    if not abs(number) <= (LARGEST_REAL if column.type == "real" else LARGEST_FLOAT):
        raise BadValueError("22003", f"{value!r} does not fit in {column.type}")
    if isinstance(value, int) and int(number) != value:
        raise BadValueError("22003", f"{value} has more digits than a float")
    return number


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
        length = column.size(value)
    except UnicodeEncodeError as error:
        raise BadValueError("22018", f"{error.object[error.start]!r} is not in {column.encoding}") from error
    if column.limit is not None and length > column.limit:
        raise BadValueError("22001", f"{length} characters, at most {column.limit}")
    return value


def _bytes(column: Column, value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{type(value).__name__} is no bytes")
    if column.limit is not None and len(value) > column.limit:
        raise BadValueError("22001", f"{len(value)} bytes, at most {column.limit}")
    return bytes(value)


def _read(kind: Any, value: Any) -> Any:
    """Return a date, a time or a datetime, also from its ISO text."""
    found = kind.fromisoformat(value.strip()) if isinstance(value, str) else value
    if not isinstance(found, kind):
        raise TypeError(f"{type(value).__name__} is no {kind.__name__}")
    return found


def _date(_: Column, value: Any) -> date:
    if isinstance(value, datetime) and (value.time() != time.min or value.tzinfo):
        raise BadValueError("22008", "the time of day does not fit in a date")
    found: date = _read(date, value)
    return found.date() if isinstance(found, datetime) else found


def _time(column: Column, value: Any) -> Any:
    """Return a time of day or a timestamp without a zone, in whole units of the column."""
    if type(value) is date and column.kind is not TIME:
        value = datetime.combine(value, time.min)
    found = _read(time if column.kind is TIME else datetime, value)
    if found.tzinfo and column.kind is not OFFSET:
        raise BadValueError("22008", f"{column.type} has no time zone")
    if column.type == "datetime":  # thirds of a hundredth of a second, which are shown as 0, 3 and 7
        rounded = found.microsecond % 1000 or found.microsecond // 1000 % 10 not in (0, 3, 7)
    elif column.type == "smalldatetime":
        rounded = found.second or found.microsecond
    else:
        rounded = found.microsecond % column.tick
    if rounded:
        raise BadValueError("22008", f"{found} is finer than {column.declared} keeps")
    low, high = BOUNDS.get(column.type, (found, found))
    if not low <= found <= high:
        raise BadValueError("22007", f"{column.type} has no {found}")
    return found


def _offset(column: Column, value: Any) -> str:
    """Return text, in which pyodbc binds an offset; a time without a zone is UTC."""
    moment = _time(column, value)
    offset = moment.utcoffset()
    if offset is None:
        moment = moment.replace(tzinfo=UTC)
    elif offset % timedelta(minutes=1) or abs(offset) > timedelta(hours=14):
        moment = moment.astimezone(UTC)
    text: str = moment.isoformat(timespec="microseconds")
    return text


def _uuid(_: Column, value: Any) -> UUID:
    found = UUID(bytes=value) if isinstance(value, bytes) else value
    return found if isinstance(found, UUID) else UUID(found)


# ---- types

# Low and high; SQL type, size and digits for setinputsizes, of what is bound neither as text nor as bytes.
INTEGERS = {"tinyint": (0, 255), "smallint": (-(2**15), 2**15 - 1), "int": (-(2**31), 2**31 - 1),
            "bigint": (-(2**63), 2**63 - 1)}  # fmt: skip
BINDINGS = {
    "tinyint": (-6, 0, 0), "smallint": (5, 0, 0), "int": (4, 0, 0), "bigint": (-5, 0, 0), "bit": (-7, 1, 0),
    "float": (8, 53, 0), "real": (7, 24, 0), "date": (91, 10, 0), "time": (-154, 16, 7),
    "datetime2": (93, 27, 7), "datetimeoffset": (93, 27, 7), "datetime": (93, 23, 3),
    "smalldatetime": (93, 23, 3), "uniqueidentifier": (-11, 16, 0),
}  # fmt: skip
ARROW = {"tinyint": "uint8", "smallint": "int16", "int": "int32", "bigint": "int64", "bit": "bool",
         "float": "float64", "real": "float32", "date": "date32"}  # fmt: skip
BITS = {0: False, 1: True, "0": False, "1": True, "false": False, "true": True}
MONEY = {"money": (19, 4), "smallmoney": (10, 4)}
MONEY_BOUNDS = {"money": Decimal("922337203685477.5808"), "smallmoney": Decimal("214748.3648")}
LARGEST_REAL, LARGEST_FLOAT = 3.4028234663852886e38, 1.7976931348623157e308
# Types with a length, and the bytes of a character.
SIZED = {"char": 1, "varchar": 1, "nchar": 2, "nvarchar": 2, "binary": 1, "varbinary": 1}
SCALED = ("datetime2", "datetimeoffset", "time")
ARROW_SCALES = (0, 3, 6, 7)  # an Arrow unit is exactly as fine
DIRECT = (*INTEGERS, "bit", "uniqueidentifier", "date")  # whose Arrow type has the same values
BOUNDS = {"datetime": (datetime(1753, 1, 1), datetime.max),
          "smalldatetime": (datetime(1900, 1, 1), datetime(2079, 6, 6, 23, 59))}  # fmt: skip
FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31 since 1970
UTF_8 = 65001  # the code page of varchar in a collation whose name ends in _UTF8
INTEGER, DECIMAL = Kind({int}, _integer, _integers), Kind({Decimal, str, int, float}, _decimal, _decimals)
STAMP, OFFSET = Kind({datetime}, _time, _times), Kind({datetime}, _offset, _times)
TEXT, BYTES, TIME = Kind({str}, _text, _texts), Kind({bytes}, _bytes, _blobs), Kind({time}, _time, _times)
KINDS = {
    **dict.fromkeys(INTEGERS, INTEGER), **dict.fromkeys(("decimal", "numeric", *MONEY), DECIMAL),
    **dict.fromkeys(("float", "real"), Kind({float}, _float, _floats)),
    **dict.fromkeys(("datetime2", *BOUNDS), STAMP), "datetimeoffset": OFFSET, "time": TIME,
    **dict.fromkeys(("binary", "varbinary", "image"), BYTES), "bit": Kind({bool}, _bit),
    "date": Kind({date}, _date), "uniqueidentifier": Kind({UUID}, _uuid),
}  # every other type takes text  # fmt: skip
ORDINAL = Column("_adaptive_ordinal", "int", 4, 10, 0, False, False, None, None, None)
KEY_COLUMNS = (
    Column("target", "nvarchar", 600, 0, 0, False, False, "Latin1_General_100_BIN2", None, None),
    Column("key", "varbinary", 200, 0, 0, False, False, None, None, None),
)


# ---- bulk copy


def _packed(columns: Sequence[Column], values: Sequence[Sequence[Any]]) -> pa.Table | None:
    """Return checked values as bulk copy takes them; None if they would not arrive unchanged.

    From Arrow it takes half the CPU time that it does from tuples, and lets other threads run meanwhile.
    """
    count = len(values[0])
    found = [pa.array(range(count), pa.int32()), pa.repeat(pa.scalar(0, pa.uint8()), count)]
    with suppress(pa.ArrowInvalid):
        for column, given in zip(columns, values, strict=True):
            if not _copies(column, given):
                return None
            found.append(_array(column, given))
        return pa.Table.from_arrays(found, [str(number) for number in range(len(found))])
    return None


def _copies(column: Column, values: Sequence[Any]) -> bool:
    """Return whether values arrive unchanged: bulk copy does not know all code pages, and keeps no offset."""
    present = filter(None, values)
    if column.type == "sql_variant" or "]" in column.name:
        return False
    if column.kind is OFFSET:
        return all(isinstance(value, datetime) or value[26:] in ("", "+00:00") for value in present)
    known = column.type not in ("char", "varchar") or column.encoding == "cp1252"
    return known or "".join(present).isascii()


def _array(column: Column, values: Sequence[Any]) -> pa.Array:
    """Return checked values as Arrow; what has a fixed length is padded, which bulk copy does not do."""
    text = column.kind is not TEXT and isinstance(next(filter(None, values), None), str)  # then all are
    if column.kind in (STAMP, OFFSET):
        kind = pa.timestamp("us", "UTC" if column.kind is OFFSET else None)
        if text:
            return pa.array([value and value[:26] for value in values]).cast(pa.timestamp("us")).cast(kind)
        return pa.array(values, kind)
    if column.kind is TIME:
        return pa.array([time.fromisoformat(v) if isinstance(v, str) else v for v in values], pa.time64("us"))
    if column.type == "uniqueidentifier":
        return pa.array([value and value.bytes for value in values], pa.binary(16))
    if column.type in ("char", "nchar", "binary"):
        blank, length = b"\0" if column.kind is BYTES else " ", column.limit or 0
        values = [v if v is None else v + blank * (length - column.size(v)) for v in values]
    return pa.array(values, pa.string()).cast(column.arrow()) if text else pa.array(values, column.arrow())


# ---- tables


class Table(NamedTuple):
    """The target table; `oid` is 0 and there are no columns while it does not exist."""

    schema: str
    name: str
    oid: int = 0
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()

    def __str__(self) -> str:
        return _path(self.schema, self.name)


class Staged(NamedTuple):
    """Rows in a staging table: where they go, their columns, and the key that may be there already."""

    destination: str
    columns: Sequence[Column]
    key: tuple[str, ...]
    stage: str

    def names(self, key: Iterable[str] = ()) -> dict[str, str]:
        """Return what the words in the statements about them stand for; without a key it is theirs."""
        wanted = set(key or self.key)
        keys = [column for column in self.columns if column.name in wanted]
        # A unique index takes NULLs for equal, and so does this.
        equal = "(t.{0} = s.{0} OR t.{0} IS NULL AND s.{0} IS NULL)"
        listed = _list(column.name for column in keys)
        return {
            "destination": self.destination, "stage": self.stage, "key": listed,
            "columns": _list(column.name for column in self.columns),
            "same": " AND ".join((equal if c.nullable else "t.{0} = s.{0}").format(_q(c.name)) for c in keys),
            "order": listed if self.key else "_adaptive_ordinal",
        }  # fmt: skip


def _definition(column: Column) -> str:
    """Return a column's line for the staging table of mode replace."""
    default = f"DEFAULT {column.default}" if column.default else ""
    null = "NULL" if column.nullable else "NOT NULL"
    words = _q(column.name), column.declared, "IDENTITY(1, 1)" * column.identity, null, default
    return " ".join(filter(None, words))


def _ddl_type(field: pa.Field, key: bool) -> str:
    """Return the type of a new column for an Arrow field. Raises ValueError if there is none.

    A key has at most 900 bytes.
    """
    is_a, kind, size = pa.types, field.type, {True: ("450", "900"), False: ("max", "max")}[key]
    texts = is_a.is_string, is_a.is_large_string, is_a.is_string_view, is_a.is_nested, is_a.is_null
    blobs = is_a.is_binary, is_a.is_large_binary, is_a.is_binary_view, is_a.is_fixed_size_binary
    kinds = [
        (is_a.is_boolean, "bit"), (is_a.is_uint64, "decimal(20, 0)"), (is_a.is_integer, "bigint"),
        (is_a.is_floating, "float(53)"), (is_a.is_decimal, "decimal({0.precision}, {0.scale})"),
        (is_a.is_date, "date"), (is_a.is_time, "time(6)"),
        (is_a.is_timestamp, "datetimeoffset(6)" if getattr(kind, "tz", None) else "datetime2(6)"),
        (pa.uuid().__eq__, "uniqueidentifier"), (pa.json_().__eq__, "nvarchar(max)"),
        *((check, f"nvarchar({size[0]})") for check in texts),
        *((check, f"varbinary({size[1]})") for check in blobs),
    ]  # fmt: skip
    found = next((word.format(kind) for check, word in kinds if check(kind)), None)
    if found is None:
        raise ValueError(f"column {field.name!r}: no SQL Server type for {kind}; say one with --types")
    return f"{found}{' NULL' if field.nullable and not key else ' NOT NULL'}"


def _q(name: str) -> str:
    return f"[{name.replace(']', ']]')}]"


def _path(*names: str) -> str:
    return ".".join(map(_q, names))


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(_q, names))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _parse_table(table: str | None) -> tuple[str, ...]:
    """Return the parts of `table`, `schema.table` or `"quoted.name"`; none without a table."""
    if table is None:
        return ()
    found = re.fullmatch(r'(?:("(?:[^"]|"")+"|[^".]+)\.)?("(?:[^"]|"")+"|[^".]+)', table)
    if found is None or "\0" in table:
        raise ValueError(f'cannot read the table name {table!r}: say table, schema.table or "a quoted.name"')
    parts = filter(None, found.groups())
    return tuple(part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts)


# ---- errors


def _require(true: bool, error: Exception) -> None:
    """Raise an error unless something is true."""
    if not true:
        raise error


@contextmanager
def _errors() -> Iterator[None]:
    """Turn the driver's errors into ServerError."""
    try:
        yield
    except _pyodbc().Error as error:
        raise _said(error) from error


def _said(error: BaseException) -> ServerError:
    """Return what an error of pyodbc says, from `[state] [vendor][driver]text (number) (function); …`.

    The function ends the first record, so the last such place is it, whatever the text quotes from data.
    """
    state, text = (str(word) for word in (error.args * 2)[:2]) if error.args else ("HY000", repr(error))
    places = list(re.finditer(r" \((-?\d+)\) \(SQL\w+\)", text))
    said = text[: places[-1].start()] if places else text
    said = re.sub(r"^\[\w{5}\] (\[[^\]]*\])*", "", said)
    return ServerError(state, int(places[-1][1]) if places else 0, said)


def _said_in_bulk(error: Exception) -> ServerError:
    """Return what an error of mssql_python says; nothing was applied."""
    text = str(error)
    found = re.search(r"Sql Error: (\d+): Class \d+: State \d+: ", text)
    return ConnectError("08S01", int(found[1]) if found else 0, text[found.end() :] if found else text)


def _verdict(error: BaseException) -> Verdict:
    """Say what an error means, by the server's number, else by SQLSTATE."""
    if isinstance(error, OwnershipLostError):
        return "taken_over"
    if not isinstance(error, ServerError):
        return "reject" if isinstance(error, UnicodeError | OverflowError) else "fatal"
    known = [STATES[state] for n in (3, 2) if (state := error.sqlstate[:n]) in STATES]
    by_number: Verdict = "reject" if error.number >= USER_ERROR else (known or ["fatal"])[0]
    verdict = VERDICTS.get(error.number, by_number)
    return "retry" if isinstance(error, ConnectError) and verdict == "in_doubt" else verdict


# ---- connecting


def _parse_url(url: str) -> tuple[tuple[str, int], dict[str, str]]:
    """Return host and port, and the driver's keywords in lower case.

    Raises ValueError, in whose text no part of the URL appears: it might be of the password.
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("mssql", "mssql+pyodbc"):
        raise ValueError("a SQL Server URL starts with mssql:// or mssql+pyodbc://")
    parts, given, server = urlsplit("mssql:"), dict[str, str](), ("", 0)
    with suppress(ValueError):
        parts = urlsplit(f"mssql://{rest}")
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        server = parts.hostname or "", parts.port or 1433
    if not server[0] or rest.partition("?")[0].count("@") > 1 or parts.fragment:
        raise ValueError(BAD_URL)
    keywords = {name.lower(): value for name, value in given.items()}
    if strange := [name for name in keywords if name in RESERVED or not re.fullmatch(r"\w[\w ]*", name)]:
        raise ValueError(f"the URL's parameter {strange[0]!r} is no keyword that can be passed on")
    if keywords.get("bulk", BULK[0]) not in BULK:
        raise ValueError(f"the URL's parameter bulk has to be one of {', '.join(BULK)}")
    if parts.path[1:]:
        keywords["database"] = unquote(parts.path[1:])
    if parts.username is not None:
        keywords |= {"uid": unquote(parts.username), "pwd": unquote(parts.password or "")}
    elif "authentication" not in keywords:
        keywords.setdefault("trusted_connection", "yes")
    return server, keywords


def _connection_string(keywords: Mapping[str, str]) -> str:
    """Return an ODBC connection string; braces hold any value."""
    return ";".join(f"{name}={{{value.replace('}', '}}')}}}" for name, value in keywords.items())


def _probe(host: str, port: int) -> None:
    """Raise ConnectError at once if nothing listens; the driver would take its whole login time-out."""
    try:
        socket.create_connection((host, port), LOGIN_SECONDS).close()
    except OSError as error:
        raise ConnectError("08001", 0, f"no SQL Server answers at {host}:{port}: {error}") from error


def _no_bulk_copy(keywords: Mapping[str, str]) -> str:
    """Return why bulk copy cannot be used, and what would help."""
    if pa is None or not find_spec("mssql_python"):
        return INSTALL_BULK
    if "uid" not in keywords or "authentication" in keywords:
        return "bulk copy needs a user and a password in the URL; or say ?bulk=auto"
    return ""


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

    machine, systems = {"aarch64": "arm64"}.get(platform.machine(), platform.machine()), ""
    with suppress(OSError):
        release = platform.freedesktop_os_release()
        systems = f"{release.get('ID')} {release.get('ID_LIKE')}".replace("debian", "debian_ubuntu")
    files = Path(mssql_python_odbc.get_libs_dir()).glob(f"linux/*/{machine}/lib/libmsodbcsql-*")
    return sorted(map(str, files), key=lambda file: (Path(file).parts[-4] not in systems, file))
