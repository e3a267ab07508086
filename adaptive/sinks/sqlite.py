"""Write rows into a SQLite file, exactly once.

Needs the standard library only; Arrow tables need pyarrow, and load faster with adbc-driver-sqlite.
This file imports nothing from its package: copy it alone and it works.

How an Arrow table gets in: ADBC carries its own copy of SQLite, and two copies in one process must
never open the same file. POSIX locks belong to the process, so one copy deletes the write-ahead log
under the other, and committed rows are gone (tried: `sqlite3.connect(…).close()` during a load did it).
So ADBC fills a private temporary file, and one `INSERT … SELECT` takes the rows over on the connection
that also holds the receipt. Errors keep SQLite's result codes, which ADBC's do not have.

Stored forms: bool 0 or 1; date `2024-01-31`; timestamp `2024-01-31T09:30:00.000000`, one with a zone in
UTC with `+00:00` (always six digits: the text sorts by time); decimal NUMERIC up to 15 digits, else TEXT;
uuid text; list and struct JSON. NaN, NUL in text and digits that a NUMERIC column would round are refused:
SQLite would change them without a word.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache, partial
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from time import time as clock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    import pyarrow as pa

EXACT_DIGITS = 15  # what NUMERIC affinity keeps of a number that is no 64-bit integer
STAGING, STALE_SECONDS = "adaptive-stage-", 60.0  # a folder is locked long before it is that old
STAGE_ROWS = 500  # below, executemany is as fast as the way through ADBC
BUSY_SECONDS = 30.0  # wait for another writer; a batch holds the lock for well under 1 s
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
NAME = r"""("(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|'(?:[^']|'')*'|[^\s("'`\[]+)"""
UNFIT = (ValueError, TypeError, ArithmeticError, RecursionError)  # what a form raises
LEDGER = (
    "CREATE TABLE IF NOT EXISTS {loads} (load TEXT PRIMARY KEY, fingerprint TEXT, source TEXT,"
    " mapping TEXT, target TEXT COLLATE NOCASE, mode TEXT, state TEXT, rows INTEGER, rejected INTEGER,"
    " started_at TEXT, finished_at TEXT)",
    "CREATE TABLE IF NOT EXISTS {splits} (load TEXT, split INTEGER, owner TEXT, PRIMARY KEY (load, split))",
    "CREATE TABLE IF NOT EXISTS {ledger} (load TEXT, batch TEXT, segments TEXT, rows INTEGER,"
    " rejected TEXT, committed_at TEXT, PRIMARY KEY (load, batch))",
)
# What runs is counted from its receipts, and only those are looked at.
LOAD = """
    load, fingerprint, source, mapping, target, mode, state,
    CASE state WHEN 'done' THEN rows ELSE (
        SELECT coalesce(sum(rows), 0) FROM {ledger} WHERE load = found.load) END AS rows,
    CASE state WHEN 'done' THEN rejected ELSE (
        SELECT coalesce(sum(json_array_length(rejected)), 0) FROM {ledger} WHERE load = found.load
        ) END AS rejected, started_at, finished_at"""
TYPES = "CREATE TABLE IF NOT EXISTS {types} (target TEXT COLLATE NOCASE PRIMARY KEY, schema BLOB)"
KEYS = (
    "CREATE TABLE IF NOT EXISTS {keys} (target TEXT COLLATE NOCASE, key TEXT, claimed_at TEXT,"
    " PRIMARY KEY (target, key)) WITHOUT ROWID"
)
# A column is the rowid's other name, which SQLite fills, if it is the INTEGER key and has no index.
COLUMNS = """
    SELECT name, upper(type), NOT ("notnull" OR pk), dflt_value IS NOT NULL OR pk AND upper(type) = 'INTEGER'
        AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'), pk
    FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 0"""
FOREIGN_KEYS = """
    SELECT id, "table", "from", coalesce("to",
        (SELECT name FROM pragma_table_info(keys."table", 'main') AS parent WHERE parent.pk = keys.seq + 1))
    FROM pragma_foreign_key_list(?, 'main') AS keys ORDER BY id, seq"""
BUSY = "{} has a transaction open in {}; end it or wait, then repeat the command"
LOCK = re.compile(r"^\d+: POSIX +ADVISORY +WRITE ([1-9]\d*) \S+:(\d+) (\d+) (\d+)$", re.MULTILINE)
WRITE_LOCKS = 120, 0x40000001  # the bytes that a writer locks, with a write-ahead log and with a journal
RETRY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_SCHEMA}
REJECT = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}
RIGHTS = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
# Affinities by https://sqlite.org/datatype3.html, section 3.1, and the Arrow type for a column that somebody
# else declared. Text wherever its form is theirs: a bare NUMERIC loses no digit before `write` can refuse it.
AFFINITIES = (
    (".*INT", ("INTEGER", "int64")), (".*(CHAR|CLOB|TEXT)", ("TEXT", "string")),
    (".*BLOB", ("BLOB", "binary")), ("$", ("BLOB", "string")), (".*(REAL|FLOA|DOUB)", ("REAL", "double")),
    ("BOOL", ("NUMERIC", "bool")), ("DATE$", ("NUMERIC", "date32")), ("", ("NUMERIC", "string")),
)  # fmt: skip
EVENTS = ("INSERT", "UPDATE")
MODES = ("append", "ignore", "upsert", "replace")


class OwnershipLostError(Exception):
    """The splits of this batch belong to another run, or the load is finished."""


class BadValueError(ValueError):
    """A value that SQLite would change or cannot hold. `index` counts rows of the write, if known."""

    def __init__(self, reason: object, index: int | None = None) -> None:
        super().__init__(str(reason))
        self.index = index


