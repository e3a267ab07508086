"""The idempotency keys of rows as text: `order_id=17`, `symbol=ABC,venue=XNAS`.

Two rows have the same text only if their values in the key columns have. Files and programs give the
same text for the same value: a decimal without trailing zeros, a timestamp in UTC if it has a zone.
Column names are part of it, so that loads by other columns never meet in one key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from adaptive.rows import Row

MAX_BYTES = 200  # longer keys become a digest: with the table's name they fit the 900 bytes of an index entry
ESCAPES = {"\\": r"\\", ",": r"\,", "=": r"\=", "\0": r"\0"}  # no database stores NUL in text
SPECIAL = re.compile(r"[\\,=\0]")
TEXT = pa.large_string()


def keys_of(rows: pa.Table | Sequence[Row], columns: Sequence[str]) -> list[str | None]:
    """Return the key of each row, None where a key column is NULL or missing."""
    names = sorted(columns)
    heads = [f"{',' if number else ''}{_escaped(name)}=" for number, name in enumerate(names)]
    keys = _of_table(rows, names, heads) if isinstance(rows, pa.Table) else _of_rows(rows, names, heads)
    return [key if key is None or len(key) * 4 <= MAX_BYTES else _bounded(key) for key in keys]


def _of_rows(rows: Sequence[Row], names: Sequence[str], heads: Sequence[str]) -> list[str | None]:
    keys: list[str | None] = []
    for row in rows:
        values = [row.get(name) for name in names]
        known = all(value is not None for value in values)
        parts = (head + text_of(value) for head, value in zip(heads, values, strict=True))
        keys.append("".join(parts) if known else None)
    return keys


def _of_table(rows: pa.Table, names: Sequence[str], heads: Sequence[str]) -> list[str | None]:
    parts: list[Any] = []
    for name, head in zip(names, heads, strict=True):
        parts += [pa.scalar(head, TEXT), _column_text(rows.column(name))]
    joined = pc.binary_join_element_wise(*parts, pa.scalar("", TEXT))  # NULL if one of them is
    return cast("list[str | None]", joined.to_pylist())


def _column_text(column: pa.ChunkedArray) -> Any:
    """Return a column as `text_of` has its values; what is rare as a key goes through Python."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = column.cast(TEXT)
        if pc.any(pc.match_substring_regex(text, r"[\\,=\x00]")).as_py():
            for character, escape in ESCAPES.items():
                text = pc.replace_substring(text, character, escape)
        return text
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        # Without its zone, which Arrow needs 4 s for 1,000,000 values to write out, instead of 0.4 s.
        text = column.cast(pa.timestamp("us", kind.tz and "UTC")).cast(pa.timestamp("us")).cast(TEXT)
        return pc.binary_join_element_wise(text, pa.scalar("Z" if kind.tz else "", TEXT), pa.scalar("", TEXT))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_date32(kind):
        return column.cast(TEXT)
    texts = [None if value is None else text_of(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, TEXT)])


def text_of(value: object) -> str:
    """Return a value as it stands in a key."""
    text = form(value) if (form := FORMS.get(type(value))) else _escaped(str(value))
    if not text.isascii():  # it may hold a lone surrogate, which no database takes
        text = text.encode("utf-8", "backslashreplace").decode()
    return text


def _escaped(text: str) -> str:
    return SPECIAL.sub(lambda found: ESCAPES[found[0]], text) if SPECIAL.search(text) else text


def _decimal(value: Decimal) -> str:
    text = format(value, "f")  # not by normalize(), which rounds to 28 digits
    return text.rstrip("0").rstrip(".") if "." in text else text


def _timestamp(value: datetime) -> str:
    """Return a timestamp as Arrow writes it."""
    zoned = value.tzinfo is not None
    plain = value.astimezone(UTC).replace(tzinfo=None) if zoned else value
    return plain.isoformat(" ", "microseconds") + ("Z" if zoned else "")


def _bounded(key: str) -> str:
    content = key.encode()
    return key if len(content) <= MAX_BYTES else f"sha256:{sha256(content).hexdigest()}"


FORMS: dict[type, Callable[[Any], str]] = {
    str: _escaped, int: str, bool: lambda value: str(value).lower(), Decimal: _decimal,
    datetime: _timestamp, bytes: bytes.hex, bytearray: bytearray.hex, memoryview: memoryview.hex,
}  # fmt: skip
