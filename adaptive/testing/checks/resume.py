"""Loads that end early, and the runs that go on with them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from adaptive.ledger import Committed
from adaptive.protocols import Sink
from adaptive.rows import Chunk, Row
from adaptive.testing.checks.items import fails, ids, items, started
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load, a_receipt

ROWS = items(0, 99)


def write_batch(sink: Sink, load: dict[str, Any], first: int, rows: Sequence[Row]) -> None:
    """Write the rows that stand at `first` and behind it in the source, without a commit."""
    last = first + len(rows) - 1
    assert sink.begin(a_receipt(load, f"{load['owner']} {first}", first, last))
    assert sink.write(rows) == []


def run_on(lab: Lab, size: int, **options: Any) -> int:
    """Load what is missing in batches of a size, and finish; return how many rows that were."""
    load, written = a_load(), 0
    with closing(started(lab, load, **options)) as sink:
        done = Committed(sink.receipts("load"))
        for first in range(0, len(ROWS), size):
            rows = ROWS[first : first + size]
            for part in done.missing(Chunk(first, len(rows), rows)):
                write_batch(sink, load, part.first, part.rows)
                sink.commit()
                written += len(part)
        sink.finish(load)
        [entry] = sink.loads()
        assert (entry["state"], entry["rows"], entry["rejected"]) == ("done", 99, 1)
    return written


def stop_early(lab: Lab, **options: Any) -> None:
    """Commit batches of 3 in any order, one row rejected, and leave one more without its commit."""
    load = a_load()
    with closing(started(lab, load, **options)) as sink:
        for first in (96, 0, 30, 3, 63):  # writers side by side: what is committed is no prefix
            write_batch(sink, load, first, ROWS[first : first + 3])
            sink.commit()
        assert sink.begin(a_receipt(load, "with a reject", 60, 62, rejected=[[0, 61]]))
        assert sink.write([ROWS[60], ROWS[62]]) == []
        sink.commit([[0, 61]], 2)
        write_batch(sink, load, 9, ROWS[9:12])


def resumes(lab: Lab, **options: Any) -> None:
    """Stop a load early and run it on in larger batches; then nothing more goes into it."""
    lab.make_items()
    stop_early(lab, **options)
    assert run_on(lab, 7, **options) == 82
    assert ids(lab) == [number for number in range(100) if number != 61]
    late = a_load()
    with closing(started(lab, late, **options)) as sink:
        with fails(sink, "taken_over"):
            sink.begin(a_receipt(late, "late", 61, 61))
        sink.rollback()
        assert [entry["state"] for entry in sink.loads()] == ["done"]


@check("append")
def a_load_goes_on_with_batches_of_another_size(lab: Lab) -> None:
    """What receipts name is skipped, all else is written: every row once, the rejected one never."""
    resumes(lab)


@check("upsert")
def an_upsert_goes_on_with_batches_of_another_size(lab: Lab) -> None:
    """The same in mode upsert."""
    resumes(lab, mode="upsert", key=("item_id",))


@check("replace")
def a_replacement_goes_on_with_batches_of_another_size(lab: Lab) -> None:
    """The same in mode replace."""
    resumes(lab, mode="replace")
