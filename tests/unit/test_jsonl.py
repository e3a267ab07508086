"""JSON Lines are read exactly, whatever stands in the lines beside a record."""

from __future__ import annotations

import gzip
import json
import math
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.dialect import Dialect
from adaptive.errors import SourceError, UsageError
from adaptive.rows import Chunk, Column, Field
from adaptive.sources.files import STDIN
from adaptive.sources.json_blocks import parse_block
from adaptive.sources.jsonl import JsonlSource

TYPES = {
    "i": pa.int64(), "small": pa.int32(), "d": pa.decimal128(18, 4), "f": pa.float64(), "b": pa.bool_(),
    "long": pa.decimal128(38, 10), "t": pa.string(), "when": pa.timestamp("us", "UTC"), "day": pa.date32(),
}  # fmt: skip
FIELDS = [Field(name, Column(name, type_)) for name, type_ in TYPES.items()]
JSON = [Field("j", Column("j", pa.json_()))]
GOOD = b'{"i": 0}'


def parse(block: bytes | str, fields: list[Field] = FIELDS) -> Chunk:
    return parse_block(block.encode() if isinstance(block, str) else block, 1, fields, "UTC", 0.0)


def values(chunk: Chunk) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if v is not None} for row in chunk.rows.to_pylist()]


def beside_good_lines(line: bytes) -> Chunk:
    return parse(b"\n".join([GOOD] * 3 + [line] + [GOOD] * 200))


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ('{"i": 1.0}', {"i": 1}),
        ('{"i": 1e3}', {"i": 1000}),
        ('{"i": "12"}', {"i": 12}),
        ('{"i": -9223372036854775808}', {"i": -(2**63)}),
        ('{"d": 12345678901234.5678}', {"d": Decimal("12345678901234.5678")}),
        ('{"d": 1.50e1}', {"d": Decimal("15.0000")}),
        ('{"d": 1.230000000}', {"d": Decimal("1.2300")}),
        ('{"d": "7.25"}', {"d": Decimal("7.2500")}),
        (
            '{"long": 1234567890123456789012345678.0123456789}',
            {"long": Decimal("1234567890123456789012345678.0123456789")},
        ),
        ('{"t": 1.10}', {"t": "1.10"}),
        ('{"t": 123456789012345678901234567890}', {"t": "123456789012345678901234567890"}),
        ('{"t": 1e999999999}', {"t": "1e999999999"}),
        ('{"t": true}', {"t": "true"}),
        (
            '{"t": {"a": [1.10, null, "é", {"a": 1, "a": 2}]}}',
            {"t": '{"a": [1.10, null, "é", {"a": 1, "a": 2}]}'},
        ),
        ('{"t": ""}', {"t": ""}),
        ('{"t": "\\ud83d\\ude00"}', {"t": "😀"}),
        ('{"t": "a\u2028b\x85c"}', {"t": "a\u2028b\x85c"}),
        ('{"\\u0069": 5}', {"i": 5}),
        ('{"b": "true"}', {"b": True}),
        ('{"f": 1}', {"f": 1.0}),
        ('{"f": 0}', {"f": 0.0}),
        ('{"f": 1e300}', {"f": 1e300}),
        ('{"i": null, "t": null}', {}),
        ("{}", {}),
        ('\t {"i": 1} \r', {"i": 1}),
    ],
)
def test_a_value_is_read_as_it_is_meant_alone_and_beside_others(line: str, row: dict[str, object]) -> None:
    assert values(parse(line)) == [row]
    chunk = beside_good_lines(line.encode())
    assert values(chunk)[3] == row
    assert (chunk.count, len(chunk)) == (204, 204)


