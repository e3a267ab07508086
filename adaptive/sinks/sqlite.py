"""Write rows into a SQLite file, exactly once.

Uses the standard library only; Arrow tables need pyarrow, and load more than twice as fast with
adbc-driver-sqlite. This file imports nothing from its package: copy it alone and it works.

How an Arrow table gets in: ADBC carries its own copy of SQLite. Two copies in one process must never
open the same file: POSIX locks belong to the process, so one copy deletes the write-ahead log under
the other, and committed rows are gone (tried: `sqlite3.connect(…).close()` during a load was enough).
So ADBC fills a private temporary file, and one `INSERT … SELECT` takes the rows over on the one
connection that also holds the receipt. For 1,000,000 orders that is 1.6 s against 1.5 s for ADBC
straight into the target and 4.1 s for executemany (same, busy, machine; the sqlite3 shell: 4.1 s).
It also keeps SQLite's own error codes, which ADBC's errors lack.

Stored forms: bool 0 or 1; date `2024-01-31`; timestamp `2024-01-31T09:30:00.000000`, one with a zone
in UTC and with `+00:00` (always six digits, so text sorts by time); decimal NUMERIC up to 15 digits,
else TEXT; uuid text; list and struct JSON text. NaN, NUL in text and digits that a NUMERIC column
would round are refused, because SQLite would change them without a word.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import os
import re
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal, Inexact, InvalidOperation
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    import pyarrow as pa

Mode = Literal["append", "ignore", "upsert", "replace"]
Verdict = Literal["retry", "in_doubt", "reject", "fatal", "taken_over"]

EXACT_DIGITS = 15  # what NUMERIC affinity keeps of a number that is no 64-bit integer
STAGE_ROWS = 500  # below, executemany is as fast as the way through ADBC (measured: about 400 rows)
BUSY_SECONDS = 30.0  # how long to wait for another writer; a batch holds the lock for well under 1 s
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])
TOKEN = r"""("(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|'(?:[^']|'')*'|[^\s("'`\[]+)"""

LEDGER = """
CREATE TABLE IF NOT EXISTS _adaptive_loads (
  load TEXT PRIMARY KEY, fingerprint TEXT, source TEXT, mapping TEXT, target TEXT COLLATE NOCASE, mode TEXT,
  state TEXT, rows INTEGER, rejected INTEGER, started_at TEXT, finished_at TEXT, schema BLOB);
CREATE TABLE IF NOT EXISTS _adaptive_splits (load TEXT, split INTEGER, owner TEXT, PRIMARY KEY (load, split));
CREATE TABLE IF NOT EXISTS _adaptive_ledger (
  load TEXT, batch TEXT, segments TEXT, rows INTEGER, rejected TEXT, committed_at TEXT,
  PRIMARY KEY (load, batch));
"""
LOAD_KEYS = ("load", "fingerprint", "source", "mapping", "target", "mode", "state", "rows", "rejected",
             "started_at", "finished_at")  # fmt: skip


class OwnershipLostError(Exception):
    """The splits of this batch belong to another run, or the load is finished."""


class BadValueError(ValueError):
    """A value that SQLite would change or cannot hold. `index` counts rows of the write, if known."""

    def __init__(self, reason: str, index: int | None = None) -> None:
        where = "" if index is None else f"row {index}, "
        super().__init__(where + reason)
        self.index = index


class ColumnInfo(NamedTuple):
    """A column as `PRAGMA table_xinfo` tells it."""

    name: str
    declared: str
    not_null: bool
    default: bool
    key: int  # place in the primary key, from 1; 0 for none

    @property
    def affinity(self) -> str:
        """Return the affinity by the rules of https://sqlite.org/datatype3.html, section 3.1."""
        return next((name for words, name in AFFINITIES if any(w in self.declared for w in words)), "NUMERIC"
                    if self.declared else "BLOB")  # fmt: skip


AFFINITIES = ((("INT",), "INTEGER"), (("CHAR", "CLOB", "TEXT"), "TEXT"), (("BLOB",), "BLOB"),
              (("REAL", "FLOA", "DOUB"), "REAL"))  # fmt: skip
UNCHANGED = {"int64": ("INTEGER", "NUMERIC"), "double": ("REAL",), "string": ("TEXT",)}


class SqliteSink:
    """Write one table of a SQLite file; `adaptive.protocols.Sink` has the contract of each member.

        with SqliteSink("sqlite:///x.db", table="orders") as sink:
            sink.begin(); sink.write([{"order_id": 1, "price": "9.99"}]); sink.commit()

    A new file gets a write-ahead log; an existing one keeps its journal mode, which its owner chose.
    Commits are durable (synchronous=EXTRA: in WAL the same as FULL, which cost nothing measurable
    against NORMAL at 10,000 rows a commit, and in the other modes it also syncs the folder). Foreign
    keys are enforced: a row without its parent is a bad row. Not thread-safe.
    """

    capabilities = frozenset({"append", "ignore", "upsert", "replace", "arrow", "transactional", "create"})
    max_rows: int | None = None
    max_bytes: int | None = None
    max_writers: int | None = 1  # SQLite has one write lock per file

    def __init__(
        self, url: str, *, table: str | None = None, mode: Mode = "append", key: Sequence[str] = ()
    ) -> None:
        """Check the arguments; raises ValueError. Nothing is touched.

        Args:
            url: `sqlite:///relative.db` or `sqlite:////absolute.db`, percent-encoded.
            table: The target; None only for members that need no table.
            mode: What happens to a row whose key is there already; `replace` needs `prepare`.
            key: Columns with a primary key or unique index; default the primary key.
        """
        if mode not in ("append", "ignore", "upsert", "replace"):
            raise ValueError(f"unknown mode {mode!r}")
        if table is not None and (
            not table or "\0" in table or table.lower().startswith(("sqlite_", "_adaptive_"))
        ):
            raise ValueError(f"{table!r} cannot be a target table")
        self.path = _path(url)
        self.table, self.mode, self.key = table, mode, (key,) if isinstance(key, str) else tuple(key)
        self.duplicates = 0
        self._db: sqlite3.Connection | None = None
        self._stage: _Stage | None = None
        self._batch: tuple[str, str] | None = None  # load and batch of the open receipt
        self._began = self._attached = False
        self._failure: tuple[BaseException, int] | None = None
        self._doubt: BaseException | None = None
        self._columns: list[ColumnInfo] = []
        self._types: dict[str, pa.DataType] = {}  # of a table that a load made

    # --- connection ---

    def open(self) -> None:
        """Connect if the file exists; it is made by `prepare` or `begin`.

        Raises FileNotFoundError if its folder is missing, sqlite3.DatabaseError if it is no database.
        """
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{self.path.parent} is no folder; make it first")
        if self.path.exists():
            self._connection().execute("PRAGMA schema_version")

    def close(self) -> None:
        """Disconnect, rolling back what is open."""
        self.rollback()
        if self._stage:
            self._stage.close()
        if self._db:
            with suppress(sqlite3.Error):
                self._db.close()
        self._db = self._stage = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            new = not self.path.exists() or not self.path.stat().st_size
            uri = f"file:{quote(str(self.path))}"
            # The instance may be opened by one thread and used by another, never by two at once.
            self._db = sqlite3.connect(
                uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False
            )
            if new:
                with suppress(sqlite3.OperationalError):  # another process is making it right now
                    self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=EXTRA")
            self._db.execute("PRAGMA foreign_keys=ON")
        return self._db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock; commit at the end, roll back on an error."""
        db = self._connection()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    # --- the coordinator's part ---

    def prepare(self, load: Mapping[str, Any], schema: pa.Schema | None = None) -> Sequence[tuple[Any, ...]]:
        """Make ledger and table, take the splits over, and return the table's columns.

        Raises LookupError if the table is missing and `schema` is None or a column of `key` does not
        fit, PermissionError if the file cannot be written.
        """
        try:
            with self._transaction() as db:
                return self._prepare(db, load, schema)
        except sqlite3.OperationalError as error:
            if _primary(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
                raise PermissionError(f"{self.path} and its folder must be writable: {error}") from error
            raise

    def _prepare(
        self, db: sqlite3.Connection, load: Mapping[str, Any], schema: pa.Schema | None
    ) -> list[tuple[Any, ...]]:
        for statement in LEDGER.split(";"):
            db.execute(statement)
        created = None
        if not self._describe(db):
            created = self._create(db, schema)
        state = db.execute("SELECT state FROM _adaptive_loads WHERE load = ?", [load["load"]]).fetchone()
        if state != ("done",):
            self._start(db, load, created)
        self._describe(db)
        self._check_key(db)
        alias = self._rowid_alias(db)
        return [self._column(column, alias) for column in self._columns]

    def _create(self, db: sqlite3.Connection, schema: pa.Schema | None) -> bytes:
        """Make the missing table and forget the loads of an earlier one; return its types."""
        if schema is None:
            raise LookupError(
                f"no table {self.table!r} in {self.path}; create it, or let it be made with --create"
            )
        if missing := [name for name in self.key if name not in schema.names]:
            raise LookupError(
                f"the key column {missing[0]!r} is not among the columns {', '.join(schema.names)}"
            )
        lines = [
            f"{_quoted(field.name)} {_declared(field.type)}"
            + (" NOT NULL" if not field.nullable or field.name in self.key else "")
            for field in schema
        ]
        if self.key:
            lines.append(f"PRIMARY KEY ({', '.join(map(_quoted, self.key))})")
        db.execute(f"CREATE TABLE {_quoted(self._name)} ({', '.join(lines)})")
        for table in ("_adaptive_splits", "_adaptive_ledger", "_adaptive_loads"):
            db.execute(
                f"DELETE FROM {table} WHERE load IN (SELECT load FROM _adaptive_loads WHERE target = ?)",
                [self.table],
            )
        self._describe(db)
        return bytes(schema.remove_metadata().serialize())

    def _start(self, db: sqlite3.Connection, load: Mapping[str, Any], created: bytes | None) -> None:
        identity = [load["load"], load["fingerprint"], load["source"], load["mapping"], self.table, self.mode]
        db.execute(
            "INSERT INTO _adaptive_loads VALUES (?, ?, ?, ?, ?, ?, 'running', 0, 0, ?, NULL, ?)"
            " ON CONFLICT (load) DO NOTHING",
            [*identity, _now(), created],
        )
        db.executemany(
            "INSERT INTO _adaptive_splits VALUES (?, ?, ?)"
            " ON CONFLICT (load, split) DO UPDATE SET owner = excluded.owner",
            [(load["load"], split, load["owner"]) for split in load["splits"]],
        )
        self._drop_strays(db)
        if self.mode == "replace":
            self._make_replacement(db, load["load"])

    def _check_key(self, db: sqlite3.Connection) -> None:
        """Raise LookupError if the mode needs a unique key that the table does not have."""
        if self.mode not in ("ignore", "upsert"):
            return
        if not self._key():
            raise LookupError(
                f"mode {self.mode} needs a key: table {self.table!r} has no primary key, name it with --key"
            )
        names = [column.name for column in self._columns]
        try:
            db.execute("EXPLAIN " + self._insert(self._name, names, _values(names)), [None] * len(names))
        except sqlite3.OperationalError as error:
            raise LookupError(f"key ({', '.join(self._key())}) of table {self.table!r}: {error}") from error

    def _rowid_alias(self, db: sqlite3.Connection) -> str | None:
        """Return the column that is another name of the rowid, which SQLite fills by itself."""
        keys = [column for column in self._columns if column.key]
        if len(keys) != 1 or keys[0].declared != "INTEGER":
            return None
        # Only a primary key that is not the rowid has an index of its own.
        own = db.execute("SELECT 1 FROM pragma_index_list(?) WHERE origin = 'pk'", [self._name]).fetchone()
        return None if own else keys[0].name

    def _column(self, column: ColumnInfo, alias: str | None) -> tuple[Any, ...]:
        kind = self._types.get(column.name) or _foreign_type(column)
        nullable = not column.not_null and not column.key
        return (column.name, kind, nullable, column.default or column.name == alias, column.key > 0, None)

    def _remembered(self, db: sqlite3.Connection) -> dict[str, pa.DataType]:
        """Return the types of a table that a load made, for the columns still declared that way."""
        if not self._has_ledger(db) or not importlib.util.find_spec("pyarrow"):
            return {}
        found = db.execute(
            "SELECT schema FROM _adaptive_loads WHERE target = ? AND schema IS NOT NULL", [self.table]
        ).fetchone()
        if not found:
            return {}
        import pyarrow as pa

        types = {field.name: _normal(field.type) for field in pa.ipc.read_schema(pa.py_buffer(found[0]))}
        declared = {column.name: column.declared for column in self._columns}
        return {name: kind for name, kind in types.items() if declared.get(name) == _declared(kind)}

    def loads(self) -> list[dict[str, Any]]:
        """Return the loads of the table, oldest first; of all tables if none is set."""
        sql = f"SELECT {', '.join(LOAD_KEYS)} FROM _adaptive_loads WHERE ? IS NULL OR target = ? ORDER BY started_at"
        rows = [dict(zip(LOAD_KEYS, row, strict=True)) for row in self._read(sql, [self.table, self.table])]
        for row in rows:
            for name in ("started_at", "finished_at"):
                row[name] = row[name] and datetime.fromisoformat(row[name])
        return rows

    def receipts(self, load: str) -> list[tuple[list[list[int]], int, list[list[int]]]]:
        """Return what is committed: segments, rows written, rejected positions."""
        found = self._read("SELECT segments, rows, rejected FROM _adaptive_ledger WHERE load = ?", [load])
        return [(json.loads(segments), rows, json.loads(rejected)) for segments, rows, rejected in found]

    def _read(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Read the ledger without making the file or anything in it."""
        if not self.path.exists() or not self._has_ledger(self._connection()):
            return []
        return self._connection().execute(sql, values).fetchall()

    def _has_ledger(self, db: sqlite3.Connection) -> bool:
        return bool(db.execute("SELECT 1 FROM main.sqlite_master WHERE name = '_adaptive_loads'").fetchone())

    def finish(self, load: Mapping[str, Any]) -> None:
        """Swap `replace` in, make one receipt of all, mark the load done.

        In mode replace the rows' triggers fire, and foreign keys are checked at the end instead of
        cascading. Raises sqlite3.IntegrityError if a row would be left without its parent.
        """
        db = self._connection()
        db.execute("PRAGMA foreign_keys=OFF")  # deleting the old rows must not cascade
        try:
            with self._transaction():
                done = db.execute(
                    "SELECT state FROM _adaptive_loads WHERE load = ?", [load["load"]]
                ).fetchone()
                if done != ("done",):
                    self._finish(db, load)
        finally:
            db.execute("PRAGMA foreign_keys=ON")

    def _finish(self, db: sqlite3.Connection, load: Mapping[str, Any]) -> None:
        self._check_owner(db, load["load"], load["owner"], load["splits"])
        if self.mode == "replace":
            self._swap(db, load["load"])
        receipts = self.receipts(load["load"])
        segments = _joined([segment for found, _, _ in receipts for segment in found])
        rejected = sorted(position for _, _, found in receipts for position in found)
        rows = sum(count for _, count, _ in receipts)
        db.execute("DELETE FROM _adaptive_ledger WHERE load = ?", [load["load"]])
        # Without its splits no late writer of this load can begin a batch again.
        db.execute("DELETE FROM _adaptive_splits WHERE load = ?", [load["load"]])
        if receipts:
            db.execute(
                "INSERT INTO _adaptive_ledger VALUES (?, 'all', ?, ?, ?, ?)",
                [load["load"], json.dumps(segments), rows, json.dumps(rejected), _now()],
            )
        db.execute(
            "UPDATE _adaptive_loads SET state = 'done', rows = ?, rejected = ?, finished_at = ? WHERE load = ?",
            [rows, len(rejected), _now(), load["load"]],
        )

    # --- replace: rows gather in a table of the same shape until `finish` ---

    def _make_replacement(self, db: sqlite3.Connection, load: str) -> None:
        name = _replacement(load)
        if db.execute("SELECT 1 FROM main.sqlite_master WHERE name = ?", [name]).fetchone():
            return  # a resume keeps what is there
        (sql,) = db.execute(
            "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE",
            [self.table],
        ).fetchone()
        # SQLite stores the statement as "CREATE TABLE " followed by the name as it was written.
        db.execute(re.sub(r"^CREATE TABLE " + TOKEN, lambda _: f"CREATE TABLE {_quoted(name)}", sql, count=1))
        unique = db.execute(
            'SELECT m.sql FROM pragma_index_list(?) AS i JOIN main.sqlite_master AS m ON m.name = i.name'
            ' WHERE i."unique" AND m.sql IS NOT NULL', [self.table],
        )  # fmt: skip
        for number, (sql,) in enumerate(unique.fetchall()):
            new = f"CREATE UNIQUE INDEX {_quoted(f'{name}_{number}')} ON {_quoted(name)}"
            db.execute(
                re.sub(
                    rf"^CREATE UNIQUE INDEX {TOKEN}\s+ON\s*{TOKEN}",
                    lambda _, n=new: n,
                    sql,
                    count=1,
                    flags=re.I,
                )
            )

    def _drop_strays(self, db: sqlite3.Connection) -> None:
        """Drop the replacement tables of loads that no longer run."""
        running = db.execute("SELECT load FROM _adaptive_loads WHERE state = 'running' AND mode = 'replace'")
        wanted = {_replacement(load) for (load,) in running}
        found = db.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name GLOB '_adaptive_new_*'"
        )
        for (name,) in found.fetchall():
            if name not in wanted:
                db.execute(f"DROP TABLE {_quoted(name)}")

    def _swap(self, db: sqlite3.Connection, load: str) -> None:
        self._describe(db)
        target, new = _quoted(self._name), _quoted(_replacement(load))
        names = ", ".join(_quoted(column.name) for column in self._columns)
        db.execute(f"DELETE FROM {target}")
        db.execute(f"INSERT INTO {target} ({names}) SELECT {names} FROM {new}")
        db.execute(f"DROP TABLE {new}")
        for child, _, parent, _ in db.execute("PRAGMA foreign_key_check"):
            if self._name.lower() in (child.lower(), parent.lower()):
                raise sqlite3.IntegrityError(
                    f"replacing {self.table} would leave rows of {child} without their {parent}"
                )

    # --- a transaction ---

    @property
    def doomed(self) -> bool:
        """Whether SQLite has ended the transaction itself (disk full, I/O error, out of memory)."""
        return self._began and not (self._db is not None and self._db.in_transaction)

    def begin(self, receipt: Mapping[str, Any] | None = None) -> bool:
        """Take the write lock and enter the receipt; False if the batch is already committed.

        Waits up to 30 s for another writer. Raises OwnershipLostError if the splits are another run's.
        """
        if receipt is None and self.mode == "replace":
            raise ValueError("mode replace needs prepare, a receipt in begin, and finish")
        if not self.path.parent.is_dir():
            self.open()
        db = self._connection()
        db.execute("BEGIN IMMEDIATE")
        try:
            fresh = receipt is None or self._enter(db, receipt)
            if fresh and not self._columns:
                self._describe(db)
        except BaseException:
            self.rollback()
            raise
        if not fresh:
            db.execute("ROLLBACK")
            return False
        self._began, self._doubt, self._failure = True, None, None
        self._batch = (receipt["load"], receipt["batch"]) if receipt else None
        return True

    def _enter(self, db: sqlite3.Connection, receipt: Mapping[str, Any]) -> bool:
        load, batch = receipt["load"], receipt["batch"]
        if db.execute(
            "SELECT 1 FROM _adaptive_ledger WHERE load = ? AND batch = ?", [load, batch]
        ).fetchone():
            return False
        self._check_owner(db, load, receipt["owner"], {segment[0] for segment in receipt["segments"]})
        db.execute("DELETE FROM _adaptive_ledger WHERE load = ? AND batch = ?", [load, receipt["replaces"]])
        segments = json.dumps([list(segment) for segment in receipt["segments"]])
        db.execute(
            "INSERT INTO _adaptive_ledger VALUES (?, ?, ?, ?, '[]', ?)",
            [load, batch, segments, receipt["rows"], _now()],
        )
        return True

    def _check_owner(self, db: sqlite3.Connection, load: str, owner: str, splits: Iterable[int]) -> None:
        found = dict(db.execute("SELECT split, owner FROM _adaptive_splits WHERE load = ?", [load]))
        if lost := sorted(split for split in splits if found.get(split) != owner):
            raise OwnershipLostError(
                f"load {load}: split {lost[0]} was taken over by another run, or the load is done"
            )

    def write(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, str, str]]:
        """Write mappings; a column that a row lacks gets its default.

        Raises sqlite3.Error or BadValueError with none of the rows written.
        """
        with self._savepoint():
            first = written = 0
            for names, group in itertools.groupby(rows, key=tuple):
                part = list(group)
                columns = [self._stored(name, [row[name] for row in part], first) for name in names]
                written += self._write_values(names, zip(*columns, strict=True), first)
                first += len(part)
            self._count(len(rows), written)
        return []

    def write_arrow(self, rows: pa.Table) -> list[tuple[int, str, str]]:
        """Write an Arrow table. As `write`; values take the stored forms of this module.

        The first large table of a transaction goes through ADBC if it is there. Later ones do not:
        the connection reads the staging file in the same transaction and would not see it change.
        """
        with self._savepoint():
            stored = self._storable(rows)
            if (
                len(rows) >= STAGE_ROWS
                and not self._attached
                and importlib.util.find_spec("adbc_driver_sqlite")
            ):
                written = self._write_staged(stored)
            else:
                columns = [column.to_pylist() for column in stored.columns]
                written = self._write_values(stored.column_names, zip(*columns, strict=True), 0)
            self._count(len(rows), written)
        return []

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Make the transaction durable; deferred foreign keys fail here and leave it open."""
        db = self._connection()
        if self._batch:
            positions = json.dumps([list(position) for position in rejected])
            db.execute(
                "UPDATE _adaptive_ledger SET rejected = ?, rows = coalesce(?, rows), committed_at = ?"
                " WHERE load = ? AND batch = ?", [positions, rows, _now(), *self._batch],
            )  # fmt: skip
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._doubt = error
            raise
        self._end()

    def rollback(self) -> None:
        """Drop the transaction."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            self._end()

    def _end(self) -> None:
        self._began, self._batch = False, None
        if self._attached and self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute("DETACH stage")
                self._attached = False

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        db = self._connection()
        if not db.in_transaction:
            raise sqlite3.ProgrammingError("no transaction is open: call begin first")
        db.execute("SAVEPOINT adaptive_write")
        try:
            yield
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK TO adaptive_write")
                db.execute("RELEASE adaptive_write")
            raise
        db.execute("RELEASE adaptive_write")

    def _write_values(self, names: Sequence[str], rows: Iterable[Sequence[Any]], first: int) -> int:
        return self._run_many(self._insert(self._goal, names, _values(names)), rows, first)

    def _write_staged(self, rows: pa.Table) -> int:
        """Take the rows over from the staging file; if that fails, find the row and raise its error."""
        self._stage = self._stage or _Stage()
        self._stage.fill(rows, [self._affinity(name) for name in rows.column_names])
        db = self._connection()
        db.execute("ATTACH ? AS stage", [str(self._stage.path)])
        self._attached = True
        insert = self._insert(self._goal, rows.column_names, "SELECT * FROM stage.batch")
        try:
            return db.execute(insert).rowcount
        except sqlite3.Error as error:
            if self.classify(error) != "reject" or not db.in_transaction:
                raise
        by_row = self._insert(self._goal, rows.column_names, "SELECT * FROM stage.batch WHERE rowid = ?")
        return self._run_many(by_row, ((rowid,) for rowid in range(1, len(rows) + 1)), 0)

    def _run_many(self, sql: str, rows: Iterable[Sequence[Any]], first: int) -> int:
        """Execute for each row and return the rows changed; an error remembers its row."""
        index = first

        def counted() -> Iterator[Sequence[Any]]:
            nonlocal index
            for index, row in enumerate(rows, first):  # noqa: B007 - the row being bound when an error comes
                yield row

        try:
            return self._connection().executemany(sql, counted()).rowcount
        except Exception as error:
            self._failure = (error, index)
            raise

    def _insert(self, table: str, names: Sequence[str], rows: str) -> str:
        """Return the INSERT for the mode; `rows` is its VALUES or SELECT."""
        # Without a column list SQLite copies whole records from one file to the other: 0.2 s against 0.7 s.
        listed = (
            "" if list(names) == [c.name for c in self._columns] else f" ({', '.join(map(_quoted, names))})"
        )
        return f"INSERT INTO {_quoted(table)}{listed} {rows}{self._conflict(names, rows)}"

    def _conflict(self, names: Sequence[str], rows: str) -> str:
        if self.mode not in ("ignore", "upsert"):
            return ""
        key = self._key()
        others = [_quoted(name) for name in names if name not in key] if self.mode == "upsert" else []
        # The parser needs a WHERE before ON CONFLICT; rows are taken in order, so the last one wins.
        where = " WHERE true" if rows.startswith("SELECT") and "WHERE" not in rows else ""
        change = (
            "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in others) if others else "NOTHING"
        )
        target = f" ({', '.join(map(_quoted, key))})" if key else ""
        return f"{where} ON CONFLICT{target} DO {change}"

    def _key(self) -> tuple[str, ...]:
        found = sorted((column.key, column.name) for column in self._columns if column.key)
        return self.key or tuple(name for _, name in found)

    def _count(self, rows: int, written: int) -> None:
        self.duplicates = rows - written if self.mode == "ignore" else 0

    @property
    def _name(self) -> str:
        if self.table is None:
            raise ValueError("this needs a table: SqliteSink(url, table=…)")
        return self.table

    @property
    def _goal(self) -> str:
        """Return the table that rows go to."""
        return _replacement(self._batch[0]) if self.mode == "replace" and self._batch else self._name

    def _describe(self, db: sqlite3.Connection) -> bool:
        """Read the columns that can be written; False if there is no such table."""
        found = db.execute(
            'SELECT name, upper(type), "notnull", dflt_value IS NOT NULL, pk'
            " FROM pragma_table_xinfo(?, 'main') WHERE hidden = 0", [self._name],
        )  # fmt: skip
        self._columns = [
            ColumnInfo(name, kind, bool(nn), bool(default), pk) for name, kind, nn, default, pk in found
        ]
        self._types = self._remembered(db)
        return bool(self._columns)

    # --- values ---

    def _stored(self, name: str, values: list[Any], first: int) -> list[Any]:
        """Return a column of Python values in their stored forms."""
        convert = self._conversion(name)
        kinds = set(map(type, values))
        if convert is _plain and kinds <= {int, bytes, type(None)}:
            return values
        stored = []
        for index, value in enumerate(values, first):
            try:
                stored.append(value if value is None else convert(value))
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                raise BadValueError(f"column {name}: {error}", index) from error
        return stored

    def _conversion(self, name: str) -> Callable[[Any], Any]:
        scale = getattr(self._types.get(name), "scale", None)
        if scale is not None and self._affinity(name) == "TEXT":
            return lambda value: _fixed(value, scale)
        return _exact if self._rounds(name) else _plain

    def _affinity(self, name: str) -> str:
        return next((c.affinity for c in self._columns if c.name.lower() == name.lower()), "BLOB")

    def _rounds(self, name: str) -> bool:
        return self._affinity(name) in ("NUMERIC", "INTEGER")

    def _storable(self, rows: pa.Table) -> pa.Table:
        """Return a table of int64, double, text and binary columns in their stored forms."""
        import pyarrow as pa

        columns = []
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            try:
                form = _arrow_form(column)
                columns.append(_unrounded(form) if self._rounds(name) else form)
            except BadValueError as error:
                raise BadValueError(f"column {name}: {error}", error.index) from error
            except pa.ArrowException as error:
                raise BadValueError(f"column {name}: {error}") from error
        return pa.table(columns, names=rows.column_names)

    # --- what went wrong ---

    def hint(self, error: BaseException) -> int | None:
        """Return the index of the row that caused the error of the last write."""
        if isinstance(error, BadValueError):
            return error.index
        return self._failure[1] if self._failure and self._failure[0] is error else None

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means, by SQLite's result code (https://sqlite.org/rescode.html).

        An I/O error of COMMIT is in doubt: the log may or may not have reached the disk. Any other
        time nothing was applied, and the disk needs a person: fatal. Errors of the staging file are
        ours, never the data's.
        """
        if isinstance(error, OwnershipLostError):
            return "taken_over"
        if isinstance(error, (BadValueError, OverflowError, UnicodeError)):
            return "reject"
        code = _primary(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_SCHEMA):
            return "retry"
        if code in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG):
            return "reject"
        return "in_doubt" if code == sqlite3.SQLITE_IOERR and error is self._doubt else "fatal"

    def doctor(self) -> list[str]:
        """Return what would keep a load from working, one text per finding; changes nothing."""
        folder = self.path.parent
        if not folder.is_dir():
            return [f"{folder} is no folder; make it first"]
        found = [
            f"{place} is not writable"
            for place in (folder, self.path)
            if place.exists() and not os.access(place, os.W_OK)
        ]
        if not importlib.util.find_spec("adbc_driver_sqlite"):
            found.append("adbc-driver-sqlite is missing: files load at less than half the speed")
        if not self.path.exists():
            return found
        try:
            check = self._connection().execute("PRAGMA quick_check(1)").fetchone()[0]
            if check != "ok":
                found.append(f"{self.path} is damaged: {check}")
            if self.table is not None and not self._describe(self._connection()):
                found.append(f"no table {self.table!r} in {self.path}; create it, or load with --create")
        except sqlite3.Error as error:
            found.append(f"{self.path}: {error}")
        return found


class _Stage:
    """A private SQLite file that ADBC fills with one Arrow table at a time."""

    def __init__(self) -> None:
        import adbc_driver_sqlite  # its DBAPI layer takes 0.5 s to import, this 0.04 s

        self._folder = tempfile.TemporaryDirectory(prefix="adaptive-")
        self.path = Path(self._folder.name) / "stage.db"
        self._shape = ""
        self._database = adbc_driver_sqlite.connect(str(self.path))
        import adbc_driver_manager as adbc

        self._adbc = adbc
        self._connection = adbc.AdbcConnection(self._database)
        # Nothing here outlives the process, so nothing has to survive a crash.
        self._execute("PRAGMA journal_mode=OFF")
        self._execute("PRAGMA synchronous=OFF")
        self._connection.set_autocommit(False)

    def fill(self, rows: pa.Table, affinities: Sequence[str]) -> None:
        """Make `batch` hold exactly these rows, numbered from 1 by their rowid."""
        # Where that changes no value, a column has the target's affinity: SQLite then copies whole records.
        # Conversions are left to the target's own copy of SQLite, other versions may round differently.
        columns = [
            f"{_quoted(field.name)} {affinity if affinity in UNCHANGED.get(str(field.type), ()) else 'BLOB'}"
            for field, affinity in zip(rows.schema, affinities, strict=True)
        ]
        if (shape := ", ".join(columns)) != self._shape:
            self._execute("DROP TABLE IF EXISTS batch")
            self._execute(f"CREATE TABLE batch ({shape})")
            self._shape = shape
        self._execute("DELETE FROM batch")
        self._ingest(rows)
        self._connection.commit()

    def _execute(self, sql: str) -> None:
        with self._adbc.AdbcStatement(self._connection) as statement:
            statement.set_sql_query(sql)
            statement.execute_update()

    def _ingest(self, rows: pa.Table) -> None:
        options = {self._adbc.INGEST_OPTION_TARGET_TABLE: "batch",
                   self._adbc.INGEST_OPTION_MODE: self._adbc.INGEST_OPTION_MODE_APPEND}  # fmt: skip
        with self._adbc.AdbcStatement(self._connection) as statement:
            statement.set_options(**options)
            stream = self._adbc.ArrowArrayStreamHandle()
            rows.to_reader()._export_to_c(stream.address)
            statement.bind_stream(stream)
            statement.execute_update()

    def close(self) -> None:
        """Remove the file; raises nothing."""
        with suppress(self._adbc.Error):
            self._connection.close()
            self._database.close()
        with suppress(OSError):
            self._folder.cleanup()


def _path(url: str) -> Path:
    """Return the file of a URL; raises ValueError."""
    if not url.startswith("sqlite:///") or "?" in url or "#" in url:
        raise ValueError(
            f"{url!r}: expected sqlite:///relative.db or sqlite:////absolute.db (? is %3F, # is %23)"
        )
    path = unquote(url.removeprefix("sqlite:///"), errors="strict")
    if not path or path == ":memory:" or "\0" in path:
        raise ValueError(f"{url!r} names no file; a database in memory would be gone after the load")
    return Path(path)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _values(names: Sequence[str]) -> str:
    return f"VALUES ({', '.join('?' * len(names))})"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _replacement(load: str) -> str:
    return "_adaptive_new_" + hashlib.sha256(load.encode()).hexdigest()[:16]


def _primary(error: BaseException) -> int:
    """Return SQLite's primary result code, 0 if the error is not SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _joined(segments: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return segments in order, neighbours joined."""
    joined: list[list[int]] = []
    for split, first, last in sorted(segments):
        if joined and joined[-1][0] == split and joined[-1][2] + 1 == first:
            joined[-1][2] = last
        else:
            joined.append([split, first, last])
    return joined


