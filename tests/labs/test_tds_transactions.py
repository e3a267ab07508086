"""Transactions of the stand-in for SQL Server."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest

from labs import sqlserver
from labs.tds.clients import count, error, odbc

if reason := sqlserver.missing():
    pytest.skip(reason, allow_module_level=True)

from adaptive.sinks.sqlserver import _pyodbc

pyodbc = _pyodbc()


def test_rows_appear_to_others_with_the_commit(url: str, link: Any) -> None:
    link.execute("INSERT INTO items (id) VALUES (1)")
    with closing(odbc(url)) as other:
        assert count(other) == 0
        link.commit()
        assert count(other) == 1


def test_a_rollback_and_a_lost_connection_undo_everything(url: str) -> None:
    with closing(odbc(url)) as link:
        link.execute("INSERT INTO items (id) VALUES (1)")
        link.rollback()
        assert count(link) == 0
        link.execute("CREATE TABLE made (id int)")
        link.execute("INSERT INTO items (id) VALUES (2)")
    with closing(odbc(url)) as link:
        assert count(link) == 0
        assert link.execute("SELECT OBJECT_ID('made')").fetchval() is None


def test_a_savepoint_is_gone_back_to(link: Any) -> None:
    link.execute("INSERT INTO items (id) VALUES (1)")
    link.execute("SAVE TRANSACTION here")
    for _ in range(2):
        link.execute("INSERT INTO items (id) VALUES (2)")
        link.execute("ROLLBACK TRANSACTION here")
    assert count(link) == 1
    assert tuple(link.execute("SELECT @@TRANCOUNT, XACT_STATE()").fetchone()) == (1, 1)


def test_a_failed_statement_leaves_the_transaction_and_a_failed_conversion_ends_it(link: Any) -> None:
    link.execute("INSERT INTO items (id) VALUES (1)")
    assert error(link, "INSERT INTO items (id) SELECT 2 UNION ALL SELECT 1")[1] == 2627
    assert count(link) == 1
    assert error(link, "INSERT INTO items (id) VALUES ('x')")[1] == 245
    assert count(link) == 0


def test_xact_abort_rolls_back(link: Any) -> None:
    link.execute("SET XACT_ABORT ON")
    link.execute("INSERT INTO items (id) VALUES (1)")
    assert error(link, "INSERT INTO items (id) VALUES (1)")[1] == 2627
    assert count(link) == 0


def test_a_doomed_transaction_refuses_to_write_and_ends_with_the_batch(url: str) -> None:
    with closing(odbc(url, autocommit=True)) as link:
        doomed = """SET NOCOUNT ON; BEGIN TRANSACTION;
            BEGIN TRY INSERT INTO items (id) VALUES (1); INSERT INTO items (id) VALUES ('x')
            END TRY BEGIN CATCH {} END CATCH"""
        found = link.execute(doomed.format("SELECT XACT_STATE(), ERROR_NUMBER(); ROLLBACK")).fetchone()
        assert tuple(found) == (-1, 245)
        assert error(link, doomed.format("INSERT INTO items (id) VALUES (2)"))[1] == 3930
        assert error(link, doomed.format("DECLARE @x int"))[1] == 3998
        assert count(link) == 0


def test_who_waits_too_long_gets_1222(url: str, link: Any) -> None:
    link.execute("INSERT INTO items (id) VALUES (1)")
    with closing(odbc(url)) as other:
        other.execute("SET LOCK_TIMEOUT 10")
        assert error(other, "INSERT INTO items (id) VALUES (2)")[1] == 1222


def test_a_second_insert_of_a_key_waits_for_the_first(url: str, link: Any) -> None:
    link.execute("INSERT INTO items (id) VALUES (1)")
    found: list[tuple[str, int]] = []

    def insert() -> None:
        with closing(odbc(url)) as other:
            found.append(error(other, "INSERT INTO items (id) VALUES (1)"))

    thread = threading.Thread(target=insert)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    link.commit()
    thread.join()
    assert found == [("23000", 2627)]


def test_a_circle_of_waits_has_one_victim(url: str, link: Any) -> None:
    lock = """SET NOCOUNT ON; DECLARE @got int;
        EXEC @got = sp_getapplock @Resource = ?, @LockMode = 'Exclusive'; SELECT @got"""
    assert link.execute(lock, "a").fetchval() == 0
    with closing(odbc(url)) as other:
        other.execute("INSERT INTO items (id) VALUES (1)")
        found: list[int] = []

        def ask() -> None:
            found.append(other.execute(lock, "a").fetchval())
            other.rollback()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            link.execute("INSERT INTO items (id) VALUES (2)")
        except pyodbc.Error as caught:
            found.append(caught.args[0])
        link.rollback()
        thread.join()
    assert set(found) in ({"40001", 1}, {-3})  # whoever asks last
