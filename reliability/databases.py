"""The databases that are loaded into and looked at with the raw drivers, on servers of the tests' labs."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import psycopg
from bson import decode_all
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the labs belong to the tests

from labs import mongodb, postgres, sqlserver

ORDERS = """CREATE TABLE {table} (order_id bigint PRIMARY KEY, symbol varchar(10), side varchar(10),
    quantity int CHECK (quantity > 0), price decimal(13,4), order_type varchar(10), trader_id int,
    venue varchar(10), placed_at {moment}, note {text})"""
LEDGER = {f"_adaptive_{name}" for name in ("loads", "splits", "ledger", "types")}
TOTALS = "SELECT count(*), count(DISTINCT order_id), sum(order_id), sum(CAST(quantity AS bigint)) FROM {}"


class MissingServerError(Exception):
    """There is no server of this kind; the text says what would help."""


class Totals(NamedTuple):
    """What is counted in a table of orders; all 0 for a table that is empty or missing."""

    rows: int
    keys: int
    key_sum: int
    quantity_sum: int


NOTHING = Totals(0, 0, 0, 0)


class Database(Protocol):
    """A database of its own on some server, dropped afterwards.

    `commit` is what the client sends to commit a batch, b"" where nothing passes a connection. `waits` says
    that a second run waits as long as a stopped one has a transaction open.
    """

    name: str
    url: str
    server: str
    commit: bytes
    waits: bool
    types: str

    def tables(self) -> set[str]:
        """Return the names of all tables."""

    def totals(self, table: str) -> Totals:
        """Count a table that no load is writing into any more."""

    def rows(self, table: str) -> int:
        """Return how many rows of a table are committed, 0 if it is missing."""

    def peek(self) -> AbstractContextManager[Database]:
        """Yield the database as it is now, without disturbing what a killed run left behind."""

    def keys(self, table: str) -> set[int]:
        """Return the keys of a table of orders."""

    def make(self, table: str) -> bool:
        """Make a table for orders with a key and a check, unless this kind of database has none."""

    def drop(self, table: str) -> None:
        """Drop a table."""

    def sessions(self) -> int:
        """Return how many connections of loads are open, as the server sees it."""

    def restart(self) -> bool:
        """Stop the server as a crash would and start it again; return whether that can be done here."""


class _Sql:
    """What is the same in the three SQL databases; `query` and `tables` are their own."""

    types = "price=decimal(18,4)"
    moment, text = "text", "text"
    query: Callable[[str], list[Any]]
    tables: Callable[[], set[str]]

    def totals(self, table: str) -> Totals:
        if table not in self.tables():
            return NOTHING
        return Totals(*(int(number or 0) for number in self.query(TOTALS.format(table))[0]))

    def rows(self, table: str) -> int:
        return int(self.query(f"SELECT count(*) FROM {table}")[0][0]) if table in self.tables() else 0

    def peek(self) -> AbstractContextManager[Any]:
        return nullcontext(self)

    def keys(self, table: str) -> set[int]:
        return {int(row[0]) for row in self.query(f"SELECT order_id FROM {table}")}

    def make(self, table: str) -> bool:
        self.query(ORDERS.format(table=table, moment=self.moment, text=self.text))
        return True

    def drop(self, table: str) -> None:
        self.query(f"DROP TABLE IF EXISTS {table}")

    def sessions(self) -> int:
        return 0

    def restart(self) -> bool:
        return False


class _Sqlite(_Sql):
    """A SQLite file."""

    name, commit, waits = "sqlite", b"", True
    server = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, path: Path) -> None:
        self._path, self.url = path, f"sqlite:///{path}"

    def query(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self._path, timeout=60)) as link, link:
            return link.execute(statement).fetchall()

    def tables(self) -> set[str]:
        return {row[0] for row in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")}

    @contextmanager
    def peek(self) -> Iterator[_Sqlite]:
        """Yield a copy: to open the file itself would recover it, which is the next run's business."""
        with tempfile.TemporaryDirectory() as folder:
            for path in (self._path, self._path.with_name(f"{self._path.name}-wal")):
                if path.exists():
                    shutil.copy(path, folder)
            yield _Sqlite(Path(folder) / self._path.name)


