"""The servers of the benchmark's parts: those the environment names, else what the tests start.

The tests' laboratories know where a server may be found; this is the one place that imports them.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pymongo import MongoClient

from benchmarks import server as private
from benchmarks.databases import connect, reach
from benchmarks.runner import ROOT

TESTS = ROOT / "tests"
sys.path.append(str(TESTS))

from labs import containers, mongodb, postgres, sqlserver  # noqa: E402

STAND_IN = (
    "**a stand-in for tests, {}.** It is no {}: rates against it say nothing about a real server."
    " The CPU time of the client for a row depends little on the server"
)
TDS = "which speaks TDS 7.4 and keeps its tables in SQLite (`tests/labs/tds`)"
WIRE = "which speaks MongoDB's protocol and keeps documents in memory (`tests/labs/mongo_wire`)"


class Served(NamedTuple):
    """A database that nobody else uses, and what the report says of its server."""

    url: str
    about: str


class NoServerError(Exception):
    """There is no server for a part; the text says what would help."""


@contextmanager
def postgresql(cache: Path) -> Iterator[Served]:
    """Start a private PostgreSQL. Raises NoServerError if it is not installed."""
    if not (binaries := postgres.binaries()):
        raise NoServerError("PostgreSQL is not installed; make system-deps does it")
    with private.postgres(cache, binaries) as url:
        yield Served(url, reach(url).version)


@contextmanager
def mssql(_: Path) -> Iterator[Served]:
    """Find or start a SQL Server. Raises NoServerError if Microsoft's driver is missing."""
    if reason := sqlserver.missing():
        raise NoServerError(reason)
    real = os.environ.get(sqlserver.VARIABLE) or containers.wanted()
    with sqlserver.server() as server, sqlserver.database(server) as url:
        about = reach(url).version if real else STAND_IN.format(TDS, "SQL Server")
        yield Served(url, f"{about}; driver {_odbc_driver(url)}")


@contextmanager
def mongo(_: Path) -> Iterator[Served]:
    """Find or start a MongoDB."""
    real = os.environ.get(mongodb.VARIABLE) or containers.wanted() or shutil.which("mongod")
    with mongodb.server() as server:
        name = f"adaptive_{secrets.token_hex(6)}"
        url = urlsplit(server)._replace(path=f"/{name}").geturl()
        with MongoClient[dict[str, Any]](server) as client:
            try:
                yield Served(url, reach(url).version if real else STAND_IN.format(WIRE, "MongoDB"))
            finally:
                client.drop_database(name)


SERVERS: dict[str, Callable[[Path], AbstractContextManager[Served]]] = {
    "postgresql": postgresql,
    "mssql": mssql,
    "mongodb": mongo,
}


def _odbc_driver(url: str) -> str:
    import pyodbc

    with closing(connect(url)) as link:
        return f"{link.getinfo(pyodbc.SQL_DRIVER_NAME)} {link.getinfo(pyodbc.SQL_DRIVER_VER)}"
