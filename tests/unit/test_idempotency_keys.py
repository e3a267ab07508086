from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.idempotency_keys import MAX_BYTES, keys_of

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text("\\,=\0ab", max_size=4)
MOMENT = datetime(2024, 1, 31, 9, 30, tzinfo=UTC)


def key_of(**row: Any) -> str | None:
    [key] = keys_of([row], list(row))
    return key


def in_arrow(value: Any, kind: pa.DataType | None = None) -> str | None:
    [key] = keys_of(pa.table({"k": pa.array([value], kind)}), ["k"])
    return key


def test_a_key_names_its_columns_in_one_order() -> None:
    rows = [{"venue": "X", "order_id": 17, "note": "n"}]
    assert keys_of(rows, ["order_id"]) == ["order_id=17"]
    assert (
        keys_of(rows, ["venue", "order_id"])
        == keys_of(rows, ["order_id", "venue"])
        == ["order_id=17,venue=X"]
    )


@pytest.mark.parametrize("row", [{"a": 1, "b": None}, {"a": 1}, {"a": None, "b": None}])
def test_a_row_with_null_in_a_key_column_has_no_key(row: dict[str, Any]) -> None:
    assert keys_of([row], ["a", "b"]) == [None]
    columns = {name: pa.array([row.get(name)], pa.int64()) for name in ("a", "b")}
    assert keys_of(pa.table(columns), ["a", "b"]) == [None]


@given(st.lists(st.tuples(texts, texts), unique=True, max_size=8))
def test_different_values_have_different_keys(pairs: list[tuple[str, str]]) -> None:
    rows = [{"a": one, "b": other} for one, other in pairs]
    keys = keys_of(rows, ["a", "b"])
    assert len(set(keys)) == len(pairs)
    assert all(len((key or "").encode()) <= MAX_BYTES and "\0" not in (key or "") for key in keys)
    if rows:
        assert keys_of(pa.Table.from_pylist(rows), ["a", "b"]) == keys


@given(st.text(st.characters()), st.text(st.characters()))
def test_lone_surrogates_are_kept_apart_and_can_be_stored(one: str, other: str) -> None:
    assert (key_of(a=one) == key_of(a=other)) == (one == other)
    assert (key_of(a=one) or "").encode()


def test_columns_are_kept_apart_whatever_their_names() -> None:
    assert key_of(a="1,b=2") != key_of(a="1", b="2")
    assert key_of(**{"a=1,b": "2"}) != key_of(a="1", b="2")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (17, pa.int32()),
        (2**63, pa.uint64()),
        (True, None),
        ("text, a=b\\", pa.large_string()),
        (Decimal("1.5000"), pa.decimal128(18, 4)),
        (Decimal("1E-10"), pa.decimal128(38, 12)),
        (Decimal("-12345678901234567890123456.123456789000"), pa.decimal128(38, 12)),
        (0.1, None),
        (date(2024, 1, 31), None),
        (MOMENT.replace(tzinfo=None), None),
        (MOMENT, pa.timestamp("us", "Europe/Berlin")),
        (MOMENT, pa.timestamp("ms", "UTC")),
        (b"\0\xff", None),
        (UUID(int=7), pa.uuid()),
    ],
)
def test_files_and_programs_give_the_same_key(value: Any, kind: pa.DataType | None) -> None:
    assert in_arrow(value, kind) == key_of(k=value)


def test_equal_values_in_other_forms_are_the_same_key() -> None:
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5)))
    assert key_of(k=MOMENT) == key_of(k=elsewhere) == "k=2024-01-31 09:30:00.000000Z"
    assert key_of(k=Decimal("1.50")) == key_of(k=Decimal("1.5")) == "k=1.5"
    assert key_of(k=Decimal("1E+3")) == key_of(k=1000) == key_of(k="1000")


def test_a_long_key_becomes_a_digest() -> None:
    assert key_of(k="x" * (MAX_BYTES - 2)) == f"k={'x' * (MAX_BYTES - 2)}"
    assert key_of(k="x" * (MAX_BYTES - 1)) != key_of(k="x" * MAX_BYTES)
    assert str(key_of(k="株" * MAX_BYTES)).startswith("sha256:")
