from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from labs import tds
from labs.sqlserver import SqlserverLab, sqlserver_lab

from adaptive.isolation import Isolation
from adaptive.sinks import sqlserver as module
from adaptive.sinks.sqlserver import ConnectError, DriverMissingError, ServerError, SqlserverSink
from adaptive.testing.lab import a_load, a_receipt

URL = "mssql://me:secret@localhost/market"


@pytest.fixture
def lab(sqlserver_server: Any) -> Iterator[SqlserverLab]:
    """An empty database."""
    with sqlserver_lab(sqlserver_server) as found:
        yield found


def written(lab: SqlserverLab, rows: Any, **options: Any) -> list[tuple[int, str, str]]:
    """Write rows into table t in one transaction and return what was refused."""
    with SqlserverSink(lab.url, table="t", **options) as sink:
        sink.begin()
        refused = sink.write_arrow(rows) if isinstance(rows, pa.Table) else sink.write(rows)
        sink.commit()
    return refused


def column(lab: SqlserverLab, name: str = "v") -> list[Any]:
    return [row[0] for row in lab.query(f"SELECT {name} FROM t ORDER BY id")]


# --- arguments and connecting ---


@pytest.mark.parametrize(
    "url",
    ["postgresql://localhost/x", "mssql://", "mssql://me:se@cret@localhost/x", "mssql://localhost:port/x",
     "mssql://localhost/x?pwd=1", "mssql://localhost/x?odbc_connect=y", "mssql://localhost/x?a;b=1"],
)  # fmt: skip
def test_an_impossible_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"SQL Server|passed on") as caught:
        SqlserverSink(url)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"mode": "merge"}, {"table": ""}, {"table": "a.b.c"}, {"mode": "replace", "ledger": None}]
)
def test_impossible_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"mode|table"):
        SqlserverSink(URL, **options)


def test_a_url_becomes_odbc_keywords_whatever_characters_are_in_it() -> None:
    server, keywords = module._parse_url(
        "mssql+pyodbc://us%40er:p%3Bw%7D%7B@h:1500/my%20db?driver=ODBC+Driver+18+for+SQL+Server&TrustServerCertificate=yes"
    )
    assert server == ("h", 1500)
    assert keywords == {
        "driver": "ODBC Driver 18 for SQL Server", "trustservercertificate": "yes", "database": "my db",
        "uid": "us@er", "pwd": "p;w}{",
    }  # fmt: skip
    assert module._connection_string({"pwd": "p;w}{", "uid": "x"}) == "pwd={p;w}}{};uid={x}"
    assert module.DEFAULTS["encrypt"] == "yes"


def test_without_a_user_windows_or_another_login_is_meant() -> None:
    assert module._parse_url("mssql://h/db")[1] == {"trusted_connection": "yes", "database": "db"}
    assert "trusted_connection" not in module._parse_url("mssql://h/db?Authentication=ActiveDirectoryMsi")[1]


def test_a_closed_port_is_known_at_once_and_may_pass() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    sink = SqlserverSink(f"mssql://me:secret@127.0.0.1:{port}/db")
    with pytest.raises(ConnectError, match=rf"no SQL Server answers at 127\.0\.0\.1:{port}") as caught:
        sink.open()
    assert sink.classify(caught.value) == "retry"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "driver",
    ["FreeTDS", "SQLite3", "/usr/lib/libtdsodbc.so", "PostgreSQL Unicode", "/x/libmsodbcsql-18.so.evil"],
)
def test_a_driver_that_would_lose_data_is_refused(driver: str) -> None:
    sink = SqlserverSink(f"{URL}?driver={driver}")
    with pytest.raises(DriverMissingError, match="not Microsoft's") as caught:
        sink.open()
    assert sink.classify(caught.value) == "fatal"


@pytest.mark.parametrize(
    "file",
    ["libmsodbcsql-18.6.so.2.1", "libmsodbcsql-17.10.so.6.1", "libmsodbcsql.18.dylib", "msodbcsql18.dll"],
)
def test_microsofts_driver_is_known_by_its_file(file: str) -> None:
    assert module.MICROSOFT.fullmatch(file)


def test_a_wrong_password_is_fatal_and_appears_nowhere(lab: SqlserverLab) -> None:
    host = lab.url.rpartition("@")[2]
    sink = SqlserverSink(f"mssql://me:hidden-word@{host}", table="t")
    with pytest.raises(ConnectError) as caught:
        sink.open()
    assert sink.classify(caught.value) == "fatal"
    assert "hidden-word" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_library_says_what_to_install(tmp_path: Path) -> None:
    shutil.copy(str(module.__file__), tmp_path)
    (tmp_path / "pyodbc.py").write_text("raise ImportError('libodbc.so.2: cannot open shared object file')")
    code = """
import sys
sys.path.insert(0, ".")
from sqlserver import DriverMissingError, SqlserverSink
try:
    SqlserverSink("mssql://me:secret@127.0.0.1/x").open()
except DriverMissingError as error:
    assert "apt-get install libodbc2" in str(error), error
else:
    raise SystemExit("nothing was said")
"""
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)


# --- values ---

