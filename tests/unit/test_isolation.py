from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.isolation import Isolation, describe, first_line
from adaptive.protocols import Rejection, Sink, Verdict


class RefusedError(Exception):
    sqlstate = "23505"

    def __init__(self, index: int) -> None:
        super().__init__(f"row {index}\nmore about it")
        self.index = index


@dataclass
class Table:
    """An all-or-nothing sink in memory; `refuses` is asked for each row, given those written before."""

    refuses: Callable[[Any, list[Any]], bool]
    hints: bool = True
    verdict: Verdict = "reject"
    doomed: bool = False
    rows: list[Any] = field(default_factory=list)
    writes: int = 0
    sent: int = 0

    def write(self, rows: list[Any]) -> list[Rejection]:
        assert rows
        self.writes += 1
        self.sent += len(rows)
        there = list(self.rows)
        for index, row in enumerate(rows):
            if self.refuses(row, there):
                raise RefusedError(index)
            there.append(row)
        self.rows = there
        return []

    def classify(self, _: BaseException) -> Verdict:
        return self.verdict

    def hint(self, error: RefusedError) -> int | None:
        return error.index if self.hints else None


def isolate(rows: Any, table: Table) -> list[Rejection]:
    return list(Isolation(rows, table.write, cast("Sink", table)))


def load(size: int, bad: set[int], *, hints: bool) -> Table:
    """Load the numbers below `size` into a table that refuses some, and check what came of it."""
    written: list[int] = []
    table = Table(lambda row, _: row in bad, hints)

    def write(rows: list[int]) -> list[Rejection]:
        table.writes += 1
        table.sent += len(rows)
        if refused := bad.intersection(rows):
            raise RefusedError(min(refused) - rows[0])
        written.extend(rows)
        return []

    found = [index for index, _, _ in Isolation(list(range(size)), write, cast("Sink", table))]
    assert found == sorted(bad)
    assert written == [row for row in range(size) if row not in bad]
    return table


@given(st.lists(st.booleans(), max_size=200), st.booleans())
def test_exactly_the_bad_rows_are_refused_and_the_others_written_once(fine: list[bool], hints: bool) -> None:
    load(len(fine), {row for row, good in enumerate(fine) if not good}, hints=hints)


@given(st.lists(st.integers(0, 12), max_size=80), st.booleans())
def test_of_rows_with_one_key_the_first_is_written(keys: list[int], hints: bool) -> None:
    table = Table(lambda row, there: row in there, hints)
    found = isolate(keys, table)
    assert table.rows == list(dict.fromkeys(keys))
    assert [index for index, _, _ in found] == [n for n, key in enumerate(keys) if key in keys[:n]]


@pytest.mark.parametrize("hints", [True, False])
@pytest.mark.parametrize("bad", [0, 1, 2, 15, 16, 17, 63, 64, 999, 33_333, 50_000, 65_536, 99_998, 99_999])
def test_one_bad_row_in_100_000_costs_at_most_25_further_writes(bad: int, hints: bool) -> None:
    table = load(100_000, {bad}, hints=hints)
    assert table.writes <= 26


@pytest.mark.parametrize("hints", [True, False])
@pytest.mark.parametrize("each", [10, 100, 1_000])
def test_many_bad_rows_do_not_make_the_work_quadratic(each: int, hints: bool) -> None:
    rows = 20_000
    bad = set(random.Random(1).sample(range(rows), rows // each))
    table = load(rows, bad, hints=hints)
    assert table.sent <= 12 * rows
    assert table.writes <= (3 if hints else 12) * len(bad) + 25


@pytest.mark.parametrize("hints", [True, False])
def test_rows_that_are_all_bad_cost_a_window_each(hints: bool) -> None:
    table = load(2_000, set(range(2_000)), hints=hints)
    assert table.sent <= 40 * 2_000


@pytest.mark.parametrize("hint", [-5, 10**9])
def test_a_hint_outside_of_the_rows_is_no_hint(hint: int) -> None:
    table = Table(lambda row, _: row == 6)
    table.hint = lambda _: hint
    assert [index for index, _, _ in isolate(list(range(10)), table)] == [6]
    assert table.rows == [0, 1, 2, 3, 4, 5, 7, 8, 9]


def test_a_reject_has_the_errors_code_and_its_first_line() -> None:
    assert isolate([1], Table(lambda *_: True)) == [(0, "23505", "row 0")]
    assert describe(KeyError()) == ("KeyError", "KeyError")
    assert first_line(ValueError("\n one\ntwo")) == "one"


@pytest.mark.parametrize(("verdict", "doomed"), [("retry", False), ("in_doubt", False), ("reject", True)])
def test_an_error_that_is_not_a_rows_fault_is_raised(verdict: Verdict, doomed: bool) -> None:
    table = Table(lambda *_: True, verdict=verdict, doomed=doomed)
    with pytest.raises(RefusedError):
        isolate([1, 2, 3], table)
    assert table.writes == 1


def test_what_a_sink_without_transactions_refuses_is_passed_on() -> None:
    table = Table(lambda *_: False)
    found = Isolation(["a", "b", "c"], lambda _: [(1, "11000", "there")], cast("Sink", table))
    assert list(found) == [(1, "11000", "there")]


def test_no_rows_are_no_write() -> None:
    table = Table(lambda *_: False)
    assert isolate([], table) == []
    assert table.writes == 0
