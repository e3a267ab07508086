"""Parquet files are read in file order, typed, and no damage goes unnoticed."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.dialect import Dialect
from adaptive.errors import SourceError, UsageError
from adaptive.rows import Column, Field
from adaptive.sources.files import FREE, STDIN
from adaptive.sources.parquet import ParquetSource
from adaptive.sources.parquet_batches import BATCH_BYTES, BATCH_ROWS


def write(path: Path, table: pa.Table, **options: Any) -> ParquetSource:
    pq.write_table(table, path, **options)
    return ParquetSource(str(path), Dialect())


def load(source: ParquetSource, types: dict[str, pa.DataType]) -> list[dict[str, object]]:
    fields = [Field(name, Column(name, type_)) for name, type_ in types.items()]
    chunks = [source.parse(piece, fields) for piece in source.read()]
    assert not any(chunk.rejects for chunk in chunks)
    return [row for chunk in chunks for row in chunk.rows.to_pylist()]


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(0, 3 * BATCH_ROWS), group=st.integers(1000, 50_000))
def test_rows_come_in_file_order_whatever_the_row_groups(
    tmp_path_factory: pytest.TempPathFactory, rows: int, group: int
) -> None:
    table = pa.table({"n": pa.array(range(rows), pa.int64())})
    source = write(tmp_path_factory.mktemp("order") / "x.parquet", table, row_group_size=group)
    assert [n for piece in source.read() for n in piece.batch.column("n").to_pylist()] == list(range(rows))


def test_a_file_without_rows_has_a_schema_and_no_pieces(tmp_path: Path) -> None:
    source = write(tmp_path / "x.parquet", pa.table({"n": pa.array([], pa.int32())}))
    assert source.schema() == source.infer() == pa.schema({"n": pa.int32()})
    assert list(source.read()) == []


def test_declared_types_go_before_those_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", pa.table({"n": [1], "t": ["x"]}))
    source = ParquetSource(str(tmp_path / "x.parquet"), Dialect(types={"n": pa.string()}))
    assert source.schema() == pa.schema({"n": pa.string(), "t": pa.string()})


def test_dictionaries_are_the_values_they_stand_for(tmp_path: Path) -> None:
    column = pa.array(["a", None, "b", "a"]).dictionary_encode()
    source = write(tmp_path / "x.parquet", pa.table({"t": column}))
    assert source.schema() == pa.schema({"t": pa.string()})
    assert [row["t"] for row in load(source, {"t": pa.string()})] == ["a", None, "b", "a"]


MOMENT = dt.datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("values", "stored", "target", "expected"),
    [
        ([MOMENT], pa.timestamp("ns", "UTC"), pa.timestamp("us", "UTC"), [MOMENT]),
        ([dt.date(2024, 2, 29), None], pa.date64(), pa.date32(), [dt.date(2024, 2, 29), None]),
        ([2**64 - 1, 0], pa.uint64(), pa.decimal128(20, 0), [Decimal(2**64 - 1), Decimal(0)]),
        ([7], pa.uint64(), pa.int64(), [7]),
        ([Decimal("1.2500")], pa.decimal256(50, 4), pa.decimal128(18, 4), [Decimal("1.2500")]),
        (["é"], pa.large_string(), pa.string(), ["é"]),
        ([b"\x00\xff"], pa.large_binary(), pa.binary(), [b"\x00\xff"]),
        ([[1, None], [], None], pa.list_(pa.int32()), pa.list_(pa.int32()), [[1, None], [], None]),
    ],
)
def test_types_the_databases_lack_are_cast_exactly(
    tmp_path: Path, values: list[object], stored: pa.DataType, target: pa.DataType, expected: list[object]
) -> None:
    source = write(tmp_path / "x.parquet", pa.table({"v": pa.array(values, stored)}))
    assert [row["v"] for row in load(source, {"v": target})] == expected


def test_a_value_that_does_not_fit_its_column_is_a_reject_of_its_row(tmp_path: Path) -> None:
    source = write(tmp_path / "x.parquet", pa.table({"n": [1, 2**40, 3], "other": ["a", "b", "c"]}))
    (piece,) = source.read()
    chunk = source.parse(piece, [Field("n", Column("n", pa.int32()))])
    assert chunk.rows.to_pylist() == [{"n": 1}, {"n": 3}]
    assert [(reject.ordinal, reject.code, reject.column) for reject in chunk.rejects] == [(1, "value", "n")]


@pytest.mark.parametrize("options", [{"compression": "snappy"}, {"write_page_checksum": True}])
def test_rows_before_a_damaged_page_load_and_the_error_names_the_row(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "x.parquet"
    source = write(
        path, pa.table({"n": range(100_000)}), row_group_size=50_000, use_dictionary=False, **options
    )
    stored = bytearray(path.read_bytes())
    page = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    stored[page + 100 : page + 300] = bytes(byte ^ 0xFF for byte in stored[page + 100 : page + 300])
    path.write_bytes(stored)
    found: list[int] = []
    with pytest.raises(SourceError, match=r"not readable from row 50,001 on"):
        found.extend(n for piece in source.read() for n in piece.batch.column("n").to_pylist())
    assert found == list(range(50_000))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not a Parquet file"),
        (b"a,b\n1,2\n" * 10, "not a Parquet file"),
        (b"PARE" + bytes(20) + b"PARE", "encrypted"),
    ],
)
def test_what_is_no_readable_parquet_says_what_it_is(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=text):
        ParquetSource(str(path), Dialect()).schema()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write(path, pa.table({"n": range(1000)}))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(SourceError, match="not all of one"):
        ParquetSource(str(path), Dialect()).schema()


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        ParquetSource(str(tmp_path / "none.parquet"), Dialect()).schema()


def test_standard_input_is_refused() -> None:
    with pytest.raises(UsageError, match="standard input"):
        ParquetSource(STDIN, Dialect())


def test_a_file_without_columns_or_with_two_of_one_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column"):
        write(tmp_path / "none.parquet", pa.table({})).schema()
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    with pytest.raises(UsageError, match="named 'n'"):
        write(tmp_path / "twice.parquet", twice).schema()


def test_text_that_is_no_utf8_is_a_reject_of_its_row(tmp_path: Path) -> None:
    text = pa.array([b"a", b"\xff", None, b"d"], pa.binary()).cast(pa.string(), safe=False)
    deep = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3, 4], pa.int32()), text.take(pa.array([0, 0, 0, 1])))
    pq.write_table(pa.table({"n": [1, 2, 3, 4], "t": text, "deep": deep}), tmp_path / "t.parquet")
    source = ParquetSource(str(tmp_path / "t.parquet"), Dialect())
    fields = [Field(field.name, Column(field.name, field.type)) for field in source.schema()]
    [chunk] = [source.parse(piece, fields) for piece in source.read()]
    assert chunk.rows.column("n").to_pylist() == [1, 3]  # type: ignore[union-attr]
    assert [(reject.ordinal, reject.code, reject.column) for reject in chunk.rejects] == [
        (1, "encoding", "t"),
        (3, "encoding", "deep"),
    ]
    assert chunk.rejects[0].values == {"n": 2, "t": "\\xff", "deep": ["a"]}


def test_rows_that_a_damaged_file_lacks_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow reads 200 of the 300 rows, over a row group whose pages are damaged, without a word."""
    path = Path(__file__).parent / "data" / "empty_row_group.parquet"
    assert pq.ParquetFile(path).metadata.num_rows == 300
    monkeypatch.setattr("adaptive.sources.parquet_batches.BATCH_ROWS", 20)
    with pytest.raises(SourceError, match=r"row group 1 says it has 100 rows, it has 0"):
        list(ParquetSource(str(path), Dialect()).read())


