"""The tables of orders that contenders load into, made fresh before a run and read after it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal, Protocol

import psycopg
from pymongo import MongoClient

from adaptive.orders import CHECKSUM_SQL, COLUMNS, Checksums, Order, checksums
from benchmarks.databases import connect

Kind = Literal["postgresql", "sqlite", "mssql", "mongodb"]

POSTGRES_COLUMNS = (
    "order_id bigint, symbol text, side text, quantity integer, price numeric(18,4), order_type text,"
    " trader_id integer, venue text, placed_at timestamptz, note text"
)
SQLITE_COLUMNS = (  # as `adaptive load --create` makes them: NUMERIC would cut decimals beyond 15 digits
    "order_id INTEGER, symbol TEXT, side TEXT, quantity INTEGER, price TEXT, order_type TEXT,"
    " trader_id INTEGER, venue TEXT, placed_at TEXT, note TEXT"
)
# datetime2: pyodbc binds a datetimeoffset only as text, so the bare loop would have other tuples.
MSSQL_COLUMNS = (
    "order_id bigint NOT NULL, symbol nvarchar(10), side nvarchar(4), quantity int, price decimal(18,4),"
    " order_type nvarchar(10), trader_id int, venue nvarchar(10), placed_at datetime2(6), note nvarchar(200)"
)
OURS = ("orders", "_adaptive_loads", "_adaptive_splits", "_adaptive_ledger")


class Table(Protocol):
    """An empty table `orders`, then what a contender left in it."""

    def make(self, *, key: bool) -> None:
        """Make it anew, with `order_id` as its primary key or without one, and no ledger beside it."""

    def checksums(self) -> Checksums:
        """Return what it holds, as the database's own driver sees it."""


@dataclass(frozen=True)
class PostgresTable:
    """In a database of its own."""

    url: str

    def make(self, *, key: bool) -> None:
        """Empty the schema, and make a table after a CHECKPOINT, so that none falls into the run."""
        with psycopg.connect(self.url, autocommit=True) as server:
            server.execute("DROP SCHEMA public CASCADE")  # the ledger of the run before, too
            server.execute("CREATE SCHEMA public")
            server.execute(f"CREATE TABLE orders ({POSTGRES_COLUMNS}{_primary(key)})".encode())
            server.execute("CHECKPOINT")

    def checksums(self) -> Checksums:
        """Have the server sum up."""
        with psycopg.connect(self.url) as server:
            row = server.execute(CHECKSUM_SQL["postgresql"].format(table="orders").encode()).fetchone()
        return _checksums(row)


@dataclass(frozen=True)
class SqliteTable:
    """In a new file."""

    url: str

    def make(self, *, key: bool) -> None:
        """Make file and table, and wait until the disk is idle."""
        with closing(connect(self.url)) as file:
            file.execute(f"CREATE TABLE orders ({SQLITE_COLUMNS}{_primary(key)})")
        os.sync()

    def checksums(self) -> Checksums:
        """Have SQLite sum up."""
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as file:
            return _checksums(file.execute(CHECKSUM_SQL["sqlite"].format(table="orders")).fetchone())


@dataclass(frozen=True)
class MssqlTable:
    """In a database of its own; its times have no zone, and are UTC."""

    url: str

    def make(self, *, key: bool) -> None:
        """Drop what the run before left, and make a table."""
        with closing(connect(self.url)) as link:
            for name in OURS:
                link.execute(f"DROP TABLE IF EXISTS {name}")
            link.execute(f"CREATE TABLE orders ({MSSQL_COLUMNS}{_primary(key)})")
            link.commit()

    def checksums(self) -> Checksums:
        """Read all rows, and sum up here: few enough, and every column is compared."""
        with closing(connect(self.url)) as link:
            rows = link.execute(f"SELECT {', '.join(COLUMNS)} FROM orders").fetchall()
        return checksums(_in_utc(dict(zip(COLUMNS, row, strict=True))) for row in rows)


@dataclass(frozen=True)
class MongodbTable:
    """A collection in a database of its own."""

    url: str

    def make(self, *, key: bool) -> None:
        """Drop the collections of the run before; `_id` is the key, whatever `key` says."""
        del key
        with MongoClient[dict[str, Any]](self.url) as client:
            for name in OURS:
                client.get_default_database().drop_collection(name)

    def checksums(self) -> Checksums:
        """Read all documents, and sum up here."""
        with MongoClient[dict[str, Any]](self.url, tz_aware=True) as client:
            found: Iterable[dict[str, Any]] = client.get_default_database()["orders"].find({}, {"_id": 0})
            return checksums({**each, "price": each["price"].to_decimal()} for each in found)


TABLES: dict[Kind, type[PostgresTable | SqliteTable | MssqlTable | MongodbTable]] = {
    "postgresql": PostgresTable,
    "sqlite": SqliteTable,
    "mssql": MssqlTable,
    "mongodb": MongodbTable,
}


def _primary(key: bool) -> str:
    return ", PRIMARY KEY (order_id)" if key else ""


def _checksums(row: Iterable[Any] | None) -> Checksums:
    return Checksums(*(int(value or 0) for value in row or ()))


def _in_utc(order: Order) -> Order:
    return {**order, "placed_at": order["placed_at"].replace(tzinfo=UTC)}
