from __future__ import annotations

import csv
import gzip
import io
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.dialect import Dialect
from adaptive.errors import SourceError, UsageError
from adaptive.rows import Column, Field, Reject
from adaptive.sources import csv_records, open_source
from adaptive.sources.csv import CsvSource

Table = list[tuple[str | None, ...]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.csv"


@pytest.fixture(params=[1, 7, 100, 1 << 20])
def block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "BLOCK", request.param)


def load(path: Path, **dialect: Any) -> tuple[Table, list[Reject]]:
    return loaded(CsvSource(str(path), Dialect(**dialect)))


def loaded(source: CsvSource) -> tuple[Table, list[Reject]]:
    rows, rejects, error = until_error(source)
    assert error == ""
    return rows, rejects


def until_error(source: CsvSource) -> tuple[Table, list[Reject], str]:
    """Return rows, rejects with ordinals in the file, and the SourceError that ended the input, or ""."""
    fields = [Field(name, Column(name, pa.string())) for name in source.schema().names]
    rows: Table = []
    rejects: list[Reject] = []
    first = 0
    try:
        for raw in source.read():
            chunk = source.parse(raw, fields).moved(0, first)
            assert chunk.count == len(chunk) + len(chunk.rejects)
            assert [r.ordinal for r in chunk.rejects] == sorted({r.ordinal for r in chunk.rejects})
            assert all(first <= reject.ordinal < first + chunk.count for reject in chunk.rejects)
            rows += [tuple(row.values()) for row in chunk.rows.to_pylist()]  # type: ignore[union-attr]
            rejects += chunk.rejects
            first += chunk.count
    except SourceError as error:
        return rows, rejects, str(error)
    return rows, rejects, ""


CELLS = st.none() | st.text(st.sampled_from('ab1 ,;"\n\r\té€😀\x00'), max_size=8)


def written(table: Table, line_end: str = "\n") -> str:
    """Return CSV in which None is an unquoted empty field; everything else is quoted where it has to be."""

    def field(cell: str | None) -> str:
        if cell is None:
            return ""
        quoted = cell == "" or any(c in cell for c in ',"\r\n')
        return '"' + cell.replace('"', '""') + '"' if quoted else cell

    return "".join(",".join(map(field, row)) + line_end for row in table)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    width = draw(st.integers(2, 4))
    return draw(st.lists(st.tuples(*[CELLS] * width), max_size=20))