class SqliteSink:
    """Write one table of a SQLite file; `adaptive.protocols.Sink` has the contract of each member.

        with SqliteSink("sqlite:///x.db", table="orders") as sink:
            sink.begin(); sink.write([{"order_id": 1, "price": "9.99"}]); sink.commit()

    A new file gets a write-ahead log; an existing one keeps its journal mode, which its owner chose.
    Commits are durable: synchronous=EXTRA is FULL with a log, and else also syncs the folder. Foreign
    keys are enforced: a row without its parent is a bad row.
    """

    capabilities: frozenset[Any] = frozenset({*MODES, "arrow", "transactional", "create", "keys", "tables"})
    max_rows: int | None = None
    max_bytes: int | None = None
    max_writers: int | None = 1  # SQLite has one write lock per file

    def __init__(
        self,
        url: str,
        *,
        table: str | None = None,
        mode: str = "append",
        key: str | Sequence[str] = (),
        ledger: str | None = "_adaptive",
    ) -> None:
        """Check the arguments and touch nothing; raises ValueError.

        `url` is `sqlite:///relative.db` or `sqlite:////absolute.db`, percent-encoded; `key` names columns
        with a unique index, default the primary key; `table` may be in double quotes, a dot is part of the
        name (there is one schema); mode `replace` needs `prepare` and `finish`. The ledger's tables are
        `<ledger>_loads`, `_splits`, `_ledger` and, for idempotency keys, `_keys`; with None there are none,
        and no `replace`.
        """
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}")
        if mode == "replace" and ledger is None:
            raise ValueError("mode replace needs a ledger")
        if table and re.fullmatch(r'"(?:[^"]|"")+"', table):
            table = table[1:-1].replace('""', '"')
        if table is not None and re.match(r"$|sqlite_|_adaptive_|.*\0", table, re.IGNORECASE | re.DOTALL):
            raise ValueError(f"{table!r} cannot be a target table")
        self.path, self.table, self.mode = _path(url), table, mode
        self.key = (key,) if isinstance(key, str) else tuple(key)
        self._session = _Session(self.path)
        self._ledger = None if ledger is None else _Ledger(ledger, self._session)
        self._session.ledger = self._ledger
        self._url = url
        self.duplicates = 0
        self._columns: list[_Column] = []
        self._types: dict[str, pa.DataType] = {}  # if a load made the table

    @property
    def _db(self) -> sqlite3.Connection:
        return self._session.db

    @property
    def doomed(self) -> bool:
        """Return whether the transaction can only be rolled back."""
        return self._session.doomed

    def beside(self, table: str, *, mode: str = "append", key: str | Sequence[str] = ()) -> SqliteSink:
        """Return a sink for another table that writes within this one's transactions, without a ledger.

        Raises ValueError for impossible arguments, mode `replace` included.
        """
        sink = SqliteSink(self._url, table=table, mode=mode, key=key, ledger=None)
        sink._session = self._session
        return sink

    def open(self) -> None:
        """Connect if the file exists, else `prepare` or `begin` makes it; a missing folder is an OSError."""
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{self.path.parent} is no folder; make it first")
        if self.path.exists():
            self._db.execute("PRAGMA schema_version")

    def close(self) -> None:
        """Disconnect, rolling back what is open."""
        self._session.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the coordinator's part ---

    def prepare(self, load: Mapping[str, Any], schema: pa.Schema | None = None) -> Sequence[tuple[Any, ...]]:
        """Make ledger and table, take the splits over, and return the table's columns.

        Raises LookupError for a missing table or a key that does not fit the mode, or PermissionError.
        """
        if schema is None and not self.path.exists():
            raise self._missing()
        try:
            with self._session.transaction():
                if self._ledger:
                    self._ledger.make(keys=bool(load.get("keys")))
                if not self._describe():
                    self._create(schema)
                if self._ledger:
                    self._start(self._ledger, load)
                self._check_key()
        except sqlite3.OperationalError as error:
            if _code(error) in RIGHTS:
                raise PermissionError(self._explained(error)) from error
            raise
        return self.columns()

    def columns(self) -> Sequence[tuple[Any, ...]]:
        """Return the table's columns, and change nothing. Raises LookupError if it is missing."""
        if not self.path.exists() or not self._describe():
            raise self._missing()
        return [
            (c.name, self._types.get(c.name) or _foreign_type(c.declared), bool(c.nullable), bool(c.default),
             c.key > 0, None)
            for c in self._columns
        ]  # fmt: skip

    def _create(self, schema: pa.Schema | None) -> None:
        """Make the missing table, and forget what the ledger knows of an earlier one."""
        if schema is None:
            raise self._missing()
        if missing := set(self.key) - set(schema.names):
            raise LookupError(f"key column {missing.pop()!r} is not among {', '.join(schema.names)}")
        required = {field.name for field in schema if not field.nullable}.union(self.key)
        lines = [f"{_q(f.name)} {_declared(f.type)}{' NOT NULL' * (f.name in required)}" for f in schema]
        lines += [f"PRIMARY KEY ({_list(self.key)})"] if self.key else []
        self._db.execute(f"CREATE TABLE {_q(self._name)} ({', '.join(lines)})")
        if self._ledger:
            self._ledger.forget(self._name)
        if self._session.ledger:
            self._session.ledger.remember(self._name, schema)
        self._describe()
        self._types = {field.name: _normal(field.type) for field in schema}

    def _missing(self) -> LookupError:
        return LookupError(f"no table {self.table!r} in {self.path}; make it, or load with --create")

    def _start(self, ledger: _Ledger, load: Mapping[str, Any]) -> None:
        if ledger.done(load["load"]):
            return
        ledger.enter_load({**load, "target": self._name, "mode": self.mode})
        tables = self._db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")
        found = {name for (name,) in tables if name.startswith(ledger.staging(""))}
        for stray in found - set(map(ledger.staging, ledger.replacing())):
            self._db.execute(f"DROP TABLE {_q(stray)}")
        if self.mode == "replace" and ledger.staging(load["load"]) not in found:
            ledger.forget_receipts(load["load"])  # their rows went with the table
            self._make_staging(ledger.staging(load["load"]))

    def _make_staging(self, name: str) -> None:
        """Make an empty table with the constraints and unique indexes of the target."""
        made = self._db.execute(
            "SELECT sql FROM main.sqlite_master WHERE tbl_name = ? COLLATE NOCASE"
            " AND (type = 'table' OR sql LIKE 'CREATE UNIQUE INDEX %') ORDER BY type DESC", [self.table],
        )  # fmt: skip
        for number, (sql,) in enumerate(made.fetchall()):
            # SQLite stores "CREATE TABLE " or "CREATE UNIQUE INDEX " and then what the user wrote.
            new = f"INDEX {_q(f'{name}_{number}')} ON {_q(name)}" if number else f"TABLE {_q(name)}"
            pattern = rf"(?<=^CREATE UNIQUE )INDEX {NAME}\s+ON\s*{NAME}|(?<=^CREATE )TABLE {NAME}"
            self._db.execute(re.sub(pattern, new, sql, count=1, flags=re.IGNORECASE))

    def _check_key(self) -> None:
        if self.mode not in ("ignore", "upsert"):
            return
        if not self._keys:
            raise LookupError(f"mode {self.mode}: {self.table!r} has no primary key, name a key with --key")
        try:
            self._db.execute("EXPLAIN " + self._sql([self._columns[0].name], "VALUES (NULL)"))
        except sqlite3.OperationalError as error:
            raise LookupError(f"key ({_list(self._keys)}) of table {self.table!r}: {error}") from error

    def loads(self) -> list[dict[str, Any]]:
        """Return the loads of the table, oldest first; of all tables if none is set."""
        of_table = "{loads} AS found WHERE ?1 IS NULL OR target = ?1 ORDER BY started_at"
        found = self._read(of_table, self.table, LOAD)
        for load in found:
            for name in ("started_at", "finished_at"):
                load[name] = load[name] and datetime.fromisoformat(load[name])
        return found

    def empty(self) -> bool:
        """Return whether the table has no rows, or is missing."""
        if not self.path.exists() or not self._describe():
            return True
        return not self._db.execute(f"SELECT 1 FROM {_q(self._name)} LIMIT 1").fetchone()  # noqa: S608 - quoted

    def receipts(self, load: str) -> list[tuple[list[list[int]], int, list[list[int]]]]:
        """Return what is committed: segments, rows written, rejected positions."""
        found = self._read("{ledger} WHERE load = ?", load)
        return [(json.loads(row["segments"]), row["rows"], json.loads(row["rejected"])) for row in found]

    def _read(self, source: str, value: str | None, columns: str = "*") -> list[dict[str, Any]]:
        """Read the ledger without making the file or anything in it."""
        if not self._ledger or not self.path.exists() or not self._ledger.exists():
            return []
        found = self._ledger.run(f"SELECT {columns} FROM {source}", [value])  # noqa: S608 - constants
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]

    def finish(self, load: Mapping[str, Any]) -> None:
        """Swap `replace` in, make one receipt of all, mark the load done.

        The swap deletes the old rows and inserts the new ones, so indexes stay and triggers fire, but
        foreign keys do not cascade. Raises sqlite3.IntegrityError if a row would lose its parent.
        """
        if not self._ledger:
            return
        self._db.execute("PRAGMA foreign_keys=OFF")
        try:
            with self._session.transaction():
                if not self._ledger.done(load["load"]):
                    self._ledger.check_owner(load["load"], load["owner"], load["splits"])
                    if self.mode == "replace":
                        self._swap(_q(self._ledger.staging(load["load"])))
                    self._ledger.close_load(load["load"], self.receipts(load["load"]))
        finally:
            self._db.execute("PRAGMA foreign_keys=ON")

    def _swap(self, new: str) -> None:
        self._describe()
        target, names = _q(self._name), _list(column.name for column in self._columns)
        self._db.execute(f"DELETE FROM {target}")  # noqa: S608 - quoted
        self._db.execute(f"INSERT INTO {target} ({names}) SELECT {names} FROM {new}")  # noqa: S608 - quoted
        self._db.execute(f"DROP TABLE {new}")
        for child, _, parent, _ in self._db.execute("PRAGMA foreign_key_check"):
            if self._name.lower() in (child.lower(), parent.lower()):
                raise sqlite3.IntegrityError(f"replacing {self.table} would leave {child} without {parent}")

    # --- a transaction ---

    def begin(self, receipt: Mapping[str, Any] | None = None) -> bool:
        """Take the write lock, waiting up to 30 s, and enter the receipt; False if it is there already."""
        if receipt is None and self.mode == "replace":
            raise ValueError("mode replace needs prepare, a receipt in begin, and finish")
        session = self._session
        session.begin()
        try:
            fresh = receipt is None or self._kept().enter(receipt)
        except BaseException:
            self.rollback()
            raise
        session.receipt = (receipt["load"], receipt["batch"]) if receipt else None
        if not fresh:
            self.rollback()
        return fresh

    def _kept(self) -> _Ledger:
        if self._ledger is None:
            raise ValueError("a receipt needs a ledger")
        return self._ledger

    def _check_at_once(self) -> None:
        """Have each row's parents looked for when it is written, which SQLite cannot be told to do."""
        orphaned = []
        for _, group in groupby(self._db.execute(FOREIGN_KEYS, [self._target]), itemgetter(0)):
            _, (parent, *_), columns, keys = zip(*group, strict=True)
            given = " AND ".join(f"new.{_q(column)} IS NOT NULL" for column in columns)
            equal = " AND ".join(f"{_q(k)} = new.{_q(c)}" for k, c in zip(keys, columns, strict=True))
            orphaned.append(f"{given} AND NOT EXISTS (SELECT 1 FROM {_q(parent)} WHERE {equal})")  # noqa: S608
        for event in EVENTS if orphaned else ():
            self._db.execute(
                f"CREATE TEMP TRIGGER {_check_name(self._target, event)}"
                f" AFTER {event} ON main.{_q(self._target)} WHEN {' OR '.join(orphaned)}"
                " BEGIN SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed'); END"
            )
        self._session.checked.add(self._target)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, str, str]]:
        """Write mappings; a column that a row lacks gets its default.

        Raises sqlite3.Error, OverflowError, UnicodeError or BadValueError with none of the rows written.
        """
        with self._writing():
            first = written = 0
            known = {column.name.lower() for column in self._columns}
            for names, group in groupby(rows, key=tuple):
                part = list(group)
                if not names:
                    raise BadValueError("the row is empty", first)
                if known and (unknown := [name for name in names if not _is_in(known, name)]):
                    raise BadValueError(f"table {self.table!r} has no column {unknown[0]!r}", first)
                columns = [self._stored(name, [row[name] for row in part], first) for name in names]
                written += self._insert(names, columns, first)
                first += len(part)
            self.duplicates = len(rows) - written if self.mode == "ignore" else 0
        return []

    def write_arrow(self, rows: pa.Table) -> list[tuple[int, str, str]]:
        """Write an Arrow table. As `write`; values take the stored forms of this module.

        In each transaction the first many rows go through ADBC. Later ones do not: SQLite detaches no file
        that the open transaction has read. If SQLite refuses the data, row by row says which row.
        """
        with self._writing():
            stored, written = self._storable(rows), None
            if len(rows) >= STAGE_ROWS and self._can_stage():
                written = self._insert_staged(stored)
            if written is None:
                written = self._insert(stored.column_names, [column.to_pylist() for column in stored.columns])
            self.duplicates = len(rows) - written if self.mode == "ignore" else 0
        return []

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Enter idempotency keys of the table in this transaction; return those that were not there."""
        return self._kept().claim(self._name, keys)

    def release(self, keys: Sequence[str]) -> None:
        """Take back keys that this transaction has claimed."""
        self._kept().release(self._name, keys)

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Make the transaction durable.

        If a deferred foreign key fails here, the writes of the next transaction check them row by row.
        """
        session = self._session
        if session.receipt:
            self._kept().correct(*session.receipt, list(map(list, rejected)), rows)
        session.commit()

    def rollback(self) -> None:
        """Drop the transaction, if there is one."""
        self._session.rollback()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make ready for the rows of a write, which are written as a whole or not at all."""
        if not self._db.in_transaction:
            raise sqlite3.ProgrammingError("no transaction is open: call begin first")
        if not self._columns:
            self._describe()
        if self._session.immediate and self._target not in self._session.checked:
            self._check_at_once()
        with self._session.savepoint():
            yield

    def _can_stage(self) -> bool:
        staged, limit = self._session.staged, self._db.getlimit(sqlite3.SQLITE_LIMIT_ATTACHED)
        return self._name not in staged and len(staged) < limit and bool(find_spec("adbc_driver_sqlite"))

    def _insert_staged(self, rows: pa.Table) -> int | None:
        """Insert a table by way of a staging file; None if SQLite refuses the data."""
        stage = _stage(self._name)
        # The attached file stays open without its name: then nothing is left behind if the process is killed.
        with _staging_folder() as folder:
            _fill(f"{folder}/stage.db", rows)
            self._db.execute(f"ATTACH ? AS {stage}", [f"{folder}/stage.db"])
        self._session.staged.add(self._name)
        # The parser needs a WHERE before ON CONFLICT; without one SQLite copies whole records.
        select = f"SELECT * FROM {stage}.batch" + " WHERE true" * (self.mode in ("ignore", "upsert"))  # noqa: S608 - quoted
        try:
            return self._db.execute(self._sql(rows.column_names, select)).rowcount
        except sqlite3.Error as error:
            if self.classify(error) != "reject" or not self._db.in_transaction:
                raise
            return None

    def _insert(self, names: Sequence[str], columns: Sequence[Sequence[Any]], first: int = 0) -> int:
        """Insert row by row and return the rows changed; an error gets the `index` of its row."""
        rows = zip(*columns, strict=True)
        try:
            return self._db.executemany(self._sql(names, _values(names)), rows).rowcount
        except Exception as error:
            vars(error)["index"] = first + max(map(len, columns), default=0) - 1 - sum(1 for _ in rows)
            raise

    def _sql(self, names: Sequence[str], source: str) -> str:
        """Return the INSERT for the mode; `source` is VALUES or SELECT, its rows taken in order."""
        # Without a column list SQLite can copy whole records: 0.2 s instead of 0.7 s for 1,000,000 rows.
        listed = "" if list(names) == [column.name for column in self._columns] else f" ({_list(names)})"
        insert = f"INSERT INTO {_q(self._target)}{listed} {source}"
        if self.mode not in ("ignore", "upsert"):
            return insert
        others = [_q(name) for name in names if name not in self._keys] if self.mode == "upsert" else []
        changes = ", ".join(f"{name} = excluded.{name}" for name in others)
        action = f"UPDATE SET {changes}" if others else "NOTHING"
        return f"{insert} ON CONFLICT ({_list(self._keys)}) DO {action}"

    @property
    def _keys(self) -> tuple[str, ...]:
        found = sorted((column.key, column.name) for column in self._columns if column.key)
        return self.key or tuple(name for _, name in found)

    @property
    def _name(self) -> str:
        if self.table is None:
            raise ValueError("this needs a table: SqliteSink(url, table=…)")
        return self.table

    @property
    def _target(self) -> str:
        """Return the table that rows go to."""
        receipt = self._session.receipt
        return self._kept().staging(receipt[0]) if self.mode == "replace" and receipt else self._name

    def _describe(self) -> bool:
        """Read the columns that can be written; False if there is no such table."""
        self._columns = [_Column(*row) for row in self._db.execute(COLUMNS, [self._name])]
        declared = {column.name: column.declared for column in self._columns}
        types = self._session.ledger.types(self._name) if self._session.ledger else self._types
        self._types = {name: kind for name, kind in types.items() if declared.get(name) == _declared(kind)}
        return bool(self._columns)

    # --- values ---

    def _affinity(self, name: str) -> str:
        return next((c.affinity for c in self._columns if c.name.lower() == name.lower()), "BLOB")

    def _stored(self, name: str, values: list[Any], first: int) -> list[Any]:
        """Return a column of Python values in their stored forms."""
        affinity, kind = self._affinity(name), self._types.get(name)
        form = GUARDS.get(affinity, _plain)
        if affinity == "TEXT" and kind is not None and hasattr(kind, "scale"):
            form = partial(_fixed, kind=kind, context=_exact(kind.precision))
        elif affinity != "REAL" and set(map(type, values)) <= {int, bytes, type(None)}:
            return values
        return _formed(form, values, first, f"column {name}: ")

    def _storable(self, rows: pa.Table) -> pa.Table:
        """Return a table of int64, double, string and binary columns in their stored forms."""
        pa, _ = _arrow()
        columns = []
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            try:
                normal = column.cast(_normal(column.type))
                form = _first(ARROW_FORMS, normal.type)(normal)
                guard = ARROW_GUARDS.get((self._affinity(name), str(form.type)))
                columns.append(guard(form) if guard else form)
            except (BadValueError, pa.ArrowException) as error:
                raise BadValueError(f"column {name}: {error}", getattr(error, "index", None)) from error
        return pa.table(columns, names=rows.column_names)

    # --- what went wrong ---

    def hint(self, error: BaseException) -> int | None:
        """Return the index of the row that caused the error of a write."""
        found: int | None = getattr(error, "index", None)
        return found

    def classify(self, error: BaseException) -> Literal["retry", "in_doubt", "reject", "fatal", "taken_over"]:
        """Say what an error means, by SQLite's result code (https://sqlite.org/rescode.html).

        An I/O error of COMMIT is in doubt: the log may have reached the disk or not. Any other time
        nothing was applied and the disk needs a person. Errors of the staging file are never the data's.
        """
        code = _code(error)
        if isinstance(error, OwnershipLostError):
            return "taken_over"
        if code in REJECT or isinstance(error, (BadValueError, OverflowError, UnicodeError)):
            return "reject"
        if code in RETRY:
            return "retry"
        return "in_doubt" if code == sqlite3.SQLITE_IOERR and hasattr(error, "at_commit") else "fatal"

    def doctor(self) -> list[str]:
        """Return the version, then what would keep a load from working well; change nothing."""
        found = [f"SQLite {sqlite3.sqlite_version}"]
        if not self.path.parent.is_dir():
            return [*found, f"{self.path.parent} is no folder; make it first"]
        places = [place for place in (self.path.parent, self.path) if place.exists()]
        found += [f"{place} is not writable" for place in places if not os.access(place, os.W_OK)]
        if not find_spec("adbc_driver_sqlite"):
            found.append("adbc-driver-sqlite is missing: files load at half the speed")
        return [*found, *(self._faults() if self.path.exists() else ())]

    def _faults(self) -> Iterator[str]:
        """Yield what is wrong with the file, without waiting for a lock."""
        session = self._session
        try:
            self._db.execute("PRAGMA busy_timeout = 0")
            yield from (line for (line,) in self._db.execute("PRAGMA quick_check(9)") if line != "ok")
            if self.table and not self._describe():
                yield str(self._missing())
            session.begin()
            self._db.execute("PRAGMA user_version = 0")  # rolled back; a read-only file lets BEGIN pass
        except sqlite3.Error as error:
            yield self._explained(error)
        finally:
            session.close()  # which also takes the time-out back

    def _explained(self, error: sqlite3.Error) -> str:
        if _code(error) in RIGHTS:
            return f"{self.path} and its folder must be writable: {error}"
        return str(error) if _code(error) == sqlite3.SQLITE_BUSY else f"{self.path}: {error}"


class _Session:
    """A connection and the transaction that is open on it: of a sink and of those beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger: _Ledger | None = (
            None  # for a sink beside, too: it knows the types of tables that were made
        )
        self.receipt: tuple[str, str] | None = None  # load and batch
        self.staged: set[str] = set()  # the tables that have a staging file attached
        self.checked: set[str] = set()  # the tables whose deferred foreign keys each write checks
        self.doomed = False  # SQLite has ended the transaction itself: disk full, I/O error, out of memory
        self.immediate = False  # deferred foreign keys are checked by each write, not by commit
        self._db: sqlite3.Connection | None = None

    @property
    def db(self) -> sqlite3.Connection:
        """Return the connection, made at the first use."""
        if self._db is None:
            new = not self.path.exists() or not self.path.stat().st_size
            # Opened by one thread and used by another, perhaps, but never by two at once.
            self._db = sqlite3.connect(
                f"file:{quote(str(self.path))}", BUSY_SECONDS, 0, None, check_same_thread=False, uri=True
            )
            if new:
                with suppress(sqlite3.OperationalError):  # another process is making it right now
                    self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=EXTRA")
            self._db.execute("PRAGMA foreign_keys=ON")
        return self._db

    def close(self) -> None:
        self.rollback()
        with suppress(sqlite3.Error):
            if self._db:
                self._db.close()
        self._db = None

    def begin(self) -> None:
        """Take the write lock; an error says who has it."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if _code(error) == sqlite3.SQLITE_BUSY:
                error.args = (BUSY.format(_lock_holder(self.path), self.path),)
            raise

    def rollback(self) -> None:
        with suppress(sqlite3.Error):
            if self._db and self._db.in_transaction:
                self._db.execute("ROLLBACK")
        self._end()

    def commit(self) -> None:
        for table in self.checked:
            for event in EVENTS:
                self.db.execute(f"DROP TRIGGER IF EXISTS temp.{_check_name(table, event)}")
        try:
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            vars(error)["at_commit"] = True
            self.doomed = not self.db.in_transaction
            self.immediate = _code(error) == sqlite3.SQLITE_CONSTRAINT
            raise
        self.immediate = False
        self._end()

    def _end(self) -> None:
        self.doomed, self.receipt, self.checked = False, None, set()
        for table in sorted(self.staged):
            with suppress(sqlite3.Error):
                self.db.execute(f"DETACH {_stage(table)}")
                self.staged.remove(table)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is done within, or roll it back if that fails."""
        self.begin()
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            self.rollback()
            raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what is done within if it fails, and leave the transaction usable if SQLite does."""
        self.db.execute("SAVEPOINT adaptive_write")
        try:
            yield
        except BaseException:
            self.doomed = not self.db.in_transaction
            if not self.doomed:
                self.db.execute("ROLLBACK TO adaptive_write")
                self.db.execute("RELEASE adaptive_write")
            raise
        self.db.execute("RELEASE adaptive_write")


def _lock_holder(path: Path) -> str:
    """Return who writes to a SQLite file; a process id only where Linux says it.

    Asking with fcntl would do, too, but closing the file afterwards would drop this process's own locks.
    """
    with suppress(OSError):
        files = {file.stat().st_ino for file in (path, Path(f"{path}-shm")) if file.exists()}
        for process, file, first, last in LOCK.findall(Path("/proc/locks").read_text()):
            if int(file) in files and any(int(first) <= byte <= int(last) for byte in WRITE_LOCKS):
                return f"process {process}"
    return "another process"


def _path(url: str) -> Path:
    if not url.startswith("sqlite:///") or re.search("[?#]", url):
        raise ValueError(f"{url!r} is not sqlite:///relative.db or sqlite:////absolute.db (? is %3F, # %23)")
    path = unquote(url.removeprefix("sqlite:///"), errors="strict")
    if not path or path == ":memory:" or "\0" in path:
        raise ValueError(f"{url!r} names no file; a database in memory would be gone after the load")
    return Path(path)


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(_q, names))


def _stage(table: str) -> str:
    return _q(f"adaptive stage of {table}")


def _check_name(table: str, event: str) -> str:
    return _q(f"adaptive check of {table} {event}")


def _is_in(known: Container[str], name: object) -> bool:
    """Say whether a name is among those in lower case; SQLite takes no notice of case."""
    return isinstance(name, str) and name.lower() in known


def _values(names: Sequence[str]) -> str:
    return f"VALUES ({', '.join('?' * len(names))})"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _code(error: BaseException) -> int:
    """Return SQLite's primary result code, 0 if the error is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