@pytest.mark.parametrize(
    ("line", "code", "column"),
    [
        (b"null", "json", None),
        (b"[1]", "json", None),
        (b"5", "json", None),
        (b'"text"', "json", None),
        (b'{"i": 1} garbage', "json", None),
        (b'{"i": 1}{"i": 2}', "json", None),
        (b'{"i": 1} null {"i": 2}', "json", None),
        (b'{"i": 1}\r{"i": 2}', "json", None),
        (b'{"i": 1, "i": 1}', "json", None),
        (b'{"i": 01}', "json", None),
        (b'{"i": 1,}', "json", None),
        (b'{"i": 1', "json", None),
        (b"{'i': 1}", "json", None),
        (b'{"t": "a\tb"}', "json", None),
        (b'{"t": "\\ud800"}', "json", None),
        (b'{"t": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "json", None),
        (b"\xef\xbb\xbf{}", "json", None),
        (b'{"i": 1}\x00', "json", None),
        (b'{"t": "\xff"}', "encoding", None),
        (b'{"unknown": "\xff"}', "encoding", None),
        (b'{"unknown": 1}', "json", None),
        (b'{"unknown": null}', "json", None),
        (b'{"i": 1.5}', "value", "i"),
        (b'{"i": 9223372036854775808}', "value", "i"),
        (b'{"i": 1e999999999}', "value", "i"),
        (b'{"i": "x"}', "value", "i"),
        (b'{"i": true}', "value", "i"),
        (b'{"i": NaN}', "value", "i"),
        (b'{"small": 3000000000}', "value", "small"),
        (b'{"d": 1.23456}', "value", "d"),
        (b'{"d": 123456789012345678}', "value", "d"),
        (b'{"d": ""}', "value", "d"),
        (b'{"long": 12345678901234567890123456789012345678}', "value", "long"),
        (b'{"f": 9007199254740993}', "value", "f"),
        (b'{"f": 1e-400}', "value", "f"),
        (b'{"f": 1e400}', "value", "f"),
        (b'{"when": "yesterday"}', "value", "when"),
        (b'{"day": "2024-02-30"}', "value", "day"),
        (b'{"b": "perhaps"}', "value", "b"),
    ],
)
def test_a_bad_line_is_one_reject_and_its_neighbours_load(line: bytes, code: str, column: str | None) -> None:
    for chunk, index in ((beside_good_lines(line), 3), (parse(line), 0)):
        (reject,) = chunk.rejects
        assert (reject.code, reject.column) == (code, column)
        assert (reject.ordinal, reject.line) == (index, index + 1)
        assert len(chunk) == chunk.count - 1
        assert code == "value" or reject.raw is not None


def test_a_record_over_two_lines_is_two_rejects_and_not_a_record() -> None:
    chunk = parse('{"i":\n1}\n{"i": 2}{"i": 3}\n{"i": 4}')
    assert values(chunk) == [{"i": 4}]
    assert [reject.ordinal for reject in chunk.rejects] == [0, 1, 2]


def test_blank_lines_are_no_records_but_lines() -> None:
    chunk = parse('\n{"i": 1}\r\n  \n\n{"i": "x"}\n\t\n{"i": 3}\n\n')
    assert values(chunk) == [{"i": 1}, {"i": 3}]
    assert [(reject.ordinal, reject.line) for reject in chunk.rejects] == [(1, 5)]


def test_the_reason_tells_where_in_the_line() -> None:
    assert "column 7" in parse('{"i": oops}').rejects[0].reason
    assert "0xff in column 8" in parse(b'{"t": "\xff"}').rejects[0].reason
    assert "'i' is there 2 times" in parse('{"i": 1, "i": 2}').rejects[0].reason


def test_json_columns_keep_the_json_they_hold() -> None:
    lines = ['{"j": "text"}', '{"j": 1.10}', '{"j": [1, {"a": null}]}', '{"j": null}', '{"j": true}']
    found = parse("\n".join(lines), JSON).rows.column("j").to_pylist()
    assert found == ['"text"', "1.10", '[1, {"a": null}]', None, "true"]


def test_infinity_and_nan_are_floats() -> None:
    found = [row["f"] for row in parse('{"f": NaN}\n{"f": -Infinity}').rows.to_pylist()]
    assert math.isnan(found[0])
    assert found[1] == -math.inf


numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**13), max_value=10**13, places=4),
)
texts = st.text(st.characters(exclude_categories=["Cs"]))
nested = st.recursive(
    st.none() | st.booleans() | texts | st.integers(), lambda s: st.lists(s) | st.dictionaries(texts, s)
)
records = st.fixed_dictionaries(
    {},
    optional={
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "small": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(10**28) + 1, 10**28 - 1),
        "d": st.decimals(-(10**13), 10**13, allow_nan=False, places=4),
        "b": st.none() | st.booleans(),
        "t": st.none() | texts,
        "unknown": nested,
    },
)
BROKEN = [b"{", b"null", b"[]", b'{"i": "x"}', b'{"d": 0.00001}', b'{"t": "\xff"}', b'{"i": 1} {"i": 2}']


