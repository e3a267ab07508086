"""The ledger: a batch once, a load done once."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from adaptive.testing.checks.items import ids, items, started
from adaptive.testing.checks.registry import check
from adaptive.testing.checks.threads import waits
from adaptive.testing.lab import Lab, a_load, a_receipt


@check("append")
def a_repeated_batch_is_a_no_op(lab: Lab) -> None:
    """`begin` says False for a committed batch, on the same connection and on another."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load)) as sink, closing(started(lab)) as other:
        assert sink.begin(a_receipt(load, "one", 0, 1))
        sink.write(items(1, 2))
        sink.commit()
        assert sink.begin(a_receipt(load, "one", 0, 1)) is False
        assert other.begin(a_receipt(load, "one", 0, 1)) is False
        assert sink.begin(a_receipt(load, "two", 2, 3))
        sink.write(items(3, 4))
        sink.commit()
    assert ids(lab) == [1, 2, 3, 4]


@check("append", "transactional")
def a_second_attempt_at_a_batch_waits_for_the_first(lab: Lab) -> None:
    """It learns what became of that: committed, or rolled back, and then it writes the batch itself."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load)) as first, closing(started(lab)) as second:
        for number, end in enumerate((first.commit, first.rollback)):
            receipt = a_receipt(load, f"batch {number}", number, number)
            assert first.begin(receipt)
            first.write(items(number, number))
            assert waits(partial(second.begin, receipt), until=end) is (number == 1)
        second.write(items(1, 1))
        second.commit()
        assert [rows for _, rows, _ in second.receipts("load")] == [1, 1]
    assert ids(lab) == [0, 1]


@check("append")
def a_live_receipt_takes_the_place_of_the_one_before(lab: Lab) -> None:
    """With `replaces`, the ledger of an endless load does not grow."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load)) as sink:
        for number in range(1, 6):
            before = f"batch {number - 1}" if number > 1 else None
            assert sink.begin(a_receipt(load, f"batch {number}", number, number, replaces=before))
            sink.write(items(number, number))
            sink.commit()
        assert sink.receipts("load") == [([[0, 5, 5]], 1, [])]
    assert ids(lab) == [1, 2, 3, 4, 5]


@check("append")
def finish_marks_the_load_done_for_good(lab: Lab) -> None:
    """A done load keeps its counts and its rejects; preparing it again changes nothing."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load)) as sink:
        for batch, first in (("one", 0), ("two", 3)):
            assert sink.begin(a_receipt(load, batch, first, first + 2))
            sink.write(items(first, first + 1))
            sink.commit([[0, first + 2]], 2)
        assert [(row["load"], row["state"]) for row in sink.loads()] == [("load", "running")]
        sink.finish(load)
        sink.finish(load)
        sink.prepare(a_load())
        [row] = sink.loads()
        assert (row["state"], row["rows"], row["rejected"]) == ("done", 4, 2)
        assert row["finished_at"] is not None
        assert row["source"] == "orders.csv"
        rejected = [position for _, _, positions in sink.receipts("load") for position in positions]
        assert sorted(rejected) == [[0, 2], [0, 5]]


@check("append")
def loads_that_run_are_counted_from_their_receipts(lab: Lab) -> None:
    """Each by itself, beside loads that are done; one that has committed nothing yet counts nothing."""
    lab.make_items()
    with closing(started(lab)) as sink:
        for number, (name, batches) in enumerate((("done", 1), ("running", 1), ("other", 2), ("new", 0))):
            sink.prepare(load := a_load(name))
            for first in range(0, 3 * batches, 3):
                assert sink.begin(a_receipt(load, f"batch {first}", first, first + 2))
                sink.write(items(100 * number + first, 100 * number + first + 1))
                sink.commit([[0, first + 2]], 2)
            if name == "done":
                sink.finish(load)
        found = {row["load"]: (row["state"], row["rows"], row["rejected"]) for row in sink.loads()}
    assert found == {
        "done": ("done", 2, 1),
        "running": ("running", 2, 1),
        "other": ("running", 4, 2),
        "new": ("running", 0, 0),
    }


@check("append")
def a_database_without_a_ledger_knows_no_loads(lab: Lab) -> None:
    """`loads` and `receipts` of an untouched database are empty, and make nothing."""
    lab.make_items()
    with closing(started(lab)) as sink:
        assert sink.loads() == []
        assert sink.receipts("load") == []
        assert sink.empty()


@check("append")
def without_a_ledger_rows_are_written_all_the_same(lab: Lab) -> None:
    """With `ledger=None` nothing is kept about loads; mode `replace`, which needs to know, is refused."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load, ledger=None)) as sink:
        sink.begin()
        assert sink.write(items(1, 3)) == []
        sink.commit()
        sink.finish(load)
        assert (sink.loads(), sink.receipts("load")) == ([], [])
    with closing(started(lab)) as sink:
        assert sink.loads() == []
    assert ids(lab) == [1, 2, 3]
    try:
        lab.sink("items", mode="replace", ledger=None)
    except ValueError:
        return
    raise AssertionError("mode replace without a ledger was not refused")
