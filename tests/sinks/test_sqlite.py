from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.protocols import Sink
from adaptive.sinks import sqlite as module
from adaptive.sinks.sqlite import BadValueError, OwnershipLostError, SqliteSink

LOAD = {
    "load": "l1",
    "fingerprint": "f",
    "source": "orders.csv",
    "mapping": "{}",
    "owner": "me",
    "splits": [0, 1],
}
SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("name", pa.string())])


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/rel.db"


def query(url: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Read with the raw driver, never through the sink."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def script(url: str, sql: str) -> None:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.executescript(sql)
    connection.close()


def receipt(batch: str = "b1", segments: Any = ((0, 0, 1),), **changes: Any) -> dict[str, Any]:
    return {
        "load": "l1",
        "batch": batch,
        "owner": "me",
        "segments": segments,
        "rows": 2,
        "replaces": None,
    } | changes


def table(count: int, first: int = 0) -> pa.Table:
    numbers = list(range(first, first + count))
    return pa.table({"id": numbers, "name": [f"n{number}" for number in numbers]})


def load(url: str, rows: Any, **options: Any) -> SqliteSink:
    """Write rows in one transaction without a receipt; the sink is closed."""
    with SqliteSink(url, table="t", **options) as sink:
        sink.begin()
        (sink.write_arrow if isinstance(rows, pa.Table) else sink.write)(rows)
        sink.commit()
    return sink


def prepared(
    url: str, schema: pa.Schema | None = SCHEMA, load: Any = LOAD, **options: Any
) -> list[tuple[Any, ...]]:
    with SqliteSink(url, table="t", **options) as sink:
        return list(sink.prepare(load, schema))


CONTRACT: type[Sink] = SqliteSink  # mypy holds the class to it

# --- construction and connection ---


@pytest.mark.parametrize(
    "bad",
    [
        "sqlite://x.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "postgresql:///x",
        "sqlite:///a?b",
        "sqlite:///a%00",
    ],
)
def test_a_url_that_names_no_file_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite|names no file"):
        SqliteSink(bad, table="t")


def test_a_url_is_percent_decoded(tmp_path: Path) -> None:
    load(f"sqlite:///{tmp_path}/a%20%3f%23%25.db", []).close()
    assert (tmp_path / "a ?#%.db").exists()


@pytest.mark.parametrize(
    "options", [{"table": ""}, {"table": "sqlite_x"}, {"table": "_adaptive_loads"}, {"mode": "drop"}]
)
def test_impossible_arguments_are_refused(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"target table|mode"):
        SqliteSink(url, **options)


@pytest.mark.parametrize(("table", "name"), [('"a ""b"".c"', 'a "b".c'), ("a.b", "a.b"), ('a"b', 'a"b')])
def test_a_table_name_may_be_quoted(url: str, table: str, name: str) -> None:
    assert SqliteSink(url, table=table).table == name


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        SqliteSink(f"sqlite:///{tmp_path}/nowhere/x.db", table="t").open()


def test_reading_the_ledger_makes_no_file(url: str, tmp_path: Path) -> None:
    with SqliteSink(url, table="t") as sink:
        assert sink.loads() == []
        assert sink.receipts("l1") == []
        assert sink.doctor()[1:] == []
    assert list(tmp_path.iterdir()) == []


def test_reading_a_file_without_a_ledger_changes_nothing(url: str, tmp_path: Path) -> None:
    script(url, "CREATE TABLE t (id)")
    before = (tmp_path / "rel.db").read_bytes()
    with SqliteSink(url, table="t") as sink:
        assert sink.loads() == []
        assert sink.receipts("l1") == []
    assert (tmp_path / "rel.db").read_bytes() == before


def test_a_file_that_is_no_database_is_fatal(url: str, tmp_path: Path) -> None:
    (tmp_path / "rel.db").write_text("no database" * 100)
    sink = SqliteSink(url, table="t")
    with pytest.raises(sqlite3.DatabaseError) as caught:
        sink.open()
    assert sink.classify(caught.value) == "fatal"
    assert "not a database" in sink.doctor()[1]
    sink.close()


def test_a_new_file_gets_a_write_ahead_log_and_an_old_one_keeps_its_mode(url: str, tmp_path: Path) -> None:
    prepared(url)
    assert query(url, "PRAGMA journal_mode") == [("wal",)]
    old = f"sqlite:///{tmp_path}/old.db"
    script(old, "CREATE TABLE t (id, name)")
    load(old, table(3))
    assert query(old, "PRAGMA journal_mode") == [("delete",)]


# --- columns ---


def test_prepare_describes_a_table_somebody_else_made(url: str) -> None:
    script(
        url,
        """CREATE TABLE t (id INTEGER PRIMARY KEY, a INT NOT NULL, b VARCHAR(10) DEFAULT 'x', c BLOB,
        d DOUBLE,
        e BOOLEAN, f DATE, g TIMESTAMP, h DECIMAL(10,2), i NUMERIC, j, k DECIMAL(18,4), l AS (a + 1))""",
    )
    assert prepared(url, None) == [
        ("id", pa.int64(), False, True, True, None),
        ("a", pa.int64(), False, False, False, None),
        ("b", pa.string(), True, True, False, None),
        ("c", pa.binary(), True, False, False, None),
        ("d", pa.float64(), True, False, False, None),
        ("e", pa.bool_(), True, False, False, None),
        ("f", pa.date32(), True, False, False, None),
        ("g", pa.string(), True, False, False, None),
        ("h", pa.decimal128(10, 2), True, False, False, None),
        ("i", pa.string(), True, False, False, None),
        ("j", pa.string(), True, False, False, None),
        ("k", pa.string(), True, False, False, None),
    ]


def test_a_primary_key_that_is_not_the_rowid_has_no_default(url: str) -> None:
    script(url, "CREATE TABLE t (id INT PRIMARY KEY, n)")
    assert prepared(url, None)[0] == ("id", pa.int64(), False, False, True, None)
    script(url, "DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY) WITHOUT ROWID")
    assert prepared(url, None)[0] == ("id", pa.int64(), False, False, True, None)


def test_prepare_without_table_or_schema_says_what_to_do(url: str, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"no table 't'.*--create"):
        prepared(url, None)
    assert list(tmp_path.iterdir()) == []
    script(url, "CREATE TABLE other (id)")
    with pytest.raises(LookupError, match=r"no table 't'.*--create"):
        prepared(url, None)
    script(url, "DROP TABLE other")
    assert query(url, "SELECT * FROM sqlite_master") == []


def test_a_made_table_remembers_its_types_for_the_next_run(url: str) -> None:
    schema = pa.schema(
        [
            pa.field("k", pa.string(), nullable=False),
            pa.field("big", pa.uint64()),
            pa.field("price", pa.decimal128(18, 4)),
            pa.field("small", pa.decimal128(15, 2)),
            pa.field("at", pa.timestamp("us", "Europe/Paris")),
            pa.field("flag", pa.bool_()),
            pa.field("id", pa.uuid()),
            pa.field("tags", pa.list_(pa.string())),
        ]
    )
    first = prepared(url, schema, key=("k",))
    assert prepared(url, None, key=("k",)) == first
    assert [row[1] for row in first] == [
        pa.string(),
        pa.decimal128(20, 0),
        pa.decimal128(18, 4),
        pa.decimal128(15, 2),
        pa.timestamp("us", "UTC"),
        pa.bool_(),
        pa.uuid(),
        pa.list_(pa.string()),
    ]
    assert first[0][2:5] == (False, False, True)


@pytest.mark.parametrize(
    ("mode", "sql", "key", "text"),
    [
        ("upsert", "CREATE TABLE t (id, name)", (), "no primary key"),
        ("ignore", "CREATE TABLE t (id, name)", ("id",), "ON CONFLICT"),
        ("upsert", "CREATE TABLE t (id PRIMARY KEY, name)", ("nope",), "nope"),
    ],
)
def test_a_mode_whose_key_is_not_unique_is_refused(
    url: str, mode: Any, sql: str, key: Any, text: str
) -> None:
    script(url, sql)
    with pytest.raises(LookupError, match=text):
        prepared(url, None, mode=mode, key=key)


# --- stored forms ---

PARIS = timezone(timedelta(hours=1))
TYPES: list[tuple[pa.DataType, list[Any], list[Any]]] = [
    (pa.bool_(), [True, False], [1, 0]),
    (pa.int64(), [2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
    (pa.uint64(), [Decimal(2**64 - 1), 0], [str(2**64 - 1), "0"]),
    (pa.float64(), [0.1, float("inf"), -1e300, 5e-324], [0.1, float("inf"), -1e300, 5e-324]),
    (pa.decimal128(15, 4), [Decimal("12345678901.2345"), Decimal("-0.0001")], [12345678901.2345, -0.0001]),
    (
        pa.decimal128(38, 10),
        [Decimal("1234567890123456789012345678.0123456789"), Decimal("0.0000000001"), Decimal(7)],
        ["1234567890123456789012345678.0123456789", "0.0000000001", "7.0000000000"],
    ),
    (
        pa.string(),
        ["", "Zürich 株式 🚀 'x' \"y\"\n,", "007", "1e5"],
        ["", "Zürich 株式 🚀 'x' \"y\"\n,", "007", "1e5"],
    ),
    (pa.binary(), [b"", b"\0\xff"], [b"", b"\0\xff"]),
    (pa.date32(), [date(1, 1, 1), date(9999, 12, 31)], ["0001-01-01", "9999-12-31"]),
    (
        pa.timestamp("us"),
        [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)],
        ["0001-01-01T00:00:00.000000", "9999-12-31T23:59:59.999999"],
    ),
    (
        pa.timestamp("us", "UTC"),
        [datetime(2024, 1, 2, 9, 30, tzinfo=UTC), datetime(2024, 1, 2, 0, 30, tzinfo=PARIS)],
        ["2024-01-02T09:30:00.000000+00:00", "2024-01-01T23:30:00.000000+00:00"],
    ),
    (
        pa.uuid(),
        [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)],
        ["00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    ),
    (pa.list_(pa.string()), [["a", None, "ü"], []], ['["a",null,"ü"]', "[]"]),
    (
        pa.struct({"a": pa.int64(), "d": pa.decimal128(5, 2)}),
        [{"a": 1, "d": Decimal("1.50")}],
        ['{"a":1,"d":"1.50"}'],
    ),
]


def stored(url: str) -> list[tuple[Any, ...]]:
    return query(url, "SELECT typeof(v), v FROM t ORDER BY rowid")


@pytest.mark.parametrize("repeat", [1, 300], ids=["few rows", "many rows"])
@pytest.mark.parametrize(("kind", "values", "expected"), TYPES, ids=[str(kind) for kind, _, _ in TYPES])
def test_every_type_is_stored_alike_from_arrow_and_from_python(
    tmp_path: Path, kind: pa.DataType, values: list[Any], expected: list[Any], repeat: int
) -> None:
    values, expected = [None, *values] * repeat, [None, *expected] * repeat
    arrow, python = f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/p.db"
    for url in (arrow, python):
        prepared(url, pa.schema([pa.field("v", kind)]))
    taken = pa.decimal128(20, 0) if kind == pa.uint64() else kind
    load(arrow, pa.table({"v": pa.array(values, taken)}))
    load(python, [{"v": value} for value in values])
    assert [value for _, value in stored(arrow)] == expected
    assert stored(arrow) == stored(python)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_other_encodings_of_text_are_text(url: str, kind: pa.DataType) -> None:
    prepared(url, pa.schema([("v", kind)]))
    load(url, pa.table({"v": pa.array([None, "a"] * 400, pa.string()).cast(kind)}))
    assert stored(url) == [("null", None), ("text", "a")] * 400


BAD: list[tuple[pa.DataType, Any, str]] = [
    (pa.float64(), float("nan"), "NaN"),
    (pa.string(), "a\0b", "NUL"),
    (pa.timestamp("us"), 253402300800000000, "year"),
    (pa.date32(), 2932897, "year"),
]


@pytest.mark.parametrize("before", [3, 900])
@pytest.mark.parametrize(("kind", "value", "text"), BAD, ids=[text + str(kind) for kind, _, text in BAD])
def test_arrow_values_sqlite_would_change_are_rejected_by_row(
    url: str, kind: pa.DataType, value: Any, text: str, before: int
) -> None:
    prepared(url, pa.schema([pa.field("v", kind)]))
    with SqliteSink(url, table="t") as sink:
        sink.begin()
        with pytest.raises(BadValueError, match=f"column v: .*{text}") as caught:
            sink.write_arrow(pa.table({"v": pa.array([None] * before + [value], kind)}))
        assert (sink.classify(caught.value), sink.hint(caught.value)) == ("reject", before)


@pytest.mark.parametrize(
    "value",
    [float("nan"), "a\0b", "\ud800", Decimal("NaN"), object(), {"a": float("nan")}],
    ids=["nan", "nul", "surrogate", "decimal nan", "object", "nan inside"],
)
def test_python_values_sqlite_would_change_are_rejected_by_row(url: str, value: object) -> None:
    script(url, "CREATE TABLE t (v)")
    with SqliteSink(url, table="t") as sink:
        sink.begin()
        with pytest.raises(BadValueError, match="column v: ") as caught:
            sink.write([{"v": 1}, {"v": value}])
        assert (sink.classify(caught.value), sink.hint(caught.value)) == ("reject", 1)
        sink.write([{"v": 1}])
        sink.commit()
    assert query(url, "SELECT v FROM t") == [(1,)]


def test_an_integer_beyond_64_bits_is_rejected_by_row(url: str) -> None:
    script(url, "CREATE TABLE t (v)")
    with SqliteSink(url, table="t") as sink:
        sink.begin()
        with pytest.raises(OverflowError) as caught:
            sink.write([{"v": 1}, {"v": 2**63}])
        assert (sink.classify(caught.value), sink.hint(caught.value)) == ("reject", 1)


@pytest.mark.parametrize(
    "text", ["1234567890.1234567", "0.12345678901234567", "9223372036854775808", "1e999", " 1e-400 "]
)
def test_digits_a_numeric_column_would_round_are_rejected(url: str, text: str) -> None:
    script(url, "CREATE TABLE t (v NUMERIC)")
    with SqliteSink(url, table="t") as sink:
        sink.begin()
        for rows in ([{"v": "1"}, {"v": text}], [{"v": "1"}, {"v": Decimal(text.strip())}]):
            with pytest.raises(BadValueError, match=r"column v: .*digits"):
                sink.write(rows)
        with pytest.raises(BadValueError, match=r"column v: .*digits"):
            sink.write_arrow(pa.table({"v": ["1", text]}))


@pytest.mark.parametrize(
    "text", ["123456789012.345", "9223372036854775807", "0.000000000123456789012345", "n/a", "1.50"]
)
def test_digits_a_numeric_column_keeps_are_written(url: str, text: str) -> None:
    script(url, "CREATE TABLE t (v NUMERIC)")
    load(url, [{"v": text}])
    load(url, pa.table({"v": [text]}))
    (kept,), again = query(url, "SELECT v FROM t")
    assert (kept,) == again
    assert kept == text if kept == "n/a" else Decimal(str(kept)) == Decimal(text)


@pytest.mark.parametrize("arrow", [False, True])
def test_an_integer_that_a_real_column_would_round_is_rejected(url: str, arrow: bool) -> None:
    script(url, "CREATE TABLE t (v REAL)")
    good, bad = [None, 2**53, -(2**53), 2**60], [5, -(2**53) - 1, 2**53 + 1]
    form: Any = pa.Table.from_pylist if arrow else list
    load(url, form([{"v": value} for value in good]))
    with pytest.raises(BadValueError, match="v: -9007199254740993 has more digits") as caught:
        load(url, form([{"v": value} for value in bad]))
    assert caught.value.index == 1
    assert query(url, "SELECT CAST(v AS INTEGER) FROM t") == [(value,) for value in good]


@pytest.mark.parametrize("arrow", [False, True])
def test_a_float_in_a_text_column_keeps_its_digits(url: str, arrow: bool) -> None:
    script(url, "CREATE TABLE t (v TEXT)")
    rows = [{"v": value} for value in (0.1 + 0.2, 1e300, None)]
    load(url, pa.Table.from_pylist(rows) if arrow else rows)
    assert query(url, "SELECT v FROM t") == [("0.30000000000000004",), ("1e+300",), (None,)]


@pytest.mark.parametrize("value", [Decimal("1.234"), "0.001", 1e-7, Decimal(10**16), Decimal("NaN"), "x"])
def test_a_value_that_is_no_such_decimal_is_rejected(url: str, value: object) -> None:
    prepared(url, pa.schema([pa.field("v", pa.decimal128(18, 2))]))
    with pytest.raises(BadValueError, match=r"v: .* does not fit decimal\(18,2\)|is no number"):
        load(url, [{"v": value}])


ROW = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "s": st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        "d": st.none() | st.decimals(-(10**14) + 1, 10**14 - 1, places=4),
        "f": st.none() | st.floats(allow_nan=False),
        "b": st.none() | st.binary(),
        "t": st.none() | st.datetimes(timezones=st.just(UTC)),
    }
)
ROW_SCHEMA = pa.schema(
    [
        ("i", pa.int64()),
        ("s", pa.string()),
        ("d", pa.decimal128(18, 4)),
        ("f", pa.float64()),
        ("b", pa.binary()),
        ("t", pa.timestamp("us", "UTC")),
    ]
)


@given(st.lists(ROW, min_size=1, max_size=20), st.sampled_from([0, module.STAGE_ROWS]))
@settings(max_examples=40, deadline=None)
def test_any_rows_are_stored_alike_on_every_way_in(rows: list[dict[str, Any]], threshold: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STAGE_ROWS", threshold)
        arrow, python = f"sqlite:///{folder}/a.db", f"sqlite:///{folder}/p.db"
        for url in (arrow, python):
            prepared(url, ROW_SCHEMA)
        load(arrow, pa.Table.from_pylist(rows, ROW_SCHEMA))
        load(python, rows)
        found = query(arrow, "SELECT * FROM t ORDER BY rowid")
        assert found == query(python, "SELECT * FROM t ORDER BY rowid")
        assert [row[:2] for row in found] == [(row["i"], row["s"]) for row in rows]
        assert [row[2] and Decimal(row[2]) for row in found] == [row["d"] for row in rows]


# --- rows ---


@pytest.mark.parametrize(("bad", "reason"), [({}, "the row is empty"), ({7: 5}, "no column 7$")])
@pytest.mark.parametrize("mode", ["append", "ignore", "upsert"])
def test_a_row_without_a_column_to_write_to_is_rejected_alone(
    url: str, mode: str, bad: dict[Any, Any], reason: str
) -> None:
    script(url, 'CREATE TABLE t (id INTEGER PRIMARY KEY, name, "7")')
    with SqliteSink(url, table="t", mode=mode) as sink:
        for index, rows in enumerate(([bad], [{"id": 1}, bad, {"name": "b", "id": 2}])):
            sink.begin()
            with pytest.raises(BadValueError, match=reason) as caught:
                sink.write(rows)
            assert (sink.hint(caught.value), sink.classify(caught.value)) == (index, "reject")
            sink.write([{"ID": index, "7": 5}])
            sink.commit()
    assert query(url, "SELECT * FROM t") == [(0, None, 5), (1, None, 5)]


def test_hostile_names_and_values_are_only_names_and_values(url: str) -> None:
    name, column = 'a"b; DROP TABLE x; --', "col]`'\" (?)"
    schema = pa.schema([pa.field(column, pa.string()), pa.field("select", pa.int64())])
    evil = "'); DROP TABLE t; --"
    with SqliteSink(url, table=name, mode="upsert", key=(column,)) as sink:
        sink.prepare(LOAD, schema)
        sink.begin(receipt())
        sink.write([{column: evil, "select": 1}])
        sink.write_arrow(pa.table({column: [evil] * 600, "select": list(range(600))}))
        sink.commit()
    assert query(url, 'SELECT * FROM "a""b; DROP TABLE x; --"') == [(evil, 599)]


def test_a_column_that_a_row_lacks_gets_its_default(url: str) -> None:
    script(url, "CREATE TABLE t (a, b DEFAULT 'd', c)")
    load(url, [{"a": 1}, {"c": 2, "a": 2}, {"a": 3, "b": None}])
    assert query(url, "SELECT * FROM t") == [(1, "d", None), (2, "d", 2), (3, None, None)]


@pytest.mark.parametrize("count", [10, 2000])
def test_a_table_with_its_columns_in_another_order_or_missing_lands_right(url: str, count: int) -> None:
    script(url, "CREATE TABLE t (name TEXT, other DEFAULT 5, id INTEGER)")
    load(url, table(count))
    assert query(url, "SELECT * FROM t") == [(f"n{number}", 5, number) for number in range(count)]


@pytest.mark.parametrize("bad", [5, 1500])
def test_a_failed_write_leaves_nothing_names_its_row_and_the_transaction_goes_on(url: str, bad: int) -> None:
    script(url, "CREATE TABLE t (id INTEGER UNIQUE, name TEXT)")
    load(url, table(1, first=bad))
    with SqliteSink(url, table="t") as sink:
        sink.begin()
        sink.write_arrow(table(2, first=-2))
        with pytest.raises(sqlite3.IntegrityError) as caught:
            sink.write_arrow(table(2000))
        assert (sink.classify(caught.value), sink.hint(caught.value)) == ("reject", bad)
        assert not sink.doomed
        sink.write_arrow(table(2000).slice(0, bad))
        with pytest.raises(sqlite3.IntegrityError) as caught:
            sink.write(table(bad + 1).to_pylist()[bad - 1 :])
        assert sink.hint(caught.value) == 0
        sink.commit()
    assert query(url, "SELECT count(*), sum(id) FROM t") == [(bad + 3, sum(range(bad + 1)) - 3)]


def test_large_tables_in_one_transaction_and_in_many_arrive_once_each(url: str) -> None:
    prepared(url)
    with SqliteSink(url, table="t") as sink:
        for first in range(0, 12_000, 4_000):
            sink.begin()
            sink.write_arrow(table(2_000, first))
            sink.write_arrow(table(2_000, first + 2_000))
            sink.rollback() if first == 4_000 else sink.commit()
    numbers = [*range(4_000), *range(8_000, 12_000)]
    assert query(url, "SELECT id, name FROM t ORDER BY rowid") == [
        (number, f"n{number}") for number in numbers
    ]


def test_without_adbc_arrow_tables_still_load(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "find_spec", lambda name: None if name.startswith("adbc") else find_spec(name)
    )
    prepared(url)
    load(url, table(1000))
    assert query(url, "SELECT count(*), sum(id) FROM t") == [(1000, 499500)]
    assert "adbc" in SqliteSink(url, table="t").doctor()[1]


def test_another_connection_of_this_process_may_come_and_go_during_a_load(url: str) -> None:
    prepared(url)
    with SqliteSink(url, table="t") as sink:
        for first in (0, 1000, 2000):
            sink.begin()
            sink.write_arrow(table(1000, first))
            query(url, "SELECT count(*) FROM t")
            sink.commit()
            assert query(url, "SELECT count(*) FROM t") == [(first + 1000,)]
    assert query(url, "PRAGMA integrity_check") == [("ok",)]


def test_a_row_without_its_parent_is_rejected_at_once_or_before_the_commit(url: str) -> None:
    script(
        url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (id REFERENCES p);"
        "CREATE TABLE d (id REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    )
    with SqliteSink(url, table="t") as sink:
        sink.begin()
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            sink.write([{"id": 1}])
    with SqliteSink(url, table="d") as sink:
        sink.begin()
        sink.write([{"id": 1}])
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY") as caught:
            sink.commit()
        assert sink.classify(caught.value) == "reject"
        assert not sink.doomed


@pytest.mark.parametrize("arrow", [False, True])
def test_after_a_deferred_key_failed_at_commit_the_next_attempt_names_the_row(url: str, arrow: bool) -> None:
    script(
        url,
        "CREATE TABLE p (a, b, PRIMARY KEY (a, b)); INSERT INTO p VALUES (1, 'x');"
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b,"
        " FOREIGN KEY (a, b) REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    )
    orphan = {"id": 600, "a": 1, "b": "y"}
    rows = [
        *({"id": number, "a": 1, "b": "x"} for number in range(600)),
        orphan,
        {"id": 601, "a": 2, "b": None},
    ]
    with SqliteSink(url, table="t") as sink:
        write: Any = sink.write_arrow if arrow else sink.write
        form: Any = pa.Table.from_pylist if arrow else list
        sink.begin()
        write(form(rows))
        with pytest.raises(sqlite3.IntegrityError):
            sink.commit()
        sink.rollback()
        sink.begin()
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY") as caught:
            write(form(rows))
        assert (sink.classify(caught.value), sink.hint(caught.value), sink.doomed) == ("reject", 600, False)
        write(form(rows[:600]))
        write(form(rows[601:]))
        sink.commit()
        sink.begin()
        sink.write([{"id": 700, "a": 3, "b": "z"}])  # deferred again: the parent comes later
        sink._session.db.execute("INSERT INTO p VALUES (3, 'z')")
        sink.commit()
    assert query(url, "SELECT count(*), max(id) FROM t") == [(602, 700)]


def test_writing_without_begin_is_a_clear_error(url: str) -> None:
    with SqliteSink(url, table="t") as sink, pytest.raises(sqlite3.ProgrammingError, match="begin"):
        sink.write([{"a": 1}])


# --- modes ---


@pytest.mark.parametrize("repeat", [1, 400])
def test_ignore_keeps_the_first_and_counts_duplicates(url: str, repeat: int) -> None:
    prepared(url, key=("id",))
    rows = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 1, "name": "c"}] * repeat
    assert load(url, pa.Table.from_pylist(rows), mode="ignore").duplicates == len(rows) - 2
    assert load(url, rows, mode="ignore").duplicates == len(rows)
    assert query(url, "SELECT * FROM t") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("repeat", [1, 400])
def test_upsert_keeps_the_last(url: str, repeat: int) -> None:
    prepared(url, key=("id",))
    rows = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 1, "name": "c"}] * repeat
    load(url, pa.Table.from_pylist(rows), mode="upsert")
    assert query(url, "SELECT * FROM t") == [(1, "c"), (2, "b")]
    load(url, [{"id": 2, "name": "x"}, {"id": 2, "name": "y"}], mode="upsert")
    assert query(url, "SELECT * FROM t") == [(1, "c"), (2, "y")]