def dumped(record: dict[str, object]) -> bytes:
    plain = {name: value for name, value in record.items() if name != "d"}
    text = json.dumps(plain, ensure_ascii=False)
    if "d" not in record:
        return text.encode()
    number = f'"d": {record["d"]:f}'
    return (f"{{{number}}}" if not plain else f"{{{number}, {text[1:]}").encode()


@settings(deadline=None)
@given(
    st.lists(st.one_of(records, st.sampled_from(BROKEN), st.just(b"  ")), max_size=30),
    st.integers(1, 30),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_rows_and_rejects_are_exact_at_any_piece_size(
    given_lines: list[dict[str, object] | bytes], size: int, newline: bytes
) -> None:
    expected: list[dict[str, object] | int] = []
    lines = []
    for number, line in enumerate(given_lines, 1):
        lines.append((line if isinstance(line, bytes) else dumped(line)) + newline)
        if isinstance(line, dict):
            known = {k: v for k, v in line.items() if v is not None}
            expected.append(number if "unknown" in line else known)
        elif line.strip():
            expected.append(number)
    found: list[dict[str, object] | int] = []
    for start in range(0, len(lines), size):
        chunk = parse_block(b"".join(lines[start : start + size]), start + 1, FIELDS, "UTC", 0.0)
        assert chunk.count == len(chunk) + len(chunk.rejects)
        rows = iter(values(chunk))
        bad = {reject.ordinal: reject.line for reject in chunk.rejects}
        found += [bad[ordinal] if ordinal in bad else next(rows) for ordinal in range(chunk.count)]  # type: ignore[misc]
    assert found == expected


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.booleans(), texts, st.integers(), nested), max_size=8))
def test_nested_values_stay_the_same_json(items: list[object]) -> None:
    lines = "\n".join(json.dumps({"j": item}) for item in items)
    found = parse(lines, JSON).rows.column("j").to_pylist()
    assert [None if text is None else json.loads(text) for text in found] == items


def write(path: Path, content: bytes | str) -> JsonlSource:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return JsonlSource(str(path), Dialect())


def load(source: JsonlSource, fields: list[Field] = FIELDS) -> list[dict[str, object]]:
    return [row for piece in source.read() for row in values(source.parse(piece, fields))]


def test_schema_is_the_union_of_names_in_order_of_appearance(tmp_path: Path) -> None:
    first = '{"a": 1, "b": "x", "c": true}\nbroken\n'
    lines = first + '{"d": 1.50, "a": null, "e": {"x": 1}, "b": "y"}\n{"a": 70, "f": null}\n'
    source = write(tmp_path / "x.jsonl", lines)
    assert source.schema() == pa.schema(
        {
            "a": pa.int64(), "b": pa.string(), "c": pa.bool_(), "d": pa.decimal128(3, 2), "e": pa.json_(),
            "f": pa.string(),
        }
    )  # fmt: skip
    fields = [Field(column.name, Column(column.name, column.type)) for column in source.schema()]
    assert [row.get("a") for row in load(source, fields)] == [1, None, 70]


