"""Tables that are missing, made, and described."""

from __future__ import annotations

from contextlib import closing

import pyarrow as pa

from adaptive.rows import Column
from adaptive.testing.checks.items import started
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load, a_receipt


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
def a_table_is_described_without_changing_anything(lab: Lab) -> None:
    """`columns` says what `prepare` says, and makes no ledger."""
    lab.make_items()
    with closing(started(lab)) as sink:
        columns = list(sink.columns())
        assert [(column[0], column[2], column[4]) for column in columns] == [
            ("item_id", False, True),
            ("name", True, False),
            ("amount", True, False),
        ]
        assert sink.loads() == []
        assert sink.empty()
        assert list(sink.prepare(a_load())) == columns


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
