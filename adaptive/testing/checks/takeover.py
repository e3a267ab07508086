"""Two runs of one load."""

from __future__ import annotations

from contextlib import closing

from adaptive.testing.checks.items import fails, ids, items, started
from adaptive.testing.checks.registry import check
from adaptive.testing.checks.threads import waits
from adaptive.testing.lab import Lab, a_load, a_receipt


@check("append")
def the_loser_of_a_takeover_commits_nothing(lab: Lab) -> None:
    """Once a second run has prepared the load, the first one is told that it was taken over."""
    lab.make_items()
    first, second = a_load(), a_load()
    with closing(started(lab, first)) as old, closing(started(lab, second)) as new:
        with fails(old, "taken_over"):
            old.begin(a_receipt(first, "late", 0, 0))
        old.rollback()
        assert new.begin(a_receipt(second, "mine", 0, 0))
        new.write(items(1, 1))
        new.commit()
    assert ids(lab) == [1]


@check("append", "transactional")
def a_takeover_waits_for_a_commit_under_way(lab: Lab) -> None:
    """`prepare` of a second run returns only after an open transaction of the first has ended."""
    lab.make_items()
    first, second = a_load(), a_load()
    with closing(started(lab, first)) as old, closing(started(lab)) as new:
        assert old.begin(a_receipt(first, "one", 0, 0))
        old.write(items(1, 1))
        waits(lambda: new.prepare(second), until=old.commit)
        assert new.receipts("load") == [([[0, 0, 0]], 1, [])]


@check("append")
def finish_is_refused_after_a_takeover(lab: Lab) -> None:
    """Only the owner of the splits may call a load done."""
    lab.make_items()
    first, second = a_load(), a_load()
    with closing(started(lab, first)) as old, closing(started(lab, second)) as new:
        with fails(old, "taken_over"):
            old.finish(first)
        assert [row["state"] for row in new.loads()] == ["running"]