class _Postgres(_Sql):
    """A database of a PostgreSQL server."""

    name, commit, waits = "postgres", b"COMMIT", False
    moment = "timestamptz"

    def __init__(self, url: str) -> None:
        self.url = url
        self.server = f"PostgreSQL {self.query('SHOW server_version')[0][0].split()[0]}"

    def query(self, statement: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as link:
            cursor = link.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def tables(self) -> set[str]:
        return {row[0] for row in self.query("SELECT relname FROM pg_stat_user_tables")}

    def sessions(self) -> int:
        found = self.query(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'adaptive%'"
        )
        return int(found[0][0])

    def restart(self) -> bool:
        folder, programs = Path(self.query("SHOW data_directory")[0][0]), postgres.binaries()
        if programs is None or not folder.parent.name.startswith("adaptive-pg-"):  # not a lab's own server
            return False
        control = [str(programs / "pg_ctl"), "-D", str(folder), "-w", "-m", "immediate", "-l"]
        as_user = ["runuser", "-u", "postgres", "--"] if folder.owner() == "postgres" else []
        command = [*as_user, *control, str(folder.parent / "log"), "restart"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return True


class _Mongo:
    """A database of a MongoDB server."""

    name, waits = "mongo", False
    types = "price=decimal(18,4)"
    commit = b"insert\0\x11\0\0\0_adaptive_ledger\0"  # there are no transactions: the receipt is the commit

    def __init__(self, url: str) -> None:
        self.url, self._name = url, urlsplit(url).path[1:]
        with self._client() as client:
            about = client.admin.command("buildInfo")
        self._stand_in = about.get("process") == "mongo_wire"
        stand_in = "the server in memory of tests/labs/mongo_wire, a stand-in"
        self.server = stand_in if self._stand_in else f"MongoDB {about['version']}"

    def _client(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.url)

    def tables(self) -> set[str]:
        with self._client() as client:
            return set(client[self._name].list_collection_names())

    def totals(self, table: str) -> Totals:
        rows = self._read(table, "order_id", "quantity")
        keys, quantities = [row["order_id"] for row in rows], [row["quantity"] for row in rows]
        return Totals(len(rows), len(set(keys)), sum(keys), sum(quantities))

    def _read(self, table: str, *fields: str) -> list[dict[str, Any]]:
        with self._client() as client:
            found = client[self._name][table]
            batches: Iterable[Any] = found.find_raw_batches({}, dict.fromkeys(fields, 1) | {"_id": 0})
            return [row for batch in batches for row in decode_all(batch)]

    def rows(self, table: str) -> int:
        with self._client() as client:
            return client[self._name][table].count_documents({})

    def peek(self) -> AbstractContextManager[_Mongo]:
        return nullcontext(self)

    def keys(self, table: str) -> set[int]:
        return {row["order_id"] for row in self._read(table, "order_id")}

    def make(self, table: str) -> bool:
        with self._client() as client:
            made = client[self._name].create_collection(table, validator={"quantity": {"$gt": 0}})
            made.create_index("order_id", unique=True)
        return True

    def drop(self, table: str) -> None:
        with self._client() as client:
            client[self._name][table].drop()

    def sessions(self) -> int:
        everybody = {"$currentOp": {"allUsers": True, "idleConnections": True}}
        with self._client() as client:
            return len(list(client.admin.aggregate([everybody, {"$match": {"appName": "adaptive"}}])))

    def restart(self) -> bool:
        if self._stand_in:
            with self._client() as client, suppress(AutoReconnect):
                client.admin.command("crash")
        return self._stand_in


class _Sqlserver(_Sql):
    """A database of a SQL Server."""

    name, waits = "sqlserver", True
    commit = b"\x01\0\0\0\x07\0\0\x01"  # TDS: one request outstanding, TM_COMMIT_XACT, no name, begin anew
    moment, text = "datetimeoffset(6)", "nvarchar(max)"

    def __init__(self, url: str) -> None:
        # A commit is found by its bytes, so they have to be readable; the login is encrypted all the same.
        self.url = url if "encrypt=no" in url.lower() else f"{url}{'&' if '?' in url else '?'}Encrypt=no"
        [(version,)] = self.query("SELECT @@VERSION")
        stand_in = "TDS over SQLite (tests/labs/tds), a stand-in, through Microsoft's ODBC driver"
        self.server = stand_in if version.startswith("Stand-in") else version.partition("\n")[0]

    def query(self, statement: str) -> list[Any]:
        with closing(sqlserver.connect(self.url)) as link:
            cursor = link.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def tables(self) -> set[str]:
        return {row[0] for row in self.query("SELECT name FROM sys.tables")}


@contextmanager
def _sqlite(folder: str) -> Iterator[Database]:
    yield _Sqlite(Path(folder) / "orders.db")


@contextmanager
def _postgres(server: str) -> Iterator[Database]:
    with postgres.database(server) as url:
        yield _Postgres(url)


@contextmanager
def _mongo(server: str) -> Iterator[Database]:
    name = f"adaptive_{secrets.token_hex(6)}"
    yield _Mongo(urlsplit(server)._replace(path=f"/{name}").geturl())
    with MongoClient[dict[str, Any]](server) as client:
        client.drop_database(name)


@contextmanager
def _sqlserver(server: str) -> Iterator[Database]:
    with sqlserver.database(server) as url:
        yield _Sqlserver(url)


class Kind(NamedTuple):
    """How to find or start a server, and how to make a database on it; what is said if there is none."""

    server: Callable[[], AbstractContextManager[str | None]]
    database: Callable[[str], AbstractContextManager[Database]]
    advice: str = ""


KINDS = {
    "sqlite": Kind(lambda: tempfile.TemporaryDirectory(prefix="adaptive-lite-"), _sqlite),
    "postgres": Kind(postgres.server, _postgres, postgres.ADVICE),
    "mongo": Kind(mongodb.server, _mongo),
    "sqlserver": Kind(lambda: nullcontext() if sqlserver.missing() else sqlserver.server(), _sqlserver,
                      sqlserver.missing() or ""),
}  # fmt: skip


@contextmanager
def database(kind: str) -> Iterator[Database]:
    """Yield a new database on a server that is found or started.

    Raises MissingServerError.
    """
    found = KINDS[kind]
    with found.server() as server:
        if server is None:
            raise MissingServerError(found.advice)
        with found.database(server) as made:
            yield made
