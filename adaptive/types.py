"""The type words of `--types`, of mappings and of messages, and the Arrow types they stand for."""

from __future__ import annotations

import re
from functools import cache

import pyarrow as pa
import pyarrow.types as pat

from adaptive.errors import UsageError

WORDS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint64": pa.decimal128(20, 0),  # no database here has an unsigned 64-bit integer
    "float32": pa.float32(),
    "float64": pa.float64(),
    "text": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "time": pa.time64("us"),
    "binary": pa.binary(),
    "uuid": pa.uuid(),  # an extension over 16 bytes: binary COPY takes it, Python sees uuid.UUID
    "json": pa.json_(),
}
MAX_PRECISION = 38  # digits of a decimal128

_DECIMAL = re.compile(r"decimal\(\s*(\d{1,3})\s*(?:,\s*(\d{1,3})\s*)?\)")
_COMMA = re.compile(r",(?![^(]*\))")  # not within parentheses


def parse_type(word: str) -> pa.DataType:
    """Return the Arrow type of a type word, such as `int64` or `decimal(18,4)`.

    Raises UsageError if there is no such word; its text lists them.
    """
    word = word.strip().lower()
    if match := _DECIMAL.fullmatch(word):
        precision, scale = int(match[1]), int(match[2] or 0)
        if 0 < precision <= MAX_PRECISION and scale <= precision:
            return pa.decimal128(precision, scale)
        raise UsageError(f"type {word!r}: a decimal has 1 to {MAX_PRECISION} digits, of them the scale")
    if word not in WORDS:
        raise UsageError(f"unknown type {word!r}; the types are {', '.join(WORDS)}, decimal(p,s)")
    return WORDS[word]


def parse_types(text: str) -> dict[str, pa.DataType]:
    """Return the types of columns from text such as `price=decimal(18,4),zip=text`.

    Raises UsageError for an unknown type, a column named twice, or a part that is not `column=type`.
    """
    types: dict[str, pa.DataType] = {}
    for part in filter(str.strip, _COMMA.split(text)):
        column, equals, word = part.rpartition("=")
        column = column.strip()
        if not equals or not column:
            raise UsageError(
                f"types: {part.strip()!r} is not column=type, as in price=decimal(18,4),zip=text"
            )
        if column in types:
            raise UsageError(f"types: column {column!r} is named twice")
        types[column] = parse_type(word)
    return types


@cache
def type_word(type_: pa.DataType) -> str:
    """Return the word for an Arrow type: the inverse of `parse_type`; Arrow's name if there is none."""
    if pat.is_decimal(type_):
        return f"decimal({type_.precision},{type_.scale})"
    if pat.is_large_string(type_) or pat.is_string_view(type_):
        return "text"
    if pat.is_large_binary(type_) or pat.is_binary_view(type_):
        return "binary"
    return next((word for word, known in WORDS.items() if known == type_), str(type_))


_ALIKE = (
    (pat.is_boolean, "bool"), (pat.is_timestamp, "timestamp"), (pat.is_time, "time"), (pat.is_date, "date"),
    (pat.is_fixed_size_binary, "binary"), (pat.is_null, "text"), (pat.is_unsigned_integer, "uint64"),
    (pat.is_integer, "int64"), (pat.is_float16, "float32"),
)  # fmt: skip


def reading_word(type_: pa.DataType) -> str:
    """Return the word whose values, read from text, are stored as those of an Arrow type are.

    A type without a word has that of a wider one: another unit, another zone, fewer bits. Arrow's own name
    if there is none, which `parse_type` refuses: nested types, decimals of more than 38 digits.
    """
    word = type_word(type_)
    if word in WORDS or pat.is_decimal128(type_):
        return word
    if pat.is_dictionary(type_):
        return reading_word(type_.value_type)
    if pat.is_timestamp(type_) and type_.tz:
        return "timestamptz"
    return next((alike for is_alike, alike in _ALIKE if is_alike(type_)), word)
