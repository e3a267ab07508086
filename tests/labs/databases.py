"""The laboratories of the databases: each looks at its database with the raw driver."""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pyarrow as pa
import pyarrow.types as pat
from psycopg import sql
from psycopg.rows import dict_row

from adaptive.protocols import Sink
from adaptive.rows import Row
from adaptive.sinks import sink_class
from labs import postgres
from labs.forms import in_json, without_nul

ITEMS = """
    CREATE TABLE items (item_id INTEGER PRIMARY KEY, name VARCHAR(200), amount INTEGER CHECK (amount > 0))"""
ORDERS = """CREATE TABLE orders (order_id INTEGER PRIMARY KEY, name VARCHAR(200))"""
FILLS = """
    CREATE TABLE fills (fill_id INTEGER PRIMARY KEY, order_id INTEGER REFERENCES orders {deferred},
        quantity INTEGER CHECK (quantity > 0))"""
DEFERRED = "DEFERRABLE INITIALLY DEFERRED"


class SqliteLab:
    """A SQLite file; it has no links that could be cut."""

    name = "sqlite"
    deviations: Mapping[str, str] = {
        "a_server_that_does_not_answer_is_tried_again": "SQLite has no server",
        "a_wrong_password_is_shown_to_nobody": "SQLite has no passwords",
        "a_deadlock_is_a_retry": "SQLite has one write lock, which `begin` takes",
    }

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = f"sqlite:///{path}"

    def sink(self, table: str, **options: Any) -> Sink:
        return sink_class(self.url)(self.url, table=table, **options)

    def make_items(self, rows: Sequence[Row] = ()) -> None:
        with closing(sqlite3.connect(self._path)) as link, link:
            link.execute(ITEMS)
            link.executemany("INSERT INTO items VALUES (:item_id, :name, :amount)", rows)

    def make_orders(self, *, deferred: bool = False) -> None:
        self.execute(ORDERS)
        self.execute(FILLS.format(deferred=DEFERRED if deferred else ""))

    def drop(self, table: str) -> None:
        self.execute(f'DROP TABLE "{table}"')

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self._path)) as link, link:
            link.execute(statement)

    def rows(self, table: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self._path)) as link:
            link.row_factory = sqlite3.Row
            quoted = table.replace('"', '""')
            return [dict(row) for row in link.execute(f'SELECT * FROM "{quoted}"')]

    def stored(self, kind: pa.DataType, value: Any) -> Any:
        """Return numbers, text and bytes; a decimal that SQLite's numbers would cut is text."""
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, float) and value != value:
            raise ValueError("NaN would be NULL")
        if isinstance(value, Decimal):
            if getattr(kind, "precision", 20) > 15:
                return f"{value:.{getattr(kind, 'scale', 0)}f}"
            return int(value) if value == int(value) else float(value)
        if isinstance(value, datetime):
            return (value.astimezone(UTC) if value.tzinfo else value).isoformat(timespec="microseconds")
        if isinstance(value, time):
            return value.isoformat(timespec="microseconds")
        if isinstance(value, str):
            return without_nul(value)
        return str(value) if isinstance(value, date | UUID) else in_json(value)

    @contextmanager
    def stranger(self) -> Iterator[SqliteLab]:
        """Yield the file as one that nobody may write, which for root is not a matter of its mode.

        A file of a later version says so in byte 18; https://www.sqlite.org/fileformat2.html, 1.3.3.
        """
        self._set_version(3)
        yield self

    def statements(self, text: str) -> list[str]:
        return re.findall("writable", text)

    def mend(self, statement: str) -> None:
        assert statement == "writable"
        self._set_version(1)

    def _set_version(self, number: int) -> None:
        if not self._path.exists():
            self.execute("CREATE TABLE other (id)")
        with self._path.open("r+b") as file:
            file.seek(18)
            file.write(bytes([number]))

    def break_links(self) -> None:
        return


class PostgresLab:
    """A database of a PostgreSQL server."""

    name = "postgres"
    deviations: Mapping[str, str] = {}

    def __init__(self, url: str) -> None:
        self.url = url

    def sink(self, table: str, **options: Any) -> Sink:
        return sink_class(self.url)(self.url, table=table, **options)

    def make_items(self, rows: Sequence[Row] = ()) -> None:
        with psycopg.connect(self.url) as link:
            link.execute(ITEMS)
            link.cursor().executemany("INSERT INTO items VALUES (%(item_id)s, %(name)s, %(amount)s)", rows)

    def make_orders(self, *, deferred: bool = False) -> None:
        self.execute(ORDERS)
        self.execute(FILLS.format(deferred=DEFERRED if deferred else ""))

    def drop(self, table: str) -> None:
        self.execute(f'DROP TABLE "{table}"')

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as link:
            link.execute(statement.encode())

    def rows(self, table: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=dict_row) as link:
            return link.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()

    def stored(self, kind: pa.DataType, value: Any) -> Any:
        """Return values as they are; lists and structs are jsonb, decimals in them text."""
        return (
            without_nul(value) if isinstance(value, str) else in_json(value) if pat.is_nested(kind) else value
        )

    @contextmanager
    def stranger(self) -> Iterator[PostgresLab]:
        user = f"stranger_{secrets.token_hex(4)}"
        self.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'secret'")
        try:
            place = urlsplit(self.url).netloc.rpartition("@")[2]
            yield PostgresLab(urlsplit(self.url)._replace(netloc=f"{user}:secret@{place}").geturl())
        finally:
            self.execute(f"DROP OWNED BY {user}")
            self.execute(f"DROP ROLE {user}")

    def statements(self, text: str) -> list[str]:
        return re.findall(r"GRANT [^;]+", text)

    def mend(self, statement: str) -> None:
        self.execute(statement)

    def break_links(self) -> None:
        self.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )


@contextmanager
def postgres_lab(server: str) -> Iterator[PostgresLab]:
    """Yield a lab with a new database of a server."""
    with postgres.database(server) as url:
        yield PostgresLab(url)
