"""What errors mean, and which row they blame."""

from __future__ import annotations

import threading
from contextlib import closing
from functools import partial
from typing import Any

from adaptive.protocols import Sink, Verdict
from adaptive.rows import Row
from adaptive.testing.checks.items import fails, ids, items, started, table_of
from adaptive.testing.checks.registry import check
from adaptive.testing.checks.threads import side_by_side
from adaptive.testing.lab import Lab, a_load, a_receipt


def blames(sink: Sink, rows: Any, bad: int) -> None:
    """Write rows of which one is bad: the sink returns it, or its error hints at no other."""
    try:
        refused = sink.write_arrow(rows) if hasattr(rows, "schema") else sink.write(rows)
    except Exception as error:
        assert sink.classify(error) == "reject", error
        assert sink.hint(error) in (None, bad), f"row {sink.hint(error)}, not {bad}: {error}"
    else:
        assert [index for index, _, _ in refused] == [bad]
        assert all(code and reason for _, code, reason in refused)


@check("append")
def a_violated_constraint_is_a_reject_of_its_row(lab: Lab) -> None:
    """First, between, or last; as mappings and as Arrow. A hint may be missing, but is never wrong."""
    lab.make_items([{"item_id": 0, "name": "there", "amount": 1}])
    for number, (bad, change) in enumerate(((0, {"item_id": 0}), (5, {"amount": -1}), (9, {"item_id": 0}))):
        rows = items(20 * number + 1, 20 * number + 10)
        rows[bad] = {**rows[bad], **change}
        with closing(started(lab)) as sink:
            sink.begin()
            blames(sink, rows, bad)
            sink.rollback()
            if "arrow" in sink.capabilities and "transactional" in sink.capabilities:
                sink.begin()
                blames(sink, table_of(rows, sink.columns()), bad)
                sink.rollback()
    assert "transactional" not in sink.capabilities or ids(lab) == [0]


@check("create")
def a_table_that_is_gone_is_fatal(lab: Lab) -> None:
    """No other try and no other row would help."""
    lab.make_items()
    with closing(started(lab, a_load())) as sink:
        lab.drop("items")
        with fails(sink, "fatal"):
            sink.begin()
            sink.write(items(1, 1))
        sink.rollback()


@check("append")
def an_error_that_is_not_the_databases_is_fatal(lab: Lab) -> None:
    """A mistake in a program is not tried again, and costs no row."""
    sink = lab.sink("items")
    for error in (KeyError("k"), TypeError("t"), ZeroDivisionError(), RuntimeError("r")):
        assert sink.classify(error) == "fatal"
        assert sink.hint(error) is None


def delivers(lab: Lab, sink: Sink, receipt: dict[str, Any], rows: list[Row], *, cut_before: str) -> None:
    """Write a batch; when its connection is lost, connect anew, begin it again, and do what is left to do."""
    assert sink.begin(receipt)
    try:
        for step, take in (("write", partial(sink.write, rows)), ("commit", sink.commit)):
            if step == cut_before:
                lab.break_links()
            take()
    except Exception as error:
        assert sink.classify(error) == "in_doubt", error
        sink.rollback()
        sink.close()
        sink.open()
        if sink.begin(receipt):
            sink.write(rows)
            sink.commit()


@check("append")
def a_lost_connection_is_in_doubt_and_the_batch_can_be_begun_again(lab: Lab) -> None:
    """Whatever is cut, the same batch goes in exactly once after connecting anew."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load)) as sink:
        for first, step in ((0, "write"), (3, "commit")):
            receipt = a_receipt(load, step, first, first + 2)
            delivers(lab, sink, receipt, items(first, first + 2), cut_before=step)
        assert sum(rows for _, rows, _ in sink.receipts("load")) == 6
    assert ids(lab) == list(range(6))


@check("append")
def a_connection_lost_between_batches_can_be_made_again(lab: Lab) -> None:
    """The next batch fails in doubt, or knows that nothing was applied; then it goes in."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load)) as sink:
        lab.break_links()
        receipt = a_receipt(load, "one", 0, 2)
        try:
            assert sink.begin(receipt)
        except Exception as error:
            assert sink.classify(error) in ("in_doubt", "retry"), error
            sink.close()
            sink.open()
            assert sink.begin(receipt)
        sink.write(items(1, 3))
        sink.commit()
    assert ids(lab) == [1, 2, 3]


@check("upsert", "transactional")
def a_deadlock_is_a_retry(lab: Lab) -> None:
    """Of two transactions that wait for each other one fails, and goes in when it is tried again."""
    lab.make_items(items(1, 2, "old"))
    meeting, outcomes = threading.Barrier(2, timeout=60), {}

    def attempt(sink: Sink, rows: list[Row], wait: bool) -> Verdict | None:
        sink.begin()
        sink.write(rows[:1])
        try:
            if wait:
                meeting.wait()
            sink.write(rows[1:])
        except Exception as error:
            verdict = sink.classify(error)
            sink.rollback()
            return verdict
        sink.commit()
        return None

    def write(writer: int) -> None:
        rows = items(1, 2, f"writer {writer}")
        with closing(started(lab, mode="upsert", key=("item_id",))) as sink:
            rows = rows[::-1] if writer else rows
            outcomes[writer] = attempt(sink, rows, wait=True)
            # The loser may come so early that both meet once more.
            while (last := attempt(sink, rows, wait=False) if outcomes[writer] else None) == "retry":
                pass
            assert last is None

    side_by_side(2, write)
    assert sorted(outcomes.values(), key=str) == [None, "retry"]
    assert len({row["name"].rpartition(" ")[0] for row in lab.rows("items")}) == 1
