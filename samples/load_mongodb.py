"""Loads market orders into MongoDB as nested documents, then adds their fills live.

docker compose up -d
python samples/load_mongodb.py                  generated orders
python samples/load_mongodb.py orders.jsonl     documents, one a line, with their key in "_id"
"""

from __future__ import annotations

import argparse
from typing import Any

from shared import feed, run

import adaptive
from adaptive import orders


def document(order: orders.Order) -> dict[str, Any]:
    """Return an order as a document."""
    return {
        "_id": order["order_id"],
        "instrument": {"symbol": order["symbol"], "venue": order["venue"]},
        "side": order["side"],
        "quantity": order["quantity"],
        "price": order["price"],  # a Decimal128, digit for digit
        "trader": {"id": order["trader_id"], "words": (order["note"] or "").split()},
        "placed_at": order["placed_at"],  # MongoDB keeps milliseconds
    }


def main(given: argparse.Namespace) -> None:
    """Upsert documents, then add a field to some of them."""
    # A collection needs no CREATE. The key is _id, unless `key` names fields with a unique index.
    documents = given.file or map(document, orders.orders(given.orders))
    print("load:", adaptive.load(documents, given.to, table="orders", mode="upsert"))

    # An upsert sets the fields that a record has and leaves the others alone: a fill joins its order.
    fills = (
        {"_id": order["order_id"], "fills": [{"quantity": order["quantity"]}]}
        for order in orders.orders(1_000)
    )
    with adaptive.Pipeline(given.to, table="orders", mode="upsert") as pipeline:
        feed(pipeline, fills)


if __name__ == "__main__":
    run(
        main,
        __doc__,
        to="mongodb://adaptive:{}@127.0.0.1:27017/market?authSource=admin",
        variable="MONGO_PASSWORD",
    )
