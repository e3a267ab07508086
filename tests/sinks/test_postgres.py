"""PostgresSink against a real server; what is in the database is read with plain psycopg."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from adaptive.protocols import Sink
from adaptive.sinks import postgres
from adaptive.sinks.postgres import ConnectError, OwnershipLostError, PostgresSink, ValueRefusedError

Make = Callable[..., PostgresSink]


class Database:
    """A schema of its own, on the search_path of `url`."""

    def __init__(self, url: str, schema: str) -> None:
        self.schema = schema
        self.url = f"{url}?options=-csearch_path%3D{schema}"
        self.link = psycopg.connect(self.url, autocommit=True, prepare_threshold=None)

    def run(self, statement: str) -> None:
        self.link.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.link.execute(query.encode()).fetchall()


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    schema = f"s{secrets.token_hex(6)}"
    with psycopg.connect(postgres_url, autocommit=True) as link:
        link.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    found = Database(postgres_url, schema)
    found.run("CREATE TABLE orders (id int PRIMARY KEY, price numeric(18,4) CHECK (price >= 0), note text)")
    yield found
    found.link.close()


@pytest.fixture
def make(database: Database) -> Iterator[Make]:
    sinks: list[PostgresSink] = []

    def build(table: str = "orders", **options: Any) -> PostgresSink:
        sinks.append(PostgresSink(database.url, table=table, **options))
        sinks[-1].open()
        return sinks[-1]

    yield build
    for sink in sinks:
        sink.close()


def load(name: str = "L", owner: str = "me", splits: tuple[int, ...] = (0,)) -> dict[str, Any]:
    return {
        "load": name,
        "fingerprint": "f",
        "source": "s",
        "mapping": "",
        "owner": owner,
        "splits": list(splits),
    }


def receipt(
    batch: str = "b", owner: str = "me", name: str = "L", split: int = 0, **more: Any
) -> dict[str, Any]:
    return {"load": name, "batch": batch, "owner": owner, "segments": [(split, 0, 9)], "rows": 1,
            "replaces": None, **more}  # fmt: skip


def store(sink: PostgresSink, rows: Any) -> None:
    """Write in one transaction without a receipt."""
    sink.begin()
    sink.write_arrow(rows) if isinstance(rows, pa.Table) else sink.write(rows)
    sink.commit()


# ---- construction and connection


def test_it_is_a_sink() -> None:
    sink: Sink = PostgresSink("postgresql://h/d", table="t")  # the type checker's claim
    offered = {"append", "ignore", "upsert", "replace", "arrow", "transactional", "create", "keys", "tables"}
    assert offered == sink.capabilities


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("mysql://h/d", {"table": "t"}),
        ("postgresql://h/d?nonsense=1", {"table": "t"}),
        ("postgresql://u:p@ss@h/d", {"table": "t"}),
        ("postgresql://h/d", {"table": "a.b.c"}),
        ("postgresql://h/d", {"table": "t", "mode": "merge"}),
    ],
)
def test_an_argument_that_cannot_be_right_is_refused_at_once(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as refused:
        PostgresSink(url, **options)
    assert "p@ss" not in str(refused.value)


def test_a_connection_that_the_server_refuses_may_be_tried_again(postgres_url: str) -> None:
    sink = PostgresSink(urlsplit(postgres_url)._replace(path="/nowhere").geturl())
    with pytest.raises(ConnectError, match="nowhere") as refused:
        sink.open()
    assert sink.classify(refused.value) == "retry"


@pytest.mark.parametrize(("ledger", "idle"), [("_adaptive", "1min"), (None, "0")])
def test_sessions_have_limits_on_the_server(make: Make, ledger: str | None, idle: str) -> None:
    link = make(ledger=ledger)._session.connection
    wanted = {"application_name": "adaptive", "tcp_keepalives_idle": "30", "tcp_user_timeout": "60000",
              "idle_in_transaction_session_timeout": idle}  # fmt: skip
    for name, value in wanted.items():
        assert link.execute(f"SHOW {name}".encode()).fetchone() == (value,)


# ---- rows


def test_strings_load_into_any_column_without_prepare(make: Make, database: Database) -> None:
    store(make(), [{"id": 1, "price": "9.99"}, {"id": "2", "price": None}])
    assert database.rows("SELECT id, price FROM orders ORDER BY id") == [(1, Decimal("9.9900")), (2, None)]


def test_uneven_rows_write_null_for_what_they_lack(make: Make, database: Database) -> None:
    store(make(), [{"id": 1, "note": "a"}, {"id": 2, "price": Decimal(3)}, {"id": 3}])
    assert database.rows("SELECT * FROM orders ORDER BY id") == [
        (1, None, "a"), (2, Decimal("3.0000"), None), (3, None, None)]  # fmt: skip


def test_columns_left_out_take_their_defaults(make: Make, database: Database) -> None:
    database.run("CREATE TABLE d (id int GENERATED ALWAYS AS IDENTITY, a int DEFAULT 7, b int, "
                 "c int GENERATED ALWAYS AS (b * 2) STORED)")  # fmt: skip
    store(make("d"), [{"b": 1}])
    assert database.rows("SELECT * FROM d") == [(1, 7, 1, 2)]


@pytest.mark.parametrize("mode", ["append", "ignore", "upsert"])
def test_an_empty_row_is_refused_also_where_every_column_may_be_null(
    database: Database, make: Make, mode: str
) -> None:
    database.run("CREATE TABLE notes (id serial UNIQUE, note text)")
    with make("notes", mode=mode, key="id") as sink:
        for bad, rows in enumerate(([{}], [{"id": 1}, {}, {"note": "b", "id": 2}])):
            sink.begin()
            with pytest.raises(ValueRefusedError, match="the row is empty") as refused:
                sink.write(rows)
            assert (sink.hint(refused.value), sink.classify(refused.value)) == (bad, "reject")
            sink.write([{"note": "c", "id": bad}])
            sink.commit()
    assert database.rows("SELECT id, note FROM notes ORDER BY id") == [(0, "c"), (1, "c")]


def test_an_unknown_column_is_the_fault_of_its_row(make: Make) -> None:
    sink = make()
    sink.begin()
    with pytest.raises(psycopg.DataError, match="'nope'") as refused:
        sink.write([{"id": 1}, {"id": 2, "nope": 2}])
    assert (sink.classify(refused.value), sink.hint(refused.value)) == ("reject", 1)
    with pytest.raises(LookupError, match="'nope'") as fatal:
        sink.write_arrow(pa.table({"nope": [1]}))
    assert sink.classify(fatal.value) == "fatal"


def test_nothing_is_written_outside_a_transaction(make: Make, database: Database) -> None:
    with pytest.raises(RuntimeError, match="begin"):
        make().write([{"id": 1}])
    assert database.rows("SELECT * FROM orders") == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int4", 2**40), ("int2", 70_000), ("int8", 2**64), ("float4", 1e300), ("date", datetime(2020, 1, 1, 5)),
     ("timestamp", datetime(2020, 1, 1, tzinfo=UTC)), ("time", time(1, tzinfo=UTC)), ("text", b"x"),
     ("interval", "rubbish"), ("float8", 2**53 + 1), ("float4", -(2**24) - 1), ("numeric(15,2)", 1e-7),
     ("numeric(18,4)", Decimal("1.00001")), ("numeric(4,2)", "1.005"), ("numeric(3,-2)", 150),
     ("timestamp(3)", datetime(2020, 1, 1, 1, 1, 1, 1001)), ("time(0)", time(1, 1, 1, 1)),
     ("jsonb", {"a": b"b"}),
     ("jsonb", [float("nan")]), ("int4", 1.5), ("text", "\ud800"), ("text", "a\0b"), ("numeric", object()),
     ("uuid", "x"), ("bool", 5)],
)  # fmt: skip
def test_a_value_that_would_change_is_a_reject_with_its_row(
    make: Make, database: Database, kind: str, value: object
) -> None:
    database.run(f"CREATE TABLE v (v {kind})")
    sink = make("v")
    sink.begin()
    with pytest.raises(psycopg.Error) as refused:
        sink.write([{"v": None}, {"v": value}])
    assert (sink.classify(refused.value), sink.hint(refused.value), sink.doomed) == ("reject", 1, False)


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [("jsonb", {"a": [1]}, {"a": [1]}), ("jsonb", '{"a": 1}', {"a": 1}), ("json", [1], [1]), ("json", "2", 2),
     ("jsonb", {"a": [Decimal("1.50"), date(1, 1, 1)]}, {"a": ["1.50", "0001-01-01"]}),
     ("json", [uuid.UUID(int=0), datetime(2020, 1, 1, tzinfo=UTC)],
      [str(uuid.UUID(int=0)), "2020-01-01T00:00:00+00:00"]), ("float8", 2**60, 2.0**60),
     ("numeric(18,4)", "1.50000", Decimal("1.5000")), ("numeric(3,-2)", 100, Decimal(100)),
     ("numeric(9,2)", 5, Decimal("5.00")), ("numeric(38,10)", Decimal("1e-10"), Decimal("1e-10")),
     ("timestamp(3)", datetime(2020, 1, 1, 1, 1, 1, 5000), datetime(2020, 1, 1, 1, 1, 1, 5000)),
     ("int4[]", [1, None], [1, None]), ("inet", "10.0.0.1", "10.0.0.1/32"), ("interval", "1 day", "1 day"),
     ("numeric", Decimal("1e-30"), Decimal("1e-30")), ("numeric", "NaN", "NaN"), ("bool", 1, True),
     ("bytea", b"\0\xff", b"\0\xff"),
     ("timestamptz", datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC)), ("money", 5, "$5.00"),
     ("date", date.max, date.max), ("text", 5, "5"), ("char(3)", "a", "a  "),
     ("float8", "inf", float("inf"))],
)  # fmt: skip
def test_a_python_value_arrives(
    make: Make, database: Database, kind: str, value: object, stored: object
) -> None:
    database.run(f"CREATE TABLE v (v {kind})")
    store(make("v"), [{"v": None}, {"v": value}])
    shown = "v" if kind == "char(3)" or not isinstance(stored, str) else "v::text"
    assert database.rows(f"SELECT {shown} FROM v") == [(None,), (stored,)]


# ---- Arrow

BIG = Decimal("9" * 38)
ROUND_TRIPS: list[tuple[str, pa.DataType, list[Any]]] = [
    ("bool", pa.bool_(), [True, False]),
    ("int2", pa.int16(), [-(2**15), 2**15 - 1]),
    ("int4", pa.int32(), [-(2**31), 2**31 - 1]),
    ("int8", pa.int64(), [-(2**63), 2**63 - 1]),
    ("float4", pa.float32(), [1.5, float("inf"), -0.25]),
    ("float8", pa.float64(), [5e-324, 1.7976931348623157e308, float("-inf"), 0.1]),
    ("numeric(38,0)", pa.decimal128(38, 0), [BIG, BIG.copy_negate(), Decimal(0)]),
    ("numeric(38,38)", pa.decimal128(38, 38), [Decimal(f"0.{BIG}"), Decimal("1e-38")]),
    ("numeric(18,4)", pa.decimal128(18, 4), [Decimal("99999999999999.9999"), Decimal("-0.01"), Decimal(100)]),
    ("numeric(2,4)", pa.decimal128(4, 4), [Decimal("0.0099")]),
    ("text", pa.string(), ["", "\\N", "a\tb\r\n\\", "é\U0001f600", "x" * 200_000, '"', "\\."]),
    ("varchar(3)", pa.string(), ["", "\U0001f600éé"]),
    ("char(3)", pa.string(), ["abc"]),
    ("name", pa.string(), ["n"]),
    ("mood", pa.string(), ["sad", "so so"]),
    ("date", pa.date32(), [date.min, date.max, date(1999, 12, 31)]),
    ("time", pa.time64("us"), [time.min, time.max]),
    ("time(0)", pa.time32("s"), [time(23, 59, 59)]),
    ("timestamp", pa.timestamp("us"), [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    ("timestamp(3)", pa.timestamp("ms"), [datetime(1969, 12, 31, 23, 59, 59, 1000)]),
    ("timestamptz", pa.timestamp("us", "UTC"), [datetime(1, 1, 1, tzinfo=UTC),
                                                 datetime(1999, 12, 31, 23, 59, 59, 999999, UTC)]),
    ("bytea", pa.binary(), [b"", b"\0\xff\\", b"\n\t"]),
    ("uuid", pa.uuid(), [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)]),
    ("jsonb", pa.string(), ['{"a": "b\\nc"}', "null", "[1.50]"]),
    ("json", pa.string(), ['{"a":"b\\nc"}']),
    ("positive", pa.int32(), [1, 2**31 - 1]),
    ("price", pa.decimal128(18, 4), [Decimal("1.2345")]),
]  # fmt: skip
AS_TEXT: list[tuple[str, list[str]]] = [
    ("numeric", ["1E+40", "0.00000000000000000000000000000000000000001", "NaN"]),
    ("inet", ["10.0.0.1/32"]), ("interval", ["1 day 02:00:00"]), ("int4[]", ["{1,NULL,3}"]),
    ("xml", ["<a>\n</a>"]),
    ("timetz", ["01:02:03+00"]), ("int4range", ["[1,5)"]), ("money", ["$5.00"]), ("numeric(50,2)", ["1.20"]),
    ("point", ["(1,2)"]), ("bit(3)", ["101"]),
]  # fmt: skip


@pytest.fixture
def types(database: Database) -> None:
    database.run("CREATE TYPE mood AS ENUM ('sad', 'so so')")
    database.run("CREATE DOMAIN positive AS int CHECK (value > 0)")
    database.run("CREATE DOMAIN price AS numeric(18,4)")


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize(("kind", "arrow", "values"), ROUND_TRIPS, ids=[kind for kind, _, _ in ROUND_TRIPS])
def test_a_type_arrives_unchanged_in_both_forms(
    make: Make, database: Database, types: None, kind: str, arrow: pa.DataType, values: list[Any], form: str
) -> None:
    values = [None, *values, None]
    database.run(f"CREATE TABLE v (v {kind}, n serial)")
    sink = make("v")
    column, _ = sink.prepare(load())
    assert column[1] == arrow
    if form == "text":
        sink._as_text.add(("v",))
    stored = [value.bytes if isinstance(value, uuid.UUID) else value for value in values]
    store(sink, pa.table({"v": pa.array(stored, arrow)}))
    assert (("v",) in sink._as_text) == (form == "text")
    shown = "v::text" if kind.startswith("json") else "v"
    assert [row[0] for row in database.rows(f"SELECT {shown} FROM v ORDER BY n")] == values


@pytest.mark.parametrize(("kind", "values"), AS_TEXT, ids=[kind for kind, _ in AS_TEXT])
def test_a_type_without_binary_form_makes_the_table_load_as_text(
    make: Make, database: Database, kind: str, values: list[str]
) -> None:
    database.run(f"CREATE TABLE v (v {kind}, b bytea, u uuid, t text, n serial)")
    sink = make("v")
    assert sink.prepare(load())[0][1] == pa.string()
    other = {"b": pa.array([b"\\\0"] * len(values)), "t": pa.array(["a\\\nb\t"] * len(values)),
             "u": pa.array([uuid.UUID(int=7).bytes] * len(values), pa.uuid())}  # fmt: skip
    store(sink, pa.table({"v": values, **other}))
    store(sink, pa.table({"v": pa.array([None], pa.string())}))
    for row, value in zip(database.rows("SELECT v::text, b, u, t FROM v ORDER BY n"), values, strict=False):
        assert row[1:] == (b"\\\0", uuid.UUID(int=7), "a\\\nb\t")
        assert database.rows(f"SELECT '{row[0]}'::{kind}::text = '{value}'::{kind}::text") == [(True,)]
    assert database.rows("SELECT count(*), count(v) FROM v") == [(len(values) + 1, len(values))]


def test_another_arrow_type_than_the_columns_goes_as_text(make: Make, database: Database) -> None:
    store(
        make(),
        pa.table(
            {"id": pa.array([1], pa.int64()), "price": ["1.5"], "note": pa.array(["x"], pa.large_string())}
        ),
    )
    assert database.rows("SELECT * FROM orders") == [(1, Decimal("1.5000"), "x")]


def test_a_value_that_binary_refuses_is_judged_as_text(make: Make, database: Database) -> None:
    database.run("CREATE TABLE v (v text PRIMARY KEY)")
    sink = make("v")
    sink.begin()
    with pytest.raises(psycopg.errors.ProgramLimitExceeded) as refused:
        sink.write_arrow(
            pa.table({"v": ["a", "".join(chr(0x4E00 + n % 20_000) for n in range(0, 900_000, 37))]})
        )
    assert (sink.classify(refused.value), sink.hint(refused.value)) == ("reject", 1)


def test_an_integer_that_a_float_would_round_is_the_fault_of_its_row(make: Make, database: Database) -> None:
    database.run("CREATE TABLE v (v float8, w float8)")
    sink = make("v")
    sink.begin()
    with pytest.raises(ValueRefusedError, match="'w': 9007199254740993 has more digits") as refused:
        sink.write_arrow(pa.table({"v": [2**53, None], "w": pa.array([None, 2**53 + 1], pa.uint64())}))
    assert (sink.classify(refused.value), sink.hint(refused.value), sink.doomed) == ("reject", 1, False)


def test_arrow_texts_that_a_numeric_column_would_round_are_the_fault_of_their_row(make: Make) -> None:
    sink = make()
    sink.begin()
    with pytest.raises(ValueRefusedError, match=r"'price': 1.00001 has more than 4 decimals") as refused:
        sink.write_arrow(pa.table({"id": pa.array([1, 2], pa.int32()), "price": ["1.0000", "1.00001"]}))
    assert sink.hint(refused.value) == 1


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_names_that_look_like_placeholders_are_just_names(make: Make, database: Database, mode: str) -> None:
    database.run('CREATE TABLE "{target} %s" ("%s" int PRIMARY KEY, "{x}" int)')
    sink = make("{target} %s", mode=mode, ledger="{loads} %s")
    sink.prepare(load())
    sink.begin(receipt())
    for value in (1, 2):
        sink.write([{"%s": 5, "{x}": value}]) if mode == "upsert" else sink.write(
            [{"%s": value, "{x}": value}]
        )
    sink.commit()
    sink.finish(load())
    expected = [(5, 2)] if mode == "upsert" else [(1, 1), (2, 2)]
    assert database.rows('SELECT * FROM "{target} %s" ORDER BY 1') == expected


# ---- failing writes


FAILURES: list[tuple[str, dict[str, Any]]] = [
    ("check", {"id": 3, "price": Decimal(-1)}),
    ("null", {"id": None, "price": Decimal(1)}),
    ("nul in text", {"id": 3, "price": Decimal(1), "note": "a\0b"}),
    ("overflow", {"id": 3, "price": Decimal(10) ** 15}),
]


@pytest.mark.parametrize("form", ["rows", "arrow", "arrow text"])
@pytest.mark.parametrize(("name", "bad"), FAILURES, ids=[name for name, _ in FAILURES])
def test_a_bad_row_is_named_and_the_transaction_stays_usable(
    make: Make, database: Database, form: str, name: str, bad: dict[str, Any]
) -> None:
    sink, width = make(), Decimal("1.0000")
    rows = [{"id": 0, "price": width, "note": "two\nlines"}, {"id": 1, "price": width, "note": None},
            {"note": None, **bad}, {"id": 4, "price": width, "note": ""}]  # fmt: skip
    kinds = {
        "id": pa.int32(),
        "price": pa.decimal128(20, 4) if name == "overflow" else pa.decimal128(18, 4),
        "note": pa.string(),
    }
    batch = pa.Table.from_pylist(rows, pa.schema(list(kinds.items())))
    if form == "arrow text":
        sink._as_text.add(("id", "price", "note"))
    sink.begin()
    with pytest.raises(psycopg.Error) as refused:
        sink.write(rows) if form == "rows" else sink.write_arrow(batch)
    assert (sink.classify(refused.value), sink.hint(refused.value), sink.doomed) == ("reject", 2, False)
    good = [rows[0], rows[1], rows[3]]
    sink.write(good[:1])
    sink.write_arrow(pa.Table.from_pylist(good[1:], batch.schema))
    sink.commit()
    assert database.rows("SELECT id, note FROM orders ORDER BY id") == [(0, "two\nlines"), (1, None), (4, "")]


@pytest.mark.parametrize("form", ["rows", "arrow", "arrow text"])
def test_rows_whose_unique_key_is_taken_are_returned_and_the_others_written(
    make: Make, database: Database, form: str
) -> None:
    database.run("INSERT INTO orders VALUES (3, 1)")
    sink = make()
    rows = [
        {"id": number, "price": Decimal("1.0000"), "note": str(number)} for number in (3, 0, 1, 0, 2, 3, 1)
    ]
    kinds = [("id", pa.int32()), ("price", pa.decimal128(18, 4)), ("note", pa.string())]
    if form == "arrow text":
        sink._as_text.add(("id", "price", "note"))
    sink.begin()
    for expected in ([0, 3, 5, 6], [0, 1, 2, 3, 4, 5, 6]):
        refused = (
            sink.write(rows)
            if form == "rows"
            else sink.write_arrow(pa.Table.from_pylist(rows, pa.schema(kinds)))
        )
        assert [index for index, _, _ in refused] == expected
        assert {code for _, code, _ in refused} == {"23505"}
        assert "orders_pkey" in refused[0][2]
    sink.commit()
    found = database.rows("SELECT id, note FROM orders ORDER BY id")
    assert found == [(0, "0"), (1, "1"), (2, "2"), (3, None)]


def test_a_taken_key_beside_another_fault_is_named_by_the_error(make: Make, database: Database) -> None:
    sink = make()
    rows = [{"id": number, "price": Decimal(1)} for number in (0, 0, *range(1, 2_000))]  # COPY buffers 1,000
    rows.append({"id": 3_000, "price": Decimal(-1)})
    sink.begin()
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        sink.write(rows)
    assert sink.hint(refused.value) == 1
    sink.write(rows[:1])
    sink.commit()
    assert database.rows("SELECT count(*) FROM orders") == [(1,)]


def test_a_foreign_key_fails_without_a_hint(make: Make, database: Database) -> None:
    database.run("CREATE TABLE fills (order_id int REFERENCES orders)")
    sink = make("fills")
    sink.begin()
    with pytest.raises(psycopg.errors.ForeignKeyViolation) as refused:
        sink.write([{"order_id": 5}])
    assert (sink.classify(refused.value), sink.hint(refused.value)) == ("reject", None)


def test_a_lost_connection_is_in_doubt_and_dooms_the_transaction(make: Make, database: Database) -> None:
    sink = make()
    sink.begin()
    database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                 "AND pid <> pg_backend_pid() AND query = 'SAVEPOINT adaptive'")  # fmt: skip
    with pytest.raises(psycopg.Error) as lost:
        sink.write([{"id": 1}])
    assert (sink.classify(lost.value), sink.doomed) == ("in_doubt", True)
    with pytest.raises(psycopg.Error) as lost:
        sink.commit()
    assert sink.classify(lost.value) == "in_doubt"
    sink.rollback()
    sink.open()
    store(sink, [{"id": 1}])
    assert database.rows("SELECT id FROM orders") == [(1,)]


@pytest.mark.parametrize(
    ("sqlstate", "verdict"),
    [("40001", "retry"), ("40P01", "retry"), ("55P03", "retry"), ("53300", "overload"), ("53200", "overload"),
     ("57014", "retry"), ("22003", "reject"), ("22P02", "reject"), ("22021", "reject"), ("23505", "reject"),
     ("23514", "reject"), ("23P01", "reject"), ("P0001", "reject"), ("54000", "reject"), ("21000", "reject"),
     ("22P03", "fatal"), ("XX000", "fatal"), ("08P01", "fatal"), ("42501", "fatal"), ("42P01", "fatal"),
     ("42703", "fatal"), ("28000", "fatal"), ("3D000", "fatal"), ("25006", "fatal"), ("53100", "fatal"),
     ("57P01", "in_doubt"), ("57P02", "in_doubt"), ("57P03", "in_doubt"), ("08006", "in_doubt"),
     ("08003", "in_doubt"), ("25P03", "in_doubt"), ("57P05", "in_doubt"), ("40003", "in_doubt")],
)  # fmt: skip
def test_errors_are_classified_by_sqlstate(sqlstate: str, verdict: str) -> None:
    error = psycopg.DatabaseError("x")
    error.sqlstate = sqlstate
    assert PostgresSink("postgresql://h/d", table="t").classify(error) == verdict


def test_other_errors_are_classified_by_kind() -> None:
    classify = PostgresSink("postgresql://h/d", table="t").classify
    assert classify(psycopg.OperationalError("gone")) == "in_doubt"
    assert classify(OwnershipLostError()) == "taken_over"
    assert classify(ValueRefusedError(1, "x")) == "reject"
    assert classify(LookupError()) == "fatal"


# ---- receipts


def test_a_takeover_ends_a_transaction_that_has_stalled(
    make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "STALLED", "100ms")
    first, second, stranger = make(), make(), make()
    first.prepare(load())
    first.begin(receipt("1"))
    first.write([{"id": 1}])  # and then nothing, as if its process were stopped
    stranger.prepare(load("other load", "somebody"))
    stranger.begin(receipt("2", "somebody", "other load"))
    second.prepare(load(owner="other"))
    with pytest.raises(psycopg.OperationalError) as lost:
        first.commit()
    assert first.classify(lost.value) == "in_doubt"
    first.close()
    first.open()
    with pytest.raises(OwnershipLostError):
        first.begin(receipt("1"))
    stranger.write([{"id": 2}])
    stranger.commit()
    assert database.rows("SELECT id FROM orders") == [(2,)]


def test_a_begin_that_waited_for_a_takeover_sees_the_new_owner(make: Make, database: Database) -> None:
    sink = make()
    sink.prepare(load(splits=(0, 1)))
    with psycopg.connect(database.url) as other:
        other.execute("UPDATE _adaptive_splits SET owner = 'other' WHERE split = 1")
        errors: list[BaseException] = []

        def begin() -> None:
            try:
                sink.begin(receipt(segments=[(0, 0, 9), (1, 0, 9)]))
            except OwnershipLostError as error:
                errors.append(error)

        waiting = threading.Thread(target=begin)
        waiting.start()
        _until_blocked(database)
        other.commit()
        waiting.join()
    assert len(errors) == 1
    assert sink.receipts("L") == []


def _until_blocked(database: Database) -> None:
    """Wait until some session waits for a lock of another; the test's time limit bounds it."""
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not database.rows(query):
        pass


