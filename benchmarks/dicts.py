"""From Python dicts to PostgreSQL, with `adaptive.load` and with a bare psycopg loop.

    python -m benchmarks.dicts adaptive|psycopg COUNT URL

The dicts are made before the clock starts; it stops when they are committed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from operator import itemgetter

import psycopg

from adaptive.loader import load
from adaptive.orders import COLUMNS, Order, orders
from benchmarks.clock import timed

PG_TYPES = ("int8", "text", "text", "int4", "numeric", "text", "int4", "text", "timestamptz", "text")


def with_adaptive(some: list[Order], url: str) -> None:
    """Load the dicts as a user would."""
    load(some, url, table="orders")


def with_psycopg(some: list[Order], url: str) -> None:
    """Write each dict as a row of one binary COPY: the fastest plain loop of psycopg."""
    values = itemgetter(*COLUMNS)
    statement = f"COPY orders ({', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)".encode()
    with psycopg.connect(url) as connection, connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(PG_TYPES)
        for order in some:
            copy.write_row(values(order))


WAYS: dict[str, Callable[[list[Order], str], None]] = {"adaptive": with_adaptive, "psycopg": with_psycopg}


def main(way: str, count: str, url: str) -> None:
    """Load `count` orders and print what it took."""
    some = list(orders(int(count)))
    print(timed(lambda: WAYS[way](some, url)))


if __name__ == "__main__":
    main(*sys.argv[1:])
