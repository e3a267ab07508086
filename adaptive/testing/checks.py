"""The conformance checks: what every sink has to do, one function each.

A check takes a `Lab` with an empty database and raises AssertionError. It uses the sink's contract
and the lab only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from adaptive.isolation import Isolation
from adaptive.protocols import Capability, Sink
from adaptive.rows import Column, Row
from adaptive.testing.lab import Lab, a_load, a_receipt


@dataclass(frozen=True, slots=True)
class Check:
    """A check, its name, and the capabilities a sink needs for it."""

    run: Callable[[Lab], None]
    needs: frozenset[Capability] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        """Return the name of the check in words."""
        return self.run.__name__


CHECKS: list[Check] = []
ITEMS = pa.schema(
    {"item_id": pa.int64(), "name": pa.string(), "amount": pa.int64()}
)  # for a sink without types


def check(*needs: Capability) -> Callable[[Callable[[Lab], None]], Callable[[Lab], None]]:
    """Register a function as a check."""

    def register(run: Callable[[Lab], None]) -> Callable[[Lab], None]:
        CHECKS.append(Check(run, frozenset(needs)))
        return run

    return register


def items(first: int, last: int, name: str = "item") -> list[Row]:
    """Return good rows with the ids `first` … `last`."""
    return [
        {"item_id": number, "name": f"{name} {number}", "amount": number % 7 + 1}
        for number in range(first, last + 1)
    ]


def table_of(rows: Sequence[Row], columns: Sequence[Sequence[Any]]) -> pa.Table:
    """Return rows as an Arrow table with the types that `prepare` gave for their columns."""
    types = {column.name: column.type for column in (Column(*column) for column in columns)}
    return pa.Table.from_pylist(list(rows), schema=pa.schema([(name, types[name]) for name in rows[0]]))


def started(lab: Lab, load: dict[str, Any] | None = None, **options: Any) -> Sink:
    """Return an open sink for `items`, prepared for a load if one is given."""
    sink = lab.sink("items", **options)
    sink.open()
    if load:
        sink.prepare(load)
    return sink


def ids(lab: Lab, table: str = "items") -> list[int]:
    """Return the sorted ids of a table."""
    return sorted(row["item_id"] for row in lab.rows(table))


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


@check("append")
def the_loser_of_a_takeover_commits_nothing(lab: Lab) -> None:
    """Once a second run has prepared the load, the first one is told that it was taken over."""
    lab.make_items()
    first, second = a_load(), a_load()
    with closing(started(lab, first)) as old, closing(started(lab, second)) as new:
        try:
            old.begin(a_receipt(first, "late", 0, 0))
        except Exception as error:
            assert old.classify(error) == "taken_over"
            old.rollback()
        else:
            raise AssertionError("a run without the splits could begin")
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
        taking = threading.Thread(target=new.prepare, args=(second,))
        taking.start()
        taking.join(0.2)
        assert taking.is_alive(), "prepare did not wait"
        old.commit()
        taking.join()
        assert new.receipts("load") == [([[0, 0, 0]], 1, [])]


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
def several_writers_commit_side_by_side(lab: Lab) -> None:
    """Writers of one load wait for each other at the most; every batch is there once."""
    lab.make_items()
    load = a_load()
    started(lab, load).close()
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            with closing(started(lab)) as sink:
                for batch in range(5):
                    first = 1_000 * writer + 100 * batch
                    assert sink.begin(a_receipt(load, f"{writer} {batch}", first, first + 99))
                    assert sink.write(items(first, first + 99)) == []
                    sink.commit()
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert not failures, failures
    assert ids(lab) == [1_000 * writer + row for writer in range(3) for row in range(500)]
    with closing(started(lab)) as sink:
        assert sum(rows for _, rows, _ in sink.receipts("load")) == 1_500


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
def finish_is_refused_after_a_takeover(lab: Lab) -> None:
    """Only the owner of the splits may call a load done."""
    lab.make_items()
    first, second = a_load(), a_load()
    with closing(started(lab, first)) as old, closing(started(lab, second)) as new:
        try:
            old.finish(first)
        except Exception as error:
            assert old.classify(error) == "taken_over"
        else:
            raise AssertionError("a run without the splits could finish")
        assert [row["state"] for row in new.loads()] == ["running"]


@check("append")
def a_database_without_a_ledger_knows_no_loads(lab: Lab) -> None:
    """`loads` and `receipts` of an untouched database are empty, and make nothing."""
    lab.make_items()
    with closing(started(lab)) as sink:
        assert sink.loads() == []
        assert sink.receipts("load") == []
        assert sink.empty()


@check("create")
def a_missing_table_is_named(lab: Lab) -> None:
    """`prepare` raises LookupError for a missing table and says which."""
    with closing(lab.sink("nowhere")) as sink:
        sink.open()
        try:
            sink.prepare(a_load())
        except LookupError as error:
            assert "nowhere" in str(error)
        else:
            raise AssertionError("a missing table was not noticed")


@check("create")
def create_makes_the_table_and_starts_afresh(lab: Lab) -> None:
    """With a schema `prepare` makes the table; receipts of an earlier table of that name are gone."""
    schema = pa.schema(
        [("item_id", pa.int64()), ("price", pa.decimal128(18, 4)), ("at", pa.timestamp("us", "UTC"))]
    )
    load = a_load()
    with closing(lab.sink("made", key=("item_id",))) as sink:
        sink.open()
        columns = [Column(*column) for column in sink.prepare(load, schema)]
        assert [(column.name, column.type) for column in columns] == [(f.name, f.type) for f in schema]
        assert [column.key for column in columns] == [True, False, False]
        assert sink.begin(a_receipt(load, "one", 0, 0))
        sink.write([{"item_id": 1, "price": None, "at": None}])
        sink.commit()
        lab.drop("made")
        sink.prepare(a_load(), schema)
        assert sink.receipts("load") == []
    assert lab.rows("made") == []


@check("create")
def created_columns_keep_their_types_for_the_next_run(lab: Lab) -> None:
    """A second run finds the types that the first one made the table with."""
    types = [pa.bool_(), pa.int64(), pa.float64(), pa.decimal128(12, 3), pa.string(), pa.date32(),
             pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.binary()]  # fmt: skip
    schema = pa.schema([(f"c{number}", kind) for number, kind in enumerate(types)])
    with closing(lab.sink("made")) as sink:
        sink.open()
        sink.prepare(a_load(), schema)
    with closing(lab.sink("made")) as sink:
        sink.open()
        assert [Column(*column).type for column in sink.prepare(a_load())] == types


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


def isolated(sink: Sink, rows: Sequence[Row]) -> tuple[list[int], int]:
    """Write rows in one transaction; return the indexes refused and the number of writes."""
    writes = 0

    def write(piece: Sequence[Row]) -> list[tuple[int, str, str]]:
        nonlocal writes
        writes += 1
        return sink.write(piece)

    sink.begin()
    refused = [index for index, _, _ in Isolation(rows, write, sink)]
    sink.commit()
    return refused, writes


def taken(row: Row, _: Sequence[Row]) -> Row:
    """Return a row with the key of one that the table has."""
    return {**row, "item_id": 0}


def out_of_bounds(row: Row, _: Sequence[Row]) -> Row:
    """Return a row that violates the table's check."""
    return {**row, "amount": -1}


