"""Loads market orders into PostgreSQL: upserts, a live feed, and the adapter alone with plain COPY.

docker compose up -d
python samples/load_postgresql.py               generated orders
python samples/load_postgresql.py orders.csv    a file of them
"""

from __future__ import annotations

import argparse

import psycopg
from shared import feed, run

import adaptive
from adaptive import orders
from adaptive.sinks.postgres import PostgresSink


def main(given: argparse.Namespace) -> None:
    """Upsert orders, upsert live ones, copy ticks."""
    # COPY knows no upsert: rows are copied into a temporary table and merged; the last row of a key wins.
    result = adaptive.load(
        given.file or orders.orders(given.orders), given.to, table="orders", mode="upsert", key="order_id",
        create=True, types={"price": "decimal(18,4)"},
    )  # fmt: skip
    print("load:", result)

    # Orders as they come in; the keys are those of the first ones, which they change.
    with adaptive.Pipeline(given.to, table="orders", mode="upsert") as pipeline:  # by the primary key
        feed(pipeline, orders.orders(1_000, seed=8))

    # The adapter alone, as it works in a project of your own: one transaction of COPY, and no ledger.
    with psycopg.connect(given.to) as database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS ticks (symbol text, price numeric(18,4), at timestamptz)"
        )
    ticks = [
        {"symbol": order["symbol"], "price": order["price"], "at": order["placed_at"]}
        for order in orders.orders(10_000)
    ]
    with PostgresSink(given.to, table="ticks") as sink:
        sink.begin()
        sink.write(ticks)
        sink.commit()
    print(f"copy: {len(ticks):,} ticks")


if __name__ == "__main__":
    run(
        main,
        __doc__,
        to="postgresql://postgres:{}@127.0.0.1:5432/market",
        variable="POSTGRES_PASSWORD",
    )
