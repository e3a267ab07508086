"""Bulk copy to SQL Server, through mssql-python's own connection."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from labs import tds
from labs.sqlserver import SqlserverLab, sqlserver_lab
from test_sqlserver import TYPES, some

from adaptive.protocols import Sink
from adaptive.sinks import sqlserver as module
from adaptive.sinks.sqlserver import ConnectError, DriverMissingError, SqlserverSink
from adaptive.testing import CHECKS, Check
from adaptive.testing.lab import a_load, a_receipt

URL = "mssql://me:secret@localhost/market"
STRAYS = "SELECT name FROM sys.tables WHERE LEFT(name, 14) = '_adaptive_bulk'"


class BulkLab(SqlserverLab):
    """A database whose sinks copy in bulk, or fail where they cannot."""

    def sink(self, table: str, bulk: str = "yes", **options: Any) -> Sink:
        return SqlserverSink(with_bulk(self.url, bulk), table=table, **options)

    def strays(self) -> list[tuple[Any, ...]]:
        return self.query(STRAYS)


def with_bulk(url: str, bulk: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}bulk={bulk}"


@pytest.fixture
def lab(sqlserver_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[BulkLab]:
    """An empty database, into which bulk copy takes any number of rows."""
    monkeypatch.setattr(module, "BULK_ROWS", 1)
    with sqlserver_lab(sqlserver_server) as found:
        yield BulkLab(found.url)


@pytest.fixture(scope="module")
def stand_in() -> Iterator[tds.Served]:
    with tds.serving() as running:
        yield running


@pytest.fixture
def faulty(stand_in: tds.Served, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> BulkLab:
    """A new database of a server that a test can spoil."""
    monkeypatch.setattr(module, "BULK_ROWS", 1)
    lab = BulkLab(stand_in.create(f"faulty{abs(hash(request.node.name))}"))
    lab.make_items()
    return lab


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each bulk copy took that succeeded."""
    found: list[int] = []
    copy = module.Session.copy

    def counting(session: module.Session, table: str, rows: pa.Table) -> None:
        copy(session, table, rows)
        found.append(len(rows))

    monkeypatch.setattr(module.Session, "copy", counting)
    return found


def loaded(lab: BulkLab, rows: Any, table: str = "t", **options: Any) -> list[tuple[int, str, str]]:
    """Write rows in one batch of a load, and return what was refused."""
    load = a_load()
    with lab.sink(table, **options) as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, len(rows) - 1))
        refused = sink.write_arrow(rows) if isinstance(rows, pa.Table) else sink.write(rows)
        sink.commit()
        sink.finish(load)
    assert lab.strays() == []
    return refused


def item_ids(lab: BulkLab) -> list[int]:
    return sorted(row["item_id"] for row in lab.rows("items"))


# --- the option ---


def test_the_option_is_not_passed_on_to_the_driver() -> None:
    session = module.Session(f"{URL}?bulk=no&Encrypt=yes")
    assert session.bulk == "no"
    assert "bulk" not in session._keywords
    assert module.Session(URL).bulk == "auto"
    with pytest.raises(ValueError, match="bulk has to be one of auto, yes, no"):
        SqlserverSink(f"{URL}?bulk=maybe")


def test_without_its_package_bulk_copy_says_what_to_install_where_it_is_asked_for(
    lab: BulkLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "mssql_python" else found(name))
    sink = lab.sink("items")
    with pytest.raises(DriverMissingError, match="pip install mssql-python pyarrow") as caught:
        sink.open()
    assert sink.classify(caught.value) == "fatal"
    lab.make_items()
    assert loaded(lab, some(0, 9), "items", bulk="auto") == []
    assert len(lab.rows("items")) == 10
    with lab.sink("items", bulk="auto") as sink:
        [advice] = [line for line in sink.doctor() if "bulk copy" in line]
        assert "pip install mssql-python pyarrow" in advice


@pytest.mark.parametrize("url", ["mssql://h/db", f"{URL}?Authentication=ActiveDirectoryMsi"])
def test_other_logins_than_with_a_password_are_left_to_the_odbc_driver(url: str) -> None:
    assert "a user and a password" in module._no_bulk_copy(module._parse_url(url)[1])
    with pytest.raises(DriverMissingError, match="a user and a password"):
        SqlserverSink(with_bulk(url, "yes")).open()