def test_declared_types_go_before_found_ones(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    source = JsonlSource(str(tmp_path / "x.jsonl"), Dialect(types={"a": pa.string()}))
    assert source.schema() == source.infer() == pa.schema({"a": pa.string()})


def test_infer_sees_names_and_digits_that_come_late(tmp_path: Path) -> None:
    early = '{"price": 1.25, "id": 1, "when": "2024-01-02T03:04:05Z", "zip": "00123"}\n' * 40_000
    source = write(
        tmp_path / "x.jsonl", early + '{"price": 12345.678901, "id": 18446744073709551615, "late": 1}\n'
    )
    assert source.schema().names == ["price", "id", "when", "zip"]
    found = source.infer()
    assert found.field("price").type == pa.decimal128(11, 6)
    assert found.field("id").type == pa.decimal128(20, 0)
    assert found.field("zip").type == pa.string()
    assert found.field("late").type == pa.int64()


@given(st.lists(numbers, min_size=1, max_size=20))
def test_every_number_fits_the_type_found_for_it(
    tmp_path_factory: pytest.TempPathFactory, found: list[object]
) -> None:
    path = tmp_path_factory.mktemp("numbers") / "x.jsonl"
    source = write(
        path, "".join(f'{{"n": {n:f}}}\n' if isinstance(n, Decimal) else f'{{"n": {n}}}\n' for n in found)
    )
    field = Field("n", Column("n", source.infer().field("n").type))
    assert [row["n"] for row in load(source, [field])] == found


def test_columns_of_mixed_values_are_text(tmp_path: Path) -> None:
    source = write(tmp_path / "x.jsonl", '{"a": 1, "b": 1}\n{"a": "x", "b": true}\n')
    assert source.infer() == pa.schema({"a": pa.string(), "b": pa.string()})


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match="no record"):
        write(tmp_path / "x.jsonl", content).schema()


def test_a_file_without_objects_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is it JSON Lines"):
        write(tmp_path / "x.jsonl", "a,b\n1,2\n").schema()


def test_only_utf8_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        JsonlSource("x.jsonl", Dialect(encoding="latin-1"))


def test_a_byte_order_mark_and_a_missing_last_newline_do_not_matter(tmp_path: Path) -> None:
    assert load(write(tmp_path / "x.jsonl", b'\xef\xbb\xbf{"i": 1}\n{"i": 2}')) == [{"i": 1}, {"i": 2}]


def test_rows_before_the_cut_of_a_truncated_gzip_file_load(tmp_path: Path) -> None:
    stored = gzip.compress(b"".join(b'{"i": %d}\n' % (number * 7919**3) for number in range(50_000)))
    source = write(tmp_path / "x.jsonl.gz", stored[: len(stored) // 2])
    pieces = source.read()
    found = values(source.parse(next(pieces), FIELDS))
    with pytest.raises(SourceError, match="broken off"):
        found += [row for piece in pieces for row in values(source.parse(piece, FIELDS))]
    assert found == [{"i": number * 7919**3} for number in range(len(found))]
    assert len(found) > 1000


def test_standard_input_is_described_by_its_beginning_and_loads_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"i": {number}}}\n' for number in range(200_000)))
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        source = JsonlSource(STDIN, Dialect())
        assert source.schema() == source.infer() == pa.schema({"i": pa.int64()})
        assert sum(source.parse(piece, FIELDS).count for piece in source.read()) == 200_000


def test_half_a_surrogate_pair_is_a_reject_and_no_matter_for_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a":"x"}\n{"a":"\\ud800"}\n{"\\ude00":1}\n{"a":"y"}\n')
    source = JsonlSource(str(path), Dialect())
    schema = source.infer()
    assert schema == pa.schema([("a", pa.string())])
    fields = [Field("a", Column("a", pa.string()))]
    [chunk] = [source.parse(piece, fields) for piece in source.read()]
    assert chunk.rows.to_pylist() == [{"a": "x"}, {"a": "y"}]
    assert [reject.ordinal for reject in chunk.rejects] == [1, 2]