def test_upsert_of_keys_alone_changes_nothing(url: str) -> None:
    script(url, "CREATE TABLE t (id PRIMARY KEY)")
    load(url, [{"id": 1}, {"id": 1}], mode="upsert")
    assert query(url, "SELECT * FROM t") == [(1,)]


def test_replace_shows_the_new_rows_only_after_finish_and_a_resume_keeps_what_is_loaded(url: str) -> None:
    script(
        url,
        """CREATE TABLE "t" (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'bad'));
        CREATE UNIQUE INDEX by_name ON t (name); CREATE TABLE log (id);
        CREATE TRIGGER logged AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.id); END;
        INSERT INTO t VALUES (7, 'old')""",
    )
    before = query(url, "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = 't' ORDER BY name")
    for run, owner in enumerate(("one", "two")):
        taken = LOAD | {"owner": owner}
        prepared(url, None, taken, mode="replace")
        with SqliteSink(url, table="t", mode="replace") as sink:
            assert sink.begin(receipt(f"b{run}", [(0, run, run)], owner=owner, rows=1))
            sink.write([{"id": run, "name": f"new{run}"}])
            for bad in ("bad", f"new{run}"):
                with pytest.raises(sqlite3.IntegrityError):
                    sink.write([{"id": 100, "name": bad}])
            sink.commit()
        assert query(url, "SELECT name FROM t") == [("old",)]
    with SqliteSink(url, table="t", mode="replace") as sink:
        sink.finish(taken)
        sink.finish(taken)
    assert query(url, "SELECT id, name FROM t") == [(0, "new0"), (1, "new1")]
    assert query(url, "SELECT id FROM log WHERE id < 7") == [(0,), (1,)]
    assert (
        query(url, "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = 't' ORDER BY name") == before
    )
    assert query(url, "SELECT name FROM sqlite_master WHERE name GLOB '_adaptive_new*'") == []