def test_a_password_of_any_characters_and_the_options_for_tls_reach_the_server(lab: BulkLab) -> None:
    lab.make_items()
    host = lab.url.rpartition("@")[2]
    session = module.Session(f"mssql://me:p%3Bw%7D%7B%3D@{host}")
    with pytest.raises(ConnectError, match="Login failed for user 'me'") as caught:
        session.copy("[dbo].[items]", pa.table({"item_id": [1]}))
    assert "p;w" not in repr(caught.value)


# --- values ---


@pytest.mark.parametrize(("declared", "values"), TYPES, ids=[declared for declared, _ in TYPES])
@pytest.mark.parametrize("arrow", [False, True], ids=["rows", "arrow"])
def test_every_type_keeps_its_extremes_with_null_first(
    lab: BulkLab, copies: list[int], declared: str, values: list[Any], arrow: bool
) -> None:
    lab.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {declared} NULL)")
    expected = [None, *values, None]
    rows: Any = [{"id": number, "v": value} for number, value in enumerate(expected)]
    if arrow:
        with lab.sink("t") as sink:
            types = [(name, kind) for name, kind, *_ in sink.columns()]
        rows = pa.Table.from_pylist(rows, schema=pa.schema(types))
    assert loaded(lab, rows) == []
    found = [row[0] for row in lab.query("SELECT v FROM t ORDER BY id")]
    if declared == "uniqueidentifier":
        found = [value and UUID(str(value)) for value in found]
    assert found == expected
    has_offset = declared.startswith("datetimeoffset") and not arrow
    assert copies == ([] if has_offset else [len(rows)])


def a_column(declared: str, length: int, **more: Any) -> module.Column:
    column = module.Column("v", declared, length, 0, 0, True, False, None, None, None)
    return column._replace(**more)


@pytest.mark.parametrize(
    ("column", "value", "padded"),
    [
        (a_column("char", 4, collation="x", codepage=1252), "ä", "ä   "),
        (a_column("nchar", 8), "🚀", "🚀  "),
        (a_column("nchar", 8), "", "    "),
        (a_column("binary", 3), b"a", b"a\0\0"),
    ],
)
def test_values_of_fixed_length_are_padded(column: module.Column, value: Any, padded: Any) -> None:
    assert module._array(column, [None, value]).to_pylist() == [None, padded]


@pytest.mark.parametrize(
    ("declared", "name", "value"),
    [
        ("datetimeoffset(6)", "v", datetime(2024, 2, 29, 1, tzinfo=timezone(timedelta(hours=2)))),
        ("varchar(9)", "a]b", "x"),
    ],
)
def test_what_bulk_copy_would_change_goes_the_usual_way(
    lab: BulkLab, copies: list[int], declared: str, name: str, value: Any
) -> None:
    lab.execute(f"CREATE TABLE t (id int PRIMARY KEY, {module._q(name)} {declared})")
    assert loaded(lab, [{"id": 1, name: value}]) == []
    assert lab.query(f"SELECT {module._q(name)} FROM t") == [(value,)]
    assert copies == []


def test_texts_beyond_ascii_are_copied_in_the_code_page_that_is_known_only() -> None:
    western = a_column("varchar", 9, collation="x", codepage=1252)
    japanese = a_column("varchar", 9, collation="x", codepage=932)
    assert module._copies(western, ["ä", None])
    assert module._copies(japanese, ["a", None])
    assert not module._copies(japanese, ["株"])


def test_moments_with_and_without_a_zone_are_the_same_in_utc() -> None:
    column = a_column("datetimeoffset", 10, scale=6)
    moment = datetime(2024, 2, 29, 1, 2, 3, 400000, UTC)
    for values in ([moment], ["2024-02-29T01:02:03.400000+00:00"], ["2024-02-29 01:02:03.400000"]):
        assert module._copies(column, [*values, None])
        assert module._array(column, [*values, None]).to_pylist() == [moment, None]


# --- transactions ---


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_every_check_passes_with_bulk_copy(check: Check, lab: BulkLab) -> None:
    if check.needs - lab.sink("items").capabilities or check.name in lab.deviations:
        pytest.skip("as without bulk copy")
    check.run(lab)


@pytest.mark.parametrize("bulk", ["auto", "yes"])
def test_few_rows_go_the_usual_way(
    lab: BulkLab, copies: list[int], monkeypatch: pytest.MonkeyPatch, bulk: str
) -> None:
    monkeypatch.setattr(module, "BULK_ROWS", 11)
    lab.make_items()
    assert loaded(lab, some(0, 9), "items", bulk=bulk) == []
    assert copies == []


