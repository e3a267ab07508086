"""The databases to compare on, looked at with their raw drivers.

Where no URL is said these are a SQLite file and, of each kind of server, the one that
`ADAPTIVE_TEST_<KIND>_URL` names, else the one of docker-compose.yml on this machine.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from dotenv import dotenv_values

from adaptive import orders
from adaptive.config import new_sink
from adaptive.urls import without_password

TABLE = LEDGER = "adaptive_comparison"  # nobody's table: it is dropped before and after each run
OURS = (TABLE, *(f"{LEDGER}_{part}" for part in ("loads", "splits", "ledger")))
SERVERS = {  # kind → URL and the password's variable in docker-compose.yml
    "POSTGRESQL": ("postgresql://postgres:{}@127.0.0.1:5432/market", "POSTGRES_PASSWORD"),
    "MONGODB": ("mongodb://adaptive:{}@127.0.0.1:27017/market?authSource=admin", "MONGO_PASSWORD"),
    "MSSQL": ("mssql://sa:{}@127.0.0.1:1433/market?TrustServerCertificate=yes", "MSSQL_SA_PASSWORD"),
}
LOAD = {"load": "comparison", "fingerprint": "", "source": "", "mapping": "{}", "owner": "", "splits": [0]}


class Sums(NamedTuple):
    """What a table holds: its rows, and the sum of their quantities."""

    rows: int
    quantity: int


@dataclass(frozen=True)
class Database:
    """A database that answers; `version` is its name and version."""

    url: str = field(repr=False)  # with its password
    version: str

    @property
    def name(self) -> str:
        """Return the URL as it may be shown."""
        return without_password(self.url)

    @property
    def place(self) -> str:
        """Return version and host."""
        host = urlsplit(self.name).hostname
        return f"{self.version} at {host}" if host else self.version

    @contextmanager
    def table(self) -> Iterator[None]:
        """Make an empty table for orders, as `adaptive` itself would; drop it and its ledger afterwards."""
        self._drop()
        with new_sink(self.url, "off", table=TABLE) as sink:
            sink.prepare(LOAD, orders.schema())
        try:
            yield
        finally:
            self._drop()

    def sums(self) -> Sums:
        """Return what the table holds, as the database's own driver sees it."""
        if _is_mongodb(self.url):
            return _document_sums(self.url)
        with closing(connect(self.url)) as link:
            cursor = link.cursor()  # bigint: SQL Server sums up an int within 32 bits
            cursor.execute(f"SELECT count(*), coalesce(sum(CAST(quantity AS bigint)), 0) FROM {TABLE}")
            return Sums(*map(int, cursor.fetchone()))

    def _drop(self) -> None:
        if _is_mongodb(self.url):
            _drop_collections(self.url)
            return
        with closing(connect(self.url)) as link:
            for name in OURS:
                link.cursor().execute(f"DROP TABLE IF EXISTS {name}")
            link.commit()


def reach(url: str) -> Database:
    """Return the database at a URL. Raises what its sink raises if it does not answer."""
    with new_sink(url) as sink:
        return Database(url, sink.doctor()[0].partition(",")[0].partition(" (")[0])


def known_urls(folder: Path) -> list[str]:
    """Return a SQLite file in a folder, and the servers that the environment or docker-compose.yml names."""
    environment = {**dotenv_values(".env"), **os.environ}
    urls = [f"sqlite:///{folder}/comparison.db"]
    for kind, (url, variable) in SERVERS.items():
        named = environment.get(f"ADAPTIVE_TEST_{kind}_URL")
        urls.append(_with_database(named) if named else url.format(_quoted(environment.get(variable))))
    return urls


def _quoted(password: str | None) -> str:
    return quote(password or "", safe="")


def _with_database(url: str) -> str:
    """Return the URL of a server with a database in it, which MongoDB makes when it is written to."""
    parts = urlsplit(url)
    return url if parts.path.strip("/") or not _is_mongodb(url) else parts._replace(path=f"/{TABLE}").geturl()


def _is_mongodb(url: str) -> bool:
    return url.startswith("mongodb")


def connect(url: str) -> Any:
    """Return a connection of the database's own driver, which keeps Python's DB-API."""
    if url.startswith("sqlite:"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    if url.startswith("mssql"):
        from adaptive.sinks.sqlserver import Session

        session = Session(url)  # only to find Microsoft's driver and to build its connection string
        session.open()
        return session.connection
    import psycopg

    return psycopg.connect(url)


def _document_sums(url: str) -> Sums:
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](url) as client:
        total = {"$group": {"_id": None, "rows": {"$sum": 1}, "quantity": {"$sum": "$quantity"}}}
        for found in client.get_default_database()[TABLE].aggregate([total]):
            return Sums(int(found["rows"]), int(found["quantity"]))
    return Sums(0, 0)


def _drop_collections(url: str) -> None:
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](url) as client:
        for name in OURS:
            client.get_default_database().drop_collection(name)
