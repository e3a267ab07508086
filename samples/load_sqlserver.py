"""Loads market orders into SQL Server: a table in a schema of its own, numbered by the server.

    docker compose up -d
    python samples/load_sqlserver.py                generated orders
    python samples/load_sqlserver.py orders.csv     a file of them

Needs Microsoft's ODBC Driver 18; any other one loses data or crashes, so the sink refuses it. Where the
driver is only a file, say so: mssql://…/market?driver=/path/to/libmsodbcsql-18.so
"""

from __future__ import annotations

import argparse
from contextlib import closing
from urllib.parse import parse_qsl, unquote, urlsplit

import pyodbc
from shared import feed, run

import adaptive
from adaptive import orders

pyodbc.pooling = False  # the sink wants no pool, and only before the first connection can that be said
# The server numbers the rows as they come: row_id is no column of the orders, and adaptive leaves it alone.
TABLE = """
    CREATE TABLE trading.orders (
        row_id bigint IDENTITY PRIMARY KEY, order_id bigint NOT NULL UNIQUE, symbol nvarchar(10),
        side nvarchar(4), quantity int, price decimal(18, 4), order_type nvarchar(20), trader_id int,
        venue nvarchar(20), placed_at datetimeoffset(6), note nvarchar(max))"""


def connect(url: str) -> pyodbc.Connection:
    """Return a connection for statements of our own; the URL's parameters are keywords of the ODBC driver."""
    parts = urlsplit(url)
    keywords = {"driver": "ODBC Driver 18 for SQL Server", **dict(parse_qsl(parts.query))}
    return pyodbc.connect(
        server=f"tcp:{parts.hostname},{parts.port or 1433}", database=parts.path[1:], autocommit=True,
        uid=unquote(parts.username or ""), pwd=f"{{{unquote(parts.password or '')}}}", **keywords,
    )  # fmt: skip


def main(given: argparse.Namespace) -> None:
    """Make the table, upsert orders, upsert live ones."""
    with closing(connect(given.to)) as database:
        if database.execute("SELECT OBJECT_ID('trading.orders')").fetchval() is None:
            database.execute("CREATE SCHEMA trading")
            database.execute(TABLE)

    # By fast_executemany into a temporary table, and from there with UPDATE and INSERT. The primary key is
    # row_id, so `key` says which rows are the same: any columns with a unique index.
    source = given.file or orders.orders(given.orders)
    print("load:", adaptive.load(source, given.to, table="trading.orders", mode="upsert", key="order_id"))

    # Orders as they come in; the keys are those of the first ones, which they change.
    with adaptive.Pipeline(given.to, table="trading.orders", mode="upsert", key="order_id") as pipeline:
        feed(pipeline, orders.orders(1_000, seed=8))

    with closing(connect(given.to)) as database:
        count, last = database.execute("SELECT COUNT(*), MAX(row_id) FROM trading.orders").fetchone()
    print(f"table: {count:,} orders, the last one has row_id {last}")


if __name__ == "__main__":
    run(
        main,
        __doc__,
        to="mssql://sa:{}@127.0.0.1:1433/market?TrustServerCertificate=yes",
        variable="MSSQL_SA_PASSWORD",
    )