def staged(url: str, ledger: str) -> None:
    """Leave a load half done that replaces the table."""
    with SqliteSink(url, table="t", mode="replace", ledger=ledger) as sink:
        sink.prepare(LOAD)
        sink.begin(receipt())
        sink.write([{"id": 1}])
        sink.commit()


def test_a_load_with_another_ledger_leaves_what_is_staged(url: str) -> None:
    script(url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    staged(url, "one")
    staged(url, "two")
    for ledger in ("one", "two"):
        with SqliteSink(url, table="t", mode="replace", ledger=ledger) as sink:
            sink.prepare(LOAD)
            assert not sink.begin(receipt())
            sink.finish(LOAD)
        assert query(url, "SELECT id FROM t") == [(1,)]


def test_replace_starts_again_if_its_staging_table_is_gone(url: str) -> None:
    script(url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    staged(url, "_adaptive")
    ((name,),) = query(url, "SELECT name FROM sqlite_master WHERE name GLOB '_adaptive_new*'")
    script(url, f"DROP TABLE {name}")
    with SqliteSink(url, table="t", mode="replace") as sink:
        sink.prepare(LOAD)
        assert sink.receipts("l1") == []
        assert sink.begin(receipt())


def test_replace_neither_cascades_nor_leaves_orphans(url: str) -> None:
    script(
        url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);"
        "CREATE TABLE child (t REFERENCES t ON DELETE CASCADE); INSERT INTO child VALUES (1)",
    )
    prepared(url, None, mode="replace")
    with SqliteSink(url, table="t", mode="replace") as sink:
        sink.begin(receipt())
        sink.write([{"id": 2}])
        sink.commit()
        with pytest.raises(sqlite3.IntegrityError, match="child without"):
            sink.finish(LOAD)
        assert query(url, "SELECT id FROM t") == [(1,)]
        sink.begin(receipt("b2"))
        sink.write([{"id": 1}])
        sink.commit()
        sink.finish(LOAD)
    assert query(url, "SELECT t.id, child.t FROM t LEFT JOIN child ON child.t = t.id") == [(1, 1), (2, None)]


def test_replace_without_a_receipt_is_refused(url: str) -> None:
    with SqliteSink(url, table="t", mode="replace") as sink, pytest.raises(ValueError, match="receipt"):
        sink.begin()


# --- exactly once ---


def test_rows_and_receipt_are_there_together_and_a_batch_only_once(url: str) -> None:
    prepared(url)
    with SqliteSink(url, table="t") as sink:
        assert sink.begin(receipt(segments=[(0, 0, 3)], rows=4))
        sink.write_arrow(table(3))
        sink.commit(rejected=[(0, 2)], rows=3)
        assert sink.receipts("l1") == [([[0, 0, 3]], 3, [[0, 2]])]
        assert not sink.begin(receipt(segments=[(0, 0, 3)]))
        assert sink.begin(receipt("b2", [(0, 4, 5)]))
        sink.write_arrow(table(2))
        sink.rollback()
        assert len(sink.receipts("l1")) == 1
    assert query(url, "SELECT count(*) FROM t") == [(3,)]


def test_finish_keeps_one_receipt_and_late_writers_out(url: str) -> None:
    prepared(url)
    with SqliteSink(url, table="t") as sink:
        for batch, segments in (("b2", [(0, 2, 3), (1, 0, 0)]), ("b1", [(0, 0, 1)])):
            sink.begin(receipt(batch, segments))
            sink.commit(rejected=[(0, segments[0][1])], rows=1)
        sink.finish(LOAD)
        sink.finish(LOAD)
        assert sink.receipts("l1") == [([[0, 0, 3], [1, 0, 0]], 2, [[0, 0], [0, 2]])]
        with pytest.raises(OwnershipLostError):
            sink.begin(receipt("b1"))
        (done,) = sink.loads()
        sink.prepare(LOAD)
        assert sink.loads() == [done]
    assert (done["state"], done["rows"], done["rejected"]) == ("done", 2, 2)
    assert done["started_at"] <= done["finished_at"]
    assert done["started_at"].tzinfo is not None


def test_receipts_are_looked_up_for_loads_that_run_only(url: str) -> None:
    """So one with very many receipts, done long ago, does not make the next one start late."""
    prepared(url)
    with SqliteSink(url, table="t") as sink:
        sink.begin(receipt())
        sink.commit(rejected=[(0, 1)], rows=1)
        sink.finish(LOAD)
        sink._db.execute("UPDATE _adaptive_ledger SET rejected = 'nobody reads this as JSON'")
        assert [(row["rows"], row["rejected"]) for row in sink.loads()] == [(1, 1)]
    plan = query(url, f"EXPLAIN QUERY PLAN SELECT {module.LOAD} FROM {{loads}} AS found".format(
        ledger="_adaptive_ledger", loads="_adaptive_loads"
    ))  # fmt: skip
    assert not [step for *_, step in plan if "SCAN _adaptive_ledger" in step]


def test_loads_of_other_tables_are_not_listed(url: str) -> None:
    prepared(url)
    with SqliteSink(url, table="other") as sink:
        assert sink.loads() == []
    with SqliteSink(url) as sink:
        assert [load["load"] for load in sink.loads()] == ["l1"]


CHILD = """
import os, sys
import pyarrow as pa
from adaptive.sinks.sqlite import SqliteSink
sink = SqliteSink(sys.argv[1], table="t")
receipt = {"load": "l1", "batch": "b1", "owner": "me", "segments": [[0, 0, 9]], "rows": 10, "replaces": None}
sink.begin(receipt)
sink.write_arrow(pa.table({"id": list(range(5000)), "name": ["x" * 1000] * 5000}))
if sys.argv[2] == "after": sink.commit()
os._exit(9)
"""


@pytest.mark.parametrize(("when", "rows", "receipts"), [("before", 0, 0), ("after", 5000, 1)])
def test_a_process_killed_before_or_after_commit_leaves_nothing_or_everything(
    url: str, when: str, rows: int, receipts: int, tmp_path: Path
) -> None:
    prepared(url)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, url, when], env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert child.returncode == 9
    assert query(url, "SELECT count(*) FROM t") == [(rows,)]
    assert query(url, "SELECT count(*) FROM _adaptive_ledger") == [(receipts,)]
    assert list(tmp_path.glob("adaptive-*")) == []


