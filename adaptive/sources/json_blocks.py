"""Vectorised reading of blocks of JSON lines, with the bad lines set aside.

pyarrow.json keeps every digit and releases the GIL: 2.5 CPU s for 1,000,000 market orders, two
threads scale (DuckDB goes through doubles, arrow-rs holds the GIL and cuts decimals, orjson with
arrays built from it takes longer and holds the GIL). But it takes two objects on a line, an object
over two lines and the line `null` without a word, dies of a leading `null` (SIGSEGV, 26.0.1), lets
invalid UTF-8 through, and one value it does not like fails the whole block. So a block is read at
once only if every line begins with "{" and ends with "}": then there is an object boundary at
each line end (a raw newline is no part of a JSON string, and nowhere inside an object does "{"
follow "}"), and as many rows as lines means one object per line. Otherwise the lines at fault are
found by the row that pyarrow's error names, and read exactly, one by one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.types as pat

from adaptive.casts import cast_chunk
from adaptive.rows import Chunk, Field
from adaptive.sources.encoding import is_utf8
from adaptive.sources.json_numbers import ANY, DIGITS, check, is_exact, narrowed, parsed_type
from adaptive.sources.json_records import Line, parse_lines

SPACE = b" \t\r\n"
# An error costs 0.25 ms (measured): beyond one in 64 lines, reading all lines one by one is cheaper.
LINES_PER_ERROR = 64

_ROW = re.compile(r" in row (\d+)$")


def parse_block(block: bytes, line: int, fields: Sequence[Field], timezone: str, accepted: float) -> Chunk:
    """Return the records of whole lines, the first of which has number `line`; blank lines are none."""
    cast = partial(cast_chunk, fields=fields, timezone=timezone, accepted=accepted)
    whole = _parse_whole(block, fields)
    if whole is not None:
        chunk = cast(whole)
        return _numbered(chunk, split_lines(block, line)) if chunk.rejects else chunk
    lines = split_lines(block, line)
    batch, good = _parse_wide(lines, fields)
    fast = cast(batch) if batch is not None else None
    refused = {good[reject.ordinal] for reject in fast.rejects} if fast is not None else set()
    good = [ordinal for ordinal in good if ordinal not in refused]
    rest = sorted(set(range(len(lines))).difference(good))
    slow_batch, broken = parse_lines([lines[ordinal] for ordinal in rest], fields)
    slow = _numbered(cast(slow_batch, broken=broken), [lines[ordinal] for ordinal in rest])
    return slow if fast is None else _merged(fast, good, slow, rest)


def split_lines(block: bytes, line: int) -> list[Line]:
    """Return the lines of a block that are not blank, without the space around them."""
    texts = enumerate(block.split(b"\n"), line)
    return [Line(stripped, number) for number, text in texts if (stripped := text.strip(SPACE))]


def braced(block: bytes) -> bytes | None:
    """Return a block without the space around it if it is "{…}" in valid UTF-8, else None."""
    text = block.strip(SPACE)
    if not _is_braced(text):
        return None
    return text.replace(b"\r\n", b"\n") if b"\r" in text else text  # no JSON string holds a raw newline


def _is_braced(text: bytes) -> bool:
    return text[:1] == b"{" and text[-1:] == b"}" and (text.isascii() or is_utf8(text))


def read_objects(block: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """Return a braced block as a batch.

    Raises ArrowInvalid for what does not parse, is not in the schema or does not fit it, or is not one
    object per line.
    """
    table = _read(pa.py_buffer(block), schema)
    if not table.num_rows == block.count(b"}\n{") + 1 == block.count(b"\n") + 1:
        raise pa.ArrowInvalid("not one object per line")
    columns = [table.column(name).combine_chunks() for name in schema.names]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _read(block: pa.Buffer, schema: pa.Schema) -> pa.Table:
    return pj.read_json(
        pa.BufferReader(block),
        read_options=pj.ReadOptions(use_threads=False, block_size=block.size + 1),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
    )


def _schema(fields: Sequence[Field], number: pa.DataType | None = None) -> pa.Schema:
    """Return the types to parse as, with `number` for what is exact numbers in the target."""
    return pa.schema({field.source: _parsed_type(field.column.type, number) for field in fields})


def _parsed_type(type_: pa.DataType, number: pa.DataType | None) -> pa.DataType:
    if is_exact(type_):
        return number or parsed_type(type_)
    if pat.is_floating(type_):
        return pa.float64()  # float32 would turn 1e40 into infinity
    return type_ if pat.is_boolean(type_) else pa.string()


def _is_vectorised(fields: Sequence[Field]) -> bool:
    """Say whether pyarrow has a type for each column that loses nothing.

    It has none for JSON: as text, 1 and "1" would be the same.
    """
    types = [field.column.type for field in fields]
    return bool(types) and not any(
        type_ == pa.json_() or (pat.is_decimal(type_) and type_.precision > DIGITS) for type_ in types
    )


def _parse_whole(block: bytes, fields: Sequence[Field]) -> pa.RecordBatch | None:
    text = braced(block) if _is_vectorised(fields) else None
    if text is None:
        return None
    try:
        batch = read_objects(text, _schema(fields))
        check(batch, fields, text)
    except pa.ArrowInvalid:
        return None
    return batch


def _parse_wide(lines: Sequence[Line], fields: Sequence[Field]) -> tuple[pa.RecordBatch | None, list[int]]:
    """Parse what can be vectorised, leaving out lines with numbers that do not fit their column.

    Returns the batch and its lines' positions; None if line by line is the better way.
    """
    schema = _schema(fields, ANY)
    good = [ordinal for ordinal, line in enumerate(lines) if _is_braced(line.text)]
    try:
        if not _is_vectorised(fields):
            return None, []
        try:
            wide = read_objects(block := _joined(lines, good), schema)
        except pa.ArrowInvalid:
            good = _accepted(lines, good, _schema(fields, pa.float64()))
            wide = read_objects(block := _joined(lines, good), schema)
    except pa.ArrowInvalid:
        return None, []
    batch, rows = narrowed(wide, fields, block)
    return batch, [good[row] for row in rows]


def _joined(lines: Sequence[Line], ordinals: Sequence[int]) -> bytes:
    return b"\n".join([lines[ordinal].text for ordinal in ordinals])


def _accepted(lines: Sequence[Line], ordinals: list[int], schema: pa.Schema) -> list[int]:
    """Return the lines that pyarrow parses. Raises ArrowInvalid if it refuses too many.

    Exact numbers are floats in `schema`: they always convert, so every error names its row.
    """
    block = pa.py_buffer(_joined(lines, ordinals))
    starts = list(accumulate([len(lines[ordinal].text) + 1 for ordinal in ordinals], initial=0))
    refused: set[int] = set()
    row = 0
    while row < len(ordinals):
        try:
            _read(block.slice(starts[row]), schema)
            break
        except pa.ArrowInvalid as error:
            named = _ROW.search(str(error))
            if named is None or len(refused) * LINES_PER_ERROR > len(ordinals):
                raise
            row += int(named[1])
            refused.update(ordinals[row : row + 1])
            row += 1
    return [ordinal for ordinal in ordinals if ordinal not in refused]


def _numbered(chunk: Chunk, lines: Sequence[Line]) -> Chunk:
    rejects = [replace(reject, line=lines[reject.ordinal].number) for reject in chunk.rejects]
    return replace(chunk, rejects=rejects)


def _merged(fast: Chunk, good: Sequence[int], slow: Chunk, rest: Sequence[int]) -> Chunk:
    """Put two chunks into one in the order of their records' positions `good` and `rest`."""
    rejects = [replace(reject, ordinal=rest[reject.ordinal]) for reject in slow.rejects]
    refused = {reject.ordinal for reject in rejects}
    places = [*good, *(ordinal for ordinal in rest if ordinal not in refused)]
    order = sorted(range(len(places)), key=places.__getitem__)
    rows = pa.concat_batches([fast.rows, slow.rows]).take(pa.array(order, pa.int64()))
    nbytes = fast.nbytes + slow.nbytes
    return replace(fast, count=len(good) + len(rest), rows=rows, rejects=rejects, nbytes=nbytes)