# --- Python values to stored forms ---


def _plain(value: Any) -> Any:
    """Return the stored form of a Python value; raises ValueError or TypeError if it has none."""
    form = FORMS.get(type(value))
    if form is None:
        raise TypeError(f"a value of type {type(value).__name__} cannot be stored")
    return form(value)


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("text holds a NUL character, where most readers of SQLite stop")
    value.encode()  # a lone surrogate is no text
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
    moment = value if value.tzinfo is None else value.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")


def _json(value: Any) -> str:
    # Decimals and dates inside become text: a JSON number would be read as a float.
    return _text(
        json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    )


FORMS: dict[type, Callable[[Any], Any]] = {
    type(None): lambda value: value, str: _text, int: int, float: _float, bool: int, bytes: bytes,
    bytearray: bytes, memoryview: bytes, Decimal: _decimal, datetime: _timestamp, date: date.isoformat,
    time: lambda value: value.isoformat(timespec="microseconds"), uuid.UUID: str, dict: _json, list: _json,
    tuple: _json,
}  # fmt: skip


def _exact(value: Any) -> Any:
    """Return the stored form for a column of INTEGER or NUMERIC affinity, which may round digits."""
    stored = _plain(value)
    if isinstance(stored, str) and _rounded(stored):
        raise ValueError(
            f"{stored} has more than {EXACT_DIGITS} digits; a numeric column would round it, declare it TEXT"
        )
    return stored


