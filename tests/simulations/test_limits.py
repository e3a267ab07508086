"""The controller against a simulated database: how it behaves in, what it comes to out."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.limits import CEILING, FLOOR, MAX_SECONDS, START, START_WRITERS, Controller, Fixed
from adaptive.protocols import Limit

WRITERS = 4
SIZES = (1_000, 1_562, 3_125, 6_250, 12_500, 25_000, 50_000)


@dataclass
class Database:
    """Takes `fixed` seconds a transaction and `per_row` a row; `cores` writers do not slow each other."""

    fixed: float
    per_row: float
    cores: int = 2
    noise: float = 0.0
    connect: float = 0.05

    def seconds(self, rows: int, busy: int, chance: random.Random) -> float:
        exact = self.fixed + rows * self.per_row * max(1.0, busy / self.cores)
        return exact * (1 + self.noise * chance.uniform(-1, 1))


@dataclass
class Run:
    rate: float
    steps: list[tuple[int, int, int, str]] = field(default_factory=list)  # batch, rows, writers, reason


def simulate(
    limit: Limit,
    database: Database,
    batches: int,
    *,
    seed: int = 1,
    event: Callable[[int], float] = lambda _: 0.0,
) -> Run:
    """Commit batches, all full and with a backlog; `event` adds seconds to one of them."""
    chance, now, done, steps = random.Random(seed), 0.0, 0, []
    running: list[tuple[float, int, float]] = []

    def start(at: float, batch: int) -> None:
        seconds = database.seconds(limit.rows, len(running) + 1, chance) + event(batch)
        heapq.heappush(running, (at + seconds, limit.rows, seconds))

    for batch in range(batches):
        while len(running) < limit.writers:
            start(now + (database.connect if running else 0.0), batch)
        now, rows, seconds = heapq.heappop(running)
        done += rows
        reason = limit.observe(rows=rows, seconds=seconds, now=now, full=rows >= limit.rows, backlog=True)
        assert FLOOR <= limit.rows <= CEILING
        assert 1 <= limit.writers <= WRITERS
        if reason:
            steps.append((batch, limit.rows, limit.writers, reason))
        if len(running) < limit.writers:
            start(now, batch)
    return Run(done / now, steps)


def best(database: Database) -> float:
    """Return the highest rate of any fixed setting whose transactions are short enough."""
    quiet = Database(database.fixed, database.per_row, database.cores)
    return max(
        simulate(Fixed(rows, writers), quiet, 60).rate
        for rows in SIZES
        for writers in range(1, WRITERS + 1)
        if rows == FLOOR or quiet.seconds(rows, writers, random.Random()) <= MAX_SECONDS
    )


def reached(database: Database, seed: int = 1) -> tuple[float, Controller, Run]:
    """Return the share of the best rate that the controller's numbers give after 150 batches."""
    limit = Controller(max_writers=WRITERS)
    run = simulate(limit, database, 150, seed=seed)
    quiet = Database(database.fixed, database.per_row, database.cores)
    return simulate(Fixed(limit.rows, limit.writers), quiet, 60).rate / best(database), limit, run


DATABASES = {
    "in memory": (0.002, 1e-6),
    "local network": (0.02, 2e-6),
    "slow commit": (0.5, 2e-6),
    "far away": (0.2, 2e-5),
    "slow rows": (0.01, 2e-4),
    "very slow rows": (0.01, 2e-3),
}


@pytest.mark.parametrize("cores", [1, 2, 4])
@pytest.mark.parametrize("name", DATABASES)
def test_it_reaches_nine_tenths_of_the_best_fixed_setting_and_stays_there(name: str, cores: int) -> None:
    share, _, run = reached(Database(*DATABASES[name], cores))
    assert share >= 0.9
    assert run.steps[-1][0] < 100


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", DATABASES)
def test_a_tenth_of_noise_misleads_it_little(name: str, seed: int) -> None:
    share, _, run = reached(Database(*DATABASES[name], noise=0.1), seed)
    assert share >= 0.85
    assert run.steps[-1][0] < 130


def test_costly_transactions_end_in_large_batches_by_many_writers() -> None:
    _, limit, _ = reached(Database(fixed=0.5, per_row=2e-6, cores=4))
    assert (limit.rows, limit.writers) == (CEILING, WRITERS)


def test_costly_rows_on_one_core_gain_no_writer_and_keep_transactions_short() -> None:
    database = Database(fixed=0.0, per_row=2e-4, cores=1)
    _, limit, _ = reached(database)
    assert limit.writers == START_WRITERS
    assert limit.rows * database.per_row <= MAX_SECONDS


def test_the_floor_holds_however_slow_a_row_is() -> None:
    _, limit, _ = reached(Database(fixed=1.0, per_row=0.1))
    assert limit.rows == FLOOR


