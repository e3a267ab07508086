"""Loads market orders into a SQLite file: there is no server to start.

python samples/load_sqlite.py                   generated orders into orders.db
python samples/load_sqlite.py orders.xml.gz     a file of them
"""

from __future__ import annotations

import argparse
import sqlite3
from contextlib import closing

from shared import feed, run

import adaptive
from adaptive import orders


def main(given: argparse.Namespace) -> None:
    """Load a file twice, then live orders, then look at the table."""
    file = given.file or f"orders-{given.orders}.csv"
    if not given.file:
        orders.write(file, given.orders)

    # A file is known by its content: loaded again, it is found done; killed halfway, it goes on where it was.
    for _ in range(2):
        result = adaptive.load(
            file, given.to, table="orders", mode="upsert", key="order_id", create=True,
            types={"price": "decimal(18,4)"},
        )  # fmt: skip
        print("load:", result)

    # Orders as they come in; the keys are those of the first ones, which they change.
    with adaptive.Pipeline(given.to, table="orders", mode="upsert") as pipeline:  # by the primary key
        feed(pipeline, orders.orders(1_000, seed=8))

    # Decimals of more than 15 digits are text in SQLite, whose own numbers would round them.
    with closing(sqlite3.connect(given.to.removeprefix("sqlite:///"))) as database:
        question = "SELECT count(*), sum(quantity), max(typeof(price)) FROM orders"
        count, quantity, kind = database.execute(question).fetchone()
    print(f"table: {count:,} orders of {quantity:,} shares; prices are {kind}")


if __name__ == "__main__":
    run(main, __doc__, to="sqlite:///orders.db")
