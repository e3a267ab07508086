"""The conformance checks: what every sink has to do, one function each.

A check takes a `Lab` with an empty database and raises AssertionError. It uses the sink's contract
only; tables are made with SQL that every SQL database understands.
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

TABLE = "CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(200), amount INTEGER CHECK (amount > 0))"


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


def check(*needs: Capability) -> Callable[[Callable[[Lab], None]], Callable[[Lab], None]]:
    """Register a function as a check."""

    def register(run: Callable[[Lab], None]) -> Callable[[Lab], None]:
        CHECKS.append(Check(run, frozenset(needs)))
        return run

    return register


def items(first: int, last: int, name: str = "item") -> list[Row]:
    """Return good rows with the ids `first` … `last`."""
    return [
        {"id": number, "name": f"{name} {number}", "amount": number % 7 + 1}
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
    return sorted(row["id"] for row in lab.rows(table))


@check("append")
def append_writes_rows_once(lab: Lab) -> None:
    """Rows written without a load are there after the commit, and only then."""
    lab.execute(TABLE)
    with closing(started(lab)) as sink:
        assert sink.begin()
        assert sink.write(items(1, 3)) == []
        sink.commit()
    assert [dict(row) for row in items(1, 3)] == sorted(lab.rows("items"), key=lambda row: row["id"])


@check("append", "transactional")
def rollback_leaves_nothing(lab: Lab) -> None:
    """Rows and receipt go together when a transaction is rolled back."""
    lab.execute(TABLE)
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
    lab.execute(TABLE)
    rows: list[Row] = [
        {"id": 1, "name": None, "amount": 1},
        *items(2, 5),
        {"id": 6, "name": "", "amount": None},
    ]
    shifted = [{**row, "id": row["id"] + 100} for row in rows]
    sink = lab.sink("items")
    sink.open()
    with closing(sink):
        columns = sink.prepare(a_load())
        sink.begin()
        assert sink.write(rows) == []
        assert sink.write_arrow(table_of(shifted, columns)) == []
        sink.commit()
    found = {row["id"]: (row["name"], row["amount"]) for row in lab.rows("items")}
    assert all(found[row["id"]] == found[row["id"] + 100] == (row["name"], row["amount"]) for row in rows)


@check("append")
def an_empty_write_is_nothing(lab: Lab) -> None:
    """No rows, a receipt: the transaction commits."""
    lab.execute(TABLE)
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
    lab.execute(TABLE)
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
    lab.execute(TABLE)
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
    lab.execute(TABLE)
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
    lab.execute(TABLE)
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
    lab.execute(TABLE)
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
    lab.execute(TABLE)
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
    lab.execute(TABLE)
    with closing(started(lab)) as sink:
        assert sink.loads() == []
        assert sink.receipts("load") == []
        assert sink.empty()


@check("append")
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
        [("id", pa.int64()), ("price", pa.decimal128(18, 4)), ("at", pa.timestamp("us", "UTC"))]
    )
    load = a_load()
    with closing(lab.sink("made", key=("id",))) as sink:
        sink.open()
        columns = [Column(*column) for column in sink.prepare(load, schema)]
        assert [(column.name, column.type) for column in columns] == [(f.name, f.type) for f in schema]
        assert [column.key for column in columns] == [True, False, False]
        assert sink.begin(a_receipt(load, "one", 0, 0))
        sink.write([{"id": 1, "price": None, "at": None}])
        sink.commit()
        lab.execute("DROP TABLE made")
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
    """An error of `write` undoes that write alone; what came before and after is committed."""
    lab.execute(TABLE)
    with closing(started(lab)) as sink:
        sink.begin()
        sink.write(items(1, 2))
        try:
            sink.write([*items(3, 4), {"id": 6, "name": "bad", "amount": -1}])
        except Exception as error:
            assert sink.classify(error) == "reject"
            assert not sink.doomed
        else:
            raise AssertionError("a violated check was not noticed")
        sink.write(items(5, 5))
        sink.commit()
    assert ids(lab) == [1, 2, 5]


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


@check("append")
def bad_rows_are_isolated_wherever_they_stand(lab: Lab) -> None:
    """1 bad row in 1, 10, 1,000 and 10,000, first, last and in the middle: only it is refused."""
    lab.execute(TABLE)
    first = 1
    with closing(started(lab)) as sink:
        for size in (1, 10, 1_000, 10_000):
            for place in {0, size // 2, size - 1}:
                rows = items(first, first + size - 1)
                rows[place] = {**rows[place], "amount": -1}
                refused, writes = isolated(sink, rows)
                assert refused == [place], (size, place)
                assert writes <= 25, f"{writes} writes for one bad row in {size}"
                first += size
    assert len(ids(lab)) == first - 1 - (1 + 3 * 3 - 0)


@check("append")
def many_bad_rows_do_not_stop_the_good_ones(lab: Lab) -> None:
    """100 bad rows in 10,000, some of them neighbours, some in conflict with rows of the batch."""
    lab.execute(TABLE)
    rows = items(1, 10_000)
    for index in [*range(0, 10_000, 120), *range(5_000, 5_016)]:
        rows[index] = (
            {**rows[index], "amount": 0} if index % 2 else {**rows[index], "id": rows[index - 1]["id"]}
        )
    rows[0] = {**rows[0], "id": 1}
    kept: dict[int, int] = {}
    bad = []
    for index, row in enumerate(rows):
        if row["amount"] <= 0 or row["id"] in kept:
            bad.append(index)
        else:
            kept[row["id"]] = index
    with closing(started(lab)) as sink:
        refused, _ = isolated(sink, rows)
    assert refused == bad
    assert ids(lab) == sorted(kept)


@check("ignore")
def ignore_keeps_what_is_there_and_the_first_of_a_batch(lab: Lab) -> None:
    """Rows whose key is there are left out and counted."""
    lab.execute(TABLE)
    lab.execute("INSERT INTO items VALUES (1, 'old', 1)")
    with closing(started(lab, mode="ignore", key=("id",))) as sink:
        sink.begin()
        sink.write([*items(1, 3, "first"), *items(2, 4, "second")])
        assert sink.duplicates == 3
        sink.commit()
    names = {row["id"]: row["name"] for row in lab.rows("items")}
    assert names == {1: "old", 2: "first 2", 3: "first 3", 4: "second 4"}


@check("upsert")
def upsert_lets_the_last_row_win(lab: Lab) -> None:
    """Over batches and inside one; columns that are not written keep their values."""
    lab.execute(TABLE)
    lab.execute("INSERT INTO items VALUES (1, 'old', 7)")
    with closing(started(lab, mode="upsert")) as sink:
        sink.begin()
        sink.write([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 1, "name": "c"}])
        sink.write([{"id": 2, "name": "d"}])
        sink.commit()
    assert {row["id"]: (row["name"], row["amount"]) for row in lab.rows("items")} == {
        1: ("c", 7),
        2: ("d", None),
    }


@check("replace")
def replace_swaps_at_the_end_and_survives_a_resume(lab: Lab) -> None:
    """Old rows stay until `finish`; a resume keeps what was loaded beside them."""
    lab.execute(TABLE)
    lab.execute("INSERT INTO items VALUES (99, 'old', 1)")
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


@check("append")
def hostile_names_and_values_are_just_data(lab: Lab) -> None:
    """Quotes, semicolons, reserved words and other scripts, as identifiers and as values."""
    names = ["select", 'quo"te', "semi;colon", "back\\slash", "blank space", "Ünïcödé", "per%cent", "it's"]
    schema = pa.schema([("id", pa.int64()), *((name, pa.string()) for name in names)])
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
    rows: list[Row] = [{"id": i, **dict.fromkeys(names, value)} for i, value in enumerate(values)]
    with closing(lab.sink('"the ""table"".x"')) as sink:
        sink.open()
        columns = sink.prepare(a_load(), schema)
        sink.begin()
        sink.write(rows)
        if "arrow" in sink.capabilities:
            sink.write_arrow(table_of([{**row, "id": row["id"] + 100} for row in rows], columns))
        sink.commit()
    found = {row["id"]: row for row in lab.rows('the "table".x')}
    for row in rows:
        assert found[row["id"]] == row
        if "arrow" in sink.capabilities:
            assert found[row["id"] + 100] == {**row, "id": row["id"] + 100}


@check("append")
def two_hundred_columns(lab: Lab) -> None:
    """A wide table, half of it NULL."""
    names = [f"c{number}" for number in range(200)]
    schema = pa.schema([("id", pa.int64()), *((name, pa.int64()) for name in names)])
    rows: list[Row] = [
        {"id": i, **{name: i if n % 2 else None for n, name in enumerate(names)}} for i in range(2_000)
    ]
    with closing(lab.sink("wide")) as sink:
        sink.open()
        sink.prepare(a_load(), schema)
        sink.begin()
        sink.write(rows)
        sink.commit()
    assert sorted(lab.rows("wide"), key=lambda row: row["id"]) == rows


@check("append")
def closing_twice_is_fine(lab: Lab) -> None:
    """`close` and `rollback` raise nothing, open or not, and undo what was not committed."""
    lab.execute(TABLE)
    sink = started(lab)
    sink.begin()
    sink.write(items(1, 1))
    sink.close()
    sink.close()
    sink.rollback()
    assert ids(lab) == []


@check("append")
def a_lost_connection_is_in_doubt_and_the_batch_can_be_begun_again(lab: Lab) -> None:
    """Whatever is cut, the same batch goes in exactly once after connecting anew."""
    lab.execute(TABLE)
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
    lab.execute(TABLE)
    with closing(started(lab)) as sink:
        assert sink.doctor()
