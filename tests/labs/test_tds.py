"""The stand-in for SQL Server, seen through Microsoft's ODBC driver."""

from __future__ import annotations

import struct
from contextlib import closing
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest

from labs import sqlserver, tds
from labs.tds.clients import count, error, odbc

if reason := sqlserver.missing():
    pytest.skip(reason, allow_module_level=True)

from adaptive.sinks.sqlserver import _pyodbc

pyodbc = _pyodbc()

# --- connecting ---


def test_a_wrong_password_and_a_missing_database_are_refused(server: tds.Served) -> None:
    with pytest.raises(pyodbc.Error, match="18456"):
        odbc(server.url, password="wrong")
    with pytest.raises(pyodbc.Error, match="4060"):
        odbc(server.url, database="nowhere")


def test_what_is_not_known_fails_and_quotes_the_statement(link: Any) -> None:
    with pytest.raises(pyodbc.Error, match=r"does not know: WAITFOR DELAY.*\(49999\)"):
        link.execute("WAITFOR DELAY '00:00:01'")


# --- types ---

VALUES = [
    ("bit", True), ("tinyint", 255), ("smallint", -32768), ("int", -(2**31)), ("bigint", 2**63 - 1),
    ("real", 1.5), ("float", 0.1), ("decimal(38,10)", Decimal("-1234567890123456789012345678.0123456789")),
    ("nvarchar(10)", "äöü𝄞"), ("nvarchar(max)", "x" * 20_000), ("varchar(10)", "été"), ("nchar(3)", "a  "),
    ("varbinary(4)", b"\x00\xff"), ("varbinary(max)", b"ab" * 9_000), ("date", date(1, 1, 1)),
    ("time(0)", time(23, 59, 59)), ("datetime2(6)", datetime(9999, 12, 31, 23, 59, 59, 999999)),
    ("datetime", datetime(2026, 1, 2, 3, 4, 5, 670000)),
    ("uniqueidentifier", "6F9619FF-8B86-D011-B42D-00C04FC964FF"), ("nvarchar(5)", ""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=[kind for kind, _ in VALUES])
@pytest.mark.parametrize("array", [False, True])
def test_values_come_back_as_they_went(link: Any, kind: str, value: Any, *, array: bool) -> None:
    link.execute(f"CREATE TABLE v (n int, v {kind})")
    cursor = link.cursor()
    cursor.fast_executemany = array
    cursor.executemany("INSERT INTO v VALUES (?, ?)", [(1, value), (2, None), (3, value)])
    assert [row[0] for row in link.execute("SELECT v FROM v ORDER BY n")] == [value, None, value]


def test_a_moment_keeps_its_offset(link: Any) -> None:
    link.add_output_converter(-155, lambda raw: struct.unpack("<6hI2h", raw))
    found = link.execute("SELECT CAST(? AS datetimeoffset(6))", "2026-01-02 03:04:05.678901+05:30").fetchval()
    assert found == (2026, 1, 2, 3, 4, 5, 678901000, 5, 30)


# --- errors ---


@pytest.mark.parametrize(
    ("row", "state", "number"),
    [
        ((1, "a", 1, None), "23000", 2627),
        ((None, "a", 1, None), "23000", 515),
        ((2, "a", 0, None), "23000", 547),
        ((2, "abcdef", 1, None), "42000", 2628),
        ((2, "a", 1, "many"), "42000", 8114),
        ((2, "a", 1, Decimal("12345.6")), "22003", 8115),
        (("two", "a", 1, None), "22018", 245),
    ],
)
def test_a_bad_value_has_the_servers_number(link: Any, row: tuple[Any, ...], state: str, number: int) -> None:
    link.execute("INSERT INTO items VALUES (1, 'one', 1, 1)")
    assert error(link, "INSERT INTO items VALUES (?, ?, ?, ?)", *row) == (state, number)


@pytest.mark.parametrize(
    ("statement", "state", "number"),
    [
        ("SELECT * FROM nowhere", "42S02", 208),
        ("SELECT nothing FROM items", "42S22", 207),
        ("SELECT 1 FROM", "42000", 102),
        ("CREATE TABLE items (id int)", "42S01", 2714),
        ("DROP TABLE nowhere", "42S02", 3701),
        ("EXEC sp_nothing", "42000", 2812),
        ("SELECT @x", "42000", 137),
    ],
)
def test_a_bad_statement_has_the_servers_number(link: Any, statement: str, state: str, number: int) -> None:
    assert error(link, statement) == (state, number)


def test_a_duplicate_names_constraint_table_and_value(link: Any) -> None:
    link.execute("CREATE UNIQUE INDEX by_name ON items (name)")
    link.execute("INSERT INTO items (id, name) VALUES (1, 'one')")
    with pytest.raises(pyodbc.IntegrityError, match=r"'pk_items'.*'dbo\.items'.*value is \(1\)\. \(2627\)"):
        link.execute("INSERT INTO items (id, name) VALUES (?, ?)", 1, "two")
    with pytest.raises(
        pyodbc.IntegrityError, match=r"'dbo\.items' with unique index 'by_name'.*\(ONE\)\. \(2601\)"
    ):
        link.execute("INSERT INTO items (id, name) VALUES (?, ?)", 2, "ONE")


def test_two_nulls_are_one_value_to_a_unique_index(link: Any) -> None:
    link.execute("CREATE UNIQUE INDEX by_name ON items (name)")
    link.execute("INSERT INTO items (id) VALUES (1)")
    assert error(link, "INSERT INTO items (id) VALUES (2)") == ("23000", 2601)


# --- arrays ---


def test_an_array_writes_all_rows_but_the_bad_ones(link: Any) -> None:
    cursor = link.cursor()
    cursor.fast_executemany = True
    rows = [(number, "n", 0 if number in (3, 5) else 1, None) for number in range(1, 8)]
    with pytest.raises(pyodbc.IntegrityError, match="547"):
        cursor.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)
    assert [row[0] for row in link.execute("SELECT id FROM items ORDER BY id")] == [1, 2, 4, 6, 7]