WRITER = """
import sys
from adaptive.sinks.sqlite import SqliteSink
with SqliteSink(sys.argv[1], table="t") as sink:
    for number in range(50):
        sink.begin(); sink.write([{"id": number, "name": sys.argv[2]}]); sink.commit()
"""


def test_two_processes_write_at_once(url: str) -> None:
    prepared(url)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, url, name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert query(url, "SELECT name, count(*), sum(id) FROM t GROUP BY name") == [
        ("a", 50, 1225),
        ("b", 50, 1225),
    ]


# --- what went wrong ---


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("SQLITE_BUSY", "retry"),
        ("SQLITE_BUSY_SNAPSHOT", "retry"),
        ("SQLITE_LOCKED", "retry"),
        ("SQLITE_NOMEM", "retry"),
        ("SQLITE_CONSTRAINT_UNIQUE", "reject"),
        ("SQLITE_CONSTRAINT_TRIGGER", "reject"),
        ("SQLITE_MISMATCH", "reject"),
        ("SQLITE_TOOBIG", "reject"),
        ("SQLITE_FULL", "fatal"),
        ("SQLITE_READONLY", "fatal"),
        ("SQLITE_CORRUPT", "fatal"),
        ("SQLITE_NOTADB", "fatal"),
        ("SQLITE_CANTOPEN", "fatal"),
        ("SQLITE_PERM", "fatal"),
        ("SQLITE_AUTH", "fatal"),
        ("SQLITE_ERROR", "fatal"),
        ("SQLITE_IOERR_WRITE", "fatal"),
    ],
)
def test_errors_are_classified_by_result_code(url: str, name: str, verdict: str) -> None:
    error = sqlite3.OperationalError("any text")
    error.sqlite_errorcode = getattr(sqlite3, name)
    assert SqliteSink(url).classify(error) == verdict


