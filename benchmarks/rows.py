"""From Python rows to SQL Server or MongoDB, through `adaptive`'s sink and with the bare driver.

    python -m benchmarks.rows WAY COUNT URL INPUT

INPUT is an `Input` in JSON. The rows are made, in the form that the driver takes, and the connection is open
before the clock starts; it stops when they are committed, batch by batch. So what is compared is a writer's
work on a batch: checks, binding, sending, receipt, commit. What a load does once is left out: `prepare`,
which makes the ledger, and `finish`.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pyodbc
from bson import Decimal128
from pymongo import MongoClient, WriteConcern

from adaptive.config import new_sink
from adaptive.orders import COLUMNS, Order, schema
from adaptive.protocols import Rejection, Sink
from adaptive.sinks import sqlserver
from benchmarks.clock import timed
from benchmarks.databases import connect
from benchmarks.inputs import Input

BATCH = 10_000  # about what `adaptive load` begins with (limits.START)
BULK_BATCH = 50_000  # the largest batch of a load (limits.CEILING)
LOAD = {"load": "benchmark", "fingerprint": "", "source": "", "mapping": "{}", "owner": "me", "splits": [0]}
INSERT = f"INSERT INTO orders ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
BINDINGS = [  # as the columns of `tables.MSSQL_COLUMNS`
    (pyodbc.SQL_BIGINT, 0, 0),
    (pyodbc.SQL_WVARCHAR, 10, 0),
    (pyodbc.SQL_WVARCHAR, 4, 0),
    (pyodbc.SQL_INTEGER, 0, 0),
    (pyodbc.SQL_DECIMAL, 18, 4),
    (pyodbc.SQL_WVARCHAR, 10, 0),
    (pyodbc.SQL_INTEGER, 0, 0),
    (pyodbc.SQL_WVARCHAR, 10, 0),
    (pyodbc.SQL_TYPE_TIMESTAMP, 26, 6),
    (pyodbc.SQL_WVARCHAR, 200, 0),
]

Work = Callable[[], object]
Way = Callable[[list[Order], str], AbstractContextManager[Work]]


@contextmanager
def sink(some: list[Order], url: str, size: int = BATCH) -> Iterator[Work]:
    """Write mappings."""
    with new_sink(url, table="orders") as target:
        target.prepare(LOAD)
        yield partial(_write_batches, target, target.write, _in_form(some, url), size)


@contextmanager
def sink_arrow(some: list[Order], url: str, size: int = BATCH) -> Iterator[Work]:
    """Write Arrow tables of the table's own types, as a load of files does."""
    with new_sink(url, table="orders") as target:
        types = pa.schema([column[:2] for column in target.prepare(LOAD, schema())])
        rows = pa.Table.from_pylist(list(map(_without_zone, some)) if _is_mssql(url) else some, types)
        yield partial(_write_batches, target, target.write_arrow, rows, size)


@contextmanager
def sink_bulk(some: list[Order], url: str) -> Iterator[Work]:
    """Write mappings by bulk copy."""
    sqlserver.BULK_ROWS = 1  # a quick run has fewer rows than it takes
    with sink(some, _bulk(url), BULK_BATCH) as work:
        yield work


@contextmanager
def sink_arrow_bulk(some: list[Order], url: str) -> Iterator[Work]:
    """Write Arrow tables by bulk copy."""
    sqlserver.BULK_ROWS = 1
    with sink_arrow(some, _bulk(url), BULK_BATCH) as work:
        yield work


@contextmanager
def bulkcopy(some: list[Order], url: str) -> Iterator[Work]:
    """Write tuples with mssql-python's `bulkcopy`."""
    rows = _tuples(some)
    with closing(sqlserver.Session(url).copier()) as link:
        cursor = link.cursor()

        def write() -> None:
            for first in range(0, len(rows), BULK_BATCH):
                cursor.bulkcopy("orders", rows[first : first + BULK_BATCH], timeout=0, table_lock=True)

        yield write


