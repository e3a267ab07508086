"""Writes that are wider, longer or heavier than a statement, a message or a document may be."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pyarrow as pa

from adaptive.protocols import Sink
from adaptive.rows import Row
from adaptive.testing.checks.items import isolated, items, started, table_of
from adaptive.testing.checks.registry import check
from adaptive.testing.checks.types import expectation, made, numbered
from adaptive.testing.lab import Lab, a_load

# SQL Server takes 2,100 parameters and 1,000 rows of VALUES in a statement, PostgreSQL 65,535 parameters,
# MongoDB 100,000 documents of at most 16 MB each, in messages of 48 MB.
MANY_ROWS = 100_001
MEGABYTE, MANY_MEGABYTES = 1 << 20, 49
LARGE_ROW = 16 << 20


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


def written(sink: Sink, rows: Any, *, over: bool) -> int:
    """Write rows at once; return how many went in, none if a bound of the sink was the reason."""
    sink.begin()
    try:
        assert (sink.write_arrow(rows) if isinstance(rows, pa.Table) else sink.write(rows)) == []
    except Exception as error:
        assert over, error
        assert sink.classify(error) in ("overload", "fatal"), f"{len(rows)} rows: {error!r}"
        sink.rollback()
        return 0
    sink.commit()
    return len(rows)


@check("append")
def a_write_at_its_bound_goes_in_and_one_over_it_is_not_cut(lab: Lab) -> None:
    """`max_rows` rows are written; one more is written, too, or refused as a whole with a reason."""
    lab.make_items()
    with closing(started(lab)) as sink:
        bound = sink.max_rows or MANY_ROWS
        count = written(sink, items(1, bound), over=False)
        if sink.max_rows:
            count += written(sink, items(bound + 1, 2 * bound + 1), over=True)
    assert len(lab.rows("items")) == count


@check("append")
def a_write_of_more_bytes_than_a_message_is_written(lab: Lab) -> None:
    """49 MB, of texts of 1 MB each, as mappings and as Arrow; or all are refused, with a reason."""
    texts = ["x" * MEGABYTE] * MANY_MEGABYTES
    with made(lab, pa.string()) as (sink, columns):
        over = sink.max_bytes is not None and sink.max_bytes < MANY_MEGABYTES * MEGABYTE
        count = written(sink, numbered(texts), over=over)
        if "arrow" in sink.capabilities:
            count += written(sink, table_of(numbered(texts, MANY_MEGABYTES), columns), over=over)
    sizes = {row["item_id"]: len(row["value"]) for row in lab.rows("made")}
    assert sizes == dict.fromkeys(range(count), MEGABYTE)


@check("append")
def a_row_near_the_size_of_a_document_is_written_or_refused_alone(lab: Lab) -> None:
    """Just below 16 MB and just above; the rows beside it are written whatever becomes of it."""
    sizes = [1, LARGE_ROW - 200, 1, LARGE_ROW + 1, 1]
    rows = numbered(["x" * size for size in sizes])
    expected = {number: len(text) for number, text in expectation(lab, pa.string(), rows).items()}
    with made(lab, pa.string()) as (sink, _):
        refused, _ = isolated(sink, rows)
    assert refused == [number for number in range(len(rows)) if number not in expected]
    assert {row["item_id"]: len(row["value"]) for row in lab.rows("made")} == expected