@settings(max_examples=30)
@given(
    st.floats(1e-4, 1.0), st.floats(1e-7, 1e-2), st.integers(1, 4), st.floats(0.0, 0.5), st.integers(0, 1_000)
)
def test_the_search_ends_on_any_database(
    fixed: float, per_row: float, cores: int, noise: float, seed: int
) -> None:
    run = simulate(Controller(max_writers=WRITERS), Database(fixed, per_row, cores, noise), 1_500, seed=seed)
    settings_tried = WRITERS * len(SIZES)
    assert len(run.steps) <= 2 * settings_tried + len(SIZES)
    assert not run.steps or run.steps[-1][0] < 1_000


def test_what_took_too_long_is_not_tried_again() -> None:
    too_slow = Database(fixed=0.1, per_row=1e-4)  # 25,000 rows take 2.6 s, which the next step finds out
    run = simulate(Controller(max_writers=1), too_slow, 200)
    assert [rows for _, rows, _, _ in run.steps] == [25_000, 12_500]


def test_one_slow_transaction_of_several_writers_halves_once() -> None:
    limit = Controller(max_writers=WRITERS)
    simulate(limit, Database(fixed=0.5, per_row=2e-6, cores=4), 100)
    before = limit.rows
    run = simulate(
        limit, Database(fixed=0.5, per_row=2e-6, cores=4), 50, event=lambda b: 3.0 if b == 20 else 0
    )
    assert [rows for _, rows, _, _ in run.steps] == [before // 2]


def test_stragglers_cut_before_a_step_teach_nothing() -> None:
    limit = Controller(max_writers=WRITERS)
    assert limit.observe(rows=START, seconds=9.0, now=9.0, full=True, backlog=True)
    for _ in range(WRITERS):
        assert limit.observe(rows=START, seconds=9.0, now=9.0, full=True, backlog=True) is None
    assert limit.rows == START // 2


@given(st.lists(st.tuples(st.integers(0, START - 1), st.floats(0, 100)), max_size=200), st.booleans())
def test_batches_that_were_not_full_teach_nothing(seen: list[tuple[int, float]], backlog: bool) -> None:
    limit = Controller(max_writers=WRITERS)
    now = 0.0
    for rows, seconds in seen:
        now += seconds
        assert limit.observe(rows=rows, seconds=seconds, now=now, full=False, backlog=backlog) is None
    assert (limit.rows, limit.writers) == (START, START_WRITERS)


def test_slow_start_doubles_while_transactions_are_short() -> None:
    limit = Controller(max_writers=WRITERS)
    reasons = [
        limit.observe(rows=limit.rows, seconds=0.1, now=now, full=True, backlog=False) for now in (1, 2, 3)
    ]
    assert reasons == ["slow start", "slow start", None]
    assert limit.rows == CEILING


def test_slow_start_ends_with_a_long_transaction() -> None:
    limit = Controller(max_writers=WRITERS)
    for now in (1, 2, 3):
        assert limit.observe(rows=limit.rows, seconds=0.6, now=now, full=True, backlog=False) is None
    assert limit.rows == START


def test_a_measurement_is_of_full_batches_in_a_row() -> None:
    limit = Controller(max_writers=WRITERS)
    for batch in range(300):
        full = batch % 4 != 3
        assert not limit.observe(rows=START, seconds=0.6, now=batch / 2, full=full, backlog=True)


def test_without_a_backlog_it_stays_where_it_is() -> None:
    limit = Controller(max_writers=WRITERS)
    for batch in range(300):
        assert not limit.observe(rows=START, seconds=0.6, now=batch / 2, full=True, backlog=False)


def test_overload_halves_the_batch_takes_a_writer_away_and_neither_returns() -> None:
    limit = Controller(max_writers=WRITERS)
    database = Database(fixed=0.5, per_row=2e-6, cores=4)
    simulate(limit, database, 100)
    assert limit.overload() == "the database is overloaded"
    assert (limit.rows, limit.writers) == (CEILING // 2, WRITERS - 1)
    simulate(limit, database, 200)
    assert limit.rows <= CEILING // 2
    assert limit.writers <= WRITERS - 1


def test_overload_stops_at_the_bounds() -> None:
    limit = Controller(max_writers=2)
    for _ in range(20):
        limit.overload()
    assert (limit.rows, limit.writers) == (FLOOR, 1)
    assert limit.overload() is None


def test_a_ceiling_below_the_floor_wins() -> None:
    limit = Controller(max_writers=1, ceiling=10)
    assert limit.rows == 10
    limit.overload()
    assert limit.rows == 10


def test_commits_at_one_instant_are_no_infinite_rate() -> None:
    limit = Controller(max_writers=2)
    for _ in range(50):
        assert limit.observe(rows=limit.rows, seconds=0.6, now=5.0, full=True, backlog=True) is None


def test_a_fixed_limit_never_moves() -> None:
    limit = Fixed(7, 2)
    assert limit.observe(rows=7, seconds=99.0, now=1.0, full=True, backlog=True) is None
    assert limit.overload() is None
    assert (limit.rows, limit.writers) == (7, 2)