def _rounded(text: str) -> bool:
    """Return whether NUMERIC affinity would change this text's value (datatype3.html, section 3)."""
    if not NUMBER.fullmatch(text):
        return False  # stays text
    with suppress(ValueError):
        if -(2**63) <= int(text) < 2**63:
            return False
    number = Decimal(text.strip())
    digits = len("".join(map(str, number.as_tuple().digits)).strip("0"))
    return digits > EXACT_DIGITS or bool(number and not -300 < number.adjusted() < 300)


def _fixed(value: Any, scale: int) -> str:
    """Return a number as text with `scale` decimals, as the Arrow path writes it."""
    try:
        number = Decimal(str(value) if isinstance(value, float) else value)
        fixed = number.quantize(Decimal(1).scaleb(-scale), context=EXACT)
    except (InvalidOperation, Inexact) as error:
        raise ValueError(f"{value!r} is no number with at most {scale} decimals") from error
    return format(fixed, "f")


# --- Arrow values to stored forms ---


def _arrow_form(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as int64, double, string or binary; raises BadValueError or ArrowInvalid."""
    import pyarrow as pa
    import pyarrow.types as is_

    kind = column.type
    if is_.is_dictionary(kind):
        return _arrow_form(column.cast(kind.value_type))
    if is_.is_boolean(kind) or is_.is_integer(kind):
        return column.cast(pa.int64())
    if is_.is_floating(kind):
        return _without_nan(column.cast(pa.float64()))
    if is_.is_decimal(kind):
        return _decimal_text(column)
    if is_.is_timestamp(kind):
        return _timestamp_text(column)
    if is_.is_date(kind):
        return _in_calendar(column.cast(pa.date32()), -719162, 2932896).cast(pa.string())
    if is_.is_time(kind):
        return column.cast(pa.time64("us")).cast(pa.string())
    if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind):
        return _without_nul(column.cast(pa.string()))
    if is_.is_null(kind):
        return column.cast(pa.string())
    if (
        is_.is_binary(kind)
        or is_.is_large_binary(kind)
        or is_.is_binary_view(kind)
        or is_.is_fixed_size_binary(kind)
    ):
        return column.cast(pa.binary())
    return pa.chunked_array([_python_forms(column)], pa.string())  # uuid, list, struct, map


def _python_forms(column: pa.ChunkedArray) -> list[Any]:
    forms = []
    for index, value in enumerate(column.to_pylist()):
        try:
            forms.append(_plain(value))
        except (ValueError, TypeError) as error:
            raise BadValueError(str(error), index) from error
    return forms


def _refuse(bad: pa.ChunkedArray, reason: str) -> None:
    """Raise BadValueError for the first true value."""
    import pyarrow.compute as pc

    if (index := pc.index(bad, True).as_py()) >= 0:
        raise BadValueError(reason, index)


def _without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    _refuse(pc.is_nan(column), "NaN would be stored as NULL")
    return column


def _without_nul(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    _refuse(pc.match_substring(column, "\0"), "text holds a NUL character, where most readers of SQLite stop")
    return column


def _in_calendar(column: pa.ChunkedArray, first: int, last: int) -> pa.ChunkedArray:
    """Refuse years before 1 and after 9999, which have no ISO text of fixed width."""
    import pyarrow as pa
    import pyarrow.compute as pc

    number = column.cast(pa.int32() if column.type == pa.date32() else pa.int64())
    _refuse(pc.or_(pc.less(number, first), pc.greater(number, last)), "the year is not within 1 and 9999")
    return column


def _timestamp_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # Arrow's own text with one byte replaced; pc.strftime takes 2.1 s for 1,000,000 values, this 0.3 s.
    import pyarrow as pa
    import pyarrow.compute as pc

    zone = column.type.tz
    moments = _in_calendar(column.cast(pa.timestamp("us", zone)), -62135596800000000, 253402300799999999)
    text = pc.binary_replace_slice(
        moments.cast(pa.timestamp("us")).cast(pa.string()).cast(pa.binary()), 10, 11, b"T"
    )
    return (pc.binary_join_element_wise(text, b"+00:00", b"") if zone else text).cast(pa.string())


def _decimal_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    text = column.cast(pa.string())
    if pc.any(pc.match_substring(text, "E")).as_py():  # Arrow writes small numbers as 1E-8
        return pa.chunked_array([_python_forms(column)], pa.string())
    return text


def _unrounded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Refuse digits that a column of INTEGER or NUMERIC affinity would round."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type):
        return column
    long = pc.fill_null(pc.greater(pc.binary_length(column), 4), False)  # 1e999 is the shortest to fail
    for index in pc.indices_nonzero(long).to_pylist():
        try:
            _exact(column[index].as_py())
        except ValueError as error:
            raise BadValueError(str(error), index) from error
    return column


# --- types ---


def _normal(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column made for `kind` is described with."""
    import pyarrow as pa
    import pyarrow.types as is_

    if is_.is_dictionary(kind):
        return _normal(kind.value_type)
    if is_.is_uint64(kind):
        return pa.decimal128(20, 0)
    if is_.is_integer(kind):
        return pa.int64()
    if is_.is_floating(kind):
        return pa.float64()
    if is_.is_timestamp(kind):
        return pa.timestamp("us", kind.tz and "UTC")
    if is_.is_date(kind):
        return pa.date32()
    if is_.is_null(kind) or is_.is_large_string(kind) or is_.is_string_view(kind):
        return pa.string()
    if is_.is_large_binary(kind) or is_.is_binary_view(kind) or is_.is_fixed_size_binary(kind):
        return pa.binary()
    return kind


def _declared(kind: pa.DataType) -> str:
    """Return the declared type of a column made for an Arrow type."""
    import pyarrow.types as is_

    kind = _normal(kind)
    if is_.is_boolean(kind) or is_.is_integer(kind):
        return "INTEGER"
    if is_.is_floating(kind):
        return "REAL"
    if is_.is_binary(kind):
        return "BLOB"
    if is_.is_decimal(kind) and kind.precision <= EXACT_DIGITS:
        return f"NUMERIC({kind.precision},{kind.scale})"
    return "TEXT"


def _foreign_type(column: ColumnInfo) -> pa.DataType:
    """Return the Arrow type for a column somebody else declared; text wherever its form is theirs.

    A bare NUMERIC takes text, too, so that no digit is lost before `write` can refuse it.
    """
    import pyarrow as pa

    simple = {"INTEGER": pa.int64(), "REAL": pa.float64(), "BLOB": pa.binary(), "TEXT": pa.string()}
    if column.affinity in simple and column.declared:
        return simple[column.affinity]
    if column.declared.startswith("BOOL"):
        return pa.bool_()
    if column.declared == "DATE":
        return pa.date32()
    sized = re.fullmatch(r"(?:DECIMAL|NUMERIC)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", column.declared)
    if sized and 0 < int(sized[1]) <= EXACT_DIGITS:
        return pa.decimal128(int(sized[1]), int(sized[2] or 0))
    return pa.string()
