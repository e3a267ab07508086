"""What a laboratory offers to the conformance checks."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pyarrow as pa

from adaptive.protocols import Sink
from adaptive.rows import Row


class Lab(Protocol):
    """An empty database of one kind."""

    name: str
    url: str
    # Checks that this server, not the sink, cannot pass, and why; capabilities that the sink lacks, and why.
    deviations: Mapping[str, str]

    def sink(self, table: str, **options: Any) -> Sink:
        """Return a new sink for a table, not open."""

    def make_items(self, rows: Sequence[Row] = ()) -> None:
        """Make the table `items` with the raw driver.

        Its columns: item_id (integer, the key), name (text of up to 200 characters) and amount (integer
        above 0).
        """

    def make_orders(self, *, deferred: bool = False) -> None:
        """Make the tables `orders` and `fills` with the raw driver. Only for sinks that are "transactional".

        `orders`: order_id (integer, the key), name (text). `fills`: fill_id (integer, the key), order_id (of
        an order that there is; with `deferred`, only at a commit), quantity (integer above 0).
        """

    def drop(self, table: str) -> None:
        """Drop a table with the raw driver."""

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table, read with the raw driver, in any order.

        Without what a sink adds by itself, such as MongoDB's `_id`.
        """

    def stored(self, kind: pa.DataType, value: Any) -> Any:
        """Return what `rows` gives for a value (not NULL) in a column that a sink made for a type.

        That is the database's natural form: a date in SQLite is text. For JSON text, lists and structs may
        be returned as they are. Raises ValueError for a value that the database cannot hold, and that has
        to be refused.
        """

    def stranger(self) -> AbstractContextManager[Lab]:
        """Yield this database as a user without rights on its tables has it."""

    def statements(self, text: str) -> list[str]:
        """Return the statements in a text that tells such a user which rights are missing."""

    def mend(self, statement: str) -> None:
        """Run such a statement, as somebody who may."""

    def break_links(self) -> None:
        """Cut every connection that sinks hold, from the server's side, if there is a server."""


def a_load(load: str = "load", splits: Sequence[int] = (0,)) -> dict[str, Any]:
    """Return what `prepare` takes for a load, with an owner of its own."""
    return {
        "load": load,
        "fingerprint": f"fingerprint of {load}",
        "source": "orders.csv",
        "mapping": "{}",
        "owner": secrets.token_hex(16),
        "splits": list(splits),
    }


def a_receipt(load: dict[str, Any], batch: str, first: int, last: int, **more: Any) -> dict[str, Any]:
    """Return the receipt of a batch of split 0."""
    return {
        "load": load["load"],
        "owner": load["owner"],
        "batch": batch,
        "segments": [[0, first, last]],
        "rejected": [],
        "rows": last - first + 1,
        "replaces": None,
        **more,
    }
