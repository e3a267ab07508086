from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.casts import cast_chunk
from adaptive.errors import UsageError
from adaptive.rows import Column, Field, Reject
from adaptive.typed_casts import as_read, cast_array
from adaptive.types import parse_type

ID = UUID("12345678-90ab-cdef-1234-567890abcdef")


def cast(
    values: Any, type_: str, source: pa.DataType | None = None, timezone: str = "UTC", **column: Any
) -> tuple[list[Any], dict[int, str]]:
    """Return good values and reasons by ordinal of a single column."""
    array = values if isinstance(values, pa.Array) else pa.array(values, source or pa.string())
    field = Field("from", Column("to", parse_type(type_), **column))
    chunk = cast_chunk(pa.RecordBatch.from_arrays([array], ["from"]), [field], timezone=timezone)
    assert chunk.rows.schema == pa.schema([pa.field("to", parse_type(type_))])
    assert len(chunk.rows) + len(chunk.rejects) == chunk.count == len(array)
    chunk.rows.validate(full=True)
    return chunk.rows.column(0).to_pylist(), {reject.ordinal: reject.reason for reject in chunk.rejects}


def good(values: Any, type_: str, source: pa.DataType | None = None, timezone: str = "UTC") -> list[Any]:
    found, reasons = cast(values, type_, source, timezone)
    assert not reasons
    return found


def reason(value: Any, type_: str, timezone: str = "UTC") -> str:
    array = value if isinstance(value, pa.Array) else pa.array([value], pa.string())
    found, reasons = cast(array, type_, timezone=timezone)
    assert not found
    return reasons[0]


# --- chunks


def test_a_bad_value_rejects_its_row_and_leaves_its_neighbours_alone() -> None:
    batch = pa.record_batch({"n": ["1", "x", "3"], "t": [" a", "b", ""]})
    fields = [Field("n", Column("N", pa.int32())), Field("t", Column("T", pa.string()))]
    chunk = cast_chunk(batch, fields, accepted=1.5)
    assert chunk.rows.to_pylist() == [{"N": 1, "T": " a"}, {"N": 3, "T": ""}]
    assert chunk.rejects == [Reject(1, "value", "'x' is not an int32", "N", {"N": "x", "T": "b"})]
    assert (chunk.first, chunk.count, chunk.accepted) == (0, 3, 1.5)
    assert chunk.nbytes == chunk.rows.nbytes > 0


def test_broken_records_keep_their_ordinals_among_the_others() -> None:
    broken = [Reject(0, "record", "first"), Reject(2, "record", "third")]
    chunk = cast_chunk(
        pa.record_batch({"n": ["1", "x", "3"]}), [Field("n", Column("n", pa.int32()))], broken=broken
    )
    assert chunk.count == 5
    assert [(reject.ordinal, reject.code) for reject in chunk.rejects] == [
        (0, "record"),
        (2, "record"),
        (3, "value"),
    ]
    assert [chunk.ordinal(index) for index in range(2)] == [1, 4]


def test_nothing_but_broken_records_is_a_chunk_without_rows() -> None:
    batch = pa.record_batch({"n": pa.array([], pa.string())})
    chunk = cast_chunk(batch, [Field("n", Column("n", pa.int32()))], broken=[Reject(0, "record", "bad")])
    assert (len(chunk), chunk.count, len(chunk.rejects)) == (0, 1, 1)


def test_the_first_failing_column_gives_the_reject() -> None:
    fields = [Field("a", Column("A", pa.int32())), Field("b", Column("B", pa.int32()))]
    (reject,) = cast_chunk(pa.record_batch({"b": ["y"], "a": ["x"]}), fields).rejects
    assert (reject.column, reject.values) == ("A", {"A": "x", "B": "y"})


@pytest.mark.parametrize("default", [False, True])
def test_null_is_rejected_where_the_column_takes_none(default: bool) -> None:
    assert cast(["1", None], "int32", nullable=False, default=default) == ([1], {1: "to takes no NULL"})