def test_a_receipt_may_name_no_segments(make: Make) -> None:
    sink = make()
    sink.prepare(load())
    assert sink.begin(receipt(segments=[]))


def test_a_finished_load_keeps_only_receipts_with_rejects_and_accepts_nothing(make: Make) -> None:
    sink = make()
    sink.prepare(load())
    for batch, rejected in (("a", []), ("b", [[0, 7]])):
        sink.begin(receipt(batch))
        sink.commit(rejected=rejected)
    for _ in range(2):
        sink.finish(load())
    assert sink.receipts("L") == [([[0, 0, 9]], 1, [[0, 7]])]
    done = sink.loads()[0]
    assert (done["state"], done["rows"], done["rejected"]) == ("done", 2, 1)
    sink.prepare(load())
    assert sink.loads() == [done]
    with pytest.raises(OwnershipLostError):
        sink.begin(receipt("a"))


# ---- prepare


def test_prepare_describes_the_columns(make: Make, database: Database) -> None:
    database.run("CREATE TABLE c (a int GENERATED ALWAYS AS IDENTITY, b varchar(5) NOT NULL, "
                 "c int DEFAULT 1, g int GENERATED ALWAYS AS (c) STORED, PRIMARY KEY (b, a))")  # fmt: skip
    assert make("c").prepare(load()) == [
        ("a", pa.int32(), False, True, True, None),
        ("b", pa.string(), False, False, True, 5),
        ("c", pa.int32(), True, True, False, None),
    ]


