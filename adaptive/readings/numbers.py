"""Readings of integers, decimals and floats."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import partial
from math import isinf

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from adaptive.readings.reading import Reading, not_a, out_of_range, shown
from adaptive.types import MAX_PRECISION, type_word

# Five digits of exponent are beyond every type; more would let a short text become a huge number.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?")
_FLOAT_WORD = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_ZERO_OR_WORD = r"^[+-]?(?:0+\.?0*|\.0+|(?i:nan|inf|infinity))$"
_EXACT_BITS = {16: 11, 32: 24, 64: 53}  # width of a float -> integers below 2**bits are all floats


def _number(type_: pa.DataType, text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise not_a(type_, text)
    return Decimal(text)


def integer(type_: pa.DataType) -> Reading:
    """Return the reading of an integer type."""
    signed, bits = pat.is_signed_integer(type_), type_.bit_width
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    first, rest = int(str(high)[0]), len(str(high)) - 1
    sure = rf"^{'-?' if signed else ''}(?:[0-9]{{1,{rest}}}|[0-{first - 1}][0-9]{{{rest}}})$"

    cast = partial(pc.cast, target_type=type_)

    def check_cast(text: pa.Array) -> pa.Array:
        if holds(text, b"xX"):
            raise ValueError("Arrow reads 0x10 as 16 and 0xffffffffffffffff as -1")
        return cast(text)

    def canonical(text: str) -> str:
        value = _number(type_, text)
        if value and value.adjusted() > rest:
            raise out_of_range(type_, text)
        if value != value.to_integral_value():
            raise not_a(type_, text)
        if not low <= value <= high:
            raise out_of_range(type_, text)
        return str(int(value)) if value else "0"  # int() of 0e99999 builds a number of that many digits

    return Reading(check_cast, sure, canonical, cast)


def holds(text: pa.Array, letters: bytes) -> bool:
    """Say whether any of some ASCII letters occurs; a thirtieth of the cost of `match_substring`."""
    if not len(text):
        return False
    _, offsets, content = text.buffers()
    ends = memoryview(offsets).cast("i")
    every = bytes(memoryview(content)[ends[text.offset] : ends[text.offset + len(text)]])
    return any(letter in every for letter in letters)


def decimal(type_: pa.DataType) -> Reading:
    """Return the reading of a decimal type: exact, or a reason; never rounded, never through a float."""
    after, before = type_.scale, type_.precision - type_.scale
    whole = rf"[0-9]{{1,{before}}}" if before else "0?"
    fraction = rf"\.[0-9]{{1,{after}}}" if after else ""
    sure = rf"^-?{whole}(?:{fraction})?$" if before else rf"^-?{whole}{fraction}$"

    cast = partial(pc.cast, target_type=type_)
    longest = MAX_PRECISION - after

    def check_cast(text: pa.Array) -> pa.Array:
        if (pc.max(pc.binary_length(text)).as_py() or 0) > longest or holds(text, b"eE"):
            raise ValueError("Arrow may overflow 128 bits unseen when it scales up to the type's scale")
        return cast(text)

    def canonical(text: str) -> str:
        sign, digits, exponent = _number(type_, text).as_tuple()
        every = "".join(map(str, digits))
        significant = every.rstrip("0")
        power = int(exponent) + len(every) - len(significant)
        if not significant:
            return "0"
        if power < -after:
            raise ValueError(f"{shown(text)} has more than {after} digits after the point")
        if len(significant) + power > before:
            raise ValueError(f"{shown(text)} has more than {before} digits before the point")
        return format(Decimal((sign, tuple(map(int, significant)), power)), "f")

    return Reading(check_cast, sure, canonical, cast)


def floating(type_: pa.DataType) -> Reading:
    """Return the reading of a float type: the nearest float, unless that would change an integer."""
    exact = 2 ** _EXACT_BITS[type_.bit_width]
    sure = rf"^-?[0-9]{{1,{len(str(exact)) - 1}}}(?:\.[0-9]{{1,30}})?$"

    cast = partial(pc.cast, target_type=type_)

    def check_cast(text: pa.Array) -> pa.Array:
        values = cast(text)
        size = pc.abs(values)
        plain = pc.and_(pc.less(size, float(exact)), pc.greater(size, 0.0))
        if pc.all(plain).as_py() is False:  # Arrow reads 1e400 as inf, 1e-400 as 0 and nan(1) as nan
            rest = text.filter(pc.invert(plain))
            for value in rest.filter(pc.invert(pc.match_substring_regex(rest, _ZERO_OR_WORD))).to_pylist():
                canonical(value)
        return values

    def canonical(text: str) -> str:
        if _FLOAT_WORD.fullmatch(text):
            return text
        wanted, value = _number(type_, text), pc.cast(pa.scalar(text), type_)
        if isinf(value.as_py()) or (wanted and not value.as_py()):
            raise out_of_range(type_, text)
        if text.lstrip("+-").isdigit() and Decimal(pc.cast(value, pa.string()).as_py()) != wanted:
            raise ValueError(f"{shown(text)} has more digits than a {type_word(type_)} holds")
        return text

    return Reading(check_cast, sure, canonical, cast)
