"""Casts of Arrow columns of any type to a target's type, without loss.

Where Arrow's safe cast is exact it is the fast path. Everything else goes through text, the one
place where values are judged: Arrow's own casts round float to decimal, cut the time off a
timestamp, turn 2 into true and 1e300 into an infinite float32, all of it silently.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from adaptive.readings.times import in_zone, within_calendar
from adaptive.text_casts import Verdicts, cast_text
from adaptive.types import MAX_PRECISION, type_word

_UTC_NAMES = ("UTC", "Etc/UTC", "Z", "+00:00")


def cast_array(array: pa.Array, type_: pa.DataType, timezone: str) -> Verdicts:
    """Return an array cast to a type, NULL where a value does not fit, and the reasons by index.

    Raises UsageError if nothing is known about the type or the time zone.
    """
    array = plain(array)
    if pat.is_null(array.type):
        return pa.nulls(len(array), type_), {}
    if pat.is_string(array.type):
        return cast_text(array, type_, timezone)
    try:
        if (values := _exact(array, type_, timezone)) is not None:
            return values, {}
    except ValueError:  # some value does not fit; its text says which and why
        pass
    if pat.is_timestamp(array.type) and array.type.tz and pat.is_timestamp(type_) and not type_.tz:
        return _all_bad(array, type_, f"is in {array.type.tz}, which a column without time zone would lose")
    text, unreadable = as_text(array)
    values, reasons = cast_text(text, type_, timezone)
    if pat.is_float64(array.type) and pat.is_float32(type_):
        values, reasons = _without_rounded(text, values, reasons)
    return values, reasons | unreadable


def as_text(array: pa.Array) -> Verdicts:
    """Return an array as strings that say all of each value, and reasons where there is no such text.

    Dates and times are ISO 8601, with zone in UTC; binary is UTF-8; lists, structs and maps are JSON.
    """
    array = plain(array)
    if pat.is_timestamp(array.type) or pat.is_date(array.type):
        return _moments(array)
    try:
        if not (pat.is_nested(array.type) or pat.is_duration(array.type) or array.type == pa.uuid()):
            text = pc.cast(array, pa.string())
            return (_without_exponents(array, text) if pat.is_decimal(array.type) else text), {}
    except ValueError:  # bytes that are not UTF-8
        pass
    return _one_by_one(array)


def _moments(array: pa.Array) -> Verdicts:
    """Return dates or timestamps as text, those with a zone in UTC.

    Without a zone for Arrow: with one it writes moments that are too far away with another year, and local
    text would lose the seconds of old offsets.
    """
    zone = "Z" if pat.is_timestamp(array.type) and array.type.tz else ""
    text = pc.cast(array.view(pa.timestamp(array.type.unit)) if zone else array, pa.string())
    far = pc.fill_null(pc.starts_with(text, "<value out of range"), False)
    reasons = {index: text[index].as_py().strip("<>") for index in pc.indices_nonzero(far).to_pylist()}
    if zone:
        text = pc.binary_join_element_wise(text, zone, "")
    return (pc.if_else(far, pa.scalar(None, pa.string()), text) if reasons else text), reasons


def as_read(array: pa.Array) -> list[str | None]:
    """Return each value as text for a reject, whatever it is; binary as hexadecimal digits.

    What cast_text reads back comes out the same; NaN inside a list is shown in Arrow's way.
    """
    array = plain(array)
    if pat.is_binary(array.type) or pat.is_fixed_size_binary(array.type):
        return [None if value is None else f"\\x{value.hex()}" for value in array.to_pylist()]
    text, unreadable = as_text(array)
    texts: list[str | None] = text.to_pylist()
    for index, reason in unreadable.items():
        is_moment = pat.is_timestamp(array.type) or pat.is_date(array.type)
        shown = reason if is_moment else array[index : index + 1].to_string()
        texts[index] = " ".join(shown.split())
    return texts


def plain(array: pa.Array) -> pa.Array:
    """Return values in the simplest layout: decoded, no views, no 64-bit offsets."""
    if pat.is_dictionary(array.type):
        return plain(array.dictionary_decode())
    if pat.is_run_end_encoded(array.type):
        return plain(pc.run_end_decode(array))
    if (
        pat.is_large_string(array.type)
        or pat.is_string_view(array.type)
        or isinstance(array.type, pa.JsonType)
    ):
        return pc.cast(array, pa.string())
    if pat.is_large_binary(array.type) or pat.is_binary_view(array.type):
        return pc.cast(array, pa.binary())
    return array


def _exact(array: pa.Array, type_: pa.DataType, timezone: str) -> pa.Array | None:
    """Return the array cast by Arrow where that loses nothing, None where Arrow cannot be trusted.

    Raises ValueError if a value does not fit.
    """
    source = array.type
    if pat.is_timestamp(source) and pat.is_timestamp(type_):
        if type_.tz and not source.tz:
            array = in_zone(array, timezone)
        elif source.tz and not type_.tz and source.tz not in _UTC_NAMES:
            return None
        return within_calendar(pc.cast(array, type_))
    if pat.is_date(source) and (pat.is_date(type_) or (pat.is_timestamp(type_) and not type_.tz)):
        return within_calendar(pc.cast(array, type_))
    if source == type_ or _safe(source, type_):
        return pc.cast(array, type_)
    return None


def _safe(source: pa.DataType, target: pa.DataType) -> bool:
    """Say whether Arrow's safe cast between two types keeps or refuses each value."""
    if pat.is_integer(target):
        return bool(
            pat.is_integer(source)
            or pat.is_floating(source)
            or pat.is_decimal(source)
            or pat.is_boolean(source)
        )
    if pat.is_floating(target):
        return bool(pat.is_floating(source) and source.bit_width <= target.bit_width)
    if pat.is_decimal(target) and pat.is_decimal(source):  # else it may overflow unseen when it scales up
        return bool(source.precision - source.scale + target.scale <= MAX_PRECISION)
    return bool(
        (pat.is_time(target) and pat.is_time(source))
        or (pat.is_binary(target) and (pat.is_fixed_size_binary(source) or source == pa.uuid()))
        or (target == pa.uuid() and source == pa.binary(16))
    )


