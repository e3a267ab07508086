"""Logins and rights of the stand-in for SQL Server, seen through Microsoft's clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from labs import sqlserver, tds
from labs.tds.clients import error, mssql_python, odbc

if reason := sqlserver.missing():
    pytest.skip(reason, allow_module_level=True)

from adaptive.sinks.sqlserver import _pyodbc

pyodbc = _pyodbc()
PASSWORD = "It-is-1"
ASKED = "SELECT HAS_PERMS_BY_NAME(?, ?, ?)"


@pytest.fixture
def owner(url: str) -> Iterator[Any]:
    """A connection of sa."""
    with closing(odbc(url, autocommit=True)) as link:
        yield link


@pytest.fixture
def ann_url(owner: Any, url: str) -> Iterator[str]:
    """The URL of Ann's login, whose user has another name."""
    owner.execute(f"CREATE LOGIN ann WITH PASSWORD = N'{PASSWORD}', CHECK_POLICY = OFF")
    owner.execute("CREATE USER [Ann ]] TO] FOR LOGIN ann")
    yield urlsplit(url)._replace(netloc=f"ann:{PASSWORD}@127.0.0.1:{urlsplit(url).port}").geturl()
    owner.execute("DROP LOGIN ann")


@pytest.fixture
def ann(ann_url: str) -> Iterator[Any]:
    """A connection of Ann, who has no right yet."""
    with closing(odbc(ann_url, autocommit=True)) as link:
        yield link


def grant(owner: Any, rights: str, on: str = "") -> None:
    owner.execute(f"GRANT {rights} {on} TO [ann ]] to]")


def test_a_login_has_its_name_and_its_password(ann_url: str, ann: Any) -> None:
    assert tuple(ann.execute("SELECT SUSER_SNAME(), USER_NAME()").fetchone()) == ("ann", "Ann ] TO")
    for wrong in ("it-is-1", "Stand-in-1"):
        with pytest.raises(pyodbc.Error, match="18456"):
            odbc(ann_url, password=wrong)


def test_who_is_no_user_of_a_database_gets_no_further_than_master(
    server: tds.Served, ann_url: str, owner: Any
) -> None:
    server.create("private")
    with pytest.raises(pyodbc.Error, match="4060"):
        odbc(ann_url, database="private")
    with closing(odbc(ann_url, database="master")) as link:
        assert link.execute("SELECT USER_NAME()").fetchval() == "guest"
    owner.execute("DROP USER [Ann ]] TO]")
    with pytest.raises(pyodbc.Error, match="4060"):
        odbc(ann_url)


RIGHTS = [
    ("INSERT", "INSERT INTO items (id) VALUES (1)", 229),
    ("SELECT", "SELECT * FROM items", 229),
    ("DELETE", "DELETE FROM items", 229),
    ("DELETE, SELECT", "DELETE FROM items WHERE id = 1", 229),
    ("UPDATE", "UPDATE items SET name = 'x'", 229),
    ("UPDATE, SELECT", "UPDATE items SET name = 'x' WHERE id = 1", 229),
    ("SELECT, INSERT", "INSERT INTO items (id) SELECT 2 FROM items WHERE id = 1", 229),
    ("ALTER", "TRUNCATE TABLE items", 1088),
    ("ALTER", "CREATE INDEX by_name ON items (name)", 1088),
    ("ALTER", "SET IDENTITY_INSERT items ON", 1088),
    ("CONTROL", "DROP TABLE items", 3701),
]


@pytest.mark.parametrize(("rights", "statement", "number"), RIGHTS)
def test_each_right_is_needed_told_and_enough(
    owner: Any, ann: Any, rights: str, statement: str, number: int
) -> None:
    for right in rights.split(", "):
        assert ann.execute(ASKED, "items", "OBJECT", right).fetchval() == 0
        assert error(ann, statement)[1] == number
        grant(owner, right, "ON [dbo].items")
        assert ann.execute(ASKED, "[dbo].[items]", "OBJECT", right.lower()).fetchval() == 1
    ann.execute(statement)