# --- the ledger ---


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _joined(segments: Iterable[list[int]]) -> list[list[int]]:
    """Return segments in order, neighbours joined."""
    joined: list[list[int]] = []
    for split, first, last in sorted(segments):
        if joined and joined[-1][0] == split and joined[-1][2] + 1 == first:
            joined[-1][2] = last
        else:
            joined.append([split, first, last])
    return joined


class _Ledger:
    """The tables in which a target keeps what is committed; each call is within a transaction."""

    def __init__(self, name: str, session: _Session) -> None:
        self._session = session
        self._staging = f"_adaptive_new_{_digest(name.lower())}_"  # SQLite takes no notice of case
        self._names = {word: _q(f"{name}_{word}") for word in ("loads", "splits", "ledger", "types", "keys")}

    def run(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Execute a statement in which {loads}, {splits}, {ledger} and {keys} stand for the tables."""
        return self._session.db.execute(statement.format(**self._names), values)

    def make(self, *, keys: bool) -> None:
        for statement in (*LEDGER, KEYS) if keys else LEDGER:
            self.run(statement)

    def exists(self, word: str = "loads") -> bool:
        return bool(self._session.db.execute(f"PRAGMA main.table_info({self._names[word]})").fetchone())

    def done(self, load: str) -> bool:
        found = self.run("SELECT state FROM {loads} WHERE load = ?", [load]).fetchone()
        return bool(found == ("done",))

    def staging(self, load: str) -> str:
        """Return the table that a load's rows wait in until `replace` swaps them in; "": its prefix."""
        return self._staging + (load and _digest(load))

    def forget_receipts(self, load: str) -> None:
        self.run("DELETE FROM {ledger} WHERE load = ?", [load])

    def replacing(self) -> list[str]:
        """Return the loads that are loading beside the rows of a table."""
        running = "SELECT load FROM {loads} WHERE state = 'running' AND mode = 'replace'"
        return [load for (load,) in self.run(running)]

    def enter_load(self, load: Mapping[str, Any]) -> None:
        """Enter a load unless it is there, and take its splits over."""
        known = [load[name] for name in ("load", "fingerprint", "source", "mapping", "target", "mode")]
        self.run(
            "INSERT INTO {loads} VALUES (?, ?, ?, ?, ?, ?, 'running', 0, 0, ?, NULL)"
            " ON CONFLICT (load) DO NOTHING",
            [*known, _now()],
        )
        for split in load["splits"]:
            values = [load["load"], split, load["owner"]]
            self.run("INSERT OR REPLACE INTO {splits} VALUES (?, ?, ?)", values)

    def check_owner(self, load: str, owner: str, splits: Iterable[int]) -> None:
        found = dict(self.run("SELECT split, owner FROM {splits} WHERE load = ?", [load]))
        if lost := sorted(split for split in splits if found.get(split) != owner):
            raise OwnershipLostError(
                f"load {load}: split {lost[0]} was taken over by another run, or is done"
            )

    def enter(self, receipt: Mapping[str, Any]) -> bool:
        """Enter a receipt; False if it is there already."""
        load, batch = receipt["load"], receipt["batch"]
        if self.run("SELECT 1 FROM {ledger} WHERE load = ? AND batch = ?", [load, batch]).fetchone():
            return False
        self.check_owner(load, receipt["owner"], {segment[0] for segment in receipt["segments"]})
        self.run("DELETE FROM {ledger} WHERE load = ? AND batch = ?", [load, receipt["replaces"]])
        row = [load, batch, json.dumps(list(map(list, receipt["segments"]))), receipt["rows"], _now()]
        self.run("INSERT INTO {ledger} VALUES (?, ?, ?, ?, '[]', ?)", row)
        return True

    def correct(self, load: str, batch: str, rejected: list[list[int]], rows: int | None) -> None:
        """Say in a receipt what was rejected and, unless None, how many rows were written."""
        self.run(
            "UPDATE {ledger} SET rejected = ?, rows = coalesce(?, rows), committed_at = ?"
            " WHERE load = ? AND batch = ?",
            [json.dumps(rejected), rows, _now(), load, batch],
        )

    def close_load(self, load: str, receipts: Sequence[tuple[Any, int, Any]]) -> None:
        """Make one receipt of all and mark the load done."""
        segments = _joined(segment for found, _, _ in receipts for segment in found)
        rejected = sorted(position for _, _, found in receipts for position in found)
        rows = sum(count for _, count, _ in receipts)
        self.forget_receipts(load)
        # Without its splits no late writer of this load can begin a batch again.
        self.run("DELETE FROM {splits} WHERE load = ?", [load])
        if receipts:
            compact = [load, "all", json.dumps(segments), rows, json.dumps(rejected), _now()]
            self.run("INSERT INTO {ledger} VALUES (?, ?, ?, ?, ?, ?)", compact)
        done = "UPDATE {loads} SET state = 'done', rows = ?, rejected = ?, finished_at = ? WHERE load = ?"
        self.run(done, [rows, len(rejected), _now(), load])

    def forget(self, target: str) -> None:
        """Drop what is known of an earlier table of this name."""
        for word in ("splits", "ledger", "loads"):
            earlier = "(SELECT load FROM {loads} WHERE target = ?)"
            self.run(f"DELETE FROM {{{word}}} WHERE load IN {earlier}", [target])  # noqa: S608
        if self.exists("keys"):
            self.run("DELETE FROM {keys} WHERE target = ?", [target])

    def claim(self, target: str, keys: Sequence[str]) -> set[str]:
        """Enter keys and return those that were not there."""
        entered = self.run(
            "INSERT INTO {keys} SELECT ?, value, ? FROM json_each(?) WHERE true ORDER BY value"
            " ON CONFLICT DO NOTHING RETURNING key",
            [target, _now(), json.dumps(list(keys))],
        )
        return {key for (key,) in entered}

    def release(self, target: str, keys: Sequence[str]) -> None:
        gone = "DELETE FROM {keys} WHERE target = ? AND key IN (SELECT value FROM json_each(?))"
        self.run(gone, [target, json.dumps(list(keys))])

    def remember(self, target: str, schema: pa.Schema) -> None:
        """Keep the types of a table that is made, of which SQLite knows only the stored forms."""
        made = [target, bytes(schema.remove_metadata().serialize())]
        self.run(TYPES)
        self.run("INSERT OR REPLACE INTO {types} VALUES (?, ?)", made)

    def types(self, target: str) -> dict[str, pa.DataType]:
        """Return the types of a table that a load made."""
        if not self.exists("types") or not find_spec("pyarrow"):
            return {}
        found = self.run("SELECT schema FROM {types} WHERE target = ?", [target]).fetchone()
        schema = _arrow()[0].ipc.read_schema(_arrow()[0].py_buffer(found[0])) if found else ()
        return {field.name: _normal(field.type) for field in schema}


# --- Python values to stored forms ---


def _formed(
    form: Callable[[Any], object], values: Sequence[Any], first: int = 0, where: str = ""
) -> list[Any]:
    """Return the stored forms; raises BadValueError for the first value that has none."""
    formed: list[Any] = []
    try:
        formed.extend(None if value is None else form(value) for value in values)
    except UNFIT as error:
        row = first + len(formed)
        raise BadValueError(f"{where}{error}", row) from error
    return formed


def _plain(value: object) -> object:
    """Return the stored form of a Python value; raises ValueError or TypeError if it has none."""
    if (form := FORMS.get(type(value))) is None:
        raise TypeError(f"a value of type {type(value).__name__} cannot be stored")
    return form(value)


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("text holds a NUL character, where most readers of SQLite stop")
    value.encode()  # raises for a lone surrogate
    return value


def _float(value: float) -> float:
    if value != value:
        raise ValueError("NaN would be stored as NULL")
    return value


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value} is no number")
    return format(value, "f")


