"""A SQL Server for tests: the one the environment names, else a stand-in that speaks its protocol.

Found in this order: `ADAPTIVE_TEST_MSSQL_URL`, a container if those are wanted, then `labs.tds`. Either way
Microsoft's ODBC driver is between.
"""

from __future__ import annotations

import os
import re
import secrets
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pyarrow as pa
import pyarrow.types as pat

from adaptive.protocols import Sink
from adaptive.rows import Row
from adaptive.sinks import sink_class, sqlserver
from labs import containers, tds
from labs.forms import finite, in_json

VARIABLE = "ADAPTIVE_TEST_MSSQL_URL"
ITEMS = "CREATE TABLE items (item_id int PRIMARY KEY, name nvarchar(200), amount int CHECK (amount > 0))"
ORDERS = "CREATE TABLE orders (order_id int PRIMARY KEY, name nvarchar(200))"
FILLS = """
    CREATE TABLE fills (fill_id int PRIMARY KEY, order_id int REFERENCES orders (order_id),
        quantity int CHECK (quantity > 0))"""
ABSENT = {"a_deferred_constraint_fails_before_the_commit": "SQL Server has no deferred constraints"}
DEVIATIONS = {"a_deadlock_is_a_retry": "all locks of the stand-in for SQL Server are one"}
COLLATION = "SQL_Latin1_General_CP1_CI_AS"  # tests write texts of this code page, and keys in capitals
DATETIMEOFFSET = -155  # pyodbc hands it over as bytes
SESSIONS = """
    SELECT session_id FROM sys.dm_exec_sessions
    WHERE database_id = DB_ID(?) AND session_id <> @@SPID AND is_user_process = 1"""


def missing() -> str | None:
    """Return why no SQL Server can be reached, and what would help; None if one can."""
    try:
        sqlserver._find_driver()
    except sqlserver.DriverMissingError as error:
        return f"lab sqlserver: {error}"
    return None


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a login that may create databases."""
    if url := os.environ.get(VARIABLE):
        yield url
    elif containers.wanted():
        with containers.container("mssql", lambda url: connect(url).close()) as url:
            yield url
    else:
        with tds.serving() as running:
            yield running.url


def connect(url: str) -> Any:
    """Return a raw connection of the driver, with autocommit."""
    (host, port), keywords = sqlserver._parse_url(url)
    keywords = {"driver": sqlserver._find_driver(), **keywords, "server": f"tcp:{host},{port}"}
    link = sqlserver._pyodbc().connect(sqlserver._connection_string(keywords), autocommit=True, timeout=15)
    link.add_output_converter(DATETIMEOFFSET, _moment)
    link.execute("SET LOCK_TIMEOUT 60000")  # a reader waits for writers; by default for ever
    return link


def _moment(raw: bytes) -> datetime:
    """Read a SQL_SS_TIMESTAMPOFFSET_STRUCT."""
    *parts, nanoseconds, hours, minutes = struct.unpack("<6hI2h", raw)
    zone = timezone(timedelta(hours=hours, minutes=minutes))
    return datetime(*parts, nanoseconds // 1000, zone)


@contextmanager
def database(url: str) -> Iterator[str]:
    """Yield the URL of a new, empty database; drop it afterwards."""
    name = f"adaptive_{secrets.token_hex(6)}"
    with closing(connect(url)) as link:
        link.execute(f"CREATE DATABASE {name} COLLATE {COLLATION}")
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        with closing(connect(url)) as link:
            link.execute(f"ALTER DATABASE {name} SET SINGLE_USER WITH ROLLBACK IMMEDIATE")
            link.execute(f"DROP DATABASE {name}")


class SqlserverLab:
    """A database of a SQL Server."""

    name = "sqlserver"

    def __init__(self, url: str) -> None:
        self.url = url
        [(version,)] = self.query("SELECT @@VERSION")
        self.stand_in = version.startswith("Stand-in")
        self.deviations: Mapping[str, str] = {**ABSENT, **DEVIATIONS} if self.stand_in else ABSENT

    def sink(self, table: str, **options: Any) -> Sink:
        return sink_class(self.url)(self.url, table=table, **options)

    def make_items(self, rows: Sequence[Row] = ()) -> None:
        self.execute(ITEMS)
        for row in rows:
            self.execute("INSERT INTO items VALUES (?, ?, ?)", row["item_id"], row["name"], row["amount"])

    def make_orders(self, *, deferred: bool = False) -> None:
        assert not deferred, "there are no deferred constraints"
        self.execute(ORDERS)
        self.execute(FILLS)

    def drop(self, table: str) -> None:
        self.execute(f"DROP TABLE [{table}]")

    def execute(self, statement: str, *values: object) -> None:
        with closing(connect(self.url)) as link:
            link.execute(statement, *values)

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(connect(self.url)) as link:
            return [tuple(row) for row in link.execute(statement, *values).fetchall()]

    def rows(self, table: str) -> list[dict[str, Any]]:
        with closing(connect(self.url)) as link:
            cursor = link.execute(f"SELECT * FROM [{table.replace(']', ']]')}]")
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def stored(self, kind: pa.DataType, value: Any) -> Any:
        """Return values as they are; a uuid is upper-case text, lists and structs JSON."""
        if isinstance(value, UUID):
            return str(value).upper()
        return finite(value) if isinstance(value, float) else in_json(value) if pat.is_nested(kind) else value

    @contextmanager
    def stranger(self) -> Iterator[SqlserverLab]:
        user, password = f"stranger_{secrets.token_hex(4)}", f"Aa1-{secrets.token_hex(12)}"
        self.execute(f"CREATE LOGIN [{user}] WITH PASSWORD = '{password}', CHECK_POLICY = OFF")
        self.execute(f"CREATE USER [{user}] FOR LOGIN [{user}]")
        self.execute(f"GRANT VIEW DEFINITION TO [{user}]")  # without, no table can be told from a missing one
        try:
            place = urlsplit(self.url).netloc.rpartition("@")[2]
            yield SqlserverLab(urlsplit(self.url)._replace(netloc=f"{user}:{password}@{place}").geturl())
        finally:
            self.execute(f"DROP USER [{user}]")
            self.execute(f"DROP LOGIN [{user}]")

    def statements(self, text: str) -> list[str]:
        return re.findall(r"GRANT [^;]+", text)

    def mend(self, statement: str) -> None:
        self.execute(statement)

    def break_links(self) -> None:
        name = urlsplit(self.url).path[1:]
        with closing(connect(urlsplit(self.url)._replace(path="/master").geturl())) as link:
            for (session,) in link.execute(SESSIONS, name).fetchall():
                with suppress(sqlserver._pyodbc().Error):  # it has ended meanwhile
                    link.execute(f"KILL {int(session)}")


@contextmanager
def sqlserver_lab(url: str) -> Iterator[SqlserverLab]:
    """Yield a lab with a new database of a server."""
    with database(url) as found:
        yield SqlserverLab(found)