@settings(deadline=None)
@given(tables(), st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 40), st.booleans())
def test_any_table_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, table: Table, line_end: str, size: int, ended: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    text = written(table, line_end)
    path.write_bytes((text if ended else text.removesuffix(line_end)).encode())
    columns = tuple("abcd"[: len(table[0])] if table else "ab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_records, "BLOCK", size)
        assert load(path, columns=columns) == (table, [])


@settings(deadline=None)
@given(
    st.lists(st.lists(st.text('ab1 ,;"\n\ré€', max_size=8), min_size=3, max_size=3), max_size=20),
    st.integers(1, 40),
)
def test_what_the_csv_module_writes_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "module.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["x", 'y"\n', "z"], *rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_records, "BLOCK", size)
        assert load(path) == ([tuple(row) for row in rows], [])


@settings(deadline=None)
@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=5).map(tuple), max_size=20),
    st.sets(st.integers(0, 19)),
    st.integers(1, 40),
    st.sampled_from(["\n", "\r\n"]),
)
def test_bad_records_are_rejected_at_their_place_and_the_good_ones_are_exact(
    tmp_path_factory: pytest.TempPathFactory, records: Table, garbled: set[int], size: int, line_end: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "bad.csv"
    texts = [written([record], line_end).encode() for record in records]
    for index in garbled & set(range(len(texts))):
        texts[index] = b"\xff" + texts[index] if records[index][0] is None else b"\xff," + texts[index]
    path.write_bytes(b"a,b,c" + line_end.encode() + b"".join(texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_records, "BLOCK", size)
        rows, rejects = load(path)
    wrong = {n for n, record in enumerate(records) if len(record) != 3}
    assert rows == [record for n, record in enumerate(records) if n not in garbled | wrong]
    assert [(reject.ordinal, reject.code) for reject in rejects] == [
        (n, "encoding" if n in garbled else "fields")
        for n in sorted(wrong | garbled & set(range(len(records))))
    ]
    lines = [1 + len(re.split(b"\r\n|\r|\n", b"".join(texts[:n]))) for n in range(len(texts))]
    assert [reject.line for reject in rejects] == [lines[reject.ordinal] for reject in rejects]


@settings(deadline=None, max_examples=300)
@given(st.text('a,"\n\r', max_size=60), st.integers(1, 20))
def test_stray_quotes_never_make_the_result_depend_on_block_sizes(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "stray.csv"
    path.write_text(text, newline="")

    def everything(size: int) -> tuple[Table, list[Reject], str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_records, "BLOCK", size)
            return until_error(CsvSource(str(path), Dialect(columns=("x", "y"))))

    assert everything(size) == everything(1 << 20)


def test_a_quote_inside_an_unquoted_field_is_text(path: Path, block_size: None) -> None:
    path.write_text('a,b\n5" disk,x\ny,3"\n"q"r"s,"t\n"\n')
    assert load(path) == ([('5" disk', "x"), ("y", '3"'), ('qr"s', "t\n")], [])


def test_an_unquoted_empty_field_is_null_and_a_quoted_one_is_text(path: Path) -> None:
    path.write_text('a,b,c\n,"",\\N\n"\\N","",x\n')
    assert load(path, null="\\N") == ([(None, "", None), ("\\N", "", "x")], [])


def test_blank_lines_are_no_records(path: Path, block_size: None) -> None:
    path.write_text("\n\r\na\n\n1\n\n\n \n2,\n\n")
    assert load(path) == (
        [("1",), (" ",)],
        [Reject(2, "fields", "expected 1 fields, found 2", raw="2,", line=9)],
    )


def test_records_with_a_wrong_number_of_fields_are_rejected_with_their_line(
    path: Path, block_size: None
) -> None:
    path.write_text('a,b\n1,"x\ny"\n2\n\n3,4,"5\n6"\n7,8\n')
    rows, rejects = load(path)
    assert rows == [("1", "x\ny"), ("7", "8")]
    assert rejects == [
        Reject(1, "fields", "expected 2 fields, found 1", raw="2", line=4),
        Reject(2, "fields", "expected 2 fields, found 3", raw='3,4,"5\n6"', line=6),
    ]


def test_only_the_record_with_undecodable_bytes_is_rejected(path: Path, block_size: None) -> None:
    path.write_bytes(b'a,b\n1,\xc3\xa9\n2,\xff\xfe\n"3\n",4\n5\n')
    rows, rejects = load(path)
    assert rows == [("1", "é"), ("3\n", "4")]
    assert rejects == [
        Reject(1, "encoding", "not readable as utf-8", raw="2,\\xff\\xfe", line=3),
        Reject(3, "fields", "expected 2 fields, found 1", raw="5", line=6),
    ]


def test_undecodable_bytes_of_other_encodings_reject_their_record_only(path: Path, block_size: None) -> None:
    path.write_bytes(b"a,b\n1,\xe9\n2,\x81\n3,4\n")  # cp1252 leaves 0x81 undefined
    rows, rejects = load(path, encoding="cp1252")
    assert rows == [("1", "é"), ("3", "4")]
    assert [(reject.ordinal, reject.raw) for reject in rejects] == [(1, "2,\ufffd")]


@pytest.mark.parametrize(("stored", "said"), [
    ("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("latin-1", "latin-1"),
    ("utf-16", "utf-16"), ("utf-16", "utf-8"), ("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be"),
    ("cp1252", "windows-1252"), ("utf-32", "utf-32"),
])  # fmt: skip
def test_encodings_and_byte_order_marks(path: Path, block_size: None, stored: str, said: str) -> None:
    path.write_bytes("name,b\nMüller,1\n".encode(stored))
    assert load(path, encoding=said) == ([("Müller", "1")], [])
    assert CsvSource(str(path), Dialect(encoding=said)).schema().names == ["name", "b"]


def test_delimiter_quote_and_missing_header_are_options(path: Path) -> None:
    path.write_text("1;'a;''b'\n2;\"c\"")
    assert load(path, delimiter=";", quote="'", columns=("x", "y")) == ([("1", "a;'b"), ("2", '"c"')], [])


def test_without_a_quote_character_no_field_is_quoted(path: Path, block_size: None) -> None:
    path.write_text('a,b\n"1,2"\n"3\n')
    rows, rejects = load(path, quote="")
    assert rows == [('"1', '2"')]
    assert [reject.raw for reject in rejects] == ['"3']


def test_tabs_separate_by_name_and_by_option(tmp_path: Path) -> None:
    for name, delimiter in (("a.tsv", ","), ("a.tsv.gz", ","), ("a.csv", "\\t"), ("a.csv", "\t")):
        (tmp_path / name).write_text("a\tb\n1,5\t2\n")
        assert load(tmp_path / name, delimiter=delimiter) == ([("1,5", "2")], [])


def test_zero_bytes_pass_through(path: Path, block_size: None) -> None:
    path.write_text("a,b\nx\x00y,\x00\n")
    assert load(path) == ([("x\x00y", "\x00")], [])


def test_a_field_longer_than_a_block_is_read(path: Path) -> None:
    long = 'x"\n' * 1_000_000
    path.write_text(written([("a", "b"), ("1", long), ("2", "y")]))
    assert load(path) == ([("1", long), ("2", "y")], [])


def test_narrow_tables_come_in_bounded_blocks(path: Path) -> None:
    path.write_text("a\n" + "1\n" * 300_000)
    blocks = list(CsvSource(str(path), Dialect()).read())
    assert max(block.text.count(b"\n") for block in blocks) <= csv_records.MAX_LINES
    assert [block.line for block in blocks[:2]] == [2, 2 + blocks[0].text.count(b"\n")]
    assert sum(block.text.count(b"\n") for block in blocks) == 300_000


@pytest.mark.parametrize(("text", "reason"), [
    ("", "empty"), ("\n\n", "empty"), ("a,,c\n", "column 2 has no name"),
    ("a,b,a\n1,2,3\n", "two columns are named 'a'"),
])  # fmt: skip
def test_files_without_usable_columns_are_refused(path: Path, text: str, reason: str) -> None:
    path.write_text(text)
    with pytest.raises(UsageError, match=reason) as refused:
        CsvSource(str(path), Dialect()).schema()
    assert str(path) in str(refused.value)


def test_a_header_alone_is_a_table_without_rows(path: Path) -> None:
    path.write_text('"a\n1",b')
    assert load(path) == ([], [])
    assert CsvSource(str(path), Dialect()).infer().names == ["a\n1", "b"]


def test_an_undecodable_header_names_the_way_out(path: Path) -> None:
    path.write_bytes(b"a,\xe9\n")
    with pytest.raises(UsageError, match="--encoding"):
        CsvSource(str(path), Dialect()).schema()


@pytest.mark.parametrize("dialect", [
    Dialect(delimiter=""), Dialect(delimiter="||"), Dialect(delimiter="\n"), Dialect(delimiter="§"),
    Dialect(delimiter='"'), Dialect(quote="''"), Dialect(encoding="klingon"), Dialect(encoding="base64"),
    Dialect(columns=("a", "a")), Dialect(columns=("a", "")),
])  # fmt: skip
def test_a_dialect_that_makes_no_sense_is_refused(dialect: Dialect) -> None:
    with pytest.raises(UsageError):
        open_source("orders.csv", dialect)


def test_a_quote_left_open_stops_the_load_at_its_record(path: Path, block_size: None) -> None:
    path.write_text('a,b\n1,2\n3,"x\n4,5\n6,7\n')
    rows, _, error = until_error(CsvSource(str(path), Dialect()))
    assert rows == [("1", "2")]
    assert error == f"{path}: the record at line 3 opens a quote that is never closed"


def test_a_quote_left_open_for_too_long_stops_the_load(path: Path) -> None:
    path.write_text('a,b\n1,2\n3,"x\n' + "4,5\n" * 1_000_000)
    rows, _, error = until_error(CsvSource(str(path), Dialect(max_record=1)))
    assert rows == [("1", "2")]
    assert f"{path}: the record at line 3, where a quote may be left open, is longer than 1 MB" in error
    assert "--max-record" in error


def test_all_records_before_the_cut_of_a_truncated_file_are_read(path: Path) -> None:
    table = [(str(n), str(n * 7919 % 10007)) for n in range(100_000)]
    text = "a,b\n" + "".join(f"{a},{b}\n" for a, b in table)
    path.write_bytes(gzip.compress(text.encode())[:200_000])
    rows, rejects, error = until_error(CsvSource(str(path), Dialect()))
    assert (rows, rejects) == (table[: len(rows)], [])
    assert len(rows) > 10_000
    assert f"{path}: broken off after byte 200,000 of the file" in error
    assert f"the record at line {len(rows) + 2:,} was cut off and is not loaded" in error


def test_a_file_cut_off_in_its_header_is_an_error_of_the_source(path: Path) -> None:
    path.write_bytes(gzip.compress(b"a,b\n1,2\n")[:8])
    with pytest.raises(SourceError, match="broken off"):
        CsvSource(str(path), Dialect()).schema()


def test_standard_input_is_read_once_and_stays_text(
    monkeypatch: pytest.MonkeyPatch, block_size: None
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a,b\n1,2\n3,4\n")))
    source = CsvSource("-", Dialect())
    assert source.infer() == source.schema() == pa.schema([("a", pa.string()), ("b", pa.string())])
    assert loaded(source) == ([("1", "2"), ("3", "4")], [])


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("a,b\n1,2\n3,4\n",))
    writer.start()
    source = CsvSource(str(path), Dialect())
    assert source.infer() == source.schema() == pa.schema([("a", pa.string()), ("b", pa.string())])
    assert loaded(source) == ([("1", "2"), ("3", "4")], [])
    writer.join()


def test_types_are_inferred_from_the_whole_file_but_for_its_bad_records(path: Path, block_size: None) -> None:
    path.write_bytes(b"a,b\n1,2\n2,x\n3\n\xff,4\n")
    schema = CsvSource(str(path), Dialect()).infer()
    assert schema == pa.schema([("a", pa.int64()), ("b", pa.string())])


def test_values_that_do_not_cast_are_rejected_between_broken_records(path: Path) -> None:
    path.write_text("a,b\n1,x\n2\nthree,y\n4,z\n")
    source = CsvSource(str(path), Dialect())
    source.schema()
    fields = [Field("a", Column("id", pa.int64())), Field("b", Column("name", pa.string()))]
    (chunk,) = [source.parse(raw, fields) for raw in source.read()]
    assert chunk.rows.to_pylist() == [{"id": 1, "name": "x"}, {"id": 4, "name": "z"}]  # type: ignore[union-attr]
    assert [(reject.ordinal, reject.column) for reject in chunk.rejects] == [(1, None), (2, "id")]


def test_a_byte_order_mark_inside_of_a_file_is_text_wherever_a_block_begins(
    path: Path, block_size: None
) -> None:
    path.write_text("a,b\n1,2\n\ufeff3,4\n\ufeff\n\ufeff,5\n")
    rows, rejects = load(path)
    assert rows == [("1", "2"), ("\ufeff3", "4"), ("\ufeff", "5")]
    assert [(reject.ordinal, reject.line) for reject in rejects] == [(2, 4)]