def test_a_missing_table_is_created_with_its_key_and_starts_afresh(make: Make, database: Database) -> None:
    schema = pa.schema({"Id": pa.int64(), "price": pa.decimal128(18, 4), "at": pa.timestamp("us", "UTC"),
                        "tags": pa.list_(pa.string()), "ok": pa.bool_(), "x": pa.float64(),
                        "u": pa.uint64(), "raw": pa.binary(), "d": pa.date32(), "j": pa.json_(),
                        "v": pa.string_view(), "id16": pa.uuid(), "t": pa.time64("us"),
                        "b2": pa.binary(2)})  # fmt: skip
    sink = make("fresh", key=["Id"])
    with pytest.raises(LookupError, match="fresh"):
        sink.prepare(load())
    for _ in range(2):
        columns = sink.prepare(load(), schema)
        assert sink.receipts("L") == []
        assert [column[:2] for column in columns][:2] == [("Id", pa.int64()), ("price", pa.decimal128(18, 4))]
        assert columns[0][4]
        assert [str(column[1]) for column in columns[-5:]] == [
            "string", "string", "extension<arrow.uuid>", "time64[us]", "binary"]  # fmt: skip
        assert sink.begin(receipt())
        sink.write([{"Id": 1, "tags": ["a"], "u": 2**64 - 1}])
        sink.commit()
        assert database.rows('SELECT "Id", tags, u FROM fresh') == [(1, ["a"], Decimal(2**64 - 1))]
        database.run("DROP TABLE fresh")
        assert sink.loads() == []


