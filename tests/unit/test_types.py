from __future__ import annotations

import pyarrow as pa
import pytest

from adaptive.errors import UsageError
from adaptive.types import WORDS, parse_type, parse_types, type_word


@pytest.mark.parametrize(
    "word", [word for word in WORDS if word != "uint64"] + ["decimal(18,4)", "decimal(38,38)"]
)
def test_type_word_is_the_inverse_of_parse_type(word: str) -> None:
    assert type_word(parse_type(word)) == word


def test_uint64_is_a_decimal_of_twenty_digits() -> None:
    assert parse_type("uint64") == pa.decimal128(20, 0)


def test_blanks_case_and_a_missing_scale_do_not_matter() -> None:
    assert parse_type(" Decimal( 9 ) ") == pa.decimal128(9, 0)
    assert parse_type("INT64") == pa.int64()


@pytest.mark.parametrize(
    "word", ["decimal(0,0)", "decimal(39,0)", "decimal(4,5)", "decimal", "number", "", "int8"]
)
def test_an_unknown_type_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        parse_type(word)


def test_the_error_lists_the_words() -> None:
    with pytest.raises(UsageError, match=r"unknown type 'number'.*int64.*timestamptz.*decimal\(p,s\)"):
        parse_type("number")


def test_commas_inside_parentheses_do_not_separate_columns() -> None:
    assert parse_types("price=decimal(18,4), zip = text,") == {
        "price": pa.decimal128(18, 4),
        "zip": pa.string(),
    }


def test_a_column_name_may_hold_an_equals_sign() -> None:
    assert parse_types("a=b=int64") == {"a=b": pa.int64()}


def test_no_text_is_no_types() -> None:
    assert parse_types("") == {}


@pytest.mark.parametrize("text", ["price", "=int64", "a=int64,a=text"])
def test_a_malformed_list_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_types(text)


@pytest.mark.parametrize(
    ("type_", "word"),
    [
        (pa.large_string(), "text"),
        (pa.string_view(), "text"),
        (pa.large_binary(), "binary"),
        (pa.decimal256(50, 2), "decimal(50,2)"),
        (pa.list_(pa.int8()), "list<item: int8>"),
        (pa.timestamp("ns"), "timestamp[ns]"),
    ],
)
def test_every_arrow_type_has_a_word_for_messages(type_: pa.DataType, word: str) -> None:
    assert type_word(type_) == word