@contextmanager
def executemany(some: list[Order], url: str) -> Iterator[Work]:
    """Write tuples with pyodbc's `fast_executemany`, the columns described."""
    rows = _tuples(some)
    with closing(connect(url)) as link:
        cursor = link.cursor()
        cursor.fast_executemany = True

        def write() -> None:
            for first in range(0, len(rows), BATCH):
                cursor.setinputsizes(BINDINGS)
                cursor.executemany(INSERT, rows[first : first + BATCH])
                link.commit()

        yield write


@contextmanager
def row_by_row(some: list[Order], url: str) -> Iterator[Work]:
    """Insert each tuple in a transaction of its own, and go on after those that break a constraint."""
    rows = _tuples(some)
    with closing(connect(url)) as link:
        link.autocommit = True
        cursor = link.cursor()

        def write() -> None:
            for row in rows:
                try:
                    cursor.execute(INSERT, row)
                except pyodbc.IntegrityError:
                    continue

        yield write


@contextmanager
def insert_many(some: list[Order], url: str) -> Iterator[Work]:
    """Write documents with pymongo, unordered and as durable as the sink's."""
    rows = _in_form(some, url)
    with MongoClient[dict[str, Any]](url) as client:
        durable = WriteConcern("majority", j=True)
        target = client.get_default_database().get_collection("orders", write_concern=durable)
        client.get_default_database()["warm_up"].insert_one({})  # as `prepare` warms the sink's client up

        def write() -> None:
            for first in range(0, len(rows), BATCH):
                target.insert_many(rows[first : first + BATCH], ordered=False)

        yield write


WAYS: dict[str, Way] = {
    "sink": sink,
    "sink_arrow": sink_arrow,
    "sink_bulk": sink_bulk,
    "sink_arrow_bulk": sink_arrow_bulk,
    "bulkcopy": bulkcopy,
    "executemany": executemany,
    "row_by_row": row_by_row,
    "insert_many": insert_many,
}


def _write_batches(
    target: Sink, write: Callable[[Any], list[Rejection]], rows: Sequence[Order] | pa.Table, size: int
) -> None:
    """Write rows in batches, each in a transaction with its receipt."""
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        target.begin(_receipt(first, len(batch)))
        if refused := write(batch):
            target.commit([[0, first + index] for index, _, _ in refused], len(batch) - len(refused))
        else:
            target.commit()


def _receipt(first: int, count: int) -> dict[str, Any]:
    place = {"load": LOAD["load"], "owner": LOAD["owner"], "batch": str(first)}
    rows = {"segments": [[0, first, first + count - 1]], "rows": count, "rejected": []}
    return {**place, **rows, "replaces": None}


def _bulk(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}bulk=yes"


def _is_mssql(url: str) -> bool:
    return url.startswith("mssql")


def _in_form(some: list[Order], url: str) -> list[Order]:
    """Return rows that both the sink and the bare driver take."""
    return list(map(_without_zone if _is_mssql(url) else _document, some))


def _tuples(some: list[Order]) -> list[tuple[Any, ...]]:
    return [tuple(_without_zone(order).values()) for order in some]


def _without_zone(order: Order) -> Order:
    moment = order["placed_at"]
    return {**order, "placed_at": moment.replace(tzinfo=None)} if isinstance(moment, datetime) else order


def _document(order: Order) -> Order:
    return {**order, "price": Decimal128(order["price"])}  # pymongo does not encode a Decimal


def main(way: str, count: str, url: str, source: str) -> None:
    """Load `count` orders and print what it took."""
    some = list(Input(**json.loads(source)).orders(int(count)))
    with WAYS[way](some, url) as work:
        # To look for garbage in what was made before takes 20 ms, in some runs within the load.
        gc.collect()
        gc.freeze()
        print(timed(work))


if __name__ == "__main__":
    main(*sys.argv[1:])