def test_text_longer_than_the_column_is_rejected_by_characters_not_bytes() -> None:
    assert cast(["ääää", "abcde", None], "text", max_length=4) == (
        ["ääää", None],
        {1: "5 characters, at most 4"},
    )


def test_long_values_are_shortened_in_the_reason() -> None:
    assert len(reason("9" * 1000, "int32")) < 100


def test_values_of_rejects_are_text_whatever_their_type() -> None:
    columns = {
        "n": pa.array([2**40]),
        "d": [Decimal("1.50")],
        "t": pa.array([10**18], pa.timestamp("ns", "UTC")),
        "b": [b"\xff\\x"],
        "l": [[1, None]],
    }
    fields = [Field(name, Column(name, pa.int16() if name == "n" else pa.string())) for name in columns]
    (reject,) = cast_chunk(pa.record_batch(columns), fields).rejects
    assert json.loads(json.dumps(reject.values)) == reject.values
    assert reject.values["n"] == str(2**40)
    assert reject.values["b"] == "\\xff5c78"
    assert reject.values["l"] == "[1, null]"


# --- text


def test_text_passes_untouched() -> None:
    assert good(["", None, " a ", "\\x"], "text") == ["", None, " a ", "\\x"]


@pytest.mark.parametrize("text", ["5", "+5", " 5\t", "005", "5.0", "5.", "5e0", "0.5e1", "500e-2"])
def test_integers_accept_every_writing_of_a_whole_number(text: str) -> None:
    assert good([text, "7"], "int32") == [5, 7]


@pytest.mark.parametrize(
    "text", ["", " ", "x", "0x10", "0X1f", "1_000", "٣", "5.5", "--5", "1e-1", "1e999999999"]
)
def test_what_is_no_integer_is_rejected(text: str) -> None:
    assert cast([text, "7"], "int64")[0] == [7]
    assert "is not an int64" in reason(text, "int64")


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_integers_reach_the_ends_of_their_range_and_no_further(bits: int) -> None:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    found, reasons = cast([str(low), str(high), str(low - 1), str(high + 1), "1e40", "0e40"], f"int{bits}")
    assert found == [low, high, 0]
    assert all("out of range" in text for text in reasons.values())


@pytest.mark.parametrize(
    "text", ["1.5", "+1.5", " 1.5 ", "1.5000000", "15e-1", "0.15E1", "001.5", "1.5" + "0" * 50]
)
def test_decimals_accept_every_exact_writing(text: str) -> None:
    assert good([text], "decimal(18,4)") == [Decimal("1.5")]


def test_decimals_are_never_rounded() -> None:
    assert reason("1.23456", "decimal(18,4)") == "'1.23456' has more than 4 digits after the point"
    assert (
        reason("123456789012345", "decimal(18,4)")
        == "'123456789012345' has more than 14 digits before the point"
    )
    assert good(["1" * 34 + ".1111"], "decimal(38,4)") == [Decimal("1" * 34 + ".1111")]
    assert good(["0." + "1" * 38, ".0"], "decimal(38,38)") == [Decimal("0." + "1" * 38), 0]


@pytest.mark.parametrize("text", ["40000000000000000000E9", "4" + "0" * 28])
def test_decimals_that_arrow_overflows_unseen_are_read_rightly(text: str) -> None:
    assert good([text], "decimal(38,9)") == [Decimal(text)]
    assert "more than 8 digits before the point" in reason("1290379099957729009", "decimal(38,30)")


@pytest.mark.parametrize("text", ["1E-902", "0.0000001"])
def test_small_decimals_do_not_vanish(text: str) -> None:
    assert "more than 5 digits after the point" in reason(text, "decimal(5,5)")


@pytest.mark.parametrize("text", ["nan", "inf", "1,5", "", ".", "1e", "0x1"])
def test_what_is_no_decimal_is_rejected(text: str) -> None:
    assert "is not a decimal(18,4)" in reason(text, "decimal(18,4)")


