"""Hostile names and values: quotes, semicolons, reserved words and other scripts are just data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa

from adaptive.protocols import Sink
from adaptive.rows import Row
from adaptive.testing.checks.items import ids, items, started, table_of
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load, a_receipt

NAMES = [
    "select",
    'quo"te',
    "semi;colon",
    "back\\slash",
    "blank space",
    "Ünïcödé",
    "per%cent",
    "it's",
    "br]ack[et",
]
VALUES = [
    "'); DROP TABLE items; --",
    '"',
    "\\",
    "\\N",
    "",
    " ",
    "NULL",
    "\t\n\r",
    "株式 🚀",
    "%s {} $1 ? :x @y",
]
TABLES = ['the "table".x', "it's; DROP TABLE items --", "br]ack[et", "select"]
KEY = ("order by", "k\"e'y")


def quoted(name: str) -> str:
    """Return a name in double quotes, as the argument `table` takes one with a dot."""
    return '"' + name.replace('"', '""') + '"'


def write_both(sink: Sink, rows: Sequence[Row], columns: Sequence[Sequence[Any]]) -> list[Row]:
    """Write rows and, where it is offered, as many more as an Arrow table; return all of them."""
    more = [{**row, "item_id": row["item_id"] + 100} for row in rows] if "arrow" in sink.capabilities else []
    sink.begin()
    assert sink.write(rows) == []
    if more:
        assert sink.write_arrow(table_of(more, columns)) == []
    sink.commit()
    return [*rows, *more]


def sorted_rows(lab: Lab, table: str) -> list[Row]:
    """Return the rows of a table in the order of their ids."""
    return sorted(lab.rows(table), key=lambda row: row["item_id"])


@check("append")
def hostile_columns_and_values_are_just_data(lab: Lab) -> None:
    """As names of columns that are made, and as values."""
    schema = pa.schema([("item_id", pa.int64()), *((name, pa.string()) for name in NAMES)])
    rows: list[Row] = [{"item_id": i, **dict.fromkeys(NAMES, value)} for i, value in enumerate(VALUES)]
    with closing(lab.sink("made")) as sink:
        sink.open()
        written = write_both(sink, rows, sink.prepare(a_load(), schema))
    assert sorted_rows(lab, "made") == written


@check("append")
def hostile_tables_are_just_names(lab: Lab) -> None:
    """Made, written to and described; nothing else is touched."""
    lab.make_items(items(1, 1))
    schema = pa.schema({"item_id": pa.int64(), "select": pa.string()})
    for table in TABLES:
        with closing(lab.sink(quoted(table))) as sink:
            sink.open()
            rows: list[Row] = [{"item_id": 1, "select": table}]
            written = write_both(sink, rows, sink.prepare(a_load(f"into {table}"), schema))
            assert not sink.empty()
            assert [load["load"] for load in sink.loads()] == [f"into {table}"]
        assert sorted_rows(lab, table) == written
    assert ids(lab) == [1]


def write_versions(lab: Lab, table: str, mode: Any) -> dict[Any, str]:
    """Write two versions of a row into a table with a hostile key; return the versions by key."""
    schema = pa.schema({**dict.fromkeys(KEY, pa.int64()), "it's": pa.string()})
    load = a_load(f"{mode} {table}")
    with closing(lab.sink(table, mode=mode, key=KEY)) as sink:
        sink.open()
        columns = sink.prepare(load, schema)
        for batch, version in enumerate(VALUES[:2]):
            rows: list[Row] = [dict(zip([*KEY, "it's"], (1, n, version), strict=True)) for n in range(2)]
            assert sink.begin(a_receipt(load, VALUES[batch], 2 * batch, 2 * batch + 1))
            arrow = batch and "arrow" in sink.capabilities
            assert (sink.write_arrow(table_of(rows, columns)) if arrow else sink.write(rows)) == []
            sink.commit()
        sink.finish(load)
    return {row[KEY[1]]: row["it's"] for row in lab.rows(table)}


@check("ignore")
def ignore_takes_hostile_key_columns(lab: Lab) -> None:
    """A key of several columns with quotes and blanks in their names; the first version stays."""
    assert write_versions(lab, "made", "ignore") == dict.fromkeys(range(2), VALUES[0])


@check("upsert")
def upsert_takes_hostile_key_columns(lab: Lab) -> None:
    """The same in mode upsert; the last version stays."""
    assert write_versions(lab, "made", "upsert") == dict.fromkeys(range(2), VALUES[1])


@check("replace")
def a_hostile_table_is_replaced(lab: Lab) -> None:
    """With a hostile load id, which its staging table is named after."""
    table, load = TABLES[0], a_load(VALUES[0])
    schema = pa.schema({"item_id": pa.int64(), "select": pa.string()})
    with closing(lab.sink(quoted(table))) as sink:
        sink.open()
        write_both(sink, [{"item_id": 1, "select": "old"}], sink.prepare(a_load("old"), schema))
    with closing(lab.sink(quoted(table), mode="replace")) as sink:
        sink.open()
        sink.prepare(load)
        assert sink.begin(a_receipt(load, VALUES[0], 0, 0))
        sink.write([{"item_id": 1, "select": "new"}])
        sink.commit()
        sink.finish(load)
    assert lab.rows(table) == [{"item_id": 1, "select": "new"}]


@check("append")
def hostile_load_ids_are_just_data(lab: Lab) -> None:
    """As ids of loads and batches, as owners and as sources, which the ledger returns as they were."""
    lab.make_items()
    for number, value in enumerate(VALUES):
        load = {
            **a_load(f"{value} load"),
            "source": value,
            "mapping": value,
            "fingerprint": value,
            "owner": value * 3,
        }
        with closing(started(lab, load)) as sink:
            receipt = a_receipt(load, f"{value} batch", 0, 0)
            assert sink.begin(receipt)
            sink.write(items(number, number))
            sink.commit()
            assert sink.begin(receipt) is False
            assert sink.receipts(load["load"]) == [([[0, 0, 0]], 1, [])]
            sink.finish(load)
            [entry] = [entry for entry in sink.loads() if entry["load"] == load["load"]]
            assert [entry[name] for name in ("source", "mapping", "fingerprint")] == [value] * 3
    assert ids(lab) == list(range(len(VALUES)))


@check("append")
def a_hostile_ledger_is_just_a_name(lab: Lab) -> None:
    """`ledger` names the ledger's tables; one in quotes may hold anything."""
    lab.make_items(items(1, 1))
    load = a_load()
    ledger = quoted('it\'s; "DROP" TABLE items --')
    with closing(started(lab, load, ledger=ledger)) as sink:
        assert sink.begin(a_receipt(load, "one", 0, 0))
        sink.write(items(2, 2))
        sink.commit()
        sink.finish(load)
    with closing(started(lab, ledger=ledger)) as sink:
        assert [(entry["load"], entry["state"], entry["rows"]) for entry in sink.loads()] == [
            ("load", "done", 1)
        ]
    with closing(started(lab)) as sink:
        assert sink.loads() == []
    assert ids(lab) == [1, 2]