def _timestamp(value: datetime) -> str:
    return (value.astimezone(UTC) if value.tzinfo else value).isoformat(timespec="microseconds")


def _json(value: object) -> str:
    # Decimals and dates inside become text: a JSON number would be read as a float.
    text = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _text(text)


FORMS: dict[type, Callable[[Any], object]] = {
    str: _text, int: int, float: _float, bool: int, bytes: bytes, bytearray: bytes, memoryview: bytes,
    Decimal: _decimal, datetime: _timestamp, date: date.isoformat, uuid.UUID: str,
    time: lambda value: value.isoformat(timespec="microseconds"), dict: _json, list: _json, tuple: _json,
}  # fmt: skip


def _for_numeric(value: object) -> object:
    stored = _plain(value)
    if isinstance(stored, str) and _rounded(stored):
        raise ValueError(
            f"{stored!r} has more digits than the {EXACT_DIGITS} a numeric column keeps; use TEXT"
        )
    return stored


def _for_real(value: object) -> object:
    stored = _plain(value)
    if isinstance(stored, int) and int(float(stored)) != stored:
        raise ValueError(f"{stored} has more digits than a REAL column keeps")
    return stored


def _for_text(value: object) -> object:
    stored = _plain(value)
    return repr(stored) if isinstance(stored, float) else stored  # SQLite would write 15 digits


