"""What `doctor` says, and how missing rights are named."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from adaptive.protocols import Sink
from adaptive.testing.checks.items import ITEMS, fails, ids, items, started
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load, a_receipt

ROUNDS = 5  # a right that is given may bring to light that another one is missing, but not for ever


@check("append")
def advice_is_given(lab: Lab) -> None:
    """`doctor` says something about a table that can be loaded, and changes nothing."""
    lab.make_items()
    with closing(started(lab)) as sink:
        assert sink.doctor()
        assert sink.doctor() == sink.doctor()
        assert sink.loads() == []
    assert ids(lab) == []


def prepared(lab: Lab, sink: Sink, load: dict[str, Any], **options: Any) -> list[str]:
    """Prepare a load, doing what the sink advises until it can; return the statements that took."""
    done: list[str] = []
    for _ in range(ROUNDS):
        try:
            sink.prepare(load, **options)
        except PermissionError as error:
            wanted = lab.statements(str(error))
            advised = [statement for line in sink.doctor() for statement in lab.statements(line)]
            assert wanted, f"no statement in {error}"
            assert set(wanted) <= set(advised), f"doctor does not say {wanted}, but {advised}"
            assert not set(wanted) & set(done), f"{wanted} did not help"
            for statement in wanted:
                lab.mend(statement)
            done += wanted
        else:
            return done
    raise AssertionError(f"no end of advice: {done}")


def loads(sink: Sink, load: dict[str, Any], first: int) -> None:
    """Load a row."""
    assert sink.begin(a_receipt(load, "one", 0, 0))
    assert sink.write(items(first, first)) == []
    sink.commit()
    sink.finish(load)


@check("append", "upsert")
def missing_rights_are_named_with_what_mends_them(lab: Lab) -> None:
    """By `prepare`, as PermissionError, and by `doctor`: when that is done, the load goes through."""
    lab.make_items()
    with lab.stranger() as stranger:
        for number, mode in enumerate(("append", "upsert", "append")):
            load = a_load(f"{mode} {number}")
            with closing(stranger.sink("items", mode=mode, key=("item_id",))) as sink:
                sink.open()
                took = prepared(lab, sink, load)
                assert took or number, "a user without rights could prepare a load"
                assert not (took and number == 2), f"rights that were there are asked for: {took}"
                loads(sink, load, number)
        assert ids(lab) == [0, 1, 2]


@check("create")
def the_right_to_make_a_table_is_named(lab: Lab) -> None:
    """The same for a table that is to be made."""
    with lab.stranger() as stranger, closing(stranger.sink("made")) as sink:
        sink.open()
        load = a_load()
        assert prepared(lab, sink, load, schema=ITEMS)
        loads(sink, load, 1)
        assert ids(lab, "made") == [1]


@check("append")
def a_write_without_a_right_is_fatal(lab: Lab) -> None:
    """No row is blamed for it."""
    lab.make_items()
    with lab.stranger() as stranger, closing(stranger.sink("items")) as sink:
        sink.open()
        with fails(sink, "fatal"):
            sink.begin()
            sink.write(items(1, 3))
        sink.rollback()
    assert ids(lab) == []
