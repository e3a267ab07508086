"""Exact numbers from pyarrow.json, which checks a literal's digits before it scales them, not after.

So 123456789012345678 becomes a decimal(18,4) of 22 digits, and of those that overflow 128 or 256 bits
by scaling it notices only some (26.0.1). Hence no type here can overflow, and results are validated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from adaptive.rows import Field

DIGITS = 38  # of a decimal128: before the point of a wide number, and after it
ANY = pa.decimal256(DIGITS, DIGITS)  # to parse as: 38 digits times 10 ** 38 are within 256 bits
WIDE = pa.decimal256(2 * DIGITS, DIGITS)  # what such numbers are then
EXACT = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}  # width of a float: all integers below are floats

_TINY = re.compile(rb"[eE]-[0-9]{3}|0{300}")  # all there is that a double may read as 0


def is_exact(type_: pa.DataType) -> bool:
    """Say whether a type holds exact numbers."""
    return bool(pat.is_integer(type_) or pat.is_decimal(type_))


def parsed_type(type_: pa.DataType) -> pa.DataType:
    """Return the type to parse as, for numbers meant for an exact type."""
    if pat.is_decimal(type_) and type_.precision + type_.scale > DIGITS:
        return pa.decimal256(type_.precision, type_.scale)
    return type_


def check(batch: pa.RecordBatch, fields: Sequence[Field], block: bytes) -> None:
    """Raise ArrowInvalid if a number of a batch may not be what the block says."""
    types = _types(fields)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pat.is_decimal(column.type):
            column.validate(full=True)
        elif pat.is_floating(column.type) and not pc.all(_sure(column, types[name], block)).as_py():
            raise pa.ArrowInvalid("a number that a float may not hold")


def narrowed(
    batch: pa.RecordBatch, fields: Sequence[Field], block: bytes
) -> tuple[pa.RecordBatch, list[int]]:
    """Cast columns of type ANY to their fields' types: the rows whose numbers all fit, and their indices."""
    types = _types(fields)
    fits: pa.Array[Any] = pa.array([True] * len(batch), pa.bool_())
    for index, (name, column) in enumerate(zip(batch.schema.names, batch.columns, strict=True)):
        if column.type == ANY:
            wide = column.view(WIDE)
            narrow = pc.cast(wide, types[name], safe=False)
            fits = pc.and_(fits, pc.fill_null(_fits(wide, narrow), True))
            batch = batch.set_column(index, name, narrow)
        elif pat.is_floating(column.type):
            fits = pc.and_(fits, _sure(column, types[name], block))
    return batch.filter(fits), pc.indices_nonzero(fits).to_pylist()


def _types(fields: Sequence[Field]) -> dict[str, pa.DataType]:
    return {field.source: field.column.type for field in fields}


def _sure(column: pa.Array[Any], type_: pa.DataType, block: bytes) -> pa.Array[Any]:
    """Say which floats are surely neither a changed integer nor out of range; the cast judges the others."""
    size = pc.abs(column)
    sure = pc.less(size, EXACT[type_.bit_width])
    zero = pc.equal(size, 0.0)
    if pc.any(zero).as_py() and _TINY.search(block):
        sure = pc.and_(sure, pc.invert(zero))
    return pc.fill_null(sure, True)


def _fits(wide: pa.Array[Any], narrow: pa.Array[Any]) -> pa.Array[Any]:
    """Say per value whether an unchecked cast, which wraps and cuts, has left it as it was."""
    same = pc.equal(pc.cast(narrow, WIDE), wide)
    whole = narrow.type.precision - narrow.type.scale if pat.is_decimal(narrow.type) else DIGITS
    if whole >= DIGITS:
        return same
    limit = pa.scalar(Decimal(1).scaleb(whole), WIDE)  # the cast does not look at the precision
    return pc.and_(same, pc.less(pc.abs(wide), limit))