def test_floats_accept_special_values_but_no_overflow() -> None:
    found = good(["nan", "-inf", "Infinity", "0", "-0.0", "1e300", "0.1", " 5 "], "float64")
    assert math.isnan(found[0])
    assert found[1:] == [-math.inf, math.inf, 0.0, 0.0, 1e300, 0.1, 5.0]


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1e-400"])
def test_floats_out_of_range_are_rejected(text: str) -> None:
    assert "out of range" in reason(text, "float64")


def test_an_integer_that_a_float_would_change_is_rejected() -> None:
    assert "more digits than a float64" in reason("9007199254740993", "float64")
    assert "more digits than a float32" in reason("16777217", "float32")
    assert good(["9007199254740992", "1" + "0" * 23], "float64") == [2.0**53, 1e23]


@pytest.mark.parametrize("text", ["nan(1)", "0x1p3", "1_0", ""])
def test_what_is_no_float_is_rejected(text: str) -> None:
    assert "is not a float64" in reason(text, "float64")


def test_bool_accepts_the_words_of_postgresql_in_any_case() -> None:
    assert good(["TRUE", "t", "Yes", "y", "on", "1", " true "], "bool") == [True] * 7
    assert good(["False", "F", "no", "N", "OFF", "0", None], "bool") == [False] * 6 + [None]
    assert reason("2", "bool") == "'2' is not a bool"


def test_dates_are_iso_and_exist() -> None:
    assert good(["2024-02-29", " 2024-01-02", "2024-01-02T00:00:00"], "date") == [
        date(2024, 2, 29),
        date(2024, 1, 2),
        date(2024, 1, 2),
    ]
    for text in (
        "2023-02-29",
        "2024-1-2",
        "20240102",
        "0000-01-01",
        "2024-01-02T00:00:01",
        "2024-01-02T00:00Z",
    ):
        assert "is not a date" in reason(text, "date")


MOMENT = datetime(2024, 1, 2, 3, 4, 5, 123456)


@pytest.mark.parametrize(
    "text", ["2024-01-02T03:04:05.123456", "2024-01-02 03:04:05.123456000", "2024-01-02t03:04:05.123456"]
)
@pytest.mark.parametrize("offset", ["", "Z", "+00:00", "+0000", "+00", " +00:00", "-00:00"])
def test_timestamps_without_zone_accept_an_offset_of_zero(text: str, offset: str) -> None:
    assert good([text + offset, "2024-01-02"], "timestamp") == [MOMENT, datetime(2024, 1, 2)]


def test_timestamps_without_zone_never_drop_an_offset() -> None:
    assert "has an offset" in reason("2024-01-02T03:04:05+01:00", "timestamp")
    assert cast(["2024-01-02T03:04:05+01:00", "2024-01-02T00:00:00Z"], "timestamp")[0] == [
        datetime(2024, 1, 2)
    ]


@pytest.mark.parametrize("text", ["2024-01-02T03:04:05.1234567", "2024-01-02 03:04:05.0000001Z"])
def test_timestamps_are_never_cut(text: str) -> None:
    assert "more than 6 digits" in reason(text, "timestamptz")


@pytest.mark.parametrize("offset", ["+05:30", "+0530"])
def test_timestamps_with_zone_apply_the_offset(offset: str) -> None:
    mixed = [
        f"2024-01-02T08:34:05{offset}",
        "2024-01-02 03:04:05",
        "2024-01-02T03:04:05Z",
        "2024-01-02T04:04:05+01",
    ]
    assert good(mixed, "timestamptz") == [datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)] * 4


def test_timestamps_without_offset_are_in_the_given_zone() -> None:
    for texts in (
        ["2024-07-01T12:00"] * 2,
        ["2024-07-01T12:00", "2024-07-01T10:00Z"],
        ["2024-07-01 12:00", " 2024-07-01 12:00 "],
    ):
        assert (
            good(texts, "timestamptz", timezone="Europe/Berlin") == [datetime(2024, 7, 1, 10, tzinfo=UTC)] * 2
        )


