"""Every type, with its extremes and NULL in the first row: what went in comes back, or was refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from adaptive.casts import cast_chunk
from adaptive.protocols import Sink
from adaptive.rows import Column, Field, Row
from adaptive.testing.checks.items import isolated
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load

WEST = timezone(timedelta(hours=-9, minutes=-30))
LATEST = datetime(9999, 12, 31, 23, 59, 59, 999999)
TEXTS = ["", " ", "NULL", "007", "1e5", 'it\'s "so"\\N\t\r\n', "Zürich 株式 🚀", "nul\0inside", "x" * 200_000]
FLOATS = [0.1, 0.0, 5e-324, 1.7976931348623157e308, -1e-300, float("inf"), float("-inf"), float("nan")]
PLACES: list[Any] = [
    {"city": "Zürich", "height": Decimal("408.10"), "since": [date(1, 1, 1), None]},
    {"city": None, "height": None, "since": []},
]
PLACE = pa.struct({"city": pa.string(), "height": pa.decimal128(6, 2), "since": pa.list_(pa.date32())})
# The word of a type; the type a table is made with; values that a mapping may hold.
TYPES: list[tuple[str, pa.DataType, Sequence[Any]]] = [
    ("bool", pa.bool_(), [True, False]),
    ("int64", pa.int64(), [-(2**63), -1, 0, 2**63 - 1]),
    ("uint64", pa.uint64(), [Decimal(0), Decimal(2**63), Decimal(2**64 - 1)]),  # made as decimal(20,0)
    ("float64", pa.float64(), FLOATS),
    ("decimal of 15 digits", pa.decimal128(15, 2),
     [Decimal("9999999999999.99"), Decimal("-0.01"), Decimal("7.00")]),
    ("decimal of 18 digits", pa.decimal128(18, 4), [Decimal("99999999999999.9999"), Decimal("-0.0001")]),
    ("decimal of 38 digits", pa.decimal128(38, 10),
     [Decimal("9" * 28 + "." + "9" * 10), Decimal("1.0000000001"), Decimal("-7.0000000000")]),
    ("decimal without a fraction", pa.decimal128(38, 0),
     [Decimal(1 - 10**38), Decimal(10**34 - 1), Decimal(0)]),
    ("text", pa.string(), TEXTS),
    ("date", pa.date32(), [date.min, date.max, date(2024, 2, 29), date(1969, 12, 31)]),
    ("time", pa.time64("us"), [time.min, time.max, time(9, 30)]),
    ("timestamp", pa.timestamp("us"), [datetime.min, LATEST, datetime(1969, 12, 31, 23, 59, 59, 999)]),
    ("timestamp with zone", pa.timestamp("us", "UTC"),
     [datetime(1, 1, 1, tzinfo=UTC), LATEST.replace(tzinfo=UTC),
      datetime(2024, 2, 29, 23, 30, 0, 1000, WEST)]),
    ("binary", pa.binary(), [b"", bytes(range(256)), b"\0" * 100_000]),
    ("uuid", pa.uuid(), [UUID(int=0), UUID(int=2**128 - 1), UUID("01234567-89ab-cdef-0123-456789abcdef")]),
    ("list", pa.list_(pa.string()), [["a", None, "ü\n"], []]),
    ("struct", PLACE, PLACES),
]  # fmt: skip


@contextmanager
def made(lab: Lab, kind: pa.DataType) -> Iterator[tuple[Sink, Sequence[Column]]]:
    """Yield an open sink whose table has a column `value` of the type, and its columns."""
    with closing(lab.sink("made")) as sink:
        sink.open()
        columns = sink.prepare(a_load(), pa.schema({"item_id": pa.int64(), "value": kind}))
        yield sink, [Column(*column) for column in columns]


def numbered(values: Sequence[Any], first: int = 0) -> list[Row]:
    """Return rows with the values."""
    return [{"item_id": number, "value": value} for number, value in enumerate(values, first)]


def expectation(lab: Lab, kind: pa.DataType, rows: Sequence[Row]) -> dict[int, Any]:
    """Return what `rows` of the lab has to give, by id; rows that have to be refused are not in it."""
    expected = {}
    for row in rows:
        try:
            expected[row["item_id"]] = None if row["value"] is None else lab.stored(kind, row["value"])
        except ValueError:
            continue
    return expected


def written_as_arrow(
    sink: Sink, columns: Sequence[Column], kind: pa.DataType, rows: Sequence[Row]
) -> list[int]:
    """Write rows as a load from a columnar file would; return the ids that were refused on the way."""
    values = [row["value"] for row in rows]
    if pa.types.is_uint64(kind):
        values = [value if value is None else int(value) for value in values]
    numbers = pa.array([row["item_id"] for row in rows], pa.int64())
    read = pa.RecordBatch.from_arrays([numbers, pa.array(values, kind)], names=["item_id", "value"])
    chunk = cast_chunk(read, [Field(column.name, column) for column in columns])
    taken = pa.Table.from_batches([chunk.rows])
    refused, _ = isolated(sink, taken)
    return sorted(
        [rows[reject.ordinal]["item_id"] for reject in chunk.rejects]
        + [taken["item_id"][index].as_py() for index in refused]
    )


def exact(found: Any, expected: Any) -> bool:
    """Return whether a stored value is the expected one, not only equal; of JSON what it says counts."""
    if isinstance(expected, (list, dict)) and isinstance(found, str):
        found = json.loads(found, parse_float=Decimal)
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(
            exact(found[name], expected[name]) for name in expected
        )
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(exact, found, expected))
    if isinstance(expected, float) and math.isnan(expected):
        return isinstance(found, float) and math.isnan(found)
    if isinstance(found, bool) is not isinstance(expected, bool) or not isinstance(found, type(expected)):
        return False
    if isinstance(expected, Decimal):
        return bool(found.as_tuple() == expected.as_tuple())
    if isinstance(expected, (datetime, time)):
        return found == expected and (found.tzinfo is None) is (expected.tzinfo is None)
    return bool(found == expected)


def comes_back(lab: Lab, kind: pa.DataType, values: Sequence[Any]) -> None:
    """Write values of a type, as mappings and as Arrow, and read them with the raw driver."""
    mappings = numbered([None, *values, None])
    arrow = numbered([None, *values, None], len(mappings))
    with made(lab, kind) as (sink, columns):
        refused = [mappings[index]["item_id"] for index in isolated(sink, mappings)[0]]
        written = mappings
        if "arrow" in sink.capabilities:
            refused += written_as_arrow(sink, columns, kind, arrow)
            written = mappings + arrow
    expected = expectation(lab, kind, written)
    assert refused == [row["item_id"] for row in written if row["item_id"] not in expected]
    found = {row["item_id"]: row["value"] for row in lab.rows("made")}
    assert found.keys() == expected.keys()
    changed = [
        (found[number], value) for number, value in expected.items() if not exact(found[number], value)
    ]
    assert not changed, f"found and expected: {str(changed)[:500]}"


def _register(word: str, kind: pa.DataType, values: Sequence[Any]) -> None:
    def run(lab: Lab) -> None:
        comes_back(lab, kind, values)

    run.__name__ = f"{word} comes back as it was".replace(" ", "_")
    check("append")(run)


for one in TYPES:
    _register(*one)
