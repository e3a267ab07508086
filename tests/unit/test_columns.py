from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.columns import match
from adaptive.errors import RefusedError
from adaptive.rows import Column


def column(name: str, **more: bool) -> Column:
    return Column(name, pa.string(), **more)


def matched(names: list[str], *table: str) -> list[tuple[str, str]]:
    return [(field.source, field.column.name) for field in match(names, [column(n) for n in table], "t")]


@given(st.permutations(["a", "B", "ß", "a b"]), st.permutations(["a", "B", "ß", "a b", "more"]))
def test_columns_match_by_name_whatever_their_order(names: list[str], table: list[str]) -> None:
    assert matched(names, *table) == [(name, name) for name in names]


def test_without_an_exact_match_case_does_not_count() -> None:
    assert matched(["ID", "straSSe"], "id", "straße") == [("ID", "id"), ("straSSe", "straße")]


def test_an_exact_match_goes_first() -> None:
    assert matched(["id", "ID"], "ID", "id") == [("id", "id"), ("ID", "ID")]


@pytest.mark.parametrize(
    ("names", "table", "message"),
    [
        (["a", "x", "y"], ["a", "b"], "table t has no column x, y; it has a, b"),
        (["iD"], ["id", "ID"], "table t has no column iD; it has id, ID"),
        (["a", "A"], ["a", "b"], "several source columns match column a of table t"),
        (["a", "a"], ["a"], "several source columns match column a of table t"),
    ],
)
def test_what_does_not_match_is_refused_by_name(names: list[str], table: list[str], message: str) -> None:
    with pytest.raises(RefusedError) as raised:
        matched(names, *table)
    assert str(raised.value) == message


def test_a_column_that_has_to_be_filled_must_be_in_the_source() -> None:
    table = [
        column("a"),
        column("b", nullable=False),
        column("c", nullable=False, default=True),
        column("d", nullable=False),
    ]
    with pytest.raises(RefusedError, match="column b, d of table t must be filled"):
        match(["a"], table, "t")
    assert len(match(["b", "d"], table, "t")) == 2