def test_a_column_name_that_is_no_text_is_an_error_of_the_source(tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": [1]}), tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content.replace(b"name", b"n\xffme"))
    with pytest.raises(SourceError, match=r"t.parquet: "):
        ParquetSource(str(tmp_path / "t.parquet"), Dialect()).schema()


# ---- rows that stand for more than the file holds


def repeated(text: str, rows: int) -> pa.Table:
    """Return a table whose rows stand for one text, stored once."""
    indices = pa.array([0] * rows, pa.int32())
    return pa.table({"t": pa.DictionaryArray.from_arrays(indices, pa.array([text])), "n": range(rows)})


@pytest.mark.parametrize("options", [{}, {"store_schema": False}], ids=["dictionary", "text"])
def test_batches_of_a_long_text_that_is_stored_once_are_short(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(repeated("x" * 1_000_000, 300), path, **options)
    source = ParquetSource(str(path), Dialect(max_ratio=1_000_000))
    fields = [Field("t", Column("t", pa.string())), Field("n", Column("n", pa.int64()))]
    chunks = [source.parse(piece, fields) for piece in source.read()]
    assert max(chunk.nbytes for chunk in chunks) < 1.1 * BATCH_BYTES
    assert [n for chunk in chunks for n in chunk.rows.column("n").to_pylist()] == list(range(300))
    assert {text for chunk in chunks for text in pc.unique(chunk.rows.column("t")).to_pylist()} == {
        "x" * 1_000_000
    }


def test_batches_of_long_rows_are_short(tmp_path: Path) -> None:
    texts = [chr(97 + number % 26) * 1_000_000 for number in range(150)]
    source = write(tmp_path / "x.parquet", pa.table({"t": texts}), use_dictionary=False, compression="none")
    pieces = list(source.read())
    assert max(piece.batch.nbytes for piece in pieces) < 1.1 * BATCH_BYTES
    assert [text for piece in pieces for text in piece.batch.column("t").to_pylist()] == texts


@pytest.mark.parametrize("options", [{}, {"store_schema": False}], ids=["dictionary", "text"])
def test_a_file_that_stands_for_far_more_than_it_holds_stops_the_load(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(repeated("x" * 1_000_000, 1_000_000), path, **options)  # a terabyte in 1 MB
    stored = path.stat().st_size
    found: list[int] = []
    source = ParquetSource(str(path), Dialect(max_ratio=20))
    with pytest.raises(SourceError, match=r"x.parquet: stopped after .* --max-ratio is 20; a bomb\?"):
        found.extend(len(piece.batch) for piece in source.read())
    assert 0 < sum(found) * 1_000_000 <= max(FREE, 20 * stored)


def test_repetition_within_the_bound_is_read(tmp_path: Path) -> None:
    source = write(tmp_path / "x.parquet", repeated("BUY", 1_000_000))
    assert sum(len(piece.batch) for piece in source.read()) == 1_000_000