@pytest.mark.parametrize("text", ["2024-03-31T02:30:00", "2024-10-27T02:30:00"])
def test_local_times_that_happen_twice_or_never_are_rejected(text: str) -> None:
    assert "happens twice or never in Europe/Berlin" in reason(text, "timestamptz", timezone="Europe/Berlin")


def test_timestamps_outside_the_calendar_are_rejected() -> None:
    assert "out of range" in reason("9999-12-31T23:59:59-05:00", "timestamptz")
    assert "out of range" in reason("0001-01-01T00:00:00+05:00", "timestamptz")
    assert "is not a timestamp" in reason("0000-01-01T00:00:00", "timestamp")


@pytest.mark.parametrize(
    "text", ["2024-01-02T24:00:00", "2024-01-02T23:59:60", "2024-01-02T03:04+24:00", "now", ""]
)
def test_what_is_no_timestamp_is_rejected(text: str) -> None:
    assert "is not a timestamptz" in reason(text, "timestamptz")


def test_an_unknown_time_zone_is_the_users_mistake_not_the_datas() -> None:
    with pytest.raises(UsageError, match="unknown time zone 'Europe/Berln'"):
        cast(["2024-01-02"], "timestamptz", timezone="Europe/Berln")


def test_times_of_day() -> None:
    assert good(["03:04", "23:59:59.5", " 03:04:05.1234560"], "time") == [
        time(3, 4),
        time(23, 59, 59, 500000),
        time(3, 4, 5, 123456),
    ]
    for text in ("24:00", "3:04", "03:04:60", "03:04Z"):
        assert "is not a time" in reason(text, "time")


def test_binary_is_hexadecimal_after_backslash_x_and_utf8_otherwise() -> None:
    assert good(["\\x00fF", "ä ", "\\y", "\\", "", None], "binary") == [
        b"\x00\xff",
        b"\xc3\xa4 ",
        b"\\y",
        b"\\",
        b"",
        None,
    ]
    assert cast(["\\xzz", " a "], "binary") == ([b" a "], {0: "'\\\\xzz' is not hexadecimal after the \\x"})


def test_uuids_with_or_without_hyphens_and_braces() -> None:
    assert good([str(ID), None], "uuid") == [ID, None]
    assert good([ID.hex, f"{{{ID}}}", str(ID).upper(), f" {ID} "], "uuid") == [ID] * 4
    for text in (f"{{{ID}", f"urn:uuid:{ID}", "1234", ""):
        assert "is not a uuid" in reason(text, "uuid")


def test_json_is_checked_and_kept_as_it_is() -> None:
    assert good(['{"a": 1.50} ', "null", None], "json") == ['{"a": 1.50} ', "null", None]
    assert "is not JSON" in reason("{", "json")
    assert "is not JSON" in reason("NaN", "json")


