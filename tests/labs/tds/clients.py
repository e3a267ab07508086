"""Both of Microsoft's clients, for the tests of the stand-in: the ODBC driver and mssql-python."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from adaptive.sinks.sqlserver import _find_driver, _pyodbc


def odbc(url: str, *, autocommit: bool = False, password: str | None = None, database: str = "") -> Any:
    """Return a connection of pyodbc."""
    driver = f"DRIVER={{{_find_driver()}}};"
    return _pyodbc().connect(driver + _keywords(url, password, database), autocommit=autocommit)


def mssql_python(url: str) -> Any:
    """Return a connection of mssql-python with autocommit; a bulk copy opens another of its own."""
    import mssql_python

    mssql_python.pooling(enabled=False)
    return mssql_python.connect(_keywords(url), autocommit=True)


def error(link: Any, statement: str, *values: Any) -> tuple[str, int]:
    """Run a statement that fails on a connection of pyodbc; return SQLSTATE and number."""
    try:
        link.execute(statement, *values)
    except _pyodbc().Error as caught:
        state, text = caught.args[:2]
        return state, int(text.split(" (SQL")[0].rpartition("(")[2].rstrip(")"))
    raise AssertionError(f"{statement} did not fail")


def count(link: Any) -> int:
    """Return how many rows `items` has."""
    found: int = link.execute("SELECT COUNT(*) FROM items").fetchval()
    return found


def _keywords(url: str, password: str | None = None, database: str = "") -> str:
    parts = urlsplit(url)
    return (
        f"SERVER=127.0.0.1,{parts.port};UID={parts.username};PWD={password or parts.password};"
        f"DATABASE={database or unquote(parts.path[1:])};Encrypt=no"
    )