@pytest.mark.parametrize("on", ["ON SCHEMA::dbo", "ON DATABASE::any", ""])
def test_a_right_on_what_is_around_a_table_is_one_on_the_table(owner: Any, ann: Any, on: str) -> None:
    grant(owner, "SELECT,  INSERT", on)
    ann.execute("INSERT INTO items (id) VALUES (1)")
    assert ann.execute("SELECT id FROM items").fetchval() == 1
    assert error(ann, "DELETE FROM items") == ("42000", 229)


def test_to_make_a_table_takes_two_rights_and_to_use_it_others(owner: Any, ann: Any) -> None:
    made = "CREATE TABLE made (id int)"
    assert error(ann, made) == ("42000", 262)
    grant(owner, "CREATE TABLE", "ON DATABASE::[any]")
    assert error(ann, made) == ("42000", 2760)
    grant(owner, "ALTER", "ON SCHEMA::[dbo]")
    assert ann.execute(ASKED, "dbo", "SCHEMA", "ALTER").fetchval() == 1
    ann.execute(made)
    assert error(ann, "INSERT INTO made VALUES (1)") == ("42000", 229)
    ann.execute("DROP TABLE made")


def test_temporary_tables_and_the_catalogue_are_open_to_all(ann: Any) -> None:
    ann.execute("CREATE TABLE #mine (id int)")
    ann.execute("INSERT INTO #mine VALUES (1)")
    assert ann.execute("SELECT id FROM #mine WHERE OBJECT_ID('items') IS NOT NULL").fetchval() == 1
    ann.execute("DROP TABLE #mine")
    assert ann.execute("SELECT COUNT(*) FROM sys.tables").fetchval() == 1


@pytest.mark.parametrize("right", ["SELECT", "INSERT"])
def test_a_bulk_load_needs_both_rights(owner: Any, ann_url: str, right: str) -> None:
    grant(owner, "INSERT" if right == "SELECT" else "SELECT", "ON items")
    with closing(mssql_python(ann_url)) as link, pytest.raises(RuntimeError, match=rf"Error: 229.*{right}"):
        link.cursor().bulkcopy("items", [(1, None, None, None)])


def test_rights_end_with_the_table_the_user_and_the_transaction(owner: Any, ann: Any) -> None:
    grant(owner, "INSERT", "ON items")
    owner.execute("DROP TABLE items")
    owner.execute("CREATE TABLE items (id int)")
    assert ann.execute(ASKED, "items", "OBJECT", "INSERT").fetchval() == 0
    owner.execute("BEGIN TRANSACTION; GRANT INSERT ON items TO [Ann ]] TO]; ROLLBACK")
    assert ann.execute(ASKED, "items", "OBJECT", "INSERT").fetchval() == 0
    grant(owner, "CONTROL")
    owner.execute("DROP USER [Ann ]] TO]")
    owner.execute("CREATE USER [Ann ]] TO] FOR LOGIN ann")
    assert error(ann, "SELECT * FROM items") == ("42000", 229)


def test_what_is_not_there_is_told(owner: Any) -> None:
    assert owner.execute(ASKED, "nothing", "OBJECT", "SELECT").fetchval() is None
    for missing in ("GRANT SELECT ON items TO x", "GRANT SELECT ON x TO x", "GRANT SELECT ON SCHEMA::x TO x",
                    "DROP USER x", "DROP LOGIN x"):  # fmt: skip
        assert error(owner, missing)[1] == 15151
    assert error(owner, "CREATE LOGIN sa WITH PASSWORD = 'x'")[1] == 15025
    owner.execute("CREATE USER twice FOR LOGIN sa")
    assert error(owner, "CREATE USER twice FOR LOGIN sa")[1] == 15023


def test_only_dbo_gives_rights(owner: Any, ann: Any) -> None:
    grant(owner, "CONTROL")
    for statement in ("GRANT SELECT ON items TO [Ann ]] TO]", "CREATE LOGIN me WITH PASSWORD = 'x'"):
        assert error(ann, statement)[1] == 15247