MOMENT = datetime(2024, 2, 29, 23, 59, 59, 999999)
ZONED = datetime(2024, 2, 29, 23, 59, 59, 999999, timezone(timedelta(hours=-9, minutes=-30)))
TYPES: list[tuple[str, list[Any]]] = [
    ("tinyint", [0, 255]),
    ("smallint", [-32768, 32767]),
    ("int", [-(2**31), 2**31 - 1]),
    ("bigint", [-(2**63), 2**63 - 1]),
    ("bit", [True, False]),
    ("decimal(38, 10)", [Decimal("-9999999999999999999999999999.9999999999"), Decimal("0E-10")]),
    ("decimal(18, 4)", [Decimal("99999999999999.9999"), Decimal("0.0001"), Decimal("-1.0000")]),
    ("decimal(5, 0)", [Decimal(99999), Decimal(-99999)]),
    ("money", [Decimal("-922337203685477.5808"), Decimal("922337203685477.5807")]),
    ("float", [1.7976931348623157e308, 5e-324, 0.1, -0.0]),
    ("real", [1.5, -3.4028234663852886e38]),
    ("nvarchar(10)", ["", "äöü株式🚀🚀", "0123456789", "it's", "a\0b"]),
    ("nvarchar(max)", ["x" * 4001, "", "株" * 5000, "🚀" * 9000]),
    ("varchar(10)", ["0123456789", "äöüß€", ""]),
    ("varchar(max)", ["x" * 9000]),
    ("nchar(3)", ["abc", "äöü"]),
    ("date", [date(1, 1, 1), date(9999, 12, 31)]),
    ("datetime2(6)", [MOMENT, datetime.min, datetime.max]),
    ("datetime2", [MOMENT]),
    ("datetime2(3)", [MOMENT.replace(microsecond=999000)]),
    ("datetime2(0)", [MOMENT.replace(microsecond=0)]),
    ("datetime", [datetime(1753, 1, 1), datetime(2024, 2, 29, 23, 59, 59, 997000)]),
    ("smalldatetime", [datetime(1900, 1, 1), datetime(2079, 6, 6, 23, 59)]),
    ("datetimeoffset(6)", [ZONED, datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)]),
    ("time(6)", [time(23, 59, 59, 999999), time.min]),
    ("time(0)", [time(23, 59, 59)]),
    ("uniqueidentifier", [uuid.UUID(int=0), uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")]),
    ("varbinary(4)", [b"", b"\0\xff\0\xff"]),
    ("varbinary(max)", [b"\0" * 9000, b""]),
]


@pytest.mark.parametrize(("declared", "values"), TYPES, ids=[declared for declared, _ in TYPES])
@pytest.mark.parametrize("arrow", [False, True], ids=["rows", "arrow"])
def test_every_type_keeps_its_extremes_with_null_first(
    lab: SqlserverLab, declared: str, values: list[Any], arrow: bool
) -> None:
    lab.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {declared} NULL)")
    expected = [None, *values, None]
    rows: Any = [{"id": number, "v": value} for number, value in enumerate(expected)]
    if arrow:
        with SqlserverSink(lab.url, table="t") as sink:
            types = [(name, kind) for name, kind, *_ in sink.columns()]
        rows = pa.Table.from_pylist(rows, schema=pa.schema(types))
    assert written(lab, rows) == []
    found = column(lab)
    if declared == "uniqueidentifier":
        found = [value and uuid.UUID(str(value)) for value in found]
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


BAD: list[tuple[str, object, object, str]] = [
    ("tinyint", 1, 256, "22003"),
    ("int", 1, 2**31, "22003"),
    ("bigint", 1, "12x", "22018"),
    ("int", 1, 1.5, "22018"),
    ("bit", 1, 2, "22018"),
    ("decimal(5, 2)", "9.99", Decimal("1.001"), "22003"),
    ("decimal(5, 2)", "9.99", Decimal(1000), "22003"),
    ("decimal(5, 2)", "9.99", Decimal("NaN"), "22003"),
    ("smallmoney", 1, Decimal("214748.3648"), "22003"),
    ("float", 1, float("nan"), "22003"),
    ("float", 1, 2**53 + 1, "22003"),
    ("real", 1, 1e39, "22003"),
    ("nvarchar(3)", "abc", "abcd", "22001"),
    ("nvarchar(3)", "🚀x", "🚀🚀", "22001"),
    ("nvarchar(max)", "", "\ud800", "22018"),
    ("nvarchar(max)", "", b"bytes", "22018"),
    ("varchar(9)", "ä€", "株", "22018"),
    ("varbinary(2)", b"ab", b"abc", "22001"),
    ("date", datetime(2024, 1, 1), datetime(2024, 1, 1, 1), "22008"),
    ("date", "2024-02-29", "2024-02-30", "22018"),
    ("datetime2(3)", "2024-01-31T10:00:00.123", MOMENT, "22008"),
    ("datetime2", MOMENT, ZONED, "22008"),
    ("datetime", datetime(2024, 1, 1), datetime(1752, 12, 31), "22007"),
    ("datetime", datetime(2024, 1, 1, 0, 0, 0, 3000), datetime(2024, 1, 1, 0, 0, 0, 1000), "22008"),
    ("smalldatetime", datetime(2024, 1, 1), datetime(2024, 1, 1, 0, 0, 1), "22008"),
    ("time(3)", "10:00:00.123", time(1, 2, 3, 4), "22008"),
    ("uniqueidentifier", str(uuid.UUID(int=1)), "no", "22018"),
    ("int NOT NULL", 1, None, "23502"),
]


@pytest.mark.parametrize(("declared", "good", "bad", "code"), BAD, ids=[f"{d} {v!r}" for d, _, v, _ in BAD])
def test_a_value_that_would_be_changed_is_refused_by_row_and_the_others_are_written(
    lab: SqlserverLab, declared: str, good: object, bad: object, code: str
) -> None:
    lab.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {declared})")
    refused = written(lab, [{"id": 1, "v": good}, {"id": 2, "v": bad}, {"id": 3, "v": good}])
    assert [(index, found) for index, found, _ in refused] == [(1, code)]
    assert "column v" in refused[0][2]
    assert [row[0] for row in lab.query("SELECT id FROM t ORDER BY id")] == [1, 3]