@pytest.mark.parametrize(
    "type_", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_layout_of_text_is_text(type_: pa.DataType | None) -> None:
    array = pa.array(["5", None, "x"]).cast(type_)
    assert cast(array, "int32") == ([5, None], {2: "'x' is not an int32"})
    assert good(array, "text") == ["5", None, "x"]


def test_slices_of_a_larger_array_are_cast_alone() -> None:
    array = pa.array(["0x10", "5", None, "6", "x"]).slice(1, 3)
    assert good(array, "int32") == [5, None, 6]
    assert good(pa.array(["x", str(ID), None]).slice(1, 2), "uuid") == [ID, None]


# --- typed columns


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (5, pa.int64(), "int16", 5),
        (5.0, pa.float64(), "int32", 5),
        (1e17, pa.float64(), "int64", 10**17),
        (5, pa.int64(), "decimal(18,4)", Decimal(5)),
        (5, pa.uint64(), "uint64", 5),
        (0.1, pa.float64(), "decimal(18,4)", Decimal("0.1")),
        (Decimal("5.00"), None, "int32", 5),
        (Decimal("1.500"), None, "decimal(5,1)", Decimal("1.5")),
        (Decimal("1.5"), pa.decimal256(60, 4), "decimal(18,4)", Decimal("1.5")),
        (Decimal("1.5"), None, "float64", 1.5),
        (5, pa.int32(), "float64", 5.0),
        (1, pa.int8(), "bool", True),
        (True, pa.bool_(), "int32", 1),
        (date(2024, 1, 2), pa.date64(), "date", date(2024, 1, 2)),
        (date(2024, 1, 2), pa.date32(), "timestamp", datetime(2024, 1, 2)),
        (MOMENT.replace(microsecond=0), pa.timestamp("s"), "timestamp", MOMENT.replace(microsecond=0)),
        (MOMENT, pa.timestamp("ns"), "timestamp", MOMENT),
        (datetime(2024, 1, 2), pa.timestamp("ms"), "date", date(2024, 1, 2)),
        (MOMENT, pa.timestamp("us", "UTC"), "timestamp", MOMENT),
        (MOMENT, pa.timestamp("ms", "UTC"), "timestamptz", MOMENT.replace(microsecond=123000, tzinfo=UTC)),
        (time(3, 4), pa.time32("s"), "time", time(3, 4)),
        (b"ab", pa.large_binary(), "binary", b"ab"),
        (b"\xc3\xa4", pa.binary(), "text", "ä"),
        (ID.bytes, pa.binary(16), "uuid", ID),
        (None, pa.null(), "uuid", None),
        (None, pa.null(), "json", None),
        (1.0, pa.float64(), "float32", 1.0),
        (5, pa.int32(), "json", "5"),
    ],
)
def test_typed_values_that_fit_are_cast(
    value: object, source: pa.DataType | None, target: str, expected: object
) -> None:
    if source == pa.timestamp("ms", "UTC"):
        value = value.replace(microsecond=123000)
    assert good([value], target, source or pa.array([value]).type) == [expected]


@pytest.mark.parametrize(
    ("value", "source", "target"),
    [
        (70000, pa.int64(), "int16"),
        (2**64 - 1, pa.uint64(), "int64"),
        (1.5, pa.float64(), "int64"),
        (2.0**63, pa.float64(), "int64"),
        (math.nan, pa.float64(), "int64"),
        (1.23456, pa.float64(), "decimal(18,4)"),
        (math.nan, pa.float64(), "decimal(18,4)"),
        (Decimal("1.5"), None, "int32"),
        (Decimal("1.55"), None, "decimal(5,1)"),
        (Decimal("1e40"), pa.decimal256(60, 0), "decimal(38,0)"),
        (2**53 + 1, pa.int64(), "float64"),
        (0.123456789012, pa.float64(), "float32"),
        (1e300, pa.float64(), "float32"),
        (2, pa.int64(), "bool"),
        (MOMENT, pa.timestamp("us"), "date"),
        (MOMENT, pa.timestamp("us"), "time"),
        (MOMENT, pa.timestamp("us", "Europe/Berlin"), "timestamp"),
        (b"\xff", pa.binary(), "text"),
        ([1], pa.list_(pa.int8()), "int64"),
        (5, pa.int64(), "date"),
        (5, pa.int64(), "timestamp"),
    ],
)
def test_typed_values_that_would_lose_something_are_rejected_and_their_neighbours_kept(
    value: object, source: pa.DataType | None, target: str
) -> None:
    source = source or pa.array([value]).type
    found, reasons = cast(pa.array([None, value, None], source), target)
    assert found == [None, None]
    assert list(reasons) == [1]


def test_a_good_typed_value_is_the_same_next_to_a_bad_one() -> None:
    assert cast([1.0, 1.5, 1e17, -0.0], "int64", pa.float64())[0] == [1, 10**17, 0]
    assert cast([0.1, 0.123456789012, math.nan], "float32", pa.float64())[0][0] == pytest.approx(0.1)
    assert cast([Decimal("5.00"), Decimal("5.01")], "int32", pa.decimal128(9, 2))[0] == [5]