def repeated(_: Row, before: Sequence[Row]) -> Row:
    """Return a row with the key of the one before it in the same write."""
    return {**before[-1], "name": "again"} if before else {"item_id": 0, "name": "taken", "amount": 1}


Spoil = Callable[[Row, Sequence[Row]], Row]


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


def isolates_many_rows(lab: Lab, *spoils: Spoil) -> None:
    """Write 10,000 rows, 100 of them bad, some of those neighbours."""
    lab.make_items([{"item_id": 0, "name": "there", "amount": 1}])
    rows = items(1, 10_000)
    bad = sorted({*range(0, 10_000, 119), *range(5_000, 5_016)})[:100]
    for number, index in enumerate(bad):
        rows[index] = spoils[number % len(spoils)](rows[index], items(index, index))
    with closing(started(lab)) as sink:
        refused, _ = isolated(sink, rows)
    assert refused == bad
    assert ids(lab) == [0, *(row["item_id"] for index, row in enumerate(rows) if index not in set(bad))]


@check("append")
def many_rows_with_taken_keys_are_isolated(lab: Lab) -> None:
    """The good ones are written, however many are refused."""
    isolates_many_rows(lab, taken)


@check("append")
def many_rows_with_different_faults_are_isolated(lab: Lab) -> None:
    """Taken keys and violated checks side by side."""
    isolates_many_rows(lab, out_of_bounds, taken)


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
            found: list[set[str]] = []
            first.begin()
            first.claim([key])
            if key == "c":
                first.release([key])
            waiting = threading.Thread(target=lambda key=key, found=found: found.append(claimed(second, key)))
            waiting.start()
            waiting.join(0.2)
            assert waiting.is_alive(), "the second claim did not wait"
            end()
            waiting.join()
            assert found == ([set()] if key == "a" else [{key}])


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