# By affinity: the stored form of a value that SQLite would round when it converts it for the column.
GUARDS: dict[str, Callable[[Any], object]] = {
    "INTEGER": _for_numeric, "NUMERIC": _for_numeric, "REAL": _for_real, "TEXT": _for_text,
}  # fmt: skip


def _rounded(text: str) -> bool:
    """Return whether NUMERIC affinity would change the value (datatype3.html, section 3)."""
    if not NUMBER.fullmatch(text):
        return False  # stays text
    number = Decimal(text.strip())
    if text.strip().lstrip("+-").isdigit() and -(2**63) <= number < 2**63:
        return False
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    return len(digits) > EXACT_DIGITS or bool(number and not -300 < number.adjusted() < 300)


def _fixed(value: object, kind: pa.DataType, context: Context) -> str:
    """Return a number as text with the decimals of its type, as the Arrow path writes it."""
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value))
        number = number.quantize(Decimal(1).scaleb(-kind.scale), context=context)
    except (InvalidOperation, Inexact) as error:
        raise ValueError(f"{value!r} does not fit decimal({kind.precision},{kind.scale})") from error
    return _decimal(number)


def _exact(digits: int) -> Context:
    return Context(prec=digits, traps=[Inexact, InvalidOperation])


# --- Arrow tables ---


