"""Bulk loads into the stand-in for SQL Server, by mssql-python's own client of TDS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pyarrow as pa
import pytest

from labs import sqlserver, tds
from labs.tds import clients

if reason := sqlserver.missing():
    pytest.skip(reason, allow_module_level=True)

pytest.importorskip("mssql_python", reason="lab sqlserver: mssql-python is not installed")

MANY = 20_000  # rows that take many packets


@pytest.fixture
def cursor(url: str) -> Iterator[Any]:
    """A cursor of mssql-python, with autocommit."""
    with closing(clients.mssql_python(url)) as link:
        yield link.cursor()


def read(cursor: Any, table: str = "items") -> list[tuple[Any, ...]]:
    cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
    return [tuple(row) for row in cursor.fetchall()]


# --- types: tuples, and Arrow where it has such a type ---

VALUES = [
    ("bit", [True, False], pa.bool_()),
    ("tinyint", [0, 255], pa.uint8()),
    ("smallint", [-(2**15), 2**15 - 1], pa.int16()),
    ("int", [-(2**31), 2**31 - 1], pa.int32()),
    ("bigint", [-(2**63), 2**63 - 1], pa.int64()),
    ("real", [-3.4028234663852886e38, 1.5], pa.float32()),
    ("float", [5e-324, 1.7976931348623157e308, 0.1], pa.float64()),
    ("decimal(38,10)", [Decimal(f"-{'9' * 28}.{'9' * 10}"), Decimal(0)], pa.decimal128(38, 10)),
    ("numeric(5)", [Decimal(99999), Decimal(-1)], pa.decimal128(5, 0)),
    ("money", [Decimal("-922337203685477.5808"), Decimal("922337203685477.5807")], pa.decimal128(19, 4)),
    ("smallmoney", [Decimal("-214748.3648"), Decimal("214748.3647")], pa.decimal128(10, 4)),
    ("char(3)", ["abc", "é  "], pa.string()),
    ("varchar(10)", ["", "été"], pa.string()),
    ("varchar(max)", ["", "é" * 9_000], pa.string()),
    ("nchar(3)", ["abc", "𝄞 "], pa.string()),
    ("nvarchar(10)", ["", "äöü𝄞", "0123456789"], pa.large_string()),
    ("nvarchar(max)", ["", "ä𝄞" * 9_000], pa.string()),
    ("binary(2)", [b"\0\xff"], pa.binary()),
    ("varbinary(4)", [b"", b"\0\xff"], pa.binary()),
    ("varbinary(max)", [b"", b"ab" * 9_000], pa.binary()),
    ("date", [date.min, date.max], pa.date32()),
    ("time(0)", [time(23, 59, 59)], pa.time32("s")),
    ("time(6)", [time.min, time.max], pa.time64("us")),
    ("datetime2(3)", [datetime(2026, 1, 2, 3, 4, 5, 678000)], pa.timestamp("ms")),
    ("datetime2(7)", [datetime.min, datetime.max], pa.timestamp("us")),
    ("datetime", [datetime(1753, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 997000)], pa.timestamp("ms")),
    ("smalldatetime", [datetime(1900, 1, 1), datetime(2079, 6, 6, 23, 59)], pa.timestamp("s")),
    ("datetimeoffset(6)", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)],
     pa.timestamp("us", "UTC")),
    ("uniqueidentifier", [UUID("6F9619FF-8B86-D011-B42D-00C04FC964FF")], None),
]  # fmt: skip
# mssql-python 1.16 leaves out the length of a smallmoney that is never NULL, though it announces one.
REQUIRED = [(kind, values) for kind, values, _ in VALUES if kind != "smallmoney"]


@pytest.mark.parametrize(("kind", "values", "arrow"), VALUES, ids=[kind for kind, *_ in VALUES])
def test_values_come_back_as_they_went(cursor: Any, kind: str, values: list[Any], arrow: Any) -> None:
    rows = [(number, value, 7) for number, value in enumerate([None, *values, None])]
    cursor.execute(f"CREATE TABLE v (n int NOT NULL, v {kind} NULL, z tinyint NOT NULL)")
    cursor.bulkcopy("v", rows)
    assert read(cursor, "v") == rows
    if arrow:
        cursor.execute("TRUNCATE TABLE v")
        kinds = pa.schema([("n", pa.int32()), ("v", arrow), ("z", pa.uint8())])
        cursor.bulkcopy_arrow("v", pa.table(list(zip(*rows, strict=True)), schema=kinds))
        assert read(cursor, "v") == rows


@pytest.mark.parametrize(("kind", "values"), REQUIRED, ids=[kind for kind, _ in REQUIRED])
def test_values_go_into_columns_that_never_are_null(cursor: Any, kind: str, values: list[Any]) -> None:
    cursor.execute(f"CREATE TABLE v (v {kind} NOT NULL, n int NOT NULL)")
    rows = [(value, 7) for value in values]
    cursor.bulkcopy("v", rows)
    assert sorted(read(cursor, "v")) == sorted(rows)


def test_short_values_of_a_fixed_length_are_filled_up(cursor: Any) -> None:
    cursor.execute("CREATE TABLE v (a char(3), b nchar(3), c binary(3))")
    cursor.bulkcopy("v", [("a", "b", b"c")])
    assert read(cursor, "v") == [("a  ", "b  ", b"c\0\0")]


# --- what the server fills, and what it checks ---


def test_null_takes_the_default_unless_nulls_are_kept(cursor: Any) -> None:
    cursor.execute("CREATE TABLE v (n int, a int DEFAULT 7, b datetime2 DEFAULT '2026-01-02')")
    cursor.bulkcopy("v", [(1, None, None), (2, 3, None)])
    cursor.bulkcopy("v", [(3, None, None)], keep_nulls=True)
    cursor.bulkcopy("v", [(4,)], column_mappings=["n"], keep_nulls=True)
    day = datetime(2026, 1, 2)
    assert read(cursor, "v") == [(1, 7, day), (2, 3, day), (3, None, None), (4, 7, day)]


def test_identities_are_made_unless_they_are_kept(cursor: Any) -> None:
    cursor.execute("CREATE TABLE v (n int IDENTITY(10, 1), a int)")
    cursor.bulkcopy("v", [(1,), (2,)], column_mappings=["a"])
    cursor.bulkcopy("v", [(100, 3)], keep_identity=True)
    cursor.bulkcopy("v", [(4,)], column_mappings=["a"])
    assert read(cursor, "v") == [(10, 1), (11, 2), (100, 3), (101, 4)]


def test_checks_and_foreign_keys_are_left_aside_unless_asked_for(cursor: Any) -> None:
    cursor.execute("CREATE TABLE v (id int REFERENCES items (id))")
    cursor.bulkcopy("v", [(99,)])
    cursor.bulkcopy("items", [(1, "a", -1, None)])
    with pytest.raises(RuntimeError, match=r'Sql Error: 547.*"positive"'):
        cursor.bulkcopy("items", [(2, "a", -1, None)], check_constraints=True)
    with pytest.raises(RuntimeError, match=r"Sql Error: 547.*FOREIGN KEY"):
        cursor.bulkcopy("v", [(98,)], check_constraints=True)
    with pytest.raises(Exception, match="positive"):
        cursor.execute("INSERT INTO items VALUES (3, 'a', -1, NULL)")
    assert (len(read(cursor)), read(cursor, "v")) == (1, [(99,)])


# --- errors ---


def test_a_duplicate_undoes_its_batch_and_names_the_value(cursor: Any) -> None:
    rows = [(number, None, None, None) for number in (1, 2, 3, 4, 5, 1, 6)]
    with pytest.raises(RuntimeError, match=r"Sql Error: 2627.*'pk_items'.*'dbo.items'.*\(1\)\."):
        cursor.bulkcopy("items", rows)
    assert read(cursor) == []
    with pytest.raises(RuntimeError, match="Sql Error: 2627"):
        cursor.bulkcopy("items", rows, batch_size=3, use_internal_transaction=True)
    assert [row[0] for row in read(cursor)] == [1, 2, 3]


def test_no_number_is_refused(cursor: Any) -> None:
    cursor.execute("CREATE TABLE v (v float)")
    with pytest.raises(RuntimeError, match=r"Sql Error: 7339.*\[!BulkInsert\]\.v"):
        cursor.bulkcopy("v", [(float("nan"),)])


def test_a_value_that_the_client_refuses_takes_the_batch_back(cursor: Any) -> None:
    cursor.execute("CREATE TABLE v (v int)")
    with pytest.raises(ValueError, match="Cannot convert string 'x'"):
        cursor.bulkcopy("v", [*((number,) for number in range(MANY)), ("x",)])
    assert read(cursor, "v") == []


def test_a_table_has_to_be_there_for_all_sessions(cursor: Any) -> None:
    cursor.execute("CREATE TABLE #mine (v int)")
    for name in ("nowhere", "#mine"):
        with pytest.raises(RuntimeError, match=f"Sql Error: 208.*{name}"):
            cursor.bulkcopy(name, [(1,)])


def test_hostile_names_are_names(cursor: Any) -> None:
    cursor.execute("CREATE TABLE [a ]] (b'] ([x ]] int), y] int, [select] int)")
    cursor.bulkcopy("[a ]] (b']", [(1, 2)])
    assert read(cursor, "[a ]] (b']") == [(1, 2)]


# --- other sessions, and lost ones ---


def test_a_bulk_load_waits_for_a_transaction_and_gives_up_in_time(link: Any, cursor: Any) -> None:
    link.execute("INSERT INTO items (id) VALUES (1)")
    with pytest.raises(RuntimeError, match="Timeout"):
        cursor.bulkcopy("items", [(2, None, None, None)], timeout=1)
    link.commit()
    cursor.bulkcopy("items", [(3, None, None, None)])
    assert [row[0] for row in read(cursor)] == [1, 3]


def test_a_connection_lost_amid_the_rows_leaves_none(server: tds.Served, url: str, cursor: Any) -> None:
    def rows() -> Iterator[tuple[int, None, None, None]]:
        for number in range(2 * MANY):
            if number == MANY:
                server.drop_connections(urlsplit(url).path[1:])
            yield number, None, None, None

    with pytest.raises(RuntimeError):
        cursor.bulkcopy("items", rows())
    with closing(clients.odbc(url)) as other:
        assert clients.count(other) == 0


@pytest.mark.parametrize(("after", "count"), [(False, 0), (True, 2)])
def test_the_rows_can_lose_their_acknowledgement(
    server: tds.Served, cursor: Any, count: int, *, after: bool
) -> None:
    server.fail_next(None, "BULK LOAD", after=after)
    with pytest.raises(RuntimeError):
        cursor.bulkcopy("items", [(1, None, None, None), (2, None, None, None)])
    assert len(read(cursor)) == count


def test_a_fault_comes_where_it_was_asked_for(server: tds.Served, cursor: Any) -> None:
    for number, where in ((1205, "BULK LOAD"), (1222, "INSERT BULK"), (229, "SET FMTONLY ON")):
        server.fail_next(number, where)
        with pytest.raises(RuntimeError, match=f"Sql Error: {number}"):
            cursor.bulkcopy("items", [(1, None, None, None)])
    cursor.bulkcopy("items", [(1, None, None, None)])
    assert len(read(cursor)) == 1


def test_two_clients_load_in_turns(url: str, cursor: Any) -> None:
    with closing(clients.mssql_python(url)) as link:
        other = link.cursor()
        for number in range(0, 10, 2):
            cursor.bulkcopy("items", [(number, "a", 1, None)])
            other.bulkcopy("items", [(number + 1, "b", 1, None)], use_internal_transaction=True)
    assert [row[:2] for row in read(cursor)] == [(n, "ab"[n % 2]) for n in range(10)]