@check("append")
def hostile_names_and_values_are_just_data(lab: Lab) -> None:
    """Quotes, semicolons, reserved words and other scripts, as identifiers and as values."""
    names = ["select", 'quo"te', "semi;colon", "back\\slash", "blank space", "Ünïcödé", "per%cent", "it's"]
    schema = pa.schema([("item_id", pa.int64()), *((name, pa.string()) for name in names)])
    values = [
        "'); DROP TABLE items; --",
        '"',
        "\\",
        "\\N",
        "",
        " ",
        "NULL",
        "\t\n\r",
        "株式 🚀",
        "%s {} $1 ?",
    ]
    rows: list[Row] = [{"item_id": i, **dict.fromkeys(names, value)} for i, value in enumerate(values)]
    with closing(lab.sink('"the ""table"".x"')) as sink:
        sink.open()
        columns = sink.prepare(a_load(), schema)
        sink.begin()
        sink.write(rows)
        if "arrow" in sink.capabilities:
            sink.write_arrow(table_of([{**row, "item_id": row["item_id"] + 100} for row in rows], columns))
        sink.commit()
    found = {row["item_id"]: row for row in lab.rows('the "table".x')}
    for row in rows:
        assert found[row["item_id"]] == row
        if "arrow" in sink.capabilities:
            assert found[row["item_id"] + 100] == {**row, "item_id": row["item_id"] + 100}


@check("append")
def two_hundred_columns(lab: Lab) -> None:
    """A wide table, half of it NULL."""
    names = [f"c{number}" for number in range(200)]
    schema = pa.schema([("item_id", pa.int64()), *((name, pa.int64()) for name in names)])
    rows: list[Row] = [
        {"item_id": i, **{name: i if n % 2 else None for n, name in enumerate(names)}} for i in range(2_000)
    ]
    with closing(lab.sink("wide")) as sink:
        sink.open()
        sink.prepare(a_load(), schema)
        sink.begin()
        sink.write(rows)
        sink.commit()
    assert sorted(lab.rows("wide"), key=lambda row: row["item_id"]) == rows


@check("append")
def closing_twice_is_fine(lab: Lab) -> None:
    """`close` and `rollback` raise nothing, open or not, and undo what can be undone."""
    lab.make_items()
    sink = started(lab)
    sink.begin()
    sink.write(items(1, 1))
    sink.close()
    sink.close()
    sink.rollback()
    assert ids(lab) == ([] if "transactional" in sink.capabilities else [1])


@check("append")
def a_lost_connection_is_in_doubt_and_the_batch_can_be_begun_again(lab: Lab) -> None:
    """Whatever is cut, the same batch goes in exactly once after connecting anew."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load)) as sink:
        assert sink.begin(a_receipt(load, "one", 0, 2))
        sink.write(items(1, 3))
        lab.break_links()
        try:
            sink.commit()
        except Exception as error:
            assert sink.classify(error) == "in_doubt"
            sink.rollback()
            sink.close()
            sink.open()
            if sink.begin(a_receipt(load, "one", 0, 2)):
                sink.write(items(1, 3))
                sink.commit()
        assert sink.receipts("load") == [([[0, 0, 2]], 3, [])]
    assert ids(lab) == [1, 2, 3]


@check("append")
def advice_is_given(lab: Lab) -> None:
    """`doctor` says something about a table that can be loaded."""
    lab.make_items()
    with closing(started(lab)) as sink:
        assert sink.doctor()