def test_an_array_updates(link: Any) -> None:
    cursor = link.cursor()
    cursor.fast_executemany = True
    cursor.executemany("INSERT INTO items (id, name) VALUES (?, ?)", [(n, "old") for n in range(1000)])
    cursor.executemany("UPDATE items SET name = ? WHERE id = ?", [("new", n) for n in range(0, 1000, 2)])
    assert link.execute("SELECT COUNT(*) FROM items WHERE name = 'NEW'").fetchval() == 500


def test_an_array_goes_into_a_temporary_table_and_from_there_into_the_target(link: Any) -> None:
    link.execute(
        "DROP TABLE IF EXISTS [#stage]; CREATE TABLE [#stage] (id int, name nvarchar(5), at int IDENTITY)"
    )
    link.execute("INSERT INTO items (id, name) VALUES (1, 'old'), (2, 'kept')")
    cursor = link.cursor()
    cursor.fast_executemany = True
    cursor.executemany("INSERT INTO [#stage] (id, name) VALUES (?, ?)", [(1, "a"), (3, "b"), (1, "new")])
    link.execute("DELETE FROM [#stage] WHERE at NOT IN (SELECT MAX(at) FROM [#stage] GROUP BY id)")
    changed = link.execute("""UPDATE t SET name = s.name FROM items AS t WITH (UPDLOCK, HOLDLOCK)
        JOIN [#stage] AS s ON t.id = s.id""")
    assert changed.rowcount == 1
    link.execute("""INSERT INTO items (id, name) SELECT id, name FROM [#stage] AS s
        WHERE NOT EXISTS (SELECT 1 FROM items AS t WHERE t.id = s.id) ORDER BY id""")
    assert [tuple(row) for row in link.execute("SELECT id, name FROM items ORDER BY id")] == [
        (1, "new"), (2, "kept"), (3, "b")
    ]  # fmt: skip


# --- faults ---


def test_a_fault_comes_once(server: tds.Served, link: Any) -> None:
    server.fail_next(1205, "INSERT INTO items")
    assert error(link, "INSERT INTO items (id) VALUES (1)") == ("40001", 1205)
    link.execute("INSERT INTO items (id) VALUES (1)")


def test_a_commit_can_lose_its_acknowledgement(server: tds.Served, url: str) -> None:
    link = odbc(url)
    link.execute("INSERT INTO items (id) VALUES (1)")
    server.fail_next(None, "COMMIT", after=True)
    with pytest.raises(pyodbc.Error, match="08S01"):
        link.commit()
    with closing(odbc(url)) as other:
        assert count(other) == 1


def test_cut_connections_are_rolled_back_at_once(server: tds.Served, url: str) -> None:
    link = odbc(url)
    link.execute("INSERT INTO items (id) VALUES (1)")
    server.drop_connections(urlsplit(url).path[1:])
    with closing(odbc(url)) as other:
        other.execute("INSERT INTO items (id) VALUES (1)")
    with pytest.raises(pyodbc.Error, match="08S01"):
        link.execute("SELECT 1")