def test_arrow_values_that_would_be_changed_are_refused_by_row(lab: SqlserverLab) -> None:
    lab.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a nvarchar(3), b float, c datetime2(6), d varchar(5),"
        " e int NOT NULL)"
    )
    ok: dict[str, Any] = {"a": "abc", "b": 1.0, "c": MOMENT, "d": "ä€", "e": 1}
    bad = [{"a": "abcd"}, {"b": float("inf")}, {}, {"d": "株"}, {"e": None}, {}]
    schema = pa.schema({"id": pa.int32(), "a": pa.string(), "b": pa.float64(), "c": pa.timestamp("us"),
                        "d": pa.string(), "e": pa.int32()})  # fmt: skip
    rows = pa.Table.from_pylist([{"id": n, **ok, **more} for n, more in enumerate(bad)], schema=schema)
    far = pa.array([None, None, 2**61, None, None, 0], pa.int64()).cast(pa.timestamp("us"))
    refused = written(lab, rows.set_column(3, "c", far))
    assert [index for index, _, _ in refused] == [0, 1, 2, 3, 4]
    assert column(lab, "id") == [5]


def test_other_arrow_types_than_the_columns_are_taken_value_by_value(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v decimal(9, 2))")
    rows = pa.table({"id": pa.array([1, 2], pa.int64()), "v": pa.array(["1.50", "1.505"])})
    assert [index for index, _, _ in written(lab, rows)] == [1]
    assert column(lab) == [Decimal("1.50")]


def test_text_and_python_types_are_read_as_the_column_has_them(lab: SqlserverLab) -> None:
    lab.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, price decimal(18, 4), at datetime2, note nvarchar(99),"
        " ok bit)"
    )
    row = {"id": "7", "price": "9.99", "at": "2024-01-31T09:30:00", "note": {"a": [1, "ü"]}, "ok": 1}
    assert written(lab, [row, {**row, "id": 8, "price": 1.1, "note": 12, "at": date(2024, 1, 1)}]) == []
    assert lab.query("SELECT price, note, ok FROM t ORDER BY id") == [
        (Decimal("9.9900"), '{"a": [1, "ü"]}', True), (Decimal("1.1000"), "12", True),
    ]  # fmt: skip


def test_a_column_that_a_row_lacks_gets_its_default(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL DEFAULT 5)")
    assert written(lab, [{"id": 1}, {"id": 2, "v": 6}, {"id": 3}]) == []
    assert column(lab) == [5, 6, 5]


def test_rows_with_uneven_columns_get_defaults_and_nulls_whatever_their_order(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL DEFAULT 5, w nvarchar(9) NULL)")
    rows: list[dict[str, Any]] = [
        {"id": 1}, {"id": 2, "v": 6}, {}, {"id": 3, "w": "x"}, {"id": 4, "colour": "red"}, {"id": 5},
        {"w": "y", "v": 7, "id": 6}, {"v": 8}, {"id": 8, "v": None},
    ]  # fmt: skip
    refused = written(lab, rows)
    assert [(index, code) for index, code, _ in refused] == [
        (2, "42S22"), (4, "42S22"), (7, "23502"), (8, "23502"),
    ]  # fmt: skip
    assert lab.query("SELECT id, v, w FROM t ORDER BY id") == [
        (1, 5, None), (2, 6, None), (3, 5, "x"), (5, 5, None), (6, 7, "y"),
    ]  # fmt: skip


def test_of_uneven_rows_with_one_key_the_first_or_the_last_counts(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int DEFAULT 5, w int)")
    uneven = [{"id": 1, "w": 1}, {"id": 1, "v": 2}, {"id": 2, "v": 3}, {"id": 2, "w": 4}, {"id": 2, "v": 6}]
    with SqlserverSink(lab.url, table="t", mode="ignore") as sink:
        sink.begin()
        assert sink.write(uneven) == []
        assert sink.duplicates == 3
        sink.commit()
    assert lab.query("SELECT id, v, w FROM t ORDER BY id") == [(1, 5, 1), (2, 3, None)]
    assert written(lab, uneven, mode="upsert") == []
    assert lab.query("SELECT id, v, w FROM t ORDER BY id") == [(1, 2, 1), (2, 6, 4)]


@pytest.mark.parametrize("mode", ["ignore", "upsert"])
def test_a_row_without_the_key_is_refused_alone(mode: str, lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    for given, good in (([{"v": 1}], 0), ([{"v": 1}, {"id": 1, "v": 2}, {}], 1)):
        refused = written(lab, given, mode=mode)
        assert [index for index, _, _ in refused] == [
            index for index, row in enumerate(given) if "id" not in row
        ]
        assert len(lab.query("SELECT id FROM t")) == good


NUMBERS = ["9.99", "-0", " 7 ", "1e2", "+1", 5, 2.5, Decimal("1E-2"), True, Decimal("0E-9")]


def test_numbers_of_every_form_are_exact_in_one_column(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v decimal(9, 2), w money)")
    rows = [{"id": index, "v": value, "w": value} for index, value in enumerate(NUMBERS)]
    bad = ["1\n2", "", "1,5", "x", "1.005", "99999999"]
    rows += [{"id": 100 + index, "v": value, "w": 1} for index, value in enumerate(bad)]
    assert [index for index, _, _ in written(lab, rows)] == list(range(len(NUMBERS), len(rows)))
    expected = [Decimal(str(int(v) if v is True else v).strip()) for v in NUMBERS]
    assert column(lab, "v") == expected
    assert column(lab, "w") == expected


@pytest.mark.parametrize("declared", ["datetimeoffset(6)", "datetimeoffset", "datetimeoffset(0)"])
def test_moments_in_utc_need_no_text(lab: SqlserverLab, declared: str) -> None:
    lab.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {declared})")
    moments = [datetime(1, 1, 1, tzinfo=UTC), datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), None]
    assert written(lab, [{"id": index, "v": moment} for index, moment in enumerate(moments)]) == []
    assert column(lab) == moments


