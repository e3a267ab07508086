"""Several writers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from adaptive.protocols import Sink
from adaptive.rows import Row
from adaptive.testing.checks.items import ids, items, started
from adaptive.testing.checks.registry import check
from adaptive.testing.checks.threads import side_by_side
from adaptive.testing.lab import Lab, a_load, a_receipt


@check("append")
def several_writers_commit_side_by_side(lab: Lab) -> None:
    """Writers of one load wait for each other at the most; every batch is there once."""
    lab.make_items()
    load = a_load()
    started(lab, load).close()

    def write(writer: int) -> None:
        with closing(started(lab)) as sink:
            for batch in range(5):
                first = 1_000 * writer + 100 * batch
                assert sink.begin(a_receipt(load, f"{writer} {batch}", first, first + 99))
                assert sink.write(items(first, first + 99)) == []
                sink.commit()

    side_by_side(3, write)
    assert ids(lab) == [1_000 * writer + row for writer in range(3) for row in range(500)]
    with closing(started(lab)) as sink:
        assert sum(rows for _, rows, _ in sink.receipts("load")) == 1_500


def upsert(sink: Sink, rows: Sequence[Row]) -> None:
    """Write rows in a transaction of their own."""
    sink.begin()
    assert sink.write(rows) == []
    sink.commit()


@check("upsert")
def the_last_row_wins_whoever_writes_it(lab: Lab) -> None:
    """Rows go to writers by their key, in batches of any size; the last one of each key stays."""
    lab.make_items(items(0, 20, "old"))
    rows: list[Row] = [{"item_id": n % 50, "name": f"version {n}", "amount": n % 7 + 1} for n in range(600)]

    def write(writer: int) -> None:
        mine = [row for row in rows if row["item_id"] % 3 == writer]
        with closing(started(lab, mode="upsert", key=("item_id",))) as sink:
            for first in range(0, len(mine), 40 + writer):
                upsert(sink, mine[first : first + 40 + writer])

    side_by_side(3, write)
    found = {row["item_id"]: row for row in lab.rows("items")}
    assert found == {row["item_id"]: row for row in rows}


@check("upsert")
def writers_of_the_same_keys_do_not_deadlock(lab: Lab) -> None:
    """A write merges in the order of the keys, whatever the order of its rows."""
    lab.make_items(items(0, 99, "old"))

    def write(writer: int) -> None:
        with closing(started(lab, mode="upsert", key=("item_id",))) as sink:
            for batch in range(5):
                rows = items(0, 149, f"writer {writer} batch {batch}")
                upsert(sink, rows[::-1] if (writer + batch) % 2 else rows)

    side_by_side(3, write)
    assert ids(lab) == list(range(150))
    last = {f"writer {writer} batch 4 {number}" for writer in range(3) for number in range(150)}
    assert {row["name"] for row in lab.rows("items")} <= last