def test_a_missing_table_is_fatal(url: str) -> None:
    with SqliteSink(url, table="t") as sink:
        sink.begin()
        with pytest.raises(sqlite3.OperationalError, match="no such table") as caught:
            sink.write([{"a": 1}])
        assert sink.classify(caught.value) == "fatal"
        assert sink.classify(KeyError()) == "fatal"


def test_a_lock_held_by_another_is_a_retry(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.0)
    with SqliteSink(url, table="t") as first, SqliteSink(url, table="t") as second:
        first.begin()
        with pytest.raises(sqlite3.OperationalError) as caught:
            second.begin()
        assert second.classify(caught.value) == "retry"
        first.rollback()
        assert second.begin()


HOLDER = """
import signal, sys
from adaptive.sinks.sqlite import SqliteSink
with SqliteSink(sys.argv[1], table="t") as sink:
    sink.begin(); sink.write([{"id": 1}]); print("begun", flush=True); signal.pause()
"""


@contextmanager
def stopped(code: str, url: str) -> Iterator[int]:
    """The id of a process that has printed a line and was then stopped."""
    with subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGSTOP)
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_lock_says_who_holds_it_and_what_to_do(
    url: str, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.0)
    prepared(url)
    query(url, f"PRAGMA journal_mode={journal}")
    with stopped(HOLDER, url) as holder, SqliteSink(url, table="t") as sink:
        who = f"process {holder}" if sys.platform == "linux" else "another process"
        advice = f"{who} has a transaction open in {sink.path}; end it or wait, then repeat the command"
        for refused in (sink.begin, lambda: sink.prepare(LOAD)):
            with pytest.raises(sqlite3.OperationalError) as caught:
                refused()
            assert (str(caught.value), sink.classify(caught.value)) == (advice, "retry")
        assert sink.doctor()[1:] == [advice]
    assert SqliteSink(url, table="t").doctor()[1:] == []


