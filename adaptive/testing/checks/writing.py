"""What a transaction writes."""

from __future__ import annotations

from contextlib import closing

from adaptive.rows import Row
from adaptive.testing.checks.items import ITEMS, ids, items, started, table_of
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load, a_receipt


@check("append")
def append_writes_rows_once(lab: Lab) -> None:
    """Rows written without a load are there after the commit, and only then."""
    lab.make_items()
    with closing(started(lab)) as sink:
        assert sink.begin()
        assert sink.write(items(1, 3)) == []
        sink.commit()
    assert [dict(row) for row in items(1, 3)] == sorted(lab.rows("items"), key=lambda row: row["item_id"])


@check("append", "transactional")
def rollback_leaves_nothing(lab: Lab) -> None:
    """Rows and receipt go together when a transaction is rolled back."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load)) as sink:
        assert sink.begin(a_receipt(load, "one", 0, 2))
        sink.write(items(1, 3))
        sink.rollback()
        assert sink.receipts("load") == []
        assert sink.begin(a_receipt(load, "one", 0, 2))
        sink.write(items(1, 3))
        sink.commit()
        assert sink.receipts("load") == [([[0, 0, 2]], 3, [])]
    assert ids(lab) == [1, 2, 3]


@check("append", "arrow")
def arrow_and_mappings_write_the_same(lab: Lab) -> None:
    """A table of Arrow columns gives the rows that mappings give."""
    lab.make_items()
    rows: list[Row] = [
        {"item_id": 1, "name": None, "amount": 1},
        *items(2, 5),
        {"item_id": 6, "name": "", "amount": None},
    ]
    shifted = [{**row, "item_id": row["item_id"] + 100} for row in rows]
    sink = lab.sink("items")
    sink.open()
    with closing(sink):
        columns = sink.prepare(a_load(), ITEMS)
        sink.begin()
        assert sink.write(rows) == []
        assert sink.write_arrow(table_of(shifted, columns)) == []
        sink.commit()
    found = {row["item_id"]: (row["name"], row["amount"]) for row in lab.rows("items")}
    assert all(
        found[row["item_id"]] == found[row["item_id"] + 100] == (row["name"], row["amount"]) for row in rows
    )


@check("append")
def an_empty_write_is_nothing(lab: Lab) -> None:
    """No rows, a receipt: the transaction commits."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load)) as sink:
        assert sink.begin(a_receipt(load, "empty", 0, 4))
        assert sink.write([]) == []
        sink.commit([[0, ordinal] for ordinal in range(5)], 0)
        assert sink.receipts("load") == [([[0, 0, 4]], 0, [[0, ordinal] for ordinal in range(5)])]
    assert ids(lab) == []


@check("append", "transactional")
def a_failed_write_leaves_the_transaction_usable(lab: Lab) -> None:
    """A bad row undoes its write alone, or is left out of it; what came before and after is committed."""
    lab.make_items()
    with closing(started(lab)) as sink:
        sink.begin()
        sink.write(items(1, 2))
        try:
            refused = sink.write([*items(3, 4), {"item_id": 6, "name": "bad", "amount": -1}])
        except Exception as error:
            assert sink.classify(error) == "reject"
            assert not sink.doomed
            kept = []
        else:
            assert [index for index, _, _ in refused] == [2]
            kept = [3, 4]
        sink.write(items(5, 5))
        sink.commit()
    assert ids(lab) == [1, 2, *kept, 5]