@pytest.mark.parametrize("declared", ["datetime2(4)", "time(4)", "datetimeoffset(1)"])
def test_arrow_times_that_are_finer_than_the_column_are_refused(lab: SqlserverLab, declared: str) -> None:
    lab.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {declared})")
    with SqlserverSink(lab.url, table="t") as sink:
        types = [(name, kind) for name, kind, *_ in sink.columns()]
    ticks = pa.array([100_000, 100_001], pa.int64()).cast(types[1][1])
    rows = pa.table({"id": pa.array([1, 2], pa.int32()), "v": ticks})
    assert [index for index, _, _ in written(lab, rows)] == [1]


def test_rows_that_the_target_leaves_out_in_silence_fail_the_write(
    lab: SqlserverLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an index with IGNORE_DUP_KEY does."""
    lab.execute("CREATE TABLE t (id int PRIMARY KEY)")
    silent = module.INSERT.replace("_adaptive_mark = 0", "_adaptive_mark = 0 AND id <> 2")
    monkeypatch.setattr(module, "INSERT", silent)
    with SqlserverSink(lab.url, table="t") as sink:
        sink.begin()
        with pytest.raises(ServerError, match="took 2 of 3 rows") as caught:
            sink.write([{"id": 1}, {"id": 2}, {"id": 3}])
        assert sink.classify(caught.value) == "reject"
        sink.commit()
    assert column(lab, "id") == []


def test_messages_are_cut_where_their_buffers_would_be_too_large(
    lab: SqlserverLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUFFER_BYTES", 3_000)
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v nvarchar(max))")
    texts = ["x" * (7 * number % 1_000) for number in range(50)]
    assert written(lab, [{"id": number, "v": text} for number, text in enumerate(texts)]) == []
    assert column(lab) == texts


# --- keys and constraints ---


def test_rows_whose_key_is_taken_are_returned_and_the_others_written_in_one_go(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int, CONSTRAINT one UNIQUE (v))")
    lab.execute("INSERT INTO t VALUES (5, 5)")
    rows = [{"id": number, "v": number} for number in (1, 5, 2, 2, 3)]
    refused = written(lab, rows)
    assert [(index, code) for index, code, _ in refused] == [(1, "23000"), (3, "23000")]
    assert "duplicate key" in refused[0][2]
    assert column(lab) == [1, 2, 3, 5]
    assert [index for index, *_ in written(lab, [{"id": 6, "v": 1}, {"id": 7, "v": 7}])] == [0]


def test_rows_that_violate_a_check_are_returned_and_take_no_key_away(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int, CONSTRAINT positive CHECK (v > 0))")
    rows = [(1, 1), (2, -1), (2, 2), (1, 3), (3, -1), (4, None)]
    refused = written(lab, [{"id": number, "v": value} for number, value in rows])
    assert [index for index, _, _ in refused] == [1, 3, 4]
    assert ["positive" in reason for _, _, reason in refused] == [True, False, True]
    assert lab.query("SELECT id, v FROM t ORDER BY id") == [(1, 1), (2, 2), (4, None)]


def test_ignore_counts_taken_keys_and_returns_what_violates_a_check(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v > 0))")
    lab.execute("INSERT INTO t VALUES (1, 9)")
    with SqlserverSink(lab.url, table="t", mode="ignore") as sink:
        sink.begin()
        rows = [(1, 1), (2, -1), (2, 2), (3, 3), (3, 4)]
        refused = sink.write([{"id": number, "v": value} for number, value in rows])
        assert [index for index, _, _ in refused] == [1]
        assert sink.duplicates == 2
        sink.commit()
    assert lab.query("SELECT id, v FROM t ORDER BY id") == [(1, 9), (2, 2), (3, 3)]


def test_a_check_of_a_column_that_is_not_written_fails_the_write(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int, w int DEFAULT 0, CHECK (v > w))")
    with SqlserverSink(lab.url, table="t") as sink:
        sink.begin()
        with pytest.raises(ServerError) as caught:
            sink.write([{"id": 1, "v": 1}, {"id": 2, "v": -1}])
        assert sink.classify(caught.value) == "reject"
        assert not sink.doomed
        assert sink.write([{"id": 3, "v": 1}, {"id": 4, "v": 1}]) == []
        sink.commit()
    assert column(lab, "id") == [3, 4]


def test_a_row_without_its_parent_is_a_bad_row(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE p (id int PRIMARY KEY)")
    lab.execute("INSERT INTO p VALUES (1)")
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES p (id))")
    with SqlserverSink(lab.url, table="t") as sink:
        sink.begin()
        rows = [{"id": number, "v": 2 if number == 5 else 1} for number in range(9)]
        assert [index for index, _, _ in Isolation(rows, sink.write, sink)] == [5]
        sink.commit()
    assert len(column(lab)) == 8


def test_an_identity_column_is_filled_by_the_server_or_by_the_source(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int IDENTITY(10, 1) PRIMARY KEY, v int)")
    with SqlserverSink(lab.url, table="t") as sink:
        assert [(c[0], c[3]) for c in sink.columns()] == [("id", True), ("v", False)]
        sink.begin()
        assert sink.write([{"v": 1}, {"v": 2}]) == []
        assert sink.write([{"id": 50, "v": 3}]) == []
        assert sink.write([{"v": 4}]) == []
        sink.commit()
    assert lab.query("SELECT id, v FROM t ORDER BY v") == [(10, 1), (11, 2), (50, 3), (51, 4)]


def test_an_upsert_of_an_identity_table_updates_and_inserts(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int IDENTITY(1, 1) PRIMARY KEY, v int)")
    assert written(lab, [{"v": 1}, {"v": 2}]) == []
    assert written(lab, [{"id": 2, "v": 20}, {"id": 9, "v": 90}, {"id": 9, "v": 91}], mode="upsert") == []
    assert lab.query("SELECT id, v FROM t ORDER BY id") == [(1, 1), (2, 20), (9, 91)]


def test_arrow_rows_that_doom_the_transaction_are_found(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE p (id int PRIMARY KEY)")
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES p (id))")
    with SqlserverSink(lab.url, table="t") as sink:
        sink.begin()
        sink._session.run("SET XACT_ABORT ON")
        rows = pa.table({"id": pa.array(range(40), pa.int32()), "v": pa.array([None] * 39 + [7], pa.int32())})
        assert sink.write_arrow(rows[:20]) == []
        assert [(index, code) for index, code, _ in sink.write_arrow(rows[20:])] == [(19, "23000")]
        sink.commit()
    assert column(lab, "id") == list(range(39))


def test_a_mode_whose_key_is_not_unique_is_refused(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    with (
        SqlserverSink(lab.url, table="t", mode="upsert", key="v") as sink,
        pytest.raises(LookupError, match=r"unique index on \(v\)"),
    ):
        sink.prepare(a_load())


def test_replace_keeps_constraints_and_identity_values(lab: SqlserverLab) -> None:
    lab.execute(
        "CREATE TABLE t (id int IDENTITY(1, 1) PRIMARY KEY, v int NOT NULL DEFAULT 3 CHECK (v > 0),"
        " w int UNIQUE)"
    )
    lab.execute("INSERT INTO t (v) VALUES (1)")
    load = a_load()
    with SqlserverSink(lab.url, table="t", mode="replace") as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, 1))
        assert sink.write([{"id": 7, "v": 1, "w": 1}, {"id": 8, "v": 2, "w": 2}]) == []
        assert [index for index, *_ in sink.write([{"id": 9, "v": -1}])] == [0]
        assert [index for index, *_ in sink.write([{"id": 9, "w": 1}])] == [0]
        sink.commit()
        assert column(lab) == [1]
        sink.finish(load)
    assert lab.query("SELECT id, v FROM t ORDER BY id") == [(7, 1), (8, 2)]
    assert lab.query("SELECT name FROM sys.tables WHERE name LIKE '%replace%'") == []


# --- a doomed transaction ---


@pytest.mark.parametrize("size", [1, 7, 100])
def test_rows_that_doom_the_transaction_are_found_and_the_others_written_once(
    lab: SqlserverLab, size: int
) -> None:
    lab.make_items()
    load = a_load()
    with SqlserverSink(lab.url, table="items") as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, size + 3))
        sink._session.run("SET XACT_ABORT ON")  # as in a trigger: every error ends the transaction
        before = [{"item_id": number, "name": "before", "amount": 1} for number in range(3)]
        assert sink.write(before) == []
        rows = [{"item_id": 10 + number, "name": "x", "amount": 1} for number in range(size)]
        rows[size // 2]["amount"] = -1
        rows[-1]["amount"] = -1
        refused = sink.write(rows)
        assert [index for index, _, _ in refused] == sorted({size // 2, size - 1})
        assert not sink.doomed
        assert sink.write([{"item_id": 5, "name": "after", "amount": 1}]) == []
        sink.commit()
        assert sink.receipts("load") == [([[0, 0, size + 3]], size + 4, [])]
    bad = {10 + size // 2, 9 + size}
    expected = [0, 1, 2, 5, *(10 + number for number in range(size) if 10 + number not in bad)]
    assert sorted(row["item_id"] for row in lab.rows("items")) == expected


def test_keys_are_claimed_again_when_the_transaction_is(lab: SqlserverLab) -> None:
    lab.make_items()
    load = {**a_load(), "keys": True}
    with SqlserverSink(lab.url, table="items") as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, 1))
        sink._session.run("SET XACT_ABORT ON")
        assert sink.claim(["a", "b"]) == {"a", "b"}
        sink.release(["b"])
        rows = [{"item_id": number, "name": "x", "amount": number} for number in range(3)]
        assert [index for index, _, _ in sink.write(rows)] == [0]
        sink.commit()
        sink.begin()
        assert sink.claim(["a", "b"]) == {"b"}
    assert len(lab.rows("items")) == 2


# --- several tables ---


@contextmanager
def parent_and_lines(lab: SqlserverLab) -> Iterator[tuple[SqlserverSink, SqlserverSink, dict[str, Any]]]:
    """A sink of `items`, one beside it whose rows belong to them, both prepared, and the load."""
    lab.make_items()
    lab.execute(
        "CREATE TABLE lines (id int PRIMARY KEY, item_id int NOT NULL REFERENCES items (item_id),"
        " amount int CHECK (amount > 0))"
    )
    load = a_load()
    with SqlserverSink(lab.url, table="items") as parent:
        lines = parent.beside("lines")
        parent.prepare(load)
        assert [column[0] for column in lines.prepare(load)] == ["id", "item_id", "amount"]
        yield parent, lines, load


def lines_of(item: int, *ids: int) -> list[dict[str, Any]]:
    return [{"id": number, "item_id": item, "amount": 1} for number in ids]


def test_rows_of_two_tables_and_the_receipt_are_one_commit(lab: SqlserverLab) -> None:
    with parent_and_lines(lab) as (parent, lines, load):
        assert parent.begin(a_receipt(load, "one", 0, 1))
        assert parent.write(some(1, 2)) == []
        assert lines.write(lines_of(1, 10, 11)) == lines.write(lines_of(2, 12)) == []
        parent.rollback()
        assert lab.rows("items") == lab.rows("lines") == parent.receipts("load") == []
        assert parent.begin(a_receipt(load, "one", 0, 1))
        assert parent.write(some(1, 2)) == []
        assert lines.write(lines_of(1, 10)) == []
        parent.commit()
        assert parent.begin(a_receipt(load, "one", 0, 1)) is False
        assert parent.receipts("load") == [([[0, 0, 1]], 2, [])]
    assert item_ids(lab) == [1, 2]
    assert lab.rows("lines") == lines_of(1, 10)


@pytest.mark.parametrize("dooming", [False, True])
def test_a_bad_row_of_one_table_leaves_the_rows_of_the_other(lab: SqlserverLab, dooming: bool) -> None:
    with parent_and_lines(lab) as (parent, lines, load):
        assert parent.begin(a_receipt(load, "one", 0, 4))
        if dooming:
            parent._session.run("SET XACT_ABORT ON")  # as in a trigger: every error ends the transaction
        assert parent.write(some(1, 5)) == []
        rows = [*lines_of(1, *range(20)), *lines_of(9, 20), *lines_of(2, *range(21, 40))]
        rows[3]["amount"] = 0
        refused = list(Isolation(rows, lines.write, lines))
        assert [(index, code) for index, code, _ in refused] == [(3, "23000"), (20, "23000")]
        assert not parent.doomed
        assert [index for index, *_ in parent.write([*some(6, 6), {"item_id": 7, "amount": -1}])] == [1]
        parent.commit(rows=6)
        assert parent.receipts("load") == [([[0, 0, 4]], 6, [])]
    assert item_ids(lab) == [1, 2, 3, 4, 5, 6]
    assert sorted(row["id"] for row in lab.rows("lines")) == [n for n in range(40) if n not in (3, 20)]


def test_several_tables_may_stand_beside_one_each_with_its_mode_and_key(lab: SqlserverLab) -> None:
    """Their columns have the same names, and other types."""
    lab.make_items()
    lab.execute("CREATE TABLE a (id int IDENTITY(1, 1) PRIMARY KEY, v int)")
    lab.execute("CREATE TABLE b (id nvarchar(9) PRIMARY KEY, v nvarchar(9))")
    with SqlserverSink(lab.url, table="items") as sink:
        a, b = sink.beside("a", mode="upsert"), sink.beside("b", mode="ignore", key="id")
        for number in range(3):
            sink.begin()
            assert sink.write(some(number, number)) == []
            assert a.write([{"id": 1, "v": number}, {"id": number, "v": number}]) == []
            assert b.write([{"id": "x", "v": f"{number}"}, {"id": f"{number}", "v": "y"}]) == []
            assert b.duplicates == (number > 0)
            sink.commit()
        assert sink.duplicates == a.duplicates == 0
    assert item_ids(lab) == [0, 1, 2]
    assert lab.query("SELECT id, v FROM a ORDER BY id") == [(0, 0), (1, 2), (2, 2)]
    assert lab.query("SELECT id, v FROM b ORDER BY id") == [("0", "y"), ("1", "y"), ("2", "y"), ("x", "0")]


def test_a_sink_beside_another_has_no_ledger_and_writes_in_a_transaction_only(lab: SqlserverLab) -> None:
    lab.make_items()
    with SqlserverSink(lab.url, table="items") as sink:
        with pytest.raises(ValueError, match="replace"):
            sink.beside("lines", mode="replace")
        lines = sink.beside("lines")
        lines.prepare(a_load(), pa.schema({"id": pa.int64()}))
        assert lines.loads() == lines.receipts("load") == []
        with pytest.raises(RuntimeError, match="begin a transaction"):
            lines.write([{"id": 1}])
    assert lab.query("SELECT name FROM sys.tables ORDER BY name") == [("items",), ("lines",)]


def test_rows_that_a_doomed_transaction_cannot_take_again_are_not_lost_in_silence(lab: SqlserverLab) -> None:
    """Another writer takes a key between the trial and the end."""
    lab.make_items()
    load = a_load()
    with SqlserverSink(lab.url, table="items") as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, 1))
        assert sink.write(some(1, 1)) == []
        sink._session.run("SET XACT_ABORT ON")
        taken = iter([False, True])
        again = sink._session.again

        def meanwhile(steps: module.Steps) -> None:
            sink.rollback()
            if next(taken):
                lab.execute("INSERT INTO items VALUES (1, 'other', 1)")
            again(steps)

        sink._session.again = meanwhile  # type: ignore[method-assign]
        with pytest.raises(ServerError, match="meanwhile") as caught:
            sink.write([{"item_id": 2, "amount": -1}])
        assert sink.doomed
        assert sink.classify(caught.value) == "retry"
        sink.rollback()
    assert [row["name"] for row in lab.rows("items")] == ["other"]


def test_a_transaction_of_very_many_rows_is_not_taken_again(
    lab: SqlserverLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPEATABLE_ROWS", 5)
    lab.make_items()
    with SqlserverSink(lab.url, table="items", ledger=None) as sink:
        sink.begin()
        for first in (1, 4, 7):
            assert sink.write(some(first, first + 2)) == []
        assert len(sink._session.steps) == 1
        sink._session.run("SET XACT_ABORT ON")
        with pytest.raises(ServerError, match="too many rows"):
            sink.write([{"item_id": 10, "amount": -1}])
        assert sink.doomed
        sink.rollback()
        assert sink.begin()
        assert sink.write(some(1, 2)) == []
        sink.commit()
    assert len(lab.rows("items")) == 2


# --- errors ---

VERDICTS = [
    (3604, "23000", "reject"), (9402, "42000", "reject"), (13535, "42000", "retry"),
    (40553, "42000", "overload"),
    (1205, "40001", "retry"), (1222, "HYT00", "retry"), (3960, "42000", "retry"), (628, "42000", "retry"),
    (40501, "42000", "overload"), (49918, "42000", "overload"), (49919, "42000", "overload"),
    (49920, "42000", "overload"), (10928, "42000", "overload"), (10929, "42000", "overload"),
    (17809, "08001", "overload"), (701, "42000", "overload"), (40197, "HY000", "in_doubt"),
    (40613, "HY000", "in_doubt"), (1105, "42000", "fatal"), (9002, "42000", "fatal"),
    (3906, "42000", "fatal"),
    (6005, "HY000", "in_doubt"), (6006, "HY000", "in_doubt"), (596, "HY000", "in_doubt"),
    (18456, "28000", "fatal"), (4060, "42000", "fatal"), (208, "42S02", "fatal"), (207, "42S22", "fatal"),
    (229, "42000", "fatal"), (262, "42000", "fatal"), (547, "23000", "reject"), (2627, "23000", "reject"),
    (2601, "23000", "reject"), (515, "23000", "reject"), (2628, "22001", "reject"), (8152, "22001", "reject"),
    (245, "22018", "reject"), (8114, "42000", "reject"), (8115, "22003", "reject"), (241, "22007", "reject"),
    (242, "22007", "reject"), (3609, "42000", "reject"), (50001, "42000", "reject"), (102, "42000", "fatal"),
    (0, "08S01", "in_doubt"), (0, "22003", "reject"), (0, "40001", "retry"), (0, "HY000", "fatal"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "state", "verdict"), VERDICTS)
def test_errors_are_classified_by_number_else_by_sqlstate(number: int, state: str, verdict: str) -> None:
    assert SqlserverSink(URL).classify(ServerError(state, number, "text")) == verdict


def test_what_fails_while_connecting_was_not_applied() -> None:
    assert SqlserverSink(URL).classify(ConnectError("HYT00", 0, "Login timeout expired")) == "retry"
    assert SqlserverSink(URL).classify(ConnectError("28000", 18456, "Login failed")) == "fatal"


def test_the_number_is_read_where_the_driver_puts_it_not_from_quoted_data() -> None:
    hostile = "The duplicate key value is ( (1205) (SQLExecute); [40001] x)."
    text = (
        f"[23000] [Microsoft][ODBC Driver 18 for SQL Server][SQL Server]{hostile} (2627) (SQLExecute); "
        "[23000] [Microsoft]The statement has been terminated. (3621)"
    )
    error = module._said(Exception("23000", text))
    assert (error.sqlstate, error.number, str(error)) == ("23000", 2627, hostile)


# --- the rest ---


def test_doctor_names_version_and_table_and_missing_rights(lab: SqlserverLab) -> None:
    lab.make_items()
    with SqlserverSink(lab.url, table="items") as sink:
        found = sink.doctor()
    assert "SQL Server" in found[0]
    assert found[1] == "table [dbo].[items] exists"
    assert any("CREATE TABLE [dbo].[_adaptive_loads]" in line for line in found)


def test_the_ledger_may_have_another_name_and_place_or_not_be(lab: SqlserverLab) -> None:
    lab.make_items()
    load = a_load()
    with SqlserverSink(lab.url, table="items", ledger="dbo.my") as sink:
        sink.prepare(load)
        assert [row["load"] for row in sink.loads()] == ["load"]
    assert lab.query("SELECT [load] FROM dbo.my_loads") == [("load",)]
    with SqlserverSink(lab.url, table="items", ledger=None) as sink:
        assert sink.prepare(load)
        assert sink.loads() == sink.receipts("load") == []
        sink.begin()
        sink.write([{"item_id": 1, "name": "a", "amount": 1}])
        sink.commit()
        sink.finish(load)
    assert len(lab.rows("items")) == 1


def test_loads_of_all_tables_are_listed_without_a_table(lab: SqlserverLab) -> None:
    lab.make_items()
    lab.execute("CREATE TABLE t (id int)")
    for table in ("items", "t"):
        with SqlserverSink(lab.url, table=table) as sink:
            sink.prepare(a_load(f"of {table}"))
    with SqlserverSink(lab.url) as sink:
        assert [row["load"] for row in sink.loads()] == ["of items", "of t"]
        assert [row["target"] for row in sink.loads()] == ["[dbo].[items]", "[dbo].[t]"]
        assert len(sink.doctor()) == 1


# --- faults, which only the stand-in has ---


@pytest.fixture(scope="module")
def stand_in() -> Iterator[tds.Served]:
    with tds.serving() as running:
        yield running


@pytest.fixture
def faulty(stand_in: tds.Served, request: pytest.FixtureRequest) -> SqlserverLab:
    """A new database of a server that a test can spoil."""
    lab = SqlserverLab(stand_in.create(f"faulty{abs(hash(request.node.name))}"))
    lab.make_items()
    return lab


def some(first: int, last: int) -> list[dict[str, Any]]:
    return [{"item_id": number, "name": f"{number}", "amount": 1} for number in range(first, last + 1)]


def item_ids(lab: SqlserverLab) -> list[int]:
    return sorted(row["item_id"] for row in lab.rows("items"))


@pytest.mark.parametrize("where", [r"INSERT INTO \[dbo\]\.\[items\]", r"INSERT INTO \[#adaptive\]", "SAVE"])
def test_a_deadlock_leaves_nothing_and_the_batch_can_be_begun_again(
    stand_in: tds.Served, faulty: SqlserverLab, where: str
) -> None:
    load = a_load()
    with SqlserverSink(faulty.url, table="items") as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, 9))
        stand_in.fail_next(1205, where)
        with pytest.raises(ServerError) as caught:
            sink.write(some(0, 9))
        assert sink.classify(caught.value) == "retry"
        sink.rollback()
        assert item_ids(faulty) == []
        assert sink.begin(a_receipt(load, "one", 0, 9))
        assert sink.write(some(0, 9)) == []
        sink.commit()
        assert sink.begin(a_receipt(load, "one", 0, 9)) is False
    assert item_ids(faulty) == list(range(10))


def test_a_transaction_that_the_server_ended_cannot_be_committed_without_its_receipt(
    stand_in: tds.Served, faulty: SqlserverLab
) -> None:
    """After a deadlock the driver begins a new transaction by itself; rows must not go into that one."""
    load = a_load()
    with SqlserverSink(faulty.url, table="items") as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, 9))
        assert sink.write(some(0, 4)) == []
        stand_in.fail_next(1205, "INSERT INTO")
        with pytest.raises(ServerError):
            sink.write(some(5, 9))
        assert sink.doomed
        with pytest.raises(ServerError, match="rolled the transaction back"):
            sink.commit()
    assert item_ids(faulty) == []


@pytest.mark.parametrize("number", [1222, 701, 9002, 3906])
def test_an_error_that_is_not_the_datas_is_raised_as_it_is(
    stand_in: tds.Served, faulty: SqlserverLab, number: int
) -> None:
    with SqlserverSink(faulty.url, table="items") as sink:
        sink.begin()
        stand_in.fail_next(number, r"INSERT INTO \[dbo\]")
        with pytest.raises(ServerError) as caught:
            sink.write(some(0, 9))
        assert caught.value.number == number
        assert sink.classify(caught.value) == module.VERDICTS[number]


def test_a_conversion_that_ends_the_transaction_refuses_its_rows_only(
    stand_in: tds.Served, faulty: SqlserverLab
) -> None:
    load = a_load()
    with SqlserverSink(faulty.url, table="items") as sink:
        sink.prepare(load)
        assert sink.begin(a_receipt(load, "one", 0, 9))
        assert sink.write(some(0, 4)) == []
        stand_in.fail_next(245, r"INSERT INTO \[dbo\]")
        assert sink.write(some(5, 9)) == []  # once only: every trial went well
        sink.commit()
        assert sink.receipts("load") == [([[0, 0, 9]], 10, [])]
    assert item_ids(faulty) == list(range(10))


@pytest.mark.parametrize("after", [False, True])
def test_a_link_cut_at_the_receipt_is_in_doubt_and_settled_by_beginning_again(
    stand_in: tds.Served, faulty: SqlserverLab, after: bool
) -> None:
    load = a_load()
    with SqlserverSink(faulty.url, table="items") as sink:
        sink.prepare(load)
        stand_in.fail_next(None, "_adaptive_ledger", after=after)
        with pytest.raises(ServerError) as caught:
            sink.begin(a_receipt(load, "one", 0, 0))
        assert sink.classify(caught.value) == "in_doubt"
        sink.close()
        sink.open()
        assert sink.begin(a_receipt(load, "one", 0, 0))
        sink.write(some(0, 0))
        sink.commit()
    assert item_ids(faulty) == [0]


def test_the_right_that_identity_values_take_is_named_by_the_doctor(lab: SqlserverLab) -> None:
    lab.execute("CREATE TABLE dbo.numbered (id int IDENTITY PRIMARY KEY, name nvarchar(20))")
    with lab.stranger() as stranger, stranger.sink("numbered") as sink:
        [finding] = [line for line in sink.doctor() if "identity" in line]
        assert "GRANT ALTER ON OBJECT::[dbo].[numbered] TO [" in finding


ALONE = """
import sys
sys.path.insert(0, ".")
for name in ("adaptive", "pyarrow", "numpy"):
    sys.modules[name] = None
from sqlserver import SqlserverSink
with SqlserverSink(sys.argv[1], table="orders") as sink:
    sink.begin(); sink.write([{"order_id": 1, "price": "9.99"}]); sink.commit()
"""


def test_the_file_alone_loads_rows_with_pyodbc_only(lab: SqlserverLab, tmp_path: Path) -> None:
    lab.execute("CREATE TABLE orders (order_id int PRIMARY KEY, price decimal(9, 2))")
    shutil.copy(str(module.__file__), tmp_path)
    subprocess.run([sys.executable, "-I", "-c", ALONE, lab.url], cwd=tmp_path, check=True)
    assert lab.query("SELECT * FROM orders") == [(1, Decimal("9.99"))]


def test_the_file_alone_loads_arrow_tables(lab: SqlserverLab, tmp_path: Path) -> None:
    shutil.copy(str(module.__file__), tmp_path)
    code = """
import sys
sys.path.insert(0, "."); sys.modules["adaptive"] = None
from sqlserver import SqlserverSink
import pyarrow as pa
with SqlserverSink(sys.argv[1], table="t") as sink:
    load = {"load": "l", "fingerprint": "", "source": "", "mapping": "", "owner": "me", "splits": [0]}
    rows = pa.table({"id": list(range(1000))})
    sink.prepare(load, rows.schema); sink.begin(); sink.write_arrow(rows); sink.commit(); sink.finish(load)
"""
    subprocess.run([sys.executable, "-I", "-c", code, lab.url], cwd=tmp_path, check=True)
    assert lab.query("SELECT SUM(id) FROM t") == [(499500,)]


def test_closing_is_always_fine(lab: SqlserverLab) -> None:
    sink = SqlserverSink(lab.url, table="t")
    sink.rollback()
    sink.close()
    with closing(sink):
        sink.open()
        sink.open()
    sink.close()