def test_the_staging_table_is_used_again_and_goes_with_the_sink(lab: BulkLab, copies: list[int]) -> None:
    lab.make_items()
    load = a_load()
    with lab.sink("items") as sink:
        sink.prepare(load)
        for number in range(3):
            assert sink.begin(a_receipt(load, f"{number}", number, number))
            assert sink.write(some(number, number)) == []
            sink.rollback() if number == 1 else sink.commit()
        assert len(lab.strays()) == 1
    assert lab.strays() == []
    assert copies == [1, 1, 1]
    assert item_ids(lab) == [0, 2]


def test_only_the_first_rows_of_a_transaction_are_copied_in_bulk(lab: BulkLab, copies: list[int]) -> None:
    lab.make_items()
    load = a_load()
    with lab.sink("items") as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, 9))
        assert sink.write(some(0, 4)) == sink.write(some(5, 9)) == []
        sink.commit()
    assert copies == [5]
    assert item_ids(lab) == list(range(10))


def test_a_batch_that_another_attempt_commits_meanwhile_is_not_written_twice(
    lab: BulkLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.make_items()
    load = a_load()
    receipt = a_receipt(load, "one", 0, 4)
    copy = module.Session.copy

    def overtaken(session: module.Session, table: str, rows: pa.Table) -> None:
        copy(session, table, rows)
        with lab.sink("items", bulk="no") as other:
            assert other.begin(receipt)
            assert other.write(some(0, 4)) == []
            other.commit()

    monkeypatch.setattr(module.Session, "copy", overtaken)
    with lab.sink("items") as sink:
        sink.prepare(load)
        assert sink.begin(receipt)
        with pytest.raises(module.ServerError, match="others wrote meanwhile") as caught:
            sink.write(some(0, 4))
        assert sink.classify(caught.value) == "retry"
        assert sink.doomed
        sink.rollback()
        assert sink.begin(receipt) is False
        sink.finish(load)
    assert item_ids(lab) == list(range(5))


def test_a_run_that_is_replaced_while_it_copies_commits_nothing(
    lab: BulkLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.make_items()
    load, copy = a_load(), module.Session.copy

    def replaced(session: module.Session, table: str, rows: pa.Table) -> None:
        copy(session, table, rows)
        with lab.sink("items") as other:
            other.prepare({**load, "owner": "another"})  # drops what the first run has copied

    monkeypatch.setattr(module.Session, "copy", replaced)
    with lab.sink("items") as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, 4))
        with pytest.raises(module.OwnershipLostError) as caught:
            sink.write(some(0, 4))
        assert sink.classify(caught.value) == "taken_over"
    assert lab.rows("items") == lab.strays() == []


# --- faults, which only the stand-in has ---

FAULTS = [(None, "INSERT BULK", "retry"), (None, "BULK LOAD", "retry"), (None, "SET FMTONLY", "retry"),
          (1205, "BULK LOAD", "retry"), (701, "BULK LOAD", "overload"), (1105, "INSERT BULK", "fatal"),
          (1222, "CREATE TABLE", "retry")]  # fmt: skip


@pytest.mark.parametrize(("number", "where", "verdict"), FAULTS)
def test_a_bulk_copy_that_fails_leaves_nothing_and_the_batch_can_be_begun_again(
    stand_in: tds.Served, faulty: BulkLab, number: int | None, where: str, verdict: str
) -> None:
    load = a_load()
    with faulty.sink("items") as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, 9))
        stand_in.fail_next(number, where)
        with pytest.raises(module.ServerError) as caught:
            sink.write(some(0, 9))
        assert sink.classify(caught.value) == verdict
        assert sink.doomed
        sink.rollback()
        assert faulty.rows("items") == sink.receipts("load") == []
        assert sink.begin(a_receipt(load, "one", 0, 9))
        assert sink.write(some(0, 9)) == []
        sink.commit()
    assert item_ids(faulty) == list(range(10))
    assert faulty.strays() == []


@pytest.mark.parametrize("after", [False, True])
def test_where_it_was_not_asked_for_a_bulk_copy_that_fails_is_the_last_one(
    stand_in: tds.Served, faulty: BulkLab, copies: list[int], after: bool
) -> None:
    load = a_load()
    with faulty.sink("items", bulk="auto") as sink:
        sink.prepare(load)
        stand_in.fail_next(None, "BULK LOAD", after=after)
        for first in (0, 10):
            assert sink.begin(a_receipt(load, f"{first}", first, first + 9))
            assert sink.write(some(first, first + 9)) == []
            sink.commit()
    assert copies == []
    assert item_ids(faulty) == list(range(20))
    assert faulty.strays() == []