def _all_bad(array: pa.Array, type_: pa.DataType, reason: str) -> Verdicts:
    indices = pc.indices_nonzero(pc.is_valid(array)).to_pylist()
    return pa.nulls(len(array), type_), dict.fromkeys(indices, f"the timestamp {reason}")


def _without_rounded(text: pa.Array, values: pa.Array, reasons: dict[int, str]) -> Verdicts:
    """Return float32 values as they are where they still show all digits of the float64's text."""
    rounded = pc.fill_null(pc.not_equal(pc.cast(values, pa.string()), text), False)
    for index in pc.indices_nonzero(rounded).to_pylist():
        reasons[index] = f"{text[index]} has more digits than a {type_word(values.type)} holds"
    return pc.if_else(rounded, pa.scalar(None, values.type), values), reasons


def _without_exponents(array: pa.Array, text: pa.Array) -> pa.Array:
    """Return the text of decimals without exponents; Arrow writes small ones as 1E-11."""
    scientific = pc.fill_null(pc.match_substring(text, "E"), False)
    if not pc.any(scientific).as_py():
        return text
    texts = [format(value, "f") for value in array.filter(scientific).to_pylist()]
    return pc.replace_with_mask(text, scientific, pa.array(texts, pa.string()))


def _one_by_one(array: pa.Array) -> Verdicts:
    texts: list[str | None] = []
    reasons: dict[int, str] = {}
    for index, scalar in enumerate(array):
        try:
            texts.append(_text_of(scalar.as_py()))
        except (ValueError, TypeError, OverflowError) as error:
            texts.append(None)
            reasons[index] = f"no text shows this value: {error}"
    return pa.array(texts, pa.string()), reasons


def _text_of(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_inside_json)
    return str(value)


def _inside_json(value: object) -> str:
    """Return what JSON has no form for as text; a decimal too, since most readers make it a float."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value)
