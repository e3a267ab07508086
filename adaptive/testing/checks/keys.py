"""Idempotency keys."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from adaptive.protocols import Sink
from adaptive.testing.checks.items import ITEMS, ids, items, started
from adaptive.testing.checks.registry import check
from adaptive.testing.checks.threads import waits
from adaptive.testing.lab import Lab, a_load


def keyed(lab: Lab, **options: Any) -> Sink:
    """Return an open sink for `items` that may claim idempotency keys."""
    return started(lab, {**a_load(), "keys": True}, **options)


def claimed(sink: Sink, *keys: str) -> set[str]:
    """Claim keys in a transaction that is committed."""
    sink.begin()
    fresh = sink.claim(keys)
    sink.commit()
    return fresh


@check("keys")
def a_key_is_claimed_once(lab: Lab) -> None:
    """By whatever connection and run, and for each table by itself."""
    lab.make_items()
    with closing(keyed(lab)) as sink:
        assert claimed(sink, "b", "a", "A", "a ", "ä", "it's") == {"a", "A", "a ", "b", "ä", "it's"}
        assert claimed(sink, "a", "c") == {"c"}
    with closing(keyed(lab)) as later:
        assert claimed(later, "a", "A", "c", "d") == {"d"}
    with closing(lab.sink("others")) as other:
        other.open()
        other.prepare({**a_load("other"), "keys": True}, ITEMS)
        assert claimed(other, "a") == {"a"}


@check("keys")
def claims_go_with_the_transaction(lab: Lab) -> None:
    """A rollback frees them, and so does `release`; a write that fails does not."""
    lab.make_items()
    with closing(keyed(lab)) as sink:
        sink.begin()
        assert sink.claim(["a"]) == {"a"}
        sink.rollback()
        sink.begin()
        assert sink.claim(["a", "b", "c"]) == {"a", "b", "c"}
        try:
            sink.write([{"item_id": 1, "name": "bad", "amount": -1}])
        except Exception as error:
            assert sink.classify(error) == "reject"
        sink.write(items(2, 2))
        sink.release(["b", "c"])
        sink.write(items(3, 3))
        sink.commit()
        assert claimed(sink, "a", "b", "c") == {"b", "c"}
    assert ids(lab) == [2, 3]


@check("keys")
def a_claim_waits_for_one_under_way(lab: Lab) -> None:
    """What it gets depends on how the other transaction ends."""
    lab.make_items()
    with closing(keyed(lab)) as first, closing(started(lab)) as second:
        ends: dict[str, Callable[[], None]] = {"a": first.commit, "b": first.rollback, "c": first.commit}
        for key, end in ends.items():
            first.begin()
            first.claim([key])
            if key == "c":
                first.release([key])
            assert waits(partial(claimed, second, key), until=end) == (set() if key == "a" else {key})


@check("keys", "create")
def a_table_that_is_made_anew_has_no_keys(lab: Lab) -> None:
    """Even if the load that makes it claims none."""
    with closing(lab.sink("made")) as sink:
        sink.open()
        sink.prepare({**a_load(), "keys": True}, ITEMS)
        assert claimed(sink, "a") == {"a"}
    lab.drop("made")
    with closing(lab.sink("made")) as sink:
        sink.open()
        sink.prepare(a_load(), ITEMS)
        sink.prepare({**a_load("next"), "keys": True})
        assert claimed(sink, "a") == {"a"}