@pytest.mark.parametrize("bulk", ["auto", "yes"])
def test_all_connections_cut_after_a_bulk_copy_lose_nothing(
    stand_in: tds.Served, faulty: BulkLab, bulk: str
) -> None:
    load = a_load()
    with faulty.sink("items", bulk=bulk) as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, 9))
        assert sink.write(some(0, 9)) == []
        faulty.break_links()
        with pytest.raises(module.ServerError) as caught:
            sink.commit()
        assert sink.classify(caught.value) == "in_doubt"
        sink.close()
        assert len(faulty.strays()) == 1
        sink.open()
        assert sink.begin(a_receipt(load, "one", 0, 9))
        assert sink.write(some(0, 9)) == []
        sink.commit()
    assert item_ids(faulty) == list(range(10))
    assert faulty.strays() == []


def test_without_the_right_to_create_tables_it_is_refused_where_it_is_asked_for(lab: BulkLab) -> None:
    lab.make_items()
    with lab.sink("items") as sink:
        sink.prepare(a_load("first"))  # makes the ledger
    with (
        lab.stranger() as stranger,
        SqlserverSink(with_bulk(stranger.url, "yes"), table="items") as sink,
        pytest.raises(PermissionError, match="GRANT CREATE TABLE ON DATABASE::"),
    ):
        sink.prepare(a_load())


@pytest.mark.parametrize("number", [262, 2760])
def test_without_the_right_to_create_tables_rows_go_the_usual_way(
    stand_in: tds.Served, faulty: BulkLab, copies: list[int], number: int
) -> None:
    stand_in.fail_next(number, r"CREATE TABLE \[dbo\]\.\[_adaptive_bulk")
    assert loaded(faulty, some(0, 9), "items", bulk="auto") == []
    assert item_ids(faulty) == list(range(10))
    assert copies == []


KILLED = """
import os, signal, sys
import pyarrow as pa
from adaptive.sinks import sqlserver as module

load = {"load": "load", "fingerprint": "", "source": "", "mapping": "", "owner": "me", "splits": [0]}
receipt = {"load": "load", "owner": "me", "batch": "one", "segments": [[0, 0, 9]], "rejected": [], "rows": 10,
           "replaces": None}
copy = module.Session.copy

def killed(session, table, rows):
    def parts():
        yield from rows[:5].to_batches()
        os.kill(os.getpid(), signal.SIGKILL)
    copy(session, table, pa.RecordBatchReader.from_batches(rows.schema, parts()))

module.BULK_ROWS, module.Session.copy = 1, killed
with module.SqlserverSink(sys.argv[1], table="items") as sink:
    sink.prepare(load)
    sink.begin(receipt)
    sink.write([{"item_id": number, "name": "x", "amount": 1} for number in range(10)])
"""


def test_a_load_killed_in_the_middle_of_a_bulk_copy_resumes_and_leaves_no_table(lab: BulkLab) -> None:
    lab.make_items()
    killed = subprocess.run([sys.executable, "-c", KILLED, with_bulk(lab.url, "yes")], check=False)
    assert killed.returncode == -9
    assert len(lab.strays()) == 1
    assert lab.rows("items") == []
    load = a_load()
    with lab.sink("items") as sink:
        sink.prepare(load)
        assert lab.strays() == []
        assert sink.receipts("load") == []
        assert sink.begin(a_receipt(load, "two", 0, 9))
        assert sink.write(some(0, 9)) == []
        sink.commit()
        sink.finish(load)
    assert item_ids(lab) == list(range(10))
    assert lab.strays() == []


def test_staging_tables_of_loads_that_run_are_kept(lab: BulkLab) -> None:
    lab.make_items()
    one, two = a_load("one"), a_load("two")
    with lab.sink("items") as first, lab.sink("items") as second:
        first.prepare(one)
        assert first.begin(a_receipt(one, "a", 0, 4))
        assert first.write(some(0, 4)) == []
        first.commit()
        second.prepare(two)
        assert len(lab.strays()) == 1
        with lab.sink("items", ledger="another") as third:
            third.prepare(a_load("three"))
        assert len(lab.strays()) == 1
        first.finish(one)
        assert lab.strays() == []