def test_nanoseconds_with_a_remainder_are_rejected() -> None:
    array = pa.array([1_000, 1_001, None], pa.timestamp("ns"))
    found, reasons = cast(array, "timestamp")
    assert found == [datetime(1970, 1, 1, 0, 0, 0, 1), None]
    assert "more than 6 digits" in reasons[1]


def test_timestamps_without_zone_take_the_given_one() -> None:
    array = pa.array([datetime(2024, 7, 1, 12)], pa.timestamp("ms"))
    assert good(array, "timestamptz", timezone="Europe/Berlin") == [datetime(2024, 7, 1, 10, tzinfo=UTC)]
    ambiguous = pa.array([datetime(2024, 10, 27, 2, 30)], pa.timestamp("ms"))
    assert "twice or never" in reason(ambiguous, "timestamptz", timezone="Europe/Berlin")


def test_typed_timestamps_outside_the_calendar_are_rejected() -> None:
    array = pa.array([400_000_000_000_000_000], pa.timestamp("us", "UTC"))
    assert cast(array, "timestamptz")[0] == []
    assert cast(pa.array([10_000_000], pa.date32()), "date")[0] == []


@pytest.mark.parametrize(
    ("value", "type_", "text"),
    [
        (5, pa.int64(), "5"),
        (0.1, pa.float64(), "0.1"),
        (True, pa.bool_(), "true"),
        (Decimal("0E-11"), pa.decimal128(20, 11), "0.00000000000"),
        (date(2024, 1, 2), pa.date32(), "2024-01-02"),
        (MOMENT, pa.timestamp("us"), "2024-01-02 03:04:05.123456"),
        (datetime(1800, 1, 1, tzinfo=UTC), pa.timestamp("s", "Europe/Berlin"), "1800-01-01 00:00:00Z"),
        (time(3, 4, 5), pa.time32("s"), "03:04:05"),
        ([1, None], pa.list_(pa.int8()), "[1, null]"),
        ({"a": "ä", "d": Decimal("1.50")}, None, '{"a": "ä", "d": "1.50"}'),
        (ID.bytes, pa.uuid(), str(ID)),
    ],
)
def test_typed_values_become_text_without_loss(value: object, type_: pa.DataType | None, text: str) -> None:
    assert good([value], "text", type_ or pa.array([value]).type) == [text]


def test_nan_inside_a_list_is_rejected_since_json_has_none() -> None:
    found, reasons = cast(pa.array([[math.nan], [1.5]]), "json")
    assert found == ["[1.5]"]
    assert "no text shows this value" in reasons[0]


# --- properties

WIDE = Context(prec=100)
WORDS = [
    "int16",
    "int32",
    "int64",
    "decimal(9,2)",
    "decimal(38,10)",
    "decimal(5,5)",
    "float64",
    "bool",
    "date",
    "timestamp",
    "timestamptz",
    "time",
    "uuid",
    "binary",
    "json",
]
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30).map(str),
    st.floats().map(repr),
    st.from_regex(
        r"[+-]?[0-9]{0,40}\.?[0-9]{0,40}([eE][+-]?[0-9]{1,3})?", fullmatch=True, alphabet="+-.0123456789eE"
    ),
)
MOMENTS = st.builds(
    lambda moment, form, offset, cut: (moment.isoformat("T") + form + offset)[cut:],
    st.datetimes(),
    st.sampled_from(["", "0", "000", "5"]),
    st.sampled_from(["", "Z", "+00:00", "+01:00", "-0530", "+14", " Z"]),
    st.sampled_from([0, 0, 0, 0, 11]),
)
TEXTS = st.one_of(
    st.none(),
    NUMBERS,
    MOMENTS,
    st.dates().map(str),
    st.times().map(str),
    st.uuids().map(str),
    st.text(max_size=12),
    st.sampled_from(["", " 5 ", "true", "F", "0x10", "\\xff", "\\xf", "nan", "1e400", "[1]", "0000-01-01"]),
)