def test_a_full_disk_is_fatal_and_nothing_of_the_batch_is_left(url: str) -> None:
    prepared(url)
    with SqliteSink(url, table="t") as sink:
        sink.open()
        sink._session.db.execute("PRAGMA max_page_count = 20")
        sink.begin(receipt())
        with pytest.raises(sqlite3.OperationalError, match="full") as caught:
            sink.write_arrow(pa.table({"id": list(range(1000)), "name": ["x" * 500] * 1000}))
        assert sink.classify(caught.value) == "fatal"
        sink.rollback()
        assert not sink.doomed
        sink._session.db.execute("PRAGMA max_page_count = 2000")
        assert sink.begin(receipt())
        sink.write_arrow(table(1000))
        sink.commit()
    assert query(url, "SELECT count(*) FROM t") == [(1000,)]


FULL = """
import resource, signal, sys
from adaptive.sinks.sqlite import SqliteSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with SqliteSink(sys.argv[1], table="t") as sink:
    sink.begin(); sink.write([{"id": 1, "name": "kept"}]); sink.commit()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    sink.begin()
    try:
        sink.write([{"id": n, "name": "x" * 1000} for n in range(10_000)]); sink.commit()
    except Exception as error:
        print(type(error).__name__, sink.classify(error), sink.doomed)
"""


