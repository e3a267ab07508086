"""Loads into a real PostgreSQL over connections that break: nothing is lost, nothing comes twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from labs import PostgresLab, postgres_lab

import adaptive
from adaptive import orders
from adaptive.testing import Cut, FaultProxy, Stall
from adaptive.testing.faults import Direction, Fault, Moment

ROWS, BATCH = 20_000, 1_000
CONVERSATION = 2_000_000  # bytes that such a load sends, about; what lies beyond does not happen
PLACES = sorted(random.Random(4).sample(range(CONVERSATION), 12))
PATIENCE = 60  # seconds after which a test that hangs fails
TRIES = 3  # a fault happens once, so the second run is undisturbed


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("faults") / "orders.csv"
    orders.write(path, ROWS)
    return str(path)


@pytest.fixture
def lab(postgres_server: str) -> Iterator[PostgresLab]:
    with postgres_lab(postgres_server) as found:
        yield found


def broken(lab: PostgresLab, *plan: Fault) -> FaultProxy:
    parts = urlsplit(lab.url)
    return FaultProxy(parts.hostname or "127.0.0.1", parts.port or 5432, *plan)


def load(file: str, url: str, writers: int = 2) -> adaptive.LoadResult:
    return adaptive.load(file, url, table="orders", create=True, batch=BATCH, writers=writers)


def load_until_done(file: str, proxy: FaultProxy, lab: PostgresLab) -> None:
    """Repeat a load until no error stops it."""
    for _ in range(TRIES - 1):
        try:
            load(file, proxy.through(lab.url))
        except adaptive.SinkError:
            continue
        return
    load(file, proxy.through(lab.url))


def assert_exactly_once(lab: PostgresLab) -> None:
    """The table has no key: a row that came twice would be there twice."""
    found = sorted(row["order_id"] for row in lab.rows("orders"))
    assert found == [order["order_id"] for order in orders.orders(ROWS)]


def test_the_conversation_is_as_long_as_the_faults_assume(lab: PostgresLab, file: str) -> None:
    with broken(lab) as proxy:
        load(file, proxy.through(lab.url))
        assert proxy.passed["up"] > 0.8 * CONVERSATION, proxy.passed


@pytest.mark.parametrize("place", PLACES)
def test_a_connection_cut_anywhere_loses_and_repeats_nothing(lab: PostgresLab, file: str, place: int) -> None:
    with broken(lab, Cut(place, over="all")) as proxy:
        load_until_done(file, proxy, lab)
        assert len(proxy.fired) == 1
    assert_exactly_once(lab)


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_a_connection_cut_at_a_commit_loses_and_repeats_nothing(
    lab: PostgresLab, file: str, moment: Moment, direction: Direction, reset: bool
) -> None:
    cut = Cut(b"COMMIT", direction, moment, reset=reset)
    with broken(lab, Stall(b"COPY ")) as proxy, ThreadPoolExecutor(1) as thread:
        loading = thread.submit(load_until_done, file, proxy, lab)
        assert proxy.wait_for_fault(PATIENCE)  # the load is prepared: the next commits are those of batches
        proxy.arm(cut, cut, cut)
        proxy.resume()
        loading.result()
        assert proxy.fired == [cut, cut, cut]
    assert_exactly_once(lab)


def test_a_lost_commit_of_the_preparation_is_repeated(lab: PostgresLab, file: str) -> None:
    with broken(lab, Cut(b"COMMIT", moment="after")) as proxy:
        load(file, proxy.through(lab.url))
    assert_exactly_once(lab)


def test_a_run_that_stalls_before_a_batch_is_taken_over_and_told_so(lab: PostgresLab, file: str) -> None:
    with broken(lab, Stall(b"WITH owned")) as proxy, ThreadPoolExecutor(1) as thread:
        stalled = thread.submit(load, file, proxy.through(lab.url), writers=1)
        assert proxy.wait_for_fault(PATIENCE)  # the first statement of a transaction: the run holds no lock
        load(file, lab.url)
        assert_exactly_once(lab)
        proxy.resume()
        with pytest.raises(adaptive.TakenOverError):
            stalled.result()
    assert_exactly_once(lab)
