"""The modes ignore, upsert and replace."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from adaptive.testing.checks.items import ids, isolated, items, started, table_of
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load, a_receipt


@check("ignore")
def ignore_keeps_what_is_there_and_the_first_of_a_batch(lab: Lab) -> None:
    """Rows whose key is there are left out and counted."""
    lab.make_items([{"item_id": 1, "name": "old", "amount": 1}])
    with closing(started(lab, mode="ignore", key=("item_id",))) as sink:
        sink.begin()
        sink.write([*items(1, 3, "first"), *items(2, 4, "second")])
        assert sink.duplicates == 3
        sink.commit()
    names = {row["item_id"]: row["name"] for row in lab.rows("items")}
    assert names == {1: "old", 2: "first 2", 3: "first 3", 4: "second 4"}


@check("ignore")
def ignore_refuses_what_is_no_duplicate(lab: Lab) -> None:
    """A row that violates another constraint is a reject, not a duplicate; the others are written."""
    lab.make_items([{"item_id": 1, "name": "old", "amount": 1}])
    rows = items(1, 100)
    rows[50] = {**rows[50], "amount": -1}
    with closing(started(lab, mode="ignore", key=("item_id",))) as sink:
        assert isolated(sink, rows)[0] == [50]
    assert ids(lab) == [number for number in range(1, 101) if number != 51]
    assert {row["name"] for row in lab.rows("items") if row["item_id"] == 1} == {"old"}


@check("upsert")
def an_upsert_that_violates_a_check_is_refused_alone(lab: Lab) -> None:
    """Whether it would insert or update; the row that is there stays as it was."""
    lab.make_items(items(1, 5, "old"))
    rows = items(1, 100, "new")
    for bad in (2, 70):
        rows[bad] = {**rows[bad], "amount": -1}
    with closing(started(lab, mode="upsert", key=("item_id",))) as sink:
        assert isolated(sink, rows)[0] == [2, 70]
    names = {row["item_id"]: row["name"] for row in lab.rows("items")}
    assert names == {number: f"new {number}" for number in range(1, 101) if number != 71} | {3: "old 3"}


@check("upsert")
def upsert_lets_the_last_row_win(lab: Lab) -> None:
    """Over batches and inside one; columns that are not written keep their values."""
    lab.make_items([{"item_id": 1, "name": "old", "amount": 7}])
    with closing(started(lab, mode="upsert", key=("item_id",))) as sink:
        sink.begin()
        sink.write([{"item_id": 1, "name": "a"}, {"item_id": 2, "name": "b"}, {"item_id": 1, "name": "c"}])
        sink.write([{"item_id": 2, "name": "d"}])
        sink.commit()
    assert {row["item_id"]: (row["name"], row["amount"]) for row in lab.rows("items")} == {
        1: ("c", 7),
        2: ("d", None),
    }


KEYS: list[tuple[pa.DataType, Sequence[Any]]] = [
    (pa.int64(), [-(2**63), 0, 2**63 - 1]),
    (pa.decimal128(18, 4), [Decimal("1.0000"), Decimal("1.0001"), Decimal("-1.0000")]),
    (pa.string(), ["", "a", "ä", "株式", "x" * 400]),
    (pa.date32(), [date.min, date(2024, 2, 29)]),
    (pa.timestamp("us", "UTC"), [datetime(2024, 2, 29, 12, 30, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)]),
    (pa.uuid(), [UUID(int=0), UUID(int=2**128 - 1)]),
]


@check("upsert")
def a_key_of_any_type_is_recognised(lab: Lab) -> None:
    """Within a write, in the next one, and in the next transaction, as mappings and as Arrow."""
    for kind, values in KEYS:
        schema = pa.schema({"value": kind, "version": pa.int64()})
        with closing(lab.sink("made", mode="upsert", key=("value",))) as sink:
            sink.open()
            columns = sink.prepare(a_load(f"keys of {kind}"), schema)
            a, b, c, d = ([{"value": value, "version": n} for value in values] for n in range(4))
            for writes in ([*a, *b], c), (d,):
                sink.begin()
                for rows in writes:
                    assert sink.write(rows) == []
                    if "arrow" in sink.capabilities:
                        assert sink.write_arrow(table_of(rows, columns)) == []
                sink.commit()
        assert [row["version"] for row in lab.rows("made")] == [3] * len(values), kind
        lab.drop("made")


@check("replace")
def replace_swaps_at_the_end_and_survives_a_resume(lab: Lab) -> None:
    """Old rows stay until `finish`; a resume keeps what was loaded beside them."""
    lab.make_items([{"item_id": 99, "name": "old", "amount": 1}])
    first, second = a_load(), a_load()
    with closing(started(lab, first, mode="replace")) as sink:
        assert sink.begin(a_receipt(first, "one", 0, 1))
        sink.write(items(1, 2))
        sink.commit()
    assert ids(lab) == [99]
    with closing(started(lab, second, mode="replace")) as sink:
        assert sink.receipts("load") == [([[0, 0, 1]], 2, [])]
        assert sink.begin(a_receipt(second, "two", 2, 3))
        sink.write(items(3, 4))
        sink.commit()
        assert ids(lab) == [99]
        sink.finish(second)
        sink.finish(second)
    assert ids(lab) == [1, 2, 3, 4]
