"""Several tables in one commit: documents and their children, by `Sink.beside`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa

from adaptive.isolation import Isolation
from adaptive.protocols import Sink
from adaptive.rows import Row
from adaptive.testing.checks.items import fails, table_of
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load, a_receipt

SCHEMAS = {
    "orders": pa.schema({"order_id": pa.int64(), "name": pa.string()}),
    "fills": pa.schema({"fill_id": pa.int64(), "order_id": pa.int64(), "quantity": pa.int64()}),
}


def orders(first: int, last: int, name: str = "order") -> list[Row]:
    """Return orders with the ids `first` … `last`."""
    return [{"order_id": number, "name": f"{name} {number}"} for number in range(first, last + 1)]


def fills(first: int, last: int) -> list[Row]:
    """Return ten fills of each order `first` … `last`."""
    return [
        {"fill_id": 10 * order + part, "order_id": order, "quantity": part + 1}
        for order in range(first, last + 1)
        for part in range(10)
    ]


@contextmanager
def both(lab: Lab, load: dict[str, Any], **options: Any) -> Iterator[tuple[Sink, Sink]]:
    """Yield sinks for the tables `orders` and, beside it, `fills`, prepared for a load."""
    with closing(lab.sink("orders")) as sink:
        sink.open()
        sink.prepare(load)
        beside = sink.beside("fills", **options)
        beside.prepare(load)
        yield sink, beside


def found(lab: Lab) -> tuple[list[int], list[int]]:
    """Return the ids of the orders and of the fills that are there."""
    return (
        sorted(row["order_id"] for row in lab.rows("orders")),
        sorted(row["fill_id"] for row in lab.rows("fills")),
    )


def expected(first: int, last: int, without: Sequence[int] = ()) -> tuple[list[int], list[int]]:
    """Return the ids of orders and of their fills, without some of these."""
    children = [row["fill_id"] for row in fills(first, last) if row["fill_id"] not in without]
    return list(range(first, last + 1)), children


@check("append", "tables")
def parents_children_and_receipt_are_committed_together(lab: Lab) -> None:
    """In writes that alternate, and in further transactions of the same sinks."""
    lab.make_orders()
    load = a_load()
    with both(lab, load) as (sink, beside):
        for number, first in enumerate((1, 11)):
            assert sink.begin(a_receipt(load, f"batch {number}", first, first + 9))
            for part in (first, first + 5):
                assert sink.write(orders(part, part + 4)) == []
                assert beside.write(fills(part, part + 4)) == []
            sink.commit()
        assert sink.begin(a_receipt(load, "batch 1", 11, 20)) is False
        assert [rows for _, rows, _ in sink.receipts("load")] == [10, 10]
        assert (beside.receipts("load"), beside.loads()) == ([], [])
        sink.finish(load)
        beside.finish(load)
    assert found(lab) == expected(1, 20)


@check("append", "tables", "arrow")
def several_tables_take_arrow(lab: Lab) -> None:
    """Parents and children as Arrow tables."""
    lab.make_orders()
    with both(lab, a_load()) as (sink, beside):
        sink.begin()
        assert sink.write_arrow(table_of(orders(1, 1_000), sink.columns())) == []
        assert beside.write_arrow(table_of(fills(1, 1_000), beside.columns())) == []
        sink.commit()
    assert found(lab) == expected(1, 1_000)


@check("append", "tables")
def a_rollback_takes_all_tables(lab: Lab) -> None:
    """Rows of every table go, and so does the receipt; what comes next is not disturbed."""
    lab.make_orders()
    load = a_load()
    with both(lab, load) as (sink, beside):
        assert sink.begin(a_receipt(load, "one", 0, 4))
        sink.write(orders(1, 5))
        beside.write(fills(1, 5))
        sink.rollback()
        assert sink.receipts("load") == []
        assert found(lab) == ([], [])
        assert sink.begin(a_receipt(load, "one", 0, 4))
        sink.write(orders(1, 5))
        beside.write(fills(1, 5))
        sink.commit()
    assert found(lab) == expected(1, 5)


@check("append", "tables")
def a_bad_child_leaves_its_parent_and_its_siblings(lab: Lab) -> None:
    """Children that break a check, have no parent, or come twice are isolated; all others are written."""
    lab.make_orders()
    children = fills(1, 100)
    bad = {0: {"quantity": -1}, 500: {"order_id": 7_777}, 999: {"fill_id": children[998]["fill_id"]}}
    gone = [children[index]["fill_id"] for index in bad]
    for index, change in bad.items():
        children[index] = {**children[index], **change}
    with both(lab, a_load()) as (sink, beside):
        sink.begin()
        assert sink.write(orders(1, 100)) == []
        refused = [index for index, _, _ in Isolation(children, beside.write, beside)]
        assert not sink.doomed
        assert sink.write(orders(101, 101)) == []
        assert beside.write(fills(101, 101)) == []
        sink.commit()
    assert refused == sorted(bad)
    assert found(lab) == expected(1, 101, gone)


@check("append", "tables")
def a_bad_parent_leaves_what_was_written_beside_it(lab: Lab) -> None:
    """A write that fails in one table takes nothing from another."""
    lab.make_orders()
    with both(lab, a_load()) as (sink, beside):
        sink.begin()
        sink.write(orders(1, 2))
        beside.write(fills(1, 2))
        again = [*orders(3, 3), *orders(1, 1), *orders(4, 4)]
        assert [index for index, _, _ in Isolation(again, sink.write, sink)] == [1]
        beside.write(fills(3, 4))
        sink.commit()
    assert found(lab) == expected(1, 4)


@check("upsert", "ignore", "tables")
def each_table_has_its_own_mode(lab: Lab) -> None:
    """Parents are appended; children are updated, or left out and counted."""
    lab.make_orders()
    with both(lab, a_load(), mode="upsert", key=("fill_id",)) as (sink, beside):
        leaving = sink.beside("fills", mode="ignore", key=("fill_id",))
        sink.begin()
        sink.write(orders(1, 2))
        beside.write(fills(1, 1))
        beside.write([{**row, "quantity": 99} for row in fills(1, 1)[:5]])
        leaving.write(fills(1, 2))
        assert leaving.duplicates == 10
        sink.commit()
    assert found(lab) == expected(1, 2)
    assert sum(row["quantity"] == 99 for row in lab.rows("fills")) == 5


@check("create", "tables")
def all_tables_are_made_by_prepare(lab: Lab) -> None:
    """The table beside is made with its key, and described, as the first one is; there is one load."""
    load = a_load()
    with closing(lab.sink("orders", key=("order_id",))) as sink:
        sink.open()
        sink.prepare(load, SCHEMAS["orders"])
        beside = sink.beside("fills", key=("fill_id",))
        assert [column[0] for column in beside.prepare(load, SCHEMAS["fills"])] == SCHEMAS["fills"].names
        assert [column[4] for column in beside.columns()] == [True, False, False]
        assert sink.begin(a_receipt(load, "one", 0, 2))
        sink.write(orders(1, 3))
        beside.write(fills(1, 3))
        sink.commit()
        assert len(sink.loads()) == 1
    assert found(lab) == expected(1, 3)


@check("append", "tables")
def a_missing_table_beside_is_named(lab: Lab) -> None:
    """And mode `replace` is refused there: it would need a ledger."""
    lab.make_orders()
    with both(lab, a_load()) as (sink, _):
        try:
            sink.beside("nowhere").prepare(a_load())
        except LookupError as error:
            assert "nowhere" in str(error)
        else:
            raise AssertionError("a missing table was not noticed")
        try:
            sink.beside("fills", mode="replace")
        except ValueError:
            return
        raise AssertionError("mode replace beside another table was not refused")


@check("append", "tables")
def all_tables_are_in_doubt_together(lab: Lab) -> None:
    """After a lost connection the batch goes into every table, once."""
    lab.make_orders()
    load = a_load()
    with both(lab, load) as (sink, beside):
        receipt = a_receipt(load, "one", 0, 2)
        assert sink.begin(receipt)
        sink.write(orders(1, 3))
        lab.break_links()
        try:
            beside.write(fills(1, 3))
            sink.commit()
        except Exception as error:
            assert sink.classify(error) == beside.classify(error) == "in_doubt"
            sink.rollback()
            sink.close()
            sink.open()
            if sink.begin(receipt):
                sink.write(orders(1, 3))
                beside.write(fills(1, 3))
                sink.commit()
    assert found(lab) == expected(1, 3)


@check("append", "transactional")
def a_deferred_constraint_fails_before_the_commit(lab: Lab) -> None:
    """The first attempt learns of it at the end; in the second its rows are isolated, the others written."""
    lab.make_orders(deferred=True)
    load = a_load()
    with closing(lab.sink("orders")) as parents, closing(lab.sink("fills")) as sink:
        parents.open()
        parents.begin()
        parents.write(orders(1, 10))
        parents.commit()
        sink.open()
        sink.prepare(load)
        rows = [
            {**row, "order_id": 7_777} if index in (0, 55) else row for index, row in enumerate(fills(1, 10))
        ]
        receipt = a_receipt(load, "one", 0, 99)
        assert sink.begin(receipt)
        with fails(sink, "reject"):
            sink.write(rows)
            sink.commit()
        sink.rollback()
        assert sink.receipts("load") == []
        assert sink.begin(receipt)
        refused = [index for index, _, _ in Isolation(rows, sink.write, sink)]
        assert refused == [0, 55]
        sink.commit([[0, index] for index in refused], 98)
        assert sink.receipts("load") == [([[0, 0, 99]], 98, [[0, 0], [0, 55]])]
    assert found(lab) == expected(1, 10, [10, 65])
