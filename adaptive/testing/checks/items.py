"""The table `items`, and what most checks do with it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from adaptive.isolation import Isolation
from adaptive.protocols import Rejection, Sink, Verdict
from adaptive.rows import Column, Row
from adaptive.testing.lab import Lab

ITEMS = pa.schema(
    {"item_id": pa.int64(), "name": pa.string(), "amount": pa.int64()}
)  # for a sink without types


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


def isolated(sink: Sink, rows: Any) -> tuple[list[int], int]:
    """Write rows or an Arrow table in one transaction; return indexes refused and number of writes."""
    writes = 0

    def write(piece: Any) -> list[Rejection]:
        nonlocal writes
        writes += 1
        return sink.write_arrow(piece) if isinstance(piece, pa.Table) else sink.write(piece)

    sink.begin()
    refused = [index for index, _, _ in Isolation(rows, write, sink)]
    sink.commit()
    return refused, writes


@contextmanager
def fails(sink: Sink, *verdicts: Verdict) -> Iterator[list[str]]:
    """Expect an error that the sink calls by one of the verdicts; the list gets its traceback."""
    texts: list[str] = []
    try:
        yield texts
    except Exception as error:
        texts += traceback.format_exception(error)
        found = sink.classify(error)
        assert found in verdicts, f"{found}, not {' or '.join(verdicts)}: {error!r}"
    else:
        raise AssertionError(f"no error, where one was expected that is {' or '.join(verdicts)}")
