"""Compares ways to choose the size of a batch: `python performance_test.py compare`.

The same orders go through a live `adaptive.Pipeline` into an empty table, once with each strategy: fixed
sizes, the tiers by queue depth of requirement R6, and the controller that is the default. A producer puts
orders that were made beforehand, faster than any database takes them, so that the queue is full until it
stops; then what waits is written. A rate is the rows by the time from the first put to the last commit.

Strategies take turns in each repetition, so that a busy machine meets all alike. After each run the
database's own driver counts the rows and sums their quantities: a database with a wrong table has no numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import adaptive
from adaptive.config import Settings
from adaptive.errors import AdaptiveError
from adaptive.isolation import first_line
from adaptive.orders import Order, orders
from adaptive.urls import redact, without_password
from benchmarks.databases import LEDGER, TABLE, Database, Sums, reach

# Deep enough that tiers stay at their largest size (above 10,000 records wait), and that the controller, held
# to a quarter of the queue, may go on to 10,000.
DEEP = 40_000
LINGER = 1_000.0  # milliseconds that a fixed size waits to be that size, unless the producer has stopped
FAR_BELOW = 3.0  # "single ≪ small": at least so many times; requirement R27 expects about ten
EXPECTED = ("single", "small", "medium", "large")


@dataclass(frozen=True)
class Strategy:
    """A way to choose the size of a batch."""

    name: str
    batch: str | int

    @property
    def settings(self) -> Settings:
        """Return the settings of a run. A fixed size has one writer, as have tiers; adaptive chooses."""
        if isinstance(self.batch, str):
            return Settings(batch=self.batch, queue_size=DEEP)
        # Four batches keep the writer busy; more would only lengthen a run after its producer has stopped.
        return Settings(batch=self.batch, queue_size=4 * self.batch, linger=LINGER)


STRATEGIES = (
    Strategy("single", 1),
    Strategy("small", 100),
    Strategy("medium", 500),
    Strategy("large", 1_000),
    Strategy("tiers", "tiers"),
    Strategy("adaptive", "adaptive"),
)


class WrongTableError(AdaptiveError):
    """A table does not hold what was put into it."""


@dataclass(frozen=True)
class Run:
    """One run: rows written, seconds, committed transactions, and their 95th percentile in milliseconds."""

    rows: int
    seconds: float
    batches: int
    p95_batch_ms: float

    @property
    def rate(self) -> float:
        """Return rows per second."""
        return self.rows / self.seconds


@dataclass(frozen=True)
class Result:
    """The runs of a strategy on a database."""

    strategy: str
    runs: Sequence[Run]

    @property
    def rate(self) -> float:
        """Return the median of rows per second."""
        return self.median(lambda run: run.rate)

    @property
    def spread(self) -> tuple[float, float]:
        """Return the least and the greatest rows per second."""
        rates = [run.rate for run in self.runs]
        return min(rates), max(rates)

    def median(self, measure: Callable[[Run], float]) -> float:
        """Return the median of something measured."""
        return median(measure(run) for run in self.runs)


@dataclass(frozen=True)
class Comparison:
    """What was measured on a database."""

    database: Database
    results: Sequence[Result]

    @property
    def single(self) -> float:
        """Return the rate of single rows, which the other rates are compared with."""
        return next(result.rate for result in self.results if result.strategy == "single")

    @property
    def broken(self) -> list[str]:
        """Return, in words, where the expected order single ≪ small < medium < large does not hold."""
        rates = {result.strategy: result.rate for result in self.results}
        factors = (FAR_BELOW, 1.0, 1.0)
        return [
            f"{above} ({rates[above]:,.0f}) is not above {f'{factor:g} times ' * (factor > 1)}{below}"
            f" ({rates[below]:,.0f})"
            for below, above, factor in zip(EXPECTED, EXPECTED[1:], factors, strict=False)
            if rates[above] <= factor * rates[below]
        ]


@dataclass(frozen=True)
class Plan:
    """How much is measured: at most `rows` in a run, whose producer stops after `seconds`; `repeat` times."""

    rows: int
    seconds: float
    repeat: int


def find(urls: Iterable[str]) -> tuple[list[Database], dict[str, str]]:
    """Return the databases that answer, and of the others why they do not, by URL without password."""
    found, missing = [], {}
    for url in urls:
        try:
            found.append(reach(url))
        except Exception as error:  # whatever a driver raises is a reason to list
            missing[without_password(url)] = redact(first_line(error), url)
    return found, missing


def compare(
    databases: Sequence[Database], plan: Plan, said: Callable[[str], None]
) -> tuple[list[Comparison], dict[str, str]]:
    """Return the comparisons, and why a database that failed in between has none; `said` gets each run."""
    runs: dict[Database, dict[str, list[Run]]] = {
        database: {strategy.name: [] for strategy in STRATEGIES} for database in databases
    }
    failed: dict[str, str] = {}
    some = list(orders(plan.rows))
    for repetition, database, strategy in _turns(databases, plan.repeat):
        if database.name in failed:
            continue
        try:
            run = measure(database, strategy, some, plan.seconds)
        except Exception as error:  # a pipeline's or a driver's; the other databases go on
            failed[database.name] = redact(f"{strategy.name}: {first_line(error)}", database.url)
        else:
            runs[database][strategy.name].append(run)
            said(f"{repetition}/{plan.repeat} {database.name} {strategy.name}: {run.rate:,.0f} rows/s")
    return [
        Comparison(database, [Result(name, each) for name, each in by_name.items()])
        for database, by_name in runs.items()
        if database.name not in failed
    ], failed


def _turns(databases: Sequence[Database], repeat: int) -> Iterator[tuple[int, Database, Strategy]]:
    for repetition in range(1, repeat + 1):
        for strategy in STRATEGIES:
            for database in databases:
                yield repetition, database, strategy


def measure(database: Database, strategy: Strategy, some: Sequence[Order], seconds: float) -> Run:
    """Load orders into an empty table, and return what it took.

    Raises WrongTableError, and what stops a pipeline.
    """
    with database.table():
        with adaptive.Pipeline(
            database.url, table=TABLE, ledger=LEDGER, settings=strategy.settings
        ) as pipeline:
            started = time.perf_counter()
            put = _produce(pipeline, some, started + seconds)
            pipeline.flush()
            took = time.perf_counter() - started
            metrics = pipeline.metrics()
        expected = Sums(put, sum(order["quantity"] for order in some[:put]))
        if (found := database.sums()) != expected:
            raise WrongTableError(f"{database.name}, {strategy.name}: {found} instead of {expected}")
    return Run(put, took, sum(metrics.batch_sizes.values()), metrics.p95_database_latency_ms)


def _produce(pipeline: adaptive.Pipeline, some: Sequence[Order], deadline: float) -> int:
    """Put orders until the deadline or their end, and return how many: at least one."""
    for count, order in enumerate(some, 1):
        pipeline.put(order)
        if time.perf_counter() > deadline:
            return count
    return len(some)