@cache
def _arrow() -> tuple[Any, Any]:
    """Import pyarrow, which rows do without, only when it is needed."""
    import pyarrow
    import pyarrow.compute

    return pyarrow, pyarrow.compute


@contextmanager
def _staging_folder() -> Iterator[str]:
    """Yield a folder for a staging file, locked as long as this process lives and uses it."""
    _sweep()
    with tempfile.TemporaryDirectory(prefix=STAGING, ignore_cleanup_errors=True) as folder:
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(lock)


@cache
def _sweep() -> None:
    """Remove, once, the folders of processes that were killed while they filled a staging file."""
    for folder in Path(tempfile.gettempdir()).glob(f"{STAGING}*"):
        with suppress(OSError):  # it is locked, somebody else's, or gone
            if clock() - folder.stat().st_mtime > STALE_SECONDS:
                lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
                finally:
                    os.close(lock)


def _fill(path: str, rows: pa.Table) -> None:
    """Make table `batch` of an empty SQLite file from int64, double, string and binary columns.

    They are declared INTEGER, REAL, TEXT and BLOB: no value is converted here, by another version of
    SQLite than the target's. A file of its own for each table is as fast as one that is kept.
    """
    import adbc_driver_sqlite  # its DBAPI layer takes 0.5 s to import, this 0.04 s
    from adbc_driver_manager import AdbcConnection, AdbcStatement, ArrowArrayStreamHandle

    with adbc_driver_sqlite.connect(path) as database, AdbcConnection(database) as connection:
        # Nothing here has to survive a crash. Pages of 64 KB take a third of the system time of 4 KB.
        for pragma in ("page_size=65536", "journal_mode=OFF", "synchronous=OFF"):
            with AdbcStatement(connection) as statement:
                statement.set_sql_query(f"PRAGMA {pragma}")
                statement.execute_update()
        with AdbcStatement(connection) as statement:
            stream = ArrowArrayStreamHandle()
            rows.to_reader()._export_to_c(stream.address)
            statement.set_options(**{"adbc.ingest.target_table": "batch"})
            statement.bind_stream(stream)
            statement.execute_update()


