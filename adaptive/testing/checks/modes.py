"""The modes ignore, upsert and replace."""

from __future__ import annotations

from contextlib import closing

from adaptive.testing.checks.items import ids, items, started
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
