"""Casts of a piece's records to the target's column types, with a verdict per record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from adaptive.rows import Chunk, Column, Field, Reject
from adaptive.typed_casts import as_read, cast_array, plain

_Verdict = tuple[str, str, str]  # code, reason, target column


def cast_chunk(
    batch: pa.RecordBatch,
    fields: Sequence[Field],
    *,
    broken: Sequence[Reject] = (),
    timezone: str = "UTC",
    accepted: float = 0.0,
) -> Chunk:
    """Return the records of a piece with the fields' column names and types; bad ones as rejects.

    `batch` holds, in order, the records that could be taken apart, its columns named as in the
    source; `broken` holds the others, sorted by ordinal. Together they are the records 0 … count-1.
    `timezone` is that of timestamps without offset in columns that have one. The codes of rejects
    are "value" (does not convert), "null" (in a column that is not nullable) and "length".

    Raises UsageError if nothing is known about a column's type or the time zone; nothing for bad data.
    """
    verdicts: dict[int, _Verdict] = {}
    columns = [_cast_column(batch.column(field.source), field.column, timezone, verdicts) for field in fields]
    schema = pa.schema([pa.field(field.column.name, field.column.type) for field in fields])
    rows = pa.RecordBatch.from_arrays(columns, schema=schema) if fields else batch.select([])
    if verdicts:
        rows = rows.filter(_good(len(batch), verdicts))
    count = batch.num_rows + len(broken)
    rejects = sorted([*broken, *_rejects(batch, fields, verdicts, broken)], key=lambda reject: reject.ordinal)
    return Chunk(0, count, rows, rejects, rows.nbytes, accepted=accepted)


def _cast_column(array: pa.Array, column: Column, timezone: str, verdicts: dict[int, _Verdict]) -> pa.Array:
    """Return the cast column and add verdicts on rows that have none yet."""
    values, reasons = cast_array(array, column.type, timezone)
    for index, reason in reasons.items():
        verdicts.setdefault(index, ("value", reason, column.name))
    if not column.nullable and array.null_count:
        for index in _indices(pc.is_null(array)):
            verdicts.setdefault(index, ("null", f"{column.name} takes no NULL", column.name))
    if column.max_length is not None and pat.is_string(column.type):
        for index, length in _too_long(values, column.max_length):
            reason = f"{length} characters, at most {column.max_length}"
            verdicts.setdefault(index, ("length", reason, column.name))
    return values


def _too_long(text: pa.Array, limit: int) -> Iterable[tuple[int, int]]:
    """Yield index and length of texts longer than `limit` characters."""
    if (pc.max(pc.binary_length(text)).as_py() or 0) <= limit:  # a tenth of the cost of counting characters
        return
    lengths = pc.utf8_length(text)
    for index in _indices(pc.greater(lengths, limit)):
        yield index, lengths[index].as_py()


def _indices(mask: pa.Array) -> list[int]:
    indices: list[int] = pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist()
    return indices


def _good(count: int, verdicts: dict[int, _Verdict]) -> pa.Array:
    """Return a mask of the rows without a verdict."""
    good = bytearray(b"\x01") * count
    for index in verdicts:
        good[index] = 0
    return pc.cast(pa.Array.from_buffers(pa.uint8(), count, [None, pa.py_buffer(good)]), pa.bool_())


def _rejects(
    batch: pa.RecordBatch, fields: Sequence[Field], verdicts: dict[int, _Verdict], broken: Sequence[Reject]
) -> list[Reject]:
    """Return the rejects of rows with a verdict, with all their values as text."""
    if not verdicts:
        return []
    ordinals: Sequence[int] = range(len(batch))
    if broken:
        taken = {reject.ordinal for reject in broken}
        ordinals = [ordinal for ordinal in range(len(batch) + len(broken)) if ordinal not in taken]
    bad = sorted(verdicts)
    rows = pa.array(bad)
    texts = [as_read(plain(batch.column(field.source)).take(rows)) for field in fields]
    names = [field.column.name for field in fields]
    return [
        Reject(ordinals[index], *verdicts[index], values=dict(zip(names, row, strict=True)))
        for index, row in zip(bad, zip(*texts, strict=True), strict=True)
    ]