def test_loads_of_several_tables_may_begin_at_once(make: Make, database: Database) -> None:
    sinks = [make(f"t{number}") for number in range(6)]
    schema = pa.schema({"id": pa.int64()})
    failed: list[BaseException] = []

    def prepare(sink: PostgresSink, number: int) -> None:
        try:
            sink.prepare(load(f"L{number}"), schema)
        except psycopg.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=prepare, args=(sink, number)) for number, sink in enumerate(sinks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_table_is_found_by_schema_or_search_path(make: Make, database: Database) -> None:
    store(make(f"{database.schema}.orders"), [{"id": 1}])
    store(make(f'"{database.schema}"."orders"'), [{"id": 2}])
    assert database.rows("SELECT count(*) FROM orders") == [(2,)]


@pytest.mark.parametrize(
    ("host", "encrypted", "sslmode", "finding"),
    [
        ("203.0.113.7", False, "prefer", "not encrypted"),
        ("db.example.com", False, "disable", "not encrypted"),
        ("203.0.113.7", True, "require", "not checked"),
        ("203.0.113.7", True, "verify-full", None),
        ("203.0.113.7", True, "verify-ca", None),
        ("127.0.0.1", False, "prefer", None),
        ("::1", False, "prefer", None),
        ("localhost", False, "prefer", None),
        ("/run/postgresql", False, "prefer", None),
    ],
)
def test_a_connection_that_others_can_read_is_a_finding(
    host: str, encrypted: bool, sslmode: str, finding: str | None
) -> None:
    found = postgres._exposure(host, encrypted=encrypted, sslmode=sslmode)
    assert len(found) == (finding is not None)
    assert all(str(finding) in text and "?sslmode=verify-full&sslrootcert=system" in text for text in found)


def test_doctor_finds_nothing_about_the_way_to_a_local_server(make: Make) -> None:
    assert not [line for line in make().doctor() if "sslmode" in line]


# ---- modes


@pytest.mark.parametrize("arrow", [False, True])
@pytest.mark.parametrize(
    ("mode", "expected", "duplicates"),
    [("upsert", [(1, "new"), (2, "c")], 0), ("ignore", [(1, "old"), (2, "a")], 3)],
)
def test_the_last_row_wins_in_upsert_and_the_first_in_ignore(
    make: Make, database: Database, mode: str, expected: list[Any], duplicates: int, arrow: bool
) -> None:
    database.run("INSERT INTO orders VALUES (1, 5, 'old')")
    sink = make(mode=mode)
    rows = [{"id": 2, "note": "a"}, {"id": 1, "note": "new"}, {"id": 2, "note": "b"}, {"id": 2, "note": "c"}]
    batch = pa.Table.from_pylist(rows, pa.schema({"id": pa.int32(), "note": pa.string()}))
    sink.begin()
    sink.write_arrow(batch) if arrow else sink.write(rows)
    assert sink.duplicates == duplicates
    sink.write([{"id": 9, "note": "again in this transaction"}])
    sink.commit()
    assert database.rows("SELECT id, note FROM orders WHERE id < 9 ORDER BY id") == expected
    assert database.rows("SELECT price FROM orders WHERE id = 1") == [(Decimal("5.0000"),)]


def test_null_is_never_the_same_key(make: Make, database: Database) -> None:
    database.run("CREATE TABLE n (a int, b int, v int, UNIQUE (a, b))")
    store(make("n", mode="upsert", key=["b", "a"]), [{"a": 1, "b": None, "v": number} for number in range(3)])
    assert database.rows("SELECT v FROM n ORDER BY v") == [(0,), (1,), (2,)]


def test_upsert_of_key_columns_alone_and_of_identity(make: Make, database: Database) -> None:
    database.run(
        "CREATE TABLE k (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v int NOT NULL DEFAULT 3)"
    )
    store(make("k", mode="upsert"), [{"id": 1}, {"id": 1}])
    (number,) = database.rows("SELECT n FROM k")[0]
    store(make("k", mode="upsert"), [{"id": 1, "n": 50, "v": 4}, {"id": 2, "n": 60, "v": 5}])
    assert database.rows("SELECT * FROM k ORDER BY id") == [(1, number, 4), (2, 60, 5)]


def test_writes_that_fail_leave_nothing_for_the_next_merge(make: Make, database: Database) -> None:
    database.run("INSERT INTO orders VALUES (1, 5, 'old')")
    sink = make(mode="upsert")
    sink.begin()
    sink.write([{"id": 9, "note": "other"}, {"id": 1, "note": "first"}])
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        sink.write([{"id": 2, "price": -1}])
    assert (sink.classify(refused.value), sink.doomed) == ("reject", False)
    sink.write([{"id": 1, "note": "last"}])
    sink.commit()
    assert database.rows("SELECT id, note FROM orders ORDER BY id") == [(1, "last"), (9, "other")]


@pytest.mark.parametrize("mode", ["ignore", "upsert"])
def test_another_unique_index_than_that_of_the_key_rejects(make: Make, database: Database, mode: str) -> None:
    database.run("CREATE UNIQUE INDEX ON orders (note)")
    sink = make(mode=mode)
    store(sink, [{"id": 1, "note": "a"}])
    sink.begin()
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        sink.write([{"id": 2, "note": "a"}])
    assert (sink.classify(refused.value), sink.doomed) == ("reject", False)


def test_a_merge_begins_with_the_first_key_that_is_there_already(make: Make, database: Database) -> None:
    sink = make(mode="upsert")
    for number, merged in ((1, False), (2, False), (1, True), (3, True)):
        store(sink, [{"id": number}])
        assert sink._collided is merged
    assert database.rows("SELECT id FROM orders ORDER BY id") == [(1,), (2,), (3,)]


def test_upsert_respects_row_security(postgres_url: str, make: Make, database: Database) -> None:
    user = f"u{secrets.token_hex(4)}"
    database.run(f"CREATE ROLE {user} LOGIN PASSWORD 'secret'")
    database.run(f"GRANT ALL ON SCHEMA {database.schema} TO {user}")
    database.run(f"GRANT ALL ON orders TO {user}")
    database.run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    database.run("CREATE POLICY small ON orders USING (id < 10)")
    parts = urlsplit(database.url)
    url = parts._replace(netloc=f"{user}:secret@{parts.hostname}:{parts.port}").geturl()
    with PostgresSink(url, table="orders", mode="upsert") as sink:
        store(sink, [{"id": 1}])
        sink.begin()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sink.write([{"id": 10}])
    assert database.rows("SELECT id FROM orders") == [(1,)]
    database.run(f"DROP OWNED BY {user}")
    database.run(f"DROP ROLE {user}")


def test_a_mode_without_a_unique_index_is_refused(make: Make, database: Database) -> None:
    database.run("CREATE TABLE nokey (id int)")
    with pytest.raises(LookupError, match="unique index"):
        make("nokey", mode="upsert").prepare(load())
    with pytest.raises(ValueRefusedError, match="key in every row") as refused:
        store(make(mode="upsert"), [{"note": "x"}])
    assert refused.value.index == 0


def test_replace_swaps_at_the_end_and_a_resume_keeps_what_was_staged(make: Make, database: Database) -> None:
    database.run(
        "CREATE TABLE r (n int GENERATED ALWAYS AS IDENTITY, id int UNIQUE, o int REFERENCES orders)"
    )
    database.run("INSERT INTO r (id) VALUES (1), (2)")
    database.run("CREATE VIEW seen AS SELECT * FROM r")
    first = make("r", mode="replace")
    first.prepare(load())
    first.begin(receipt("a"))
    first.write([{"id": 10}])
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        first.write([{"id": 11, "o": 99}])
    first.commit()
    assert database.rows("SELECT id FROM seen ORDER BY id") == [(1,), (2,)]
    second = make("r", mode="replace")
    second.prepare(load(owner="other"))
    assert not second.begin(receipt("a", owner="other"))
    second.begin(receipt("b", owner="other"))
    second.write_arrow(pa.table({"id": pa.array([11], pa.int32())}))
    second.commit()
    for _ in range(2):
        second.finish(load(owner="other"))
    assert database.rows("SELECT n, id FROM seen ORDER BY id")[0][1] == 10
    assert len({n for n, _ in database.rows("SELECT n, id FROM seen")} - {1, 2}) == 2
    assert not _staging_tables(database)


def _staging_tables(database: Database) -> list[tuple[Any, ...]]:
    return database.rows(
        f"SELECT tablename FROM pg_tables WHERE schemaname = '{database.schema}' AND tablename ~ 'replace'"
    )


def test_replace_starts_again_if_its_staging_table_is_gone(make: Make, database: Database) -> None:
    sink = make(mode="replace")
    sink.prepare(load())
    sink.begin(receipt())
    sink.write([{"id": 1}])
    sink.commit()
    database.run(f"DROP TABLE {_staging_tables(database)[0][0]}")
    sink.prepare(load())
    assert sink.receipts("L") == []


def test_replace_is_refused_where_it_would_delete_rows_of_other_tables(
    make: Make, database: Database
) -> None:
    database.run("CREATE TABLE fills (order_id int REFERENCES orders ON DELETE CASCADE)")
    with pytest.raises(ValueError, match="fills"):
        make(mode="replace").prepare(load())


def test_replace_needs_a_load(make: Make) -> None:
    with pytest.raises(ValueError, match="prepare"):
        make(mode="replace").begin()


# ---- several tables in one commit


@pytest.fixture
def parent(make: Make, database: Database) -> PostgresSink:
    database.run("CREATE TABLE fills (id int PRIMARY KEY, order_id int NOT NULL REFERENCES orders, qty int)")
    sink = make()
    sink.prepare(load())
    return sink


def test_children_merge_each_by_its_own_key_and_mode(parent: PostgresSink, database: Database) -> None:
    database.run("CREATE TABLE other (id bigint PRIMARY KEY, qty numeric); INSERT INTO orders VALUES (1);"
                 "INSERT INTO fills VALUES (1, 1, 1); INSERT INTO other VALUES (1, 1)")  # fmt: skip
    upsert, ignore = parent.beside("fills", mode="upsert"), parent.beside("other", mode="ignore")
    for number in (2, 3):
        parent.begin()
        upsert.write([{"id": 1, "order_id": 1, "qty": number}, {"id": number, "order_id": 1, "qty": number}])
        ignore.write([{"id": 1, "qty": number}, {"id": 2**40 + number, "qty": "0.5"}])
        assert (upsert.duplicates, ignore.duplicates) == (0, 1)
        parent.commit()
    assert database.rows("SELECT id, qty FROM fills ORDER BY id") == [(1, 3), (2, 2), (3, 3)]
    assert database.rows("SELECT count(*), sum(qty) FROM other") == [(3, Decimal(2))]


def test_children_follow_their_parent_to_a_new_connection(parent: PostgresSink, database: Database) -> None:
    fills = parent.beside("fills", mode="upsert")
    rows = [{"id": 1, "order_id": 1}]
    for attempt in ("lost", "kept"):
        assert parent.begin(receipt())
        parent.write([{"id": 1}])
        fills.write(rows)
        fills.write(rows)  # by way of a temporary table, which goes with the connection
        if attempt == "lost":
            database.run("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                         "WHERE datname = current_database() AND state = 'idle in transaction'")  # fmt: skip
            with pytest.raises(psycopg.Error) as lost:
                fills.write(rows)
            assert (fills.classify(lost.value), parent.doomed) == ("in_doubt", True)
            parent.close()
            parent.open()
    parent.commit()
    assert database.rows("SELECT id, order_id FROM fills") == [(1, 1)]


# ---- alone


def test_the_file_works_alone_with_psycopg_only(database: Database, tmp_path: Path) -> None:
    shutil.copy(postgres.__file__, tmp_path / "sink.py")
    (tmp_path / "run.py").write_text(f"""
import sys
for name in ("adaptive", "pyarrow", "pgpq"):
    sys.modules[name] = None
from sink import PostgresSink
with PostgresSink({database.url!r}, table="orders") as sink:
    sink.begin(); sink.write([{{"id": 1, "price": "9.99"}}]); sink.commit()
""")
    subprocess.run([sys.executable, "run.py"], cwd=tmp_path, check=True)
    assert database.rows("SELECT id, price FROM orders") == [(1, Decimal("9.9900"))]
