from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.casts import cast_chunk
from adaptive.inference import Inference
from adaptive.rows import Column, Field


def infer(*batches: list[str | None]) -> pa.DataType:
    inference = Inference()
    for values in batches:
        inference.add(pa.record_batch({"c": pa.array(values, pa.string())}))
    return inference.schema().field("c").type


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["1", "-2", "0", None], pa.int64()),
        (["9" * 18], pa.int64()),
        (["9" * 19], pa.decimal128(38, 0)),
        (["1.50", "-2.5", "3", "0.5"], pa.decimal128(15, 2)),
        (["1.50", "1234567890123.4567"], pa.decimal128(18, 4)),
        (["12345678901234567.25"], pa.decimal128(38, 2)),
        (["1" * 37 + ".12"], pa.string()),
        (["1", "007"], pa.string()),
        (["1.5", "007.5"], pa.string()),
        (["+49"], pa.string()),
        (["0x10"], pa.string()),
        (["1e5"], pa.string()),
        (["1.5e5"], pa.string()),
        (["nan"], pa.string()),
        ([" 1"], pa.string()),
        ([""], pa.string()),
        (["1", ""], pa.string()),
        (["2024-01-02", None], pa.date32()),
        (["2024-02-30"], pa.string()),
        (["2024-01-02T03:04:05Z", "2024-01-02 03:04:05.5+01:00"], pa.timestamp("us", "UTC")),
        (["2024-01-02T03:04:05", "2024-01-02 03:04:05.5"], pa.timestamp("us")),
        (["2024-01-02T03:04:05", "2024-01-02T03:04:05Z"], pa.string()),
        (["2024-01-02T03:04:05", "2024-01-02"], pa.string()),
        (["0000-01-01"], pa.string()),
        (["9999-12-31T23:59:59-05:00"], pa.string()),
        (["true", "False"], pa.bool_()),
        (["true", "1"], pa.string()),
        (["t"], pa.string()),
        (["a"], pa.string()),
        ([None, None], pa.string()),
        ([], pa.string()),
    ],
)
def test_the_type_is_the_narrowest_that_holds_every_value(
    values: list[str | None], type_: pa.DataType
) -> None:
    assert infer(values) == type_


def test_integers_widen_to_decimals_later() -> None:
    assert infer(["123456"], [None], ["1.5"], ["2"]) == pa.decimal128(15, 1)
    assert infer(["1" * 18], ["1.5"]) == pa.decimal128(38, 1)
    assert infer(["1.5"], ["1" * 38]) == pa.string()


def test_anything_else_mixed_is_text() -> None:
    assert infer(["1"], ["true"]) == pa.string()
    assert infer(["2024-01-02"], ["2024-01-02T00:00:00"]) == pa.string()


def test_a_refuted_candidate_never_comes_back() -> None:
    assert infer(["x"], *[["1"]] * 5) == pa.string()


def test_columns_are_told_apart_and_keep_their_order() -> None:
    inference = Inference()
    inference.add(pa.record_batch({"b": ["1"], "a": ["x"]}))
    assert inference.schema() == pa.schema([("b", pa.int64()), ("a", pa.string())])


def test_no_batches_are_no_columns() -> None:
    assert Inference().schema() == pa.schema([])


SOME = st.one_of(
    st.none(),
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12).map(
        lambda value: f"{value:f}"
    ),
    st.from_regex(r"-?[0-9]{0,20}\.?[0-9]{0,20}(e-?[0-9])?", fullmatch=True, alphabet="-.0123456789e"),
)
DAYS = st.one_of(st.none(), st.dates().map(str))
MOMENTS = st.one_of(
    st.none(), st.builds(lambda m, o: m.isoformat() + o, st.datetimes(), st.sampled_from(["", "Z", "+05:00"]))
)
ANY = st.one_of(SOME, DAYS, MOMENTS, st.booleans().map(str), st.text(max_size=5))
COLUMNS = st.one_of(
    *(st.lists(st.lists(values, max_size=8), max_size=4) for values in (SOME, DAYS, MOMENTS, ANY))
)


@given(COLUMNS)
def test_what_is_inferred_can_be_cast_without_a_reject(batches: list[list[str | None]]) -> None:
    type_ = infer(*batches) if batches else pa.string()
    for values in batches:
        batch = pa.record_batch({"c": pa.array(values, pa.string())})
        assert not cast_chunk(batch, [Field("c", Column("c", type_))]).rejects
