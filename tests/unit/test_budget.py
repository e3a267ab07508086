from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.budget import Budget
from adaptive.errors import TooManyRejectsError, UsageError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        (None, Budget()), ("0", Budget(rejects=0)), (7, Budget(rejects=7)), ("100", Budget(rejects=100)),
        ("5%", Budget(percent=5.0)), ("0.1%", Budget(percent=0.1)), ("100%", Budget(percent=100.0)),
    ],
)  # fmt: skip
def test_a_text_says_a_number_or_a_percentage(text: str | int | None, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize(
    "text", ["", "%", "many", "-1", "-1%", "100.1%", "1.5", "nan%", "inf%", "5 percent", "5%%", -3]
)
def test_another_text_is_an_error_that_quotes_it(text: str | int) -> None:
    with pytest.raises(UsageError, match="max-rejected"):
        Budget.parse(text)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.booleans())
def test_without_a_budget_a_load_never_stops(rejected: int, settled: int, ended: bool) -> None:
    Budget().check(rejected, settled, ended=ended)
    assert not Budget().given


@given(st.integers(0, 1_000), st.integers(0, 2_000))
def test_a_number_is_the_most_that_is_allowed(bound: int, rejected: int) -> None:
    budget = Budget(rejects=bound)
    assert budget.given
    if rejected <= bound:
        budget.check(rejected, rejected)
    else:
        with pytest.raises(TooManyRejectsError, match="records rejected"):
            budget.check(rejected, rejected)


@pytest.mark.parametrize(
    ("rejected", "settled", "ended", "over"),
    [
        (999, 999, False, False),  # a percentage counts from the 1,000th record
        (50, 1_000, False, False),
        (51, 1_000, False, True),
        (51, 1_019, False, True),
        (51, 1_020, False, False),
        (1, 19, True, True),
        (1, 20, True, False),
        (0, 0, True, False),
    ],
)
def test_a_percentage_is_of_the_settled_records(rejected: int, settled: int, ended: bool, over: bool) -> None:
    budget = Budget.parse("5%")
    if over:
        with pytest.raises(TooManyRejectsError, match="the bound is 5 %"):
            budget.check(rejected, settled, ended=ended)
    else:
        budget.check(rejected, settled, ended=ended)