def _checked(column: Any, suspects: Any, form: Callable[[Any], object]) -> Any:
    """Return the column; raises BadValueError for the first suspect that `form` refuses."""
    for row in _arrow()[1].indices_nonzero(suspects.fill_null(False)).to_pylist():
        _formed(form, [column[row].as_py()], row)
    return column


def _arrow_for_numeric(column: Any) -> Any:
    # Only long texts and exponents can fail; 1,000,000 values in Python take 10 s.
    suspicious = f"[eE]|.{{{EXACT_DIGITS + 1}}}"
    return _checked(column, _arrow()[1].match_substring_regex(column, suspicious), _for_numeric)


def _arrow_for_real(column: Any) -> Any:
    pc = _arrow()[1]
    suspects = pc.or_(pc.greater(column, 2**53), pc.less(column, -(2**53)))
    return _checked(column, suspects, _for_real)


def _arrow_text(text: Any) -> Any:
    # Looking through the bytes takes 0.02 s for 1,000,000 notes, match_substring 0.12 s.
    if not any(b"\0" in _text_bytes(chunk) for chunk in text.chunks):
        return text
    return _checked(text, _arrow()[1].match_substring(text, "\0"), _text)


def _text_bytes(chunk: Any) -> bytes:
    _, offsets, characters = chunk.buffers()
    bounds = memoryview(offsets).cast("i")[chunk.offset :] if offsets else (0,)
    return bytes(memoryview(characters)[bounds[0] : bounds[len(chunk)]]) if characters and len(chunk) else b""


