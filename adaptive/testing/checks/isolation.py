"""Bad rows are found, and all the others written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from adaptive.isolation import Isolation
from adaptive.rows import Row
from adaptive.testing.checks.items import ITEMS, ids, isolated, items, started, table_of
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load, a_receipt

Spoil = Callable[[Row, Sequence[Row]], Row]  # a row, and those before it in the same write


def taken(row: Row, _: Sequence[Row]) -> Row:
    """Return a row with the key of one that the table has."""
    return {**row, "item_id": 0}


def out_of_bounds(row: Row, _: Sequence[Row]) -> Row:
    """Return a row that violates the table's check."""
    return {**row, "amount": -1}


def repeated(_: Row, before: Sequence[Row]) -> Row:
    """Return a row with the key of the one before it in the same write."""
    return {**before[-1], "name": "again"} if before else {"item_id": 0, "name": "taken", "amount": 1}


def isolates_one_row(lab: Lab, spoil: Spoil) -> None:
    """Write 1, 10, 1,000 and 10,000 rows of which the first, the last or one between is spoilt."""
    lab.make_items([{"item_id": 0, "name": "there", "amount": 1}])
    first, expected = 1, [0]
    with closing(started(lab)) as sink:
        for size in (1, 10, 1_000, 10_000):
            for place in sorted({0, size // 2, size - 1}):
                rows = items(first, first + size - 1)
                rows[place] = spoil(rows[place], rows[:place])
                refused, writes = isolated(sink, rows)
                assert refused == [place], (size, place)
                assert writes <= 25, f"{writes} writes for one bad row in {size}"
                expected += [first + index for index in range(size) if index != place]
                first += size
    assert ids(lab) == expected


@check("append")
def a_row_whose_key_is_taken_is_isolated(lab: Lab) -> None:
    """Wherever it stands, only it is refused."""
    isolates_one_row(lab, taken)


@check("append")
def a_row_whose_key_is_repeated_is_isolated(lab: Lab) -> None:
    """Of two rows of one write with the same key the first goes in."""
    isolates_one_row(lab, repeated)


@check("append")
def a_row_that_violates_a_check_is_isolated(lab: Lab) -> None:
    """Wherever it stands, only it is refused."""
    isolates_one_row(lab, out_of_bounds)


def unknown(row: Row, _: Sequence[Row]) -> Row:
    """Return a row with a column that the table lacks."""
    return {**row, "colour": "red"}


@check("create")
def a_row_with_an_unknown_column_is_isolated(lab: Lab) -> None:
    """A producer that says too much loses that row only."""
    isolates_one_row(lab, unknown)


# Rows without a column that could be written, and what the reason has to say. `write` is given whatever a
# program makes, not only what a source reads, hence the names that are no text.
NAMELESS: list[tuple[Mapping[Any, Any], str]] = [
    ({}, "empty"), ({7: 5}, "7"), ({(8, 9): 5}, "(8, 9)"), ({6: 5, "colour": "red"}, "6")
]  # fmt: skip


@check("append")
def a_row_without_a_column_to_write_to_is_isolated(lab: Lab) -> None:
    """Alone, beside its like and among good rows, in every mode; a schemaless sink may write an empty one."""
    for mode in ("append", "ignore", "upsert", "replace"):
        if mode in lab.sink("items").capabilities:
            lab.make_items()
            isolates_nameless_rows(lab, mode)
            lab.drop("items")


def isolates_nameless_rows(lab: Lab, mode: str) -> None:
    """Write them as a load of its own in a mode, and compare table, receipts and reasons."""
    key, load, first = ("item_id",) if mode in ("ignore", "upsert") else (), a_load(mode), 0
    with closing(started(lab, load, mode=mode, key=key)) as sink:
        bad = NAMELESS["schemaless" in sink.capabilities :]
        for before, after in ((0, 0), (0, 2), (2, 0), (2, 2)):
            good, size = items(first, first + before + after - 1), before + len(bad) + after
            rows: list[Any] = [*good[:before], *(row for row, _ in bad), *good[before:]]
            assert sink.begin(a_receipt(load, f"{before} {after}", first, first + size - 1))
            refused = list(Isolation(rows, sink.write, sink))
            sink.commit([[0, first + index] for index, _, _ in refused], len(good))
            assert [index for index, _, _ in refused] == list(range(before, before + len(bad)))
            assert all(word in reason for (_, word), (*_, reason) in zip(bad, refused, strict=True)), refused
            first += size
        sink.finish(load)
        counts = [(row["rows"], row["rejected"]) for row in sink.loads() if row["load"] == mode]
        assert counts == [(8, 4 * len(bad))]
    assert len(ids(lab)) == 8


def isolates_many_rows(lab: Lab, *spoils: Spoil, arrow: bool = False) -> None:
    """Write 10,000 rows, 100 of them bad, some of those neighbours."""
    lab.make_items([{"item_id": 0, "name": "there", "amount": 1}])
    rows = items(1, 10_000)
    bad = sorted({*range(0, 10_000, 119), *range(5_000, 5_016)})[:100]
    for number, index in enumerate(bad):
        rows[index] = spoils[number % len(spoils)](rows[index], items(index, index))
    with closing(started(lab)) as sink:
        refused, _ = isolated(sink, table_of(rows, sink.prepare(a_load(), ITEMS)) if arrow else rows)
    assert refused == bad
    assert ids(lab) == [0, *(row["item_id"] for index, row in enumerate(rows) if index not in set(bad))]


@check("append")
def many_rows_with_taken_keys_are_isolated(lab: Lab) -> None:
    """The good ones are written, however many are refused."""
    isolates_many_rows(lab, taken)


@check("append", "arrow")
def many_rows_of_an_arrow_table_are_isolated(lab: Lab) -> None:
    """The same, of a table of columns."""
    isolates_many_rows(lab, taken, arrow=True)


@check("append", "arrow")
def an_arrow_table_of_bad_rows_only_is_isolated(lab: Lab) -> None:
    """One row or a few, and then a good one in the same transaction."""
    lab.make_items([{"item_id": 0, "name": "there", "amount": 1}])
    with closing(started(lab)) as sink:
        columns = sink.prepare(a_load(), ITEMS)
        for size in (1, 3):
            bad = table_of([taken(row, ()) for row in items(1, size)], columns)
            assert isolated(sink, bad)[0] == list(range(size))
        sink.begin()
        assert [index for index, _, _ in Isolation(bad, sink.write_arrow, sink)] == [0, 1, 2]
        assert sink.write_arrow(table_of(items(1, 1), columns)) == []
        sink.commit()
    assert ids(lab) == [0, 1]


@check("append")
def many_rows_with_different_faults_are_isolated(lab: Lab) -> None:
    """Taken keys and violated checks side by side."""
    isolates_many_rows(lab, out_of_bounds, taken)