def test_a_file_that_cannot_grow_stops_the_load_without_losing_what_was_committed(url: str) -> None:
    prepared(url)
    child = subprocess.run([sys.executable, "-c", FULL, url], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split()[1] in ("fatal", "in_doubt")
    assert query(url, "SELECT id, name FROM t") == [(1, "kept")]


def test_a_read_only_file_is_fatal(url: str, tmp_path: Path) -> None:
    script(url, "CREATE TABLE t (id, name)")
    connection = sqlite3.connect(f"file:{tmp_path}/rel.db?mode=ro", uri=True, isolation_level=None)
    sink = SqliteSink(url, table="t")
    sink._session._db = connection
    with pytest.raises(sqlite3.OperationalError, match="readonly") as caught:
        load_into(sink)
    assert sink.classify(caught.value) == "fatal"
    sink.rollback()
    with pytest.raises(PermissionError, match="writable"):
        sink.prepare(LOAD, SCHEMA)
    sink.close()


def load_into(sink: SqliteSink) -> None:
    sink.begin()
    sink.write([{"id": 1}])


def test_doctor_names_a_file_that_refuses_writes_from_everybody(url: str, tmp_path: Path) -> None:
    script(url, "CREATE TABLE t (id)")
    with (tmp_path / "rel.db").open("r+b") as file:
        file.seek(18)  # the version needed to write (fileformat2.html, section 1.3.3)
        file.write(b"\3")
    assert "must be writable" in SqliteSink(url, table="t").doctor()[1]


def test_doctor_names_a_missing_folder_and_table(url: str, tmp_path: Path) -> None:
    assert "nowhere" in SqliteSink(f"sqlite:///{tmp_path}/nowhere/x.db").doctor()[1]
    script(url, "CREATE TABLE t (id)")
    assert SqliteSink(url, table="t").doctor()[1:] == []
    assert "no table 'u'" in SqliteSink(url, table="u").doctor()[1]


# --- several tables in one commit ---

FILLS = pa.schema(
    [("order_id", pa.int64()), ("price", pa.decimal128(18, 4)), ("at", pa.timestamp("us", "UTC"))]
)


def family(url: str, count: int = 1) -> tuple[SqliteSink, list[SqliteSink]]:
    """A prepared sink and prepared sinks beside it."""
    parent = SqliteSink(url, table="t", key=("id",))
    parent.prepare(LOAD, SCHEMA)
    children = [parent.beside(f"c{number}") for number in range(count)]
    for child in children:
        child.prepare(LOAD, FILLS)
    return parent, children


def fills(count: int) -> pa.Table:
    row = {"order_id": 1, "price": Decimal("1.5"), "at": datetime(2024, 1, 2, tzinfo=UTC)}
    return pa.Table.from_pylist([row | {"order_id": number} for number in range(count)], FILLS)


def test_rows_of_several_tables_and_the_receipt_are_committed_together(url: str) -> None:
    parent, (child,) = family(url)
    for end in ("rollback", "commit"):
        assert parent.begin(receipt())
        parent.write_arrow(table(1000))
        child.write_arrow(fills(1000))
        child.write(fills(1).to_pylist())
        getattr(parent, end)()
        expected = (1000, 1001) if end == "commit" else (0, 0)
        assert query(url, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM c0)") == [expected]
    assert len(parent.receipts("l1")) == 1
    assert (child.receipts("l1"), child.loads()) == ([], [])
    parent.close()
    assert query(url, "SELECT DISTINCT price, at FROM c0") == [("1.5000", "2024-01-02T00:00:00.000000+00:00")]


def test_a_table_made_beside_another_remembers_its_types_for_the_next_run(url: str) -> None:
    parent, (child,) = family(url)
    first = child.columns()
    parent.close()
    again = SqliteSink(url, table="t").beside("c0")
    assert again.prepare(LOAD) == first
    assert [column[1] for column in first] == FILLS.types
    again.close()


def test_without_a_ledger_a_made_table_keeps_its_types_for_this_run(url: str) -> None:
    with SqliteSink(url, table="t", ledger=None) as sink:
        assert [column[1] for column in sink.prepare(LOAD, FILLS)] == FILLS.types


def test_more_tables_than_files_can_be_attached_load_as_well(url: str) -> None:
    parent, children = family(url, 13)
    for _ in range(2):
        parent.begin()
        for child in children:
            child.write_arrow(fills(module.STAGE_ROWS))
        parent.commit()
    parent.close()
    assert [query(url, f"SELECT count(*) FROM c{number}") for number in range(13)] == [
        [(2 * module.STAGE_ROWS,)]
    ] * 13


@pytest.mark.parametrize("bad", [5, 1500])
def test_a_bad_row_of_a_child_leaves_what_the_parent_wrote(url: str, bad: int) -> None:
    script(url, "CREATE TABLE c (id INTEGER UNIQUE, name TEXT)")
    prepared(url)
    with SqliteSink(url, table="t") as parent:
        child = parent.beside("c")
        parent.begin(receipt())
        parent.write_arrow(table(2000))
        child.write(table(1, first=bad).to_pylist())
        with pytest.raises(sqlite3.IntegrityError) as caught:
            child.write_arrow(table(2000))
        assert (child.classify(caught.value), child.hint(caught.value)) == ("reject", bad)
        assert (parent.doomed, child.doomed) == (False, False)
        child.write_arrow(table(2000).slice(0, bad))
        parent.commit()
    assert query(url, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM c)") == [(2000, bad + 1)]


def test_children_follow_their_parent_to_a_new_connection(url: str) -> None:
    parent, (child,) = family(url)
    assert parent.begin(receipt())
    child.write_arrow(fills(1000))
    parent.close()
    parent.open()
    assert parent.begin(receipt())
    child.write_arrow(fills(1000))
    parent.commit()
    parent.close()
    assert query(url, "SELECT count(*) FROM c0") == [(1000,)]


def test_after_a_deferred_key_of_a_child_failed_at_commit_its_writes_check_it(url: str) -> None:
    script(url, "CREATE TABLE c (id REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
    prepared(url, key=("id",))
    with SqliteSink(url, table="t") as parent:
        child = parent.beside("c")
        parent.begin(receipt())
        child.write([{"id": 1}])
        with pytest.raises(sqlite3.IntegrityError):
            parent.commit()
        parent.rollback()
        parent.begin(receipt())
        parent.write([{"id": 1}])
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY") as caught:
            child.write([{"id": 1}, {"id": 2}])
        assert child.hint(caught.value) == 1
        child.write([{"id": 1}])
        parent.commit()
    assert query(url, "SELECT * FROM c") == [(1,)]


# --- alone ---

ALONE = """
import sqlite3, sys
sys.path.insert(0, ".")
for name in ("adaptive", "pyarrow", "adbc_driver_sqlite", "adbc_driver_manager"):
    sys.modules[name] = None
from sqlite import SqliteSink
sqlite3.connect("x.db").execute("CREATE TABLE orders (order_id INTEGER PRIMARY KEY, price TEXT)")
with SqliteSink("sqlite:///x.db", table="orders") as sink:
    sink.begin(); sink.write([{"order_id": 1, "price": "9.99"}]); sink.commit()
"""


def test_the_file_alone_loads_rows_with_the_standard_library_only(tmp_path: Path) -> None:
    shutil.copy(str(module.__file__), tmp_path)
    subprocess.run([sys.executable, "-I", "-c", ALONE], cwd=tmp_path, check=True)
    assert query(f"sqlite:///{tmp_path}/x.db", "SELECT * FROM orders") == [(1, "9.99")]


def test_the_file_alone_loads_arrow_tables(tmp_path: Path) -> None:
    shutil.copy(str(module.__file__), tmp_path)
    code = """
import sys
sys.path.insert(0, "."); sys.modules["adaptive"] = None
from sqlite import SqliteSink
assert "pyarrow" not in sys.modules
import pyarrow as pa
with SqliteSink("sqlite:///x.db", table="t") as sink:
    load = {"load": "l", "fingerprint": "", "source": "", "mapping": "", "owner": "me", "splits": [0]}
    rows = pa.table({"id": list(range(1000))})
    sink.prepare(load, rows.schema); sink.begin(); sink.write_arrow(rows); sink.commit(); sink.finish(load)
"""
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)
    assert query(f"sqlite:///{tmp_path}/x.db", "SELECT sum(id) FROM t") == [(499500,)]


def test_staging_folders_of_killed_processes_are_removed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, alive, young = (tmp_path / f"{module.STAGING}{name}" for name in ("dead", "alive", "young"))
    for folder in (dead, alive, young):
        folder.mkdir()
        (folder / "stage.db").write_bytes(b"left behind")
    for folder in (dead, alive):
        os.utime(folder, (0, 0))
    lock = os.open(alive, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    module._sweep.cache_clear()
    with SqliteSink(url, table="t") as sink:
        sink.prepare(LOAD, pa.schema([("a", pa.int64())]))
        sink.begin()
        sink.write_arrow(pa.table({"a": range(1_000)}))
        sink.commit()
    os.close(lock)
    assert sorted(tmp_path.glob(f"{module.STAGING}*")) == sorted([alive, young])