def _arrow_date(days: Any) -> Any:
    """Refuse years before 1 and after 9999, which have no ISO text of fixed width."""
    pc, number = _arrow()[1], days.cast("int32")
    row = pc.index(pc.or_(pc.less(number, -719162), pc.greater(number, 2932896)), True).as_py()
    if row >= 0:
        raise BadValueError("the year is not within 1 and 9999", row)
    return days.cast("string")


def _arrow_timestamp(moments: Any) -> Any:
    # Arrow's own text with bytes replaced; pc.strftime takes 2.1 s for 1,000,000 values, this 0.2 s.
    pc, zone = _arrow()[1], moments.type.tz
    moments = moments.cast("timestamp[us]")
    _arrow_date(moments.cast("date32", safe=False))
    text = pc.binary_replace_slice(moments.cast("string").cast("binary"), 10, 11, b"T")
    return (pc.binary_replace_slice(text, 26, 26, b"+00:00") if zone else text).cast("string")


def _python_text(column: Any) -> Any:
    pa, _ = _arrow()
    return pa.chunked_array([pa.array(_formed(_for_text, column.to_pylist()), pa.string())])


# By the name of the normal type. Decimals of more places Arrow writes as 1E-8; what is not here is JSON.
ARROW_FORMS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("int64|binary", lambda column: column),
    ("bool", lambda column: column.cast("int64")),
    ("double", lambda column: _checked(column, _arrow()[1].is_nan(column), _float)),
    ("string", _arrow_text),
    ("timestamp", _arrow_timestamp),
    ("date32", _arrow_date),
    (r"time64|decimal.*, [0-6]\)", lambda column: column.cast("string")),
    ("", _python_text),
)
# As GUARDS; by affinity and type of the stored form.
ARROW_GUARDS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("INTEGER", "string"): _arrow_for_numeric, ("NUMERIC", "string"): _arrow_for_numeric,
    ("REAL", "int64"): _arrow_for_real, ("TEXT", "double"): _python_text,
}  # fmt: skip


# --- columns and their types ---


class _Column(NamedTuple):
    name: str
    declared: str
    nullable: int
    default: int
    key: int  # place in the primary key, from 1; 0 for none

    @property
    def affinity(self) -> str:
        """Return the affinity, which decides what SQLite converts."""
        return str(_first(AFFINITIES, self.declared)[0])


NORMAL = (
    ("u?int", "int64"), ("halffloat|float", "double"), ("date", "date32"), ("time(32|64)", "time64[us]"),
    ("null|large_string|string_view", "string"), ("large_binary|binary_view|fixed_size_binary", "binary"),
)  # fmt: skip
DECLARED = (("bool|int64", "INTEGER"), ("double", "REAL"), ("binary", "BLOB"), ("", "TEXT"))


def _first(table: Iterable[tuple[str, Any]], word: object) -> Any:
    """Return what a table has for the first pattern that the word begins with."""
    return next((found for pattern, found in table if re.match(pattern, str(word))), None)


def _normal(kind: pa.DataType) -> Any:
    """Return the type that a column made for `kind` is described with."""
    pa, _ = _arrow()
    if pa.types.is_dictionary(kind):
        return _normal(kind.value_type)
    if pa.types.is_uint64(kind):
        return pa.decimal128(20, 0)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz and "UTC")
    alias = _first(NORMAL, kind)
    return pa.type_for_alias(alias) if alias else kind


def _declared(kind: pa.DataType) -> str:
    """Return the declared type of a column made for an Arrow type."""
    kind = _normal(kind)
    small = str(kind).startswith("decimal") and kind.precision <= EXACT_DIGITS
    return f"NUMERIC({kind.precision},{kind.scale})" if small else _first(DECLARED, kind)


def _foreign_type(declared: str) -> Any:
    """Return the Arrow type for a column somebody else declared."""
    pa, _ = _arrow()
    sized = re.fullmatch(r"(?:DECIMAL|NUMERIC)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", declared)
    if sized and 0 < int(sized[1]) <= EXACT_DIGITS:
        return pa.decimal128(int(sized[1]), int(sized[2] or 0))
    return pa.type_for_alias(_first(AFFINITIES, declared)[1])