@pytest.mark.parametrize("word", WORDS)
@settings(max_examples=30, deadline=None)  # each value is cast twice, for 15 types
@given(texts=st.lists(TEXTS, max_size=12))
def test_a_value_gets_the_same_verdict_alone_and_among_others(word: str, texts: list[str | None]) -> None:
    found, reasons = cast(texts, word)
    alone = [cast([text], word) for text in texts]
    assert repr(found) == repr([value for values, _ in alone for value in values])
    assert reasons == {index: why[0] for index, (_, why) in enumerate(alone) if why}


@given(st.lists(NUMBERS, max_size=20))
def test_numbers_equal_the_python_reading_of_their_text(texts: list[str | None]) -> None:
    for word in ("int64", "decimal(38,10)"):
        found, reasons = cast(texts, word)
        kept = [Decimal(text) for index, text in enumerate(texts) if index not in reasons]
        assert found == kept
    found, reasons = cast(texts, "float64")
    assert repr(found) == repr([float(text) for index, text in enumerate(texts) if index not in reasons])


@given(st.lists(st.decimals(-(10**13), 10**13, places=4).map(str), min_size=1))
def test_every_decimal_that_fits_is_taken(texts: list[str | None]) -> None:
    assert good(texts, "decimal(18,4)") == [Decimal(text) for text in texts]


@given(st.data(), st.integers(1, 38), st.integers(1, 38))
def test_decimals_change_their_scale_exactly_or_not_at_all(
    data: st.DataObject, wide: int, narrow: int
) -> None:
    scale, less = data.draw(st.integers(0, wide)), data.draw(st.integers(0, narrow))
    value = Decimal(data.draw(st.integers(-(10**wide) + 1, 10**wide - 1))).scaleb(-scale, WIDE)
    found, _ = cast([value], f"decimal({narrow},{less})", pa.decimal128(wide, scale))
    digits = value.scaleb(less, WIDE)
    fits = digits == digits.to_integral_value() and abs(digits) < 10**narrow
    assert found == ([value] if fits else [])


@given(st.lists(st.integers(-(2**63), 2**63 - 1).map(str), min_size=1))
def test_every_integer_that_fits_is_taken(texts: list[str | None]) -> None:
    assert good(texts, "int64") == [int(text) for text in texts]


@given(
    st.lists(
        st.builds(
            lambda moment, offset: moment.isoformat() + offset,
            st.datetimes(),
            st.sampled_from(["", "Z", "+01:00", "-05:30"]),
        )
    )
)
def test_timestamps_equal_the_python_reading_of_their_text(texts: list[str | None]) -> None:
    found, reasons = cast(texts, "timestamptz")
    read = [datetime.fromisoformat(text) for index, text in enumerate(texts) if index not in reasons]
    assert found == [moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in read]
    assert all("out of range" in why for why in reasons.values())


@given(st.lists(TEXTS.filter(lambda text: text is not None), max_size=20))
def test_nothing_python_reads_as_an_integer_in_range_is_rejected(texts: list[str | None]) -> None:
    _, reasons = cast(texts, "int64")
    for index in reasons:
        try:
            value = Decimal(texts[index]) if re.fullmatch(r"[-+.0-9eE]+", texts[index]) else None
        except InvalidOperation:
            value = None
        assert value is None or value != value.to_integral_value() or not -(2**63) <= value < 2**63


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
@pytest.mark.parametrize("target", [pa.string(), pa.timestamp("us", "UTC"), pa.date32()], ids=str)
def test_a_moment_too_far_away_is_no_other_moment(zone: str | None, target: pa.DataType) -> None:
    """Arrow writes it, with a zone, as 6651-05-14 22:52:20.364715Z."""
    array = pa.array([8420195285540364715], pa.int64()).view(pa.timestamp("us", zone))
    values, reasons = cast_array(array, target, "UTC")
    assert values.to_pylist() == [None]
    assert reasons == {0: "value out of range: 8420195285540364715"}
    assert as_read(array) == ["value out of range: 8420195285540364715"]
