"""Casts of record batches to the target's column types, with a verdict per row."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from adaptive.rows import Chunk, Field, Reject
from adaptive.types import type_word


def cast_chunk(
    batch: pa.RecordBatch,
    fields: Sequence[Field],
    *,
    broken: Sequence[Reject] = (),
    timezone: str = "UTC",
    accepted: float = 0.0,
) -> Chunk:
    """Return the records of a piece, cast to the fields' column types."""
    count = batch.num_rows + len(broken)
    bad = {reject.ordinal: reject for reject in broken}
    ordinals = [ordinal for ordinal in range(count) if ordinal not in bad]
    columns = []
    for field in fields:
        source, type_ = batch.column(field.source), field.column.type
        try:
            column = source if source.type == type_ else pc.cast(source, type_)
        except pa.ArrowInvalid:
            column = pa.array(
                [_value(source[index], type_, ordinals[index], field, bad) for index in range(len(source))],
                type_,
            )
        columns.append(column)
    schema = pa.schema([pa.field(field.column.name, field.column.type) for field in fields])
    rows = pa.RecordBatch.from_arrays(columns, schema=schema)
    if bad:
        rows = rows.filter(pa.array([ordinal not in bad for ordinal in ordinals], pa.bool_()))
    rejects = [bad[ordinal] for ordinal in sorted(bad)]
    return Chunk(0, count, rows, rejects, rows.nbytes, accepted=accepted)


def _value(
    scalar: pa.Scalar, type_: pa.DataType, ordinal: int, field: Field, bad: dict[int, Reject]
) -> object:
    try:
        return pc.cast(scalar, type_).as_py()
    except pa.ArrowInvalid:
        name = field.column.name
        reason = f"{scalar.as_py()!r} is not a value of type {type_word(type_)}"
        bad.setdefault(ordinal, Reject(ordinal, "value", reason, name, {name: scalar.as_py()}))
        return None
